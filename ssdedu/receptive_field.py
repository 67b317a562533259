"""Which pixels a cell of a feature map looks at: by arithmetic, and measured by gradient.

The arithmetic is that of one axis: for a photo that is not square, call it once for the height and once
for the width. Pixel p covers the interval from p to p + 1, so its centre lies at p + 0.5.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = [
    "Field",
    "Layer",
    "Measured",
    "chain",
    "effective",
    "footprint",
    "layers_of",
    "measured",
    "paths",
    "vgg16_ssd_layers",
]

_SMALLEST = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
_POINTWISE = ("BatchNorm2d", "Dropout", "Dropout2d", "GELU", "Identity", "LeakyReLU", "ReLU", "ReLU6", "SiLU")


@dataclass(frozen=True)
class Layer:
    """Geometry of one convolution or pooling along one axis, in cells of its input.

    ceil_mode rounds the output size up, as VGG16-SSD's pool3 does and a stride under TensorFlow's "same" padding,
    whose last row lies behind the last cell; it has no effect on the field.
    Raises ValueError, naming layer and field, for anything but integers in range.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil_mode: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        for field, smallest in _SMALLEST.items():
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < smallest:
                where = f"layer {self.name!r}: {field}"
                raise ValueError(f"{where} must be an integer >= {smallest}, not {value!r}")

    @property
    def span(self) -> int:
        """Distance between the first and the last input cell under the window."""
        return self.dilation * (self.kernel - 1)


@dataclass(frozen=True)
class Field:
    """What the cells of one layer's output see along one axis, in input pixels.

    size: number of cells (None if the input size was not given); jump: distance between neighbouring
    cells; start: centre of cell 0 (0.5 is the centre of pixel 0); receptive_field: extent of each cell.
    """

    name: str
    size: int | None
    jump: int
    start: float
    receptive_field: int

    def centre(self, index: int) -> float:
        """Centre of cell `index` in pixels; SSD puts its default boxes at (index + 0.5) * step instead."""
        return self.start + index * self.jump

    def pixels(self, index: int) -> tuple[int, int]:
        """First and last pixel that cell `index` sees; what lies outside the image is padding."""
        first = round(self.centre(index) - self.receptive_field / 2)
        return first, first + self.receptive_field - 1


class Measured(NamedTuple):
    """A receptive field measured by gradient: (first, last) pixel of each axis, and the (H, W) map."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    gradient: np.ndarray


def chain(layers: Iterable[Layer], size: int | None = None) -> tuple[Field, ...]:
    """Size, jump, start and receptive field after each of `layers`, for an input of `size` pixels.

    Sizes follow torch, in ceil mode too: a last window that would start in the right padding is dropped.
    Without `size` the sizes are None. Raises ValueError, naming the layer, when its window does not fit.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")
    field, fields = Field("input", size, 1, 0.5, 1), []
    for number, layer in enumerate(layers):
        field = _after(field, layer, layer.name or f"layer {number}")
        fields.append(field)
    return tuple(fields)


def footprint(layers: Sequence[Layer], size: int, index: int) -> np.ndarray:
    """The pixels (sorted indices) that cell `index` of the last layer really sees in `size` pixels.

    Away from the border these run from Field.pixels' first to its last, with holes where a stride or
    dilation skips. At the border they are that range without what only padding reaches, which can be less
    than its intersection with the image: pixels that a layer rounds away are seen by nobody.
    """
    sizes = [size, *(field.size or 0 for field in chain(layers, size))]
    if not 0 <= index < sizes[-1]:
        raise ValueError(f"index {index} is outside the last layer's {sizes[-1]} cells")
    cells = np.array([index])
    for layer, cells_in in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        taps = layer.dilation * np.arange(layer.kernel) - layer.padding
        seen = np.unique(cells[:, None] * layer.stride + taps)
        cells = seen[(seen >= 0) & (seen < cells_in)]
    return cells


