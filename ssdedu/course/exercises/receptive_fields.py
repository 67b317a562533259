"""Exercises of `01_receptive_fields`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ssdedu.course.exercise import Case, Exercise, Mutant, against
from ssdedu.receptive_field import Field, Layer, chain, paths

__all__ = ["EXERCISES"]

NOTEBOOK = "01_receptive_fields"
Layers = Sequence[tuple[int, int, int]]
_PLAIN, _HALVE = (3, 1, 1), (2, 2, 1)


def _width_spec(layers: Layers) -> int:
    fields = chain([Layer(kernel, stride, dilation=dilation) for kernel, stride, dilation in layers])
    return fields[-1].receptive_field if fields else 1


def _width_cases() -> Iterator[Case]:
    yield Case(([(3, 1, 1)],), "one 3 x 3 convolution")
    yield Case(([(3, 2, 1), (3, 2, 1)],), "two convolutions of stride 2")
    yield Case(([(3, 1, 1), (2, 2, 1), (5, 1, 1)],), "a pooling between two convolutions")
    yield Case(([(2, 2, 1), (3, 1, 6)],), "a dilated convolution after a pooling")
    yield Case(([_PLAIN, _PLAIN, _HALVE, (1, 1, 1), _PLAIN, (4, 3, 2), _PLAIN],), "seven layers")
    yield Case(([],), "no layer: a pixel sees itself")


def field_width_solution(layers: list) -> int:
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += dilation * (kernel - 1) * jump
        jump *= stride
    return field


def _width_without_jump(layers: Layers) -> int:
    return 1 + sum(dilation * (kernel - 1) for kernel, _, dilation in layers)


def _width_stride_too_early(layers: Layers) -> int:
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        jump *= stride
        field += dilation * (kernel - 1) * jump
    return field


def _width_whole_kernel(layers: Layers) -> int:
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += dilation * kernel * jump
        jump *= stride
    return field


def _width_without_dilation(layers: Layers) -> int:
    return field_width_solution([(kernel, stride, 1) for kernel, stride, _ in layers])


def _width_dilated_kernel(layers: Layers) -> int:
    return field_width_solution([(dilation * kernel, stride, 1) for kernel, stride, dilation in layers])


_WIDTH_MUTANTS = (
    Mutant(_width_without_jump, "neighbouring cells always lie 1 px apart; after a stride they lie further"),
    Mutant(_width_stride_too_early, "a layer's own stride widens its own window; only later layers feel it"),
    Mutant(_width_whole_kernel, "each layer adds its whole kernel, though one tap of it was there already"),
    Mutant(_width_without_dilation, "the dilation is not used; it pulls the taps of a kernel apart"),
    Mutant(
        _width_dilated_kernel,
        "a dilated kernel spans dilation * kernel cells; it spans dilation * (kernel - 1) + 1",
    ),
)


def _centre_spec(layers: Layers, index: int) -> float:
    fields = chain([Layer(kernel, stride, padding) for kernel, stride, padding in layers])
    return (fields[-1] if fields else Field("input", None, 1, 0.5, 1)).centre(index)


def _centre_cases() -> Iterator[Case]:
    yield Case(([(3, 1, 1)], 4), "a convolution that keeps the size")
    yield Case(([(2, 2, 0)], 0), "the first cell after a pooling")
    yield Case(([(3, 2, 1), (3, 2, 1)], 1), "two convolutions of stride 2")
    yield Case(([(3, 1, 0), (3, 1, 0)], 2), "two convolutions without padding")
    yield Case(([(2, 2, 0), (3, 1, 1), (2, 2, 0), (3, 2, 1), (3, 1, 0)], 3), "five layers")
    yield Case(([(4, 2, 0), (5, 3, 3)], 6), "an even and an odd kernel")
    yield Case(([], 7), "no layer: the centre of a pixel")


def field_centre_solution(layers: list, index: int) -> float:
    start, jump = 0.5, 1
    for kernel, stride, padding in layers:
        start += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
    return start + index * jump


def _centre_without_padding(layers: Layers, index: int) -> float:
    return field_centre_solution([(kernel, stride, 0) for kernel, stride, _ in layers], index)


def _centre_half_missing(layers: Layers, index: int) -> float:
    return field_centre_solution(list(layers), index) - 0.5


def _centre_stride_too_early(layers: Layers, index: int) -> float:
    start, jump = 0.5, 1
    for kernel, stride, padding in layers:
        jump *= stride
        start += ((kernel - 1) / 2 - padding) * jump
    return start + index * jump


def _centre_of_the_default_box(layers: Layers, index: int) -> float:
    return (index + 0.5) * float(np.prod([stride for _, stride, _ in layers]))


def _centre_of_the_first_cell(layers: Layers, index: int) -> float:
    return field_centre_solution(list(layers), 0)


_CENTRE_MUTANTS = (
    Mutant(_centre_without_padding, "the padding is left out; it moves the first window to the left"),
    Mutant(_centre_half_missing, "pixel 0 is centred at 0; it runs from 0 to 1"),
    Mutant(
        _centre_stride_too_early, "a layer's own stride moves its own first window; only later layers feel it"
    ),
    Mutant(
        _centre_of_the_default_box,
        "the cells share the image out evenly; that is where SSD puts its default boxes, not where cells look",
    ),
    Mutant(_centre_of_the_first_cell, "index has no effect; cell after cell the centre moves on by the jump"),
)


def _share_spec(start: float, jump: int, field: int, index: int, size: int) -> float:
    first, last = Field("", size, jump, start, field).pixels(index)
    return sum(0 <= pixel < size for pixel in range(first, last + 1)) / field


def _share_cases() -> Iterator[Case]:
    yield Case((4.0, 8, 92, 19, 300), "a cell in the middle of conv4_3")
    yield Case((4.0, 8, 92, 0, 300), "the first cell of conv4_3")
    yield Case((4.0, 8, 92, 37, 300), "the last cell of conv4_3")
    yield Case((8.0, 64, 516, 1, 300), "a field wider than the image")
    yield Case((0.5, 4, 7, 1, 5), "the example of two layers on 5 px")
    yield Case((-1.5, 1, 1, 0, 3), "a cell that sees padding alone")


def share_in_image_solution(start: float, jump: int, field: int, index: int, size: int) -> float:
    first = start + index * jump - field / 2
    last = first + field
    return max(0, min(last, size) - max(first, 0)) / field


def _share_left_only(start: float, jump: int, field: int, index: int, size: int) -> float:
    first = start + index * jump - field / 2
    return max(0, first + field - max(first, 0)) / field


def _share_right_only(start: float, jump: int, field: int, index: int, size: int) -> float:
    first = start + index * jump - field / 2
    return (min(first + field, size) - first) / field


def _share_of_the_image(start: float, jump: int, field: int, index: int, size: int) -> float:
    return share_in_image_solution(start, jump, field, index, size) * field / size


def _share_from_the_centre(start: float, jump: int, field: int, index: int, size: int) -> float:
    return share_in_image_solution(start + field / 2, jump, field, index, size)


def _share_negative(start: float, jump: int, field: int, index: int, size: int) -> float:
    first = start + index * jump - field / 2
    return (min(first + field, size) - max(first, 0)) / field


_SHARE_MUTANTS = (
    Mutant(_share_left_only, "only the left border cuts the field"),
    Mutant(_share_right_only, "only the right border cuts the field"),
    Mutant(_share_of_the_image, "this is a share of the image; asked is a share of the field"),
    Mutant(_share_from_the_centre, "the field begins at its centre; half of it lies before"),
    Mutant(_share_negative, "a field wholly outside gets less than nothing"),
)


def _paths_spec(layers: Sequence[tuple[int, int]]) -> np.ndarray:
    known = [Layer(kernel, stride) for kernel, stride in layers]
    fields = chain(known)
    return paths(known, fields[-1].receptive_field if fields else 1, 0)


def _paths_cases() -> Iterator[Case]:
    yield Case(([(3, 1)],), "one convolution: each pixel of the window has one path")
    yield Case(([(3, 1), (3, 1)],), "two convolutions of stride 1")
    yield Case(([(2, 2), (3, 1)],), "a pooling, then a convolution")
    yield Case(([(3, 2), (3, 2), (2, 1)],), "three layers with strides")
    yield Case(([(1, 2), (3, 1)],), "a stride that leaves pixels out")
    yield Case(([],), "no layer: one path, of no step")


def count_paths_solution(layers: list) -> np.ndarray:
    ways = np.ones(1)
    for kernel, stride in reversed(layers):
        spread = np.zeros((len(ways) - 1) * stride + 1)
        spread[::stride] = ways
        ways = np.convolve(spread, np.ones(kernel))
    return ways


def _paths_from_the_front(layers: list[Any]) -> np.ndarray:
    return count_paths_solution(layers[::-1])


def _paths_without_stride(layers: list[Any]) -> np.ndarray:
    return count_paths_solution([(kernel, 1) for kernel, _ in layers])


def _paths_as_shares(layers: list[Any]) -> np.ndarray:
    ways = count_paths_solution(layers)
    return ways / ways.sum()


def _paths_all_equal(layers: list[Any]) -> np.ndarray:
    return (count_paths_solution(layers) > 0).astype(float)


def _paths_stride_after_kernel(layers: list[Any]) -> np.ndarray:
    ways = np.ones(1)
    for kernel, stride in reversed(layers):
        ways = np.convolve(ways, np.ones(kernel))
        spread = np.zeros((len(ways) - 1) * stride + 1)
        spread[::stride] = ways
        ways = spread
    return ways


_PATHS_MUTANTS = (
    Mutant(_paths_from_the_front, "you begin at the image; begin at the cell, with the last layer"),
    Mutant(_paths_without_stride, "the strides are not used; they pull the cells below apart"),
    Mutant(_paths_as_shares, "these are shares that add up to 1; asked is the number of paths"),
    Mutant(_paths_all_equal, "this says which pixels are seen; asked is by how many paths"),
    Mutant(_paths_stride_after_kernel, "the kernel comes before the stride; backwards it is the other way"),
)


EXERCISES = (
    Exercise(
        "field_width",
        NOTEBOOK,
        "how many pixels wide the receptive field is after layers given as (kernel, stride, dilation)",
        against(_width_spec, _width_cases, _WIDTH_MUTANTS),
        (
            "Two numbers go from layer to layer: the field so far, and how far neighbouring cells lie apart.",
            "With dilation d the taps of a kernel span d * (kernel - 1) cells. How many pixels is that?",
            "For each layer: first field += dilation * (kernel - 1) * jump, and only then jump *= stride.",
        ),
        field_width_solution,
        _WIDTH_MUTANTS,
    ),
    Exercise(
        "share_in_image",
        NOTEBOOK,
        "which share of the pixels of a cell's field, along one axis, lies in an image of size pixels",
        against(_share_spec, _share_cases, _SHARE_MUTANTS),
        (
            "Where is the cell's centre? Where do half a field to the left and to the right of it end?",
            "The field runs from first to last in pixels. Which part of it lies between 0 and size?",
            "max(0, min(last, size) - max(first, 0)) pixels lie inside; divide by the field.",
        ),
        share_in_image_solution,
        _SHARE_MUTANTS,
    ),
    Exercise(
        "count_paths",
        NOTEBOOK,
        "how many paths lead from each pixel of its field to one cell behind layers given as (kernel, stride); "
        "no padding",
        against(_paths_spec, _paths_cases, _PATHS_MUTANTS),
        (
            "Walk backwards: start with the cell, one path, and ask through which cells below it was reached.",
            "np.convolve(ways, np.ones(kernel)) undoes a layer of stride 1. A stride first pulls ways apart.",
            "For each layer from the last: zeros of length (len(ways) - 1) * stride + 1, "
            "ways at every stride-th place, then np.convolve with np.ones(kernel).",
        ),
        count_paths_solution,
        _PATHS_MUTANTS,
    ),
    Exercise(
        "field_centre",
        NOTEBOOK,
        "the centre, in pixels along one axis, of the field of cell index "
        "after layers given as (kernel, stride, padding)",
        against(_centre_spec, _centre_cases, _CENTRE_MUTANTS),
        (
            "Follow the centre of cell 0. The centre of pixel 0 is at 0.5.",
            "The window's middle lies (kernel - 1) / 2 cells behind its first tap, which lies padding before 0.",
            "For each layer: start += ((kernel - 1) / 2 - padding) * jump, then jump *= stride; "
            "the result is start + index * jump.",
        ),
        field_centre_solution,
        _CENTRE_MUTANTS,
    ),
)
