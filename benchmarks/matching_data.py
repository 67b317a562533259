"""Objects of photos, drawn from a seed: for bench_matching.py and bench_loss.py."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CLASSES = 20
_SMALLEST = 0.02  # side, as a fraction of the photo
_IN_A_CLUSTER = 10


class Objects(NamedTuple):
    """Boxes (G_i, 4), corners as fractions of the photo, and labels (G_i,) from 1 of each photo; G_i above 0."""

    boxes_xyxy: list[Tensor]
    labels: list[Tensor]


def photos(number: int, objects_a_photo: float = 8.9, seed: int = 0) -> Objects:
    """Photos with from one object to many, of all sizes, that many in the mean."""
    rng = np.random.default_rng(seed)
    counts = 1 + rng.multinomial(round(number * objects_a_photo) - number, rng.dirichlet([2] * number))
    return _objects([_boxes(rng, rng.uniform(0, 1, (n, 2)), 0.05, 0.6) for n in counts], rng)


def crowds(number: int, objects_a_photo: int = 100, seed: int = 0) -> Objects:
    """Photos of crowds: ten objects around each of some places, which compete for default boxes."""
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(number):
        places = rng.uniform(0.05, 0.95, (-(-objects_a_photo // _IN_A_CLUSTER), 2))
        center = places.repeat(_IN_A_CLUSTER, 0)[:objects_a_photo] + rng.normal(0, 0.05, (objects_a_photo, 2))
        boxes.append(_boxes(rng, center, 0.03, 0.25))
    return _objects(boxes, rng)


def _boxes(rng: np.random.Generator, center: np.ndarray, smallest: float, largest: float) -> np.ndarray:
    """Boxes around these centres (G, 2), inside the photo: sides between these, mostly small, and shapes at random."""
    side = np.exp(rng.uniform(np.log(smallest), np.log(largest), (len(center), 1)))
    ratio = np.exp(rng.normal(0, 0.4, (len(center), 1)))
    size = np.minimum(np.hstack([side * ratio, side / ratio]), 1).clip(_SMALLEST)
    low = np.clip(center - size / 2, 0, 1 - size)
    return np.hstack([low, low + size])


def _objects(boxes: list[np.ndarray], rng: np.random.Generator) -> Objects:
    labels = [torch.tensor(rng.integers(1, CLASSES + 1, len(b))) for b in boxes]
    return Objects([torch.tensor(b, dtype=torch.float32) for b in boxes], labels)
