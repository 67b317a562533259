"""Which patch of an image to train on: SSD's seven samplers (section 2.2, "data augmentation").

Each sampler proposes crops and accepts those that overlap an object enough; one of the accepted is chosen.
Crops are corners (..., 4) in fractions of the image, xmin, ymin, xmax, ymax; `augment.crop` cuts them out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

__all__ = [
    "SAMPLERS",
    "Sampler",
    "choose_crop",
    "crop_iou",
    "narrowest_crop",
    "pass_crops",
    "propose_crops",
    "sample_crops",
]


@dataclass(frozen=True)
class Sampler:
    """How one of SSD's crop samplers proposes patches and which it accepts.

    Scale and aspect are uniform in their ranges; a patch passes when its IoU with an object lies in
    [min_iou, max_iou]. With neither bound it always passes; with one it never does where there is no object
    (Caffe's SatisfySampleConstraint). ValueError for impossible ranges.
    """

    min_iou: float | None = None
    max_iou: float | None = None
    min_scale: float = 0.3
    max_scale: float = 1.0
    min_aspect: float = 0.5
    max_aspect: float = 2.0
    tries: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= self.max_scale <= 1:
            raise ValueError(f"Sampler: 0 < min_scale <= max_scale <= 1 must hold, got {self}")
        if not 0 < self.min_aspect <= self.max_aspect:
            raise ValueError(f"Sampler: 0 < min_aspect <= max_aspect must hold, got {self}")
        if self.tries < 1:
            raise ValueError(f"Sampler: tries must be 1 or more, got {self.tries}")


# The whole image, five minimum overlaps, any patch. The smallest scale is .3 in the original's settings, .1
# in the paper's text. The settings write "any patch" as IoU <= 1, so that it too needs an object.
SAMPLERS = (
    Sampler(min_scale=1, min_aspect=1, max_aspect=1, tries=1),
    *(Sampler(min_iou=min_iou) for min_iou in (0.1, 0.3, 0.5, 0.7, 0.9)),
    Sampler(max_iou=1.0),
)


def narrowest_crop(samplers: Sequence[Sampler]) -> tuple[float, float]:
    """The least width and the least height of all crops that the samplers may propose; fractions of the image."""
    width, height = np.min([(1.0, 1.0), *(_narrowest(sampler) for sampler in samplers)], axis=0).tolist()
    return width, height


def _narrowest(sampler: Sampler) -> tuple[float, float]:
    scale = sampler.min_scale
    least, most = np.clip((sampler.min_aspect, sampler.max_aspect), scale**2, scale**-2).tolist()
    return scale * math.sqrt(least), scale / math.sqrt(most)


class _Tries(NamedTuple):
    """K tries, one sampler after the other: the ranges they draw from and the IoU they ask for, each (K,)."""

    min_scale: np.ndarray
    scale_range: np.ndarray
    min_aspect: np.ndarray
    aspect_range: np.ndarray
    min_iou: np.ndarray
    max_iou: np.ndarray


@lru_cache(maxsize=64)
def _tries(samplers: tuple[Sampler, ...]) -> _Tries:
    rows = [
        (
            s.min_scale,
            s.max_scale - s.min_scale,
            s.min_aspect,
            s.max_aspect - s.min_aspect,
            -np.inf if s.min_iou is None else s.min_iou,
            np.inf if s.max_iou is None else s.max_iou,
        )
        for s in samplers
    ]
    return _Tries(*np.repeat(np.reshape(rows, (-1, 6)), [s.tries for s in samplers], axis=0).T)


def propose_crops(sampler: Sampler, rng: np.random.Generator) -> np.ndarray:
    """All tries of a sampler: (tries, 4) float64 corners, fractions of the image (Caffe's SampleBBox).

    Scale s and aspect a, limited to [s^2, 1 / s^2], give width s sqrt(a) and height s / sqrt(a); the place is
    uniform.
    """
    return _propose(_tries((sampler,)), rng.random((4, sampler.tries)))


def _propose(tries: _Tries, draws: np.ndarray) -> np.ndarray:
    for_scale, for_aspect, for_left, for_top = draws
    scale = tries.min_scale + tries.scale_range * for_scale
    aspect = tries.min_aspect + tries.aspect_range * for_aspect
    root = np.sqrt(aspect.clip(scale**2, scale**-2))
    width, height = scale * root, scale / root
    left, top = for_left * (1 - width), for_top * (1 - height)
    return np.stack([left, top, left + width, top + height], axis=-1).clip(0, 1)


def crop_iou(crops_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """IoU of each crop with each box: (K, 4) and (G, 4) to (K, G)."""
    left, top, right, bottom = crops_xyxy.T[..., None]
    xmin, ymin, xmax, ymax = boxes_xyxy.T.astype(np.float64)
    width = np.maximum(np.minimum(right, xmax) - np.maximum(left, xmin), 0)
    height = np.maximum(np.minimum(bottom, ymax) - np.maximum(top, ymin), 0)
    shared = width * height
    return shared / ((right - left) * (bottom - top) + (xmax - xmin) * (ymax - ymin) - shared)


def pass_crops(
    crops_xyxy: np.ndarray, boxes_xyxy: np.ndarray, sampler: Sampler, all_objects: bool = False
) -> np.ndarray:
    """Which of the crops (K, 4) a sampler accepts, (K,) bool: where ANY object has the IoU it asks for.

    all_objects=True asks it of every object instead, which is not SSD: some ports do so, and lose most crops.
    """
    return _pass(crops_xyxy, boxes_xyxy, _tries((replace(sampler, tries=1),)), all_objects)


def _pass(crops_xyxy: np.ndarray, boxes_xyxy: np.ndarray, tries: _Tries, all_objects: bool) -> np.ndarray:
    iou = crop_iou(crops_xyxy, boxes_xyxy)
    inside = (iou >= tries.min_iou[:, None]) & (iou <= tries.max_iou[:, None])
    decide = np.all if all_objects and len(boxes_xyxy) else np.any
    asks_for_nothing = np.isinf(tries.min_iou) & np.isinf(tries.max_iou)
    return decide(inside, axis=1) | asks_for_nothing


def sample_crops(
    boxes_xyxy: np.ndarray, samplers: Sequence[Sampler], rng: np.random.Generator, all_objects: bool = False
) -> list[np.ndarray | None]:
    """The first crop (4,) that each sampler accepts, None where no try passes (Caffe's GenerateBatchSamples).

    All tries of all samplers are drawn and judged at once, also those after the one that passed: the draws do not
    depend on the boxes.
    """
    if not samplers:
        return []
    tries = _tries(tuple(samplers))
    proposed = _propose(tries, np.hstack([rng.random((4, s.tries)) for s in samplers]))
    passed = _pass(proposed, boxes_xyxy, tries, all_objects)
    stops = accumulate(s.tries for s in samplers)
    own = (slice(stop - s.tries, stop) for s, stop in zip(samplers, stops, strict=True))
    return [proposed[i][passed[i].argmax()] if passed[i].any() else None for i in own]


def choose_crop(
    boxes_xyxy: np.ndarray, samplers: Sequence[Sampler], rng: np.random.Generator, all_objects: bool = False
) -> np.ndarray | None:
    """One crop (4,) out of those of the samplers that passed, each with equal chance; None if none passed."""
    passed = [found for found in sample_crops(boxes_xyxy, samplers, rng, all_objects) if found is not None]
    choice = rng.random()
    return passed[int(choice * len(passed))] if passed else None
