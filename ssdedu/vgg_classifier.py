"""torchvision's VGG16 classifiers as base networks: convolutions as they are, fc6 and fc7 decimated (Sec. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssdedu import layouts
from ssdedu.bases import VGG16
from ssdedu.tensor_files import State

__all__ = ["decimate", "from_classifier"]

_FC6, _FC7 = "classifier.0", "classifier.3"
_FC8 = ("classifier.6.weight", "classifier.6.bias")
_FC_SHAPES = {
    f"{_FC6}.weight": (4096, 512 * 7 * 7),
    f"{_FC6}.bias": (4096,),
    f"{_FC7}.weight": (4096, 4096),
    f"{_FC7}.bias": (4096,),
}
_STATISTICS = ("weight", "bias", "running_mean", "running_var")


def from_classifier(base: VGG16, state: State) -> State:
    """torchvision's classifier `state` as a state of `base` without its L2 normalisation; fc8 is dropped.

    fc6 and fc7 are decimated for the paper's base and taken whole for the full VGG16; where the file has only nan
    there, as `vgg16_features-amdegroot-88682ab5.pth`, they are left out. With batch normalisation, whose
    convolutions have no bias here, the classifier's biases go into the running means, which is the same function.
    Raises layouts.LayoutError that lists the keys that do not fit.
    """
    layers = _layers(base)
    numbers = layouts.CLASSIFIER_CONVS[base.normalizes_batches]
    shapes, counters = _shapes(layers, numbers)
    layouts.check(state, shapes, (*_FC8, *counters))
    made: State = {}
    for layer, number in zip(layers, numbers, strict=False):
        made |= _convolution(layer, state, number)
    if all(bool(state[key].isnan().all()) for key in _FC_SHAPES):
        return made
    for layer, (weight, bias) in zip(layers[len(numbers) :], _fully_connected(base, state), strict=True):
        made |= _placed(layer, weight, bias)
    return made


class _Layer:
    """A convolution and the batch normalisation behind it, if there is one, with their names in the base."""

    def __init__(self, name: str, conv: nn.Conv2d, norm: nn.Module) -> None:
        row, _, index = name.rpartition(".")
        self.name, self.conv = name, conv
        self.norm = norm if isinstance(norm, nn.BatchNorm2d) else None
        self.norm_name = f"{row}.{int(index) + 1}"


def _layers(base: VGG16) -> list[_Layer]:
    modules = dict(base.named_modules())
    convs = [(name, m) for name, m in modules.items() if isinstance(m, nn.Conv2d)]
    behind = [f"{name.rpartition('.')[0]}.{int(name.rpartition('.')[2]) + 1}" for name, _ in convs]
    return [_Layer(name, conv, modules[after]) for (name, conv), after in zip(convs, behind, strict=True)]


def _shapes(layers: list[_Layer], numbers: tuple[int, ...]) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Shapes of the keys that the file must have, and keys of counters that it may have."""
    shapes: dict[str, tuple[int, ...]] = dict(_FC_SHAPES)
    counters = []
    for layer, number in zip(layers, numbers, strict=False):
        width = layer.conv.out_channels
        shapes |= {f"features.{number}.weight": tuple(layer.conv.weight.shape)}
        shapes |= {f"features.{number}.bias": (width,)}
        if layer.norm is not None:
            shapes |= {f"features.{number + 1}.{name}": (width,) for name in _STATISTICS}
            counters.append(f"features.{number + 1}.num_batches_tracked")
    return shapes, counters


def _convolution(layer: _Layer, state: State, number: int) -> State:
    weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
    if layer.norm is None:
        return _placed(layer, weight, bias)
    return _placed(layer, weight, bias, [state[f"features.{number + 1}.{name}"] for name in _STATISTICS])


def _placed(layer: _Layer, weight: Tensor, bias: Tensor, statistics: list[Tensor] | None = None) -> State:
    """A layer's numbers under the base's names; without statistics its batch normalisation changes nothing."""
    if layer.norm is None:
        return {f"{layer.name}.weight": weight, f"{layer.name}.bias": bias}
    one, zero = torch.ones_like(bias), torch.zeros_like(bias)
    scale, shift, mean, var = statistics or (one, zero, zero, one - layer.norm.eps)
    norm = (scale, shift, mean - bias, var, torch.tensor(0))
    names = (*_STATISTICS, "num_batches_tracked")
    placed = {f"{layer.norm_name}.{name}": value for name, value in zip(names, norm, strict=True)}
    return {f"{layer.name}.weight": weight, **placed}


def _fully_connected(base: VGG16, state: State) -> list[tuple[Tensor, Tensor]]:
    """Kernels and biases of fc6 and fc7 as convolutions for this base."""
    fc6, bias6, fc7, bias7 = (state[key] for key in _FC_SHAPES)
    if base.taps_conv5_3:
        return [(fc6.reshape(4096, 512, 7, 7), bias6), (fc7[:, :, None, None], bias7)]
    return decimate(fc6, bias6, fc7, bias7)


def decimate(fc6: Tensor, bias6: Tensor, fc7: Tensor, bias7: Tensor) -> list[tuple[Tensor, Tensor]]:
    """fc6 (4096, 512 * 7 * 7) and fc7 (4096, 4096) as kernels (1024, 512, 3, 3), (1024, 1024, 1, 1), with biases.

    Every fourth output is kept, and of fc6's 7x7 kernel every third row and column, which a dilation of 3 would put
    where they were (Sec. 3 after DeepLab-LargeFOV; SSD dilates by 6).
    """
    kernels6 = fc6.reshape(4096, 512, 7, 7)[::4, :, ::3, ::3]
    return [(kernels6, bias6[::4]), (fc7[::4, ::4, None, None], bias7[::4])]
