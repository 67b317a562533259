"""Figures of `01_receptive_fields`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, GROUND, frame, style
from ssdedu.receptive_field import Field, Layer, chain, footprint
from ssdedu.widgets.receptive_field_explorer import SIZE_PX, Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = ["View", "centres", "field_strip", "profiles", "sizes", "tower", "views"]

_SEEN, _UNSEEN = COLORS[0], "#BBBBBB"
_COUNTS = (230, 159, 0)
_CROSS: dict[str, Any] = {"markersize": 11, "markeredgewidth": 2.5}
_SQUARE: dict[str, Any] = {"marker": "s", "markersize": 15, "markeredgecolor": "#555555", "zorder": 3}


class View(NamedTuple):
    """What one cell sees: weight of each pixel (H, W), its field and a default box, both cxcywh in pixels."""

    weights: np.ndarray
    field_px: Sequence[float]
    box_px: Sequence[float]


def views(photo: np.ndarray, cells: Mapping[str, View], margin_px: float = 94) -> Figure:
    """The photo (H, W, 3), 0 .. 255, once for each cell, pale grey where a pixel has no weight; field and box."""
    import matplotlib.pyplot as plt

    height_px, width_px = photo.shape[:2]
    with style():
        fig, axes = plt.subplots(1, len(cells), figsize=(9, 3.7), layout="constrained", squeeze=False)
        for ax, (title, view) in zip(axes[0], cells.items(), strict=True):
            ax.imshow(_paled(photo, view.weights), extent=(0, width_px, height_px, 0))
            frame(ax, view.field_px, COLORS[0], label="receptive field")
            frame(ax, view.box_px, COLORS[1], (0, (2, 1)), linewidth=2, label="default box")
            x, y = (-margin_px, width_px + margin_px), (height_px + margin_px, -margin_px)
            ax.set(title=title, xlim=x, ylim=y)
            ax.axis("off")
        handles = [p for p in axes[0, 0].patches if p.get_label()]
        fig.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3)
    return fig


def field_strip(cells: Mapping[str, Cell]) -> Figure:
    """What each cell sees, as the explorer shows it without the photo: the more orange, the more a pixel counts.

    In steps of a fifth of the peak; only what does not count at all is grey.
    """
    import matplotlib.pyplot as plt

    ground = np.full((SIZE_PX, SIZE_PX, 3), _COUNTS)
    margin_px = 8 + max(_reach_px(cell) for cell in cells.values())
    with style():
        fig, axes = plt.subplots(1, len(cells), figsize=(9, 3.4), layout="constrained", squeeze=False)
        for ax, (title, cell) in zip(axes[0], cells.items(), strict=True):
            weights = cell.weights()
            steps = np.ceil(5 * weights / weights.max()) / 5
            ax.imshow(_paled(ground, steps), extent=(0, SIZE_PX, SIZE_PX, 0))
            _draw_sight(ax, cell)
            limits = -margin_px, SIZE_PX + margin_px
            ax.set(title=title, xlim=limits, ylim=limits[::-1])
            ax.axis("off")
        handles = [p for p in axes[0, 0].patches if p.get_label()]
        fig.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3)
        fig.set_layout_engine("constrained", h_pad=0.1)
    return fig


def _reach_px(cell: Cell) -> int:
    """How far a cell's field goes beyond a side of the image, at most; negative if it lies inside."""
    seen = cell.sight()
    return max(reach for first, last in (seen.rows, seen.columns) for reach in (-first, last + 1 - SIZE_PX))


def _draw_sight(ax: Axes, cell: Cell) -> None:
    """Frames of field and effective field, dots for the cells' centres, a disc for this one's."""
    field, effective_px = cell.sight().field, cell.sight().effective_px
    x, y = field.centre(cell.column), field.centre(cell.row)
    extent = field.receptive_field
    frame(ax, (x, y, extent, extent), COLORS[0], label="receptive field")
    frame(ax, (x, y, effective_px, effective_px), COLORS[2], (0, (3, 1.5)), label="effective field")
    centres_px = [field.centre(index) for index in range(field.size or 0)]
    across, down = np.meshgrid(centres_px, centres_px)
    ax.plot(across.ravel(), down.ravel(), ".", color="black", markersize=2)
    ax.plot(x, y, "o", color="black", markeredgecolor="white", markersize=8)


def _paled(photo: np.ndarray, weights: np.ndarray) -> np.ndarray:
    share = weights[..., None] / weights.max()
    pale = 200 + 0.2 * photo.mean(-1, keepdims=True)
    return (photo * share + pale * (1 - share)).round().astype(np.uint8)


def tower(layers: Sequence[Layer], size: int, index: int) -> Figure:
    """Every map's cells at their centres along one axis, the image at the bottom; what cell `index` sees is blue.

    Squares are the cells, hollow ones padding; a line joins a cell to each cell it looks at. Dotted: where padding
    would look if it were a cell. The bar at the bottom is the field of cell `index`, with all of that.
    """
    import matplotlib.pyplot as plt

    levels = [Field("input", size, 1, 0.5, 1), *chain(layers, size)]
    windows = _windows(layers, index)
    with style():
        fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
        for level, layer in enumerate(layers):
            _links(ax, levels, level, layer, _seen(layers, levels, level + 1, index), windows[level + 1])
        for level, field in enumerate(levels):
            pad = layers[level].padding if level < len(layers) else 0
            _row(ax, level, field, pad, _seen(layers, levels, level, index), windows[level])
        _field_bar(ax, levels[-1], index)
        low, high = (round(limit) for limit in ax.get_xlim())
        ax.set_xticks(np.arange(low, high) + 0.5, [str(pixel) for pixel in range(low, high)])
        ax.set_yticks(range(len(levels)), [f"{f.name}, {f.size} cells" for f in levels])
        ax.set(xlabel="pixel of the image", ylim=(-0.85, len(levels) - 0.7))
    return fig


