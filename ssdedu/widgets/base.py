"""What the explorers share: one JavaScript file from several modules, images as addresses, a name for nbval."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from PIL import Image

__all__ = ["Explorer", "bundle", "data_url", "named_box"]

_HERE = Path(__file__).parent
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)


class Explorer(anywidget.AnyWidget):
    """Base of the explorers: native controls and one canvas, styled by `explorer.css`, drawn without a kernel."""

    _css = _HERE / "explorer.css"


def bundle(name: str) -> str:
    """The JavaScript module `name` with all that it imports from its neighbours in front, as one module.

    A widget is one file, whatever shows it; sources stay several. Each neighbour comes once and loses its
    exports, so that top-level names must be different. Raises ValueError for an import of another form.
    """
    parts: list[str] = []
    _collect(name, parts, set())
    return "\n".join(parts)


def _collect(name: str, parts: list[str], seen: set[str], is_entry: bool = True) -> None:
    seen.add(name)
    text = (_HERE / name).read_text(encoding="utf-8")
    for imported in _IMPORT.findall(text):
        if imported not in seen:
            _collect(imported, parts, seen, is_entry=False)
    text = _IMPORT.sub("", text)
    if re.search(r"^import\b", text, re.MULTILINE):
        raise ValueError(f'{name}: only imports as `import {{ name }} from "./file.js";` can be bundled')
    parts.append(text if is_entry else re.sub(r"^export (?=\w)", "", text, flags=re.MULTILINE))


def data_url(image: np.ndarray, kind: str = "PNG") -> str:
    """An image (H, W, 3) uint8 as an address that holds it: no file, no network. kind: PNG or JPEG."""
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, kind)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(packed.getvalue()).decode()


def named_box(box_xyxy: Any, name: str) -> dict[str, Any]:
    """One object as the page knows it: corners in fractions of the image, and the name of its class."""
    return {"box": [round(float(v), 5) for v in box_xyxy], "name": name}
