"""What can be wrong with a VOC folder, what to do about each, and the report of `ssdedu check-data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np

from ssdedu.sample import Truth

__all__ = [
    "BACKGROUND",
    "KINDS",
    "AnnotationError",
    "Defect",
    "Problem",
    "Report",
    "check_option",
    "raise_first",
    "summarize",
]

BACKGROUND = frozenset({"background", "_background_", "__background__"})  # no names for a class of objects

# kind of finding: what is lost by it (the object, the image, nothing), and what the user can do about it
KINDS: dict[str, tuple[Literal["image", "object", "note"], str]] = {
    "unreadable XML": ("image", "Repair the file or take it out of the data set."),
    "DTD or entity": (
        "image",
        "Delete the <!DOCTYPE ...> part; VOC files have none, and attacks hide in it.",
    ),
    "unknown encoding": ("image", "Save the file as UTF-8."),
    "not an annotation": (
        "image",
        "VOC has <object> elements directly in <annotation>; convert the file to that form or take it out.",
    ),
    "bad size": ("image", "Write the image's width and height in whole pixels, or delete <size>."),
    "size mismatch": (
        "image",
        "Correct <size> if the boxes fit this image, else put back the image that was annotated.",
    ),
    "ambiguous EXIF": (
        "image",
        'Look whether the boxes fit the photo as stored (then read with exif="ignore") or as turned by its '
        'EXIF tag (exif="apply"), or save the photo upright without the tag.',
    ),
    "missing annotation": ("image", "Add the XML file or take the id out of the split."),
    "missing image": ("image", "Add the image or take the annotation out; the file stem must be the same."),
    "several images": ("image", "Keep the one that was annotated; rename or delete the others."),
    "broken image": ("image", "Get the file again, or take it out of the data set."),
    "no name": ("object", "Give the object exactly one <name> with the name of its class."),
    "background object": ("object", "Delete the object or rename its class; background is what has no box."),
    "unknown class": ("object", "Correct the name or add it to `classes`."),
    "no box": ("object", "Give the object exactly one <bndbox> with xmin, ymin, xmax, ymax, or delete it."),
    "bad number": ("object", "Write the coordinate as one plain number in pixels, like 12 or 12.5."),
    "bad difficult": ("object", "Write 0 or 1."),
    "inverted box": ("object", "Swap the two if they were exchanged, else draw the box again or delete it."),
    "zero-area box": ("object", "Draw the box again or delete the object."),
    "box outside": (
        "object",
        "Check that <size> and the image belong to this box; draw it again or delete it.",
    ),
    "clipped box": ("note", "It was cut at the border; check that the image belongs to the box."),
    "image without annotation": ("note", "Not read; add an XML without objects if it shows none."),
    "repeated id": ("note", "It was read once."),
    "similar class names": (
        "note",
        "They count as different classes; use one spelling if they are the same.",
    ),
}


@dataclass(frozen=True)
class Problem:
    """One finding: its kind (a key of `KINDS`), the file, what was found, and where in the file."""

    kind: str
    file: str
    what: str
    where: str = ""

    @property
    def scope(self) -> str:
        """What cannot be used because of it: "image", "object", or nothing ("note")."""
        return KINDS[self.kind][0]

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        return KINDS[self.kind][1]

    @property
    def place(self) -> str:
        """The file and where in it."""
        return f"{self.file}: {self.where}" if self.where else self.file

    def __str__(self) -> str:
        return f"{self.place}: {self.what}. {self.remedy}"


class AnnotationError(ValueError):
    """A file or object that cannot be used; the message names the file, the place and the remedy."""

    def __init__(self, problem: Problem | str, hint: str = "") -> None:
        super().__init__(f"{problem} {hint}".strip())
        self.problem = problem if isinstance(problem, Problem) else None


class Defect(Exception):
    """A finding on its way to where its file and object are known; never leaves this package."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind

    def at(self, file: str | PathLike[str], where: str = "") -> Problem:
        """The finding with its place."""
        return Problem(self.kind, str(file), str(self), where)


def raise_first(problems: tuple[Problem, ...] | list[Problem], hint: str = "") -> None:
    """Raises `AnnotationError` for the first finding that is more than a note."""
    for problem in problems:
        if problem.scope != "note":
            raise AnnotationError(problem, hint)


def check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")


