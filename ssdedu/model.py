"""The network (Sec. 2.1): a tapped base, extra layers, and 3x3 predictors of offsets and classes on each map.

Everything is built from the description that makes the default boxes (`ssdedu.priors.Config`), for any number
of classes and any base in `ssdedu.bases`; the full SSD300 and SSD512 and the small net for drawn shapes are the same
class.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssdedu import priors, receptive_field
from ssdedu.bases import VGG16, Base, L2Norm, conv_layers, initialize, make_base
from ssdedu.map_fields import map_layers
from ssdedu.priors import Config, Extra, FeatureMap
from ssdedu.processing import Processing

__all__ = [
    "SSD",
    "VGG16",
    "L2Norm",
    "fit_config",
    "map_sizes",
    "parameter_groups",
    "ssd300",
    "ssd512",
]


class SSD(nn.Module):
    """The detector: images (B, 3, H, W), RGB 0 .. 255, to offsets (B, P, 4) and logits (B, P, C).

    config: the description of the maps; num_classes: C, background included; base: a name in `bases.BASES`. The
    mean and scale of the input belong to the base and are applied inside. Raises ValueError where the base
    does not give the maps that the description promises. `priors_cxcywh` (P, 4) moves with the module;
    `processing` says what `ssdedu.inference` does before and after the network, Caffe's way unless it is set.
    """

    mean: Tensor
    std: Tensor
    priors_cxcywh: Tensor
    processing: Processing = Processing()

    def __init__(self, config: Config, num_classes: int = 21, base: str = "vgg16") -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes counts the background too, so it is 2 or more, got {num_classes}")
        _check_maps(config, base)
        self.config, self.num_classes, self.base_name = config, num_classes, base
        self.base = make_base(base)
        self.extras, channels = _build_extras(config, self.base)
        per_cell = [m.boxes_per_cell for m in config.maps]
        self.first_map = len(channels) - len(per_cell)
        channels = channels[self.first_map :]
        self.offset_heads = _heads(channels, [k * 4 for k in per_cell], self.base)
        self.class_heads = _heads(channels, [k * num_classes for k in per_cell], self.base)
        self.register_buffer("mean", torch.tensor(self.base.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(self.base.std)[:, None, None])
        self.register_buffer("priors_cxcywh", priors.default_boxes(config), persistent=False)

    def _check_size(self, images: Tensor) -> None:
        wanted = (self.config.height_px, self.config.width_px)
        if images.shape[-2:] != wanted:
            raise ValueError(
                f"{self.config.name} takes images of {wanted[0]} x {wanted[1]} px (height x width), "
                f"got {images.shape[-2]} x {images.shape[-1]}; `model.fit_config` describes other sizes"
            )

    def _check_batch(self, images: Tensor) -> None:
        """One image and one cell are one value a channel, of which batch normalisation has no variance."""
        if not (self.training and images.shape[0] == 1 and self.base.normalizes_batches):
            return
        single = [m.name for m in self.config.maps if m.height * m.width == 1]
        if single:
            raise ValueError(
                f"{self.config.name} needs 2 images or more a batch in training: batch normalisation has nothing to "
                f"average over on map {single[0]} of 1 x 1 cells"
            )

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps (B, D, H', W') that predict, in the description's order; images as in `forward`."""
        maps = self.base((images.float() - self.mean) / self.std)
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return maps[self.first_map :]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), uint8 or float in 0 .. 255, to offsets (B, P, 4) and logits (B, P, C).

        Raises ValueError for images of another size than the description's, and in training for a single image where
        a batch-normalised map has one cell.
        """
        self._check_size(images)
        self._check_batch(images)
        maps = self.features(images)
        offsets = [_predict(head, x, 4) for head, x in zip(self.offset_heads, maps, strict=True)]
        logits = [_predict(head, x, self.num_classes) for head, x in zip(self.class_heads, maps, strict=True)]
        return torch.cat(offsets, 1), torch.cat(logits, 1)


def _fitting_step(m: FeatureMap, sizes_px: Sequence[int], cells: Sequence[int]) -> float | None:
    """The map's step where it is the network's own stride and its grid covers the image as SSD300's, else None."""
    step = m.step_px
    if step is None or not math.log2(step).is_integer():
        return None
    grid = zip(sizes_px, cells, strict=True)
    covers = all((n - 0.5) * step <= 1.02 * size and size < (n + 1) * step for size, n in grid)
    return step if covers else None


def _build_extras(config: Config, base: Base) -> tuple[nn.ModuleList, list[int]]:
    """The extra blocks and the depth of every map, base maps first."""
    blocks, depths, norm = nn.ModuleList(), list(base.channels), base.normalizes_batches
    for m in config.maps:
        if m.extra is not None:
            blocks.append(_extra_block(depths[-1], m.extra, norm, base.separable))
            depths.append(m.extra.out)
    initialize(blocks, nn.init.kaiming_normal_ if norm else nn.init.xavier_uniform_)
    return blocks, depths


def _extra_block(inputs: int, extra: Extra, norm: bool, separable: bool) -> nn.Sequential:
    """1x1 to `mid` channels, then kernel x kernel to `out` (Sec. 2.1): dense, or depthwise and then 1x1 (SSDLite)."""
    shape = {"kernel": extra.kernel, "stride": extra.stride, "padding": extra.padding}
    first = conv_layers(inputs, extra.mid, 1, norm=norm)
    if not separable:
        return nn.Sequential(*first, *conv_layers(extra.mid, extra.out, norm=norm, **shape))
    depthwise = conv_layers(extra.mid, extra.mid, norm=norm, groups=extra.mid, **shape)
    return nn.Sequential(*first, *depthwise, *conv_layers(extra.mid, extra.out, 1, norm=norm))


