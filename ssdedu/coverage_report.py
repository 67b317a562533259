"""`ssdedu priors NAME --fit FOLDER`: how a detector's default boxes fit a data set, as text, picture and Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssdedu import priors
from ssdedu.coverage import Bin, Coverage
from ssdedu.coverage_figure import picture
from ssdedu.coverage_verdict import verdict
from ssdedu.datasets.voc_folder import FolderLike, find_sources
from ssdedu.files import write_atomically
from ssdedu.priors import Config
from ssdedu.priors_fit import Fit, Fitted, check_threshold, fit_dataset
from ssdedu.splits import read_folder

__all__ = ["FILES", "fit_folders", "picture", "report", "source", "verdict"]

FILES = ("fit.txt", "fit.png", "priors.py", "priors.json")
IDLE = 0.01  # a map that is best for a smaller share of the objects is hardly needed
_WORST, _SHOWN_CLASSES = 3, 10


def fit_folders(
    config: Config,
    folders: Sequence[FolderLike],
    out: str | Path,
    split: str | None = None,
    threshold: float = 0.5,
    skip_bad: bool = False,
) -> str:
    """Measure a description on VOC-layout folders; write FILES to `out`, return the text.

    priors.py has the suggestions as Python, priors.json the one with other sides for `ssdedu train --priors`.

    split: of each folder; None takes trainval, else train, else all images: those that a detector trains on. Raises
    ValueError as `VOCFolder` does; skip_bad leaves broken objects and images out and lists them.
    """
    check_threshold(threshold)
    pairs = [(folder, split or _training_split(folder)) for folder in folders]
    dataset = read_folder(pairs, None, skip_bad)
    title = " + ".join(f"{folder}{f' ({name})' if name else ''}" for folder, name in pairs)
    found = fit_dataset(dataset, config, threshold, title)
    text, figure, out = report(found), picture(found.before, found.after), Path(out)
    write_atomically(out / FILES[0], f"{text}\n".encode())
    write_atomically(out / FILES[1], lambda file: figure.savefig(file, format="png", dpi=100))
    write_atomically(out / FILES[2], source(found).encode())
    write_atomically(out / FILES[3], json.dumps(found.best.to_dict(), indent=1).encode())
    return text


def _training_split(folder: FolderLike) -> str | None:
    lists = find_sources(folder, None)[0].folder.root / "ImageSets" / "Main"
    return next((name for name in ("trainval", "train") if (lists / f"{name}.txt").is_file()), None)


def source(found: Fit) -> str:
    """The suggestions as Python source: `config` with other sides, `config_ratio_3` with ratio 3 as well."""
    name = found.before.config.name
    what = f"Other sides for {name}" if found.after else f"{name} as it is: no other sides fit better"
    head = (
        f"# {what}, from `ssdedu priors {name} --fit`.\n"
        "# ssdedu.model.SSD(config, num_classes, base) is a network for it. Published weights have learned other\n"
        "# default boxes; with ratio 3 on more maps they do not even have the shape.\n"
    )
    _, _, wide = priors.as_python(found.ratio_3.config, "config_ratio_3").partition("\n\n")
    return f"{head}{priors.as_python(found.best)}\n{wide}"


def report(found: Fit) -> str:
    """All numbers as plain text: coverage, matching, maps, the worst bins, presets, suggestion and a verdict."""
    parts = [
        _overview(found),
        _maps(found.before),
        _classes(found),
        _worst(found.before),
        _presets(found),
        _suggestion(found),
        [verdict(found)],
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def _overview(found: Fit) -> list[str]:
    c = found.before
    config, objects = c.config, c.num_objects
    missed = ~c.covered
    hopeless = int((missed & (c.reachable < c.threshold)).sum())
    rows = [
        ("covered: a default box of this IoU or more", int(c.covered.sum())),
        ("not covered: no default box reaches its size and shape at any place", hopeless),
        ("not covered: only because of its place between the default boxes", int(missed.sum()) - hopeless),
        ("without a default box after SSD's matching", int((c.positives == 0).sum())),
        ("best default box went to another object in SSD's matching", int(c.outbid.sum())),
        ("left out if a plain threshold were the matching rule", int(c.left_out.sum())),
    ]
    return [
        f"{config.name}: input {config.width_px} x {config.height_px} px, {config.num_boxes:,} default boxes",
        f"{found.title}: {c.num_images:,} images, {objects:,} objects "
        f"({int(c.difficult.sum()):,} difficult; they count like all others, as in training)",
        *_skipped(c),
        "",
        f"{f'objects, at IoU {c.threshold:g}':72}{'number':>9}{'share':>8}",
        *(f"{what:72}{number:9,}{number / objects:8.1%}" for what, number in rows),
        f"{'mean IoU of the best default boxes':72}{'':9}{c.mean_iou:8.3f}",
    ]


def _skipped(c: Coverage) -> list[str]:
    if not c.skipped:
        return []
    more = f"; and {len(c.skipped) - 5:,} more" if len(c.skipped) > 5 else ""
    return [f"{len(c.skipped):,} degenerate boxes were skipped: {'; '.join(c.skipped[:5])}{more}"]


def _maps(c: Coverage) -> list[str]:
    lines = [
        f"{'map':12}{'cells':>9}{'sides (px)':>14}{'boxes':>8}{'positives':>11}{'an image':>10}{'best for':>10}"
    ]
    numbers = zip(c.config.maps, c.positives_per_map.tolist(), c.objects_per_map.tolist(), strict=True)
    for m, positives, objects in numbers:
        sides = " ".join(
            f"{side:.4g}" for side in priors.cell_shapes_px(m, c.config.whole_px)[:, 0][: _squares(m)]
        )
        counts = (
            f"{m.num_boxes:8,}{positives:11,}{positives / c.num_images:10.2f}{objects / c.num_objects:10.1%}"
        )
        lines.append(f"{m.name:12}{f'{m.height}x{m.width}':>9}{sides:>14}{counts}")
    total = int(c.positives_per_map.sum())
    lines.append(f"{'sum':35}{c.config.num_boxes:8,}{total:11,}{total / c.num_images:10.2f}{1:10.1%}")
    idle = [m.name for m, n in zip(c.config.maps, c.objects_per_map, strict=True) if n < IDLE * c.num_objects]
    return (
        [*lines, f"hardly needed, best for less than {IDLE:.0%} of the objects: {', '.join(idle)}"]
        if idle
        else lines
    )


def _squares(m: priors.FeatureMap) -> int:
    return 1 + (m.max_px is not None)


def _classes(found: Fit) -> list[str]:
    rows = found.by_class()
    width = max(12, *(len(row.name) for row in rows))
    head = f"{'class':{width}}{'objects':>9}{'covered':>9}{'by other sides':>16}"
    lines = [f"{r.name:{width}}{r.objects:9,}{r.share:9.1%}{r.other:16.1%}" for r in rows[:_SHOWN_CLASSES]]
    rest = rows[_SHOWN_CLASSES:]
    more = [f"and {len(rest)} more classes, each {rest[0].share:.1%} or more as it is"] if rest else []
    return [head, *lines, *more]


def _worst(c: Coverage) -> list[str]:
    if c.covered.all():
        return ["Every object is covered."]
    lines = ["Where most of the uncovered objects are, each with the worst of them:"]
    for what, values, found in (
        ("size sqrt(w h)", c.sizes_px, c.by_size()),
        ("ratio w / h", c.ratios, c.by_ratio()),
    ):
        lines.append(f"  {what:24}{'objects':>9}{'covered':>9}   worst")
        lines += [
            f"  {_bin_line(c, values, b, ' px' if 'size' in what else '')}" for b in _most_missed(found)
        ]
    return lines


def _most_missed(found: Sequence[Bin]) -> list[Bin]:
    missed = [b for b in found if b.covered < b.objects]
    return sorted(missed, key=lambda b: b.covered - b.objects)[:_WORST]


def _bin_line(c: Coverage, values: np.ndarray, b: Bin, unit: str) -> str:
    inside = np.flatnonzero((values >= b.low) & (values < b.high))
    worst = inside[c.best.iou[inside].argmin()]
    size = (c.boxes_xyxy[worst, 2:] - c.boxes_xyxy[worst, :2]) * (c.config.width_px, c.config.height_px)
    example = f"{size[0]:.0f} x {size[1]:.0f} px, IoU {c.best.iou[worst]:.2f}, in {c.names[c.image[worst]]}"
    return f"{_span(b) + unit:24}{b.objects:9,}{b.share:9.1%}   {example}"


def _span(b: Bin) -> str:
    return f"{b.low:.3g} to {b.high:.3g}"


def _presets(found: Fit) -> list[str]:
    lines = [f"{'other descriptions':24}{'input':>9}{'boxes':>9}{'covered':>9}{'mean IoU':>10}"]
    for config, share, mean in found.presets:
        here = " *" if config == found.before.config else ""
        size = f"{config.width_px}x{config.height_px}"
        lines.append(f"{config.name + here:24}{size:>9}{config.num_boxes:9,}{share:9.1%}{mean:10.3f}")
    return [*lines, "* the one measured above"]


def _suggestion(found: Fit) -> list[str]:
    before, after = found.before, found.after
    lines = [
        "Other sides for the same maps (searched on at most 3,000 of the objects, measured on all):",
        f"{'':24}{'boxes':>9}{'covered':>9}{'mean IoU':>10}   sides (px)",
        _choice("as it is", Fitted(before.config, before.share_covered, before.mean_iou)),
    ]
    if after:
        lines.append(_choice("other sides", Fitted(after.config, after.share_covered, after.mean_iou)))
    else:
        lines.append("no other sides were found that fit better")
    return [*lines, _choice("and ratio 3 everywhere", found.ratio_3)]


def _choice(name: str, fitted: Fitted) -> str:
    maps = fitted.config.maps
    beyond = "" if maps[-1].max_px is None else f" ({maps[-1].max_px:g})"
    sides = " ".join(f"{m.min_px:g}" for m in maps) + beyond
    return f"{name:24}{fitted.config.num_boxes:9,}{fitted.share:9.1%}{fitted.mean_iou:10.3f}   {sides}"