@dataclass(frozen=True)
class Report:
    """What a VOC folder holds and everything found in it; `str(report)` is the text for people.

    The counts are of what can be used. Per class: objects, difficult ones among them, images that show it.
    sides_px_range: smallest and largest image side; box_sides: the 0, 5, 50, 95 and 100 % points of
    sqrt(w * h), w and h fractions of the image (empty without boxes).
    """

    title: str
    classes: tuple[str, ...]
    num_images: int
    num_empty: int
    objects: tuple[int, ...]
    difficult: tuple[int, ...]
    images: tuple[int, ...]
    sides_px_range: tuple[int, int]
    box_sides: tuple[float, ...]
    problems: tuple[Problem, ...]

    @property
    def num_objects(self) -> int:
        """Objects that can be used."""
        return sum(self.objects)

    @property
    def num_difficult(self) -> int:
        """Difficult objects among them."""
        return sum(self.difficult)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Findings that cost an object or an image."""
        return tuple(problem for problem in self.problems if problem.scope != "note")

    @property
    def notes(self) -> tuple[Problem, ...]:
        """Findings that cost nothing but deserve a look."""
        return tuple(problem for problem in self.problems if problem.scope == "note")

    @property
    def ok(self) -> bool:
        """Whether everything could be read."""
        return not self.errors

    def __str__(self) -> str:
        return "\n".join([*_overview(self), "", *_findings(self)])


def summarize(
    title: str, classes: Sequence[str], truths: Sequence[Truth], problems: Iterable[Problem]
) -> Report:
    """Counts the objects of `truths` and puts them together with the findings."""
    counts = np.zeros((3, len(classes) + 1), int)  # objects, difficult, images; by label
    for truth in truths:
        np.add.at(counts[0], truth.labels, 1)
        np.add.at(counts[1], truth.labels[truth.difficult], 1)
        counts[2, np.unique(truth.labels)] += 1
    objects, difficult, images = (tuple(row[1:].tolist()) for row in counts)
    sides_px = [side for truth in truths for side in (truth.width_px, truth.height_px)] or [0]
    return Report(
        title=title,
        classes=tuple(classes),
        num_images=len(truths),
        num_empty=sum(len(truth) == 0 for truth in truths),
        objects=objects,
        difficult=difficult,
        images=images,
        sides_px_range=(min(sides_px), max(sides_px)),
        box_sides=_box_sides(truths),
        problems=tuple(problems),
    )


def _box_sides(truths: Sequence[Truth]) -> tuple[float, ...]:
    boxes_xyxy = np.concatenate([np.zeros((0, 4), np.float32), *(truth.boxes_xyxy for truth in truths)])
    if not len(boxes_xyxy):
        return ()
    sides = np.sqrt(np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1))
    return tuple(np.percentile(sides, [0, 5, 50, 95, 100]).tolist())


def _overview(report: Report) -> list[str]:
    lines = [
        report.title,
        f"{_count(report.num_images, 'image')} ({report.num_empty:,} without objects), "
        f"sides {report.sides_px_range[0]} to {report.sides_px_range[1]} px",
        f"{_count(report.num_objects, 'object')} ({report.num_difficult:,} difficult) "
        f"of {len(report.classes):,} classes",
    ]
    if report.box_sides:
        points = ", ".join(f"{side:.3f}" for side in report.box_sides)
        lines.append(f"box size sqrt(w * h), fraction of the image, at 0, 5, 50, 95, 100 %: {points}")
    width = max([len("class"), *map(len, report.classes)])
    lines += ["", f"{'class':{width}}  objects  difficult  images"]
    for name, *counts in zip(report.classes, report.objects, report.difficult, report.images, strict=True):
        lines.append(f"{name:{width}}  {counts[0]:7,}  {counts[1]:9,}  {counts[2]:6,}")
    return lines


def _findings(report: Report, limit: int = 20) -> list[str]:
    if not report.problems:
        return ["No problems found."]
    costs = Counter(problem.scope for problem in report.problems)
    lines = [
        f"Cannot be used: {_count(costs['image'], 'image')}, {_count(costs['object'], 'object')}. "
        f"To look at: {_count(costs['note'], 'note')}."
    ]
    for kind in KINDS:
        found = [problem for problem in report.problems if problem.kind == kind]
        if found:
            lines.append(f"\n{kind} ({found[0].scope}): {len(found):,}. {found[0].remedy}")
            lines += [f"  {problem.place}: {problem.what}" for problem in found[:limit]]
        if len(found) > limit:
            lines.append(f"  ... and {len(found) - limit:,} more")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
