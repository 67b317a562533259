"""The register of exercises: one module a notebook, each with a tuple EXERCISES; found by being here."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from ssdedu.course.exercise import Exercise

__all__ = ["load", "registry"]


@cache
def registry() -> dict[str, Exercise]:
    """All exercises by name, in the order of the notebooks. Raises ValueError where two share a name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    exercises = sorted((e for m in modules for e in m.EXERCISES), key=lambda e: e.notebook)
    found = {e.name: e for e in exercises}
    if len(found) != len(exercises):
        names = [e.name for e in exercises]
        raise ValueError(f"two exercises share a name: {sorted({n for n in names if names.count(n) > 1})}")
    return found


def load(name: str) -> Exercise:
    """The exercise of that name; ValueError that lists the names, the likeliest first, when there is none."""
    known = registry()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(str(name), known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"there is no exercise {name!r}; {meant}Exercises: {', '.join(known)}")
