"""Predict, then reveal: the learner commits to a number before a cell shows it.

Plain cells and printed text, no widgets, so that a page without a kernel reads the same.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

from ssdedu.course.display import format_value

__all__ = ["predict", "reveal"]

CLOSE = 0.1


@dataclass(frozen=True)
class Prediction:
    """A question and what the learner expects: a number, or None while he has not said."""

    question: str
    guess: float | None
    unit: str


_predictions: dict[str, Prediction] = {}


def predict(name: str, question: str, guess: float | None = None, unit: str = "") -> None:
    """Ask for a number, to be revealed by `reveal(name, ...)`; guess None means "not yet", anything works on.

    A guess that is not one finite number is refused with a printed remark, never an error.
    Raises ValueError for an empty name or question.
    """
    if not name.strip() or not question.strip():
        raise ValueError("predict needs a name and a question")
    print(f"Predict: {question}" + (f" [{unit}]" if unit else ""))
    number = _number(guess)
    _predictions[name] = Prediction(question, number, unit)
    if number is not None:
        print(f"Your guess: {_with_unit(number, unit)}. A later cell reveals the answer.")
    elif guess is None:
        print("No guess yet: replace None by a number and run this cell again, or read on.")
    else:
        print(f"A guess is one number, such as 12.5; got {type(guess).__name__}.")


def reveal(name: str, value: float) -> None:
    """Print the computed value of what `predict(name, ...)` asked, and how far the guess was from it.

    Without that prediction (its cell was not run) it says so and keeps the value to itself. Raises ValueError
    where value is not a finite number.
    """
    number = _number(value)
    if number is None:
        raise ValueError(f"reveal({name!r}, ...) needs one finite number, got {value!r:.60}")
    asked = _predictions.get(name)
    if asked is None:
        print(f'Run the cell with predict("{name}", ...) first: it asks you for a guess.')
        return
    print(asked.question)
    print(f"  computed:   {_with_unit(number, asked.unit)}")
    print(f"  your guess: {_verdict(asked.guess, number, asked.unit)}")


def _number(value: object) -> float | None:
    """The value as a finite int or float, None for everything else."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _with_unit(value: float, unit: str) -> str:
    return f"{format_value(value)} {unit}".rstrip()


def _verdict(guess: float | None, value: float, unit: str) -> str:
    if guess is None:
        return "none made"
    if guess == value:
        return f"{_with_unit(guess, unit)}, exactly right"
    side = "low" if guess < value else "high"
    off = f"{_with_unit(guess, unit)}, {format_value(abs(guess - value))} too {side}"
    if value == 0:
        return off
    share = abs(guess - value) / abs(value)
    return f"{off} ({share:.0%}){': close' if share <= CLOSE else ''}"
