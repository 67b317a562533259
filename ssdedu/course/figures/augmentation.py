"""Figures of `08_augmentation`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ssdedu.augment import crop, resize
from ssdedu.course.figures.common import COLORS, DASHES, frame, style
from ssdedu.sample import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["acceptance", "centre_rule", "crop_strip", "sampled", "sizes", "views"]

_PANEL_PX = 125
_SHADES = 8
Tries = tuple[Sample, Sequence[np.ndarray]]


def views(samples: Sequence[Sample], names: Sequence[str]) -> Figure:
    """A row of pictures with their objects framed; label k has the k-th name, colour and dash."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(samples), figsize=(9, 2.1), squeeze=False, layout="constrained")
        for ax, sample in zip(axes[0], samples, strict=True):
            _picture(ax, _small(sample.image))
            for box, label in zip(sample.boxes_xyxy, sample.labels, strict=True):
                _outline(ax, box, int(label) - 1, label=names[label - 1])
        _legend(fig, axes[0], len(names))
    return fig


def sampled(rows: Sequence[Tries], titles: Sequence[str]) -> Figure:
    """For each (sample, one array (K, 4) of crops a sampler) a row of faded pictures, a column a sampler.

    Objects are black and dashed, crops coloured; boxes are corners in fractions of the image.
    """
    import matplotlib.pyplot as plt

    size = len(titles), len(rows)
    with style():
        fig, axes = plt.subplots(*size[::-1], figsize=(9, 1.55 * len(rows)), squeeze=False)
        for line, (sample, crops) in zip(axes, rows, strict=True):
            for ax, some in zip(line, crops, strict=True):
                _picture(ax, _faded(sample.image, shades=5))
                if not len(some):
                    ax.text(0.5, 0.5, "no crop", ha="center", va="center", backgroundcolor="white")
                for number, crop in enumerate(some):
                    _outline(ax, crop, number % 5, linewidth=1.8)
                for box in sample.boxes_xyxy:
                    _outline(ax, box, -1, dash=(0, (2, 1)), linewidth=1.5)
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=12)
        fig.subplots_adjust(0.01, 0.02, 0.99, 0.9, 0.08, 0.06)
    return fig


