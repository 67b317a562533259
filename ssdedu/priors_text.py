"""A detector's description as text: a table for people, Python source for programs; and found by its name."""

from __future__ import annotations

import dataclasses
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssdedu.priors import Config

__all__ = ["as_python", "named", "table", "tables"]


def table(config: Config) -> str:
    """The description as a text table: a line a map, with cells, step, sizes, ratios and numbers of boxes."""
    head = f"{'map':12}{'cells':>9}{'step':>8}{'min_px':>9}{'max_px':>9}{'k':>4}{'boxes':>8}"
    lines = [f"{config.name}: input {config.width_px} x {config.height_px} px", f"{head}  ratios besides 1"]
    for m in config.maps:
        step = m.step_px or config.width_px / m.width
        high = "-" if m.max_px is None else f"{m.max_px:g}"
        ratios = ", ".join(f"{r:g}, {1 / r:.3g}" for r in m.aspect_ratios)
        cells = f"{m.height}x{m.width}"
        sizes = f"{step:8g}{m.min_px:9g}{high:>9}{m.boxes_per_cell:4}{m.num_boxes:8,}"
        lines.append(f"{m.name:12}{cells:>9}{sizes}  {ratios}")
    return "\n".join([*lines, f"{'sum':12}{config.num_boxes:47,}"])


def as_python(config: Config, variable: str = "config") -> str:
    """Source text that, run as Python, leaves an equal description in `variable`; defaults are left out."""
    lines = ["from ssdedu import priors", "", f"{variable} = priors.Config("]
    for name, value in _given(config):
        if name == "maps":
            lines += ["    maps=(", *(f"        {_source(m)}," for m in value), "    ),"]
        else:
            lines.append(f"    {name}={_source(value)},")
    return "\n".join([*lines, ")", ""])


def _given(description: Any) -> list[tuple[str, Any]]:
    """Fields of a dataclass object that differ from their defaults, with their values."""
    values = [(field, getattr(description, field.name)) for field in dataclasses.fields(description)]
    return [(field.name, value) for field, value in values if value != field.default]


def _source(value: Any) -> str:
    """A part of a description, a name, number, flag or sequence of numbers as Python source."""
    if dataclasses.is_dataclass(value):
        given = ", ".join(f"{name}={_source(part)}" for name, part in _given(value))
        return f"priors.{type(value).__name__}({given})"
    if value is None or isinstance(value, str | bool):
        return repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_source, value))}{',' * (len(value) == 1)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_source, value))}]"
    return repr(int(value)) if isinstance(value, Integral) else repr(float(value))


def named(name: str) -> Config:
    """The description of that name in any case: of `priors.PRESETS`, else of a detector of `recipes.RECIPES`.

    Raises ValueError that lists the names.
    """
    from ssdedu import priors

    presets = {known.lower(): config for known, config in priors.PRESETS.items()}
    if name.lower() in presets:
        return presets[name.lower()]
    from ssdedu.recipes import RECIPES

    if name.lower() in RECIPES:
        return RECIPES[name.lower()].config
    known = f"known: {', '.join(priors.PRESETS)}; and those of `ssdedu train`: {', '.join(RECIPES)}"
    raise ValueError(f"no description is called {name!r}; {known}")


def tables(name: str) -> str:
    """The table of the description of that name, or of all presets for "all"."""
    from ssdedu import priors

    chosen = priors.PRESETS.values() if name.lower() == "all" else [named(name)]
    return "\n\n".join(map(table, chosen))
