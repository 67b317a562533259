"""Exercises of `13_error_analysis`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ssdedu.course.exercise import Case, Exercise, Mutant, against
from ssdedu.evaluate import Objects, average_precision, recall_in_bins

__all__ = ["EXERCISES"]

NOTEBOOK = "13_error_analysis"
Labels = Sequence[int]
Numbers = Sequence[float]


def _kind_spec(ious: Numbers, labels: Labels, taken: Sequence[bool], label: int, similar: Labels) -> int:
    iou, own = np.array(ious, float), np.array(labels, int) == label
    akin = np.isin(np.array(labels, int), similar)
    mine = np.where(own, iou, -1)
    best = int(mine.argmax()) if len(mine) else -1
    correct = best >= 0 and mine[best] >= 0.5 and not taken[best]
    near = iou >= 0.1
    return [correct, (near & own).any(), (near & akin).any(), near.any(), True].index(True)


def _kind_cases() -> Iterator[Case]:
    yield Case(([0.5], [1], [False], 1, [2]), "the right class, and an IoU that just suffices")
    yield Case(([0.8], [1], [True], 1, [2]), "the object was found already")
    yield Case(([0.1], [1], [False], 1, [2]), "the right class, and a poor IoU")
    yield Case(([0.9], [2], [False], 1, [2]), "an object of a similar class")
    yield Case(([0.3], [3], [False], 1, [2]), "an object of another class")
    yield Case(([0.09], [1], [False], 1, [2]), "hardly any overlap")
    yield Case(
        ([0.9, 0.2], [2, 1], [False, False], 1, [2]), "a similar object covered, one of its own touched"
    )
    yield Case(([0.6, 0.2], [3, 2], [False, False], 1, [2]), "another object covered, a similar one touched")
    yield Case(([0.8, 0.6], [1, 1], [True, False], 1, [2]), "two objects of the class, the better one taken")
    yield Case(([0.7, 0.2], [1, 1], [False, True], 1, [2]), "two objects of the class, the better one free")
    yield Case(([], [], [], 1, [2]), "an image without objects")


def error_kind_solution(ious: list, labels: list, taken: list, label: int, similar: list) -> int:
    own = [k for k in range(len(ious)) if labels[k] == label]
    best = max(own, key=lambda k: ious[k], default=None)
    if best is not None and ious[best] >= 0.5 and not taken[best]:
        return 0
    touched = {labels[k] for k in range(len(ious)) if ious[k] >= 0.1}
    if label in touched:
        return 1
    if touched & set(similar):
        return 2
    return 3 if touched else 4


def _kind_duplicate_lost(ious: Any, labels: Any, taken: Any, label: int, similar: Any) -> int:
    free = [k for k in range(len(ious)) if not taken[k]]
    return error_kind_solution(
        [ious[k] for k in free], [labels[k] for k in free], [False] * len(free), label, similar
    )


def _kind_of_nearest(ious: Any, labels: Any, taken: Any, label: int, similar: Any) -> int:
    best = max(range(len(ious)), key=lambda k: ious[k], default=None)
    if best is None or ious[best] < 0.1:
        return 4
    return error_kind_solution([ious[best]], [labels[best]], [taken[best]], label, similar)


def _kind_similar_first(ious: Any, labels: Any, taken: Any, label: int, similar: Any) -> int:
    kind = error_kind_solution(ious, labels, taken, label, similar)
    touched = {labels[k] for k in range(len(ious)) if ious[k] >= 0.1}
    return 2 if kind == 1 and touched & set(similar) else kind


def _kind_strictly_more(ious: Any, labels: Any, taken: Any, label: int, similar: Any) -> int:
    return error_kind_solution([iou - 1e-9 for iou in ious], labels, taken, label, similar)


def _kind_next_free(ious: Any, labels: Any, taken: Any, label: int, similar: Any) -> int:
    free = any(ious[k] >= 0.5 and labels[k] == label and not taken[k] for k in range(len(ious)))
    return 0 if free else error_kind_solution(ious, labels, taken, label, similar)


_KIND_MUTANTS = (
    Mutant(_kind_duplicate_lost, "objects found already are left out: a second hit is a localisation error"),
    Mutant(_kind_of_nearest, "only the object of the highest IoU is asked, though several may be touched"),
    Mutant(_kind_similar_first, "a similar class goes before the own class; localisation goes first"),
    Mutant(_kind_strictly_more, "an IoU of exactly 0.5 or 0.1 is taken for too little"),
    Mutant(
        _kind_next_free, "a detection whose object is taken may have the next one; VOC does not allow that"
    ),
)


def _confusion_spec(iou: Any, detected: Labels, objects: Labels, num_classes: int) -> np.ndarray:
    matrix = np.zeros((num_classes + 1, num_classes + 1))
    table = np.array(iou, float).reshape(len(detected), len(objects))
    owner = table.argmax(1) if len(objects) else np.zeros(len(detected), int)
    hits = table.max(1, initial=0) >= 0.5
    for g, label in enumerate(objects):
        mine = np.flatnonzero(hits & (owner == g))
        matrix[label, detected[mine[0]] if len(mine) else 0] += 1
    np.add.at(matrix[0], np.array(detected, int)[~hits], 1)
    return matrix


def _confusion_cases() -> Iterator[Case]:
    yield Case(([[0.9, 0.0], [0.0, 0.6]], [1, 2], [1, 2], 2), "two objects, both named rightly")
    yield Case(([[0.8]], [2], [1], 2), "an object that is named wrongly")
    yield Case(([[0.7], [0.9]], [2, 1], [1], 2), "one object, two detections")
    yield Case(([[0.4, 0.2]], [1], [1, 2], 2), "a detection that fits no object")
    yield Case(([[0.5, 0.6]], [1], [1, 2], 2), "a detection between two objects")
    yield Case(
        ([[0.9, 0.5], [0.7, 0.6]], [1, 2], [1, 2], 2), "two detections of one object, which the next fits too"
    )
    yield Case(([], [], [2, 1, 2], 2), "no detections")
    yield Case(([[], []], [3, 3], [], 3), "no objects")


def confusion_pairs_solution(iou: list, detected: list, objects: list, num_classes: int) -> np.ndarray:
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    seen_as = [0] * len(objects)
    for row, label in zip(iou, detected, strict=True):
        best = max(range(len(objects)), key=lambda g: row[g], default=None)
        if best is None or row[best] < 0.5:
            matrix[0, label] += 1
        elif seen_as[best] == 0:
            seen_as[best] = label
    for label, seen in zip(objects, seen_as, strict=True):
        matrix[label, seen] += 1
    return matrix


def _confusion_transposed(iou: Any, detected: Any, objects: Any, num_classes: int) -> np.ndarray:
    return confusion_pairs_solution(iou, detected, objects, num_classes).T


def _confusion_without_missed(iou: Any, detected: Any, objects: Any, num_classes: int) -> np.ndarray:
    matrix = confusion_pairs_solution(iou, detected, objects, num_classes)
    matrix[:, 0] = 0
    return matrix


def _confusion_last_wins(iou: Any, detected: Any, objects: Any, num_classes: int) -> np.ndarray:
    return confusion_pairs_solution(iou[::-1], detected[::-1], objects, num_classes)


def _confusion_spare_as_background(iou: Any, detected: Any, objects: Any, num_classes: int) -> np.ndarray:
    matrix = confusion_pairs_solution(iou, detected, objects, num_classes)
    matrix[0] = np.bincount(detected, minlength=num_classes + 1) if len(detected) else 0
    matrix[0] -= matrix[1:].sum(0)
    matrix[0, 0] = 0
    return matrix


def _confusion_next_free(iou: Any, detected: Any, objects: Any, num_classes: int) -> np.ndarray:
    rows: list[list[float]] = []
    for row in iou:
        taken = {max(range(len(r)), key=r.__getitem__) for r in rows if max(r, default=0) >= 0.5}
        free = [0.0 if g in taken and max(row) >= 0.5 else v for g, v in enumerate(row)]
        rows.append(free if max(free, default=0) >= 0.5 else list(row))
    return confusion_pairs_solution(rows, detected, objects, num_classes)


def _confusion_own_class_only(iou: Any, detected: Any, objects: Any, num_classes: int) -> np.ndarray:
    masked = [
        [v * (o == d) for v, o in zip(row, objects, strict=True)]
        for row, d in zip(iou, detected, strict=True)
    ]
    return confusion_pairs_solution(masked, detected, objects, num_classes)


_CONFUSION_MUTANTS = (
    Mutant(_confusion_transposed, "rows and columns are exchanged: the row is what the object is"),
    Mutant(_confusion_without_missed, "objects that nothing found are not counted in column 0"),
    Mutant(
        _confusion_last_wins, "the last detection of an object names it; the first one has the best score"
    ),
    Mutant(_confusion_spare_as_background, "a further detection of an object is counted as background"),
    Mutant(
        _confusion_next_free,
        "a detection whose object has its first one is given the next object; it counts nowhere",
    ),
    Mutant(
        _confusion_own_class_only,
        "a detection may only meet objects of its own class, so nothing is confused",
    ),
)


def _ratio_spec(boxes_xyxy_px: Any, found: Sequence[bool], edges: Numbers) -> list[float]:
    boxes = np.array(boxes_xyxy_px, float).reshape(-1, 4)
    ratio = (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])
    none, score = np.zeros(len(boxes)), np.where(np.array(found, bool), 1.0, math.nan)
    objects = Objects(none, none, none.astype(bool), none, none, score)
    return [b.recall for b in recall_in_bins(objects, ratio, edges)]


def _ratio_cases() -> Iterator[Case]:
    square, wide, tall = (0, 0, 8, 8), (10, 4, 30, 14), (4, 2, 8, 18)
    yield Case(([square], [True], [0.5, 2]), "a square that was found")
    yield Case(
        ([wide, tall], [True, False], [0, 1, 4]), "a wide object that was found and a tall one that was not"
    )
    yield Case(([wide, square], [True, False], [0, 1, 2, 4]), "ratios that lie on an edge, and an empty bin")
    yield Case(
        ([square, (20, 0, 28, 8), square, tall], [True, False, True, True], [0, 0.5, 2]),
        "three squares and a tall object",
    )
    yield Case(([], [], [0, 1, 2]), "no objects at all")


def ratio_recall_solution(boxes_xyxy_px: list, found: list, edges: list) -> list:
    ratios = [(x2 - x1) / (y2 - y1) for x1, y1, x2, y2 in boxes_xyxy_px]
    recall = []
    for k in range(len(edges) - 1):
        inside = [hit for r, hit in zip(ratios, found, strict=True) if edges[k] <= r < edges[k + 1]]
        recall.append(sum(inside) / len(inside) if inside else float("nan"))
    return recall


def _ratio_upside_down(boxes_xyxy_px: Any, found: Any, edges: Any) -> list:
    return ratio_recall_solution([(y1, x1, y2, x2) for x1, y1, x2, y2 in boxes_xyxy_px], found, edges)


def _ratio_upper_edge(boxes_xyxy_px: Any, found: Any, edges: Any) -> list:
    return ratio_recall_solution(boxes_xyxy_px, found, [edge + 1e-9 for edge in edges])


def _ratio_of_all(boxes_xyxy_px: Any, found: Any, edges: Any) -> list:
    ratios = [(x2 - x1) / (y2 - y1) for x1, y1, x2, y2 in boxes_xyxy_px]
    return [
        sum(hit for ratio, hit in zip(ratios, found, strict=True) if low <= ratio < high) / max(len(found), 1)
        for low, high in pairwise(edges)
    ]


def _ratio_empty_is_zero(boxes_xyxy_px: Any, found: Any, edges: Any) -> list:
    return np.nan_to_num(ratio_recall_solution(boxes_xyxy_px, found, edges)).tolist()


def _ratio_of_corner(boxes_xyxy_px: Any, found: Any, edges: Any) -> list:
    return ratio_recall_solution([(0, 0, x2, y2) for _, _, x2, y2 in boxes_xyxy_px], found, edges)


_RATIO_MUTANTS = (
    Mutant(_ratio_upside_down, "height is divided by width; the aspect ratio is width over height"),
    Mutant(_ratio_upper_edge, "a bin holds its upper edge instead of its lower one"),
    Mutant(_ratio_of_all, "the quotient is taken of all objects; asked is that of the objects in the bin"),
    Mutant(_ratio_empty_is_zero, "an empty bin has recall 0; it has none, so nan"),
    Mutant(_ratio_of_corner, "xmax and ymax are taken for width and height"),
)


def _oracle_spec(kinds: Labels, num_objects: int, removed: int) -> float:
    kept = np.array([kind for kind in kinds if kind != removed], int)
    return average_precision(kept == 0, kept != 0, num_objects, "area")


def _oracle_cases() -> Iterator[Case]:
    yield Case(([1, 0], 1, 1), "one error before one hit, and the error removed")
    yield Case(([1, 0], 1, 4), "one error before one hit, and nothing to remove")
    yield Case(([0, 1, 4, 0, 0], 4, 1), "an object that is never found")
    yield Case(([4, 1, 0, 2, 0], 3, 4), "a precision that rises again")
    yield Case(([1, 1], 3, 1), "nothing left")
    yield Case(([], 2, 1), "no detections")


def ap_without_kind_solution(kinds: list, num_objects: int, removed: int) -> float:
    kept = [kind for kind in kinds if kind != removed]
    precision = [kept[: i + 1].count(0) / (i + 1) for i in range(len(kept))]
    return sum(max(precision[i:]) for i in range(len(kept)) if kept[i] == 0) / num_objects


def _oracle_of_found(kinds: Any, num_objects: int, removed: int) -> float:
    return ap_without_kind_solution(kinds, max(list(kinds).count(0), 1), removed)


def _oracle_corrects(kinds: Any, num_objects: int, removed: int) -> float:
    return ap_without_kind_solution([0 if kind == removed else kind for kind in kinds], num_objects, removed)


def _oracle_keeps_ranks(kinds: Any, num_objects: int, removed: int) -> float:
    return ap_without_kind_solution(kinds, num_objects, -1)


def _oracle_without_envelope(kinds: Any, num_objects: int, removed: int) -> float:
    kept = [kind for kind in kinds if kind != removed]
    precision = [kept[: i + 1].count(0) / (i + 1) for i in range(len(kept))]
    return sum(p for p, kind in zip(precision, kept, strict=True) if kind == 0) / num_objects


_ORACLE_MUTANTS = (
    Mutant(_oracle_of_found, "the sum is divided by the objects found; the missed ones count as well"),
    Mutant(_oracle_corrects, "the errors are turned into hits instead of being removed"),
    Mutant(_oracle_keeps_ranks, "the removed errors still take up ranks and lower the precision"),
    Mutant(_oracle_without_envelope, "a later, higher precision is not carried back to the hits before it"),
)


EXERCISES = (
    Exercise(
        "error_kind",
        NOTEBOOK,
        "the kind of one detection: 0 correct, 1 localisation, 2 similar, 3 other, 4 background",
        against(_kind_spec, _kind_cases, _KIND_MUTANTS),
        (
            "Ask one question after the other, in the order of the numbers, and return at the first yes.",
            "Correct: of the objects of its own class take the one of highest IoU. Is that >= 0.5, and is it free?",
            "Then collect the labels of all objects with IoU >= 0.1. Is its own among them? A similar one? Any?",
        ),
        error_kind_solution,
        _KIND_MUTANTS,
    ),
    Exercise(
        "confusion_pairs",
        NOTEBOOK,
        "the confusion matrix (row: what the object is, column: what its best detection says, 0: nothing) "
        "of detections given best first, with their IoU to each object",
        against(_confusion_spec, _confusion_cases, _CONFUSION_MUTANTS),
        (
            "To which object does a detection belong? Its own label plays no part in that.",
            "Remember for each object the label of the first detection that has it with IoU >= 0.5; 0 if none does.",
            "A detection below 0.5 adds 1 to matrix[0, its label]; each object adds 1 to matrix[label, seen_as].",
        ),
        confusion_pairs_solution,
        _CONFUSION_MUTANTS,
    ),
    Exercise(
        "ratio_recall",
        NOTEBOOK,
        "recall of the objects whose aspect ratio, width over height, lies in [low, high), "
        "for each two neighbouring edges; nan where there are none",
        against(_ratio_spec, _ratio_cases, _RATIO_MUTANTS),
        (
            "Boxes are corners: which differences are width and height?",
            "For each bin collect the entries of `found` of the objects in it; recall is their mean.",
            "Bin k holds the ratios with edges[k] <= ratio < edges[k + 1]; float('nan') for an empty one.",
        ),
        ratio_recall_solution,
        _RATIO_MUTANTS,
    ),
    Exercise(
        "ap_without_kind",
        NOTEBOOK,
        "the AP (area under the curve) of one class if no detection of the kind `removed` had been made; "
        "kinds are ranked best first, 0 is correct",
        against(_oracle_spec, _oracle_cases, _ORACLE_MUTANTS),
        (
            "Remove first, then rank: what is the precision down to each detection that is left?",
            "Each hit counts with the best precision at its rank or any later one.",
            "Sum max(precision[i:]) over the hits i, and divide by all objects, found or not.",
        ),
        ap_without_kind_solution,
        _ORACLE_MUTANTS,
    ),
)
