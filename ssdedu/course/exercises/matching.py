"""Exercises of `03_matching`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from ssdedu import boxes, matching
from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "03_matching"
Boxes = list[list[float]]
Table = list[list[float]]


def _iou_spec(a_xyxy: Boxes, b_xyxy: Boxes) -> torch.Tensor:
    return boxes.iou(torch.tensor(a_xyxy, dtype=torch.float64), torch.tensor(b_xyxy, dtype=torch.float64))


def _iou_cases() -> Iterator[Case]:
    yield Case(([[0, 0, 4, 4]], [[0, 0, 4, 4]]), "two equal boxes")
    yield Case(([[0, 0, 4, 4]], [[1, 2, 5, 6]]), "two boxes that overlap at a corner")
    yield Case(([[0, 0, 8, 8]], [[2, 3, 4, 7]]), "one box inside the other")
    yield Case(([[0, 0, 2, 2]], [[5, 0, 7, 2]]), "two boxes side by side, a gap between them")
    yield Case(([[0, 0, 2, 2]], [[5, 6, 7, 9]]), "two boxes with a gap in x and in y")
    yield Case(([[0, 0, 2, 2]], [[2, 0, 4, 2]]), "two boxes that touch at an edge")
    yield Case(([[3, 3, 3, 3]], [[0, 0, 4, 4]]), "a box without area inside another")
    yield Case(([[1, 1, 1, 3]], [[1, 1, 1, 3]]), "two equal boxes without area")
    yield Case(([[0, 0, 4, 4], [2, 2, 8, 6]], [[0, 0, 2, 2], [1, 1, 5, 5], [6, 0, 9, 4]]), "lists of 2 and 3")


def iou_solution(a_xyxy: list, b_xyxy: list) -> list:
    def one(a: list, b: list) -> float:
        width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        union = areas - width * height
        return width * height / union if union > 0 else 0.0

    return [[one(a, b) for b in b_xyxy] for a in a_xyxy]


def _iou_sides(a: list[float], b: list[float]) -> tuple[float, float]:
    return min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])


def _iou_area(a: list[float]) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def _iou_tables(
    a_xyxy: Boxes,
    b_xyxy: Boxes,
    shared: Callable[[float, float], float] = lambda w, h: max(w, 0) * max(h, 0),
    whole: Callable[[float, float, float], float] = lambda a, b, both: a + b - both,
) -> Table:
    """A table of quotients in which one part of the IoU may be exchanged; without area it is 0."""
    table = []
    for a in a_xyxy:
        both = [shared(*_iou_sides(a, b)) for b in b_xyxy]
        wholes = [whole(_iou_area(a), _iou_area(b), s) for b, s in zip(b_xyxy, both, strict=True)]
        table.append([s / w if w else 0.0 for s, w in zip(both, wholes, strict=True)])
    return table


def _iou_unclamped(a_xyxy: Boxes, b_xyxy: Boxes) -> Table:
    return _iou_tables(a_xyxy, b_xyxy, shared=lambda w, h: w * h)


def _iou_clamped_too_late(a_xyxy: Boxes, b_xyxy: Boxes) -> Table:
    return _iou_tables(a_xyxy, b_xyxy, shared=lambda w, h: max(w * h, 0))


def _iou_sum_of_areas(a_xyxy: Boxes, b_xyxy: Boxes) -> Table:
    return _iou_tables(a_xyxy, b_xyxy, whole=lambda a, b, both: a + b)


def _iou_over_smaller(a_xyxy: Boxes, b_xyxy: Boxes) -> Table:
    return _iou_tables(a_xyxy, b_xyxy, whole=lambda a, b, both: min(a, b))


def _iou_plus_one(a_xyxy: Boxes, b_xyxy: Boxes) -> Table:
    def wider(some: Boxes) -> Boxes:
        return [[x1, y1, x2 + 1, y2 + 1] for x1, y1, x2, y2 in some]

    return _iou_tables(wider(a_xyxy), wider(b_xyxy))


def _iou_undefined(a_xyxy: Boxes, b_xyxy: Boxes) -> Table:
    without = all(_iou_area(x) == 0 for x in (*a_xyxy, *b_xyxy))
    return [[float("nan")]] if without else _iou_tables(a_xyxy, b_xyxy)


def _iou_transposed(a_xyxy: Boxes, b_xyxy: Boxes) -> Table:
    return _iou_tables(b_xyxy, a_xyxy)


_IOU_MUTANTS = (
    Mutant(_iou_unclamped, "a gap counts as a negative length, and two gaps make a positive area"),
    Mutant(_iou_clamped_too_late, "the shared area is cut at 0, but not each side: two gaps make an area"),
    Mutant(_iou_sum_of_areas, "the shared area counts twice in the union"),
    Mutant(_iou_over_smaller, "the shared area is divided by the smaller box, not by the union"),
    Mutant(_iou_plus_one, "1 is added to each side, as for whole pixels; here xmax - xmin is the width"),
    Mutant(_iou_undefined, "0 is divided by 0 where neither box has an area; the IoU is 0 there"),
    Mutant(_iou_transposed, "rows and columns are exchanged: row i belongs to box i of the first list"),
)


def _left_spec(iou: Table, threshold: float) -> int:
    owner = _left_owner(np.array(iou), threshold)
    return len(iou) - len({g for g in owner if g >= 0})


def _left_owner(iou: np.ndarray, threshold: float) -> list[int]:
    return [int(column.argmax()) if column.max() >= threshold else -1 for column in iou.T]


def _left_cases() -> Iterator[Case]:
    yield Case(([[0.7, 0.2], [0.1, 0.6]], 0.5), "each object has a default box of its own")
    yield Case(([[0.7, 0.2], [0.1, 0.4]], 0.5), "one object below the threshold")
    yield Case(([[0.75, 0.25], [0.625, 0.0]], 0.5), "two objects above the threshold at one default box")
    yield Case(([[0.5, 0.25]], 0.5), "an IoU equal to the threshold")
    yield Case(([[0.5, 0.0, 0.0], [0.5, 0.0, 0.75]], 0.5), "two objects equally near to a default box")
    yield Case(([[0.3], [0.2], [0.1]], 0.25), "three objects and one default box")
    yield Case(([[0.6, 0.7, 0.8, 0.1], [0.1, 0.2, 0.3, 0.4]], 0.5), "one object takes three default boxes")


def left_solution(iou: list, threshold: float) -> int:
    served = set()
    for column in zip(*iou, strict=True):
        best = max(column)
        if best >= threshold:
            served.add(column.index(best))
    return len(iou) - len(served)


def _left_without_rivals(iou: Table, threshold: float) -> int:
    return sum(max(row) < threshold for row in iou)


def _left_strict(iou: Table, threshold: float) -> int:
    owner = _left_owner(np.array(iou), threshold + 1e-9)
    return len(iou) - len({g for g in owner if g >= 0})


def _left_boxes(iou: Table, threshold: float) -> int:
    return _left_owner(np.array(iou), threshold).count(-1)


def _left_served(iou: Table, threshold: float) -> int:
    return len(iou) - _left_spec(iou, threshold)


def _left_later_wins(iou: Table, threshold: float) -> int:
    return _left_spec(iou[::-1], threshold)


_LEFT_MUTANTS = (
    Mutant(
        _left_without_rivals, "an object counts as served wherever it reaches the threshold, rivals or not"
    ),
    Mutant(_left_strict, "an IoU equal to the threshold does not count; it does"),
    Mutant(_left_boxes, "default boxes without an object are counted, not objects without a default box"),
    Mutant(_left_served, "the objects that do get a default box are counted"),
    Mutant(_left_later_wins, "the later of two equally near objects wins; the earlier does"),
)


def _greedy_spec(iou: Table) -> torch.Tensor:
    return matching.bipartite(torch.tensor([iou]))[0]


def _greedy_cases() -> Iterator[Case]:
    yield Case(([[0.7, 0.2], [0.1, 0.6]],), "no two objects want the same default box")
    yield Case(([[0.6, 0.3, 0.1], [0.8, 0.5, 0.0]],), "two objects want the same default box")
    yield Case(([[0.8, 0.3, 0.1], [0.6, 0.5, 0.0]],), "the earlier of two rivals is the better")
    yield Case(([[0.8, 0.7, 0.0], [0.9, 0.1, 0.0], [0.0, 0.6, 0.3]],), "who loses may win elsewhere")
    yield Case(([[0.3, 0.8], [0.2, 0.7]],), "an object whose best default box is not the first")
    yield Case(([[0.4, 0.0], [0.0, 0.0]],), "one object that overlaps no default box")
    yield Case(([[0.5], [0.7], [0.6]],), "three objects and one default box")
    yield Case(([[0.04, 0.03, 0.02]],), "a small object: even its best IoU is poor")


def greedy_solution(iou: list) -> list:
    left = np.array(iou, dtype=float)
    own_box = [-1] * len(left)
    while left.max() > 1e-6:
        g, p = np.unravel_index(left.argmax(), left.shape)
        own_box[g] = int(p)
        left[g, :] = 0
        left[:, p] = 0
    return own_box


def _greedy_favourites(iou: Table) -> list[int]:
    return [row.index(max(row)) if max(row) > 0 else -1 for row in iou]


def _greedy_every_favourite(iou: Table) -> list[int]:
    return [row.index(max(row)) for row in iou]


def _greedy_in_turn(iou: Table) -> list[int]:
    left, own = np.array(iou), []
    for g in range(len(left)):
        own.append(int(left[g].argmax()) if left[g].max() > 0 else -1)
        left[:, own[-1]] = 0 if own[-1] >= 0 else left[:, own[-1]]
    return own


def _greedy_by_box(iou: Table) -> list[int]:
    left, own = np.array(iou), [-1] * len(iou)
    for p in range(left.shape[1]):
        g = int(left[:, p].argmax())
        if left[g, p] > 0:
            own[g], left[g] = p, 0
    return own


def _greedy_loser_leaves(iou: Table) -> list[int]:
    table, favourite = np.array(iou), _greedy_favourites(iou)
    return [p if p >= 0 and table[:, p].argmax() == g else -1 for g, p in enumerate(favourite)]


def _greedy_always(iou: Table) -> list[int]:
    left, own = np.array(iou), [-1] * len(iou)
    for _ in range(min(left.shape)):
        g, p = np.unravel_index(left.argmax(), left.shape)
        own[g], left[g], left[:, p] = int(p), -1, -1
    return own


def _greedy_above_half(iou: Table) -> list[int]:
    own = greedy_solution(iou)
    return [p if p >= 0 and iou[g][p] >= 0.5 else -1 for g, p in enumerate(own)]


_GREEDY_MUTANTS = (
    Mutant(_greedy_favourites, "each object takes its best default box, also one that is taken"),
    Mutant(
        _greedy_every_favourite,
        "each object takes its best default box, also one that is taken or that it does not overlap",
    ),
    Mutant(_greedy_in_turn, "the objects choose in their order; the largest IoU of all comes first"),
    Mutant(_greedy_by_box, "the default boxes choose one after the other; the largest IoU comes first"),
    Mutant(_greedy_loser_leaves, "an object that loses its best default box is given up; it tries the next"),
    Mutant(_greedy_always, "a pair is made even of an object and a default box that do not overlap"),
    Mutant(_greedy_above_half, "pairs below 0.5 are dropped; this step has no such threshold"),
)


def _fill_spec(iou: Table, own_box: list[int], threshold: float) -> list[int]:
    pairs = {p: g for g, p in enumerate(own_box) if p >= 0}
    by_threshold = _left_owner(np.array(iou), threshold)
    return [pairs.get(p, g) for p, g in enumerate(by_threshold)]


def _fill_cases() -> Iterator[Case]:
    yield Case(([[0.7, 0.6, 0.1]], [0], 0.5), "one object with two good default boxes")
    yield Case(([[0.8, 0.6, 0.2], [0.6, 0.3, 0.0]], [0, 1], 0.5), "a pair below the threshold")
    yield Case(([[0.8, 0.7, 0.2], [0.4, 0.0, 0.6]], [0, 2], 0.5), "a free default box")
    yield Case(([[0.9, 0.6], [0.0, 0.0]], [0, -1], 0.5), "an object that has no default box")
    yield Case(([[0.9, 0.5, 0.0], [0.2, 0.625, 0.75]], [0, 2], 0.5), "two objects reach the threshold")
    yield Case(([[0.75, 0.5, 0.25]], [0], 0.5), "an IoU equal to the threshold")
    yield Case(([[0.3, 0.25, 0.1]], [0], 0.5), "nothing above the threshold")


def fill_solution(iou: list, own_box: list, threshold: float) -> list:
    owner = []
    for column in zip(*iou, strict=True):
        best = max(column)
        owner.append(column.index(best) if best >= threshold else -1)
    for g, p in enumerate(own_box):
        if p >= 0:
            owner[p] = g
    return owner


def _fill_pairs_only(iou: Table, own_box: list[int], threshold: float) -> list[int]:
    return _fill_spec(iou, own_box, 2.0)


def _fill_threshold_only(iou: Table, own_box: list[int], threshold: float) -> list[int]:
    return _left_owner(np.array(iou), threshold)


def _fill_threshold_first(iou: Table, own_box: list[int], threshold: float) -> list[int]:
    pairs = {p: g for g, p in enumerate(own_box) if p >= 0}
    by_threshold = _left_owner(np.array(iou), threshold)
    return [g if g >= 0 else pairs.get(p, -1) for p, g in enumerate(by_threshold)]


def _fill_first_object(iou: Table, own_box: list[int], threshold: float) -> list[int]:
    enough = np.array(iou) >= threshold
    return _fill_spec(enough.astype(float).tolist(), own_box, threshold)


def _fill_last_box(iou: Table, own_box: list[int], threshold: float) -> list[int]:
    owner = _left_owner(np.array(iou), threshold)
    for g, p in enumerate(own_box):
        owner[p] = g
    return owner


def _fill_strict(iou: Table, own_box: list[int], threshold: float) -> list[int]:
    return _fill_spec(iou, own_box, threshold + 1e-9)


_FILL_MUTANTS = (
    Mutant(_fill_pairs_only, "only the pairs count: that is MultiBox's rule"),
    Mutant(_fill_threshold_only, "the pairs are forgotten: that is the threshold alone"),
    Mutant(_fill_threshold_first, "the threshold takes a default box away from the object it is paired with"),
    Mutant(_fill_first_object, "the first object above the threshold wins, not the one of highest IoU"),
    Mutant(_fill_last_box, "-1, for no default box, is used as an index: in Python that is the last one"),
    Mutant(_fill_strict, "an IoU equal to the threshold does not count; it does"),
)


EXERCISES = (
    Exercise(
        "iou_of_lists",
        NOTEBOOK,
        "the IoU of each of N boxes with each of M boxes (xmin, ymin, xmax, ymax), as N lists of M numbers; "
        "0 where neither box has an area",
        against(_iou_spec, _iou_cases, _IOU_MUTANTS),
        (
            "The shared part of two boxes is a box too. Which xmin and which xmax does it have?",
            "Its xmin is the larger of the two, its xmax the smaller. What if xmax < xmin?",
            "max(min(a[2], b[2]) - max(a[0], b[0]), 0) is its width, and likewise its height; "
            "union = both areas - shared area, and 0 must not be a divisor.",
        ),
        iou_solution,
        _IOU_MUTANTS,
    ),
    Exercise(
        "left_out",
        NOTEBOOK,
        "the number of objects (rows) that get no default box (column) when each default box takes the object "
        "of highest IoU, the earlier of equals, if that IoU is at least threshold",
        against(_left_spec, _left_cases, _LEFT_MUTANTS),
        (
            "The default boxes choose here, not the objects. Go through the columns.",
            "An object may reach the threshold at a default box that chooses another. Collect who is chosen.",
            "for column in zip(*iou): the largest number, and if it is enough, column.index(largest) into a set.",
        ),
        left_solution,
        _LEFT_MUTANTS,
    ),
    Exercise(
        "greedy_boxes",
        NOTEBOOK,
        "each object's own default box, -1 for none: again and again the largest IoU above 1e-6 among objects "
        "and default boxes that are still free makes a pair",
        against(_greedy_spec, _greedy_cases, _GREEDY_MUTANTS),
        (
            "The loop of the cell above always takes three steps. When must yours stop?",
            "It stops when no number above 1e-6 is left; strike out the row and the column of each pair.",
            "left = np.array(iou); while left.max() > 1e-6: np.unravel_index(left.argmax(), left.shape) "
            "gives g and p; note p for g; then left[g, :] = 0 and left[:, p] = 0.",
        ),
        greedy_solution,
        _GREEDY_MUTANTS,
    ),
    Exercise(
        "fill_free_boxes",
        NOTEBOOK,
        "the object of each default box, -1 for none, by SSD's rule: the pairs in own_box (of each object its "
        "default box, -1 for none) stay; a free default box takes the object of highest IoU if that is at "
        "least threshold",
        against(_fill_spec, _fill_cases, _FILL_MUTANTS),
        (
            "Two steps. Which of them has the last word on a default box that both want to give away?",
            "Threshold first, as in the section above; then let the pairs overwrite. Mind the -1.",
            "After the threshold: for g, p in enumerate(own_box): if p >= 0: owner[p] = g.",
        ),
        fill_solution,
        _FILL_MUTANTS,
    ),
)
