"""Other scales for the same feature maps: a small search for default boxes that fit given objects better.

What it maximises is coverage, not mAP. It knows nothing of receptive fields, of what a map's features can tell, or of
how many default boxes compete for an object; train with both before you believe it. Weights that were trained with
other default boxes fit the shapes of the network, but not what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np

from ssdedu.best_box import best_default_box, cell_shapes, checked_boxes, nearest_cells, shape_iou
from ssdedu.priors import Config, FeatureMap

__all__ = ["fit_score", "suggest"]

_STEPS = tuple(2.0**-k for k in range(1, 6))  # octaves: from a factor of 1.41 down to one of 1.02
_SCALED = (0.5, 0.71, 1.41)
_LARGEST = 1.5  # sides beyond this many image sides fit nothing
_RISE = 1.1  # smallest factor from a side to the next one: maps of nearly equal boxes waste one of them
Score = tuple[int, float]


def suggest(
    boxes_xyxy: Any,
    config: Config,
    threshold: float = 0.5,
    ratio_3: bool = False,
    num_objects: int = 3000,
    seed: int = 0,
) -> Config:
    """The description with other min_px and max_px, so that more objects, boxes (N, 4), have a default box that fits.

    Maximises `fit_score` on at most num_objects of the objects, drawn with `seed`. Sides rise from map to map by 1.1
    times and more, in whole pixels, and each max_px is the next map's min_px, as in Sec. 2.2. ratio_3 adds ratio 3 to
    every map that lacks it. Everything else stays, and so does `config` as a whole unless the objects drawn are
    fitted better. Raises ValueError without objects and for degenerate ones.
    """
    boxes = checked_boxes(boxes_xyxy)
    if not len(boxes):
        raise ValueError("boxes_xyxy is empty: without objects there is nothing to fit")
    if len(boxes) > num_objects:
        boxes = boxes[np.sort(np.random.default_rng(seed).choice(len(boxes), num_objects, replace=False))]
    base = _with_ratio_3(config) if ratio_3 else config
    search = _Search(boxes, base, threshold)
    found = [search.climb(sides) for sides in _starts(boxes, base)]
    choices = [base, *(_with_sides(base, sides) for sides in found)]
    return max(choices, key=lambda choice: fit_score(boxes, choice, threshold))


def fit_score(boxes_xyxy: Any, config: Config, threshold: float = 0.5) -> Score:
    """What `suggest` maximises: how many objects have a default box of IoU >= threshold, then the mean best IoU."""
    return _score(best_default_box(boxes_xyxy, config).iou, threshold)


def _score(iou: np.ndarray, threshold: float) -> Score:
    return int((iou >= threshold).sum()), round(float(iou.mean()), 9)


def _with_ratio_3(config: Config) -> Config:
    return config.replace(maps=tuple(map(_and_3, config.maps)))


def _and_3(m: FeatureMap) -> FeatureMap:
    has_3 = any(round(max(ratio, 1 / ratio), 9) == 3 for ratio in m.aspect_ratios)
    return m if has_3 else replace(m, aspect_ratios=(*m.aspect_ratios, 3.0))


def _with_sides(config: Config, sides: Sequence[float]) -> Config:
    """The description with these sides, one for each map and perhaps one beyond the last."""
    highs = [*sides[1:], None]
    rows = zip(config.maps, sides, highs, strict=False)
    maps = [replace(m, min_px=float(low), max_px=None if m.max_px is None else high) for m, low, high in rows]
    return config.replace(maps=tuple(maps))


def _sides(config: Config) -> list[float]:
    last = config.maps[-1].max_px
    return [m.min_px for m in config.maps] + ([] if last is None else [last])


def _starts(boxes: np.ndarray, config: Config) -> Iterator[list[float]]:
    """Where the search begins: the sides as they are, smaller and larger ones, and two sets after the objects."""
    sides = _sides(config)
    yield _rising(sides)
    yield from (_rising([side * factor for side in sides]) for factor in _SCALED)
    sizes_px = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1) * config.width_px * config.height_px)
    low, high = np.quantile(sizes_px, [0.05, 0.95])
    yield _rising(np.geomspace(low, high, len(sides)).tolist())
    yield _rising(np.quantile(sizes_px, np.linspace(0.05, 0.95, len(sides))).tolist())


def _rising(sides: Sequence[float]) -> list[float]:
    """The sides in whole pixels, each by `_RISE` and 1 px at least above the one before."""
    rising: list[float] = []
    for side in sides:
        lowest = max(rising[-1] + 1, math.ceil(rising[-1] * _RISE)) if rising else 1
        rising.append(float(max(round(side), lowest)))
    return rising


class _Search:
    """The best IoU of each object for any sides; what one map gives for a pair of sides is reckoned once."""

    def __init__(self, boxes: np.ndarray, config: Config, threshold: float) -> None:
        self.config, self.threshold = config, threshold
        self.sizes = boxes[:, 2:] - boxes[:, :2]
        self.distances = [nearest_cells(boxes, m, config)[1] for m in config.maps]
        self.largest = _LARGEST * max(config.width_px, config.height_px)
        self._known: dict[tuple[int, float, float | None], np.ndarray] = {}

    def score(self, sides: Sequence[float]) -> Score:
        """`fit_score` with these sides, default boxes not clipped."""
        maps = _with_sides(self.config, sides).maps
        return _score(np.maximum.reduce([self._iou(i, m) for i, m in enumerate(maps)]), self.threshold)

    def _iou(self, i: int, m: FeatureMap) -> np.ndarray:
        key = i, m.min_px, m.max_px
        if key not in self._known:
            iou = shape_iou(self.sizes, self.distances[i], cell_shapes(m, self.config))
            self._known[key] = iou.max(1)
        return self._known[key]

    def climb(self, sides: list[float]) -> list[float]:
        """Move single sides, or a side and all beyond, while that helps; first by large steps, then by small ones."""
        best = self.score(sides)
        for step in _STEPS:
            moves = list(product(range(len(sides)), (step, -step), (False, True)))
            before = None
            while best != before:
                before = best
                for move in moves:
                    moved = _moved(sides, *move)
                    if self._is_valid(moved) and (score := self.score(moved)) > best:
                        sides, best = moved, score
        return sides

    def _is_valid(self, sides: Sequence[float]) -> bool:
        rises = all(low * _RISE <= high for low, high in pairwise(sides))
        return rises and sides[0] >= 1 and sides[-1] <= self.largest


def _moved(sides: Sequence[float], first: int, octaves: float, all_beyond: bool) -> list[float]:
    """The sides with one of them, or it and all beyond, larger by so many octaves: by 1 px at least."""
    last = len(sides) if all_beyond else first + 1
    sign = 1 if octaves > 0 else -1
    scaled = [side + sign * max(1, abs(round(side * 2.0**octaves - side))) for side in sides[first:last]]
    return [*sides[:first], *scaled, *sides[last:]]
