"""Drawn scenes of geometric shapes: a detection data set without a download, the same everywhere by its seed.

Eight classes in confusable pairs (disc and ring, square and frame, diamond and triangle, plus and star), of
any colour, stretched up to 3:1, from 8 % to 65 % of the image's side, up to 45 % covered by others (small ones
less), on a textured background with clutter. Everything random is an integer or uniform draw and everything
drawn is fixed-point arithmetic, so that machines agree to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ssdedu.sample import Sample, Truth

__all__ = ["CLASSES", "Shapes", "draw_scene", "outline"]

CLASSES = ("disc", "ring", "square", "frame", "diamond", "triangle", "plus", "star")
SIZE_PX = 128
MAX_OBJECTS = 8
SIDE_RANGE = (0.08, 0.65)  # sqrt(width * height) of an object over the image's side, log-uniform
MAX_RATIO = 3.0
_PLAIN_RATIO = 1.3
_ELONGATED = 0.4  # share of the objects whose ratio is drawn up to MAX_RATIO
MAX_TILT = math.radians(12)
MAX_COVERED = 0.45
_SMALL_PX, _SMALL_COVERED = 300, 0.15  # objects of fewer pixels stay recognizable only if covered less
_MARGIN_PX = 1
_MIN_CONTRAST = 150  # from the background's colour, over the three channels together
_RIM = 0.35  # brightness of an object's rim
_TRIES = 30
_FIXED = 4  # fractional bits of a vertex


def _polygon(corners: int, start: float = -math.pi / 2, inner: float | None = None) -> np.ndarray:
    """A regular polygon (N, 2) on the unit circle, or a star when an inner radius is given."""
    steps = corners if inner is None else 2 * corners
    angle = start + 2 * math.pi * np.arange(steps) / steps
    radius = np.ones(steps) if inner is None else np.where(np.arange(steps) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _plus(arm: float = 0.36) -> np.ndarray:
    quarter = np.array([(arm, -1), (arm, -arm), (1, -arm)])
    turns = (np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]) for a in _RIGHT_ANGLES)
    return np.concatenate([quarter @ turn for turn in turns])


_RIGHT_ANGLES = tuple(k * math.pi / 2 for k in range(4))
_SQUARE = _polygon(4, math.pi / 4)
_OUTLINES: dict[str, list[np.ndarray]] = {
    "disc": [_polygon(48)],
    "ring": [_polygon(48), 0.55 * _polygon(48)],
    "square": [_SQUARE],
    "frame": [_SQUARE, 0.55 * _SQUARE],
    "diamond": [_polygon(4)],
    "triangle": [_polygon(3)],
    "plus": [_plus()],
    "star": [_polygon(5, inner=0.42)],
}


def outline(name: str, tilt: float, box_xyxy_px: Sequence[float]) -> list[np.ndarray]:
    """Contours (N, 2) in pixels of a class, turned by tilt (radians), then stretched to fill the box exactly.

    A second contour is a hole. Raises KeyError for an unknown class.
    """
    cos, sin = math.cos(tilt), math.sin(tilt)
    turned = [c @ np.array([[cos, sin], [-sin, cos]]) for c in _OUTLINES[name]]
    low, high = turned[0].min(0), turned[0].max(0)
    corner, size = np.array(box_xyxy_px[:2]), np.subtract(box_xyxy_px[2:], box_xyxy_px[:2])
    return [corner + (c - low) / (high - low) * size for c in turned]


def _fixed(contours: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Vertices as fixed-point integers for cv2, whose pixel centres lie at whole numbers."""
    return [np.round((c - 0.5) * (1 << _FIXED)).astype(np.int32) for c in contours]


