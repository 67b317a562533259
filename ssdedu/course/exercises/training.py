"""Exercises of `11_training`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ssdedu.course.exercise import Case, Exercise, Mutant, against
from ssdedu.settings import Settings, learning_rate

__all__ = ["EXERCISES"]

NOTEBOOK = "11_training"
Vector = list[float]


def _rate_spec(step: int, steps: int, warmup: int) -> float:
    return learning_rate(step, Settings(iterations=steps, warmup=warmup, schedule="cosine"))


def _rate_cases() -> Iterator[Case]:
    yield Case((0, 100, 10), "the very first step, in the warm-up")
    yield Case((9, 100, 10), "the last step of the warm-up")
    yield Case((10, 100, 10), "the first step after the warm-up")
    yield Case((41, 100, 10), "a step on the way down")
    yield Case((99, 100, 10), "the last step")
    yield Case((0, 50, 0), "no warm-up")


def rate_solution(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return 0.5 * (1 + np.cos(np.pi * done))


def _rate_from_zero(step: int, steps: int, warmup: int) -> float:
    return step / warmup if step < warmup else rate_solution(step, steps, warmup)


def _rate_no_warmup(step: int, steps: int, warmup: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _rate_whole_schedule(step: int, steps: int, warmup: int) -> float:
    return (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * step / steps))


def _rate_linear(step: int, steps: int, warmup: int) -> float:
    return (step + 1) / warmup if step < warmup else 1 - (step - warmup) / (steps - warmup)


def _rate_to_minus_one(step: int, steps: int, warmup: int) -> float:
    done = (step - warmup) / (steps - warmup)
    return (step + 1) / warmup if step < warmup else math.cos(math.pi * done)


_RATE_MUTANTS = (
    Mutant(_rate_from_zero, "the first step has rate 0 and learns nothing"),
    Mutant(_rate_no_warmup, "there is no warm-up"),
    Mutant(_rate_whole_schedule, "the cosine runs over the whole schedule, the warm-up included"),
    Mutant(_rate_linear, "the rate falls on a straight line"),
    Mutant(_rate_to_minus_one, "the cosine falls to -1; half of (1 + cosine) falls to 0"),
)


def _momentum_spec(
    w: Vector, v: Vector, gradient: Vector, lr: float, momentum: float, decay: float
) -> list[Vector]:
    new_v = [momentum * b + g + decay * a for a, b, g in zip(w, v, gradient, strict=True)]
    return [[a - lr * b for a, b in zip(w, new_v, strict=True)], new_v]


def _momentum_cases() -> Iterator[Case]:
    yield Case(([1.5, -2.0], [0.0, 0.0], [0.25, 0.75], 0.1, 0.9, 0.0), "a first step without decay")
    yield Case(([1.5, -2.0], [0.3, -0.4], [0.25, 0.75], 0.1, 0.9, 0.0), "a step with velocity")
    yield Case(([3.0], [0.7], [0.0], 0.5, 0.8, 0.01), "no gradient, but decay")
    yield Case(([1.25], [2.5], [0.625], 0.25, 0.0, 0.125), "no momentum")


def momentum_solution(w: list, v: list, gradient: list, lr: float, momentum: float, decay: float) -> tuple:
    new_v = momentum * np.array(v) + np.array(gradient) + decay * np.array(w)
    return np.array(w) - lr * new_v, new_v


def _momentum_no_decay(w: Vector, v: Vector, g: Vector, lr: float, m: float, decay: float) -> Any:
    return momentum_solution(w, v, g, lr, m, 0.0)


def _momentum_no_velocity(w: Vector, v: Vector, g: Vector, lr: float, m: float, decay: float) -> Any:
    return momentum_solution(w, [0.0] * len(w), g, lr, m, decay)


def _momentum_damped(w: Vector, v: Vector, g: Vector, lr: float, m: float, decay: float) -> Any:
    grad = np.array(g) + decay * np.array(w)
    new_v = m * np.array(v) + (1 - m) * grad
    return np.array(w) - lr * new_v, new_v


def _momentum_old_velocity(w: Vector, v: Vector, g: Vector, lr: float, m: float, decay: float) -> Any:
    return np.array(w) - lr * np.array(v), momentum_solution(w, v, g, lr, m, decay)[1]


def _momentum_rate_inside(w: Vector, v: Vector, g: Vector, lr: float, m: float, decay: float) -> Any:
    new_v = m * np.array(v) + lr * (np.array(g) + decay * np.array(w))
    return np.array(w) - new_v, new_v


def _momentum_uphill(w: Vector, v: Vector, g: Vector, lr: float, m: float, decay: float) -> Any:
    new_v = momentum_solution(w, v, g, lr, m, decay)[1]
    return np.array(w) + lr * new_v, new_v


_MOMENTUM_MUTANTS = (
    Mutant(_momentum_no_decay, "weight decay is left out: it adds decay * w to the gradient"),
    Mutant(_momentum_no_velocity, "the old velocity is forgotten"),
    Mutant(_momentum_damped, "the gradient is scaled by 1 - momentum; torch and Caffe add it whole"),
    Mutant(_momentum_old_velocity, "the weights move by the old velocity; the new one comes first"),
    Mutant(
        _momentum_rate_inside, "the rate is in the velocity, as in Caffe; here only the weights' move has it"
    ),
    Mutant(_momentum_uphill, "the step goes up the gradient"),
)


def _clip_spec(gradients: list[Vector], limit: float) -> list[Vector]:
    norm = math.sqrt(sum(x * x for g in gradients for x in g))
    return [[x * min(1.0, limit / norm) if norm else x for x in g] for g in gradients]


def _clip_cases() -> Iterator[Case]:
    yield Case(([[3.0, 4.0]], 2.5), "one gradient of length 5")
    yield Case(([[2.0, 0.0], [1.0, 2.0]], 1.5), "two gradients of length 3 together")
    yield Case(([[0.3, -0.4]], 1.0), "a gradient shorter than the limit")
    yield Case(([[0.0, 0.0]], 1.0), "a gradient of length 0")


def clip_solution(gradients: list, limit: float) -> list:
    gradients = [np.array(g) for g in gradients]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1.0, limit / norm) if norm > 0 else g for g in gradients]


def _clip_each(gradients: list[Vector], limit: float) -> list[Any]:
    return [clip_solution([g], limit)[0] for g in gradients]


def _clip_numbers(gradients: list[Vector], limit: float) -> list[Any]:
    return [np.clip(g, -limit, limit) for g in gradients]


def _clip_always(gradients: list[Vector], limit: float) -> list[Any]:
    norm = math.sqrt(sum(x * x for g in gradients for x in g)) or 1.0
    return [np.array(g) * limit / norm for g in gradients]


def _clip_sum(gradients: list[Vector], limit: float) -> list[Any]:
    norm = sum(abs(x) for g in gradients for x in g)
    return [np.array(g) * min(1.0, limit / norm) if norm else np.array(g) for g in gradients]


_CLIP_MUTANTS = (
    Mutant(_clip_each, "each gradient is measured alone; one length over all keeps their direction"),
    Mutant(_clip_numbers, "every number is cut; that turns the direction"),
    Mutant(_clip_always, "short gradients are made longer"),
    Mutant(_clip_sum, "absolute values are added up; the length is the root of the sum of squares"),
)


EXERCISES = (
    Exercise(
        "warmup_cosine",
        NOTEBOOK,
        "the rate of a step (from 0) as a fraction of the highest: up in equal parts over the warm-up, "
        "1 at its end, then half a cosine down to 0 at the end of the schedule",
        against(_rate_spec, _rate_cases, _RATE_MUTANTS),
        (
            "Two cases: inside the warm-up, and after it.",
            "Inside: (step + 1) / warmup. After it you need the share of the remaining steps that is done.",
            "done = (step - warmup) / (steps - warmup); 0.5 * (1 + np.cos(np.pi * done)) falls from 1 to 0.",
        ),
        rate_solution,
        _RATE_MUTANTS,
    ),
    Exercise(
        "momentum_step",
        NOTEBOOK,
        "the weights and the velocity after one step of gradient descent with momentum and weight decay; "
        "as in PyTorch the rate enters only when the weights move",
        against(_momentum_spec, _momentum_cases, _MOMENTUM_MUTANTS),
        (
            "Decay acts as a part of the gradient: decay * w is added to it.",
            "velocity = momentum * velocity + gradient + decay * w, and only then the weights move.",
            "Return both: w - lr * velocity, velocity.",
        ),
        momentum_solution,
        _MOMENTUM_MUTANTS,
    ),
    Exercise(
        "clip_gradients",
        NOTEBOOK,
        "gradients of several parameters, scaled down together so that the length of all of them is "
        "at most limit",
        against(_clip_spec, _clip_cases, _CLIP_MUTANTS),
        (
            "One length over all numbers of all gradients: the root of the sum of their squares.",
            "Every gradient is multiplied by the same factor. When must it not change anything?",
            "factor = min(1, limit / length); with length 0 there is nothing to scale.",
        ),
        clip_solution,
        _CLIP_MUTANTS,
    ),
)
