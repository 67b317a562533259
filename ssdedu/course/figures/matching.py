"""Figures of `03_matching`: each function returns a figure for `show`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ssdedu import boxes, priors
from ssdedu.course.figures.common import COLORS, DASHES, frame, image_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["iou_strip", "matched_maps", "numbered", "positives_by_size", "rules_side_by_side"]

Box = Sequence[float]
_DASHED = (0, (3, 2))


def _centred(box_xyxy: Box) -> Box:
    x1, y1, x2, y2 = box_xyxy
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def iou_strip(pairs_xyxy_px: Mapping[str, tuple[Box, Box]]) -> Figure:
    """A panel for each named pair of boxes, all to one scale: outlines, the shared area filled, name and IoU.

    A thick line runs around their union, as in the explorer.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(pairs_xyxy_px), figsize=(9, 1.9), layout="constrained", squeeze=False)
        corners = np.array(list(pairs_xyxy_px.values()), float).reshape(len(pairs_xyxy_px), 4, 2)
        low, high = corners.min(1), corners.max(1)
        half = (high - low).max(0) / 2 + 3
        for ax, (x, y), (name, (a, b)) in zip(axes[0], (low + high) / 2, pairs_xyxy_px.items(), strict=True):
            _pair_panel(ax, a, b)
            iou = boxes.iou(torch.tensor([a]), torch.tensor([b])).item()
            ax.set_title(f"{name}\nIoU {iou:.2f}")
            ax.set(xlim=(x - half[0], x + half[0]), ylim=(y + half[1], y - half[1]))
    return fig


def _pair_panel(ax: Axes, a: Box, b: Box) -> None:
    for box in (a, b):
        frame(ax, _centred(box), "#222222", label="union", linewidth=8)
    for box in (a, b):
        frame(ax, _centred(box), "none", label="ground", fill=True, facecolor="white")
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    if (high > low).all():
        frame(ax, _centred((*low, *high)), "none", label="shared", fill=True, facecolor="#BBBBBB")
    frame(ax, _centred(a), COLORS[0], label="box")
    frame(ax, _centred(b), COLORS[1], _DASHED, label="box")
    ax.set(aspect="equal")
    ax.axis("off")


def matched_maps(
    image: np.ndarray,
    objects_xyxy: np.ndarray,
    config: priors.Config,
    object_index: Sequence[int],
    names: Sequence[str],
) -> Figure:
    """A panel for each feature map: the faded image (H, W, 3), the objects (dashed), their default boxes.

    objects_xyxy (G, 4) in fractions of the image; object_index (P,): the object of each default box, -1 for
    none; an object has one colour in all panels.
    """
    import matplotlib.pyplot as plt

    size = np.tile([config.width_px, config.height_px], 2)
    owners = np.split(np.asarray(object_index), np.cumsum([m.num_boxes for m in config.maps])[:-1])
    objects = [_centred(box) for box in objects_xyxy * size]
    extent = (0, config.width_px, config.height_px, 0)
    with style():
        rows = math.ceil(len(config.maps) / 2)
        fig, axes = plt.subplots(rows, 2, figsize=(7.4, 3.6 * rows), layout="constrained", squeeze=False)
        for ax in axes.flat[len(config.maps) :]:
            ax.remove()
        for ax, feature_map, owner in zip(axes.flat, config.maps, owners, strict=False):
            boxes_px = priors.cell_boxes(feature_map, config).reshape(-1, 4) * size
            image_axes(ax, config.width_px, config.height_px, config.width_px / 20, config.width_px / 6)
            ax.imshow(_faded(image), extent=extent, interpolation="nearest", zorder=0.5)
            _owned(ax, objects, boxes_px, owner)
            ax.set_title(f"{feature_map.name}, {feature_map.height} × {feature_map.width}")
        _name_objects(fig, names)
    return fig


