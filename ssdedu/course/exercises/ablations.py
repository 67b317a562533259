"""Exercises of `12_ablations`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ssdedu.course.exercise import Case, Exercise, Mutant, against

__all__ = ["EXERCISES"]

NOTEBOOK = "12_ablations"
Point = tuple[float, float]


def _paired_spec(whole: list[float], without: list[float]) -> tuple[float, float, float]:
    total, low, high = 0.0, math.inf, -math.inf
    for i in range(len(whole)):
        lost = whole[i] - without[i]
        total, low, high = total + lost, min(low, lost), max(high, lost)
    return total / len(whole), low, high


def _paired_cases() -> Iterator[Case]:
    yield Case(([0.81, 0.74, 0.78], [0.62, 0.61, 0.55]), "an idea that helps with every seed")
    yield Case(([0.71, 0.66], [0.73, 0.59]), "an idea that helps with one seed and harms with the other")
    yield Case(([0.52, 0.83, 0.64], [0.67, 0.89, 0.75]), "an idea that harms with every seed")
    yield Case(([0.43], [0.31]), "a single seed")


def paired_solution(whole: list, without: list) -> tuple:
    lost = [a - b for a, b in zip(whole, without, strict=True)]
    return sum(lost) / len(lost), min(lost), max(lost)


def _paired_sorted(whole: list[float], without: list[float]) -> Any:
    return paired_solution(sorted(whole), sorted(without))


def _paired_size(whole: list[float], without: list[float]) -> Any:
    lost = [abs(a - b) for a, b in zip(whole, without, strict=True)]
    return sum(lost) / len(lost), min(lost), max(lost)


def _paired_extremes(whole: list[float], without: list[float]) -> Any:
    mean = sum(whole) / len(whole) - sum(without) / len(without)
    return mean, min(whole) - min(without), max(whole) - max(without)


def _paired_best(whole: list[float], without: list[float]) -> Any:
    return (max(whole) - max(without), *paired_solution(whole, without)[1:])


_PAIRED_MUTANTS = (
    Mutant(_paired_sorted, "both lists are sorted first, which pairs runs of different seeds"),
    Mutant(_paired_size, "the sign is thrown away; an idea may also harm"),
    Mutant(_paired_extremes, "extremes are subtracted, not runs of one seed"),
    Mutant(_paired_best, "the best runs are compared where the mean of all is asked"),
)


def _grid_spec(centers: list[Point], rows: int, columns: int) -> int:
    cells = [[0] * columns for _ in range(rows)]
    for x, y in centers:
        for r in range(rows):
            for c in range(columns):
                inside_x = c <= x * columns < c + 1 or (c == columns - 1 and x * columns >= columns)
                inside_y = r <= y * rows < r + 1 or (r == rows - 1 and y * rows >= rows)
                cells[r][c] += inside_x and inside_y
    return sum(n - 1 for row in cells for n in row if n > 1)


def _grid_cases() -> Iterator[Case]:
    yield Case(([(0.1, 0.1), (0.3, 0.3), (0.7, 0.8)], 2, 2), "two of three in one cell")
    yield Case(([(0.45, 0.1), (0.55, 0.1)], 2, 2), "neighbours on two sides of a line")
    yield Case(([(0.1, 0.6), (0.2, 0.7), (0.15, 0.65)], 2, 2), "three in one cell")
    yield Case(([(0.1, 0.3), (0.4, 0.3), (0.1, 0.45)], 1, 4), "one row of four cells")
    yield Case(([(1.0, 1.0), (0.9, 0.9)], 3, 3), "a centre on the border of the image")
    yield Case(([(0.1, 0.1), (0.12, 0.1), (0.6, 0.6), (0.62, 0.6)], 2, 2), "two pairs")
    yield Case(([], 4, 4), "no object")


def grid_solution(centers: list, rows: int, columns: int) -> int:
    cells = {(min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)) for x, y in centers}
    return len(centers) - len(cells)


def _grid_rounded(centers: list[Point], rows: int, columns: int) -> int:
    cells = {(min(round(y * rows), rows - 1), min(round(x * columns), columns - 1)) for x, y in centers}
    return len(centers) - len(cells)


def _grid_swapped(centers: list[Point], rows: int, columns: int) -> int:
    return grid_solution(centers, columns, rows)


def _grid_all_sharing(centers: list[Point], rows: int, columns: int) -> int:
    cells = [(min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)) for x, y in centers]
    return sum(cells.count(cell) > 1 for cell in cells)


def _grid_crowded_cells(centers: list[Point], rows: int, columns: int) -> int:
    cells = [(min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)) for x, y in centers]
    return sum(cells.count(cell) > 1 for cell in set(cells))


def _grid_border(centers: list[Point], rows: int, columns: int) -> int:
    return len(centers) - len({(int(y * rows), int(x * columns)) for x, y in centers})


_GRID_MUTANTS = (
    Mutant(_grid_rounded, "the cell is rounded; a centre at 0.45 of a cell and one at 0.55 share that cell"),
    Mutant(_grid_swapped, "rows and columns are exchanged: the row follows from y"),
    Mutant(_grid_all_sharing, "all that share a cell are counted; one of them keeps it"),
    Mutant(_grid_crowded_cells, "the crowded cells are counted; three in one cell lose two"),
    Mutant(_grid_border, "a centre at 1.0 falls into a cell that does not exist"),
)


def _divide_spec(losses: list[float], positive: list[bool]) -> tuple[float, float]:
    total, n, p = 0.0, 0, 0
    for loss, flag in zip(losses, positive, strict=True):
        total, n, p = total + loss, n + int(flag), p + 1
    return (total / n if n else 0.0), total / p


def _divide_cases() -> Iterator[Case]:
    yield Case(([2.25, 0.5, 0.125, 0.375], [True, False, False, False]), "one match among four boxes")
    yield Case(([1.5, 1.75, 0.25], [True, True, False]), "two matches among three")
    yield Case(([0.625, 0.75], [False, False]), "no match")
    yield Case(([0.875, 1.125], [True, True]), "all matched")


def divide_solution(losses: list, positive: list) -> tuple:
    matches = sum(positive)
    total = sum(losses)
    return (total / matches if matches else 0.0), total / len(losses)


def _divide_positives_only(losses: list[float], positive: list[bool]) -> Any:
    kept = [loss for loss, flag in zip(losses, positive, strict=True) if flag]
    return (sum(kept) / len(kept) if kept else 0.0), sum(losses) / len(losses)


def _divide_no_match(losses: list[float], positive: list[bool]) -> Any:
    return sum(losses) / max(1, sum(positive)), sum(losses) / len(losses)


def _divide_negatives(losses: list[float], positive: list[bool]) -> Any:
    rest = len(losses) - sum(positive)
    return divide_solution(losses, positive)[0], (sum(losses) / rest if rest else 0.0)


def _divide_swapped(losses: list[float], positive: list[bool]) -> Any:
    return divide_solution(losses, positive)[::-1]


_DIVIDE_MUTANTS = (
    Mutant(_divide_positives_only, "only the matched boxes are summed; the background's losses count too"),
    Mutant(_divide_no_match, "without matches the loss is divided by 1; it is 0 then"),
    Mutant(_divide_negatives, "the mean is taken over the background boxes; it goes over all"),
    Mutant(_divide_swapped, "the two results are exchanged"),
)


EXERCISES = (
    Exercise(
        "paired_difference",
        NOTEBOOK,
        "what an idea brings, seed by seed: (mean, lowest, highest) of the mAP with it minus the mAP without it",
        against(_paired_spec, _paired_cases, _PAIRED_MUTANTS),
        (
            "Runs with the same seed have the same scenes: subtract those from each other.",
            "lost = [a - b for a, b in zip(whole, without)]",
            "Return the mean of that list, its minimum and its maximum, the signs kept.",
        ),
        paired_solution,
        _PAIRED_MUTANTS,
    ),
    Exercise(
        "lost_in_grid",
        NOTEBOOK,
        "how many objects a grid loses in which every cell takes one: centres (x, y) as fractions of the "
        "image, a grid of rows x columns",
        against(_grid_spec, _grid_cases, _GRID_MUTANTS),
        (
            "In which cell does a centre lie? How many different cells are used?",
            "row = int(y * rows), column = int(x * columns), but never more than the last one.",
            "Put the pairs (row, column) into a set; as many objects are lost as the set is smaller.",
        ),
        grid_solution,
        _GRID_MUTANTS,
    ),
    Exercise(
        "two_divisors",
        NOTEBOOK,
        "the sum of the boxes' losses divided by the number of matched boxes (0 without any), and divided by "
        "the number of all boxes",
        against(_divide_spec, _divide_cases, _DIVIDE_MUTANTS),
        (
            "One sum, two divisors. Which boxes are in the sum?",
            "sum(positive) counts the True ones. What if there is none?",
            "Return (total / matches if matches else 0.0, total / len(losses)).",
        ),
        divide_solution,
        _DIVIDE_MUTANTS,
    ),
)
