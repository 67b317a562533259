"""Strict nbval with a tolerance: the same text, whole numbers exact, each float within a thousandth.

Pixels of figures are not compared (their facts are printed and compared); their alternative text is. A cell
that was committed without having been run fails, where nbval alone would compare nothing and pass. A notebook
that takes longer than the course promises fails in the cell that exceeds it.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

RELATIVE = 1e-3
ABSOLUTE = 1e-6
os.environ.setdefault("TQDM_MININTERVAL", "2")  # nbval reads a cell's messages at its end; too many are lost
SECONDS = 120.0
LONGER = {"11_training": 240.0, "12_ablations": 240.0, "14_voc": 240.0}
_spent: dict[Path, float] = defaultdict(float)
_NUMBER = re.compile(r" *[-+]?(?:\d[\d,]*)?\.?\d+(?:e[-+]?\d+)?", re.IGNORECASE)
_PIXELS = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


class Tolerant(str):
    """Text that equals another when words and whole numbers are the same and floats are close."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str) or _NUMBER.sub("#", self) != _NUMBER.sub("#", other):
            return False
        return all(map(_close, _NUMBER.findall(self), _NUMBER.findall(other)))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def _close(a: str, b: str) -> bool:
    a, b = (text.strip().replace(",", "") for text in (a, b))
    if a == b:
        return True
    floats = any(mark in text.lower() for text in (a, b) for mark in ".e")
    return floats and math.isclose(float(a), float(b), rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Make nbval compare with `Tolerant` and without pixels."""
    for item in items:
        if isinstance(item, IPyNbCell):
            item.sanitize = _tolerant


def _tolerant(value: object) -> object:
    return Tolerant(_PIXELS.sub("pixels", value)) if isinstance(value, str) else value


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a cell that was committed without its outputs."""
    if isinstance(item, IPyNbCell) and item.cell.source.strip() and item.cell.execution_count is None:
        pytest.fail("committed without having been run: its outputs would not be compared", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the cell in which a notebook passes its time."""
    start = time.perf_counter()
    try:
        return (yield)
    finally:
        if isinstance(item, IPyNbCell):
            _spend(item.path, time.perf_counter() - start)


def _spend(path: Path, seconds: float) -> None:
    limit = LONGER.get(path.stem, SECONDS)
    _spent[path] += seconds
    if _spent[path] > limit:
        pytest.fail(f"{path.name} takes more than {limit:.0f} s up to this cell", pytrace=False)
