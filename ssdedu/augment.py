"""What SSD does to a training image: distort, expand, sampled crop, resize, mirror (sections 2.2 and 3.6).

Each step works alone on a Sample; the first is `distort.distort`, and `ssdedu.crops` chooses the patches.
`Augment` draws the same numbers in the same order, composes the geometric steps into one source rectangle and
resamples once. Boxes, labels and difficult flags follow the pixels.

The numbers are those of the original Caffe code, of which three things are left out: it encodes the image as
JPEG again after every step; it makes two HSV round trips (see `ssdedu.distort`); it cuts whole pixels but
moves the boxes by the unrounded crop, up to a pixel off, where here both use the whole pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from ssdedu.crops import SAMPLERS, Sampler, choose_crop, narrowest_crop
from ssdedu.distort import UNCHANGED, Distortion, draw_distortion, to_uint8
from ssdedu.sample import Sample, Truth

__all__ = [
    "INTERPOLATIONS",
    "MEAN",
    "SAMPLERS",
    "Augment",
    "Canvas",
    "Resize",
    "Sampler",
    "crop",
    "draw_canvas",
    "draw_interpolation",
    "expand",
    "mirror",
    "resample",
    "resize",
    "sampled_crop",
]

MEAN = (123.0, 117.0, 104.0)
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
UNIT = np.array((0.0, 0.0, 1.0, 1.0))
Rectangle = tuple[int, int, int, int]


class Canvas(NamedTuple):
    """The larger page of the zoom-out step, in pixels, and where the image's upper left corner lies on it."""

    width_px: int
    height_px: int
    left_px: int
    top_px: int


def draw_canvas(
    width_px: int, height_px: int, rng: np.random.Generator, max_ratio: float = 4.0, probability: float = 0.5
) -> Canvas:
    """Draw the page of the zoom-out step: with `probability` U(1, max_ratio) times the image's sides.

    The place on it is uniform; all are whole pixels (Caffe's ExpandImage).
    """
    chance, size, x, y = rng.random(4).tolist()
    ratio = 1 + size * (max_ratio - 1) if chance < probability else 1.0
    width, height = int(width_px * ratio), int(height_px * ratio)
    return Canvas(width, height, int(x * (width - width_px)), int(y * (height - height_px)))


def expand(
    sample: Sample,
    rng: np.random.Generator,
    fill: Sequence[float] = MEAN,
    max_ratio: float = 4.0,
    probability: float = 0.5,
) -> Sample:
    """Zoom out: put the image somewhere on a larger page of colour `fill` (section 3.6)."""
    truth = sample.truth
    canvas = draw_canvas(truth.width_px, truth.height_px, rng, max_ratio, probability)
    page = np.empty((canvas.height_px, canvas.width_px, 3), np.uint8)
    page[:] = to_uint8(np.asarray(fill))
    page[canvas.top_px :, canvas.left_px :][: truth.height_px, : truth.width_px] = sample.image
    return _join(page, _expand_truth(truth, canvas))


def _expand_truth(truth: Truth, canvas: Canvas) -> Truth:
    width_px, height_px, left_px, top_px = canvas
    corners_px = truth.boxes_xyxy * _corners(truth.width_px, truth.height_px) + _corners(left_px, top_px)
    boxes = (corners_px / _corners(width_px, height_px)).astype(np.float32)
    return replace(truth, boxes_xyxy=boxes, width_px=width_px, height_px=height_px)


def _corners(x: float, y: float) -> np.ndarray:
    return np.array((x, y, x, y), np.float64)


def _join(image: np.ndarray, truth: Truth) -> Sample:
    return Sample(image, truth.boxes_xyxy, truth.labels, truth.difficult, truth.name)


def sampled_crop(
    sample: Sample,
    rng: np.random.Generator,
    samplers: Sequence[Sampler] = SAMPLERS,
    all_objects: bool = False,
) -> Sample:
    """Cut out a patch that one of the samplers accepts (section 2.2, "data augmentation")."""
    chosen = choose_crop(sample.boxes_xyxy, samplers, rng, all_objects)
    return sample if chosen is None else crop(sample, chosen)


def crop(sample: Sample, crop_xyxy: np.ndarray) -> Sample:
    """Cut out `crop_xyxy` (4,), rounded to whole pixels; objects whose centre lies in it stay, clipped.

    No object may be left: the original trains on such a patch as background, and so do we.
    """
    truth = sample.truth
    left, top, right, bottom = rectangle = _to_pixels(crop_xyxy, truth.width_px, truth.height_px)
    return _join(np.ascontiguousarray(sample.image[top:bottom, left:right]), _crop_truth(truth, rectangle))


