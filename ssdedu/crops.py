"""Which patch of an image to train on: SSD's seven samplers (section 2.2, "data augmentation").

Each sampler proposes crops and accepts those that overlap an object enough; one of the accepted is chosen.
Crops are corners (..., 4) in fractions of the image, xmin, ymin, xmax, ymax; `augment.crop` cuts them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "SAMPLERS",
    "Sampler",
    "choose_crop",
    "crop_iou",
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


def propose_crops(sampler: Sampler, rng: np.random.Generator) -> np.ndarray:
    """All tries of a sampler: (tries, 4) float64 corners, fractions of the image (Caffe's SampleBBox).

    Scale s and aspect a, limited to [s^2, 1 / s^2], give width s sqrt(a) and height s / sqrt(a); the place is
    uniform.
    """
    scale = rng.uniform(sampler.min_scale, sampler.max_scale, sampler.tries)
    aspect = rng.uniform(sampler.min_aspect, sampler.max_aspect, sampler.tries)
    root = np.sqrt(np.clip(aspect, scale**2, scale**-2))
    width, height = scale * root, scale / root
    left, top = rng.random((2, sampler.tries)) * (1 - width, 1 - height)
    return np.clip(np.stack([left, top, left + width, top + height], axis=-1), 0, 1)


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
    if sampler.min_iou is None and sampler.max_iou is None:
        return np.ones(len(crops_xyxy), bool)
    iou = crop_iou(crops_xyxy, boxes_xyxy)
    low = -np.inf if sampler.min_iou is None else sampler.min_iou
    high = np.inf if sampler.max_iou is None else sampler.max_iou
    inside = (iou >= low) & (iou <= high)
    decide = np.all if all_objects and len(boxes_xyxy) else np.any
    return np.asarray(decide(inside, axis=1))


def sample_crops(
    boxes_xyxy: np.ndarray, samplers: Sequence[Sampler], rng: np.random.Generator, all_objects: bool = False
) -> list[np.ndarray | None]:
    """The first crop (4,) that each sampler accepts, None where no try passes (Caffe's GenerateBatchSamples).

    All tries of a sampler are drawn at once, also those after the one that passed: the draws do not depend on
    the boxes.
    """
    crops: list[np.ndarray | None] = []
    for sampler in samplers:
        proposed = propose_crops(sampler, rng)
        passed = pass_crops(proposed, boxes_xyxy, sampler, all_objects)
        crops.append(proposed[passed.argmax()] if passed.any() else None)
    return crops


def choose_crop(
    boxes_xyxy: np.ndarray, samplers: Sequence[Sampler], rng: np.random.Generator, all_objects: bool = False
) -> np.ndarray | None:
    """One crop (4,) out of those of the samplers that passed, each with equal chance; None if none passed."""
    passed = [found for found in sample_crops(boxes_xyxy, samplers, rng, all_objects) if found is not None]
    choice = rng.random()
    return passed[int(choice * len(passed))] if passed else None
