"""What SSD does to a training image: distort, expand, sampled crop, resize, mirror (sections 2.2 and 3.6).

Each step works alone on a Sample. `Augment` draws the same numbers in the same order, composes the geometric
steps into one source rectangle and resamples once. Boxes, labels and difficult flags follow the pixels.

The numbers are those of the original Caffe code, of which three things are left out: it encodes the image as
JPEG again after every step; it makes two HSV round trips, for saturation and for hue, where one is made here;
it cuts whole pixels but moves the boxes by the unrounded crop, up to a pixel off, where here both use the
whole pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from ssdedu.sample import Sample, Truth

__all__ = [
    "INTERPOLATIONS",
    "MEAN",
    "SAMPLERS",
    "Augment",
    "Canvas",
    "Distortion",
    "Resize",
    "Sampler",
    "choose_crop",
    "crop",
    "crop_iou",
    "distort",
    "draw_canvas",
    "draw_distortion",
    "draw_interpolation",
    "expand",
    "mirror",
    "pass_crops",
    "propose_crops",
    "resample",
    "resize",
    "sample_crops",
    "sampled_crop",
]

MEAN = (123.0, 117.0, 104.0)
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
LEVELS = np.arange(256)
UNIT = np.array((0.0, 0.0, 1.0, 1.0))
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Distortion:
    """One photometric distortion of an RGB uint8 image; the defaults change nothing.

    brightness is added (levels of 255), contrast and saturation multiply, hue is added (units of 2 degrees,
    as in OpenCV). The order is brightness, contrast, saturation, hue; with contrast_first=False it is
    brightness, saturation, hue, contrast. Hue wraps around at both ends; in the original only at the upper
    one, while below 0 its uint8 stops at red.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    contrast_first: bool = True

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The distorted image, (H, W, 3) uint8 in and out; the input is left as it is."""
        levels = _to_uint8(LEVELS + self.brightness)
        contrast = _to_uint8(LEVELS * self.contrast)
        if self.contrast_first:
            return self._shift_colour(_look_up(image, contrast[levels]))
        return _look_up(self._shift_colour(_look_up(image, levels)), contrast)

    def _shift_colour(self, image: np.ndarray) -> np.ndarray:
        if self.saturation == 1 and self.hue == 0:
            return image
        hue = np.rint(LEVELS + self.hue) % 180
        table = np.stack([hue, _to_uint8(LEVELS * self.saturation), LEVELS], axis=-1).astype(np.uint8)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


UNCHANGED = Distortion()


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return image if np.array_equal(table, LEVELS) else cv2.LUT(image, table)


def draw_distortion(rng: np.random.Generator, probability: float = 0.5) -> Distortion:
    """Draw a distortion as the original does: each of the four parts with `probability`.

    Brightness +-32, contrast and saturation x U(.5, 1.5), hue +-18, contrast first or last with equal chance.
    """
    amounts = rng.uniform((-32, 0.5, 0.5, -18), (32, 1.5, 1.5, 18))
    applied = rng.random(4) < probability
    brightness, contrast, saturation, hue = np.where(applied, amounts, (0, 1, 1, 0)).tolist()
    return Distortion(brightness, contrast, saturation, hue, contrast_first=bool(rng.random() < 0.5))


def distort(sample: Sample, rng: np.random.Generator, probability: float = 0.5) -> Sample:
    """Change the colours of a sample (Caffe's ApplyDistort); boxes stay."""
    return replace(sample, image=draw_distortion(rng, probability)(sample.image))


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
    page[:] = _to_uint8(np.asarray(fill))
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
    colour = _to_uint8(np.asarray(fill)).tolist()
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
