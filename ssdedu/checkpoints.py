"""Checkpoints: written atomically, read without executing code, enough to detect or to go on training."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ssdedu.files import write_atomically
from ssdedu.model import SSD
from ssdedu.priors import Config
from ssdedu.processing import Processing

__all__ = [
    "CheckpointError",
    "Detector",
    "UnreadableError",
    "load_checkpoint",
    "load_detector",
    "save_checkpoint",
    "write_atomically",
]

_FORMAT = 1
_FOLDER = 0x10  # the mark of a folder among the attributes of a part of a zip file


class CheckpointError(ValueError):
    """A checkpoint file is missing, broken or not one of ours; the message names the file and the remedy."""


class UnreadableError(CheckpointError):
    """The file itself is missing, cut short or damaged, so that an older one may help."""


class Detector(NamedTuple):
    """A network and the names of its classes 1 .. C - 1."""

    model: SSD
    classes: tuple[str, ...]


def save_checkpoint(
    path: str | os.PathLike[str],
    model: SSD,
    classes: Sequence[str],
    step: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    settings: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    previous: str | None = None,
) -> None:
    """Write a detector, and where an optimizer is given all that training needs to go on, to one file.

    data: what it was trained on, as `splits.record` describes it. previous: a name in the same folder under which
    the checkpoint that is there stays. Raises DiskFullError where there is no room.
    """
    description = {
        "format": _FORMAT,
        "config": model.config.to_dict(),
        "base": model.base_name,
        "num_classes": model.num_classes,
        "classes": list(classes),
        "processing": model.processing.to_dict(),
        "settings": settings or {},
        "data": data or {},
    }
    content = {
        "description": json.dumps(description),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict() if optimizer else None,
    }
    write_atomically(path, lambda file: torch.save(content, file), previous)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint, its description parsed.

    Each part is compared with the checksum (CRC-32) that the file has of it, which torch.load leaves out: a single
    changed bit is found. Raises UnreadableError for a file that is missing, cut short, damaged or no checkpoint,
    CheckpointError for one of another version.
    """
    if not Path(path).is_file():
        raise UnreadableError(f"{path}: no such checkpoint file")
    try:
        _compare_checksums(Path(path))
        with warnings.catch_warnings(
            action="ignore"
        ):  # torch's remark on foreign pickles adds nothing to our error
            content = torch.load(path, map_location="cpu", weights_only=True)
        content["description"] = json.loads(content["description"])
        if content["description"]["format"] != _FORMAT:
            raise CheckpointError(f"{path}: written by another version of ssdedu")
    except (CheckpointError, MemoryError):
        raise
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        raise UnreadableError(f"{path}: not a checkpoint of `ssdedu train`, or cut short") from error
    return content


def _compare_checksums(path: Path) -> None:
    """Raises UnreadableError for a part that is not what was written, or marked as torch.save marks none.

    Of a part that is marked as a folder, torch would take whatever lies in memory.
    """
    with zipfile.ZipFile(path) as archive:
        odd = [
            part.filename for part in archive.infolist() if part.compress_type or part.external_attr & _FOLDER
        ]
        damaged = odd[0] if odd else archive.testzip()
    if damaged is not None:
        raise UnreadableError(f"{path}: damaged: part {damaged} is not what was written (by its checksum)")


def load_detector(path: str | os.PathLike[str]) -> Detector:
    """The detector of a checkpoint, ready to detect (evaluation mode); raises CheckpointError."""
    content = load_checkpoint(path)
    about = content["description"]
    try:
        model = SSD(Config.from_dict(about["config"]), about["num_classes"], about["base"])
        model.processing = Processing.from_dict(about.get("processing", {}))
        model.load_state_dict(content["model"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit its own description ({error})") from error
    model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(model, tuple(about["classes"]))
