"""Figures of `13_error_analysis`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, style
from ssdedu.errors import KINDS, Diagnosis
from ssdedu.evaluate import Evaluation, iou_px
from ssdedu.sample import Dataset, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Example", "confusion", "cumulative", "examples", "largest_missed", "paired_bars", "surest"]

_SHADES = ("#DDDDDD", COLORS[0], COLORS[3], COLORS[4], "#555555")
_HATCHES = ("", "", "//", "..", "")
_WINDOW_PX = 64.0


class Example(NamedTuple):
    """A scene, a title, an object and a detection in it (boxes xyxy in pixels, or None), and a fact about them."""

    sample: Sample
    title: str
    object_px: Sequence[float] | None
    detection_px: Sequence[float] | None
    fact: str = ""


def surest(kind: str, diagnosis: Diagnosis, found: Sequence[Any], scenes: Dataset) -> Example:
    """The best-scored detection of a kind, with the object of highest IoU; found, scenes: those diagnosed.

    Raises ValueError where no detection is of that kind.
    """
    ranks = np.flatnonzero(diagnosis.kind == KINDS.index(kind))
    if not len(ranks):
        raise ValueError(f"no detection is of the kind {kind!r}")
    rank = ranks[0]
    sample = scenes[int(diagnosis.image[rank])]
    box = np.asarray(found[diagnosis.image[rank]].boxes_xyxy)[diagnosis.index[rank]]
    name = scenes.classes[diagnosis.labels[rank] - 1]
    iou = iou_px(np.broadcast_to(box, sample.boxes_xyxy.shape), sample.boxes_xyxy, 0)
    fact, thing = f"score {diagnosis.scores[rank]:.3f}, on nothing", None
    if iou.max(initial=0) > 0:
        thing = sample.boxes_xyxy[iou.argmax()] * _size_px(sample)
        where = f"IoU {iou.max():.3f} with a {scenes.classes[sample.labels[iou.argmax()] - 1]}"
        fact = fact.replace("on nothing", where)
    return Example(sample, f"{kind}: {name}", thing, box * _size_px(sample), fact)


def largest_missed(evaluation: Evaluation, scenes: Dataset) -> Example:
    """The largest object that no detection found; ValueError where all were found."""
    objects = evaluation.objects
    missed = np.flatnonzero(np.isnan(objects.score) & ~objects.difficult)
    if not len(missed):
        raise ValueError("no object was missed")
    row = missed[objects.side_px[missed].argmax()]
    sample = scenes[int(objects.image[row])]
    place = row - np.searchsorted(objects.image, objects.image[row])
    name = scenes.classes[objects.labels[row] - 1]
    box = sample.boxes_xyxy[place] * _size_px(sample)
    return Example(sample, f"missed: {name}", box, None, f"side {objects.side_px[row]:.1f} px")


def _size_px(sample: Sample) -> np.ndarray:
    height_px, width_px = sample.image.shape[:2]
    return np.array([width_px, height_px] * 2)


def examples(shown: Sequence[Example], columns: int = 3) -> Figure:
    """Cut-outs of scenes: the object dashed in white, the detection framed in vermilion."""
    import matplotlib.pyplot as plt

    rows = -(-len(shown) // columns)
    with style():
        size = (8, rows * 8 / columns * 1.1)
        fig, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        for ax, example in zip(axes.flat, shown, strict=False):
            _cut_out(ax, example)
    return fig


def _cut_out(ax: Axes, example: Example) -> None:
    image = example.sample.image
    height_px, width_px = image.shape[:2]
    ax.imshow(image, extent=(0, width_px, height_px, 0), interpolation="nearest")
    boxes = [np.array(b, float) for b in (example.object_px, example.detection_px) if b is not None]
    for box, color, dash in ((example.detection_px, COLORS[1], "-"), (example.object_px, "white", DASHES[1])):
        if box is not None:
            _outline(ax, box, color, dash)
    low, high = np.min([b[:2] for b in boxes], 0), np.max([b[2:] for b in boxes], 0)
    side = min(max(_WINDOW_PX, *(high - low + 8)), width_px, height_px)
    corner = np.clip((low + high - side) / 2, 0, np.array([width_px, height_px]) - side)
    ax.set(xlim=(corner[0], corner[0] + side), ylim=(corner[1] + side, corner[1]), title=example.title)


def _outline(ax: Axes, box_px: Sequence[float], color: str, dash: Any) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box_px
    for edge, line, width in (("black", "-", 5.0), (color, dash, 2.6)):
        shape = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=edge, linestyle=line)
        shape.set(linewidth=width, label=color if edge != "black" else "")
        ax.add_patch(shape)


def cumulative(
    shares: np.ndarray, recalls: Mapping[str, np.ndarray], num_objects: int, longest: float = 4
) -> Figure:
    """Shares (D, 5) of the kinds and named recalls (D,) over the number of detections, as the paper's Fig. 3.

    The number is in units of the number of objects, up to `longest`, on a scale of powers of two.
    """
    import matplotlib.pyplot as plt

    last = min(len(shares), round(longest * num_objects))
    rank = np.unique(np.geomspace(num_objects / 16, last, 60).round().astype(int))
    with style():
        fig, ax = plt.subplots(figsize=(9, 4.4), layout="constrained")
        x = rank / num_objects
        bands = ax.stackplot(x, shares[rank - 1].T, colors=_SHADES, labels=KINDS[:5], linewidth=0)
        for band, hatch in zip(bands, _HATCHES, strict=True):
            band.set(hatch=hatch, edgecolor="white")
        for (name, recall), dash in zip(recalls.items(), ("-", DASHES[1]), strict=False):
            ax.plot(x, recall[rank - 1], color=COLORS[1], linestyle=dash, label=name)
        ticks = [t for t in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if t <= longest]
        ax.set(xscale="log", xlim=(x[0], x[-1]), ylim=(0, 1), ylabel="share of detections, or recall")
        ax.set_xlabel("detections kept, best first, for each object")
        ax.set_xticks(ticks, [f"{t:g}" if t >= 1 else f"1/{round(1 / t)}" for t in ticks])
        ax.minorticks_off()
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=2.4)
    return fig


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """A confusion matrix (C, C) as numbers in a grid; what is neither right nor zero is shaded by its size."""
    import matplotlib.pyplot as plt

    wrong = matrix.astype(float)
    np.fill_diagonal(wrong, 0)
    with style():
        fig, ax = plt.subplots(figsize=(8, 5.6), layout="constrained")
        ax.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1.0, wrong.max()) * 1.6, aspect="auto")
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                weight = "bold" if row == column else "normal"
                ax.text(column, row, f"{number:,}", ha="center", va="center", weight=weight)
        places = range(len(matrix))
        ax.set_xticks(places, ["nothing", *classes], rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(places, ["nothing", *classes])
        ax.set(xlabel="what the best detection says", ylabel="what is there")
        ax.tick_params(length=0)
    return fig


def paired_bars(
    panels: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[Sequence[str]]
) -> Figure:
    """A panel for each title: named series of shares as bars beside each other, over the named bins."""
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(
            1, len(panels), figsize=(9, 3.8), layout="constrained", squeeze=False, sharey=True
        )
        for ax, (title, series), bins in zip(axes[0], panels.items(), names, strict=True):
            for k, (name, values) in enumerate(series.items()):
                x = np.arange(len(bins)) + (k - (len(series) - 1) / 2) * 0.4
                ax.bar(
                    x, values, 0.38, color=COLORS[k], hatch=("//", "")[k % 2], edgecolor="white", label=name
                )
            ax.set_xticks(range(len(bins)), bins)
            ax.set(xlabel=title, ylim=(0, 1))
        axes[0][0].set_ylabel("share of the objects")
        fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig
