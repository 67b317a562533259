"""Figures of `11_training`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, draw_found, style
from ssdedu.sample import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ssdedu.detect import Detections

__all__ = ["loss_curves", "progress_strip", "rates", "smoothed"]


def smoothed(values: Sequence[float], width: int) -> np.ndarray:
    """Mean of each value and those before it, `width` in all where there are so many."""
    return np.array([np.mean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))])


def loss_curves(
    curves: Mapping[str, Sequence[float]],
    width: int = 1,
    top: float | None = None,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Named losses over the steps, smoothed over `width` steps; a curve may end early. levels: named lines across."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
        for i, (name, values) in enumerate(curves.items()):
            color, dash = COLORS[i % len(COLORS)], DASHES[i % len(DASHES)]
            line = smoothed(values, width)
            ax.plot(np.arange(1, len(line) + 1), line, color=color, linestyle=dash, label=name)
        for name, loss in (levels or {}).items():
            ax.axhline(loss, color="#555555", linewidth=1.5, zorder=0)
            ax.text(ax.get_xlim()[1], loss, name, color="#333333", ha="right", va="bottom", fontsize=12)
        ax.set(xlabel="step", ylabel="loss per matched box", ylim=(0, top))
        ax.legend(loc="upper right")
    return fig


def rates(schedules: Mapping[str, Sequence[float]]) -> Figure:
    """Learning rates over the share of the schedule that is done, each as a fraction of its highest."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
        for i, (name, values) in enumerate(schedules.items()):
            ax.plot(np.linspace(0, 1, len(values)), values, color=COLORS[i], linestyle=DASHES[i], label=name)
        ax.set(xlabel="share of the schedule", ylabel="rate / highest rate", ylim=(0, 1.05))
        fig.legend(loc="outside upper center", ncols=2)
    return fig


def progress_strip(
    sample: Sample,
    snapshots: Mapping[int, Detections],
    classes: Sequence[str],
    score: float = 0.3,
    most: int = 8,
    mean_ap: Mapping[int, float] | None = None,
) -> Figure:
    """One scene and what the network detected in it after so many steps, the `most` best above `score`.

    mean_ap: after so many steps, to be written above the panels.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(
            1, len(snapshots), figsize=(9, 2.8 if mean_ap else 2.5), layout="constrained", squeeze=False
        )
        for ax, (step, found) in zip(axes[0], snapshots.items(), strict=True):
            draw_found(ax, sample.image, _best(found.above(score), most), classes)
            ax.set_title(f"step {step}" + (f"\nmAP {mean_ap[step]:.2f}" if mean_ap else ""))
    return fig


def _best(found: Detections, most: int) -> Detections:
    from ssdedu.detect import Detections

    return Detections(found.boxes_xyxy[:most], found.scores[:most], found.labels[:most])
