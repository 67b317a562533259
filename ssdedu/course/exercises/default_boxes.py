"""Exercises of `02_default_boxes`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ssdedu import priors
from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "02_default_boxes"
Maps = list[tuple[int, int, tuple[float, ...]]]


def _count_spec(maps: Maps) -> int:
    return sum(priors.FeatureMap("", rows, columns, 30, 60, r).num_boxes for rows, columns, r in maps)


def _count_cases() -> Iterator[Case]:
    narrow, wide = (2.0,), (2.0, 3.0)
    yield Case(([(4, 4, narrow)],), "one 4 x 4 map with ratio 2")
    yield Case(([(3, 3, wide)],), "one 3 x 3 map with ratios 2 and 3")
    yield Case(([(2, 5, narrow)],), "a map of 2 rows and 5 columns")
    yield Case(([(6, 6, ())],), "a map with no ratio besides 1")
    yield Case(([(8, 8, wide), (4, 4, wide), (1, 3, ())],), "three maps")
    yield Case(([],), "no map at all")


def count_solution(maps: list) -> int:
    return sum(rows * columns * (2 + 2 * len(ratios)) for rows, columns, ratios in maps)


def _count_without_extra(maps: Maps) -> int:
    return sum(rows * columns * (1 + 2 * len(ratios)) for rows, columns, ratios in maps)


def _count_each_ratio_once(maps: Maps) -> int:
    return sum(rows * columns * (2 + len(ratios)) for rows, columns, ratios in maps)


def _count_square_maps(maps: Maps) -> int:
    return sum(rows * rows * (2 + 2 * len(ratios)) for rows, columns, ratios in maps)


def _count_last_map(maps: Maps) -> int:
    total = 0
    for rows, columns, ratios in maps:
        total = rows * columns * (2 + 2 * len(ratios))
    return total


_COUNT_MUTANTS = (
    Mutant(_count_without_extra, "the second square, 1', is left out"),
    Mutant(_count_each_ratio_once, "a ratio r counts once, though it also brings its upright twin 1/r"),
    Mutant(_count_square_maps, "columns are taken to equal rows"),
    Mutant(_count_last_map, "only the last map is counted, the total being overwritten in the loop"),
)


def _percents_spec(first: int, lowest: int, highest: int, num_maps: int) -> list[float]:
    pairs = priors.percent_sizes(100, num_maps, first, lowest, highest)
    return [low for low, _ in pairs] + [pairs[-1][1]]


def _percents_cases() -> Iterator[Case]:
    yield Case((10, 20, 90, 6), "SSD300 on VOC")
    yield Case((7, 15, 90, 6), "SSD300 on COCO")
    yield Case((7, 15, 90, 7), "SSD512 on VOC")
    yield Case((4, 10, 90, 7), "SSD512 on COCO")
    yield Case((5, 20, 80, 3), "the fewest maps the rule allows")


def percents_solution(first: int, lowest: int, highest: int, num_maps: int) -> list[int]:
    step = (highest - lowest) // (num_maps - 2)
    return [first] + [lowest + step * k for k in range(num_maps)]


def _percents_rounded(first: int, lowest: int, highest: int, num_maps: int) -> list[int]:
    step = round((highest - lowest) / (num_maps - 2))
    return [first] + [lowest + step * k for k in range(num_maps)]


def _percents_exact(first: int, lowest: int, highest: int, num_maps: int) -> list[float]:
    step = (highest - lowest) / (num_maps - 2)
    return [first] + [lowest + step * k for k in range(num_maps)]


def _percents_wrong_divisor(first: int, lowest: int, highest: int, num_maps: int) -> list[int]:
    step = (highest - lowest) // (num_maps - 1)
    return [first] + [lowest + step * k for k in range(num_maps)]


def _percents_without_next(first: int, lowest: int, highest: int, num_maps: int) -> list[int]:
    return percents_solution(first, lowest, highest, num_maps)[:-1]


def _percents_without_first(first: int, lowest: int, highest: int, num_maps: int) -> list[int]:
    step = (highest - lowest) // (num_maps - 2)
    return [lowest + step * k for k in range(num_maps + 1)]


_PERCENTS_MUTANTS = (
    Mutant(_percents_rounded, "the step is rounded; the original code cuts it down to a whole percent"),
    Mutant(_percents_exact, "the step keeps its fraction; the original code cuts it down to a whole percent"),
    Mutant(_percents_wrong_divisor, "the steps are one too many: the first map stands outside the rule"),
    Mutant(_percents_without_next, "the size behind the last map is missing, which its second square needs"),
    Mutant(_percents_without_first, "the first map has no percent of its own"),
)


def _centers_spec(rows: int, columns: int, step_px: float, width_px: int, height_px: int) -> np.ndarray:
    grid = priors.FeatureMap("", rows, columns, 30, 60, step_px=step_px)
    return priors.cell_centers(grid, width_px, height_px).reshape(-1, 2)


def _centers_cases() -> Iterator[Case]:
    yield Case((1, 1, 300, 300, 300), "a single cell")
    yield Case((3, 3, 100, 300, 300), "3 x 3 cells, 100 px apart")
    yield Case((2, 3, 100, 300, 200), "2 rows and 3 columns, 100 px apart, on an image of 300 x 200")
    yield Case((10, 10, 32, 300, 300), "10 x 10 cells, 32 px apart, on an image of 300 x 300")


def centers_solution(rows: int, columns: int, step_px: float, width_px: int, height_px: int) -> list:
    return [
        ((column + 0.5) * step_px / width_px, (row + 0.5) * step_px / height_px)
        for row in range(rows)
        for column in range(columns)
    ]


def _centers_swapped(rows: int, columns: int, step_px: float, width_px: int, height_px: int) -> list[Any]:
    return [(y, x) for x, y in centers_solution(rows, columns, step_px, width_px, height_px)]


def _centers_by_column(rows: int, columns: int, step_px: float, width_px: int, height_px: int) -> list[Any]:
    return sorted(centers_solution(rows, columns, step_px, width_px, height_px))


def _centers_corners(rows: int, columns: int, step_px: float, width_px: int, height_px: int) -> list[Any]:
    return [(c * step_px / width_px, r * step_px / height_px) for r in range(rows) for c in range(columns)]


def _centers_one_side(rows: int, columns: int, step_px: float, width_px: int, height_px: int) -> list[Any]:
    return centers_solution(rows, columns, step_px, width_px, width_px)


def _centers_spread(rows: int, columns: int, step_px: float, width_px: int, height_px: int) -> list[Any]:
    return [((c + 0.5) / columns, (r + 0.5) / rows) for r in range(rows) for c in range(columns)]


_CENTERS_MUTANTS = (
    Mutant(_centers_swapped, "x and y are exchanged: x follows the column, y the row"),
    Mutant(_centers_by_column, "the cells go down the columns; the order is row by row"),
    Mutant(_centers_corners, "these are the corners of the cells; the centre lies half a cell further"),
    Mutant(_centers_one_side, "both coordinates are divided by the width; y is a fraction of the height"),
    Mutant(
        _centers_spread, "the cells are spread evenly, as the paper does; asked is a fixed step in pixels"
    ),
)


def _reach_spec(side: float, threshold: float) -> tuple[float, float]:
    """Bisection on the IoU of squares about the same centre."""
    smallest = _bisect(side, threshold, 0.0, side)
    return smallest, _bisect(side, threshold, side / threshold, side)


def _bisect(side: float, threshold: float, outside: float, inside: float) -> float:
    for _ in range(80):
        middle = (outside + inside) / 2
        reached = min(side, middle) ** 2 / max(side, middle) ** 2 >= threshold
        outside, inside = (outside, middle) if reached else (middle, inside)
    return inside


def _reach_cases() -> Iterator[Case]:
    yield Case((100.0, 0.64), "two squares")
    yield Case((30.0, 0.5), "SSD's smallest square")
    yield Case((264.0, 0.7), "a stricter threshold")
    yield Case((60.0, 1.0), "where only an equal object will do")


def reach_solution(side: float, threshold: float) -> tuple[float, float]:
    return side * threshold**0.5, side / threshold**0.5


def _reach_without_root(side: float, threshold: float) -> tuple[float, float]:
    return side * threshold, side / threshold


def _reach_symmetric(side: float, threshold: float) -> tuple[float, float]:
    smallest = side * math.sqrt(threshold)
    return smallest, 2 * side - smallest


def _reach_swapped(side: float, threshold: float) -> tuple[float, float]:
    return side / math.sqrt(threshold), side * math.sqrt(threshold)


def _reach_always_half(side: float, threshold: float) -> tuple[float, float]:
    return side * math.sqrt(0.5), side / math.sqrt(0.5)


_REACH_MUTANTS = (
    Mutant(_reach_without_root, "sides are compared; the IoU compares areas"),
    Mutant(_reach_symmetric, "the object may grow by as many pixels as it may shrink; the IoU is a quotient"),
    Mutant(_reach_swapped, "largest and smallest are exchanged"),
    Mutant(_reach_always_half, "the threshold is fixed at one half"),
)


EXERCISES = (
    Exercise(
        "count_boxes",
        NOTEBOOK,
        "the number of default boxes of maps given as (rows, columns, ratios besides 1); "
        "each cell has two squares, and two boxes for each ratio",
        against(_count_spec, _count_cases, _COUNT_MUTANTS),
        (
            "How many boxes does one cell have when there is no ratio besides 1? And with one ratio?",
            "A map has rows * columns cells, and a cell 2 + 2 * (number of ratios) boxes.",
            "Go through the maps with `for rows, columns, ratios in maps` and add up.",
        ),
        count_solution,
        _COUNT_MUTANTS,
    ),
    Exercise(
        "percents",
        NOTEBOOK,
        "the sizes of num_maps maps in percent of the input and the next size after them, "
        "by the original code's rule",
        against(_percents_spec, _percents_cases, _PERCENTS_MUTANTS),
        (
            "The first map has its own percent. Between how many steps is highest - lowest shared out?",
            "Python's // divides and cuts to a whole number. The divisor is num_maps - 2.",
            "One number for the first map, then num_maps numbers that start at lowest and grow by the step.",
        ),
        percents_solution,
        _PERCENTS_MUTANTS,
    ),
    Exercise(
        "centers",
        NOTEBOOK,
        "the centres (x, y) of a map's cells as fractions of the image, row by row, "
        "step_px apart, as in Caffe",
        against(_centers_spec, _centers_cases, _CENTERS_MUTANTS),
        (
            "Two nested loops. Which of rows and columns must be the outer one for the order row by row?",
            "x comes from the column and the width, y from the row and the height.",
            "x = (column + 0.5) * step_px / width_px, and y likewise; return a list of pairs.",
        ),
        centers_solution,
        _CENTERS_MUTANTS,
    ),
    Exercise(
        "reach",
        NOTEBOOK,
        "the sides (smallest, largest) of square objects that a square default box about the same centre "
        "reaches with an IoU of at least threshold",
        against(_reach_spec, _reach_cases, _REACH_MUTANTS),
        (
            "One square lies inside the other. What are then the intersection and the union?",
            "For an object smaller than the box the IoU is (object / side) squared.",
            "Smallest: solve (object / side)**2 = threshold. Largest: (side / object)**2 = threshold.",
        ),
        reach_solution,
        _REACH_MUTANTS,
    ),
)
