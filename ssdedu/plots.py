"""Pictures of training and detection: loss curve, precision-recall curves, detections beside the truth.

Figures are drawn without a display; colours are Okabe and Ito's, and dashes tell apart what colour does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssdedu.evaluate import Evaluation
from ssdedu.files import write_atomically
from ssdedu.sample import Sample, Truth

if TYPE_CHECKING:
    from ssdedu.detect import Detections

__all__ = [
    "COLORS",
    "draw_detections",
    "draw_truth",
    "gallery",
    "loss_curve",
    "pr_curves",
    "save",
    "write_picture",
]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00")
DASHES = ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.2,
}
_TRUTH_COLOR = "white"


def _figure(columns: int, rows: int, cell: float) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(columns * cell, rows * cell), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG and return its path; raises OSError, and leaves what was there, where it cannot."""
    return _write(figure, Path(path), 80, "png")


def _write(figure: Figure, path: Path, dpi: float, kind: str) -> Path:
    write_atomically(path, lambda file: figure.savefig(file, dpi=dpi, format=kind))
    return path


def _smooth(values: Sequence[float], width: int) -> np.ndarray:
    """Mean over the last `width` values."""
    sums = np.cumsum([0.0, *values])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - width)
    return (sums[stop] - sums[start]) / (stop - start)


def loss_curve(records: Sequence[Mapping[str, float]]) -> Figure:
    """Localization and confidence loss over the steps, from the records of `train.train`."""
    with mpl.rc_context(_STYLE):
        figure, (ax,) = _figure(1, 1, 5.5)
        steps = [r["step"] for r in records]
        for name, color, dash in zip(("confidence", "localization"), COLORS, DASHES, strict=False):
            values = [r[name] for r in records]
            ax.plot(steps, values, color=color, alpha=0.25, linewidth=1)
            ax.plot(steps, _smooth(values, 10), color=color, linestyle=dash, label=name)
        ax.set(xlabel="step", ylabel="loss per matched default box", ylim=(0, None))
        ax.legend(frameon=False)
    return figure


def _pr_curve(ax: Axes, evaluation: Evaluation, number: int) -> None:
    curve, ap = evaluation.curves[number], evaluation.ap[number]
    ax.plot(curve.recall, curve.precision, color=COLORS[0], drawstyle="steps-post")
    title = f"{curve.name}: no objects" if np.isnan(ap) else f"{curve.name}: AP {ap:.2f}"
    ax.set(title=title, xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")


def pr_curves(evaluation: Evaluation, columns: int = 4) -> Figure:
    """One precision-recall curve a class, with its average precision."""
    number = len(evaluation.classes)
    columns = min(columns, number)
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(columns, -(-number // columns), 3.2)
        for i, ax in enumerate(axes):
            if i < number:
                _pr_curve(ax, evaluation, i)
            else:
                ax.axis("off")
    return figure


def _outline(ax: Axes, box_px: np.ndarray, color: str, dash: str, text: str) -> None:
    x1, y1, x2, y2 = box_px
    shape = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="black", linewidth=3.4)
    ax.add_patch(shape)
    ax.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=dash, linewidth=2)
    )
    ink = "black" if color == _TRUTH_COLOR else "white"
    label: dict[str, Any] = {"color": ink, "fontsize": 9, "va": "bottom", "clip_on": True}
    ax.text(x1, y1, text, bbox={"facecolor": color, "pad": 1, "linewidth": 0}, **label)


def _show_image(ax: Axes, image: np.ndarray, title: str) -> np.ndarray:
    """Draw the image and return (W, H, W, H), which turns fractions into pixels."""
    height_px, width_px = image.shape[:2]
    ax.imshow(image, extent=(0, width_px, height_px, 0))
    ax.set_title(title, fontsize=11)
    ax.axis("off")
    return np.array([width_px, height_px, width_px, height_px])


def draw_truth(
    ax: Axes, image: np.ndarray, truth: Truth, classes: Sequence[str], title: str = "truth"
) -> None:
    """An image with its objects, each in a white frame."""
    scale = _show_image(ax, image, title)
    for box, label in zip(truth.boxes_xyxy, truth.labels, strict=True):
        _outline(ax, box * scale, _TRUTH_COLOR, "-", classes[label - 1])


def draw_detections(
    ax: Axes, image: np.ndarray, found: Detections, classes: Sequence[str], title: str = "detections"
) -> None:
    """An image with its detections, colour and dash by class, the score beside the name."""
    scale = _show_image(ax, image, title)
    for box, score, label in zip(found.boxes_xyxy, found.scores, found.labels, strict=True):
        number = int(label) - 1
        color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        _outline(ax, box.numpy() * scale, color, dash, f"{classes[number]} {float(score):.2f}")


def gallery(
    samples: Sequence[Sample], found: Sequence[Detections], classes: Sequence[str], score: float = 0.5
) -> Figure:
    """Pairs of pictures, the truth and beside it the detections above `score`, two pairs a row."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(4, -(-len(samples) // 2), 3.0)
        for ax in axes:
            ax.axis("off")
        for i, (sample, detections) in enumerate(zip(samples, found, strict=True)):
            draw_truth(axes[2 * i], sample.image, sample.truth, classes)
            draw_detections(
                axes[2 * i + 1], sample.image, detections.above(score), classes, f"detections > {score:g}"
            )
    return figure


def write_picture(path: str | Path, image: np.ndarray, found: Detections, classes: Sequence[str]) -> Path:
    """Write an image (H, W, 3) with its detections drawn in, as a PNG or JPEG file.

    In the image's own size, enlarged where its longer side has less than 480 px.
    """
    height_px, width_px = image.shape[:2]
    figure = Figure(figsize=(width_px / 100, height_px / 100), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    draw_detections(ax, image, found, classes, title="")
    ax.set(xlim=(0, width_px), ylim=(height_px, 0))
    dpi = max(100, 100 * 480 / max(width_px, height_px))
    return _write(figure, Path(path), dpi, Path(path).suffix.lstrip(".").lower())
