"""Weights of classifiers trained on ImageNet, or of a detector, from which a base network starts (Sec. 3).

What no file holds stays as it was made: conv4_3's L2 normalisation at 20, extra layers and predictors at random.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import torch

from ssdedu import keras_weights, layouts, tensor_files, weights
from ssdedu.bases import VGG16, Base, MobileNetV1
from ssdedu.checkpoints import CheckpointError, Detector
from ssdedu.model import SSD
from ssdedu.tensor_files import State
from ssdedu.vgg_classifier import from_classifier

__all__ = ["load_base"]

Triple = tuple[float, float, float]

_ONE = (1.0, 1.0, 1.0)
_IMAGENET_MEAN, _IMAGENET_STD = (
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (0.229 * 255, 0.224 * 255, 0.225 * 255),
)


class _Start(NamedTuple):
    """A base's state, keys that the file does not hold left out, and the mean and std of the input it is for."""

    state: State
    mean: Triple
    std: Triple
    absent: tuple[str, ...] = ()


def load_base(network: SSD | Base, path: str | os.PathLike[str]) -> None:
    """Give a detector's base the weights of a file, strictly, and the detector the file's mean and std of the input.

    For VGG16: `vgg16_reducedfc.pth` (amdegroot), torchvision's `vgg16_features-amdegroot-88682ab5.pth` (without fc6
    and fc7, which stay random) and its classifiers `vgg16-397923af.pth` and `vgg16_bn-6c64b313.pth`, fc6 and fc7
    decimated. For MobileNetV1: a plain state dict of its first twelve blocks, and Keras'
    `mobilenet_1_0_224_tf_no_top.h5`. Besides, the base of any detector that `weights.load` reads. Given a base alone,
    the mean and std are left in its attributes of those names. Raises CheckpointError that lists what does not fit; a
    file that could run code is refused.
    """
    base = network.base if isinstance(network, SSD) else network
    try:
        start = _read(base, path)
        _fill(base, start)
    except CheckpointError:
        raise
    except ValueError as error:
        name = network.base_name if isinstance(network, SSD) else type(base).__name__
        raise CheckpointError(f"{path}: does not fit the base {name}: {error}") from error
    base.mean, base.std = start.mean, start.std
    if isinstance(network, SSD):
        for buffer, values in ((network.mean, base.mean), (network.std, base.std)):
            buffer.copy_(torch.tensor(values)[:, None, None])


def _fill(base: Base, start: _Start) -> None:
    own = base.state_dict()
    layouts.check(start.state, {k: tuple(v.shape) for k, v in own.items() if k not in start.absent})
    broken = [k for k, value in start.state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{len(broken)} tensors are not finite, such as {broken[0]}")
    base.load_state_dict({**own, **start.state})


def _read(base: Base, path: str | os.PathLike[str]) -> _Start:
    if tensor_files.is_hdf5(path):
        return _from_mobilenet(base, keras_weights.read_mobilenet(path))
    content = tensor_files.read(path)
    if weights.is_detector(content):
        return _from_detector(base, weights.load(path))
    state = tensor_files.as_state(content.values)
    for sign, convert in _LAYOUTS.items():
        if sign in state:
            return convert(base, state)
    raise ValueError(f"weights of no known classifier or detector ({', '.join(list(state)[:3])}, ...)")


def _from_detector(base: Base, detector: Detector) -> _Start:
    model = detector.model
    mean, std = (tuple(values.flatten().tolist()) for values in (model.mean, model.std))
    return _Start(model.base.state_dict(), mean, std)


def _from_mobilenet(base: Base, state: State) -> _Start:
    if not isinstance(base, MobileNetV1):
        raise ValueError("these are weights of MobileNetV1")
    shapes = {name: tuple(value.shape) for name, value in base.state_dict().items()}
    return _Start(layouts.rename(state, layouts.MOBILENET, shapes), MobileNetV1.mean, MobileNetV1.std)


def _from_reduced_vgg(base: Base, state: State) -> _Start:
    """amdegroot's VGG16: RGB minus (123, 117, 104), all convolutions up to fc7."""
    if not isinstance(base, VGG16) or base.normalizes_batches or base.taps_conv5_3:
        raise ValueError("these are weights of VGG16 with fc6 and fc7 decimated, for the base vgg16")
    shapes = {name: tuple(value.shape) for name, value in base.state_dict().items()}
    renamed = layouts.rename(state, layouts.VGG16_REDUCED, shapes)
    return _Start(renamed, VGG16.mean, VGG16.std, ("l2_norm.weight",))


def _from_classifier(base: Base, state: State) -> _Start:
    """torchvision's VGG16; without numbers in fc6 and fc7 it is the file whose input is the paper's."""
    if not isinstance(base, VGG16):
        raise ValueError("these are weights of VGG16")
    made = from_classifier(base, state)
    without_fc = tuple(key for key in base.state_dict() if key.startswith("to_fc7.") and key not in made)
    absent = ("l2_norm.weight", *without_fc)
    if without_fc:
        return _Start(made, layouts.LAYOUTS["torchvision"].mean, _ONE, absent)
    return _Start(made, _IMAGENET_MEAN, _IMAGENET_STD, absent)


_LAYOUTS: dict[str, Callable[[Base, State], _Start]] = {
    "conv1.weight": _from_mobilenet,
    "0.weight": _from_reduced_vgg,
    "features.0.weight": _from_classifier,
}
"""How to read a classifier's file, by a key that shows whose it is."""
