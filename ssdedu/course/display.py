"""Figures that a screen reader can read and a test can compare."""

from __future__ import annotations

import base64
import html
import io
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["format_value", "show"]

DPI = 100
SMALLEST_POINTS = 11
WIDEST_INCHES = 9.0
_COLORS = 128


def format_value(value: object) -> str:
    """A number or string as the course prints it: whole numbers exactly, others to four digits.

    Zero-dimensional arrays and tensors count as numbers. Raises ValueError for anything else.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, numbers.Number) and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return f"{int(value):,}"
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        real = float(value)
        return f"{real:,.0f}" if abs(real) >= 10_000 else f"{real:.4g}"
    raise ValueError(f"a fact is one number or one string, got {type(value).__name__}: {value!r:.60}")


def show(fig: Figure, alt: str, facts: Mapping[str, object]) -> None:
    """Display a figure as an image with alternative text, and print its facts below it.

    alt says what a person who does not see the figure needs to know. facts maps names to the numbers or
    strings that the figure shows: nbval cannot compare pixels, but it compares these lines. Closes it.
    Raises ValueError without alt or facts, or where text would be unreadable at half size.
    """
    from IPython.display import display

    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("show needs alt: a sentence that says what the figure shows")
    if not facts:
        raise ValueError(
            "show needs facts: name -> number or string, printed under the figure and compared by nbval"
        )
    lines = [f"{name}: {format_value(value)}" for name, value in facts.items()]
    _check_readable(fig)
    display({"text/html": _image(fig, alt), "text/plain": f"[figure] {alt}"}, raw=True)
    print("\n".join(lines))


def _check_readable(fig: Figure) -> None:
    """Raise ValueError for a figure wider than a notebook or with text that half size makes unreadable."""
    from matplotlib.text import Text

    width = fig.get_size_inches()[0]
    if width > WIDEST_INCHES:
        raise ValueError(
            f"figure is {width:g} inches wide; {WIDEST_INCHES:g} fit into a notebook without shrinking"
        )
    written: list[Any] = [t for t in fig.findobj(Text) if t.get_visible() and t.get_text().strip()]
    small = [t for t in written if t.get_fontsize() < SMALLEST_POINTS]
    if small:
        size, text = small[0].get_fontsize(), small[0].get_text()
        raise ValueError(
            f"text {text!r} is {size:g} points; {SMALLEST_POINTS} or more stay readable at half size"
        )


def _image(fig: Figure, alt: str) -> str:
    """An <img> with alternative text, for Lab, GitHub and Colab alike."""
    width = round(fig.get_size_inches()[0] * DPI)
    code = base64.b64encode(_png(fig)).decode()
    style = f"width:{width}px;max-width:100%"
    return f'<img alt="{html.escape(alt)}" style="{style}" src="data:image/png;base64,{code}">'


def _png(fig: Figure) -> bytes:
    """The figure as a PNG of few colours, a third of the usual size; closes the figure."""
    import matplotlib.pyplot as plt
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png", dpi=DPI, facecolor="white")
    plt.close(fig)
    image = Image.open(drawn).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    image.save(packed, format="PNG", optimize=True)
    return packed.getvalue()
