"""Exercises of `06_loss`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ssdedu import loss
from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "06_loss"
Numbers = Sequence[float]
Flags = Sequence[bool]


def _smooth_spec(differences: Numbers, beta: float) -> torch.Tensor:
    return loss.smooth_l1(torch.tensor(differences, dtype=torch.float64), beta)


def _smooth_cases() -> Iterator[Case]:
    yield Case(([0.4, -0.2, 0.0], 1.0), "small differences")
    yield Case(([3.0, 10.0], 1.0), "large differences")
    yield Case(([-3.0, -1.5], 1.0), "large negative differences")
    yield Case(([1.0, -1.0], 1.0), "where the parabola ends")
    yield Case(([0.3, -0.8, 4.0], 0.6), "another beta")
    yield Case(([], 1.0), "no difference at all")


def smooth_solution(differences: list, beta: float) -> list:
    return [0.5 * d * d / beta if abs(d) < beta else abs(d) - beta / 2 for d in differences]


def _smooth_absolute(differences: Numbers, beta: float) -> list[float]:
    return [abs(d) for d in differences]


def _smooth_squared(differences: Numbers, beta: float) -> list[float]:
    return [0.5 * d * d / beta for d in differences]


def _smooth_with_jump(differences: Numbers, beta: float) -> list[float]:
    return [0.5 * d * d / beta if abs(d) < beta else abs(d) for d in differences]


def _smooth_signed(differences: Numbers, beta: float) -> list[float]:
    return [0.5 * d * d / beta if abs(d) < beta else d - beta / 2 for d in differences]


def _smooth_beta_one(differences: Numbers, beta: float) -> list[float]:
    return smooth_solution(list(differences), 1.0)


def _smooth_below_beta(differences: Numbers, beta: float) -> list[float]:
    return [0.5 * d * d / beta if d < beta else d - beta / 2 for d in differences]


def _smooth_fixed_line(differences: Numbers, beta: float) -> list[float]:
    return [0.5 * d * d / beta if abs(d) < beta else abs(d) - 0.5 for d in differences]


def _smooth_undivided(differences: Numbers, beta: float) -> list[float]:
    return [0.5 * d * d if abs(d) < beta else abs(d) - beta / 2 for d in differences]


_SMOOTH_MUTANTS = (
    Mutant(_smooth_absolute, "this is the plain absolute value, with its corner at 0"),
    Mutant(_smooth_squared, "large differences are squared too"),
    Mutant(_smooth_with_jump, "the straight part is not lowered, so the loss jumps where the parabola ends"),
    Mutant(_smooth_signed, "a negative difference earns a negative loss"),
    Mutant(_smooth_beta_one, "the parabola always ends at 1, whatever beta is"),
    Mutant(_smooth_below_beta, "every negative difference counts as small; its size decides"),
    Mutant(
        _smooth_fixed_line, "the line is always lowered by a half, which meets the parabola only if beta is 1"
    ),
    Mutant(_smooth_undivided, "the parabola is not divided by beta, so the two parts do not meet"),
)


def _row_spec(logits: Numbers, label: int) -> torch.Tensor:
    return F.cross_entropy(torch.tensor([logits], dtype=torch.float64), torch.tensor([label]))[None][0]


def _row_cases() -> Iterator[Case]:
    yield Case(([0.0, 0.0, 0.0], 1), "equal logits")
    yield Case(([1.5, -0.5, 0.25, 1.0], 0), "background")
    yield Case(([2.0, 0.5, -1.0], 2), "a class that the network finds unlikely")
    yield Case(([0.0, 1000.0], 0), "a network that is very sure, and wrong")
    yield Case(([-2000.0, -2001.0], 1), "very negative logits")


def row_solution(logits: list, label: int) -> float:
    shifted = np.array(logits) - max(logits)
    return np.log(np.exp(shifted).sum()) - shifted[label]


def _row_naive(logits: Numbers, label: int) -> float:
    with np.errstate(all="ignore"):
        exponentials = np.exp(np.array(logits))
        return float(-np.log(exponentials[label] / exponentials.sum()))


def _row_rounded_away(logits: Numbers, label: int) -> float:
    shifted = np.exp(np.array(logits) - max(logits))
    with np.errstate(divide="ignore"):
        return float(-np.log(shifted[label] / shifted.sum()))


def _row_rounded_away_in_math(logits: Numbers, label: int) -> float:
    shifted = np.exp(np.array(logits) - max(logits))
    return -math.log(shifted[label] / shifted.sum())


def _row_with_epsilon(logits: Numbers, label: int) -> float:
    shifted = np.exp(np.array(logits) - max(logits))
    return float(-np.log(shifted[label] / shifted.sum() + 1e-10))


def _row_probability(logits: Numbers, label: int) -> float:
    return float(np.exp(-row_solution(list(logits), label)))


def _row_sigmoid(logits: Numbers, label: int) -> float:
    return float(np.logaddexp(0, -logits[label]))


def _row_bits(logits: Numbers, label: int) -> float:
    return row_solution(list(logits), label) / float(np.log(2))


def _row_label_from_one(logits: Numbers, label: int) -> float:
    return row_solution(list(logits), label - 1)


_ROW_MUTANTS = (
    Mutant(_row_naive, "exp is taken of the logits as they are, and overflows or vanishes"),
    Mutant(_row_rounded_away, "a tiny probability is rounded to 0, and then its logarithm is taken"),
    Mutant(_row_rounded_away_in_math, "a tiny probability is rounded to 0, which has no logarithm"),
    Mutant(
        _row_with_epsilon, "a small number is added before the logarithm; it caps the loss of a gross mistake"
    ),
    Mutant(_row_probability, "this is the probability itself, without minus logarithm"),
    Mutant(_row_sigmoid, "the right logit is looked at alone, as if its class had no rivals"),
    Mutant(_row_bits, "the logarithm is not the natural one"),
    Mutant(_row_label_from_one, "labels are counted from 1; label 0 is background, the first logit"),
)


def _image_spec(
    localization: Numbers, cross_entropy: Numbers, positive: Flags, negative: Flags
) -> np.ndarray:
    p, chosen = np.array(positive, bool), np.array(positive, bool) | np.array(negative, bool)
    sums = np.array(localization, float)[p].sum(), np.array(cross_entropy, float)[chosen].sum()
    return np.array(sums) / max(int(p.sum()), 1)


def _image_cases() -> Iterator[Case]:
    yes, no = True, False
    yield Case(([0.5, 9.0], [2.0, 1.0], [yes, no], [no, yes]), "one matched box and one chosen negative")
    yield Case(
        ([0.5, 1.5, 9.0, 9.0], [2.0, 3.0, 0.5, 4.0], [yes, yes, no, no], [no, no, no, yes]),
        "two matched boxes, one of two negatives chosen",
    )
    yield Case(([9.0, 0.2], [1.0, 0.7], [no, yes], [no, no]), "no negative chosen")
    yield Case(([9.0, 9.0], [1.0, 0.5], [no, no], [no, no]), "an image without objects")


def image_solution(localization: list, cross_entropy: list, positive: list, negative: list) -> tuple:
    n = max(sum(positive), 1)
    boxes_loss = sum(b for b, p in zip(localization, positive, strict=True) if p)
    classes_loss = sum(c for c, p, q in zip(cross_entropy, positive, negative, strict=True) if p or q)
    return boxes_loss / n, classes_loss / n


def _image_all_negatives(b: Numbers, c: Numbers, positive: Flags, negative: Flags) -> tuple[float, float]:
    return image_solution(list(b), list(c), list(positive), [any(positive)] * len(c))


def _image_all_boxes(b: Numbers, c: Numbers, positive: Flags, negative: Flags) -> tuple[float, float]:
    return sum(b) / max(sum(positive), 1), image_solution(list(b), list(c), list(positive), list(negative))[1]


def _image_positives_alone(b: Numbers, c: Numbers, positive: Flags, negative: Flags) -> tuple[float, float]:
    return image_solution(list(b), list(c), list(positive), [False] * len(c))


def _image_mean_of_chosen(b: Numbers, c: Numbers, positive: Flags, negative: Flags) -> tuple[float, float]:
    chosen = sum(p or q for p, q in zip(positive, negative, strict=True))
    first, second = image_solution(list(b), list(c), list(positive), list(negative))
    return first, second * max(sum(positive), 1) / max(chosen, 1)


def _image_undivided(b: Numbers, c: Numbers, positive: Flags, negative: Flags) -> list[float]:
    both = image_solution(list(b), list(c), list(positive), list(negative))
    return [part * max(sum(positive), 1) for part in both]


def _image_zero_by_zero(b: Numbers, c: Numbers, positive: Flags, negative: Flags) -> tuple[float, float]:
    if not any(positive):
        return float("nan"), float("nan")
    return image_solution(list(b), list(c), list(positive), list(negative))


_IMAGE_MUTANTS = (
    Mutant(_image_all_negatives, "all unmatched boxes count; only the chosen ones should"),
    Mutant(_image_all_boxes, "the localization of unmatched boxes counts, though they have no target"),
    Mutant(_image_positives_alone, "the chosen negatives are left out of the confidence loss"),
    Mutant(
        _image_mean_of_chosen,
        "the confidence is divided by all chosen boxes; N counts the matched ones alone",
    ),
    Mutant(_image_undivided, "the sums are not divided by N"),
    Mutant(_image_zero_by_zero, "0 is divided by 0 where nothing is matched; N should count as 1 there"),
)


def _batch_spec(sums: Numbers, positives: Sequence[int]) -> float:
    return float(np.sum(sums)) / max(int(np.sum(positives)), 1)


def _batch_cases() -> Iterator[Case]:
    yield Case(([6.0], [2]), "a batch of one image")
    yield Case(([2.0, 4.0], [1, 3]), "two images with different numbers of matched boxes")
    yield Case(([3.0, 0.0, 8.0], [1, 0, 7]), "an image without objects among others")
    yield Case(([0.0, 0.0], [0, 0]), "only images without objects")


def batch_solution(sums: list, positives: list) -> float:
    return sum(sums) / max(sum(positives), 1)


def _batch_mean_of_images(sums: Numbers, positives: Sequence[int]) -> float:
    return sum(s / max(n, 1) for s, n in zip(sums, positives, strict=True)) / len(sums)


def _batch_sum_of_images(sums: Numbers, positives: Sequence[int]) -> float:
    return sum(s / max(n, 1) for s, n in zip(sums, positives, strict=True))


def _batch_by_size(sums: Numbers, positives: Sequence[int]) -> float:
    return sum(sums) / len(sums)


def _batch_one_each(sums: Numbers, positives: Sequence[int]) -> float:
    return sum(sums) / sum(max(n, 1) for n in positives)


def _batch_unguarded(sums: Numbers, positives: Sequence[int]) -> float:
    return sum(sums) / sum(positives)


_BATCH_MUTANTS = (
    Mutant(_batch_mean_of_images, "each image is divided by its own N and the images are averaged"),
    Mutant(_batch_sum_of_images, "each image is divided by its own N and the images are added"),
    Mutant(_batch_by_size, "the sum is divided by the number of images"),
    Mutant(
        _batch_one_each,
        "each image without objects counts as one matched box; only the whole batch's N may not be 0",
    ),
    Mutant(_batch_unguarded, "0 is divided by 0 where the whole batch has no matched box"),
)


EXERCISES = (
    Exercise(
        "smooth_l1",
        NOTEBOOK,
        "the smooth L1 loss of each difference: a parabola up to beta, a straight line beyond, without a jump",
        against(_smooth_spec, _smooth_cases, _SMOOTH_MUTANTS),
        (
            "Two cases for each difference: is its size below beta or not?",
            "Below: 0.5 * d * d / beta. Beyond: the size of d, lowered by so much that the parts meet at beta.",
            "At d = beta the parabola has the value beta / 2, so the line is abs(d) - beta / 2. Return a list.",
        ),
        smooth_solution,
        _SMOOTH_MUTANTS,
    ),
    Exercise(
        "cross_entropy_row",
        NOTEBOOK,
        "minus the logarithm of the softmax probability of the right class, for logits of any size",
        against(_row_spec, _row_cases, _ROW_MUTANTS),
        (
            "What changes in the softmax when the same number is subtracted from all logits?",
            "Nothing. So subtract the largest: then exp never overflows, and the sum is at least 1.",
            "shifted = np.array(logits) - max(logits); the loss is log(sum(exp(shifted))) - shifted[label].",
        ),
        row_solution,
        _ROW_MUTANTS,
    ),
    Exercise(
        "image_loss",
        NOTEBOOK,
        "the localization and the confidence loss of one image from the losses of its default boxes, over N",
        against(_image_spec, _image_cases, _IMAGE_MUTANTS),
        (
            "Which boxes have an object to fit? Which boxes have a class to get right, background included?",
            "Localization: matched boxes. Confidence: matched boxes and chosen negatives. Both divided by one N.",
            "n = max(sum(positive), 1); sum the cross-entropy where positive or negative is True, divide by n.",
        ),
        image_solution,
        _IMAGE_MUTANTS,
    ),
    Exercise(
        "batch_loss",
        NOTEBOOK,
        "the loss of a batch from the sum of losses and the number of matched boxes of each image",
        against(_batch_spec, _batch_cases, _BATCH_MUTANTS),
        (
            "Every matched default box of the batch should weigh the same, whatever image it is in.",
            "One division for the whole batch. What if not a single box is matched?",
            "Divide sum(sums) by max(sum(positives), 1).",
        ),
        batch_solution,
        _BATCH_MUTANTS,
    ),
)
