"""Exercises of `10_evaluation`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ssdedu.course.exercise import Case, Exercise, Mutant, against
from ssdedu.evaluate import Curve, average_precision

__all__ = ["EXERCISES"]

NOTEBOOK = "10_evaluation"
Pairs = list[tuple[float, float]]
CAFFE = [0, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1]  # the hits of the ranked list in Caffe's own test, of 5 objects


def _marks_spec(owners: list[int], ious: list[float], difficult: list[bool]) -> list[int]:
    """Each detection looks back for an earlier hit of its object."""
    marks = []
    for i, (owner, iou) in enumerate(zip(owners, ious, strict=True)):
        earlier = [j for j in range(i) if owners[j] == owner and ious[j] >= 0.5]
        if iou < 0.5:
            marks.append(0)
        else:
            marks.append(-1 if difficult[owner] else int(not earlier))
    return marks


def _marks_cases() -> Iterator[Case]:
    yield Case(([0, 1], [0.9, 0.8], [False, False]), "two objects, each hit once")
    yield Case(([0, 0, 0], [0.6, 0.9, 0.8], [False]), "one object hit three times")
    yield Case(([0], [0.5], [False]), "an IoU of exactly one half")
    yield Case(([0, 0], [0.4, 0.8], [False]), "a poor box before a good one")
    yield Case(([0, 0, 1], [0.7, 0.7, 0.7], [True, False]), "a difficult object hit twice")
    yield Case(([0, 1], [0.3, 0.49], [True, False]), "nothing but poor boxes, one at a difficult object")
    yield Case(([], [], [False]), "no detection at all")


def marks_solution(owners: list, ious: list, difficult: list) -> list:
    taken, marks = set(), []
    for owner, iou in zip(owners, ious, strict=True):
        if iou < 0.5:
            marks.append(0)
        elif difficult[owner]:
            marks.append(-1)
        else:
            marks.append(0 if owner in taken else 1)
            taken.add(owner)
    return marks


def _marks_duplicates_true(owners: list[int], ious: list[float], difficult: list[bool]) -> list[int]:
    return [
        0 if iou < 0.5 else -1 if difficult[owner] else 1 for owner, iou in zip(owners, ious, strict=True)
    ]


def _marks_difficult_counted(owners: list[int], ious: list[float], difficult: list[bool]) -> list[int]:
    return marks_solution(owners, ious, [False] * len(difficult))


def _marks_difficult_false(owners: list[int], ious: list[float], difficult: list[bool]) -> list[int]:
    return [max(mark, 0) for mark in marks_solution(owners, ious, difficult)]


def _marks_strict(owners: list[int], ious: list[float], difficult: list[bool]) -> list[int]:
    return marks_solution(owners, [iou if iou > 0.5 else 0 for iou in ious], difficult)


def _marks_poor_takes(owners: list[int], ious: list[float], difficult: list[bool]) -> list[int]:
    taken: set[int] = set()
    marks = []
    for owner, iou in zip(owners, ious, strict=True):
        marks.append(0 if iou < 0.5 else -1 if difficult[owner] else int(owner not in taken))
        taken.add(owner)
    return marks


def _marks_poor_ignored(owners: list[int], ious: list[float], difficult: list[bool]) -> list[int]:
    marks = marks_solution(owners, ious, difficult)
    return [-1 if difficult[owner] else mark for owner, mark in zip(owners, marks, strict=True)]


_MARKS_MUTANTS = (
    Mutant(_marks_duplicates_true, "a second hit of the same object counts as true again"),
    Mutant(_marks_difficult_counted, "difficult objects are treated like all others"),
    Mutant(_marks_difficult_false, "a hit of a difficult object counts as false; it does not count at all"),
    Mutant(_marks_strict, "the IoU must exceed one half; one half itself is enough"),
    Mutant(_marks_poor_takes, "a box below one half uses up its object, so that a later good one is false"),
    Mutant(_marks_poor_ignored, "a poor box near a difficult object is ignored; only hits are"),
)


def _curve_spec(marks: list[int], num_objects: int) -> Pairs:
    ranked, none = np.array(marks, int), np.zeros(len(marks), int)
    curve = Curve("", num_objects, none, ranked == 1, ranked == 0, ranked == -1, none, none)
    return list(zip(curve.recall.tolist(), curve.precision.tolist(), strict=True))


def _curve_cases() -> Iterator[Case]:
    yield Case(([1, 0, 1], 4), "a true, a false and a true one, of four objects")
    yield Case(([1, 1], 2), "nothing but true ones")
    yield Case(([0, 0, 1], 1), "false ones first")
    yield Case(([1, -1, 0, 1], 3), "an ignored one in between")
    yield Case(([-1, 1, 1], 3), "an ignored one first: precision 0 until something counts")


def curve_solution(marks: list, num_objects: int) -> list:
    true = false = 0
    points = []
    for mark in marks:
        true += mark == 1
        false += mark == 0
        points.append((true / num_objects, true / max(true + false, 1)))
    return points


def _curve_ignored_false(marks: list[int], num_objects: int) -> Pairs:
    return curve_solution([max(mark, 0) for mark in marks], num_objects)


def _curve_ignored_true(marks: list[int], num_objects: int) -> Pairs:
    return curve_solution([abs(mark) for mark in marks], num_objects)


def _curve_recall_of_found(marks: list[int], num_objects: int) -> Pairs:
    return curve_solution(marks, max(marks.count(1), 1))


def _curve_swapped(marks: list[int], num_objects: int) -> Pairs:
    return [(precision, recall) for recall, precision in curve_solution(marks, num_objects)]


def _curve_whole_list(marks: list[int], num_objects: int) -> Pairs:
    counted = max(marks.count(1) + marks.count(0), 1)
    return [
        (marks[: i + 1].count(1) / num_objects, marks[: i + 1].count(1) / counted) for i in range(len(marks))
    ]


_CURVE_MUTANTS = (
    Mutant(_curve_ignored_false, "ignored detections lower the precision"),
    Mutant(_curve_ignored_true, "ignored detections count as found"),
    Mutant(_curve_recall_of_found, "the recall is a share of what was found; it is a share of all objects"),
    Mutant(_curve_swapped, "recall and precision are exchanged"),
    Mutant(_curve_whole_list, "the precision is divided by the whole list, not by the list down to here"),
)


def _average(hits: Sequence[int], num_objects: int, metric: str) -> float:
    true = np.array(hits, int)
    return average_precision(true, 1 - true, num_objects, metric)


def _points_spec(hits: list[int], num_objects: int) -> float:
    return _average(hits, num_objects, "voc07")


def _average_cases() -> Iterator[Case]:
    yield Case(([1, 1], 2), "a perfect ranking")
    yield Case(([1, 0, 1], 2), "a false one between two true ones")
    yield Case(([0, 1, 1], 2), "the false one first: the precision rises later")
    yield Case(([1, 0], 4), "three of four objects missed")
    yield Case(([1, 1, 1, 0], 10), "a recall of exactly 3/10")
    yield Case((list(CAFFE), 5), "the test of the original code")
    yield Case(([0, 0], 3), "nothing found")
    yield Case(([], 3), "no detection at all")


def points_solution(hits: list, num_objects: int) -> float:
    true = [sum(hits[: i + 1]) for i in range(len(hits))]
    total = 0
    for j in range(11):
        reached = [t / (i + 1) for i, t in enumerate(true) if 10 * t >= j * num_objects]
        total += max(reached, default=0)
    return total / 11


def _reaching(hits: list[int], num_objects: int, level: float) -> list[float]:
    """Precisions where the recall, a float, is at least level."""
    true = np.cumsum(hits)
    return [t / (i + 1) for i, t in enumerate(true.tolist()) if t / num_objects >= level]


def _points_floating(hits: list[int], num_objects: int) -> float:
    return sum(max(_reaching(hits, num_objects, x), default=0) for x in np.arange(0, 1.1, 0.1)) / 11


def _points_first_reached(hits: list[int], num_objects: int) -> float:
    return sum((_reaching(hits, num_objects, j / 10) or [0])[0] for j in range(11)) / 11


def _points_ten(hits: list[int], num_objects: int) -> float:
    return sum(max(_reaching(hits, num_objects, j / 10), default=0) for j in range(1, 11)) / 10


def _points_of_reached(hits: list[int], num_objects: int) -> float:
    best = [max(_reaching(hits, num_objects, j / 10), default=0) for j in range(11)]
    best = [p for p in best if p > 0]
    return sum(best) / max(len(best), 1)


def _points_area(hits: list[int], num_objects: int) -> float:
    return _average(hits, num_objects, "area")


_POINTS_MUTANTS = (
    Mutant(
        _points_floating, "recalls are compared with steps of 0.1 in floating point: 3 * 0.1 exceeds 3/10"
    ),
    Mutant(
        _points_first_reached,
        "the precision is taken where the recall is reached; asked is the best from there on",
    ),
    Mutant(_points_ten, "recall 0 is left out: it is the eleventh point"),
    Mutant(_points_of_reached, "recalls that are never reached are left out of the mean; they count as 0"),
    Mutant(_points_area, "this is the area under the curve, not the mean at 11 recalls"),
)


def _area_spec(hits: list[int], num_objects: int) -> float:
    return _average(hits, num_objects, "area")


def area_solution(hits: list, num_objects: int) -> float:
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    best_onward = [max(precision[i:]) for i in range(len(hits))]
    return sum(best for best, hit in zip(best_onward, hits, strict=True) if hit) / num_objects


def _area_without_envelope(hits: list[int], num_objects: int) -> float:
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / num_objects


def _area_of_found(hits: list[int], num_objects: int) -> float:
    return area_solution(hits, max(sum(hits), 1))


def _area_every_detection(hits: list[int], num_objects: int) -> float:
    return area_solution(hits, num_objects) * num_objects / max(len(hits), 1)


def _area_trapezia(hits: list[int], num_objects: int) -> float:
    points = [(0.0, 1.0), *curve_solution(hits, num_objects)]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))


def _area_points(hits: list[int], num_objects: int) -> float:
    return _average(hits, num_objects, "voc07")


_AREA_MUTANTS = (
    Mutant(_area_without_envelope, "the precision at each hit is taken; asked is the best from there on"),
    Mutant(_area_of_found, "the sum is divided by the objects found; missed objects must count"),
    Mutant(_area_every_detection, "the sum is divided by the detections; the steps are one object wide"),
    Mutant(_area_trapezia, "the points are joined by slanting lines; VOC draws steps of the best precision"),
    Mutant(_area_points, "this is the mean at 11 recalls, not the area"),
)


def _exercise(
    name: str,
    statement: str,
    spec: Any,
    cases: Any,
    hints: tuple[str, ...],
    solution: Any,
    mutants: tuple[Mutant, ...],
) -> Exercise:
    return Exercise(name, NOTEBOOK, statement, against(spec, cases, mutants), hints, solution, mutants)


EXERCISES = (
    _exercise(
        "ranked_marks",
        "1 (true), 0 (false) or -1 (ignored) for each detection, best first; owners are the rows of their best "
        "objects, ious the IoUs with these, difficult one flag an object",
        _marks_spec,
        _marks_cases,
        (
            "Three questions, in this order: is it a hit? is the object difficult? was it hit before?",
            "Keep a set of the objects that are taken. Only a hit may take one.",
            "`if iou < 0.5`: 0; `elif difficult[owner]`: -1; else 1, or 0 when the owner is taken already.",
        ),
        marks_solution,
        _MARKS_MUTANTS,
    ),
    _exercise(
        "precision_recall",
        "pairs (recall, precision) down to each detection, from marks 1, 0, -1, best first",
        _curve_spec,
        _curve_cases,
        (
            "Two counters, for true and for false ones. Which of the two does an ignored detection move?",
            "Recall divides by num_objects, precision by the detections that counted so far.",
            "Before anything counted that would be 0 / 0: divide by max(true + false, 1).",
        ),
        curve_solution,
        _CURVE_MUTANTS,
    ),
    _exercise(
        "eleven_points",
        "11-point average precision of hits (1 true, 0 false), best first, compared in whole numbers",
        _points_spec,
        _average_cases,
        (
            "For each of the recalls 0, 0.1, ..., 1: the best precision among the detections that reach it.",
            "Avoid the decimals: t / num_objects >= j / 10 says the same as 10 * t >= j * num_objects.",
            "`max(..., default=0)` covers a recall that is never reached. Divide the sum by 11.",
        ),
        points_solution,
        _POINTS_MUTANTS,
    ),
    _exercise(
        "area_under_steps",
        "average precision as area under the steps of best precision, for hits (1 true, 0 false), best first",
        _area_spec,
        _average_cases,
        (
            "Each true detection is a step of width 1 / num_objects. How high is it?",
            "As high as the best precision at this detection or any later one: max(precision[i:]).",
            "Sum these heights over the true detections only, then divide by num_objects.",
        ),
        area_solution,
        _AREA_MUTANTS,
    ),
)
