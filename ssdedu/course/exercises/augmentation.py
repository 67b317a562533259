"""Exercises of `08_augmentation`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ssdedu import augment, crops
from ssdedu.course.exercise import Case, Exercise, Mutant, against
from ssdedu.sample import Sample

__all__ = ["EXERCISES"]

NOTEBOOK = "08_augmentation"
_SIDE_PX = 64  # a power of two: fractions of the pictures in the cases are exact
Array = np.ndarray


def _boxes(*corners: tuple[float, float, float, float]) -> Array:
    return np.array(corners, float).reshape(-1, 4)


# passing_crops


def _pass_spec(crops_xyxy: Array, boxes_xyxy: Array, min_iou: float) -> Array:
    return crops.pass_crops(crops_xyxy, boxes_xyxy, crops.Sampler(min_iou=min_iou))


def _pass_cases() -> Iterator[Case]:
    large, small = (0.0, 0.0, 1.0, 0.75), (0.5, 0.5, 0.75, 0.75)
    tries = _boxes((0, 0, 1, 1), (0.5, 0.5, 1, 1), (0, 0, 0.5, 0.25), (0.5, 0.5, 0.75, 0.75))
    yield Case((tries, _boxes(large, small), 0.5), "four crops, a large and a small object")
    yield Case((tries, _boxes(small, large), 0.7), "the small object first, IoU of .7 asked for")
    yield Case((_boxes((0, 0, 1, 1)), _boxes((0, 0, 0.5, 1)), 0.5), "an IoU of just .5, and .5 asked for")
    yield Case((_boxes((0, 0, 0.5, 0.5)), _boxes((0, 0, 0.25, 0.25)), 0.3), "a small object inside the crop")
    yield Case((_boxes((0, 0, 0.5, 0.5)), _boxes((0.75, 0.75, 1, 1)), 0.1), "a crop far from the only object")
    yield Case((tries, _boxes(), 0.1), "no object at all")


def _pass_iou(crops_xyxy: Array, boxes_xyxy: Array) -> Array:
    return crops.crop_iou(crops_xyxy, boxes_xyxy)


def passing_solution(crops_xyxy: np.ndarray, boxes_xyxy: np.ndarray, min_iou: float) -> list:
    passed = []
    for left, top, right, bottom in crops_xyxy:
        found = False
        for xmin, ymin, xmax, ymax in boxes_xyxy:
            width = max(min(right, xmax) - max(left, xmin), 0)
            height = max(min(bottom, ymax) - max(top, ymin), 0)
            shared = width * height
            union = (right - left) * (bottom - top) + (xmax - xmin) * (ymax - ymin) - shared
            found = found or shared >= min_iou * union
        passed.append(found)
    return passed


def _pass_all(crops_xyxy: Array, boxes_xyxy: Array, min_iou: float) -> Array:
    return np.all(_pass_iou(crops_xyxy, boxes_xyxy) >= min_iou, axis=1)


def _pass_first(crops_xyxy: Array, boxes_xyxy: Array, min_iou: float) -> Array:
    return np.any(_pass_iou(crops_xyxy, boxes_xyxy)[:, :1] >= min_iou, axis=1)


def _pass_always(crops_xyxy: Array, boxes_xyxy: Array, min_iou: float) -> Array:
    return np.ones(len(crops_xyxy), bool)


def _pass_strictly(crops_xyxy: Array, boxes_xyxy: Array, min_iou: float) -> Array:
    return np.any(_pass_iou(crops_xyxy, boxes_xyxy) > min_iou, axis=1)


def _pass_covered(crops_xyxy: Array, boxes_xyxy: Array, min_iou: float) -> Array:
    low = np.maximum(crops_xyxy[:, None, :2], boxes_xyxy[:, :2])
    high = np.minimum(crops_xyxy[:, None, 2:], boxes_xyxy[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
    return np.any(shared >= min_iou * areas, axis=1)


_PASS_MUTANTS = (
    Mutant(_pass_all, "all objects must reach the IoU; in the original code one object is enough"),
    Mutant(_pass_first, "only the first object is asked"),
    Mutant(_pass_always, "every crop passes, as in the port whose condition never holds"),
    Mutant(_pass_strictly, "the IoU must be larger than min_iou; reaching it is enough"),
    Mutant(
        _pass_covered, "the shared area is divided by the object's area alone; the IoU divides by the union"
    ),
)


# sampler_shares


def _share_spec(passed: Array) -> Array:
    """By counting: one equal slice of an image for each sampler that found a crop in it."""
    shares = np.zeros(passed.shape[1])
    for row in passed:
        found = np.flatnonzero(row)
        for k in found:
            shares[k] += 1 / len(found) / len(passed)
    return shares


def _share_cases() -> Iterator[Case]:
    yield Case((np.array([[1, 1, 0, 0]], bool),), "one image, crops from two of four samplers")
    yield Case((np.array([[1, 1, 1], [1, 0, 1], [1, 0, 0]], bool),), "three images, three samplers")
    yield Case((np.array([[1, 1], [0, 0]], bool),), "an image where no sampler finds a crop")
    yield Case((np.array([[0, 1, 1], [0, 1, 1], [0, 1, 0]], bool),), "a sampler that never finds a crop")


def shares_solution(passed: np.ndarray) -> np.ndarray:
    found = passed.sum(axis=1, keepdims=True)  # samplers with a crop, for each image
    return (passed / np.maximum(found, 1)).mean(axis=0)


def _share_of_successes(passed: Array) -> Array:
    return passed.mean(axis=0) / passed.mean(axis=0).sum()


def _share_of_all_samplers(passed: Array) -> Array:
    return passed.mean(axis=0) / passed.shape[1]


def _share_of_first(passed: Array) -> Array:
    first = passed.argmax(axis=1)[passed.any(axis=1)]
    return np.bincount(first, minlength=passed.shape[1]) / len(passed)


def _share_of_cropped_images(passed: Array) -> Array:
    some = passed[passed.any(axis=1)]
    return (some / some.sum(axis=1, keepdims=True)).mean(axis=0)


def _share_nan(passed: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return (passed / passed.sum(axis=1, keepdims=True)).mean(axis=0)


_SHARE_MUTANTS = (
    Mutant(_share_of_successes, "successes are counted over all images; the choice is made in each image"),
    Mutant(
        _share_of_all_samplers, "samplers without a crop are chosen too: equal chance is among those with one"
    ),
    Mutant(_share_of_first, "the first sampler with a crop is taken; each has the same chance"),
    Mutant(_share_of_cropped_images, "images without any crop are left out of the mean"),
    Mutant(_share_nan, "an image without any crop divides by zero"),
)


# objects_in_crop


def _keep_spec(boxes_xyxy: Array, crop_xyxy: Array) -> Array:
    number = len(boxes_xyxy)
    picture = np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8)
    labels, difficult = np.ones(number, np.int64), np.zeros(number, bool)
    sample = Sample(picture, boxes_xyxy.astype(np.float32), labels, difficult)
    return augment.crop(sample, crop_xyxy).boxes_xyxy


def _keep_cases() -> Iterator[Case]:
    crop = np.array([0.25, 0.25, 0.75, 0.5])
    inside, partly = (0.375, 0.3125, 0.5, 0.4375), (0.0, 0.125, 0.625, 0.5)
    mostly_out, out = (0.6875, 0.375, 1.0, 0.5), (0.0, 0.625, 0.25, 1.0)
    yield Case((_boxes(inside), crop), "an object inside a crop that is wider than high")
    yield Case((_boxes(partly, inside), crop), "an object whose centre is in the crop, though not all of it")
    yield Case((_boxes(mostly_out, inside, out), crop), "an object with its centre outside, and one far away")
    yield Case(
        (_boxes((0.5, 0.0, 0.75, 0.5)), crop), "a centre on the very edge of the crop, which counts as in"
    )
    yield Case((_boxes(mostly_out, out), crop), "no object stays: the result has shape (0, 4)")


def objects_solution(boxes_xyxy: np.ndarray, crop_xyxy: np.ndarray) -> np.ndarray:
    corner, size = crop_xyxy[:2], crop_xyxy[2:] - crop_xyxy[:2]
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    inside = np.all((centres >= corner) & (centres <= crop_xyxy[2:]), axis=1)
    moved = (boxes_xyxy[inside] - np.tile(corner, 2)) / np.tile(size, 2)
    return np.clip(moved, 0, 1)


def _keep(boxes_xyxy: Array, crop_xyxy: Array, stay: Any) -> Array:
    size = np.tile(crop_xyxy[2:] - crop_xyxy[:2], 2)
    return np.clip((boxes_xyxy[stay] - np.tile(crop_xyxy[:2], 2)) / size, 0, 1)


def _keep_centres(boxes_xyxy: Array, crop_xyxy: Array) -> Array:
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    inside: Array = np.all((centres >= crop_xyxy[:2]) & (centres <= crop_xyxy[2:]), axis=1)
    return inside


def _keep_unclipped(boxes_xyxy: Array, crop_xyxy: Array) -> Array:
    size = np.tile(crop_xyxy[2:] - crop_xyxy[:2], 2)
    return (boxes_xyxy[_keep_centres(boxes_xyxy, crop_xyxy)] - np.tile(crop_xyxy[:2], 2)) / size


def _keep_touching(boxes_xyxy: Array, crop_xyxy: Array) -> Array:
    meets = (boxes_xyxy[:, 2:] > crop_xyxy[:2]) & (boxes_xyxy[:, :2] < crop_xyxy[2:])
    return _keep(boxes_xyxy, crop_xyxy, meets.all(axis=1))


def _keep_whole(boxes_xyxy: Array, crop_xyxy: Array) -> Array:
    within = (boxes_xyxy[:, :2] >= crop_xyxy[:2]) & (boxes_xyxy[:, 2:] <= crop_xyxy[2:])
    return _keep(boxes_xyxy, crop_xyxy, within.all(axis=1))


def _keep_clipped_first(boxes_xyxy: Array, crop_xyxy: Array) -> Array:
    return _keep(boxes_xyxy, crop_xyxy, np.ones(len(boxes_xyxy), bool))


def _keep_scale(boxes_xyxy: Array, crop_xyxy: Array) -> Array:
    moved = boxes_xyxy[_keep_centres(boxes_xyxy, crop_xyxy)]
    low, high = np.tile(crop_xyxy[:2], 2), np.tile(crop_xyxy[2:], 2)
    return np.clip(moved, low, high) - low


def _keep_list(boxes_xyxy: Array, crop_xyxy: Array) -> Any:
    return objects_solution(boxes_xyxy, crop_xyxy).tolist()


_KEEP_MUTANTS = (
    Mutant(_keep_unclipped, "the parts outside the crop are not cut off"),
    Mutant(_keep_touching, "every object that the crop touches stays; its centre must lie in the crop"),
    Mutant(_keep_whole, "only objects that lie wholly in the crop stay; the centre is enough"),
    Mutant(
        _keep_clipped_first,
        "boxes are clipped before they are asked for their centre, which is then always in",
    ),
    Mutant(_keep_scale, "boxes are still measured in the old image; asked are fractions of the crop"),
    Mutant(_keep_list, "an empty list is returned where no object stays; reshape(-1, 4) keeps the columns"),
)


# boxes_on_canvas


def _canvas_spec(boxes_xyxy: Array, ratio: float, left: float, top: float) -> Array:
    """In pixels: a picture of 1000 x 1000 on a page of ratio times as many a side."""
    page_px = 1000 * ratio
    offset_px = np.array([left, top, left, top]) * page_px
    return (boxes_xyxy * 1000 + offset_px) / page_px


def _canvas_cases() -> Iterator[Case]:
    yield Case((_boxes((0, 0, 1, 1)), 2.0, 0.5, 0.0), "the whole picture, in the page's upper right quarter")
    yield Case((_boxes((0.2, 0.4, 0.7, 0.5)), 4.0, 0.1, 0.3), "a page of four times the sides")
    yield Case((_boxes((0.1, 0.2, 0.3, 0.9), (0.5, 0.5, 1, 1)), 1.5, 0.0, 0.25), "two objects")
    yield Case((_boxes((0.25, 0.1, 0.75, 0.2)), 1.0, 0.0, 0.0), "a page as large as the picture")
    yield Case((_boxes(), 3.0, 0.1, 0.2), "no object")


def canvas_solution(boxes_xyxy: np.ndarray, ratio: float, left: float, top: float) -> np.ndarray:
    return boxes_xyxy / ratio + np.array([left, top, left, top])


def _canvas_times(boxes_xyxy: Array, ratio: float, left: float, top: float) -> Array:
    return boxes_xyxy * ratio + np.array([left, top, left, top])


def _canvas_area(boxes_xyxy: Array, ratio: float, left: float, top: float) -> Array:
    return boxes_xyxy / ratio**2 + np.array([left, top, left, top])


def _canvas_moved_first(boxes_xyxy: Array, ratio: float, left: float, top: float) -> Array:
    return (boxes_xyxy + np.array([left, top, left, top])) / ratio


def _canvas_half_moved(boxes_xyxy: Array, ratio: float, left: float, top: float) -> Array:
    return boxes_xyxy / ratio + np.array([left, top, 0, 0])


def _canvas_swapped(boxes_xyxy: Array, ratio: float, left: float, top: float) -> Array:
    return boxes_xyxy / ratio + np.array([top, left, top, left])


_CANVAS_MUTANTS = (
    Mutant(_canvas_times, "boxes grow; on a larger page they are a smaller part"),
    Mutant(_canvas_area, "ratio is taken as that of the areas; it is that of the sides"),
    Mutant(
        _canvas_moved_first, "left and top are divided too, though they are fractions of the page already"
    ),
    Mutant(_canvas_half_moved, "only the upper left corner moves, not the lower right one"),
    Mutant(_canvas_swapped, "left and top are exchanged: left moves x, top moves y"),
)


EXERCISES = (
    Exercise(
        "passing_crops",
        NOTEBOOK,
        "which of the crops (K, 4) a sampler accepts, K truth values: those with an IoU of at least min_iou "
        "with any object",
        against(_pass_spec, _pass_cases, _PASS_MUTANTS),
        (
            "How many objects must reach min_iou? And what if there is none at all?",
            "The IoU is the shared area over (crop's area + object's area - shared area); both sides of the "
            "shared area are at least 0.",
            "Two loops: start each crop with found = False, and set it to True where an object's IoU is at "
            "least min_iou; collect found.",
        ),
        passing_solution,
        _PASS_MUTANTS,
    ),
    Exercise(
        "sampler_shares",
        NOTEBOOK,
        "the share of images whose crop comes from each of S samplers; passed (N, S) says which of them found "
        "one, and in each image one of those is chosen with equal chance",
        against(_share_spec, _share_cases, _SHARE_MUTANTS),
        (
            "Take one image, three samplers of which found a crop. What is the chance of each of the three?",
            "Divide each row by its own sum; then the mean over the images. What about a row of sum 0?",
            "found = passed.sum(axis=1, keepdims=True); divide by np.maximum(found, 1); mean over axis 0.",
        ),
        shares_solution,
        _SHARE_MUTANTS,
    ),
    Exercise(
        "objects_in_crop",
        NOTEBOOK,
        "the boxes (K, 4) that stay in a crop, clipped to it, as fractions of the crop: those whose centre "
        "lies in it, edges included",
        against(_keep_spec, _keep_cases, _KEEP_MUTANTS),
        (
            "First decide who stays, by the centres of the boxes as they are. Only then move and clip.",
            "A coordinate becomes (x - left) / (right - left), and y likewise; np.clip cuts at 0 and 1.",
            "centres = (boxes[:, :2] + boxes[:, 2:]) / 2; inside = both coordinates between the crop's "
            "corners; boxes[inside] has shape (0, 4) where none is.",
        ),
        objects_solution,
        _KEEP_MUTANTS,
    ),
    Exercise(
        "boxes_on_canvas",
        NOTEBOOK,
        "the boxes as fractions of a page whose sides are ratio times the picture's, the picture's upper left "
        "corner lying at (left, top), fractions of the page",
        against(_canvas_spec, _canvas_cases, _CANVAS_MUTANTS),
        (
            "How wide is the whole picture, in widths of the page?",
            "Sizes are divided by ratio. Where does the picture's point (0, 0) come to lie?",
            "Each x becomes x / ratio + left, each y becomes y / ratio + top.",
        ),
        canvas_solution,
        _CANVAS_MUTANTS,
    ),
)
