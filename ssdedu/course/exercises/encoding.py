"""Exercises of `04_encoding`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ssdedu import boxes
from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "04_encoding"
SSD = (0.1, 0.1, 0.2, 0.2)
ONES = (1.0, 1.0, 1.0, 1.0)
UNEQUAL = (0.1, 0.2, 0.3, 0.4)
Four = Sequence[float]
Boxes = Sequence[Four]


def _wide(box: Four | Boxes) -> torch.Tensor:
    return torch.tensor(box, dtype=torch.float64)


def _encode_spec(object_xyxy: Four, default_cxcywh: Four, variances: Four) -> torch.Tensor:
    return boxes.encode(_wide(object_xyxy), _wide(default_cxcywh), variances)


def _encode_cases() -> Iterator[Case]:
    yield Case(((30, 40, 90, 80), (60, 60, 60, 40), SSD), "an object equal to its default box")
    yield Case(((36, 40, 96, 80), (60, 60, 60, 40), SSD), "an object of the same size, a little to the right")
    yield Case(((20, 44, 100, 64), (60, 60, 60, 40), SSD), "another place and another size")
    yield Case(
        ((-8, 10, 52, 90), (30, 50, 40, 80), UNEQUAL), "an object that leaves the image, other variances"
    )
    yield Case(((0.2, 0.3, 0.7, 0.4), (0.5, 0.4, 0.4, 0.2), ONES), "fractions of the image, variances of 1")


def encode_solution(object_xyxy: tuple, default_cxcywh: tuple, variances: tuple) -> tuple:
    xmin, ymin, xmax, ymax = object_xyxy
    cx, cy, w, h = default_cxcywh
    return (
        ((xmin + xmax) / 2 - cx) / w / variances[0],
        ((ymin + ymax) / 2 - cy) / h / variances[1],
        np.log((xmax - xmin) / w) / variances[2],
        np.log((ymax - ymin) / h) / variances[3],
    )


def _encode_by_object(object_xyxy: Four, default_cxcywh: Four, variances: Four) -> list[float]:
    x, y, w, h = encode_solution(tuple(object_xyxy), tuple(default_cxcywh), tuple(variances))
    xmin, ymin, xmax, ymax = object_xyxy
    return [x * default_cxcywh[2] / (xmax - xmin), y * default_cxcywh[3] / (ymax - ymin), w, h]


def _encode_by_width(object_xyxy: Four, default_cxcywh: Four, variances: Four) -> list[float]:
    x, y, w, h = encode_solution(tuple(object_xyxy), tuple(default_cxcywh), tuple(variances))
    return [x, y * default_cxcywh[3] / default_cxcywh[2], w, h]


def _encode_ratio(object_xyxy: Four, default_cxcywh: Four, variances: Four) -> list[float]:
    x, y, w, h = encode_solution(tuple(object_xyxy), tuple(default_cxcywh), tuple(variances))
    return [x, y, *((math.exp(s * v) - 1) / v for s, v in zip((w, h), variances[2:], strict=True))]


def _encode_multiplied(object_xyxy: Four, default_cxcywh: Four, variances: Four) -> list[float]:
    raw = encode_solution(tuple(object_xyxy), tuple(default_cxcywh), ONES)
    return [offset * v for offset, v in zip(raw, variances, strict=True)]


def _encode_without_variances(object_xyxy: Four, default_cxcywh: Four, variances: Four) -> tuple[float, ...]:
    return encode_solution(tuple(object_xyxy), tuple(default_cxcywh), ONES)


def _encode_corner(object_xyxy: Four, default_cxcywh: Four, variances: Four) -> list[float]:
    xmin, ymin, xmax, ymax = object_xyxy
    moved = (
        xmin - (xmax - xmin) / 2,
        ymin - (ymax - ymin) / 2,
        xmin + (xmax - xmin) / 2,
        ymin + (ymax - ymin) / 2,
    )
    return list(encode_solution(moved, tuple(default_cxcywh), tuple(variances)))


_ENCODE_MUTANTS = (
    Mutant(
        _encode_by_object, "the shift is divided by the object's size; the default box's is the known one"
    ),
    Mutant(_encode_by_width, "the vertical shift is divided by the width"),
    Mutant(_encode_ratio, "the sizes are compared by a quotient without its logarithm"),
    Mutant(_encode_multiplied, "the offsets are multiplied by the variances; that is what decoding does"),
    Mutant(_encode_without_variances, "the variances are not used"),
    Mutant(_encode_corner, "the object's first corner is taken for its centre"),
)


def _decode_spec(offsets: Four, default_cxcywh: Four, variances: Four) -> torch.Tensor:
    return boxes.decode(_wide(offsets), _wide(default_cxcywh), variances)


def _decode_cases() -> Iterator[Case]:
    yield Case(((0, 0, 0, 0), (60, 60, 60, 40), SSD), "offsets of 0")
    yield Case(((1, 0, 0, 0), (60, 60, 60, 40), SSD), "a shift alone")
    yield Case(((0, 0, -2, 1), (60, 60, 60, 40), SSD), "a change of size alone")
    yield Case(((-3, 2, 1.5, -4), (30, 50, 40, 80), UNEQUAL), "all four, and other variances")
    yield Case(
        ((0.5, -0.25, 0.7, -0.7), (0.5, 0.5, 0.2, 0.3), ONES), "fractions of the image, variances of 1"
    )


def decode_solution(offsets: tuple, default_cxcywh: tuple, variances: tuple) -> tuple:
    x, y, w, h = (offset * v for offset, v in zip(offsets, variances, strict=True))
    default_cx, default_cy, default_w, default_h = default_cxcywh
    cx, cy = default_cx + x * default_w, default_cy + y * default_h
    half_w, half_h = default_w * np.exp(w) / 2, default_h * np.exp(h) / 2
    return cx - half_w, cy - half_h, cx + half_w, cy + half_h


def _decode_without_variances(offsets: Four, default_cxcywh: Four, variances: Four) -> tuple[float, ...]:
    return decode_solution(tuple(offsets), tuple(default_cxcywh), ONES)


def _decode_divided(offsets: Four, default_cxcywh: Four, variances: Four) -> tuple[float, ...]:
    return decode_solution(tuple(offsets), tuple(default_cxcywh), tuple(1 / v for v in variances))


def _decode_centre_form(offsets: Four, default_cxcywh: Four, variances: Four) -> list[float]:
    x1, y1, x2, y2 = decode_solution(tuple(offsets), tuple(default_cxcywh), tuple(variances))
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _decode_whole_size(offsets: Four, default_cxcywh: Four, variances: Four) -> list[float]:
    cx, cy, w, h = _decode_centre_form(offsets, default_cxcywh, variances)
    return [cx - w, cy - h, cx + w, cy + h]


def _decode_linear(offsets: Four, default_cxcywh: Four, variances: Four) -> tuple[float, ...]:
    logs = [math.log(max(1 + o * v, 1e-9)) / v for o, v in zip(offsets[2:], variances[2:], strict=True)]
    return decode_solution((*offsets[:2], *logs), tuple(default_cxcywh), tuple(variances))


def _decode_shift_in_image(offsets: Four, default_cxcywh: Four, variances: Four) -> tuple[float, ...]:
    shift = [o / size for o, size in zip(offsets[:2], default_cxcywh[2:], strict=True)]
    return decode_solution((*shift, *offsets[2:]), tuple(default_cxcywh), tuple(variances))


_DECODE_MUTANTS = (
    Mutant(_decode_without_variances, "the variances are not used, so the boxes fly off"),
    Mutant(_decode_divided, "the offsets are divided by the variances once more instead of multiplied"),
    Mutant(_decode_centre_form, "this is centre and size; asked are the corners"),
    Mutant(_decode_whole_size, "the corners lie a whole width from the centre instead of half of it"),
    Mutant(_decode_linear, "the size grows by 1 + offset instead of exp(offset)"),
    Mutant(_decode_shift_in_image, "the shift is not multiplied by the default box's size"),
)


def _own_spec(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> torch.Tensor:
    return boxes.encode(_wide(objects_xyxy), _wide(defaults_cxcywh), ONES).std(dim=0, correction=0)


def _own_cases() -> Iterator[Case]:
    yield Case(
        ([(10, 10, 30, 30), (12, 8, 32, 48)], [(20, 20, 20, 20), (20, 20, 20, 20)]),
        "two objects, one default box",
    )
    yield Case(([(10, 10, 30, 30)], [(18, 22, 24, 16)]), "a single pair, where nothing is spread")
    yield Case(
        (
            [(10, 10, 30, 30), (40, 20, 100, 60), (5, 50, 25, 110)],
            [(18, 22, 20, 20), (76, 36, 50, 50), (15, 70, 30, 60)],
        ),
        "three pairs, default boxes of several sizes",
    )


def own_solution(objects_xyxy: list, defaults_cxcywh: list) -> np.ndarray:
    objects, defaults = np.array(objects_xyxy, float), np.array(defaults_cxcywh, float)
    low, high = objects[:, :2], objects[:, 2:]
    shift = ((low + high) / 2 - defaults[:, :2]) / defaults[:, 2:]
    stretch = np.log((high - low) / defaults[:, 2:])
    return np.concatenate([shift, stretch], axis=1).std(axis=0)


def _own_raw(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> np.ndarray:
    return boxes.encode(_wide(objects_xyxy), _wide(defaults_cxcywh), ONES).numpy()


def _own_variance(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> np.ndarray:
    return _own_raw(objects_xyxy, defaults_cxcywh).var(axis=0)


def _own_less_one(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> np.ndarray:
    raw = _own_raw(objects_xyxy, defaults_cxcywh)
    squares = ((raw - raw.mean(axis=0)) ** 2).sum(axis=0)
    return np.sqrt(squares / (len(raw) - 1)) if len(raw) > 1 else np.full(4, np.nan)


def _own_about_zero(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> np.ndarray:
    return np.sqrt((_own_raw(objects_xyxy, defaults_cxcywh) ** 2).mean(axis=0))


def _own_divided(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> np.ndarray:
    return (_own_raw(objects_xyxy, defaults_cxcywh) / SSD).std(axis=0)


def _own_over_all(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> np.ndarray:
    return np.full(4, _own_raw(objects_xyxy, defaults_cxcywh).std())


def _own_without_log(objects_xyxy: Boxes, defaults_cxcywh: Boxes) -> np.ndarray:
    raw = _own_raw(objects_xyxy, defaults_cxcywh)
    raw[:, 2:] = np.exp(raw[:, 2:])
    return raw.std(axis=0)


_OWN_MUTANTS = (
    Mutant(_own_variance, "these are true variances; the four numbers are of the kind of their square roots"),
    Mutant(_own_less_one, "it divides by N - 1, as torch's std does by itself; asked is N, as numpy's does"),
    Mutant(_own_about_zero, "the spread is taken about 0 instead of about the mean"),
    Mutant(_own_divided, "the offsets are divided by SSD's own variances before"),
    Mutant(_own_over_all, "one spread is taken over all four columns"),
    Mutant(_own_without_log, "the sizes are compared by a quotient without its logarithm"),
)


EXERCISES = (
    Exercise(
        "encode_box",
        NOTEBOOK,
        "the four offsets that turn a default box (centre form) into an object's box (corner form), "
        "divided by the variances",
        against(_encode_spec, _encode_cases, _ENCODE_MUTANTS),
        (
            "First bring the object into centre form, as the default box is.",
            "Shift: centre minus centre, in units of the default box's own side. Size: the log of a quotient.",
            "np.log((xmax - xmin) / w) / variances[2] is the third; the first is "
            "((xmin + xmax) / 2 - cx) / w / variances[0].",
        ),
        encode_solution,
        _ENCODE_MUTANTS,
    ),
    Exercise(
        "decode_box",
        NOTEBOOK,
        "the corners of the box that four emitted offsets make of a default box",
        against(_decode_spec, _decode_cases, _DECODE_MUTANTS),
        (
            "Undo encoding step by step, the last step first. Which was the last?",
            "Multiply by the variances; then centre = default centre + offset * default size, and exp for the size.",
            "half_w = default_w * np.exp(w) / 2, and the left edge is cx - half_w.",
        ),
        decode_solution,
        _DECODE_MUTANTS,
    ),
    Exercise(
        "own_variances",
        NOTEBOOK,
        "the four standard deviations (divided by N) of the undivided offsets of N matched pairs: variances for "
        "one's own data",
        against(_own_spec, _own_cases, _OWN_MUTANTS),
        (
            "Make an array (N, 4) of undivided offsets first; then it is one line.",
            "Standard deviation of each column, about its mean, divided by N: numpy's own default.",
            "np.concatenate([shift, stretch], axis=1).std(axis=0), with shift and stretch of shape (N, 2).",
        ),
        own_solution,
        _OWN_MUTANTS,
    ),
)