def _fill(canvas: np.ndarray, contours: list[np.ndarray], color: Iterable[int], smooth: bool = True) -> None:
    cv2.fillPoly(canvas, contours, tuple(map(int, color)), cv2.LINE_AA if smooth else cv2.LINE_8, _FIXED)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _random_box(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A box in pixels, anywhere: side and ratio log-uniform, the ratio mostly in 1/1.3 .. 1.3, else 1/3 .. 3."""
    room = SIZE_PX - 2 * _MARGIN_PX
    side = SIZE_PX * SIDE_RANGE[0] * (SIDE_RANGE[1] / SIDE_RANGE[0]) ** rng.random()
    ratio = MAX_RATIO if rng.random() < _ELONGATED else _PLAIN_RATIO
    root = ratio ** _between(rng, -0.5, 0.5)
    width, height = min(side * root, room), min(side / root, room)
    x = _MARGIN_PX + (room - width) * rng.random()
    y = _MARGIN_PX + (room - height) * rng.random()
    return x, y, x + width, y + height


def _background(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A texture (S, S, 3) of two layers of smooth noise round a base colour, and that colour."""
    base = rng.integers(40, 216, 3)
    canvas = np.tile(base, (SIZE_PX, SIZE_PX, 1)).astype(np.int16)
    for cells, strength in ((5, 24), (32, 10)):
        grid = rng.integers(0, 2 * strength, (cells, cells, 3), dtype=np.uint8)
        noise: np.ndarray = cv2.resize(grid, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR_EXACT)
        canvas += noise
        canvas -= strength
    return np.clip(canvas, 0, 255).astype(np.uint8), base


def _clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Strokes and zigzags that are no object, on the background."""
    for _ in range(rng.integers(3, 9)):
        start = rng.integers(0, SIZE_PX, 2)
        points = start + rng.integers(-28, 29, (rng.integers(2, 5), 2))
        color = tuple(map(int, rng.integers(0, 256, 3)))
        cv2.polylines(canvas, [points.astype(np.int32)], False, color, int(rng.integers(1, 4)), cv2.LINE_AA)


def _object_color(rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """Any colour that stands out from the background."""
    while True:
        color = rng.integers(0, 256, 3)
        if np.abs(color - base).sum() >= _MIN_CONTRAST:
            return color


def _paint(canvas: np.ndarray, contours: list[np.ndarray], color: np.ndarray) -> None:
    """An object: its area in one colour, its rim in a darker shade of it."""
    _fill(canvas, contours, color)
    rim = tuple(map(int, color * _RIM))
    cv2.polylines(canvas, contours, True, rim, 1, cv2.LINE_AA, _FIXED)


def _least_visible(pixels: int) -> float:
    """How many of an object's pixels must stay visible."""
    return pixels * (1 - (MAX_COVERED if pixels >= _SMALL_PX else _SMALL_COVERED))


def _place(
    owner: np.ndarray, full: list[int], rng: np.random.Generator, name: str
) -> list[np.ndarray] | None:
    """Contours of one more object that leaves the others visible enough, or None; marks owner (S, S)."""
    for _ in range(_TRIES):
        contours = _fixed(outline(name, _between(rng, -MAX_TILT, MAX_TILT), _random_box(rng)))
        attempt = owner.copy()
        _fill(attempt, contours, [len(full) + 1], smooth=False)
        seen = np.bincount(attempt.ravel(), minlength=len(full) + 2)[1:]
        if all(seen[i] >= _least_visible(n) for i, n in enumerate(full)):
            owner[:] = attempt
            full.append(int(seen[-1]))
            return contours
    return None


def _visible_box(owner: np.ndarray, number: int) -> tuple[int, int, int, int]:
    """Extent in pixels of what is visible of an object."""
    mine = owner == number
    rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def draw_scene(seed: int, index: int = 0) -> Sample:
    """Scene `index` of the endless series that `seed` names: image (128, 128, 3) and 1 to 8 objects.

    Boxes are the visible extent in whole pixels, over 128; labels 1 .. 8 in the order of `CLASSES`.
    """
    rng = np.random.default_rng([seed, index])
    canvas, base = _background(rng)
    _clutter(canvas, rng)
    owner = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    full: list[int] = []
    labels: list[int] = []
    for _ in range(rng.integers(1, MAX_OBJECTS + 1)):
        label = int(rng.integers(1, len(CLASSES) + 1))
        contours = _place(owner, full, rng, CLASSES[label - 1])
        if contours is not None:
            _paint(canvas, contours, _object_color(rng, base))
            labels.append(label)
    canvas = cv2.add(canvas, rng.integers(0, 9, canvas.shape, dtype=np.uint8))
    boxes_px = np.array([_visible_box(owner, i + 1) for i in range(len(labels))], np.float32)
    difficult = np.zeros(len(labels), bool)
    return Sample(canvas, boxes_px / SIZE_PX, np.array(labels, np.int64), difficult, f"scene-{seed}-{index}")


class Shapes:
    """A data set of `num_scenes` drawn scenes, each drawn when first asked for and then kept in memory.

    seed: names the series; take different seeds for training and evaluation.
    Raises IndexError past the end and ValueError for a negative number of scenes.
    """

    classes: Sequence[str] = CLASSES

    def __init__(self, num_scenes: int = 1000, seed: int = 0) -> None:
        if num_scenes < 0:
            raise ValueError(f"num_scenes must be 0 or more, got {num_scenes}")
        self.num_scenes, self.seed = num_scenes, seed
        self._scenes: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, index: int) -> Sample:
        if not -self.num_scenes <= index < self.num_scenes:
            raise IndexError(f"scene {index} of {self.num_scenes}")
        index %= self.num_scenes
        if index not in self._scenes:
            self._scenes[index] = draw_scene(self.seed, index)
        return self._scenes[index]

    def truth(self, index: int) -> Truth:
        """The objects of scene `index`."""
        return self[index].truth

    def write_voc(self, folder: str | Path, split: str = "trainval") -> None:
        """Write the scenes as a VOC-layout folder that `voc.VOCFolder` reads back equal."""
        from ssdedu.datasets.voc import write_voc

        write_voc(folder, self, self.classes, split)