def _seen(layers: Sequence[Layer], levels: Sequence[Field], level: int, index: int) -> list[int]:
    """Cells of a level that the top cell depends on, padding left out."""
    return footprint(layers[level:], levels[level].size or 0, index).tolist()


def _windows(layers: Sequence[Layer], index: int) -> list[set[int]]:
    """For each level, image first, the cells of the top cell's field, padding and all that lies under it included."""
    found = [{index}]
    for layer in reversed(layers):
        found.append({below for cell in found[-1] for below in _below(layer, cell)})
    return found[::-1]


def _below(layer: Layer, cell: int) -> list[int]:
    """The cells in a cell's window."""
    return [cell * layer.stride + tap * layer.dilation - layer.padding for tap in range(layer.kernel)]


def _links(
    ax: Axes, levels: Sequence[Field], level: int, layer: Layer, seen: Sequence[int], window: set[int]
) -> None:
    """Lines from every cell above this level to the cells in its window; dotted from padding in the field."""
    real = range(levels[level + 1].size or 0)
    for cell in sorted({*real, *window}):
        color = _SEEN if cell in window else _UNSEEN
        for below in _below(layer, cell):
            x = levels[level + 1].centre(cell), levels[level].centre(below)
            dash, order = ("-" if cell in real else ":"), 2 if cell in seen else 1
            ax.plot(x, (level + 1, level), color=color, linewidth=1.5, linestyle=dash, zorder=order)


def _row(ax: Axes, level: int, field: Field, pad: int, seen: Sequence[int], window: set[int]) -> None:
    """Squares for a level's cells and, hollow, for its padding and what else lies in the field."""
    size = field.size or 0
    for cell in sorted({*range(-pad, size + pad), *window}):
        fill = _SEEN if cell in seen else _UNSEEN if 0 <= cell < size else "white"
        ax.plot(field.centre(cell), level, markerfacecolor=fill, **_SQUARE)


def _field_bar(ax: Axes, field: Field, index: int) -> None:
    """The field of a cell as a bar under the pixels."""
    first, last = field.pixels(index)
    ax.plot((first, last + 1), (-0.42, -0.42), color=_SEEN, linewidth=5, solid_capstyle="butt")
    text = f"field of the blue cell: {field.receptive_field} px"
    ax.text((first + last + 1) / 2, -0.5, text, ha="center", va="top", color=_SEEN)


def profiles(
    panels: Mapping[str, Mapping[str, Sequence[float]]], widths_px: Sequence[float], ylabel: str
) -> Figure:
    """A panel for each title: named curves over the pixels of one axis about its middle, as shares of their peak.

    The grey band, of the panel's width, is the receptive field.
    """
    import matplotlib.pyplot as plt

    with style():
        width = 9 if len(panels) > 1 else 6
        fig, axes = plt.subplots(1, len(panels), figsize=(width, 3.9), layout="constrained", squeeze=False)
        for ax, (title, lines), width_px in zip(axes[0], panels.items(), widths_px, strict=True):
            ax.axvspan(-width_px / 2, width_px / 2, color=GROUND, zorder=0)
            for i, (name, values) in enumerate(lines.items()):
                y = np.asarray(values) / np.max(values)
                x = np.arange(len(y)) - (len(y) - 1) / 2
                ax.plot(x, y, color=COLORS[i], linestyle=DASHES[i], label=name)
            ax.set(title=title, xlabel="pixels from the field's centre", ylim=(0, 1.05))
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), handlelength=3)
        axes[0, 0].set_ylabel(ylabel)
    return fig


def sizes(names: Sequence[str], lines: Mapping[str, Sequence[float]], image_px: float) -> Figure:
    """Named sizes in pixels (logarithmic) for each map, and the image's side as a horizontal line."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    with style():
        fig, ax = plt.subplots(figsize=(8.5, 4), layout="constrained")
        for i, (name, values) in enumerate(lines.items()):
            ax.plot(names, values, color=COLORS[i], linestyle=DASHES[i], marker="osD^"[i], label=name)
        ax.axhline(image_px, color="#555555", linewidth=1.5)
        ax.text(-0.25, image_px * 1.06, "image", color="#333333")
        ax.set(yscale="log", ylabel="px", xlim=(-0.3, len(names) - 0.6))
        ax.set_yticks([30, 60, 100, 200, 300, 500, 800])
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.legend(loc="lower right")
    return fig


def centres(rows: Mapping[str, tuple[Sequence[float], Sequence[float]]], image_px: float) -> Figure:
    """For each map a row: the centres of its cells' fields (discs) and of its default boxes (crosses), in pixels."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8.5, 3.4), layout="constrained")
        ax.axvspan(0, image_px, color=GROUND, zorder=0)
        for row, (fields_px, boxes_px) in enumerate(rows.values()):
            names = ("field", "default box") if row == 0 else (None, None)
            ax.plot(fields_px, [row] * len(fields_px), "o", color=COLORS[0], markersize=11, label=names[0])
            ax.plot(boxes_px, [row] * len(boxes_px), "x", color=COLORS[1], **_CROSS, label=names[1])
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set(xlabel="centre along one axis (px)", ylim=(len(rows) - 0.5, -0.5))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig
