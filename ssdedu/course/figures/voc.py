"""Figures of `14_voc`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ssdedu.course.figures.common import COLORS, draw_found, style
from ssdedu.sample import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ssdedu.detect import Detections

__all__ = ["Speed", "found_in", "measured_run", "score_bars", "speed_accuracy"]


class Speed(NamedTuple):
    """One line of a table of detectors: mAP in percent, frames per second at a batch size, boxes an image."""

    name: str
    map_percent: float
    fps: float
    batch: int
    boxes: int


def speed_accuracy(rows: Sequence[Speed]) -> Figure:
    """mAP over frames per second (logarithmic), a marker a row: full at batch 1, hollow at larger batches.

    Rows of one name are joined, and the batch named at both ends. Names that begin with SSD stand out.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
        for name in dict.fromkeys(row.name for row in rows):
            _detector(ax, [row for row in rows if row.name == name])
        ax.set(xscale="log", xlabel="frames per second (logarithmic)", ylabel="mAP on VOC2007 test (%)")
        speeds, values = [row.fps for row in rows], [row.map_percent for row in rows]
        ax.set(xlim=(min(speeds) * 0.8, max(speeds) * 2), ylim=(min(values) - 5, max(values) + 6))
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= max(speeds) * 2]
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        ax.set_xlim(min(speeds) * 0.8, max(speeds) * 2)
    return fig


def _detector(ax: Axes, rows: Sequence[Speed]) -> None:
    ours = rows[0].name.startswith("SSD")
    color, marker = (COLORS[1], "o") if ours else (COLORS[0], "s")
    speeds, values = [row.fps for row in rows], [row.map_percent for row in rows]
    ax.plot(speeds, values, color=color, linewidth=1.5)
    for row in rows:
        face = color if row.batch == 1 else "white"
        ax.plot(row.fps, row.map_percent, marker, color=color, markerfacecolor=face, markersize=10)
    if len(rows) > 1:
        for row, x, side in ((rows[0], -10, "right"), (rows[-1], 10, "left")):
            options: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": side}
            ax.annotate(f"batch {row.batch}", (row.fps, row.map_percent), (x, 0), **options)
    text = f"{rows[0].name}\n{rows[0].boxes:,} boxes"
    weight = "bold" if ours else "normal"
    place = (speeds[0], values[0])
    font: dict[str, Any] = {"color": color, "fontweight": weight}
    y, side = (9, "bottom") if ours else (-9, "top")  # above its row, clear of a neighbour's batch size
    ax.annotate(text, place, (-4, y), textcoords="offset points", va=side, **font)


def found_in(
    samples: Sequence[Sample], found: Sequence[Detections], classes: Sequence[str], width: float = 8
) -> Figure:
    """Photos in a row of that width in inches, equally high, each with its detections and its size below.

    A detection is the name of its class and a frame.
    """
    import matplotlib.pyplot as plt

    shapes = [sample.image.shape for sample in samples]
    ratios = [shape[1] / shape[0] for shape in shapes]
    with style():
        fig, axes = plt.subplots(
            *(1, len(samples)),
            figsize=(width, 0.6 + (width - 0.3) / sum(ratios)),
            width_ratios=ratios,
            squeeze=False,
            layout="constrained",
        )
        for ax, sample, detections, shape in zip(axes[0], samples, found, shapes, strict=True):
            draw_found(ax, sample.image, detections, classes)
            ax.set_title(f"{shape[1]} x {shape[0]} px", y=-0.04, va="top")
    return fig


def score_bars(values: Mapping[str, float]) -> Figure:
    """A bar for each named mAP in percent, the first on top and in another colour, the number beside it."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8.5, 0.9 + 0.5 * len(values)), layout="constrained")
        colors = [COLORS[0], *[COLORS[1]] * (len(values) - 1)]
        bars = ax.barh(range(len(values)), list(values.values()), color=colors, height=0.65)
        ax.bar_label(bars, [f"{value:.0f}" for value in values.values()], padding=4, fontsize=13)
        ax.set_yticks(range(len(values)), list(values))
        ax.invert_yaxis()
        ax.set(xlabel="mAP (%)", xlim=(0, 108))
        ax.tick_params(axis="y", length=0)
    return fig


def measured_run(
    result: Mapping[str, Any], reference: Mapping[str, float] | None = None, reference_name: str = "reference"
) -> Figure:
    """Left the loss of a run over its steps, in its two parts; right the AP of each class, highest on top.

    result: what `benchmarks/voc_run.py` writes, with `log`, `ap` and `mean_ap`. reference: AP of the same classes by
    another detector, a diamond each.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, (left, right) = plt.subplots(
            1, 2, figsize=(9, 5.6), width_ratios=(1, 1.15), layout="constrained"
        )
        _loss_parts(left, result["log"])
        names = sorted(result["ap"], key=lambda name: -result["ap"][name])
        _class_bars(right, names, result["ap"], result["mean_ap"], inside=reference is not None)
        if reference is not None:
            _diamonds(right, [reference[name] for name in names], reference_name)
        right.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return fig


def _loss_parts(ax: Axes, log: Sequence[Mapping[str, float]]) -> None:
    steps = [record["step"] for record in log]
    for part, color, dash in (("confidence", COLORS[0], "-"), ("localization", COLORS[1], "--")):
        ax.plot(steps, [record[part] for record in log], dash, color=color, linewidth=2, label=part)
    ax.set(xlabel="step", ylabel="loss per matched default box", ylim=(0, None))
    ax.legend()


def _class_bars(
    ax: Axes, names: Sequence[str], ap: Mapping[str, float], mean_ap: float, inside: bool
) -> None:
    """inside: the numbers stand at the foot of the bars, or behind their ends."""
    values = [100 * ap[name] for name in names]
    bars = ax.barh(range(len(names)), values, color=COLORS[0], height=0.74)
    texts = [f"{value:.0f}" for value in values]
    if inside:
        for row, text in enumerate(texts):
            ax.text(1, row, text, color="white", fontsize=12, va="center_baseline")
    else:
        ax.bar_label(bars, texts, padding=3, fontsize=12)
    ax.axvline(100 * mean_ap, color=COLORS[1], linestyle="--", linewidth=2, label=f"mean {100 * mean_ap:.1f}")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="AP (%)", xlim=(0, 105))


def _diamonds(ax: Axes, values: Sequence[float], name: str) -> None:
    marks = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 8}
    ax.plot([100 * value for value in values], range(len(values)), "D", **marks, label=name)  # type: ignore[arg-type]
