"""Figures of `09_detection`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssdedu import boxes
from ssdedu.course.figures.common import COLORS, DASHES, frame, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ssdedu.widgets.nms_explorer import NmsExplorer

__all__ = ["Step", "labelled_boxes", "suppression_steps", "suppression_strip", "threshold_curves"]

# Of kept boxes, best first, as in the explorer; black is for missed objects.
_HUES = (*COLORS[:3], "#8C7A00", *COLORS[3:6])
Box = Sequence[float]


class Step(NamedTuple):
    """One step of a suppression: boxes cxcywh in pixels that are kept, dropped in it, and still waiting."""

    kept: Sequence[Box]
    dropped: Sequence[Box]
    waiting: Sequence[Box]


def labelled_boxes(image: np.ndarray, panels: Mapping[str, Sequence[tuple[Box, int, str]]]) -> Figure:
    """The image (H, W, 3), paled, once for each title, with its boxes: (cxcywh in pixels, label, text).

    Colour and dash follow the label; the texts, if any, stand in turn on the upper and the lower edge.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(panels), figsize=(9, 3.5), layout="constrained", squeeze=False)
        for ax, (title, entries) in zip(axes[0], panels.items(), strict=True):
            _pale(ax, image, title)
            for i, (box, label, text) in enumerate(entries):
                color, dash = _look(label)
                frame(ax, box, color, dash, linewidth=2)
                if text:
                    _tag(ax, box, text, color, below=i % 2 == 1)
    return fig


def _pale(ax: Axes, image: np.ndarray, title: str) -> None:
    height, width = image.shape[:2]
    ax.imshow(160 + image // 32 * 12, extent=(0, width, height, 0), interpolation="nearest")  # few shades
    ax.set(title=title, xlim=(0, width), ylim=(height, 0))
    ax.axis("off")


def _look(label: int) -> tuple[str, Any]:
    """A colour and a dash; the first twenty labels all look different."""
    turn, number = divmod(label - 1, len(COLORS))
    return COLORS[number], DASHES[(number + 3 * turn) % len(DASHES)]


def _tag(ax: Axes, box_px: Box, text: str, color: str, below: bool) -> None:
    """Text at the upper or lower edge of a box, kept inside the picture."""
    cx, cy, _, h = box_px
    width, height = ax.get_xlim()[1], ax.get_ylim()[0]
    y = min(cy + h / 2, 0.91 * height) if below else max(cy - h / 2, 0.08 * height)
    side = "left" if cx < 0.25 * width else "right" if cx > 0.75 * width else "center"
    x = {"left": 0.01 * width, "right": 0.99 * width, "center": cx}[side]
    ground = {"facecolor": "white", "edgecolor": color, "pad": 1.5}
    ax.text(x, y, text, fontsize=11, ha=side, va="top" if below else "bottom", bbox=ground)


def suppression_steps(image: np.ndarray, steps: Mapping[str, Step]) -> Figure:
    """The image once for each titled step: kept boxes thick, dropped ones dashed, waiting ones thin and grey."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(steps), figsize=(9, 3.7), layout="constrained", squeeze=False)
        for ax, (title, step) in zip(axes[0], steps.items(), strict=True):
            _pale(ax, image, title)
            for box in step.waiting:
                frame(ax, box, "#555555", linewidth=1, label="waiting")
            for box in step.dropped:
                frame(ax, box, COLORS[1], DASHES[1], linewidth=1.5, label="dropped in this step")
            for box in step.kept:
                frame(ax, box, COLORS[0], linewidth=3.5, label="kept")
        handles = {p.get_label(): p for ax in axes[0] for p in ax.patches}
        fig.legend(handles=list(handles.values()), loc="outside lower center", ncols=3, handlelength=3)
    return fig


def threshold_curves(
    panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], marks: Sequence[float]
) -> Figure:
    """A panel for each name of a threshold: its values, named curves over them, and a mark at a usual value."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(
            1, len(panels), figsize=(9, 4.2), layout="constrained", sharey=True, squeeze=False
        )
        for ax, (name, (x, lines)), mark in zip(axes[0], panels.items(), marks, strict=True):
            for i, (label, y) in enumerate(lines.items()):
                ax.plot(x, y, "os^"[i % 3], color=COLORS[i], linestyle=DASHES[i], label=label)
            ax.axvline(mark, color="#555555", linewidth=1.5, label="SSD's value")
            ax.set(xlabel=name, ylim=(0, 1.03))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), handlelength=3)
    return fig


def suppression_strip(explorer: NmsExplorer, iou_thresholds: Sequence[float]) -> Figure:
    """A panel for each IoU threshold: boxes kept, those suppressed in the colour of their suppressor, misses."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(
            1, len(iou_thresholds), figsize=(9, 4.1), layout="constrained", squeeze=False
        )
        for ax, threshold in zip(axes[0], iou_thresholds, strict=True):
            n = explorer.counts(iou_threshold=threshold)
            _pale(ax, explorer.sample.image, "")
            ax.set_title(
                f"IoU threshold {threshold:g}: {n.kept} kept,\n{n.found} of {n.objects} objects found"
            )
            _draw_suppression(ax, explorer, threshold)
        fig.legend(handles=_strip_key(), loc="outside lower center", ncols=3, handlelength=3)
    return fig


def _draw_suppression(ax: Axes, explorer: NmsExplorer, iou_threshold: float) -> None:
    kept, by, found = (t.tolist() for t in explorer.suppression(iou_threshold=iou_threshold))
    candidates_px = _centred_px(ax, explorer.candidates.boxes_xyxy)
    rank = {i: k for k, i in enumerate(kept)}
    for i, winner in enumerate(by):
        if winner not in (i, -1):
            frame(ax, candidates_px[i], _hue(rank[winner]), DASHES[1], linewidth=1.5, label="suppressed")
    objects_px = _centred_px(ax, torch.from_numpy(explorer.sample.boxes_xyxy))
    for box, hit in zip(objects_px, found, strict=True):
        if not hit:
            frame(ax, box, "black", DASHES[2], linewidth=2.5, label="missed")
    for i in reversed(kept):
        frame(ax, candidates_px[i], _hue(rank[i]), linewidth=3, label="kept")


def _hue(rank: int) -> str:
    return _HUES[rank % len(_HUES)]


def _centred_px(ax: Axes, boxes_xyxy: Tensor) -> list[Box]:
    """As far as the image reaches, in centre form and pixels."""
    size_px = torch.tensor([ax.get_xlim()[1], ax.get_ylim()[0]]).repeat(2)
    return (boxes.xyxy_to_cxcywh(boxes.clip(boxes_xyxy)) * size_px).tolist()


def _strip_key() -> list[Any]:
    from matplotlib.lines import Line2D

    looks: tuple[tuple[str, str, Any, float], ...] = (
        ("kept", "#555555", "-", 3.0),
        ("suppressed, in the colour of its suppressor", "#555555", DASHES[1], 1.5),
        ("missed object", "black", DASHES[2], 2.5),
    )
    return [Line2D([], [], color=c, linestyle=d, linewidth=w, label=name) for name, c, d, w in looks]
