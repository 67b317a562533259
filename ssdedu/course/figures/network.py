"""Figures of `05_network`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["blocks", "path", "shares", "strengths", "taps"]

_GREY = "#C8C8C8"


def blocks(stages: Mapping[str, tuple[int, int]], boxes: Mapping[str, int]) -> Figure:
    """The way of the data: name -> (channels, cells a side) as bars, those of the maps that predict in blue.

    A bar's height grows with the root of the cells a side. boxes: name -> default boxes of that map.
    """
    import matplotlib.pyplot as plt

    lines = {-1.25: "map", -1.6: "channels", -1.95: "cells", -2.3: "boxes"}
    room = [0.55 + 0.055 * len(name) for name in stages]
    middles = np.cumsum(room) - np.array(room) / 2
    with style():
        fig, ax = plt.subplots(figsize=(9, 3.7), layout="constrained")
        for x, (name, (channels, side)) in zip(middles, stages.items(), strict=True):
            color = COLORS[0] if name in boxes else _GREY
            height = 2 * (side / 300) ** 0.5
            ax.bar(x, height, 0.6, bottom=-height / 2, color=color, label=name)
            count = f"{boxes[name]:,}" if name in boxes else ""
            for y, text in zip(lines, (name, f"{channels:,}", f"{side}²", count), strict=True):
                ax.text(x, y, text, ha="center", fontsize=11, color=COLORS[0] if y == min(lines) else "black")
        for y, text in lines.items():
            ax.text(0, y, text, ha="right", fontsize=11, fontstyle="italic")
        ax.set(xlim=(-0.85, sum(room)), ylim=(-2.4, 1.05))
        ax.axis("off")
    return fig


def taps(kept: np.ndarray, dense_px: Sequence[float], sparse_px: Sequence[float]) -> Figure:
    """Left: a kernel's weights, the kept ones (bool, rows x columns) in blue; right: where taps lie.

    dense_px, sparse_px: distances of a row of taps from the cell's centre in input pixels, for both axes.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, (left, right) = plt.subplots(1, 2, figsize=(8.5, 4.2), layout="constrained")
        rows, columns = kept.shape
        left.pcolormesh(np.arange(columns + 1), np.arange(rows + 1), kept, cmap=_two_tones(), edgecolor="white",
                        linewidth=2)  # fmt: skip
        left.set(
            aspect="equal", title=f"fc6 of the classifier: {int(kept.sum())} of {kept.size} weights kept"
        )
        left.invert_yaxis()
        left.axis("off")
        for px, marker, size, color, label in (
            (dense_px, "s", 11, _GREY, f"{rows} x {columns}, full VGG16"),
            (sparse_px, "o", 9, COLORS[0], f"{len(sparse_px)} x {len(sparse_px)}, dilation 6"),
        ):
            x, y = np.meshgrid(px, px)
            right.plot(x.ravel(), y.ravel(), marker, color=color, markersize=size, label=label)
        right.set(
            aspect="equal",
            xlabel="input pixels from the cell's centre",
            xticks=[-96, 0, 96],
            yticks=[-96, 0, 96],
        )
        right.invert_yaxis()
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1, handletextpad=0.2)
    return fig


def _two_tones() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([_GREY, COLORS[0]])


def strengths(channels: Mapping[str, np.ndarray], floor: float = 0.01) -> Figure:
    """Named activations by channel (root mean squares), strongest first, over the share of the channels.

    Logarithmic; what is below floor, dead channels among them, is drawn at floor.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
        for i, (name, values) in enumerate(channels.items()):
            y = np.maximum(np.sort(np.asarray(values))[::-1], floor)
            x = (np.arange(len(y)) + 0.5) / len(y)
            ax.plot(x, y, color=COLORS[i], linestyle=DASHES[i], label=name)
        ax.set(
            yscale="log", xlabel="channels, strongest first (share)", ylabel="activation (rms)", xlim=(0, 1)
        )
        ax.text(0.02, 1.1 * floor, f"what is below {floor:g} is drawn at {floor:g}", va="bottom", fontsize=12)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def path(
    cells: tuple[int, int], cell: tuple[int, int], kinds: tuple[int, int], kind: tuple[int, int],
    maps: Mapping[str, int], row: int,
) -> Figure:  # fmt: skip
    """One number's way: its cell (row, column) of the map, its box and class, its row among all boxes.

    cells: rows and columns of the map; kinds: boxes and classes, kind: (box, class); maps: name -> boxes.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, 3, figsize=(9, 3.6), layout="constrained", width_ratios=(1.1, 1.6, 0.9))
        _marked(axes[0], cells, cell)
        axes[0].set(title=f"cell {cell}", xlabel="column", ylabel="row")
        _marked(axes[1], kinds, kind)
        axes[1].set(title=f"channel {kind[0] * kinds[1] + kind[1]}", xlabel="class", ylabel="box")
        _stack(axes[2], maps, row)
    return fig


def _marked(ax: Axes, shape: tuple[int, int], where: tuple[int, int]) -> None:
    marks = np.zeros(shape)
    marks[where] = 1
    edges = [np.arange(n + 1) - 0.5 for n in shape]
    ax.pcolormesh(edges[1], edges[0], marks, cmap=_two_tones(), edgecolor="white", linewidth=0.8)
    ax.set(aspect="equal", xticks=[0, where[1], shape[1] - 1], yticks=[0, where[0], shape[0] - 1])
    ax.invert_yaxis()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _stack(ax: Axes, maps: Mapping[str, int], row: int) -> None:
    start = 0
    for i, (name, count) in enumerate(maps.items()):
        ax.bar(0, count, 1, bottom=start, color=_GREY if i % 2 == 0 else "#E4E4E4")
        if count > 500:
            ax.text(0.6, start + count / 2, name, ha="left", va="center")
        start += count
    ax.plot([-0.5, 0.5], [row, row], color=COLORS[0])
    ax.set(title=f"row {row:,}", xticks=[], yticks=[0, row, start - 1], xlim=(-0.5, 1.6), ylim=(start, 0))
    ax.yaxis.set_major_formatter("{x:,.0f}")
    for spine in ax.spines.values():
        spine.set_visible(False)


def shares(groups: Mapping[str, tuple[float, float]], names: tuple[str, str]) -> Figure:
    """Two bars for each group of layers: its shares (0 .. 1) of the two named sums."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
        y = np.arange(len(groups))
        for i, (name, hatch) in enumerate(zip(names, ("", "//"), strict=True)):
            values = [100 * pair[i] for pair in groups.values()]
            bars = ax.barh(
                y + 0.4 * i, values, 0.38, color=COLORS[i], hatch=hatch, edgecolor="white", label=name
            )
            ax.bar_label(bars, fmt="{:.0f} %", padding=3, fontsize=11)
        ax.set(yticks=y + 0.2, xlabel="share (%)", xlim=(0, 1.12 * ax.get_xlim()[1]))
        ax.set_yticklabels(list(groups))
        ax.invert_yaxis()
        ax.legend(loc="lower right")
    return fig