def paths(layers: Sequence[Layer], size: int, index: int) -> np.ndarray:
    """How many ways lead from each of `size` pixels, tap by tap, to cell `index` of the last layer (size,).

    Along one axis; an image has the outer product of its axes. It is the gradient where every weight is 1;
    where weights are random with mean 0, the typical |gradient| goes with its square root (Luo et al. 2016,
    section 2). Exact up to 2**53. Raises ValueError for an index outside the last layer.
    """
    sizes = [size, *(field.size or 0 for field in chain(layers, size))]
    if not 0 <= index < sizes[-1]:
        raise ValueError(f"index {index} is outside the last layer's {sizes[-1]} cells")
    ways = np.eye(sizes[-1])[index]
    for layer, cells_in in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        cells = layer.stride * np.arange(len(ways)) - layer.padding
        ways_in = np.zeros(cells_in)
        for tap in layer.dilation * np.arange(layer.kernel):
            inside = (cells + tap >= 0) & (cells + tap < cells_in)
            np.add.at(ways_in, cells[inside] + tap, ways[inside])
        ways = ways_in
    return ways


def vgg16_ssd_layers(input_size: int = 300, atrous: bool = True) -> tuple[Layer, ...]:
    """The layers of VGG16-SSD from conv1_1 to conv11_2 (input_size 300) or conv12_2 (512).

    atrous: pool5 is 3x3 stride 1 and fc6 3x3 dilation 6 (section 3 and the original Caffe models);
    otherwise pool5 is 2x2 stride 2 and fc6 7x7, the full VGG16 of section 3.2, whose maps halve once more, so
    that the last extra block would not fit and is left out. Raises ValueError for another input_size.
    """
    if input_size not in (300, 512):
        raise ValueError(f"input_size must be 300 or 512, not {input_size}")
    if input_size == 300:
        extra = _extra((8, 9), 3, stride=2, padding=1) + _extra((10, 11), 3)
    else:
        extra = _extra((8, 9, 10, 11), 3, stride=2, padding=1) + _extra((12,), 4, padding=1)
    return tuple(_vgg16(atrous) + (extra if atrous else extra[:-2]))


def layers_of(
    module: torch.nn.Module | Iterable[torch.nn.Module],
    axis: int | None = None,
    ignore: Sequence[type] = (),
    size: int | None = None,
) -> tuple[Layer, ...]:
    """The layers of a torch Sequential or of an iterable of modules, in order; element-wise ones left out.

    axis 0 takes the heights, 1 the widths of kernels; None demands that they agree. `ignore` names further
    classes that mix no pixels (an L2Norm). size: pixels of the input along the axis, which `bases.SameConv2d` needs,
    since its padding follows from them. Raises ValueError, naming the module, for what it does not know.
    """
    layers = []
    for name, layer_module in _walk(module, tuple(ignore), ""):
        layer = _layer_of(layer_module, axis, name, size)
        layers.append(layer)
        size = None if size is None else _output_size(layer, size, name)
    return tuple(layers)


def measured(module: torch.nn.Module, input_shape: Sequence[int], location: tuple[int, int]) -> Measured:
    """The pixels with a gradient from cell (row, column) of `module`'s output (B, C, H, W).

    input_shape is (C, H, W). Works on a double precision copy in evaluation mode with positive weights, no
    biases and positive input, so that no ReLU blocks, and without the limit of a ReLU6; every nn.MaxPool2d
    averages over the same window, since a maximum has a gradient for one pixel only (a functional max pool is
    not replaced). Raises ValueError when the location is outside the output or no pixel has a gradient.
    """
    import torch

    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.uniform(0.5, 1.5, (1, *input_shape)))
    gradient = _gradient(_positive_copy(module, rng), image, location, rng)
    rows, columns = (np.flatnonzero(gradient.any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError(f"location {tuple(location)}: no pixel has a gradient; it may see padding alone")
    return Measured((int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1])), gradient)


