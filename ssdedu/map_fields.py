"""What the cells of a detector's predicting maps see: the theoretical field, and its middle that counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssdedu import receptive_field as rf
from ssdedu.priors import Config

if TYPE_CHECKING:
    from ssdedu.bases import Base
    from ssdedu.receptive_field import Layer

__all__ = ["MapField", "effective_extent", "map_fields", "map_layers", "middle_px"]


@dataclass(frozen=True)
class MapField:
    """What each cell of one map sees along one axis, in input pixels, before the 3x3 predictor.

    jump: distance of neighbouring cells; start: centre of cell 0; field_px: theoretical extent; middle_px: of
    this the middle that holds 95 % of the gradient of an untrained network (`effective_extent`).
    """

    jump: int
    start: float
    field_px: int
    middle_px: int


def middle_px(profile: np.ndarray, share: float = 0.95) -> int:
    """Pixels of the shortest middle of a profile (N,) that holds at least `share` of its sum."""
    total, cut = profile.sum(), 0
    while profile[cut + 1 : len(profile) - cut - 1].sum() >= share * total:
        cut += 1
    return len(profile) - 2 * cut


def effective_extent(layers: Sequence[Layer], share: float = 0.95) -> int:
    """Pixels in the middle of the field that hold `share` of the weight, along one axis, far from the border.

    A pixel's weight is the root of its number of paths to the cell: the typical |gradient| where the layers'
    weights are random with mean 0 (Luo et al. 2016, section 2).
    """
    unpadded = [dataclasses.replace(layer, padding=0) for layer in layers]
    weights = np.sqrt(rf.paths(unpadded, rf.chain(unpadded)[-1].receptive_field, 0))
    return middle_px(weights, share)


def map_fields(config: Config, base: str, axis: int = 1) -> list[MapField]:
    """The field of each map of a description on a base of `bases.BASES`; maps as in `model.SSD`.

    axis 0 is the height, 1 the width: where TensorFlow's padding follows from the input's size (MobileNet), the two
    of an image that is not square can start at different pixels. Raises ValueError for an unknown base and as
    `map_layers` does.
    """
    import torch

    from ssdedu.bases import make_base

    with torch.device("meta"):
        network = make_base(base)
    size_px = (config.height_px, config.width_px)[axis]
    return [_field(layers) for layers in map_layers(config, network, axis, size_px)]


def map_layers(config: Config, base: Base, axis: int, size_px: int) -> list[tuple[Layer, ...]]:
    """The layers from an input of `size_px` pixels (along the axis, 0 height, 1 width) to each map of a description.

    Raises ValueError where the base and the extra blocks give fewer maps, a layer does not fit into what is left of
    the input, or the geometry is not known (`receptive_field.layers_of`; a base without `tapped`).
    """
    from ssdedu.bases import L2Norm

    if not base.tapped:
        raise ValueError(f"{type(base).__name__} names no tapped children: its geometry is not known")
    names, children = zip(*base.named_children(), strict=True)
    ends = [names.index(name) + 1 for name in base.tapped]
    chains = [rf.layers_of(children[:end], axis, (L2Norm,), size_px) for end in ends]
    for m in config.maps:
        if m.extra is not None:
            block = rf.Layer(1), rf.Layer(m.extra.kernel, m.extra.stride, m.extra.padding, name=m.name)
            chains.append(chains[-1] + block)
    if len(chains) < len(config.maps):
        given = f"base and extra blocks give {len(chains)}"
        raise ValueError(f"{config.name}: {len(config.maps)} maps, but {given}")
    return chains[len(chains) - len(config.maps) :]


def _field(layers: Sequence[Layer]) -> MapField:
    last = rf.chain(layers)[-1]
    return MapField(last.jump, last.start, last.receptive_field, effective_extent(layers))
