"""Exercises of `09_detection`."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ssdedu import boxes
from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "09_detection"
Table = list[list[float]]


def _candidates_spec(logits: Table, label: int, threshold: float, most: int) -> list[int]:
    scores = [float(torch.tensor(row, dtype=torch.float64).softmax(0)[label]) for row in logits]
    passed = [i for i, score in enumerate(scores) if score > threshold]
    return sorted(passed, key=lambda i: (-scores[i], i))[:most]


def _candidates_cases() -> Iterator[Case]:
    three = [[0.0, 2.0, -1.0], [3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]
    yield Case((three, 1, 0.1, 400), "three boxes, two of which may be class 1")
    yield Case(([[2.0, 1.0], [0.0, 0.5], [9.0, 1.0], [1.0, 1.5]], 1, 0.2, 2), "three pass, two are wanted")
    yield Case(([[0.0, 1.0, 3.0], [0.0, 2.0, 0.0]], 1, 0.05, 9), "a box whose best class is another")
    yield Case(([[-9.0, -5.0], [-1.0, -2.0]], 1, 0.5, 9), "negative logits")
    yield Case(([[5.0, 0.0], [6.0, 0.0]], 1, 0.01, 9), "nothing passes")


def candidates_solution(logits: list, label: int, threshold: float, most: int) -> torch.Tensor:
    scores = torch.tensor(logits, dtype=torch.float64).softmax(dim=1)[:, label]
    order = scores.argsort(descending=True, stable=True)
    return order[scores[order] > threshold][:most]


def _candidates_of(scores: torch.Tensor, threshold: float, most: int) -> torch.Tensor:
    order = scores.argsort(descending=True, stable=True)
    return order[scores[order] > threshold][:most]


def _candidates_sigmoid(logits: Table, label: int, threshold: float, most: int) -> torch.Tensor:
    return _candidates_of(torch.tensor(logits).sigmoid()[:, label], threshold, most)


def _candidates_over_boxes(logits: Table, label: int, threshold: float, most: int) -> torch.Tensor:
    return _candidates_of(torch.tensor(logits).softmax(0)[:, label], threshold, most)


def _candidates_raw(logits: Table, label: int, threshold: float, most: int) -> torch.Tensor:
    return _candidates_of(torch.tensor(logits)[:, label], threshold, most)


def _candidates_best_class_only(logits: Table, label: int, threshold: float, most: int) -> torch.Tensor:
    scores = torch.tensor(logits).softmax(1)
    return _candidates_of(scores[:, label] * (scores.argmax(1) == label), threshold, most)


def _candidates_all(logits: Table, label: int, threshold: float, most: int) -> torch.Tensor:
    return candidates_solution(logits, label, threshold, len(logits))


def _candidates_unsorted(logits: Table, label: int, threshold: float, most: int) -> torch.Tensor:
    passed = torch.tensor(logits).softmax(1)[:, label] > threshold
    return passed.nonzero()[:most, 0]


_CANDIDATES_MUTANTS = (
    Mutant(_candidates_sigmoid, "each logit goes through a sigmoid alone; SSD's classes share one softmax"),
    Mutant(_candidates_over_boxes, "the softmax runs over the boxes; it belongs to the classes of one box"),
    Mutant(_candidates_raw, "logits are compared with the threshold, not probabilities"),
    Mutant(_candidates_best_class_only, "a box counts for its most likely class only; it may serve several"),
    Mutant(_candidates_all, "the limit on the number of candidates is missing"),
    Mutant(
        _candidates_unsorted,
        "the boxes come in their own order, not best first, and the limit cuts good ones",
    ),
)


def _overlaps(*x_ranges: tuple[float, float]) -> Table:
    """IoU table of boxes of equal height that start and end at these x."""
    xyxy = torch.tensor([(low, 0.0, high, 1.0) for low, high in x_ranges])
    return [[round(float(v), 2) for v in row] for row in boxes.iou(xyxy, xyxy)]


def _nms_spec(overlaps: Table, scores: list[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(overlaps[i][k] <= threshold for k in kept):
            kept.append(i)
    return kept


def _nms_cases() -> Iterator[Case]:
    yield Case(([[1, 0.6], [0.6, 1]], [0.7, 0.9], 0.45), "two boxes of one object")
    chain = _overlaps((0, 4), (1, 5), (2, 6))
    yield Case((chain, [0.9, 0.8, 0.7], 0.45), "a chain: 0 overlaps 1, 1 overlaps 2, but 0 hardly overlaps 2")
    yield Case(([[1, 0.45], [0.45, 1]], [0.9, 0.8], 0.45), "an IoU of exactly the threshold")
    yield Case(([[1, 0, 0.5], [0, 1, 0], [0.5, 0, 1]], [0.5, 0.6, 0.9], 0.3), "the best box comes last")
    yield Case(([[1, 0.2], [0.2, 1]], [0.4, 0.4], 0.45), "equal scores: the earlier box first")
    yield Case(([], [], 0.45), "no box at all")


def nms_solution(overlaps: list, scores: list, threshold: float) -> list:
    kept: list = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if not any(overlaps[i][k] > threshold for k in kept):
            kept.append(i)
    return kept


def _nms_all_better(overlaps: Table, scores: list[float], threshold: float) -> list[int]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [i for k, i in enumerate(order) if not any(overlaps[i][j] > threshold for j in order[:k])]


def _nms_input_order(overlaps: Table, scores: list[float], threshold: float) -> list[int]:
    return nms_solution(overlaps, [0.0] * len(scores), threshold)


def _nms_at_threshold(overlaps: Table, scores: list[float], threshold: float) -> list[int]:
    return nms_solution(overlaps, scores, threshold - 1e-9)


def _nms_by_number(overlaps: Table, scores: list[float], threshold: float) -> list[int]:
    return sorted(nms_solution(overlaps, scores, threshold))


def _nms_worst_first(overlaps: Table, scores: list[float], threshold: float) -> list[int]:
    return nms_solution(overlaps, [-score for score in scores], threshold)


_NMS_MUTANTS = (
    Mutant(_nms_all_better, "a box that was dropped itself still drops others; only kept boxes may"),
    Mutant(_nms_input_order, "the boxes are not sorted by score"),
    Mutant(_nms_at_threshold, "an IoU equal to the threshold drops the box; it must exceed it"),
    Mutant(_nms_by_number, "the right boxes are kept, but not in order of their scores"),
    Mutant(_nms_worst_first, "the worst score is looked at first"),
)


def _round_spec(overlaps: Table, keep: list[bool], threshold: float) -> list[bool]:
    return [not any(keep[i] and overlaps[i][j] > threshold for i in range(j)) for j in range(len(keep))]


def _round_cases() -> Iterator[Case]:
    chain = _overlaps((0, 4), (1, 5), (2, 6))
    yield Case((chain, [True, True, True], 0.45), "a chain of three, first round")
    yield Case((chain, [True, False, False], 0.45), "the same chain, second round: 1 is out, so 2 is free")
    yield Case(([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]], [True, True, False], 0.45), "a box that comes back")
    yield Case(([[1, 0.5], [0.5, 1]], [False, True], 0.45), "a better box that is out covers nobody")
    yield Case(([[1, 0.5], [0.5, 1]], [True, True], 0.5), "an IoU of exactly the threshold")


def round_solution(overlaps: list, keep: list, threshold: float) -> torch.Tensor:
    covers = (torch.tensor(overlaps) > threshold).triu(1)  # [i, j]: better box i covers box j
    covered = (covers & torch.tensor(keep)[:, None]).any(dim=0)
    return ~covered


def _round_both_ways(overlaps: Table, keep: list[bool], threshold: float) -> torch.Tensor:
    covers = (torch.tensor(overlaps) > threshold).fill_diagonal_(False)
    return ~(covers & torch.tensor(keep)[:, None]).any(0)


def _round_with_itself(overlaps: Table, keep: list[bool], threshold: float) -> torch.Tensor:
    covers = (torch.tensor(overlaps) > threshold).triu()
    return ~(covers & torch.tensor(keep)[:, None]).any(0)


def _round_dropped_too(overlaps: Table, keep: list[bool], threshold: float) -> torch.Tensor:
    return ~(torch.tensor(overlaps) > threshold).triu(1).any(0)


def _round_no_return(overlaps: Table, keep: list[bool], threshold: float) -> torch.Tensor:
    return torch.tensor(keep) & round_solution(overlaps, keep, threshold)


def _round_covered(overlaps: Table, keep: list[bool], threshold: float) -> torch.Tensor:
    return ~round_solution(overlaps, keep, threshold)


_ROUND_MUTANTS = (
    Mutant(_round_both_ways, "worse boxes cover better ones too; only better ones count"),
    Mutant(_round_with_itself, "a box covers itself: its IoU with itself is 1"),
    Mutant(_round_dropped_too, "boxes that are out still cover others; the mask keep is not used"),
    Mutant(_round_no_return, "a box that is out can never come back, though its rival may be out by now"),
    Mutant(_round_covered, "the mask of the covered boxes is returned, not of those that stay"),
)


def _best_spec(scores_of_class: Table, most: int) -> list[tuple[int, int]]:
    rows = [
        (-score, label, place)
        for label, scores in enumerate(scores_of_class, start=1)
        for place, score in enumerate(scores)
    ]
    return [(label, place) for _, label, place in sorted(rows)[:most]]


def _best_cases() -> Iterator[Case]:
    yield Case(([[0.9, 0.2], [0.5]], 2), "two classes, the best two")
    yield Case(([[0.3], [0.8, 0.7, 0.6]], 3), "the second class is better throughout")
    yield Case(([[0.4, 0.1], [], [0.5]], 9), "a class without boxes, and a limit that does not bind")
    yield Case(([[0.5, 0.1], [0.5]], 2), "equal scores: the earlier class first")


def best_solution(scores_of_class: list, most: int) -> list:
    rows = []
    for label, scores in enumerate(scores_of_class, start=1):
        rows += [(score, label, place) for place, score in enumerate(scores)]
    rows.sort(key=lambda row: -row[0])
    return [(label, place) for score, label, place in rows[:most]]


def _best_from_zero(scores_of_class: Table, most: int) -> list[tuple[int, int]]:
    return [(label - 1, place) for label, place in best_solution(scores_of_class, most)]


def _best_first_classes(scores_of_class: Table, most: int) -> list[tuple[int, int]]:
    return [(n, p) for n, scores in enumerate(scores_of_class, 1) for p, _ in enumerate(scores)][:most]


def _best_without_limit(scores_of_class: Table, most: int) -> list[tuple[int, int]]:
    return best_solution(scores_of_class, sum(map(len, scores_of_class)))


def _best_worst(scores_of_class: Table, most: int) -> list[tuple[int, int]]:
    return best_solution([[-score for score in scores] for scores in scores_of_class], most)


def _best_later_class_first(scores_of_class: Table, most: int) -> list[tuple[int, int]]:
    rows = [(s, label, -p) for label, scores in enumerate(scores_of_class, 1) for p, s in enumerate(scores)]
    return [(label, -place) for _, label, place in sorted(rows, reverse=True)[:most]]


_BEST_MUTANTS = (
    Mutant(_best_from_zero, "classes are numbered from 0; 0 is the background"),
    Mutant(_best_first_classes, "the first classes fill the places, whatever their scores"),
    Mutant(_best_without_limit, "the limit of the image is missing"),
    Mutant(_best_worst, "the worst scores are kept"),
    Mutant(_best_later_class_first, "of equal scores the later class comes first"),
)


EXERCISES = (
    Exercise(
        "class_candidates",
        NOTEBOOK,
        "the default boxes (their numbers) that compete for one class: probability above threshold, "
        "best first, at most `most`",
        against(_candidates_spec, _candidates_cases, _CANDIDATES_MUTANTS),
        (
            "Turn logits into probabilities first. Which numbers must sum to 1: those of a row or of a column?",
            "scores = torch.tensor(logits).softmax(dim=1)[:, label] is one score for each box.",
            "Sort by falling score with argsort, keep those above the threshold, then slice with [:most].",
        ),
        candidates_solution,
        _CANDIDATES_MUTANTS,
    ),
    Exercise(
        "greedy_nms",
        NOTEBOOK,
        "the boxes (their numbers) that greedy suppression keeps, best first; overlaps[i][j] is the IoU of "
        "boxes i and j",
        against(_nms_spec, _nms_cases, _NMS_MUTANTS),
        (
            "Walk down the scores. What must you know of the boxes before to decide on the next one?",
            "Only the boxes kept so far matter: hold them in a list.",
            "for i in sorted(range(len(scores)), key=lambda i: -scores[i]): append i unless some kept k has "
            "overlaps[i][k] > threshold.",
        ),
        nms_solution,
        _NMS_MUTANTS,
    ),
    Exercise(
        "suppression_round",
        NOTEBOOK,
        "one round for all boxes at once, sorted best first: a box stays unless a better box that is in "
        "`keep` overlaps it by more than threshold",
        against(_round_spec, _round_cases, _ROUND_MUTANTS),
        (
            "In a table whose entry [i, j] says that box i overlaps box j, where are the pairs with i better?",
            "Above the diagonal: triu(1). Then strike out the rows of the boxes that are not in keep.",
            "covers = (torch.tensor(overlaps) > threshold).triu(1); column j asks whether any kept i covers j.",
        ),
        round_solution,
        _ROUND_MUTANTS,
    ),
    Exercise(
        "best_of_image",
        NOTEBOOK,
        "the best `most` detections over all classes as pairs (class, place in its list), best first; "
        "scores_of_class[0] belongs to class 1",
        against(_best_spec, _best_cases, _BEST_MUTANTS),
        (
            "Throw the scores of all classes into one list, but remember where each came from.",
            "Make rows (score, label, place) with enumerate(..., start=1) for the label, and sort by score.",
            "rows.sort(key=lambda row: -row[0]) keeps equal scores in order; then slice with [:most].",
        ),
        best_solution,
        _BEST_MUTANTS,
    ),
)
