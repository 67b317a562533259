"""Tiles of default boxes: which of them an object may overlap so much, without a look at all the others (Sec. 2.2).

Thousands of default boxes differ in place alone. Those that are alike and near each other make a tile, and what
holds for the ranges of a tile's corners, sizes and areas bounds the IoU of an object with each of its boxes. The
bound is exact in floating point: it takes the steps of `boxes.iou`, and rounding keeps the order of numbers. Nothing is
known of the grid: a description with any boxes will do, and the less they have in common, the smaller are the tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssdedu import boxes as box_ops

__all__ = ["Pairs", "Search", "Tiles", "tiles"]

_SIZES = 4  # of default boxes that count as alike, to each doubling
_SMALLEST = 1e-6  # side of a default box, as a fraction of the image, that still has a size of its own


class Tiles(NamedTuple):
    """P default boxes in K tiles, ranges over the members of each.

    corners_xyxy (P, 4): of all, in their own order; order (P,): default boxes, tile by tile; first, number (K,): where
    a tile's members begin in order, and how many they are; low_xyxy, high_xyxy (K, 4): least and largest corners;
    size (K, 2): largest width and height; area (K,): least area.
    """

    corners_xyxy: Tensor
    order: Tensor
    first: Tensor
    number: Tensor
    low_xyxy: Tensor
    high_xyxy: Tensor
    size: Tensor
    area: Tensor


class Pairs(NamedTuple):
    """Some pairs of object and default box with their IoU: tensors (M,)."""

    object_index: Tensor
    prior_index: Tensor
    iou: Tensor


def tiles(priors_cxcywh: Tensor) -> Tiles:
    """The tiles of default boxes (P, 4) on a CPU, P above 0: alike in size, and no further apart than that."""
    order, first = _by_tile(priors_cxcywh.numpy())
    corners = box_ops.cxcywh_to_xyxy(priors_cxcywh)
    members = corners[order]
    size, area = (members[:, 2:] - members[:, :2]).clamp_(min=0), box_ops.area(members)
    return Tiles(
        corners,
        torch.from_numpy(order),
        torch.from_numpy(first),
        torch.from_numpy(np.diff(first, append=len(order))),
        _over_tiles(np.minimum, members, first),
        _over_tiles(np.maximum, members, first),
        _over_tiles(np.maximum, size, first),
        _over_tiles(np.minimum, area, first),
    )


def _by_tile(priors_cxcywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The default boxes in the order of their tiles, and where each tile begins."""
    kind = np.floor(_SIZES * np.log2(priors_cxcywh[:, 2:].clip(_SMALLEST)))
    place = np.floor(priors_cxcywh[:, :2] / 2 ** (kind / _SIZES))
    key = np.zeros(len(kind), np.int64)
    for column in (*kind.T, *place.T):
        digit = (column - column.min()).astype(np.int64)
        key = key * (digit.max() + 1) + digit
    order = key.argsort(kind="stable")
    return order, np.flatnonzero(np.diff(key[order], prepend=-1))


def _over_tiles(function: np.ufunc, values: Tensor, first: np.ndarray) -> Tensor:
    return torch.from_numpy(function.reduceat(values.numpy(), first))


@dataclass(frozen=True)
class Search:
    """Looks for default boxes near objects (N, 4); bound (N, K): the most that their IoU with a member can be."""

    objects_xyxy: Tensor
    grid: Tiles
    bound: Tensor

    @classmethod
    def of(cls, objects_xyxy: Tensor, grid: Tiles) -> Search:
        """A search for these objects, all on a CPU."""
        return cls(objects_xyxy, grid, _bounds(objects_xyxy, grid))

    def promise(self) -> Tensor:
        """An IoU (N,) that each object reaches, often its best: that in the tile of the highest bound."""
        near = self._pairs(torch.arange(len(self.bound)), self.bound.argmax(1))
        return near.iou.new_zeros(len(self.bound)).scatter_reduce_(0, near.object_index, near.iou, "amax")

    def pairs(self, rows: Tensor, least: Tensor) -> Pairs:
        """All pairs of the objects in these rows whose IoU is not below their object's least (N,)."""
        row, tile = (self.bound[rows] >= least[rows, None]).nonzero(as_tuple=True)
        near = self._pairs(rows[row], tile)
        enough = (near.iou >= least[near.object_index]).nonzero()[:, 0]
        return Pairs(*(t[enough] for t in near))

    def _pairs(self, owner: Tensor, tile: Tensor) -> Pairs:
        """Objects (M,) with all members of tiles (M,)."""
        number = self.grid.number[tile]
        place = (self.grid.first[tile] - (number.cumsum(0) - number)).repeat_interleave(number)
        place += torch.arange(len(place))
        owner, prior = owner.repeat_interleave(number), self.grid.order[place]
        a, b = self.objects_xyxy.index_select(0, owner), self.grid.corners_xyxy.index_select(0, prior)
        return Pairs(owner, prior, box_ops.iou(a[:, None], b[:, None])[:, 0, 0])


def _bounds(objects_xyxy: Tensor, grid: Tiles) -> Tensor:
    """The steps of `boxes.iou` with the end of each range that makes it largest."""
    a = objects_xyxy.T[..., None]  # (4, N, 1)
    low, high, size = (t.T.contiguous() for t in (grid.low_xyxy, grid.high_xyxy, grid.size))
    sides = []
    for i in range(2):
        side = torch.minimum(a[i + 2], high[i + 2]).sub_(torch.maximum(a[i], low[i])).clamp_(min=0)
        sides.append(torch.minimum(side, size[i], out=side))
    inter = sides[0].mul_(sides[1])
    union = (box_ops.area(objects_xyxy)[:, None] + grid.area).sub_(inter)
    return inter.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))
