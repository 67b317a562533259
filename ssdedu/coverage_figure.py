"""The picture of how default boxes fit a data set: objects and coverage by size and ratio, positives by map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ssdedu import priors
from ssdedu.best_box import reachable
from ssdedu.coverage import Bin, Coverage
from ssdedu.plots import COLORS

__all__ = ["picture"]

_STYLE: dict[Any, Any] = {
    **{"font.size": 17, "axes.titlesize": 18, "legend.fontsize": 15, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 3},
}
_SIZES_PX = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_RATIOS = {1 / 16: "1/16", 1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1: "1", 2: "2", 4: "4", 8: "8", 16: "16"}
_POINTS = 3000  # objects drawn: more hide one another
_FEWEST = 5  # objects in a bin that is drawn
_BEFORE: dict[str, Any] = {"color": COLORS[0], "marker": "o", "linestyle": "-", "markersize": 9}
_AFTER: dict[str, Any] = {"color": COLORS[1], "marker": "s", "linestyle": "--", "markersize": 8}


def picture(before: Coverage, after: Coverage | None = None, seed: int = 0) -> Figure:
    """Four panels about the objects of a data set; after: the same with other default boxes, drawn beside it.

    Objects by size and aspect ratio, covered or not, at most 3,000 of them, drawn with `seed`; share covered over
    size, and over ratio, above the numbers of objects; positives of each map.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(15, 12), layout="constrained")
        (scatter, size), (ratio, maps) = figure.subplots(2, 2)
        _scatter(scatter, before, seed)
        measured = [before] if after is None else [before, after]
        _curves(size, [c.by_size() for c in measured], "size √(w h) in the network's input (px)")
        _ticks(size.xaxis, {px: str(px) for px in _SIZES_PX}, before.sizes_px)
        _curves(ratio, [c.by_ratio() for c in measured], "aspect ratio w / h")
        _ticks(ratio.xaxis, _RATIOS, before.ratios)
        _positives(maps, measured)
        figure.suptitle(_title(measured), fontsize=19)
    return figure


def _title(measured: Sequence[Coverage]) -> str:
    c = measured[0]
    shares = " → ".join(f"{other.share_covered:.1%}" for other in measured)
    return (
        f"{c.config.name}: {shares} of {c.num_objects:,} objects have a default box of IoU ≥ {c.threshold:g}"
    )


def _ticks(axis: Any, labels: dict[Any, str], values: np.ndarray) -> None:
    """Plain numbers on a logarithmic axis, those within the values."""
    low, high = values.min() / 1.4, values.max() * 1.4
    axis.set_major_locator(FixedLocator([v for v in labels if low <= v <= high]))
    axis.set_major_formatter(FuncFormatter(lambda v, _: labels.get(v, f"{v:g}")))
    axis.set_minor_locator(NullLocator())


def _scatter(ax: Axes, c: Coverage, seed: int) -> None:
    shown = np.arange(c.num_objects)
    if len(shown) > _POINTS:
        shown = np.random.default_rng(seed).choice(shown, _POINTS, replace=False)
    kinds: tuple[tuple[bool, str, dict[str, Any]], ...] = (
        (True, "covered", {"marker": "o", "s": 16, "alpha": 0.35, "linewidths": 0}),
        (False, "not covered", {"marker": "x", "s": 34, "alpha": 0.8, "linewidths": 1.6}),
    )
    for color, (covered, label, look) in zip(COLORS, kinds, strict=False):
        some = shown[c.covered[shown] == covered]
        ax.scatter(c.sizes_px[some], c.ratios[some], color=color, label=label, **look)
    shapes = np.concatenate([priors.cell_shapes_px(m, c.config.whole_px) for m in c.config.maps])
    side, ratio = np.sqrt(shapes.prod(1)), shapes[:, 0] / shapes[:, 1]
    ax.scatter(
        side, ratio, marker="D", s=70, color="black", edgecolor="white", label="default boxes", zorder=3
    )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="size √(w h) in the network's input (px)",
        ylabel="aspect ratio w / h",
    )
    _frontier(ax, c)
    _ticks(ax.xaxis, {px: str(px) for px in _SIZES_PX}, c.sizes_px)
    _ticks(ax.yaxis, _RATIOS, c.ratios)
    ax.plot([], [], color="black", linestyle="--", linewidth=2, label="reach of the default boxes")
    legend = _legend_above(ax)
    for handle in legend.legend_handles:
        handle.set_alpha(1)  # type: ignore[union-attr]


def _frontier(ax: Axes, c: Coverage) -> None:
    """Where `reachable` equals the threshold, on a grid of sizes and ratios that fit into the image."""
    ax.autoscale_view()
    limits = ax.get_xlim(), ax.get_ylim()
    side, ratio = (np.geomspace(*limit, 90) for limit in limits)
    width = side * np.sqrt(ratio[:, None]) / c.config.width_px
    height = side / np.sqrt(ratio[:, None]) / c.config.height_px
    iou = reachable(np.stack([width, height], -1).reshape(-1, 2), c.config).reshape(width.shape)
    iou[(width > 1) | (height > 1)] = np.nan
    ax.contour(side, ratio, iou, levels=[c.threshold], colors="black", linestyles="--", linewidths=2)
    ax.set(xlim=limits[0], ylim=limits[1])


def _curves(ax: Axes, measured: Sequence[Sequence[Bin]], xlabel: str) -> None:
    """Share covered in each bin, before and after, above bars of the numbers of objects."""
    bins = measured[0]
    counts = ax.twinx()
    low, high = np.array([b.low for b in bins]), np.array([b.high for b in bins])
    counts.bar(low, [b.objects for b in bins], high - low, align="edge", color="#DDDDDD", edgecolor="white")
    counts.set_ylabel("objects (bars)", color="#555555")
    counts.tick_params(axis="y", colors="#555555", length=0)
    ax.set_zorder(counts.get_zorder() + 1)
    ax.patch.set_visible(False)
    looks = zip(measured, (_BEFORE, _AFTER), ("as it is", "other sides"), strict=False)
    for some, look, label in looks:
        drawn = [b for b in some if b.objects >= _FEWEST]
        middle = [np.sqrt(b.low * b.high) for b in drawn]
        ax.plot(middle, [100 * b.share for b in drawn], label=label, **look)
    ax.set(xscale="log", xlabel=xlabel, ylabel="objects covered (%)", ylim=(0, 104))
    _legend_above(ax)


def _positives(ax: Axes, measured: Sequence[Coverage]) -> None:
    names = [m.name for m in measured[0].config.maps]
    place, height = np.arange(len(names)), 0.8 / len(measured)
    looks = ((COLORS[0], "", "as it is"), (COLORS[1], "//", "other sides"))
    for i, (c, (color, hatch, label)) in enumerate(zip(measured, looks, strict=False)):
        number = c.positives_per_map / c.num_images
        where = place + (i - (len(measured) - 1) / 2) * height
        bars = ax.barh(where, number, height, color=color, hatch=hatch, edgecolor="white", label=label)
        ax.bar_label(bars, [f"{n:.1f}" for n in number], padding=4)
    ax.set_yticks(place, names)
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set(xlabel="positive default boxes an image (SSD's matching)")
    _legend_above(ax)


def _legend_above(ax: Axes) -> Any:
    return ax.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, columnspacing=1.2, handletextpad=0.5
    )
