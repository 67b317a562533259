"""Figures of `02_default_boxes`: each function returns a figure for `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssdedu import priors
from ssdedu.course.figures.common import COLORS, DASHES, curves, frame, image_axes, pixel_ticks, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ssdedu.sample import Sample

__all__ = ["best_fits", "cell_strip", "curves", "matched_strip", "reach_map"]

Box = Sequence[float]


def best_fits(objects_px: Mapping[str, Box], fits_px: Mapping[str, Box], size_px: int = 300) -> Figure:
    """Named objects (black, dashed) and the named default boxes that fit them; boxes cxcywh in pixels."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
        image_axes(ax, size_px, size_px, 12, 12)
        for color, (label, box) in zip(COLORS, fits_px.items(), strict=False):
            frame(ax, box, color, linewidth=4, label=label)
        for name, box in objects_px.items():
            frame(ax, box, "black", (0, (3, 2)), linewidth=2, label="object")
            ax.text(box[0], box[1], name, ha="center", va="center")
        handles = {p.get_label(): p for p in ax.patches if p.get_label()}
        ax.legend(handles=list(handles.values()), loc="center left", bbox_to_anchor=(1.02, 0.5))
    return fig


def cell_strip(
    config: priors.Config, cells: Sequence[tuple[int, int, int]]
) -> tuple[Figure, dict[str, float | str]]:
    """A panel for each (map, row, column): all centres of the map and the default boxes of that cell.

    Also returns facts, read off what was drawn.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, axes = plt.subplots(1, len(cells), figsize=(9, 4), layout="constrained", squeeze=False)
        for ax, (level, row, column) in zip(axes[0], cells, strict=True):
            _cell_panel(ax, config, config.maps[level], row, column)
        handles = {p.get_label(): p for ax in axes[0] for p in ax.patches if p.get_label()}
        fig.legend(
            handles=list(handles.values()), loc="outside lower center", ncols=len(handles), handlelength=3
        )
    facts: dict[str, float | str] = {}
    for ax in axes[0]:
        facts |= _panel_facts(ax)
    return fig, facts


def _cell_panel(
    ax: Axes, config: priors.Config, feature_map: priors.FeatureMap, row: int, column: int
) -> None:
    width, height = config.width_px, config.height_px
    size = np.array([width, height])
    centers = priors.cell_centers(feature_map, width, height) * size
    boxes_px = priors.cell_boxes(feature_map, config)[row, column] * np.tile(size, 2)
    image_axes(ax, width, height, width / 10, width * 0.36)
    dot = 1 + 20 / feature_map.height
    ax.plot(*centers.reshape(-1, 2).T, "o", color="#888888", markersize=dot, markeredgewidth=0, zorder=1)
    names = ["1", "1'", *(f"{r:g} and 1/{r:g}" for r in feature_map.aspect_ratios for _ in "ab")]
    kinds = [0, 1, *(2 + i // 2 for i in range(len(boxes_px) - 2))]
    for box, name, kind in zip(boxes_px, names, kinds, strict=True):
        frame(ax, box, COLORS[kind], DASHES[kind], label=f"ratio {name}")
    ax.set_title(f"{feature_map.name}, cell ({row}, {column})")


def _panel_facts(ax: Axes) -> dict[str, float | str]:
    """What a panel of the strip shows: dots, boxes, the widest of them."""
    name = ax.get_title().split(",")[0]
    _, *drawn = ax.patches
    widths = [p.get_width() for p in drawn]  # type: ignore[attr-defined]
    return {
        f"{name}: centres": len(ax.lines[0].get_xydata()),  # type: ignore[arg-type]
        f"{name}: boxes of one cell": len(drawn),
        f"{name}: narrowest and widest (px)": f"{min(widths):.1f}, {max(widths):.1f}",
    }


def matched_strip(
    scene: Sample, configs: Mapping[str, priors.Config], names: Sequence[str]
) -> tuple[Figure, dict[str, str]]:
    """A panel for each description: the scene, its objects (dashed, named) and the default boxes matched by SSD's rule.

    Colours and dashes tell the maps apart; the bold box with a star is the object's own. Also returns facts: the
    positives of each object.
    """
    import matplotlib.pyplot as plt

    facts = {}
    with style():
        fig, axes = plt.subplots(1, len(configs), figsize=(9, 3.5), layout="constrained", squeeze=False)
        for ax, (title, config) in zip(axes[0], configs.items(), strict=True):
            counts = _matched_panel(ax, scene, config, names)
            ax.set_title(title)
            listed = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
            facts[f"{title}: positives"] = listed
    return fig, facts


def _matched_panel(ax: Axes, scene: Sample, config: priors.Config, names: Sequence[str]) -> list[int]:
    import torch

    from ssdedu import boxes, matching

    default_boxes, objects = priors.default_boxes(config), torch.from_numpy(scene.boxes_xyxy)
    found = matching.match(objects, torch.from_numpy(scene.labels), default_boxes)
    overlaps = boxes.iou(objects, boxes.cxcywh_to_xyxy(default_boxes))
    own = set(matching.bipartite(overlaps[None])[0].tolist())
    level = np.repeat(range(len(config.maps)), [m.num_boxes for m in config.maps])
    width, height = config.width_px, config.height_px
    image_axes(ax, width, height, width / 8, width / 8)
    ax.imshow(scene.image, extent=(0, width, height, 0), alpha=0.45, interpolation="nearest")
    positives = (found.object_index >= 0).nonzero()[:, 0].tolist()
    for p in sorted(positives, key=own.__contains__):
        box, color = (
            (default_boxes[p] * default_boxes.new_tensor([width, height] * 2)).tolist(),
            COLORS[level[p]],
        )
        frame(ax, box, color, DASHES[level[p]], linewidth=3.5 if p in own else 1.2)
        if p in own:
            ax.plot(*box[:2], "*", color=color, markersize=14, markeredgecolor="white")
    for box, name in zip(boxes.xyxy_to_cxcywh(objects).tolist(), names, strict=True):
        frame(
            ax,
            [v * s for v, s in zip(box, (width, height) * 2, strict=True)],
            "black",
            (0, (3, 2)),
            linewidth=1.5,
        )
        ax.text(box[0] * width, (box[1] + box[3] / 2) * height + 4, name, ha="center", va="top")
    return [int((found.object_index == g).sum()) for g in range(len(names))]


def reach_map(
    sides_px: Sequence[float],
    reached: np.ndarray,
    examples_px: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Share of positions (rows: object heights, columns: widths) where some default box fits, as shades.

    examples_px: named objects (width, height), each marked with a cross.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=(7, 5), layout="constrained")
        mesh = ax.pcolormesh(sides_px, sides_px, reached, cmap="cividis", vmin=0, vmax=1)
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="object width (px)",
            ylabel="object height (px)",
            aspect="equal",
        )
        for axis in (ax.xaxis, ax.yaxis):
            pixel_ticks(axis, sides_px)
        for name, (width, height) in (examples_px or {}).items():
            _mark(ax, name, width, height, "left" if width < max(sides_px) / 2 else "right")
        fig.colorbar(mesh, ax=ax, label="share of positions reached")
    return fig


def _mark(ax: Axes, name: str, x: float, y: float, ha: str) -> None:
    """A cross with a name beside it, haloed: legible on light and dark."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3.5, foreground="white")]
    ax.plot(x, y, "x", color="black", markersize=9, markeredgewidth=2.5, path_effects=halo)
    away = (10 if ha == "left" else -10, 0)
    ax.annotate(name, (x, y), away, textcoords="offset points", ha=ha, va="center", path_effects=halo)
