"""Exercises: what is asked, how an answer is checked, hints, a solution, and wrong answers the check rejects.

A check hands the learner's function generated cases, compares with a slow or trusted function, and says what
is wrong: first the case that fails, then, where the results are those of a known wrong answer, the likely
mistake. It prints no answer and lets no exception into the notebook.
"""

from __future__ import annotations

import copy
import dis
import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Case",
    "Exercise",
    "Mutant",
    "Verdict",
    "against",
    "check",
    "hint",
    "judge",
    "solution",
    "solution_text",
]

Answer = Callable[..., Any]
TOLERANCE = 1e-5
LONGEST_CALL = 80
_STUB_INSTRUCTIONS = 4


@dataclass(frozen=True)
class Case:
    """Arguments for the learner's function and, for the message, what is special about them."""

    args: tuple[Any, ...]
    what: str


@dataclass(frozen=True)
class Mutant:
    """A plausible wrong answer; why completes the sentence "it looks as if ..."."""

    function: Answer
    why: str


@dataclass(frozen=True)
class Exercise:
    """One exercise of one notebook.

    check takes the learner's function and returns None, or the reason why it is wrong (see `against`).
    hints go from a nudge to nearly everything; solution passes the check, each of the mutants does not.
    """

    name: str
    notebook: str
    statement: str
    check: Callable[[Answer], str | None]
    hints: tuple[str, ...]
    solution: Answer
    mutants: tuple[Mutant, ...]


@dataclass(frozen=True)
class Verdict:
    """What a check found: status is "not attempted", "wrong" or "passed"."""

    status: str
    message: str


class _NotAttempted(Exception):
    """The learner's function is still the stub."""


class _Failed(Exception):
    """The learner's function raised; the message says what and where."""


def against(
    spec: Answer, cases: Callable[[], Iterable[Case]], mutants: Sequence[Mutant] = ()
) -> Callable[[Answer], str | None]:
    """A check that compares an answer with spec on every case: numbers to 1e-5, shapes exactly.

    cases makes fresh cases at each call, edge cases among them; mutants turn a wrong result into its likely
    cause.
    """

    def reason(answer: Answer) -> str | None:
        for case in cases():
            problem = _problem(answer, spec, case)
            if problem:
                twins = (m.why for m in mutants if _alike(answer, m.function, cases()))
                why = next(twins, None)
                return f"in {_call(answer, case)}: {problem}." + (f" It looks as if {why}." if why else "")
        return None

    return reason


def _call(answer: Answer, case: Case) -> str:
    """The failing call, for the learner to repeat, where it is short enough; and what is special about it."""
    name = getattr(answer, "__name__", "")
    call = f"{name if name.isidentifier() else 'your_function'}({', '.join(map(repr, case.args))})"
    return f"{call}, {case.what}" if len(call) <= LONGEST_CALL and "\n" not in call else case.what


def _problem(answer: Answer, spec: Answer, case: Case) -> str | None:
    wanted = spec(*copy.deepcopy(case.args))
    try:
        got = _run(answer, case)
    except _Failed as failure:
        return str(failure)
    return _difference(got, wanted)


def _run(answer: Answer, case: Case) -> Any:
    """The answer's result; _NotAttempted for a stub, _Failed for whatever it raises."""
    try:
        result = answer(*copy.deepcopy(case.args))
    except NotImplementedError as error:
        raise _NotAttempted from error
    except (Exception, SystemExit) as error:
        raise _Failed(_describe(error, answer)) from error
    if result is Ellipsis or (result is None and _is_stub(answer)):
        raise _NotAttempted
    return result


def _is_stub(answer: Answer) -> bool:
    """Whether the body is only `...`, `pass`, `return` or a docstring."""
    code = getattr(answer, "__code__", None)
    return code is not None and len(list(dis.get_instructions(code))) <= _STUB_INSTRUCTIONS


def _describe(error: BaseException, answer: Answer) -> str:
    code = getattr(answer, "__code__", None)
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename
    ]
    where = (
        f" in line {lines[-1] - code.co_firstlineno + 1} of your function"
        if code and lines and lines[-1]
        else ""
    )
    return f"it raised {type(error).__name__}{where}: {error!s:.120}".rstrip(": ")