def effective(
    module: torch.nn.Module,
    input_shape: Sequence[int],
    location: tuple[int, int],
    num_inputs: int = 16,
    seed: int = 0,
) -> np.ndarray:
    """The effective receptive field: mean |gradient| (H, W) of cell (row, column), summing to 1.

    The module is used as it is, in evaluation mode, on `num_inputs` images (C, H, W) of standard normal
    noise. After Luo et al., "Understanding the Effective Receptive Field in Deep CNNs" (2016), section 3;
    their mean is of the gradient, ours of its magnitude. Raises ValueError when there is no gradient.
    """
    import torch

    rng = np.random.default_rng(seed)
    frozen = copy.deepcopy(module).eval().requires_grad_(False)
    like = next(frozen.parameters(), torch.zeros(()))
    total = np.zeros(tuple(input_shape)[-2:])
    for _ in range(num_inputs):
        image = torch.from_numpy(rng.standard_normal((1, *input_shape))).to(like)
        total += _gradient(frozen, image, location, rng)
    if not total.any():
        raise ValueError(f"location {tuple(location)} has no gradient in any of {num_inputs} inputs")
    return total / total.sum()


def _after(field: Field, layer: Layer, name: str) -> Field:
    return Field(
        name,
        None if field.size is None else _output_size(layer, field.size, name),
        field.jump * layer.stride,
        field.start + (layer.span / 2 - layer.padding) * field.jump,
        field.receptive_field + layer.span * field.jump,
    )


def _output_size(layer: Layer, size: int, name: str) -> int:
    free = size + 2 * layer.padding - layer.span - 1
    cells = (free + (layer.stride - 1 if layer.ceil_mode else 0)) // layer.stride + 1
    if cells < 1:
        raise ValueError(f"{name}: kernel of {layer.span + 1} cells does not fit into {size} cells + padding")
    if layer.ceil_mode and (cells - 1) * layer.stride >= size + layer.padding:
        cells -= 1
    return cells


def _vgg16(atrous: bool) -> list[Layer]:
    layers: list[Layer] = []
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        layers += [Layer(3, padding=1, name=f"conv{block}_{i + 1}") for i in range(convolutions)]
        layers.append(Layer(2, stride=2, ceil_mode=block in (3, 5), name=f"pool{block}"))
    if atrous:
        layers[-1] = Layer(3, padding=1, name="pool5")
    fc6 = Layer(3, padding=6, dilation=6, name="fc6") if atrous else Layer(7, padding=3, name="fc6")
    return [*layers, fc6, Layer(1, name="fc7")]


def _extra(blocks: Sequence[int], kernel: int, stride: int = 1, padding: int = 0) -> list[Layer]:
    pairs = (
        (Layer(1, name=f"conv{block}_1"), Layer(kernel, stride, padding, name=f"conv{block}_2"))
        for block in blocks
    )
    return [layer for pair in pairs for layer in pair]


def _walk(module: Any, ignore: tuple[type, ...], name: str) -> Iterator[tuple[str, Any]]:
    """Convolutions and poolings with their names, in order."""
    import torch.nn as nn

    if isinstance(module, ignore) or type(module).__name__ in _POINTWISE:
        return
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        yield name, module
    elif isinstance(module, nn.Module) and not isinstance(module, nn.Sequential | nn.ModuleList):
        kind = type(module).__name__
        raise ValueError(f"module {name!r}: unknown geometry; pass ignore=({kind},) if it mixes no pixels")
    else:
        children = module.named_children() if isinstance(module, nn.Module) else enumerate(module)
        for child_name, child in children:
            yield from _walk(child, ignore, f"{name}.{child_name}" if name else str(child_name))


def _layer_of(module: Any, axis: int | None, name: str, size: int | None) -> Layer:
    heights, widths = (_layer_along(module, which, name, size) for which in (0, 1))
    if axis is None and heights != widths:
        raise ValueError(f"module {name!r}: its axes differ: pass axis=0 (height) or axis=1 (width)")
    return widths if axis == 1 else heights


