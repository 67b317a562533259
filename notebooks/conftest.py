"""Strict nbval with a tolerance: the same text, whole numbers exact, each float within a thousandth.

Pixels of figures are not compared (their facts are printed and compared); their alternative text is. A cell
that was committed without having been run fails, where nbval alone would compare nothing and pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
from nbval.plugin import IPyNbCell

RELATIVE = 1e-3
ABSOLUTE = 1e-6
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