def _difference(got: object, wanted: object) -> str | None:
    """None where got equals wanted, else what is wrong with got, without telling wanted."""
    if got is None:
        return "your function returned None (is a `return` missing?)"
    theirs, ours = _numbers(got), _numbers(wanted)
    if theirs is None or ours is None:
        kind = "one number" if ours is not None and ours.ndim == 0 else "numbers in a list, array or tensor"
        return f"your function returned {type(got).__name__}, but should return {kind}"
    if theirs.shape != ours.shape:
        return f"the result has {_shape(theirs)}, but should have {_shape(ours)}"
    wrong = ~np.isclose(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    return _first_wrong(theirs, ours, wrong) if wrong.any() else None


def _numbers(value: object) -> np.ndarray | None:
    """The value as a float64 array, None where it is not made of numbers alone."""
    try:
        detached = value.detach().cpu() if hasattr(value, "detach") else value
        array = np.asarray(detached)
        return array.astype(np.float64) if array.dtype.kind in "biuf" else None
    except Exception:
        return None


def _shape(array: np.ndarray) -> str:
    if array.ndim == 0:
        return "no length (one number)"
    return f"length {len(array)}" if array.ndim == 1 else f"shape {array.shape}"


def _first_wrong(theirs: np.ndarray, ours: np.ndarray, wrong: np.ndarray) -> str:
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    value = theirs[index]
    side = "not a number" if np.isnan(value) else "too large" if value > ours[index] else "too small"
    if not index:
        return f"your {value:.6g} is {side}"
    place = ", ".join(map(str, index))
    return f"result[{place}] = {value:.6g} is {side} ({int(wrong.sum())} of {wrong.size} entries differ)"


def _alike(answer: Answer, other: Answer, cases: Iterable[Case]) -> bool:
    """Whether two functions do the same on every case, raising included."""
    return all(_outcomes_match(answer, other, case) for case in cases)


def _outcomes_match(answer: Answer, other: Answer, case: Case) -> bool:
    (a, a_raised), (b, b_raised) = _outcome(answer, case), _outcome(other, case)
    if a_raised or b_raised:
        return a_raised and b_raised
    return _difference(a, b) is None


def _outcome(answer: Answer, case: Case) -> tuple[Any, bool]:
    try:
        return _run(answer, case), False
    except (_Failed, _NotAttempted):
        return None, True


def judge(exercise: Exercise, answer: object) -> Verdict:
    """The verdict on an answer; no exception of the answer gets out, only KeyboardInterrupt does."""
    if answer is None or answer is Ellipsis:
        return Verdict("not attempted", "")
    if not callable(answer):
        return Verdict("wrong", "the check wants your function itself: its name without brackets behind it")
    try:
        reason = exercise.check(answer)
    except _NotAttempted:
        return Verdict("not attempted", "")
    except (Exception, SystemExit) as error:
        return Verdict("wrong", f"the result could not be compared ({type(error).__name__})")
    return Verdict("passed", "") if reason is None else Verdict("wrong", reason)


def check(name: str, answer: object) -> None:
    """Print whether a learner's function is not attempted, wrong (and why) or passed; never raises."""
    exercise = _find(name)
    if exercise is None:
        return
    verdict = judge(exercise, answer)
    remarks = {
        "not attempted": f'put your code in place of ... and run again; hint("{name}") helps.',
        "wrong": f"because {verdict.message}",
        "passed": "well done.",
    }
    print(f"{name}: {verdict.status}, {remarks[verdict.status]}")


def hint(name: str, level: int = 1) -> None:
    """Print one hint to an exercise, level 1 being the least; never raises."""
    exercise = _find(name)
    if exercise is None:
        return
    hints = exercise.hints
    if level not in range(1, len(hints) + 1):
        print(f"{name} has hints 1 to {len(hints)}; after that: ssdedu solution {name}")
        return
    print(f"Hint {level} of {len(hints)}: {hints[level - 1]}")


def solution(name: str) -> None:
    """Print the tested solution of an exercise; an unknown name is answered by the list of names."""
    if _find(name):
        print(solution_text(name))


def solution_text(name: str) -> str:
    """Source of the tested solution of an exercise, under its statement; ValueError for an unknown name."""
    from ssdedu.course.exercises import load

    exercise = load(name)
    head = f"# {exercise.name} (notebook {exercise.notebook}): {exercise.statement}"
    return f"{head}\n{inspect.getsource(exercise.solution)}"


def _find(name: str) -> Exercise | None:
    from ssdedu.course.exercises import load

    try:
        return load(name)
    except ValueError as error:
        print(error)
        return None
