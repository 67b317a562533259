"""What the cells of a detector's predicting maps see: the theoretical field, and its middle that counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssdedu import receptive_field as rf
from ssdedu.priors import Config, Extra

if TYPE_CHECKING:
    from ssdedu.receptive_field import Layer

__all__ = ["MapField", "effective_extent", "map_fields", "middle_px"]

_TAPPED = {
    "vgg16": ("to_conv4_3", "to_fc7"),
    "vgg16_bn": ("to_conv4_3", "to_fc7"),
    "vgg16_full": ("to_conv4_3", "to_conv5_3", "to_fc7"),
}


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


def map_fields(config: Config, base: str) -> list[MapField]:
    """The field of each map of a description on a base of `bases.BASES`; maps as in `model.SSD`.

    Raises ValueError, from `receptive_field.layers_of`, for a base whose geometry is not known.
    """
    chains = _chains(base, [m.extra for m in config.maps if m.extra is not None])
    return [_field(layers) for layers in chains[len(chains) - len(config.maps) :]]


def _chains(base: str, extras: Sequence[Extra]) -> list[tuple[Layer, ...]]:
    """The layers from the image to each map: the base's tapped ones, then one behind each extra block."""
    import torch

    from ssdedu import bases

    with torch.device("meta"):
        network = bases.BASES[base]()
    layers: tuple[Layer, ...] = ()
    chains = []
    for name, child in network.named_children():
        layers += rf.layers_of([child], ignore=(bases.L2Norm,))
        if name in _TAPPED.get(base, (name,)):
            chains.append(layers)
    for extra in extras:
        layers += (rf.Layer(1), rf.Layer(extra.kernel, extra.stride, extra.padding))
        chains.append(layers)
    return chains


def _field(layers: Sequence[Layer]) -> MapField:
    last = rf.chain(layers)[-1]
    return MapField(last.jump, last.start, last.receptive_field, effective_extent(layers))