def _to_pixels(crop_xyxy: np.ndarray, width_px: int, height_px: int) -> Rectangle:
    left, top, right, bottom = np.rint(crop_xyxy * _corners(width_px, height_px)).astype(int).tolist()
    left, top = min(left, width_px - 1), min(top, height_px - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _crop_truth(truth: Truth, rectangle: Rectangle) -> Truth:
    left, top, right, bottom = rectangle
    corners_px = truth.boxes_xyxy * _corners(truth.width_px, truth.height_px)
    centres_px = (corners_px[:, :2] + corners_px[:, 2:]) / 2
    boxes = (corners_px - _corners(left, top)) / _corners(right - left, bottom - top)
    boxes = np.clip(boxes, 0, 1).astype(np.float32)
    kept = ((centres_px >= (left, top)) & (centres_px <= (right, bottom))).all(axis=1)
    kept &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    labels, difficult = truth.labels[kept], truth.difficult[kept]
    return Truth(boxes[kept], labels, difficult, right - left, bottom - top, truth.name)


def draw_interpolation(rng: np.random.Generator, interpolations: Sequence[int] = INTERPOLATIONS) -> int:
    """One of OpenCV's interpolations, each with equal chance."""
    return interpolations[int(rng.random() * len(interpolations))]


def resize(sample: Sample, width_px: int, height_px: int, interpolation: int = cv2.INTER_LINEAR) -> Sample:
    """Warp the image to width_px x height_px; boxes are fractions and stay."""
    return replace(sample, image=cv2.resize(sample.image, (width_px, height_px), interpolation=interpolation))


def mirror(sample: Sample, rng: np.random.Generator, probability: float = 0.5) -> Sample:
    """Swap left and right with `probability`."""
    if rng.random() >= probability:
        return sample
    return _join(cv2.flip(sample.image, 1), _mirror_truth(sample.truth))


def _mirror_truth(truth: Truth) -> Truth:
    xmin, ymin, xmax, ymax = truth.boxes_xyxy.T
    return replace(truth, boxes_xyxy=np.stack([1 - xmax, ymin, 1 - xmin, ymax], axis=-1))


class _Axis(NamedTuple):
    """One axis of a view: source pixels start .. stop - 1 make the output pixels first .. last - 1."""

    start: int
    stop: int
    first: int
    last: int


def _axis(start: int, stop: int, source_px: int, output_px: int) -> _Axis:
    """The output pixels whose centre lies in the image, and their source pixels, also beyond the image."""
    scale = (stop - start) / output_px
    first, last = (min(max(math.ceil((edge - start) / scale - 0.5), 0), output_px) for edge in (0, source_px))
    return _Axis(round(start + first * scale), round(start + last * scale), first, last)


def _read(image: np.ndarray, columns: _Axis, rows: _Axis) -> np.ndarray:
    height_px, width_px = image.shape[:2]
    inside = image[max(rows.start, 0) : rows.stop, max(columns.start, 0) : columns.stop]
    above, below = max(-rows.start, 0), max(rows.stop - height_px, 0)
    before, after = max(-columns.start, 0), max(columns.stop - width_px, 0)
    if not (above or below or before or after):
        return inside
    return cv2.copyMakeBorder(inside, above, below, before, after, cv2.BORDER_REPLICATE)


def resample(
    image: np.ndarray,
    rectangle: Rectangle,
    width_px: int,
    height_px: int,
    interpolation: int = cv2.INTER_LINEAR,
    fill: Sequence[float] = MEAN,
    distortion: Distortion = UNCHANGED,
) -> np.ndarray:
    """The rectangle (left, top, right, bottom in image pixels, also beyond it) at width_px x height_px.

    Outside the image the result is exactly `fill`, never distorted. The distortion comes before or after the
    resampling, wherever there are fewer pixels: the two differ by rounding and where colours are cut off at 0
    or 255. Where the rectangle reaches beyond the image, resizing the whole page would differ in two more
    ways: it blends the image's rim with `fill`, and it puts the image's edges between whole pixels, where
    here they are off by at most half a pixel, of the source as of the result.
    """
    left, top, right, bottom = rectangle
    columns = _axis(left, right, image.shape[1], width_px)
    rows = _axis(top, bottom, image.shape[0], height_px)
    size = columns.last - columns.first, rows.last - rows.first
    colour = to_uint8(np.asarray(fill)).tolist()
    if 0 in size:
        return np.full((height_px, width_px, 3), colour, np.uint8)
    patch = _distort_and_resize(_read(image, columns, rows), size, interpolation, distortion)
    if size == (width_px, height_px):
        return patch
    margins = rows.first, height_px - rows.last, columns.first, width_px - columns.last
    return cv2.copyMakeBorder(patch, *margins, cv2.BORDER_CONSTANT, value=colour)


def _distort_and_resize(
    region: np.ndarray, size: tuple[int, int], interpolation: int, distortion: Distortion
) -> np.ndarray:
    if region.shape[0] * region.shape[1] < size[0] * size[1]:
        return cv2.resize(distortion(region), size, interpolation=interpolation)
    return distortion(cv2.resize(region, size, interpolation=interpolation))


@dataclass(frozen=True)
class Augment:
    """The training transform of SSD: distort, expand, sampled crop, resize, mirror, resampled once.

    Gives a Sample of width_px x height_px, still uint8 RGB: `mean` only fills the page of the zoom-out here;
    it is subtracted where images become network input. distort_probability=0, expand_probability=0,
    samplers=() and mirror_probability=0 switch parts off; interpolations=(cv2.INTER_LINEAR,) leaves one.

    Draws, in this order whatever they decide: 9 for the distortion, 4 for the page, 4 for each try of each
    sampler, 1 to choose the crop, 1 for the interpolation, 1 to mirror. The steps, called one after the
    other, draw the same and give the same boxes; `resample` says how the pixels differ.
    """

    width_px: int
    height_px: int
    mean: tuple[float, float, float] = MEAN
    distort_probability: float = 0.5
    expand_probability: float = 0.5
    max_ratio: float = 4.0
    samplers: tuple[Sampler, ...] = SAMPLERS
    all_objects: bool = False
    interpolations: tuple[int, ...] = INTERPOLATIONS
    mirror_probability: float = 0.5

    def __post_init__(self) -> None:
        _check_size(self)
        if self.max_ratio < 1:
            raise ValueError(f"Augment: max_ratio must be 1 or more, got {self.max_ratio}")
        if not self.interpolations:
            raise ValueError("Augment: interpolations must name at least one, such as (cv2.INTER_LINEAR,)")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample augmented by draws from `rng`; ValueError if its image is not (H, W, 3) uint8."""
        _check_image(sample)
        distortion = draw_distortion(rng, self.distort_probability)
        truth, view = self._draw_view(sample.truth, rng)
        interpolation = draw_interpolation(rng, self.interpolations)
        image = resample(
            sample.image, view, self.width_px, self.height_px, interpolation, self.mean, distortion
        )
        return mirror(_join(image, truth), rng, self.mirror_probability)

    @property
    def least_px(self) -> tuple[int, int]:
        """Width and height of the smallest image of which no crop has fewer pixels, on either side, than the result."""
        width, height = narrowest_crop(self.samplers)
        return math.ceil(self.width_px / width), math.ceil(self.height_px / height)

    def _draw_view(self, truth: Truth, rng: np.random.Generator) -> tuple[Truth, Rectangle]:
        canvas = draw_canvas(truth.width_px, truth.height_px, rng, self.max_ratio, self.expand_probability)
        truth = _expand_truth(truth, canvas)
        chosen = choose_crop(truth.boxes_xyxy, self.samplers, rng, self.all_objects)
        left, top, right, bottom = rectangle = _to_pixels(
            UNIT if chosen is None else chosen, canvas.width_px, canvas.height_px
        )
        view = left - canvas.left_px, top - canvas.top_px, right - canvas.left_px, bottom - canvas.top_px
        return truth if chosen is None else _crop_truth(truth, rectangle), view


@dataclass(frozen=True)
class Resize:
    """The transform of testing: a bilinear warp to width_px x height_px, still uint8 RGB; no draws."""

    width_px: int
    height_px: int
    interpolation: int = cv2.INTER_LINEAR

    def __post_init__(self) -> None:
        _check_size(self)

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        """The resized sample; ValueError if its image is not (H, W, 3) uint8."""
        _check_image(sample)
        return resize(sample, self.width_px, self.height_px, self.interpolation)


def _check_size(transform: Augment | Resize) -> None:
    if transform.width_px < 1 or transform.height_px < 1:
        size = f"{transform.width_px} x {transform.height_px}"
        raise ValueError(f"{type(transform).__name__}: width_px and height_px must be 1 or more, got {size}")


def _check_image(sample: Sample) -> None:
    image = sample.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        found = f"{image.shape} {image.dtype}"
        raise ValueError(
            f"{sample.name or 'sample'}: image must be (H, W, 3) uint8 RGB, not empty, got {found}"
        )