def _head(inputs: int, outputs: int, norm: bool, separable: bool) -> nn.Module:
    """A predictor, 3x3 (Sec. 2.1): dense, or depthwise and then 1x1 (SSDLite)."""
    if not separable:
        return nn.Conv2d(inputs, outputs, 3, padding=1)
    depthwise = conv_layers(inputs, inputs, norm=norm, padding=1, groups=inputs)
    return nn.Sequential(*depthwise, nn.Conv2d(inputs, outputs, 1))


def _heads(channels: Sequence[int], outputs: Sequence[int], base: Base) -> nn.ModuleList:
    shape = base.normalizes_batches, base.separable
    heads = nn.ModuleList(_head(c, o, *shape) for c, o in zip(channels, outputs, strict=True))
    initialize(heads, nn.init.xavier_uniform_)
    return heads


def _predict(head: nn.Module, x: Tensor, numbers: int) -> Tensor:
    """(B, D, H, W) to (B, H * W * k, numbers): row, column, box, as the default boxes come."""
    return head(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, numbers)


def map_sizes(config: Config, base: str, width_px: int, height_px: int) -> list[tuple[int, int]]:
    """(height, width) in cells of each predicting map for an input of that size, without computing a number.

    Raises ValueError where the input is too small for a map, there are fewer maps than described, and for an unknown
    base.
    """
    with torch.device("meta"):
        network = make_base(base)
    _check_number(config, network)
    sizes = _sizes_by_arithmetic if network.tapped else _sizes_by_running
    try:
        return sizes(config, network, (height_px, width_px))
    except (RuntimeError, ValueError) as error:
        size = f"{width_px} x {height_px} px"
        raise ValueError(f"{config.name}: an input of {size} is too small: {error}") from error


def _check_number(config: Config, base: Base) -> None:
    given = len(base.channels) + sum(m.extra is not None for m in config.maps)
    if given < len(config.maps):
        raise ValueError(f"{config.name}: {len(config.maps)} maps, but base and extra blocks give {given}")


def _sizes_by_arithmetic(config: Config, base: Base, sizes_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Layer by layer, which is a second faster than `_sizes_by_running` in a process that has not run torch yet."""
    rows, columns = (
        [receptive_field.chain(layers, size)[-1].size or 0 for layers in map_layers(config, base, axis, size)]
        for axis, size in enumerate(sizes_px)
    )
    return list(zip(rows, columns, strict=True))


def _sizes_by_running(config: Config, base: Base, sizes_px: tuple[int, int]) -> list[tuple[int, int]]:
    """For a base that branches: on tensors without numbers."""
    with torch.device("meta"), torch.no_grad():
        extras, _ = _build_extras(config, base)
        maps = base.eval()(torch.empty(1, 3, *sizes_px))
        for extra in extras.eval():
            maps.append(extra(maps[-1]))
    return [(m.shape[2], m.shape[3]) for m in maps[len(maps) - len(config.maps) :]]


def _check_maps(config: Config, base: str) -> None:
    sizes = map_sizes(config, base, config.width_px, config.height_px)
    for i, (m, (height, width)) in enumerate(zip(config.maps, sizes, strict=True)):
        if (height, width) != (m.height, m.width):
            raise ValueError(
                f"{config.name}: maps[{i}] ({m.name}) is described as {m.height} x {m.width} cells, but base "
                f"{base!r} gives {height} x {width}; `model.fit_config` works the cells out"
            )


def fit_config(config: Config, width_px: int, height_px: int, base: str = "vgg16") -> Config:
    """The description for another input size, square or not: cells from the network, box sizes in proportion.

    Sizes follow the shorter side, as the original code's min_dim. A step that is not the network's own stride
    (SSD300's 100 and 300), or whose grid would leave the image or not fill it, becomes None, which spreads the
    cells evenly. Raises ValueError for too small inputs.
    """
    ratio = min(width_px, height_px) / min(config.width_px, config.height_px)
    maps = []
    for m, (height, width) in zip(config.maps, map_sizes(config, base, width_px, height_px), strict=True):
        step = _fitting_step(m, (height_px, width_px), (height, width))
        low, high = m.min_px * ratio, None if m.max_px is None else m.max_px * ratio
        maps.append(dataclasses.replace(m, height=height, width=width, min_px=low, max_px=high, step_px=step))
    name = f"{config.name}_{width_px}x{height_px}"
    return config.replace(name=name, width_px=width_px, height_px=height_px, maps=tuple(maps))


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, bias_factor: float = 2.0
) -> list[dict[str, Any]]:
    """Optimizer groups: weights with decay; biases at bias_factor times the rate and without decay (Caffe's
    lr_mult 2, decay_mult 0); batch normalisation's factors without decay; frozen parameters are left out.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms = {id(p) for m in layers for p in m.parameters(recurse=False)}
    weights: list[nn.Parameter] = []
    scales: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_norm = id(parameter) in norms
        group = scales if is_norm else biases if name.endswith("bias") else weights
        group.append(parameter)
    return [
        {"params": weights, "lr": lr, "weight_decay": weight_decay},
        {"params": scales, "lr": lr, "weight_decay": 0.0},
        {"params": biases, "lr": lr * bias_factor, "weight_decay": 0.0},
    ]


def ssd300(num_classes: int = 21) -> SSD:
    """SSD300 of the paper for VOC (8,732 default boxes), untrained."""
    return SSD(priors.SSD300_VOC, num_classes)


def ssd512(num_classes: int = 21) -> SSD:
    """SSD512 of the paper for VOC (24,564 default boxes), untrained."""
    return SSD(priors.SSD512_VOC, num_classes)