def _faded(image: np.ndarray) -> np.ndarray:
    """The image in light greys of few shades, so that frames stand out and the file stays small."""
    grey = image.mean(axis=2)
    return np.repeat((130 + grey * 0.47)[..., None] // 12 * 12, 3, axis=2).astype(np.uint8)


def _owned(
    ax: Axes, objects: Sequence[Box], boxes_px: Sequence[Box] | np.ndarray, owner: Sequence[int] | np.ndarray
) -> None:
    """Objects as thin dashed frames and, in the same colour, the default boxes they own."""
    for box, g in zip(boxes_px, owner, strict=True):
        if g >= 0:
            frame(ax, box, COLORS[g], label="default box", linewidth=2.2)
    for g, box in enumerate(objects):
        frame(ax, box, "black", _DASHED, label="object", linewidth=1.5)
        frame(ax, box, COLORS[g], label="ground", fill=True, facecolor=COLORS[g], alpha=0.2, linewidth=0)


def _name_objects(fig: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [Line2D([], [], color=c, label=n) for c, n in zip(COLORS, names, strict=False)]
    handles.append(Line2D([], [], color="black", linestyle=_DASHED, linewidth=1.5, label="object itself"))
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def numbered(
    objects_xyxy_px: Mapping[str, Box],
    boxes_cxcywh_px: Sequence[Box],
    panels: Mapping[str, Sequence[int]],
    size_px: float = 100,
) -> Figure:
    """The named objects alone, then a panel for each title: these default boxes over them, with their numbers."""

    def draw(ax: Axes, objects: Sequence[Box], shown: Sequence[int]) -> None:
        _owned(ax, objects, (), ())
        for p in shown:
            _numbered_box(ax, p, [float(v) for v in boxes_cxcywh_px[p]])

    return _panels(objects_xyxy_px, {"objects": (), **panels}, draw, size_px)


def _numbered_box(ax: Axes, number: int, box_cxcywh_px: Box) -> None:
    cx, cy, w, h = box_cxcywh_px
    frame(ax, box_cxcywh_px, "#333333", label="default box", linewidth=2.2)
    plate = {"facecolor": "#333333", "pad": 1.5, "linewidth": 0}
    ax.text(cx + w / 2, cy - h / 2, str(number), color="white", ha="right", va="top", fontsize=12, bbox=plate)


def rules_side_by_side(
    objects_xyxy_px: Mapping[str, Box],
    boxes_cxcywh_px: Sequence[Box],
    owners: Mapping[str, Sequence[int]],
    size_px: float = 100,
) -> Figure:
    """A panel for each rule: the default boxes it gives to each object; owners: rule -> object of each box."""

    def draw(ax: Axes, objects: Sequence[Box], owner: Sequence[int]) -> None:
        _owned(ax, objects, boxes_cxcywh_px, owner)

    return _panels(objects_xyxy_px, owners, draw, size_px)


def _panels(
    objects_xyxy_px: Mapping[str, Box],
    panels: Mapping[str, Sequence[int]],
    draw: Callable[[Axes, Sequence[Box], Sequence[int]], None],
    size_px: float,
) -> Figure:
    """A panel for each title, filled by draw(axes, objects, what the title stands for), and the objects' names."""
    import matplotlib.pyplot as plt

    objects = [_centred(box) for box in objects_xyxy_px.values()]
    with style():
        fig, axes = plt.subplots(1, len(panels), figsize=(9, 3.7), layout="constrained", squeeze=False)
        for ax, (title, what) in zip(axes[0], panels.items(), strict=True):
            image_axes(ax, size_px, size_px, size_px / 12, size_px / 12)
            draw(ax, objects, what)
            ax.set_title(title)
        _name_objects(fig, list(objects_xyxy_px))
    return fig


def positives_by_size(sides_px: Sequence[float], counts: Mapping[str, Sequence[float]]) -> Figure:
    """Matched default boxes of one square object over its side: a line for each map, and their sum.

    Where a map has none, its line is left out.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    with style():
        fig, ax = plt.subplots(figsize=(9, 4), layout="constrained")
        for i, (name, y) in enumerate(counts.items()):
            shown = np.where(np.asarray(y) > 0, y, np.nan)
            ax.plot(sides_px, shown, color=COLORS[i], linestyle=DASHES[i], label=name, zorder=9 - i)
        total = np.sum(list(counts.values()), axis=0)
        ax.plot(sides_px, total, color="#777777", linewidth=1.5, label="all maps")
        ax.set(xlabel="side of a square object (px)", ylabel="positives", ylim=(0, None))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=3)
    return fig
