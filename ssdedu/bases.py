"""The base networks that SSD's detectors stand on: VGG16, MobileNetV1 and a small net for a laptop.

A base turns normalised images into the maps that are tapped for prediction; `ssdedu.model` adds the extra layers
and the predictors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BASES", "VGG16", "Base", "L2Norm", "MobileNetV1", "SameConv2d", "SmallBase", "make_base"]


def initialize(module: nn.Module, weight_init: Callable[[Tensor], Tensor]) -> None:
    """Draw the kernels of all convolutions inside with `weight_init`; their biases become 0.

    On the device "meta", where there are no numbers, nothing is drawn: it would load torch's compiler, a second.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            weight_init(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class L2Norm(nn.Module):
    """Scales each location's channel vector (B, D, H, W) to length 1, times a learned factor per channel.

    Sec. 3.1 after ParseNet (arXiv 1506.04579): conv4_3's activations have another scale than the later maps';
    the factor starts at 20.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) to the same shape."""
        return F.normalize(x, dim=1) * self.weight[:, None, None]


def conv_layers(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    *,
    norm: bool = False,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> list[nn.Module]:
    """Convolution, batch normalisation where asked for, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=not norm)
    return [conv, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU(inplace=True)]


def _vgg_block(inputs: int, outputs: int, convs: int, norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i in range(convs):
        layers += conv_layers(outputs if i else inputs, outputs, padding=1, norm=norm)
    return layers


class Base(nn.Module):
    """What a base is: a module from normalised images (B, 3, H, W) to a list of maps (B, D, H', W').

    channels: the depth D of each map. tapped: names of the children behind which the maps are taken, where the
    children follow one another; () for a base that branches, whose receptive fields are not known then. mean and std
    normalise the input, RGB in 0 .. 255. separable: extra layers and predictors behind the base are depthwise
    separable too (SSDLite; MobileNetV2, arXiv 1801.04381, Sec. 6.2). frozen: how many layers learn nothing (`freeze`).
    """

    channels: tuple[int, ...]
    tapped: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (123.0, 117.0, 104.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    separable: bool = False
    frozen: int = 0

    def freeze(self, layers: int) -> None:
        """Let the first `layers` layers learn nothing; their batch normalisation keeps its statistics.

        Layers are counted as modules without children (convolutions, normalisations, ReLUs, poolings), in order.
        It replaces an earlier call; parameters that were frozen in other ways stay so. Raises ValueError where the base
        has fewer layers.
        """
        all_layers = self._layers()
        if not 0 <= layers <= len(all_layers):
            raise ValueError(
                f"frozen_layers must be 0 .. {len(all_layers)}, the layers of {type(self).__name__}, got {layers}"
            )
        for layer in all_layers[: self.frozen]:
            layer.requires_grad_()
        for layer in all_layers[:layers]:
            layer.requires_grad_(False)
        self.frozen = layers
        self.train(self.training)

    def _layers(self) -> list[nn.Module]:
        return [m for m in self.modules() if not list(m.children())]

    def train(self, mode: bool = True) -> Base:
        """Training or evaluation mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self._layers()[: self.frozen]:
            layer.eval()
        return self

    @property
    def normalizes_batches(self) -> bool:
        """Whether the base has batch normalisation, so that the layers behind it have it too."""
        return any(isinstance(m, nn.BatchNorm2d) for m in self.modules())


class VGG16(Base):
    """VGG16 up to fc7 as a base: images (B, 3, H, W) to the tapped maps, conv4_3 (L2-normalised) and fc7.

    atrous=True is the paper's: pool5 3x3 stride 1, fc6 3x3 with dilation 6 and 1,024 outputs, fc7 1x1. False
    keeps the full VGG16 (pool5 2x2 stride 2, fc6 7x7 with 4,096 outputs) and taps conv5_3 as well (Sec. 3.2,
    "Atrous is faster"). batch_norm: behind every convolution, for training from scratch; then all maps have one
    scale, and conv4_3 has no L2 normalisation, whose reason (Sec. 3.1) is gone. No dropout, as in the original SSD.
    """

    def __init__(self, atrous: bool = True, batch_norm: bool = False) -> None:
        super().__init__()
        norm, halve = batch_norm, partial(nn.MaxPool2d, 2, 2)
        self.to_conv4_3 = nn.Sequential(
            *_vgg_block(3, 64, 2, norm),
            halve(),
            *_vgg_block(64, 128, 2, norm),
            halve(),
            *_vgg_block(128, 256, 3, norm),
            halve(ceil_mode=True),
            *_vgg_block(256, 512, 3, norm),
        )
        self.l2_norm = nn.Identity() if norm else L2Norm(512)
        self.to_conv5_3 = nn.Sequential(halve(), *_vgg_block(512, 512, 3, norm))
        width = 1024 if atrous else 4096
        fc6 = {"kernel": 3, "padding": 6, "dilation": 6} if atrous else {"kernel": 7, "padding": 3}
        pool5 = nn.MaxPool2d(3, 1, padding=1) if atrous else halve(ceil_mode=True)
        self.to_fc7 = nn.Sequential(
            pool5, *conv_layers(512, width, norm=norm, **fc6), *conv_layers(width, width, 1, norm=norm)
        )
        self.taps_conv5_3 = not atrous
        self.tapped = ("to_conv4_3", "to_fc7") if atrous else ("to_conv4_3", "to_conv5_3", "to_fc7")
        self.channels = (512, width) if atrous else (512, 512, width)
        initialize(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), normalised, to a list of maps (B, D, H', W')."""
        conv4_3 = self.to_conv4_3(x)
        conv5_3 = self.to_conv5_3(conv4_3)
        middle = [conv5_3] if self.taps_conv5_3 else []
        return [self.l2_norm(conv4_3), *middle, self.to_fc7(conv5_3)]


class SmallBase(Base):
    """A base for a laptop: four blocks of convolution and batch normalisation, tapped at strides 8 and 16."""

    mean, std = (127.5,) * 3, (64.0,) * 3
    tapped = ("to_stride8", "to_stride16")

    def __init__(self, widths: Sequence[int] = (16, 48, 96, 128)) -> None:
        super().__init__()
        a, b, c, d = widths
        conv = partial(conv_layers, norm=True, padding=1)
        self.to_stride8 = nn.Sequential(
            *conv(3, a, stride=2),
            *conv(a, b, stride=2),
            *conv(b, b),
            *conv(b, b),
            *conv(b, c, stride=2),
            *conv(c, c),
        )
        self.to_stride16 = nn.Sequential(*conv(c, d, stride=2), *conv(d, d))
        self.channels = (c, d)
        initialize(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), normalised, to two maps (B, D, H', W')."""
        stride8 = self.to_stride8(x)
        return [stride8, self.to_stride16(stride8)]


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: ceil(cells / stride) cells, the odd row of padding at the end.

    So an even number of cells at kernel 3 and stride 2 is padded on the right and at the bottom alone (tf.nn's "Notes
    on padding"). The padding follows from the input; the constructor's `padding` has no effect.
    """

    def same_padding(self, size: int, axis: int) -> tuple[int, int]:
        """Padding before and after `size` cells; axis 0: the rows, 1: the columns."""
        stride, span = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1)
        pad = max(0, (-(-size // stride) - 1) * stride + span + 1 - size)
        return pad // 2, pad - pad // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) to (B, D', ceil(H / stride), ceil(W / stride))."""
        (top, bottom), (left, right) = (self.same_padding(x.shape[axis - 2], axis) for axis in (0, 1))
        padding = top, left
        if (top, left) != (bottom, right):
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        if not self._is_slow_to_learn(x):
            return self._convolve(x, self.weight, padding)
        with torch.autocast("cpu", enabled=False):
            return self._convolve(x.float(), self.weight.to(x.dtype).float(), padding).to(x.dtype)

    def _convolve(self, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _is_slow_to_learn(self, x: Tensor) -> bool:
        """Whether single precision gives the same numbers sooner.

        For the gradient of a strided depthwise convolution in bfloat16, oneDNN (3.12) takes its kernel for dense
        ones: forward and backward took 2 to 7 times as long as in single precision, conversions included.
        """
        depthwise_strided = self.groups > 1 and max(self.stride) > 1
        in_bfloat16 = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        return depthwise_strided and in_bfloat16 and x.requires_grad and torch.is_grad_enabled()


_TF_EPSILON = 1e-3


def separable_layers(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """A depthwise 3x3 convolution and a 1x1 one, each with batch normalisation and ReLU6 (MobileNet, Fig. 3)."""
    return [
        SameConv2d(inputs, inputs, 3, stride, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs, _TF_EPSILON),
        nn.ReLU6(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs, _TF_EPSILON),
        nn.ReLU6(inplace=True),
    ]


class MobileNetV1(Base):
    """MobileNetV1 (arXiv 1704.04861, Table 1) up to its twelfth block, tapped at strides 8, 16 and 32.

    As in TensorFlow and Keras, whose ImageNet weights `base_weights.load_base` reads: "same" padding, ReLU6, epsilon
    1e-3, input scaled to -1 .. 1. width multiplies all channels (Sec. 3.3). No L2 normalisation: batch normalisation
    keeps the maps alike.
    """

    mean, std, separable = (127.5,) * 3, (127.5,) * 3, True
    tapped = ("to_stride8", "to_stride16", "to_stride32")
    _FIRST = 32
    _BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2))

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        depths = [round(depth * width) for depth in (self._FIRST, *(depth for depth, _ in self._BLOCKS))]
        strides = [stride for _, stride in self._BLOCKS]
        first = SameConv2d(3, depths[0], 3, 2, bias=False)
        layers = [first, nn.BatchNorm2d(depths[0], _TF_EPSILON), nn.ReLU6(inplace=True)]
        for (inputs, outputs), stride in zip(pairwise(depths), strides, strict=True):
            layers += separable_layers(inputs, outputs, stride)
        ends = [3 + 6 * blocks for blocks in (5, 11)]
        self.to_stride8 = nn.Sequential(*layers[: ends[0]])
        self.to_stride16 = nn.Sequential(*layers[ends[0] : ends[1]])
        self.to_stride32 = nn.Sequential(*layers[ends[1] :])
        self.channels = (depths[5], depths[11], depths[12])
        initialize(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), normalised, to three maps (B, D, H', W')."""
        stride8 = self.to_stride8(x)
        stride16 = self.to_stride16(stride8)
        return [stride8, stride16, self.to_stride32(stride16)]


BASES: dict[str, Callable[[], Base]] = {
    "vgg16": VGG16,
    "vgg16_bn": lambda: VGG16(batch_norm=True),
    "vgg16_full": lambda: VGG16(atrous=False),
    "mobilenet": MobileNetV1,
    "small": SmallBase,
}
"""The bases by name, each a function without arguments that makes one."""


def make_base(name: str) -> Base:
    """An untrained base of `BASES`; raises ValueError that lists the names."""
    if name not in BASES:
        raise ValueError(f"base must be one of {', '.join(BASES)}, got {name!r}")
    return BASES[name]()
