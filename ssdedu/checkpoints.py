"""Checkpoints: written atomically, read without executing code, enough to detect or to go on training."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ssdedu.files import write_atomically
from ssdedu.model import SSD
from ssdedu.priors import Config

__all__ = [
    "CheckpointError",
    "Detector",
    "load_checkpoint",
    "load_detector",
    "save_checkpoint",
    "write_atomically",
]

_FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint file is missing, broken or not one of ours; the message names the file and the remedy."""


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
) -> None:
    """Write a detector, and where an optimizer is given all that training needs to go on, to one file.

    data: what it was trained on, as `splits.record` describes it.
    """
    description = {
        "format": _FORMAT,
        "config": model.config.to_dict(),
        "base": model.base_name,
        "num_classes": model.num_classes,
        "classes": list(classes),
        "settings": settings or {},
        "data": data or {},
    }
    content = {
        "description": json.dumps(description),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict() if optimizer else None,
    }
    write_atomically(path, lambda file: torch.save(content, file))


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint, its description parsed; raises CheckpointError for anything else."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # torch's remark on foreign pickles adds nothing to our error
            content = torch.load(path, map_location="cpu", weights_only=True)
        content["description"] = json.loads(content["description"])
        if content["description"]["format"] != _FORMAT:
            raise CheckpointError(f"{path}: written by another version of ssdedu")
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: not a checkpoint of `ssdedu train`, or cut short") from error
    return content


def load_detector(path: str | os.PathLike[str]) -> Detector:
    """The detector of a checkpoint, ready to detect (evaluation mode); raises CheckpointError."""
    content = load_checkpoint(path)
    about = content["description"]
    try:
        model = SSD(Config.from_dict(about["config"]), about["num_classes"], about["base"])
        model.load_state_dict(content["model"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit its own description ({error})") from error
    model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(model, tuple(about["classes"]))
