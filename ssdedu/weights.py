"""Detectors as files of numbers alone: the one that ships, and yours to pass on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from ssdedu import shipped as files
from ssdedu.checkpoints import CheckpointError, Detector
from ssdedu.files import write_atomically
from ssdedu.model import SSD
from ssdedu.priors import Config

__all__ = ["SHIPPED", "about", "load", "save", "shipped"]

SHIPPED = "data/shapes128.safetensors"
_FORMAT = "ssdedu 1"


def save(path: str | os.PathLike[str], detector: Detector, card: Mapping[str, Any] | None = None) -> None:
    """Write a detector as safetensors: kernels in half precision, all else in single.

    card: what a reader should know (training data, mAP, licence), kept in the file as JSON.
    """
    model = detector.model
    header = {
        "format": _FORMAT,
        "config": json.dumps(model.config.to_dict()),
        "base": model.base_name,
        "classes": json.dumps(list(detector.classes)),
        "card": json.dumps(dict(card or {})),
    }
    tensors = {name: _packed(value) for name, value in model.state_dict().items()}
    write_atomically(path, to_bytes(tensors, header))


def _packed(value: torch.Tensor) -> torch.Tensor:
    kernel = value.is_floating_point() and value.ndim == 4
    return value.detach().cpu().to(torch.float16 if kernel else value.dtype).contiguous()


def load(path: str | os.PathLike[str]) -> Detector:
    """The detector that `save` wrote, in single precision, ready to detect; raises CheckpointError."""
    header, tensors = _read(path)
    try:
        classes = tuple(json.loads(header["classes"]))
        model = SSD(Config.from_dict(json.loads(header["config"])), len(classes) + 1, header["base"])
        model.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit its own description ({error})") from error
    model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(model, classes)


def about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The card of a file that `save` wrote; raises CheckpointError."""
    return json.loads(_read(path)[0]["card"])


def shipped() -> Detector:
    """The small detector that ships: trained on drawn scenes by the demo, 128 x 128 px, eight shapes."""
    return load(files.find(SHIPPED))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file, or cut short ({error})") from error
    if header.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not written by ssdedu.weights.save, or by another version")
    return header, tensors