def acceptance(min_ious: Sequence[float], lines: Mapping[str, Sequence[float]]) -> Figure:
    """Named shares of scenes in which a sampler finds a crop, over the IoU that it asks for."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
        for (name, y), color, dash, marker in zip(lines.items(), COLORS, DASHES, "os^", strict=False):
            ax.plot(min_ious, y, color=color, linestyle=dash, marker=marker, label=name)
        ax.set(xlabel="IoU that the sampler asks for", ylabel="scenes with a crop", ylim=(-0.03, 1.03))
        ax.set_xticks(min_ious)
        ax.legend()
    return fig


def centre_rule(sample: Sample, crop_xyxy: np.ndarray, fates: Sequence[str], view: Sample) -> Figure:
    """Left a scene with a crop (black) and its objects, coloured by fate, with their centres; right the view."""
    import matplotlib.pyplot as plt

    order = list(dict.fromkeys(sorted(fates)))
    with style():
        fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.6), layout="constrained")
        _picture(axes[0], _faded(sample.image))
        for box, fate in zip(sample.boxes_xyxy, fates, strict=True):
            _outline(axes[0], box, order.index(fate), label=fate)
            x, y = (box[:2] + box[2:]) / 2
            axes[0].plot(x, y, "o", color=COLORS[order.index(fate)], markersize=7)
        _outline(axes[0], crop_xyxy, -1, "-", label="crop", linewidth=3.5)
        _picture(axes[1], _faded(view.image))
        remaining = [fate for fate in fates if fate != "gone"]
        for box, fate in zip(view.boxes_xyxy, remaining, strict=True):
            _outline(axes[1], box, order.index(fate))
        axes[0].set_title("scene")
        axes[1].set_title("view")
        _legend(fig, axes[:1], 4)
    return fig


def crop_strip(sample: Sample, patches: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """For each patch (4,) a pair under a title: the scene with the patch (black), and the view as a square.

    Label k of the sample has the k-th colour and dash in both.
    """
    import matplotlib.pyplot as plt

    with style():
        fig = plt.figure(figsize=(7.4, 1.7))
        parts = fig.subfigures(1, len(patches), squeeze=False)[0]
        for part, patch, title in zip(parts, patches, titles, strict=True):
            part.suptitle(title, fontsize=12, y=0.99, va="top")
            scene, square = part.subplots(1, 2)
            view = resize(crop(sample, patch), _PANEL_PX, _PANEL_PX)
            for ax, shown in ((scene, sample), (square, view)):
                _picture(ax, _faded(shown.image, shades=4, side_px=64))
                for box, label in zip(shown.boxes_xyxy, shown.labels, strict=True):
                    _outline(ax, box, int(label) - 1, linewidth=2)
            _outline(scene, patch, -1, "-", linewidth=2.5)
            part.subplots_adjust(0.02, 0.02, 0.98, 0.8, 0.06)
    return fig


def sizes(before: np.ndarray, after: Mapping[str, np.ndarray], bins: np.ndarray) -> Figure:
    """A panel for each name: histogram of `before` in grey and of `after[name]` as a line, shares a bin."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(
            1, len(after), figsize=(9, 3.1), sharey=True, squeeze=False, layout="constrained"
        )
        for ax, color, (name, values) in zip(axes[0], COLORS, after.items(), strict=False):
            ax.stairs(_shares(before, bins), bins, fill=True, color="#C8C8C8", label="as drawn")
            ax.stairs(_shares(values, bins), bins, color=color, linewidth=2.5, label="augmented")
            ax.set(title=name, xscale="log", xlabel="object side (%)", xlim=(bins[0], bins[-1]))
            ax.set_xticks([3, 10, 30, 100], ["3", "10", "30", "100"])
            ax.minorticks_off()
            ax.legend(loc="upper left", fontsize=11, handlelength=1, borderaxespad=0)
        top = axes[0, 0].get_ylim()[1]
        axes[0, 0].set(ylabel="share of objects", ylim=(0, 1.35 * top))
    return fig


def _shares(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    counts: np.ndarray = np.histogram(values, bins)[0]
    return counts / max(counts.sum(), 1)


def _picture(ax: Axes, image: np.ndarray) -> None:
    """The image in fractions of its sides, y downwards, without axes."""
    ax.imshow(image, extent=(0, 1, 1, 0), interpolation="nearest", aspect=image.shape[0] / image.shape[1])
    ax.axis("off")


def _outline(ax: Axes, box_xyxy: np.ndarray, kind: int, dash: Any = None, **options: Any) -> None:
    """The outline of corners, in the kind-th colour and dash."""
    x1, y1, x2, y2 = np.asarray(box_xyxy, float).tolist()
    box = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    frame(ax, box, COLORS[kind], DASHES[kind] if dash is None else dash, **options)


def _legend(fig: Figure, axes: Sequence[Axes], columns: int) -> None:
    handles = {p.get_label(): p for ax in axes for p in ax.patches if p.get_label()}
    fig.legend(handles=list(handles.values()), loc="outside lower center", ncols=columns, handlelength=2.5)


def _small(image: np.ndarray, side_px: int = _PANEL_PX) -> np.ndarray:
    """The image at no more pixels than a panel shows."""
    scale = side_px / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _faded(image: np.ndarray, shades: int = _SHADES, side_px: int = _PANEL_PX) -> np.ndarray:
    """The image in a few pale shades of grey, on which frames stand out and which pack small."""
    grey = _small(cv2.medianBlur(_small(image), 3).mean(axis=2), side_px)
    shade = 150 + 105 * np.rint(grey / 255 * shades) / shades
    return np.repeat(shade[..., None], 3, axis=2).astype(np.uint8)
