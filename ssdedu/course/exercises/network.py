"""Exercises of `05_network`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ssdedu import receptive_field
from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "05_network"
Layers = list[tuple[int, int, int, int, bool]]
Maps = list[tuple[int, int, int]]


def _sides_spec(size: int, layers: Layers) -> list[int]:
    chained = [receptive_field.Layer(*layer) for layer in layers]
    return [field.size or 0 for field in receptive_field.chain(chained, size)]


def _sides_cases() -> Iterator[Case]:
    pool, up = (2, 2, 0, 1, False), (2, 2, 0, 1, True)
    yield Case((300, [pool]), "a pooling layer on an even number of cells")
    yield Case((75, [pool]), "a pooling layer that rounds down")
    yield Case((75, [up]), "pool3, which rounds up")
    yield Case((38, [up]), "rounding up where nothing is left over")
    yield Case((19, [(3, 1, 6, 6, False)]), "fc6 with dilation 6")
    yield Case((16, [(3, 2, 0, 3, False)]), "a dilation together with a stride")
    yield Case((19, [(1, 1, 0, 1, False), (3, 2, 1, 1, False)]), "conv8_1 and conv8_2")
    yield Case((5, [(3, 1, 0, 1, False)] * 2), "conv10_2 and conv11_2, without padding")
    yield Case((300, [pool, pool, up, pool]), "the first four pooling layers")
    yield Case((10, []), "no layer at all")


def map_sides_solution(size: int, layers: list) -> list[int]:
    sides = []
    for kernel, stride, padding, dilation, ceil in layers:
        free = size + 2 * padding - dilation * (kernel - 1) - 1
        steps = -(-free // stride) if ceil else free // stride
        size = steps + 1
        sides.append(size)
    return sides


def _sides_always_down(size: int, layers: Layers) -> list[int]:
    return map_sides_solution(size, [(*layer[:4], False) for layer in layers])


def _sides_always_up(size: int, layers: Layers) -> list[int]:
    return map_sides_solution(size, [(*layer[:4], True) for layer in layers])


def _sides_without_dilation(size: int, layers: Layers) -> list[int]:
    return map_sides_solution(size, [(k, s, p, 1, ceil) for k, s, p, _, ceil in layers])


def _sides_dilated_kernel(size: int, layers: Layers) -> list[int]:
    """The window taken as dilation * kernel cells."""
    return map_sides_solution(size, [(d * k, s, p, 1, ceil) for k, s, p, d, ceil in layers])


def _sides_one_border(size: int, layers: Layers) -> list[int]:
    sides = []
    for kernel, stride, padding, dilation, ceil in layers:
        free = size + padding - dilation * (kernel - 1) - 1
        size = (-(-free // stride) if ceil else free // stride) + 1
        sides.append(size)
    return sides


def _sides_from_input(size: int, layers: Layers) -> list[int]:
    return [map_sides_solution(size, [layer])[0] for layer in layers]


_SIDES_MUTANTS = (
    Mutant(_sides_always_down, "every layer rounds down, also where ceil is True"),
    Mutant(_sides_always_up, "every layer rounds up, also where ceil is False"),
    Mutant(_sides_without_dilation, "the dilation is not used: a dilated window covers more cells"),
    Mutant(
        _sides_dilated_kernel,
        "the window is dilation * kernel cells long; its first and last tap are dilation * (kernel - 1) apart",
    ),
    Mutant(_sides_one_border, "the padding is counted once; it is added on both sides"),
    Mutant(_sides_from_input, "each layer starts from the first size, instead of the size before it"),
)


def _fc6_spec(matrix: np.ndarray, channels: int, side: int, output_step: int, tap_step: int) -> np.ndarray:
    """The kernel entry by entry: input number of (channel, row, column) in the flattened map."""
    at = range(0, side, tap_step)
    outputs = range(0, len(matrix), output_step)
    number = lambda c, u, v: (c * side + u) * side + v  # noqa: E731
    return np.array([[[[matrix[o, number(c, u, v)] for v in at] for u in at] for c in range(channels)]
                     for o in outputs])  # fmt: skip


def _fc6_case(outputs: int, channels: int, side: int, output_step: int, tap_step: int, what: str) -> Case:
    matrix = np.arange(outputs * channels * side * side, dtype=np.float64).reshape(outputs, -1)
    return Case((matrix, channels, side, output_step, tap_step), what)


def _fc6_cases() -> Iterator[Case]:
    yield _fc6_case(1, 1, 4, 1, 3, "one output and one channel of 4 x 4, every third tap")
    yield _fc6_case(8, 3, 7, 4, 3, "8 outputs, 3 channels of 7 x 7, every fourth output and third tap")
    yield _fc6_case(6, 2, 5, 3, 2, "6 outputs, 2 channels of 5 x 5, every third output and second tap")
    yield _fc6_case(
        4, 5, 1, 2, 3, "5 channels of a single cell, as for a fully connected layer behind another"
    )
    yield _fc6_case(3, 2, 3, 1, 1, "nothing to leave out")


def fc_to_conv_solution(
    matrix: np.ndarray, channels: int, side: int, output_step: int, tap_step: int
) -> np.ndarray:
    kernels = np.asarray(matrix).reshape(-1, channels, side, side)
    kept_outputs = kernels[::output_step]
    return kept_outputs[:, :, ::tap_step, ::tap_step]


def _fc6_channels_last(
    matrix: np.ndarray, channels: int, side: int, output_step: int, tap_step: int
) -> np.ndarray:
    kernels = matrix.reshape(-1, side, side, channels).transpose(0, 3, 1, 2)
    return kernels[::output_step, :, ::tap_step, ::tap_step]


def _fc6_first_outputs(
    matrix: np.ndarray, channels: int, side: int, output_step: int, tap_step: int
) -> np.ndarray:
    kept = len(matrix[::output_step])
    return fc_to_conv_solution(matrix[:kept], channels, side, 1, tap_step)


def _fc6_corner(matrix: np.ndarray, channels: int, side: int, output_step: int, tap_step: int) -> np.ndarray:
    kept = len(range(0, side, tap_step))
    return fc_to_conv_solution(matrix, channels, side, output_step, 1)[:, :, :kept, :kept]


def _fc6_middle(matrix: np.ndarray, channels: int, side: int, output_step: int, tap_step: int) -> np.ndarray:
    kept = len(range(0, side, tap_step))
    first = (side - kept) // 2
    at = slice(first, first + kept)
    return fc_to_conv_solution(matrix, channels, side, output_step, 1)[:, :, at, at]


def _fc6_upside_down(
    matrix: np.ndarray, channels: int, side: int, output_step: int, tap_step: int
) -> np.ndarray:
    return fc_to_conv_solution(matrix, channels, side, output_step, tap_step).swapaxes(2, 3)


_FC6_MUTANTS = (
    Mutant(
        _fc6_channels_last,
        "the inputs are read as (row, column, channel); torch and Caffe flatten a map channel by channel",
    ),
    Mutant(_fc6_first_outputs, "the first outputs are kept; asked is every output_step-th of them all"),
    Mutant(_fc6_corner, "a corner of each kernel is kept; the taps must spread over the whole of it"),
    Mutant(_fc6_middle, "the middle of each kernel is kept; the taps must spread over the whole of it"),
    Mutant(_fc6_upside_down, "rows and columns of the kernels are exchanged"),
)


def _l2_spec(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """One location at a time, as the length of a vector is defined."""
    result = np.zeros(features.shape)
    channels, rows, columns = features.shape
    for r in range(rows):
        for c in range(columns):
            length = sum(features[d, r, c] ** 2 for d in range(channels)) ** 0.5
            for d in range(channels):
                result[d, r, c] = scale[d] * features[d, r, c] / length if length > 0 else 0.0
    return result


def _l2_cases() -> Iterator[Case]:
    rng = np.random.default_rng(5)
    yield Case(
        (np.array([3.0, 4.0]).reshape(2, 1, 1), np.array([20.0, 20.0])), "two channels and one location"
    )
    yield Case((rng.uniform(0, 9, (4, 2, 3)), np.full(4, 20.0)), "4 channels, 2 x 3 locations, scale 20")
    yield Case((rng.uniform(0, 9, (3, 3, 3)), np.array([20.0, 5.0, 1.0])), "a scale for each channel")
    yield Case((rng.uniform(0, 900, (5, 1, 2)), np.full(5, 20.0)), "activations of several hundred")
    silent = rng.uniform(1, 9, (2, 2, 2))
    silent[:, 0, 1] = 0
    yield Case((silent, np.full(2, 20.0)), "a location where all activations are 0")


def l2_scale_solution(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    x = np.asarray(features)
    length = (x**2).sum(axis=0, keepdims=True) ** 0.5  # (1, H, W)
    unit = x / np.maximum(length, 1e-12)
    return unit * np.asarray(scale)[:, None, None]


def _l2_whole_map(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return features / (features**2).sum() ** 0.5 * scale[:, None, None]


def _l2_over_locations(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return features / (features**2).sum(axis=(1, 2), keepdims=True) ** 0.5 * scale[:, None, None]


def _l2_sum_of_magnitudes(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return features / np.maximum(abs(features).sum(axis=0), 1e-12) * scale[:, None, None]


def _l2_without_root(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return features / np.maximum((features**2).sum(axis=0), 1e-12) * scale[:, None, None]


def _l2_silence_forgotten(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return features / (features**2).sum(axis=0) ** 0.5 * scale[:, None, None]


def _l2_fixed_scale(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return l2_scale_solution(features, np.full(len(features), 20.0))


_L2_MUTANTS = (
    Mutant(_l2_whole_map, "the whole map is scaled to one length; asked is each location by itself"),
    Mutant(
        _l2_over_locations, "each channel is scaled over its locations; asked is each location over channels"
    ),
    Mutant(
        _l2_sum_of_magnitudes, "it divides by the sum of magnitudes, not by the root of the sum of squares"
    ),
    Mutant(_l2_without_root, "the square root is missing"),
    Mutant(
        _l2_silence_forgotten, "0 is divided by 0 where a location has no activation; the answer there is 0"
    ),
    Mutant(_l2_fixed_scale, "the scale is always 20; it is learned, so take it from the argument"),
)


def _row_spec(maps: Maps, level: int, row: int, column: int, box: int) -> int:
    """Counting in the order of the default boxes."""
    order = ((i, r, c, k) for i, (rows, columns, boxes) in enumerate(maps)
             for r in range(rows) for c in range(columns) for k in range(boxes))  # fmt: skip
    return next(n for n, where in enumerate(order) if where == (level, row, column, box))


def _row_cases() -> Iterator[Case]:
    one, two, wide = [(3, 3, 4)], [(4, 4, 4), (2, 2, 6)], [(4, 6, 4), (2, 3, 6), (1, 2, 4)]
    yield Case((one, 0, 0, 0, 0), "the very first box")
    yield Case((one, 0, 0, 0, 3), "the last box of the first cell")
    yield Case((one, 0, 1, 2, 1), "a box in the middle of a map")
    yield Case((two, 1, 0, 1, 2), "a box of the second map")
    yield Case((wide, 1, 1, 0, 5), "a map of 2 rows and 3 columns")
    yield Case((wide, 2, 0, 1, 3), "the last box of all")


def row_of_box_solution(maps: list, level: int, row: int, column: int, box: int) -> int:
    before = sum(rows * columns * boxes for rows, columns, boxes in maps[:level])
    _, columns, boxes = maps[level]
    cell = row * columns + column
    return before + cell * boxes + box


def _row_within_map(maps: Maps, level: int, row: int, column: int, box: int) -> int:
    return row_of_box_solution(maps[level:], 0, row, column, box)


def _row_by_column(maps: Maps, level: int, row: int, column: int, box: int) -> int:
    before = row_of_box_solution(maps, level, 0, 0, 0)
    rows, _, boxes = maps[level]
    return before + (column * rows + row) * boxes + box


def _row_by_box(maps: Maps, level: int, row: int, column: int, box: int) -> int:
    before = row_of_box_solution(maps, level, 0, 0, 0)
    rows, columns, _ = maps[level]
    return before + (box * rows + row) * columns + column


def _row_of_cells(maps: Maps, level: int, row: int, column: int, box: int) -> int:
    before = sum(rows * columns for rows, columns, _ in maps[:level])
    return before + row * maps[level][1] + column


def _row_square(maps: Maps, level: int, row: int, column: int, box: int) -> int:
    before = row_of_box_solution(maps, level, 0, 0, 0)
    rows, _, boxes = maps[level]
    return before + (row * rows + column) * boxes + box


_ROW_MUTANTS = (
    Mutant(_row_within_map, "the boxes of the maps before are not counted"),
    Mutant(_row_by_column, "the cells are counted down the columns; the order is row by row"),
    Mutant(
        _row_by_box,
        "a box kind runs through all cells before the next kind: the step (0, 2, 3, 1) is missing",
    ),
    Mutant(_row_of_cells, "cells are counted, but each has several boxes"),
    Mutant(_row_square, "a row of cells is taken to be as long as the map is high"),
)


EXERCISES = (
    Exercise(
        "map_sides",
        NOTEBOOK,
        "the side of the map behind every layer of a chain, in cells; a layer is "
        "(kernel, stride, padding, dilation, ceil)",
        against(_sides_spec, _sides_cases, _SIDES_MUTANTS),
        (
            "How far can the window move? From its first place to the last that fits into cells and padding.",
            "The window reaches over dilation * (kernel - 1) + 1 cells; free = size + 2 * padding - that.",
            "The side is free / stride, rounded down (or up with ceil), plus 1. It is the next layer's size.",
        ),
        map_sides_solution,
        _SIDES_MUTANTS,
    ),
    Exercise(
        "fc_to_conv",
        NOTEBOOK,
        "the kernels (kept outputs, channels, kept taps, kept taps) of the thinned convolution that a fully "
        "connected layer's matrix (outputs, channels * side * side) becomes",
        against(_fc6_spec, _fc6_cases, _FC6_MUTANTS),
        (
            "A row of the matrix weighs a flattened map (channels, side, side). Which reshape undoes this?",
            "matrix.reshape(-1, channels, side, side) gives full kernels; a slice a[::3] keeps every third.",
            "Slice all four axes: every output_step-th output, all channels, every tap_step-th row and column.",
        ),
        fc_to_conv_solution,
        _FC6_MUTANTS,
    ),
    Exercise(
        "l2_scale",
        NOTEBOOK,
        "features (C, H, W) with each location's vector over the channels scaled to length 1, times scale (C,)",
        against(_l2_spec, _l2_cases, _L2_MUTANTS),
        (
            "Each location (row, column) has a vector of C numbers. Over which axis runs the sum of squares?",
            "(x**2).sum(axis=0) ** 0.5 has shape (H, W); dividing x by it makes every vector a unit vector.",
            "Guard the division with np.maximum(length, 1e-12); multiply by scale[:, None, None].",
        ),
        l2_scale_solution,
        _L2_MUTANTS,
    ),
    Exercise(
        "row_of_box",
        NOTEBOOK,
        "the row, from 0, of the network's output that belongs to a box, given its map, row, column and box; "
        "maps is a list of (rows, columns, boxes per cell)",
        against(_row_spec, _row_cases, _ROW_MUTANTS),
        (
            "How many boxes have all the maps before this one? That many output rows come first.",
            "In its map, the cell (row, column) is number row * columns + column; each cell has several boxes.",
            "Boxes of the maps before + (row * columns + column) * boxes per cell + box.",
        ),
        row_of_box_solution,
        _ROW_MUTANTS,
    ),
)
