"""Exercises of `07_hard_negative_mining`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ssdedu.course.exercise import Case, Exercise, Mutant, against
from ssdedu.mining import hard_negatives

__all__ = ["EXERCISES"]

NOTEBOOK = "07_hard_negative_mining"
Flags = list[list[bool]]


def _gradient_spec(logits: list[float], label: int) -> torch.Tensor:
    leaf = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.cross_entropy(leaf, torch.tensor(label)).backward()
    assert leaf.grad is not None
    return leaf.grad


def _gradient_cases() -> Iterator[Case]:
    yield Case(([2.0, 0.0, -1.0], 0), "an easy negative: background 0 has the largest logit")
    yield Case(([-1.0, 3.0, 0.0], 0), "a hard negative: class 1 looks likely")
    yield Case(([0.0, 0.0, 0.0, 0.0], 2), "a positive of an untrained network")
    yield Case(([1000.0, 0.0], 1), "logits whose exp overflows")


def gradient_solution(logits: list, label: int) -> torch.Tensor:
    gradient = torch.softmax(torch.tensor(logits, dtype=torch.float64), dim=0)
    gradient[label] -= 1
    return gradient


def _gradient_softmax_alone(logits: list[float], label: int) -> torch.Tensor:
    return torch.softmax(torch.tensor(logits, dtype=torch.float64), dim=0)


def _gradient_sign(logits: list[float], label: int) -> torch.Tensor:
    return -gradient_solution(logits, label)


def _gradient_of_probabilities(logits: list[float], label: int) -> torch.Tensor:
    p = _gradient_softmax_alone(logits, label).clamp(min=1e-9)
    return -torch.nn.functional.one_hot(torch.tensor(label), len(logits)) / p


def _gradient_label_only(logits: list[float], label: int) -> torch.Tensor:
    one_hot = torch.nn.functional.one_hot(torch.tensor(label), len(logits))
    return gradient_solution(logits, label) * one_hot


def _gradient_overflow(logits: list[float], label: int) -> torch.Tensor:
    e = torch.tensor(logits, dtype=torch.float64).exp()
    return e / e.sum() - torch.nn.functional.one_hot(torch.tensor(label), len(logits))


_GRADIENT_MUTANTS = (
    Mutant(_gradient_softmax_alone, "the label does not enter: its entry needs a further term"),
    Mutant(
        _gradient_sign, "the sign is turned round: a step against the gradient must raise the right logit"
    ),
    Mutant(_gradient_of_probabilities, "this is the gradient by the probabilities, not by the logits"),
    Mutant(_gradient_label_only, "the wrong classes get no gradient; they are pushed down"),
    Mutant(_gradient_overflow, "exp overflows for large logits; torch.softmax takes care of that"),
)


def _count_spec(positive: Flags, ratio: float) -> list[int]:
    mask = torch.tensor(positive)
    return hard_negatives(torch.ones(mask.shape), mask, ratio).sum(1).tolist()


def _count_cases() -> Iterator[Case]:
    yield Case(([[True] + 7 * [False]], 3), "1 positive of 8 boxes")
    yield Case(([[True, True, False, False, False]], 3), "2 positives and only 3 negatives")
    yield Case(([4 * [False], 3 * [True] + [False]], 1), "an image without positives beside one with 3")
    yield Case(([[True] + 5 * [False], 2 * [True] + 4 * [False]], 2), "two images, ratio 2")
    yield Case(([3 * [True] + 9 * [False]], 2.5), "a ratio of 2.5: the original cuts the product down")
    yield Case(([3 * [True]], 3), "no negative at all")


def count_negatives_solution(positive: list, ratio: float) -> list:
    return [min(int(ratio * sum(row)), len(row) - sum(row)) for row in positive]


def _count_uncapped(positive: Flags, ratio: float) -> list[int]:
    return [int(ratio * sum(row)) for row in positive]


def _count_capped_at_all_boxes(positive: Flags, ratio: float) -> list[int]:
    return [min(int(ratio * sum(row)), len(row)) for row in positive]


def _count_over_the_batch(positive: Flags, ratio: float) -> list[int]:
    total = int(ratio * sum(sum(row) for row in positive))
    return [min(total, len(row) - sum(row)) for row in positive]


def _count_at_least_one_positive(positive: Flags, ratio: float) -> list[int]:
    return [min(int(ratio * max(1, sum(row))), len(row) - sum(row)) for row in positive]


def _count_rounded(positive: Flags, ratio: float) -> list[int]:
    return [min(round(ratio * sum(row)), len(row) - sum(row)) for row in positive]


_COUNT_MUTANTS = (
    Mutant(_count_uncapped, "more negatives are asked for than the image has"),
    Mutant(
        _count_capped_at_all_boxes, "the limit is the number of boxes; positives would count as negatives"
    ),
    Mutant(_count_over_the_batch, "positives are counted over the batch; mining goes image by image"),
    Mutant(_count_at_least_one_positive, "an image without positives is treated as if it had one"),
    Mutant(_count_rounded, "the product is rounded; the original code cuts it down to a whole number"),
)


def _rank_spec(losses: list[float]) -> list[int]:
    """By counting: how many are larger, or equal and earlier."""
    return [
        sum(other > own or (other == own and j < i) for j, other in enumerate(losses))
        for i, own in enumerate(losses)
    ]


def _rank_cases() -> Iterator[Case]:
    yield Case(([0.3, 2.5, 0.1, 1.2],), "four losses")
    yield Case(([5.0, 1.0, 4.0, 2.0, 3.0],), "where order and ranks differ")
    yield Case(([1.0, 2.0, 2.0, 1.0],), "equal losses: the earlier box comes first")
    yield Case(([0.7],), "one box")


def rank_solution(losses: list) -> torch.Tensor:
    order = torch.tensor(losses).argsort(descending=True, stable=True)
    return order.argsort()


def _rank_sorted_once(losses: list[float]) -> torch.Tensor:
    return torch.tensor(losses).argsort(descending=True, stable=True)


def _rank_ascending(losses: list[float]) -> torch.Tensor:
    return torch.tensor(losses).argsort(stable=True).argsort()


def _rank_ties_shared(losses: list[float]) -> list[int]:
    return [sum(other > own for other in losses) for own in losses]


def _rank_ties_backwards(losses: list[float]) -> torch.Tensor:
    return torch.tensor(losses).argsort(stable=True).flip(0).argsort()


def _rank_from_one(losses: list[float]) -> torch.Tensor:
    return rank_solution(losses) + 1


_RANK_MUTANTS = (
    Mutant(_rank_sorted_once, "this is the order (which box is k-th), not the rank (which place has box i)"),
    Mutant(_rank_ascending, "the smallest loss comes first; the hardest box has rank 0"),
    Mutant(_rank_ties_shared, "equal losses share a rank, so more boxes than asked for would pass"),
    Mutant(_rank_ties_backwards, "of equal losses the later box comes first"),
    Mutant(_rank_from_one, "ranks start at 1; the hardest box has rank 0"),
)


def _mine_spec(losses: list[float], positive: list[bool], ratio: float) -> list[int]:
    mask = hard_negatives(torch.tensor([losses]), torch.tensor([positive]), ratio)[0].tolist()
    return sorted((i for i, chosen in enumerate(mask) if chosen), key=lambda i: -losses[i])


def _mine_cases() -> Iterator[Case]:
    yield Case(([0.2, 0.9, 0.1, 0.7, 0.5], [False, True, False, False, False], 2), "1 positive, ratio 2")
    yield Case(([0.1, 3.0, 0.4, 0.2], [True, False, True, False], 3), "3 x 2 positives, but 2 negatives")
    yield Case(([0.5, 0.5, 0.8, 0.5], [False, False, True, False], 2), "equal losses: the earlier box first")
    yield Case(([4.0, 1.0, 2.0], [True, False, False], 3), "a positive with the largest loss of all")
    yield Case(([1.0, 2.0], [False, False], 3), "no positive")


def mine_solution(losses: list, positive: list, ratio: float) -> list:
    negatives = [i for i, matched in enumerate(positive) if not matched]
    negatives.sort(key=lambda i: -losses[i])
    return negatives[: int(ratio * sum(positive))]


def _mine_positives_too(losses: list[float], positive: list[bool], ratio: float) -> list[int]:
    order = sorted(range(len(losses)), key=lambda i: -losses[i])
    return order[: int(ratio * sum(positive))]


def _mine_positives_last(losses: list[float], positive: list[bool], ratio: float) -> list[int]:
    order = sorted(range(len(losses)), key=lambda i: positive[i] - 1 / (1 + np.exp(-losses[i])))
    return order[: int(ratio * sum(positive))]


def _mine_easiest(losses: list[float], positive: list[bool], ratio: float) -> list[int]:
    return mine_solution([-loss for loss in losses], positive, ratio)


def _mine_in_order_of_boxes(losses: list[float], positive: list[bool], ratio: float) -> list[int]:
    return sorted(mine_solution(losses, positive, ratio))


def _mine_when_empty_too(losses: list[float], positive: list[bool], ratio: float) -> list[int]:
    return mine_solution(losses, positive, ratio) or mine_solution([*losses, 0.0], [*positive, True], ratio)


_MINE_MUTANTS = (
    Mutant(_mine_positives_too, "positives compete with the negatives for the places"),
    Mutant(
        _mine_positives_last, "positives only go to the end of the queue and come in when negatives run out"
    ),
    Mutant(_mine_easiest, "the easiest negatives are taken, those with the smallest loss"),
    Mutant(_mine_in_order_of_boxes, "the right boxes are given, but not the hardest first"),
    Mutant(_mine_when_empty_too, "an image without positives yields some negatives; here it yields none"),
)


EXERCISES = (
    Exercise(
        "logit_gradient",
        NOTEBOOK,
        "the gradient of one box's cross-entropy by its logits: one number for each class",
        against(_gradient_spec, _gradient_cases, _GRADIENT_MUTANTS),
        (
            "Write the loss as log(sum of exp(logits)) - logits[label] and differentiate both parts.",
            "The first part gives the softmax. The second changes only the entry of the label.",
            "Take torch.softmax(torch.tensor(logits), dim=0) and subtract 1 at the label.",
        ),
        gradient_solution,
        _GRADIENT_MUTANTS,
    ),
    Exercise(
        "count_hard_negatives",
        NOTEBOOK,
        "how many negatives each image of a batch may keep: ratio times its positives, "
        "and never more than it has",
        against(_count_spec, _count_cases, _COUNT_MUTANTS),
        (
            "Go image by image. Two numbers limit the count: which?",
            "What is wanted is int(ratio * positives), what is there is boxes minus positives.",
            "For each row: min(int(ratio * sum(row)), len(row) - sum(row)).",
        ),
        count_negatives_solution,
        _COUNT_MUTANTS,
    ),
    Exercise(
        "loss_rank",
        NOTEBOOK,
        "the place of each box when all are sorted by loss, the hardest at place 0",
        against(_rank_spec, _rank_cases, _RANK_MUTANTS),
        (
            "argsort answers: which box stands at place k? You want: at which place stands box i?",
            "The second question is the inverse of the first, and argsort inverts a permutation.",
            "order = torch.tensor(losses).argsort(descending=True, stable=True); sort that once more.",
        ),
        rank_solution,
        _RANK_MUTANTS,
    ),
    Exercise(
        "mine_one_image",
        NOTEBOOK,
        "the boxes (their numbers) of one image's hard negatives, the hardest first",
        against(_mine_spec, _mine_cases, _MINE_MUTANTS),
        (
            "Make a list of the negatives first; then no positive can slip in later.",
            "Sort that list by falling loss: list.sort(key=lambda i: -losses[i]).",
            "Keep the first int(ratio * sum(positive)); a slice stops by itself when the list is shorter.",
        ),
        mine_solution,
        _MINE_MUTANTS,
    ),
)
