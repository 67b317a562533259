"""Figures of `10_evaluation`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdedu.course.figures.common import COLORS, DASHES, image_axes, style
from ssdedu.evaluate import Curve, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "VERDICTS",
    "change_bars",
    "class_curves",
    "curve_steps",
    "ranked_boxes",
    "threshold_strip",
    "two_averages",
]

Box = Sequence[float]
VERDICTS = {1: "true", 0: "false", -1: "ignored"}
_MARKERS = {1: ("o", COLORS[0]), 0: ("X", COLORS[1]), -1: ("s", "#777777")}


def class_curves(evaluation: Evaluation, names: Sequence[str]) -> Figure:
    """Precision over recall: the named classes in colour, the other classes thin and grey."""
    import matplotlib.pyplot as plt

    named = dict(zip(names, zip(COLORS, DASHES, strict=True), strict=False))
    with style():
        fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
        for curve, ap in zip(evaluation.curves, evaluation.ap, strict=True):
            color, dash = named.get(curve.name, ("#BBBBBB", "-"))
            options: dict[str, Any] = {"color": color, "linestyle": dash, "drawstyle": "steps-pre"}
            if curve.name in named:
                options |= {"zorder": 3, "label": f"{curve.name}: AP {ap:.2f}"}
            else:
                options["linewidth"] = 1.2
            ax.plot(curve.recall, curve.precision, **options)
        ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05))
        ax.legend(loc="lower left")
    return fig


def ranked_boxes(
    objects_px: Mapping[str, Box], difficult: Sequence[str], detections_px: Sequence[Box], size_px: Box
) -> Figure:
    """Objects as filled boxes, difficult ones hatched, and numbered detections, best first; xyxy in pixels."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(9, 4.4), layout="constrained")
        image_axes(ax, *size_px)
        for name, box in objects_px.items():
            is_hard = name in difficult
            kind = {"facecolor": "white", "hatch": "///"} if is_hard else {"facecolor": "#BFD3E2"}
            label = "difficult object" if is_hard else "object"
            _outline(ax, box, edgecolor="#555555", linewidth=1.5, fill=True, label=label, **kind)
            if not is_hard:
                ax.text(box[2] - 2, box[3] - 2, name, ha="right", va="bottom", fontweight="bold")
        for rank, box in enumerate(detections_px, start=1):
            _outline(ax, box, edgecolor=COLORS[1], linewidth=2.5, fill=False, label="detection")
            x, y = (box[0], box[3]) if rank % 2 else (box[2], box[1])
            pad: dict[str, Any] = {"boxstyle": "circle,pad=0.15", "facecolor": COLORS[1], "linewidth": 0}
            ax.text(x, y, str(rank), ha="center", va="center", color="white", bbox=pad, zorder=5)
        handles = {p.get_label(): p for p in ax.patches if p.get_label()}
        fig.legend(handles=list(handles.values()), loc="outside lower center", ncols=3)
    return fig


def _outline(ax: Axes, box_px: Box, **options: Any) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box_px
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **options))


def curve_steps(recall: Sequence[float], precision: Sequence[float], marks: Sequence[int]) -> Figure:
    """A panel for each detection: the curve down to it, ending in its verdict; the last panel all and the envelope.

    recall, precision, marks: one entry for each detection, best first; marks 1 true, 0 false, -1 ignored.
    """
    import matplotlib.pyplot as plt

    columns = -(-(len(marks) + 1) // 2)
    with style():
        fig, axes = plt.subplots(
            2, columns, figsize=(9, 4.6), layout="constrained", sharex=True, sharey=True, squeeze=False
        )
        for ax in axes.flat[len(marks) + 1 :]:
            ax.axis("off")
        for last, ax in enumerate(axes.flat[: len(marks)]):
            _step_panel(ax, recall[: last + 1], precision[: last + 1], marks[last], f"{last + 1}: ")
        end = axes.flat[len(marks)]
        _step_panel(end, recall, precision, None, "")
        _envelope(end, recall, precision)
        end.set_title("best from here on")
        fig.supxlabel("recall", fontsize=13)
        fig.supylabel("precision", fontsize=13)
    return fig


def _step_panel(
    ax: Axes, recall: Sequence[float], precision: Sequence[float], mark: int | None, title: str
) -> None:
    ax.plot(recall, precision, color="#777777", marker=".", markersize=8, linewidth=1.5)
    if mark is not None:
        shape, color = _MARKERS[mark]
        ax.plot(recall[-1:], precision[-1:], shape, color=color, markersize=11, clip_on=False, zorder=4)
        ax.set_title(title + VERDICTS[mark])
    ax.set(xlim=(-0.05, 1), ylim=(0, 1.08), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def _envelope(ax: Axes, recall: Sequence[float], precision: Sequence[float]) -> None:
    """The best precision at each recall or a higher one, down to 0 beyond the last."""
    best = np.maximum.accumulate(np.asarray(precision)[::-1])[::-1]
    x, y = np.array([0, *recall, recall[-1], 1]), np.array([best[0], *best, 0, 0])
    ax.plot(x, y, color=COLORS[2], drawstyle="steps-pre", linewidth=3, zorder=3)


def two_averages(recall: Sequence[float], precision: Sequence[float]) -> tuple[Figure, dict[str, float]]:
    """The same curve read at 11 points and as an area; also returns both averages, read off what was drawn."""
    import matplotlib.pyplot as plt

    with style():
        fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
        for ax in (left, right):
            ax.plot(recall, precision, ".-", color="#777777", linewidth=1.5, markersize=9)
            ax.set(xlabel="recall", xlim=(-0.03, 1.03), ylim=(0, 1.08))
        left.set(ylabel="precision")
        levels = [j / 10 for j in range(11)]
        best = [max((p for r, p in zip(recall, precision, strict=True) if r >= x), default=0) for x in levels]
        left.stem(levels, best, linefmt=COLORS[0], markerfmt="o", basefmt=" ")
        areas = _bars(right, recall, precision)
        mean, area = sum(best) / len(best), sum(areas)
        left.set_title(f"11 points: mean height {mean:.4f}")
        right.set_title(f"area: {area:.4f}")
    return fig, {"11 points": mean, "area": area}


def _bars(ax: Axes, recall: Sequence[float], precision: Sequence[float]) -> list[float]:
    """Draw a bar as wide as each gain of recall and as high as the best precision from there on; their areas."""
    areas, before = [], 0.0
    for i, now in enumerate(recall):
        if now > before:
            height = max(precision[i:])
            bar = ax.bar(
                before, height, now - before, align="edge", color=COLORS[2], alpha=0.5, edgecolor="white"
            )
            areas.append(bar[0].get_width() * bar[0].get_height())
            before = now
    return areas


def change_bars(changes: Mapping[str, float]) -> Figure:
    """A bar for each named change of mAP, in points (hundredths), the first on top."""
    import matplotlib.pyplot as plt

    names, values = list(changes), list(changes.values())
    with style():
        fig, ax = plt.subplots(figsize=(9, 0.7 + 0.42 * len(names)), layout="constrained")
        colors = [COLORS[0] if value >= 0 else COLORS[1] for value in values]
        bars = ax.barh(range(len(names)), values, color=colors, height=0.65)
        ax.bar_label(bars, [f"{value:+.1f}" for value in values], padding=4, fontsize=12)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.axvline(0, color="black", linewidth=1)
        ax.set(xlabel="change of mAP (points)", xlim=(min([*values, 0]) * 1.18 - 1, max([*values, 0]) + 5))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    return fig


def threshold_strip(curve: Curve, thresholds: Sequence[float]) -> Figure:
    """A column for each score threshold: the ranked list, faint below it, and the point on the curve it leads to.

    The curve needs objects and a detection at or above each threshold.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, (lists, plots) = plt.subplots(
            2, len(thresholds), figsize=(9, 5.4), layout="constrained", squeeze=False, sharey="row"
        )
        for ax, below, threshold in zip(lists, plots, thresholds, strict=True):
            kept = int((curve.scores >= threshold).sum())
            _ranked_list(ax, curve, kept)
            ax.set_title(f"score ≥ {threshold:g}: {kept} kept")
            _point_panel(below, curve, kept)
        plots[0].set(ylabel="precision")
        handles, names = lists[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside lower center", ncols=len(names))
    return fig


def _ranked_list(ax: Axes, curve: Curve, kept: int, columns: int = 22) -> None:
    """A mark for each detection, in lines of text, and the line behind the last that is kept."""
    rank, marks = np.arange(len(curve.scores)), curve.true_positive * 1 - curve.ignored * 1
    for mark in (m for m in _MARKERS if m in marks):
        shape, color = _MARKERS[mark]
        options: dict[str, Any] = {"color": color, "markersize": 6, "markeredgewidth": 0}
        above, below = rank[(marks == mark) & (rank < kept)], rank[(marks == mark) & (rank >= kept)]
        ax.plot(above % columns, above // columns, shape, **options, label=VERDICTS[mark])
        ax.plot(below % columns, below // columns, shape, **options, alpha=0.3)
    column, row = kept % columns - 0.5, kept // columns - 0.5
    edge = [(columns - 0.5, row), (column, row)]
    if kept % columns:
        edge += [(column, row + 1), (-0.5, row + 1)]
    ax.plot(*zip(*edge, strict=True), color="black", linewidth=1.5)
    ax.set(xlim=(-0.7, columns - 0.3), ylim=(rank[-1] // columns + 0.7, -0.7))
    ax.axis("off")


def _point_panel(ax: Axes, curve: Curve, kept: int) -> None:
    """The curve, bold down to the last detection that is kept, which is marked, and its stairs."""
    recall, precision = curve.recall, curve.precision
    ax.plot(recall, precision, color="#777777", linewidth=1.5)
    _envelope(ax, recall.tolist(), precision.tolist())
    ax.plot(recall[:kept], precision[:kept], color="black", zorder=4)
    end = recall[kept - 1 : kept], precision[kept - 1 : kept]
    ax.plot(*end, "o", color="white", markeredgecolor="black", markeredgewidth=2.5, markersize=10, zorder=5)
    ax.set(xlabel="recall", xlim=(0, 1.03), ylim=(0, 1.08), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
