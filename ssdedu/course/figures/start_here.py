"""Figures of `00_start_here`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdedu.course.figures.common import COLORS, GROUND, draw_found, style
from ssdedu.sample import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ssdedu.detect import Detections

__all__ = ["course_map", "detection_strip", "photos_found"]

_WAY: tuple[tuple[str, tuple[float, float], str], ...] = (
    ("image and\ntrue boxes", (0.0, 1.0), ""),
    ("augment", (1.25, 1.0), "08"),
    ("network", (2.5, 1.0), "05, 01"),
    ("offsets,\nscores", (3.75, 1.0), "04"),
    ("loss", (5.0, 2.0), "06"),
    ("hard\nnegatives", (6.25, 2.0), "07"),
    ("train", (7.5, 2.0), "11, 12"),
    ("default\nboxes", (2.5, 2.0), "02"),
    ("matching", (3.75, 2.0), "03"),
    ("detect", (5.0, 0.0), "09"),
    ("evaluate", (6.25, 0.0), "10"),
    ("errors", (7.5, 0.0), "13"),
)
_ARROWS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (7, 8), (8, 4), (3, 9), (9, 10), (10, 11))
_HALF_WIDTH, _HALF_HEIGHT = 0.52, 0.33


def course_map() -> Figure:
    """The way of the data through a detector; each station bears the numbers of its notebooks."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
        for a, b in _ARROWS:
            _arrow(ax, _WAY[a][1], _WAY[b][1])
        for name, place, notebooks in _WAY:
            _station(ax, name, place, notebooks)
        ax.text(8.2, 2.0, "training", va="center", color=COLORS[0], rotation=90)
        ax.text(8.2, 0.0, "inference", va="center", color=COLORS[1], rotation=90)
        ax.set(xlim=(-0.6, 8.4), ylim=(-0.45, 2.6))
        ax.axis("off")
    return fig


def _station(ax: Axes, name: str, place: tuple[float, float], notebooks: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = place
    color = {2.0: COLORS[0], 0.0: COLORS[1]}.get(y, "#333333")
    corner = x - _HALF_WIDTH, y - _HALF_HEIGHT
    shape = FancyBboxPatch(
        corner,
        2 * _HALF_WIDTH,
        2 * _HALF_HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor=GROUND,
        edgecolor=color,
    )
    ax.add_patch(shape)
    ax.text(x, y, name, ha="center", va="center", fontsize=12)
    if notebooks:
        ax.text(
            x,
            y + _HALF_HEIGHT + 0.02,
            notebooks,
            ha="center",
            va="bottom",
            fontsize=12,
            fontweight="bold",
            color=color,
        )


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From the rim of one station to the rim of another."""
    (x1, y1), (x2, y2) = start, end
    sideways = {"shrinkA": 0, "shrinkB": 0}
    settings: dict[str, Any] = {"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.5, **sideways}
    tail, head = (x1 + _HALF_WIDTH, y1), (x2 - _HALF_WIDTH, y2)
    ax.annotate("", head, tail, arrowprops=settings)


def detection_strip(
    sample: Sample, found: Detections, classes: Sequence[str], thresholds: Sequence[float]
) -> Figure:
    """One panel for each score threshold: the image with the detections above it, and their number."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(thresholds), figsize=(9, 3.8), layout="constrained", squeeze=False)
        for ax, threshold in zip(axes[0], thresholds, strict=True):
            draw_found(ax, sample.image, found.above(threshold), classes)
            ax.set_title(f"score > {threshold:g}: {len(found.above(threshold))} boxes")
    return fig


def photos_found(photos: Sequence[np.ndarray], found: Sequence[Detections], classes: Sequence[str]) -> Figure:
    """Photos (H, W, 3) of any sizes in a row, equally high, each with frames and names about what was found."""
    import matplotlib.pyplot as plt

    ratios = [photo.shape[1] / photo.shape[0] for photo in photos]
    with style():
        size = 5.6, 0.2 + 5.4 / sum(ratios)
        fig, axes = plt.subplots(
            1, len(photos), figsize=size, width_ratios=ratios, squeeze=False, layout="constrained"
        )
        for ax, photo, detections in zip(axes[0], photos, found, strict=True):
            draw_found(ax, photo, detections, classes)
    return fig
