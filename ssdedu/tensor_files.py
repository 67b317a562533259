"""Files of tensors, whoever wrote them, read without running anything that is in them."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssdedu.checkpoints import CheckpointError

__all__ = ["Content", "State", "as_state", "is_hdf5", "is_safetensors", "read"]

State = dict[str, Tensor]

_HDF5 = b"\x89HDF\r\n\x1a\n"


class Content(NamedTuple):
    """What a file holds: tensors by name, or what else torch.save wrote; and a safetensors file's header."""

    values: Any
    header: dict[str, str]


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as HDF5 files (Keras' weights) do."""
    return _first_bytes(path, len(_HDF5)) == _HDF5


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as safetensors files do: the header's length in 8 bytes, then JSON."""
    return _first_bytes(path, 9)[8:] == b"{"


def _first_bytes(path: str | os.PathLike[str], number: int) -> bytes:
    if not Path(path).is_file():
        return b""
    with Path(path).open("rb") as file:
        return file.read(number)


def read(path: str | os.PathLike[str]) -> Content:
    """The content of a safetensors file, or of what torch.save wrote, in the CPU's memory.

    Of what Python can pickle, only tensors and plain values are accepted; a file with anything else could run code
    and is refused. Raises CheckpointError that names the file.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint file, or other file of weights")
    try:
        return _read_safetensors(path) if is_safetensors(path) else Content(_read_torch(path), {})
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file, or cut short ({error})") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read_safetensors(path: str | os.PathLike[str]) -> Content:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Content(tensors, file.metadata() or {})


def _read_torch(path: str | os.PathLike[str]) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a file of tensors alone, or cut short; whatever else is in it could run code, so it is not "
            "loaded. A state dict, torch.save(model.state_dict(), ...), can be"
        ) from error


def as_state(values: Any) -> State:
    """The values if they are tensors by name; raises ValueError otherwise."""
    named = isinstance(values, dict) and bool(values)
    if not named or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in values.items()):
        raise ValueError("not a state dict (tensors by name)")
    return dict(values)
