"""Keras' ImageNet weights of MobileNetV1, an HDF5 file, as a state dict."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ssdedu import layouts
from ssdedu.checkpoints import CheckpointError
from ssdedu.tensor_files import State

__all__ = ["from_keras", "read_mobilenet"]

_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_BLOCK = {"dw": "conv_dw_{}", "n1": "conv_dw_{}_bn", "pw": "conv_pw_{}", "n2": "conv_pw_{}_bn"}
_TAIL = (
    "conv_dw_13",
    "conv_dw_13_bn",
    "conv_pw_13",
    "conv_pw_13_bn",
    "conv_preds",
)  # behind the base's last block


def read_mobilenet(path: str | os.PathLike[str]) -> State:
    """`mobilenet_1_0_224_tf_no_top.h5`, or the file with the classifier, under the keys of `layouts.MOBILENET`.

    Raises CheckpointError where h5py is not installed, or the file is another or cut short.
    """
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(
            f"{path}: Keras' weights are HDF5, which h5py reads: pip install h5py, and run the same command again"
        ) from error
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[_short(name)] = np.asarray(node, np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
        return from_keras(arrays)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: no weights of Keras' MobileNet of width 1: {error}") from error


def _short(name: str) -> str:
    """conv1/kernel from conv1/conv1/kernel:0, however deep."""
    return "/".join(name.partition(":")[0].split("/")[-2:])


def from_keras(arrays: Mapping[str, np.ndarray]) -> State:
    """The numbers of Keras' layers, layer/name: array, as `layouts.MOBILENET` names them, axes in torch's order.

    A kernel (height, width, in, out) becomes (out, in, height, width), a depthwise one (height, width, channels, 1)
    (channels, 1, height, width). Raises layouts.LayoutError that lists what is missing or unexpected.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    ignored = [name for name in tensors if name.partition("/")[0] in _TAIL]
    names = dict(_names())
    found = {name: tuple(tensors[name].shape) if name in tensors else () for name in names.values()}
    layouts.check(tensors, found, ignored)
    state = {ours: _turned(theirs, tensors[theirs]) for ours, theirs in names.items()}
    norms = [key for key in layouts.MOBILENET.values() if key.endswith("num_batches_tracked")]
    return {**state, **dict.fromkeys(norms, torch.tensor(0))}


def _names() -> Iterator[tuple[str, str]]:
    """Key of `layouts.MOBILENET` and Keras' name of each array."""
    for key in layouts.MOBILENET.values():
        layer, _, part = key.rpartition(".")
        if part != "num_batches_tracked":
            yield key, f"{_layer(layer)}/{_array(layer, part)}"


def _layer(name: str) -> str:
    """conv_dw_1 from b.0.dw, and so on."""
    if not name.startswith("b."):
        return {"conv1": "conv1", "bn1": "conv1_bn"}[name]
    _, block, part = name.split(".")
    return _BLOCK[part].format(int(block) + 1)


def _array(layer: str, part: str) -> str:
    if layer.endswith(("bn1", "n1", "n2")):
        return _NORM[part]
    return "depthwise_kernel" if layer.endswith("dw") else "kernel"


def _turned(name: str, value: torch.Tensor) -> torch.Tensor:
    if value.ndim != 4:
        return value
    return value.permute(2, 3, 0, 1) if name.endswith("depthwise_kernel") else value.permute(3, 2, 0, 1)
