"""Truths and detections as a detector leaves them on VOC2007's test photos, drawn from a seed: for bench_map.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssdedu.evaluate import DetectionArrays
from ssdedu.sample import Truth

_NUMBERS = {
    "aeroplane": (285, 26), "bicycle": (337, 52), "bird": (459, 117), "boat": (263, 130), "bottle": (469, 188),
    "bus": (213, 41), "car": (1201, 340), "cat": (358, 12), "chair": (756, 618), "cow": (244, 85),
    "diningtable": (206, 93), "dog": (489, 41), "horse": (348, 47), "motorbike": (325, 44),
    "person": (4528, 699), "pottedplant": (480, 112), "sheep": (242, 69), "sofa": (239, 157), "train": (282, 20),
    "tvmonitor": (308, 53),
}  # fmt: skip
CLASSES = tuple(_NUMBERS)  # with VOC2007 test's objects: those that are not difficult, and difficult ones
NUM_IMAGES = 4952
_WIDTH_PX, _HEIGHT_PX = 500, 375
_SIZE = np.array([_WIDTH_PX, _HEIGHT_PX] * 2, np.float32)
_NEAR = 5  # detections near each object


@dataclass(frozen=True)
class Case:
    """What is to be evaluated: one entry of both for each image."""

    truths: Sequence[Truth]
    detections: Sequence[DetectionArrays]

    def first(self, number: int) -> Case:
        """The same with the first images alone."""
        return Case(self.truths[:number], self.detections[:number])


def draw(num_images: int, num_detections: int, seed: int = 0) -> Case:
    """VOC2007 test's 12,032 objects and 2,944 difficult ones by class, fewer in proportion for fewer images.

    Boxes of objects are whole pixels. Of an image's detections some lie near its objects, most with the right
    label and better scores, the rest anywhere. Scores are different, from 0.01 to 1.
    """
    rng = np.random.default_rng(seed)
    labels, difficult = _objects(num_images / NUM_IMAGES)
    image = _images(rng, labels, num_images)
    boxes_px = _boxes_px(rng, len(labels))
    order = np.argsort(image, kind="stable")
    ends = np.searchsorted(image[order], np.arange(1, num_images))
    groups = np.split(order, ends)
    truths = [
        Truth(boxes_px[g] / _SIZE, labels[g], difficult[g], _WIDTH_PX, _HEIGHT_PX, f"{number:06}")
        for number, g in enumerate(groups, start=1)
    ]
    found = [_detections(rng, boxes_px[g], labels[g], num_detections) for g in groups]
    return Case(truths, _scored(found))


def _objects(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and difficult flags, class by class."""
    numbers = np.ceil(share * np.array(list(_NUMBERS.values()))).astype(int)
    labels = np.repeat(np.arange(1, len(CLASSES) + 1), numbers.sum(1))
    difficult = np.repeat(np.tile([False, True], len(CLASSES)), numbers.reshape(-1))
    return labels, difficult


def _images(rng: np.random.Generator, labels: np.ndarray, num_images: int) -> np.ndarray:
    """The image of each object: each image gets one; most of the others go where their class is already."""
    image = rng.integers(0, num_images, len(labels))
    first = rng.permutation(len(labels))[:num_images]
    image[first] = np.arange(num_images)
    others = np.setdiff1d(np.flatnonzero(rng.random(len(labels)) < 0.8), first)
    for label in np.unique(labels[first]):
        there, here = first[labels[first] == label], others[labels[others] == label]
        image[here] = image[rng.choice(there, len(here))]
    return image


def _boxes_px(rng: np.random.Generator, number: int) -> np.ndarray:
    """Whole pixels; side and ratio of sides are spread as in VOC2007, where half lie below a quarter side."""
    side, ratio = 2 ** rng.normal(-2, 1.2, number), 2 ** rng.normal(-0.2, 0.9, number)
    wide, high = side * np.sqrt(ratio) * _WIDTH_PX, side / np.sqrt(ratio) * _HEIGHT_PX
    extent = np.stack([wide, high], 1).clip(8, _SIZE[:2] - 2).round()
    low = (rng.random((number, 2)) * (_SIZE[:2] - 1 - extent)).round()
    return np.hstack([low, low + extent]).astype(np.float32)


def _detections(
    rng: np.random.Generator, boxes_px: np.ndarray, labels: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes in pixels, labels and how good they look, in a random order as after suppression class by class."""
    near = np.resize(np.arange(len(labels)), min(_NEAR * len(labels), number))
    far = number - len(near)
    sides = boxes_px[near, 2:] - boxes_px[near, :2]
    shift = rng.exponential(0.12, (len(near), 1))
    moved = boxes_px[near] + rng.normal(0, shift, (len(near), 4)) * np.tile(sides, 2)
    right = rng.random(len(near)) < 0.9
    named = np.where(right, labels[near], rng.integers(1, len(CLASSES) + 1, len(near)))
    looks = 2 - 8 * shift[:, 0] + rng.normal(0, 1, len(near)) - 2 * ~right
    boxes = np.vstack([np.sort(moved.reshape(-1, 2, 2), 1).reshape(-1, 4), _boxes_px(rng, far)])
    order = rng.permutation(number)
    found = (
        boxes,
        np.append(named, rng.integers(1, len(CLASSES) + 1, far)),
        np.append(looks, rng.normal(-4, 1, far)),
    )
    return tuple(array[order] for array in found)


def _scored(found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[DetectionArrays]:
    """Scores by rank, from 0.01 to 1 in equal ratios: no two are equal, also as float32."""
    looks = np.concatenate([item[2] for item in found])
    rank = np.empty(len(looks))
    rank[np.argsort(looks)] = np.linspace(0, 1, len(looks))
    scores = np.split((0.01 * 100**rank).astype(np.float32), np.cumsum([len(item[2]) for item in found])[:-1])
    return [
        DetectionArrays((boxes / _SIZE).astype(np.float32), score, labels)
        for (boxes, labels, _), score in zip(found, scores, strict=True)
    ]
