"""Figures of `07_hard_negative_mining`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, frame, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["chosen_boxes", "rank_lines", "share_curves"]

Boxes = Sequence[Sequence[float]]


def chosen_boxes(image: np.ndarray, panels: Mapping[str, tuple[Boxes, bool]]) -> Figure:
    """The image (H, W, 3), paled, once for each title; in it boxes (N, 4) cxcywh in pixels.

    The flag says whether they are positives (solid) or negatives (dashed).
    """
    import matplotlib.pyplot as plt

    height, width = image.shape[:2]
    with style():
        fig, axes = plt.subplots(1, len(panels), figsize=(9, 3.5), layout="constrained", squeeze=False)
        for ax, (title, (boxes_px, positive)) in zip(axes[0], panels.items(), strict=True):
            ax.imshow(128 + image // 2, extent=(0, width, height, 0))
            for box in boxes_px:
                frame(ax, box, COLORS[not positive], DASHES[not positive], linewidth=1.8)
            ax.set(title=title, xlim=(0, width), ylim=(height, 0))
            ax.axis("off")
    return fig


def rank_lines(losses: Sequence[float], order: Sequence[int], rank: Sequence[int], chosen: int) -> Figure:
    """Boxes on the left, places on the right, a line from each box to its place; the first `chosen` stand out.

    losses (N,); order (N,): the box at each place; rank (N,): the place of each box.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 0.55 * len(losses) + 1), layout="constrained")
        for box, place in enumerate(rank):
            kind = int(place >= chosen)
            ax.plot([0, 1], [-box, -place], color=COLORS[1 - kind], linestyle=DASHES[kind], zorder=1)
            _cell(ax, -0.05, -box, f"box {box}: loss {losses[box]:g},  rank[{box}] = {place}", "right")
        for place, box in enumerate(order):
            _cell(ax, 1.05, -place, f"place {place}:  order[{place}] = {box}", "left")
        ax.axhline(0.5 - chosen, 0.68, color="#555555", linewidth=1.5)
        ax.text(2.05, 0.5 - chosen, "kept above", ha="right", va="bottom", color="#333333")
        ax.set(xlim=(-1.1, 2.05), ylim=(0.6 - len(losses), 0.6))
        ax.axis("off")
    return fig


def _cell(ax: Axes, x: float, y: float, text: str, side: str) -> None:
    ax.text(x, y, text, ha=side, va="center")
    ax.plot([float(side == "left")], [y], "o", color="black", markersize=6)


def share_curves(shares: Mapping[str, np.ndarray], kept: float) -> Figure:
    """Named curves: share of a sum that the first 1, 2, ... entries hold, and a line at `kept` entries."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
        for i, (name, share) in enumerate(shares.items()):
            ax.plot(range(1, len(share) + 1), share, color=COLORS[i], linestyle=DASHES[i], label=name)
        ax.axvline(kept, color="#555555", linewidth=1.5)
        ax.text(kept * 1.08, 0.74, "3 for each positive", color="#333333")
        ax.set(xscale="log", ylim=(0, 1.02), xlabel="negatives of a scene, the hardest first")
        ax.set_ylabel("share of the negatives' pull")
        ticks = [t for t in (1, 10, 100, 1000) if t <= max(map(len, shares.values()))]
        ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
        ax.legend(loc="upper left")
    return fig
