"""What the notebooks' figures share: colours, dashes, a style that stays readable at half size, frames, curves.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; every colour has a dash of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ssdedu.detect import Detections

__all__ = [
    "COLORS",
    "DASHES",
    "GROUND",
    "LIGHT",
    "curves",
    "draw_found",
    "frame",
    "image_axes",
    "pixel_ticks",
    "style",
]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), "-", (0, (8, 3)))
LIGHT = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # white on these has a contrast below 4.5
GROUND = "#EEEEEE"
Box = Sequence[float]


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings under which a figure is still readable at half size."""
    import matplotlib.pyplot as plt

    settings: dict[Any, Any] = {
        **{"font.size": 13, "axes.titlesize": 13, "legend.fontsize": 12, "legend.frameon": False},
        **{"xtick.labelsize": 12, "ytick.labelsize": 12, "lines.linewidth": 2.5},
        **{"axes.spines.top": False, "axes.spines.right": False},
    }
    with plt.rc_context(settings):
        yield


def frame(ax: Axes, box_px: Box, color: str, dash: Any = "-", **options: Any) -> None:
    """Add the outline of a box (cx, cy, w, h) in pixels."""
    from matplotlib.patches import Rectangle

    cx, cy, w, h = box_px
    settings = {"fill": False, "linewidth": 2.5, **options}
    ax.add_patch(Rectangle((cx - w / 2, cy - h / 2), w, h, edgecolor=color, linestyle=dash, **settings))


def image_axes(
    ax: Axes, width_px: float, height_px: float, before_px: float = 0, behind_px: float = 0
) -> None:
    """Pixel coordinates with y downwards, a grey ground where the image is, room before and behind it."""
    frame(
        ax, (width_px / 2, height_px / 2, width_px, height_px), GROUND, fill=True, facecolor=GROUND, zorder=0
    )
    x, y = (-before_px, width_px + behind_px), (height_px + behind_px, -before_px)
    ax.set(xlim=x, ylim=y, aspect="equal")
    ax.axis("off")


def curves(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, threshold: float
) -> Figure:
    """Named curves over the same x (logarithmic) and a horizontal line at a threshold."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
        for i, (name, y) in enumerate(lines.items()):
            ax.plot(x, y, color=COLORS[i], linestyle=DASHES[i], label=name)
        ax.axhline(threshold, color="#555555", linewidth=1.5)
        ax.text(x[0], threshold + 0.02, f"IoU {threshold:g}", color="#333333")
        ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel, ylim=(0, 1))
        pixel_ticks(ax.xaxis, x)
        ax.legend(loc="lower right")
    return fig


def pixel_ticks(axis: Any, values: Sequence[float]) -> None:
    """Plain numbers on a logarithmic axis."""
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    ticks = (10, 20, 30, 50, 100, 200, 300, 500)
    axis.set_ticks([t for t in ticks if min(values) <= t <= max(values)])
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def draw_found(ax: Axes, image: np.ndarray, found: Detections, classes: Sequence[str]) -> None:
    """Add an image (H, W, 3) and its detections, best on top, each with the name of its class."""
    from matplotlib.patches import Rectangle

    height_px, width_px = image.shape[:2]
    scale = np.array([width_px, height_px] * 2)
    ax.imshow(image, extent=(0, width_px, height_px, 0))
    ax.axis("off")
    for box, label in reversed(
        list(zip(found.boxes_xyxy.numpy() * scale, found.labels.tolist(), strict=True))
    ):
        x1, y1, x2, y2 = box
        kind = (label - 1) % len(COLORS)
        for color, width, dash in (("white", 4.0, "-"), (COLORS[kind], 2.0, DASHES[kind])):
            ax.add_patch(
                Rectangle(
                    (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=width, linestyle=dash
                )
            )
        ink = "black" if COLORS[kind] in LIGHT else "white"
        plate = {"facecolor": COLORS[kind], "pad": 1, "linewidth": 0}
        ax.text(x1, max(y1, 8), classes[label - 1], color=ink, fontsize=11, va="bottom", bbox=plate)
