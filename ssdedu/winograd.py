"""Winograd's convolution F(4 x 4, 3 x 3): a quarter of the multiplications of a 3 x 3 convolution (arXiv 1509.09308).

4 x 4 outputs come from a tile of 6 x 6 inputs. Tile and kernel are transformed to 36 numbers each, these are multiplied
and summed over the channels, as 36 products of matrices, and the sums are transformed back: 36 multiplications where
the definition has 144. It pays where channels are many, in single precision; the coefficients, up to 8, magnify the
rounding of lower ones too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

__all__ = ["FastConvolutions", "conv2d"]

_CELLS, _TILE = 4, 6  # of outputs, of inputs
_LEAST_KERNELS = 128 * 128  # input times output channels from which it is faster
_LEAST_CELLS = 16 * 16
_NUMBERS_AT_ONCE = 2**23  # of one transform: 32 MiB

_INPUT = np.array([
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
])  # fmt: skip
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def _both_axes(matrix: np.ndarray) -> Tensor:
    """The transform of rows and columns of a tile in one product with its flattened cells."""
    return torch.from_numpy(np.kron(matrix, matrix).astype(np.float32))


_FROM_INPUT, _FROM_KERNEL, _TO_OUTPUT = map(_both_axes, (_INPUT, _KERNEL, _OUTPUT))
_FROM_OUTPUT = _TO_OUTPUT.T.contiguous()


class FastConvolutions(TorchFunctionMode):
    """While it is entered, wide 3 x 3 convolutions in single precision on the CPU are computed by `conv2d`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What `func` gives, or nearly."""
        kwargs = kwargs or {}
        if func is F.conv2d and not kwargs and _pays(*args):
            return conv2d(*args[:3])
        return func(*args, **kwargs)


def _pays(x: Tensor, weight: Tensor, bias: Any = None, *shape: Any) -> bool:
    """shape: stride, padding, dilation, groups, as torch.nn.Conv2d names them."""
    outputs, inputs, *kernel = weight.shape
    return (
        shape == ((1, 1), (1, 1), (1, 1), 1)
        and kernel == [3, 3]
        and inputs * outputs >= _LEAST_KERNELS
        and x.shape[-1] * x.shape[-2] >= _LEAST_CELLS
        and (x.device.type, x.dtype, weight.dtype, x.dim()) == ("cpu", torch.float32, torch.float32, 4)
        and not torch.compiler.is_compiling()
    )


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's convolution of stride 1 and padding 1 but for rounding, x (B, D, H, W), weight (D', D, 3, 3), bias (D',).

    The result (B, D', H, W) has its channels last in memory. Single precision on the CPU; gradients are computed in
    the same way.
    """
    return _Convolution.apply(x, weight, bias)


class _Convolution(torch.autograd.Function):
    """The convolution and its gradients; those by the input are a convolution with the kernels turned around."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias = ctx.needs_input_grad
        return (
            _convolve(gradient, weight.flip(2, 3).transpose(0, 1), None) if by_x else None,
            _weight_gradient(x, gradient) if by_weight else None,
            gradient.sum((0, 2, 3)) if by_bias else None,
        )


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    batch, _, height, width = x.shape
    outputs, inputs = weight.shape[:2]
    kernels = (_FROM_KERNEL @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(-1, inputs, outputs)
    result = torch.empty(batch, outputs, height, width, memory_format=torch.channels_last)
    for part in _parts(x, max(inputs, outputs)):
        sums = _transformed(x[part], _FROM_INPUT) @ kernels
        tiles = (_TO_OUTPUT @ sums.flatten(1)).view(_CELLS, _CELLS, -1, *_tiles(x), outputs)
        rows, columns = (_CELLS * n for n in _tiles(x))
        whole = tiles.permute(2, 3, 0, 4, 1, 5).reshape(-1, rows, columns, outputs)[:, :height, :width]
        result.permute(0, 2, 3, 1)[part] = whole if bias is None else whole + bias
    return result


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    inputs, outputs = x.shape[1], gradient.shape[1]
    sums = x.new_zeros(_TILE**2, inputs, outputs)
    for part in _parts(x, max(inputs, outputs)):
        sums.baddbmm_(_transformed(x[part], _FROM_INPUT).mT, _transformed(gradient[part], _FROM_OUTPUT))
    return (_FROM_KERNEL.T @ sums.flatten(1)).view(3, 3, inputs, outputs).permute(3, 2, 0, 1)


def _tiles(x: Tensor) -> tuple[int, int]:
    """How many, vertically and horizontally."""
    return -(-x.shape[2] // _CELLS), -(-x.shape[3] // _CELLS)


def _parts(x: Tensor, channels: int) -> Iterator[slice]:
    """Some images at a time, whose transform stays in the caches."""
    rows, columns = _tiles(x)
    images = max(1, _NUMBERS_AT_ONCE // (_TILE**2 * rows * columns * channels))
    return (slice(start, start + images) for start in range(0, len(x), images))


def _transformed(x: Tensor, transform: Tensor) -> Tensor:
    """Maps (B, D, H, W) to (36, B * tiles, D), tile by tile; tiles are 4 cells apart and 4 or 6 cells wide."""
    size = round(transform.shape[1] ** 0.5)
    before, (rows, columns) = (size - _CELLS) // 2, _tiles(x)
    bottom, right = (
        n * _CELLS + before - cells for n, cells in zip((rows, columns), x.shape[2:], strict=True)
    )
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, before, right, before, bottom))
    image, row, column, channel = padded.stride()
    shape = size, size, len(x), rows, columns, x.shape[1]
    steps = row, column, image, _CELLS * row, _CELLS * column, channel
    return (transform @ padded.as_strided(shape, steps).reshape(size**2, -1)).view(_TILE**2, -1, x.shape[1])
