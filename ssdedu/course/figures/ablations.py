"""Figures of `12_ablations`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, GROUND, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["dots", "lines_by_bin"]

_MARKERS = ("o", "s", "^", "D", "v")


def dots(rows: Mapping[str, Sequence[float]], reference: str) -> Figure:
    """A row of dots for each name, one for each seed, a line at the median; a band over the reference's range."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8.5, 0.9 + 0.36 * len(rows)), layout="constrained")
        ax.axvspan(min(rows[reference]), max(rows[reference]), color=GROUND, zorder=0)
        for y, (name, values) in enumerate(rows.items()):
            color = COLORS[1] if name == reference else COLORS[0]
            for i, value in enumerate(values):
                ax.plot(value, y, marker=_MARKERS[i % len(_MARKERS)], color=color, alpha=0.75, markersize=8)
            ax.plot([np.median(values)] * 2, [y - 0.3, y + 0.3], color="black", linewidth=2)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.invert_yaxis()
        ax.grid(axis="x", color="#DDDDDD", linewidth=0.8)
        ax.set(xlabel="mAP at IoU 0.5, 11 points, 400 held-out scenes")
    return fig


def lines_by_bin(bins: Sequence[str], rows: Mapping[str, Sequence[float]], xlabel: str) -> Figure:
    """Recall over named bins, one line for each row."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
        for i, (name, values) in enumerate(rows.items()):
            ax.plot(
                range(len(bins)),
                values,
                color=COLORS[i],
                linestyle=DASHES[i],
                marker=_MARKERS[i % 5],
                label=name,
            )
        ax.set_xticks(range(len(bins)), bins)
        ax.set(xlabel=xlabel, ylabel="found at score 0.5", ylim=(0, None))
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig
