"""Files that ship with the project, found in a clone and in an installed package alike."""

from __future__ import annotations

import sysconfig
from pathlib import Path

__all__ = ["find"]

_CLONE = Path(__file__).parents[1]
_INSTALLED = Path(sysconfig.get_path("data")) / "share" / "ssdedu"


def find(name: str) -> Path:
    """The shipped file `name`, such as "data/shapes128.safetensors"; FileNotFoundError with the remedy."""
    for folder in (_CLONE, _INSTALLED):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{name} is neither in {_CLONE} nor in {_INSTALLED}: clone the repository anew, or reinstall ssdedu"
    )
