"""Figures of `04_encoding`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["box_panels", "iou_over_width", "target_histograms"]

Boxes = Sequence[Sequence[float]]
OFFSETS = ("cx", "cy", "w", "h")
MARKED = {"half": 0.5, "twice": 2.0}


def box_panels(image: np.ndarray, panels: Mapping[str, Boxes], margin_px: float = 25) -> Figure:
    """The image (H, W, 3), paled, once for each title, with the boxes xyxy in pixels of that panel."""
    import matplotlib.pyplot as plt

    height_px, width_px = image.shape[:2]
    with style():
        fig, axes = plt.subplots(1, len(panels), figsize=(9, 3.1), layout="constrained", squeeze=False)
        for ax, (title, boxes_px) in zip(axes[0], panels.items(), strict=True):
            ax.imshow(image, extent=(0, width_px, height_px, 0), alpha=0.6)
            for i, box in enumerate(boxes_px):
                _outline(ax, box, COLORS[i % 7], DASHES[i % 7])
            ax.set(
                title=title, xlim=(-margin_px, width_px + margin_px), ylim=(height_px + margin_px, -margin_px)
            )
            ax.axis("off")
    return fig


def _outline(ax: Axes, box_px: Sequence[float], color: str, dash: object) -> None:
    x1, y1, x2, y2 = box_px
    ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=color, linestyle=dash)  # type: ignore[arg-type]


def iou_over_width(factors: Sequence[float], iou: Sequence[float]) -> Figure:
    """IoU over how many times wider the object is: as a number added to 1 on the left, as a logarithm right.

    Dots mark half and twice the width.
    """
    import matplotlib.pyplot as plt

    ratio = np.asarray(factors)
    kinds = {"width ratio - 1": ratio - 1, "log of the width ratio": np.log(ratio)}
    with style():
        fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
        for ax, (name, x) in zip(axes, kinds.items(), strict=True):
            ax.margins(x=0.1)
            ax.plot(x, iou, color=COLORS[0])
            matched = x[np.asarray(iou) >= 0.5]
            ax.axvspan(matched.min(), matched.max(), color="#DDDDDD", zorder=0)
            for word, factor in MARKED.items():
                at, side = np.interp(factor, ratio, x), 1 if factor > 1 else -1
                height = np.interp(factor, ratio, iou)
                ax.plot(at, height, "o", color=COLORS[0], markersize=9)
                ax.annotate(
                    word, (at, height), (8 * side, 4), textcoords="offset points",
                    ha="left" if factor > 1 else "right",
                )  # fmt: skip
            ax.set(xlabel=name, ylim=(0, 1.02))
        axes[0].set_ylabel("IoU")
        axes[1].text(0, 0.1, "IoU ≥ 0.5", ha="center")
    return fig


def target_histograms(panels: Mapping[str, tuple[np.ndarray, float]], limit: float = 5) -> Figure:
    """Density of the four offsets, a curve each, for every named (array (N, 4), bin width); grey: size < 1."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(panels), figsize=(9, 3.4), layout="constrained", squeeze=False)
        for ax, (title, (offsets, bin_width)) in zip(axes[0], panels.items(), strict=True):
            ax.axvspan(-1, 1, color="#E4E4E4", zorder=0)
            for i, name in enumerate(OFFSETS):
                middle, density = _density(offsets[:, i], bin_width, limit)
                ax.plot(middle, density, color=COLORS[i], linestyle=DASHES[i], label=name)
            ax.set(title=title, xlabel="offset", xlim=(-limit, limit), ylim=(0, None))
        axes[0][0].set_ylabel("density")
        axes[0][-1].legend()
    return fig


def _density(values: np.ndarray, bin_width: float, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Middles of bins about 0 within +-limit, and the density of the values in them."""
    half = int(limit / bin_width)
    middle = np.arange(-half, half + 1) * bin_width
    counts, _ = np.histogram(values, np.append(middle - bin_width / 2, middle[-1] + bin_width / 2))
    return middle, counts / len(values) / bin_width