def _layer_along(module: Any, axis: int, name: str, size: int | None = None) -> Layer:
    def along(value: Any) -> int:
        return value[axis] if isinstance(value, tuple) else value

    kernel, dilation = along(module.kernel_size), along(getattr(module, "dilation", 1))
    padding, ceil_mode = module.padding, getattr(module, "ceil_mode", False)
    if hasattr(module, "same_padding"):
        padding, ceil_mode = _same_padding(module, axis, name, size)
    elif isinstance(padding, str):
        total = dilation * (kernel - 1) if padding == "same" else 0
        padding = total / 2 if total % 2 else total // 2  # Layer refuses the half cell
    return Layer(kernel, along(module.stride), along(padding), dilation, ceil_mode, name)


def _same_padding(module: Any, axis: int, name: str, size: int | None) -> tuple[int, bool]:
    """Padding and ceil_mode of a `bases.SameConv2d`; a row more behind the last cell is what ceil_mode rounds up."""
    if size is None:
        raise ValueError(f"module {name!r}: its padding follows from the size of the input: pass size")
    before, after = module.same_padding(size, axis)
    if after > before and module.stride[axis] == 1:
        raise ValueError(
            f"module {name!r}: an even kernel at stride 1 is padded on one side, which no Layer tells"
        )
    return before, after > before


def _positive_copy(module: torch.nn.Module, rng: np.random.Generator) -> torch.nn.Module:
    import torch
    from torch import nn

    module = copy.deepcopy(module).cpu().double().eval()
    for name, parameter in module.named_parameters():
        values = rng.uniform(0.5, 1.5, parameter.shape) / max(1, int(np.prod(parameter.shape[1:])))
        parameter.data = torch.from_numpy(np.where(name.endswith("bias"), 0.0, values))
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._NormBase):
            child.reset_running_stats()
        if isinstance(child, nn.ReLU6):
            child.max_val = np.inf
        if isinstance(child, nn.MaxPool2d):
            child.forward = functools.partial(_average_pool, child)  # type: ignore[method-assign]
    return module.requires_grad_(False)


def _average_pool(pool: torch.nn.MaxPool2d, x: torch.Tensor) -> torch.Tensor:
    """The mean over the windows of `pool`, which nn.AvgPool2d cannot do where it is dilated."""
    import torch
    import torch.nn.functional as F

    rows, columns = (_layer_along(pool, axis, "pool") for axis in (0, 1))
    pads: list[int] = []
    for layer, size in ((columns, x.shape[-1]), (rows, x.shape[-2])):
        end = (_output_size(layer, size, "pool") - 1) * layer.stride + layer.span + 1
        pads += [layer.padding, end - layer.padding - size]
    window = torch.ones(x.shape[1], 1, rows.kernel, columns.kernel, dtype=x.dtype)
    strides, dilations = (rows.stride, columns.stride), (rows.dilation, columns.dilation)
    total = F.conv2d(F.pad(x, pads), window, None, strides, 0, dilations, x.shape[1])
    return total / window[0].numel()


def _gradient(
    module: torch.nn.Module, image: torch.Tensor, location: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """|Gradient| (H, W), summed over image channels, of a random positive mix of the cell's channels."""
    import torch

    with torch.enable_grad():
        output = module(image.requires_grad_().clone())
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        raise ValueError("the module must return one feature map (B, C, H, W): cut it after that layer")
    row, column = location
    height, width = output.shape[-2:]
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"location {tuple(location)} is outside the output of {height} x {width} cells")
    mix = torch.from_numpy(rng.uniform(0.5, 1.5, output.shape[1])).to(output)
    (gradient,) = torch.autograd.grad((output[0, :, row, column] * mix).sum(), image)
    return gradient[0].abs().sum(0).double().cpu().numpy()
