"""Weights of classifiers trained on ImageNet, from which a base network starts (Sec. 3, "Base network")."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ssdedu.bases import Base, MobileNetV1
from ssdedu.checkpoints import CheckpointError

__all__ = ["load_base"]

State = dict[str, Tensor]


def load_base(base: Base, path: str | os.PathLike[str]) -> None:
    """Give `base` the weights of a file, strictly; raises CheckpointError where they do not fit or are no weights."""
    state = _read(path)
    try:
        base.load_state_dict(_mobilenet(state, base))
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path}: does not fit the base {type(base).__name__} ({error})") from error


def _read(path: str | os.PathLike[str]) -> State:
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file of weights")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: not a file of weights alone, or cut short") from error


def _mobilenet(state: State, base: Base) -> State:
    """Keys conv1, bn1, b.0 .. 11.{dw, n1, pw, n2} as those of `bases.MobileNetV1`."""
    if not isinstance(base, MobileNetV1):
        raise TypeError("these are weights of MobileNetV1")
    theirs = ["conv1", "bn1", *(f"b.{i}.{part}" for i in range(12) for part in ("dw", "n1", "pw", "n2"))]
    ours = [name for name, m in base.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    names = dict(zip(theirs, ours, strict=True))
    return {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()
    }
