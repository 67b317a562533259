"""Exercises of `00_start_here`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "00_start_here"
Box = tuple[float, float, float, float]


def _keep_spec(scores: list[float], threshold: float) -> list[int]:
    kept = [i for i in range(len(scores)) if scores[i] > threshold]
    for end in range(len(kept), 1, -1):
        for k in range(end - 1):
            if scores[kept[k]] < scores[kept[k + 1]]:
                kept[k], kept[k + 1] = kept[k + 1], kept[k]
    return kept


def _keep_cases() -> Iterator[Case]:
    yield Case(([0.9, 0.7, 0.1], 0.5), "scores that are sorted already")
    yield Case(([0.2, 0.6, 0.95, 0.55], 0.5), "scores in no order")
    yield Case(([0.3, 0.5, 0.8], 0.5), "a score equal to the threshold")
    yield Case(([0.6, 0.8, 0.6], 0.1), "equal scores: the earlier index first")
    yield Case(([0.1, 0.2], 0.5), "where none remains")
    yield Case(([], 0.5), "no detection at all")


def keep_solution(scores: list, threshold: float) -> list:
    kept = [i for i, score in enumerate(scores) if score > threshold]
    return sorted(kept, key=lambda i: -scores[i])


def _keep_at_least(scores: list[float], threshold: float) -> list[int]:
    return sorted((i for i, s in enumerate(scores) if s >= threshold), key=lambda i: -scores[i])


def _keep_unsorted(scores: list[float], threshold: float) -> list[int]:
    return [i for i, s in enumerate(scores) if s > threshold]


def _keep_worst_first(scores: list[float], threshold: float) -> list[int]:
    return sorted((i for i, s in enumerate(scores) if s > threshold), key=lambda i: scores[i])


def _keep_ranks(scores: list[float], threshold: float) -> list[int]:
    return list(range(sum(s > threshold for s in scores)))


def _keep_values(scores: list[float], threshold: float) -> list[float]:
    return sorted((s for s in scores if s > threshold), reverse=True)


_KEEP_MUTANTS = (
    Mutant(_keep_at_least, "a score equal to the threshold is kept; asked is above it"),
    Mutant(_keep_unsorted, "the kept ones stay in their old order; the best comes first"),
    Mutant(_keep_worst_first, "the worst comes first"),
    Mutant(_keep_values, "the scores themselves are returned; asked are their indices"),
    Mutant(_keep_ranks, "the places in the sorted list are returned, not the indices into scores"),
)


def _pixels_spec(box: Box, width_px: int, height_px: int) -> list[float]:
    sides = [width_px, height_px, width_px, height_px]
    return [box[i] * sides[i] for i in range(4)]


def _pixels_cases() -> Iterator[Case]:
    yield Case(((0.25, 0.5, 0.75, 1.0), 128, 128), "a square image")
    yield Case(((0.1, 0.2, 0.3, 0.6), 500, 375), "an image wider than high")
    yield Case(((0.0, 0.0, 1.0, 1.0), 300, 400), "the whole of an upright image")


def pixels_solution(box: tuple, width_px: int, height_px: int) -> list:
    xmin, ymin, xmax, ymax = box
    return [xmin * width_px, ymin * height_px, xmax * width_px, ymax * height_px]


def _pixels_width_only(box: Box, width_px: int, height_px: int) -> list[Any]:
    return [v * width_px for v in box]


def _pixels_swapped(box: Box, width_px: int, height_px: int) -> list[Any]:
    return pixels_solution(box, height_px, width_px)


def _pixels_sizes(box: Box, width_px: int, height_px: int) -> list[Any]:
    x1, y1, x2, y2 = pixels_solution(box, width_px, height_px)
    return [x1, y1, x2 - x1, y2 - y1]


def _pixels_pairs(box: Box, width_px: int, height_px: int) -> list[Any]:
    return [box[0] * width_px, box[1] * width_px, box[2] * height_px, box[3] * height_px]


_PIXELS_MUTANTS = (
    Mutant(_pixels_width_only, "all four are multiplied by the width; y is a fraction of the height"),
    Mutant(_pixels_swapped, "width and height are exchanged"),
    Mutant(_pixels_sizes, "the last two are width and height; asked is the other corner"),
    Mutant(_pixels_pairs, "the order is taken to be xmin, xmax, ymin, ymax, but a corner comes as x, y"),
)


def _center_spec(box: Box) -> list[float]:
    return [box[0] + (box[2] - box[0]) / 2, box[1] + (box[3] - box[1]) / 2, box[2] - box[0], box[3] - box[1]]


def _center_cases() -> Iterator[Case]:
    yield Case(((0.0, 0.0, 1.0, 1.0),), "the whole image")
    yield Case(((0.22, 0.11, 0.66, 0.48),), "a lying box")
    yield Case(((-0.13, 0.55, 0.34, 1.27),), "a box that leaves the image")
    yield Case(((0.41, 0.43, 0.41, 0.77),), "a box without width")


def center_solution(box: tuple) -> list:
    xmin, ymin, xmax, ymax = box
    return [(xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin]


def _center_half_size(box: Box) -> list[Any]:
    cx, cy, w, h = center_solution(box)
    return [cx, cy, w / 2, h / 2]


def _center_difference(box: Box) -> list[Any]:
    x1, y1, x2, y2 = box
    return [(x2 - x1) / 2, (y2 - y1) / 2, x2 - x1, y2 - y1]


def _center_corner(box: Box) -> list[Any]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def _center_clipped(box: Box) -> list[Any]:
    return center_solution(tuple(min(max(v, 0.0), 1.0) for v in box))


_CENTER_MUTANTS = (
    Mutant(_center_half_size, "half the width and half the height are returned"),
    Mutant(_center_difference, "the centre is half the difference of the corners; it is half their sum"),
    Mutant(_center_corner, "the first two numbers are a corner, as in COCO's boxes; asked is the centre"),
    Mutant(_center_clipped, "the box is cut at the border of the image first; it may leave it"),
)


EXERCISES = (
    Exercise(
        "keep_above",
        NOTEBOOK,
        "the indices of the scores above a threshold, the best score first; equal scores in their order",
        against(_keep_spec, _keep_cases, _KEEP_MUTANTS),
        (
            "Two steps: which indices remain, and in which order?",
            "Collect i where scores[i] > threshold; `enumerate` gives index and score together.",
            "sorted(kept, key=lambda i: -scores[i]) puts the best first and leaves equal ones in their order.",
        ),
        keep_solution,
        _KEEP_MUTANTS,
    ),
    Exercise(
        "to_pixels",
        NOTEBOOK,
        "a box (xmin, ymin, xmax, ymax) in fractions of the image as the same corners in pixels",
        against(_pixels_spec, _pixels_cases, _PIXELS_MUTANTS),
        (
            "What is x a fraction of? And y?",
            "Multiply the x of both corners by the width, the y of both by the height.",
            "xmin, ymin, xmax, ymax = box takes the box apart; return a list of four products.",
        ),
        pixels_solution,
        _PIXELS_MUTANTS,
    ),
    Exercise(
        "to_center_form",
        NOTEBOOK,
        "a box (xmin, ymin, xmax, ymax) as (centre x, centre y, width, height)",
        against(_center_spec, _center_cases, _CENTER_MUTANTS),
        (
            "The centre lies in the middle of the two corners: a sum or a difference?",
            "Centre x = (xmin + xmax) / 2; the width is a difference.",
            "Return [(xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin].",
        ),
        center_solution,
        _CENTER_MUTANTS,
    ),
)
