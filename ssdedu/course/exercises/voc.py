"""Exercises of `14_voc`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ssdedu.course.exercise import Case, Exercise, Mutant, against
from ssdedu.datasets.voc_folder import choose_classes
from ssdedu.datasets.voc_xml import Annotation, VocObject, within
from ssdedu.settings import Settings, learning_rate

__all__ = ["EXERCISES"]

NOTEBOOK = "14_voc"
Milestones = tuple[int, ...]
Box = tuple[float, float, float, float]
Passes = list[list[int]]


def _rate_spec(step: int, lr: float, milestones: Milestones) -> float:
    return lr * learning_rate(step, Settings(lr=lr, milestones=milestones))


def _rate_cases() -> Iterator[Case]:
    paper = (80_000, 100_000)
    yield Case((0, 0.5, paper), "the first step of the original schedule, begun at 0.5")
    yield Case((79_999, 0.5, paper), "the last step before the first drop")
    yield Case((80_000, 0.5, paper), "the very step of the first drop")
    yield Case((100_001, 0.5, paper), "a step after both drops")
    yield Case((170, 2.0, (160, 300)), "another schedule, after the first of its drops")
    yield Case((350, 2.0, (100, 200, 300)), "a schedule of three drops, after the last")
    yield Case((9, 0.25, ()), "a schedule without drops")


def rate_solution(step: int, lr: float, milestones: tuple) -> float:
    for milestone in milestones:
        if step >= milestone:
            lr = lr / 10
    return lr


def _rate_a_step_late(step: int, lr: float, milestones: Milestones) -> float:
    return rate_solution(step - 1, lr, milestones)


def _rate_one_drop(step: int, lr: float, milestones: Milestones) -> float:
    return lr / 10 if any(step >= m for m in milestones) else lr


def _rate_all_drops(step: int, lr: float, milestones: Milestones) -> float:
    return lr * 0.1 ** len(milestones)


def _rate_equal_steps(step: int, lr: float, milestones: Milestones) -> float:
    return lr * 0.1 ** (step // milestones[0]) if milestones else lr


def _rate_halved(step: int, lr: float, milestones: Milestones) -> float:
    return lr * 0.5 ** sum(step >= m for m in milestones)


_RATE_MUTANTS = (
    Mutant(
        _rate_a_step_late, "the rate drops one step late: the milestone itself has the lower rate already"
    ),
    Mutant(_rate_one_drop, "the rate drops once only, however many milestones have passed"),
    Mutant(_rate_all_drops, "all milestones count, also those that have not been reached"),
    Mutant(_rate_equal_steps, "the drops come at equal distances; the milestones need not"),
    Mutant(_rate_halved, "the rate is halved; a milestone divides it by ten"),
)


def _fractions_spec(box_px: Box, width_px: int, height_px: int) -> np.ndarray:
    annotation = Annotation("", (VocObject(1, "dog", box_px, False),))
    return within(annotation, width_px, height_px).boxes_xyxy(width_px, height_px)[0]


def _fractions_cases() -> Iterator[Case]:
    yield Case(((10.0, 20.0, 60.0, 80.0), 100, 100), "a box in a square photo")
    yield Case(((50.0, 30.0, 250.0, 150.0), 500, 375), "a box in a wide photo")
    yield Case(((1.0, 1.0, 500.0, 375.0), 500, 375), "a box that fills the photo, from 1 to the last pixel")
    yield Case(((-3.0, 20.0, 120.0, 330.0), 200, 320), "a box that hangs over the left and the lower border")


def fractions_solution(box_px: tuple, width_px: int, height_px: int) -> list:
    xmin, ymin, xmax, ymax = box_px
    fractions = [xmin / width_px, ymin / height_px, xmax / width_px, ymax / height_px]
    return [min(max(f, 0.0), 1.0) for f in fractions]


def _fractions_from_zero(box_px: Box, width_px: int, height_px: int) -> list[float]:
    xmin, ymin, xmax, ymax = box_px
    return fractions_solution((xmin - 1, ymin - 1, xmax - 1, ymax - 1), width_px, height_px)


def _fractions_whole_pixels(box_px: Box, width_px: int, height_px: int) -> list[float]:
    xmin, ymin, xmax, ymax = box_px
    return fractions_solution((xmin - 1, ymin - 1, xmax, ymax), width_px, height_px)


def _fractions_whole_pixels_uncut(box_px: Box, width_px: int, height_px: int) -> list[float]:
    xmin, ymin, xmax, ymax = box_px
    return _fractions_uncut((xmin - 1, ymin - 1, xmax, ymax), width_px, height_px)


def _fractions_last_index(box_px: Box, width_px: int, height_px: int) -> list[float]:
    return fractions_solution(box_px, width_px - 1, height_px - 1)


def _fractions_of_width(box_px: Box, width_px: int, height_px: int) -> list[float]:
    return fractions_solution(box_px, width_px, width_px)


def _fractions_sides_swapped(box_px: Box, width_px: int, height_px: int) -> list[float]:
    return fractions_solution(box_px, height_px, width_px)


def _fractions_uncut(box_px: Box, width_px: int, height_px: int) -> list[float]:
    return [value / side for value, side in zip(box_px, (width_px, height_px) * 2, strict=True)]


_FRACTIONS_MUTANTS = (
    Mutant(_fractions_from_zero, "1 is taken off every corner; the original Caffe reader divides as written"),
    Mutant(
        _fractions_whole_pixels,
        "1 is taken off xmin and ymin; the original Caffe reader divides as written",
    ),
    Mutant(
        _fractions_whole_pixels_uncut,
        "1 is taken off xmin and ymin, and a box that hangs over the border is not cut there",
    ),
    Mutant(_fractions_last_index, "the divisor is the last pixel's number instead of the side's length"),
    Mutant(_fractions_of_width, "everything is divided by the width; y is a fraction of the height"),
    Mutant(_fractions_sides_swapped, "width and height are exchanged"),
    Mutant(_fractions_uncut, "a box that hangs over the border is not cut there"),
)


def _labels_spec(names: list[str]) -> list[int]:
    classes = choose_classes(names)
    return [classes.index(name) + 1 for name in names]


def _labels_cases() -> Iterator[Case]:
    yield Case((["RBC", "WBC", "Platelets", "RBC"],), "four blood cells of three classes")
    yield Case((["screw", "nut", "nut", "bolt", "screw", "nut"],), "parts that come in no order")
    yield Case((["nut"],), "one object")
    yield Case((["apple", "Zebra", "apple"],), "a name with a capital letter")
    yield Case((["10", "9", "10", "2"],), "names that are digits")


def labels_solution(names: list) -> list:
    classes = sorted(set(names))
    return [classes.index(name) + 1 for name in names]


def _labels_from_zero(names: list[str]) -> list[int]:
    return [label - 1 for label in labels_solution(names)]


def _labels_as_met(names: list[str]) -> list[int]:
    classes = list(dict.fromkeys(names))
    return [classes.index(name) + 1 for name in names]


def _labels_with_repeats(names: list[str]) -> list[int]:
    return [sorted(names).index(name) + 1 for name in names]


def _labels_without_case(names: list[str]) -> list[int]:
    classes = sorted(set(names), key=str.casefold)
    return [classes.index(name) + 1 for name in names]


def _labels_by_count(names: list[str]) -> list[int]:
    classes = sorted(set(names), key=lambda name: (-names.count(name), name))
    return [classes.index(name) + 1 for name in names]


_LABELS_MUTANTS = (
    Mutant(_labels_from_zero, "the first class has label 0; that is the background's"),
    Mutant(_labels_as_met, "classes are numbered as they are met; then another order of files changes them"),
    Mutant(_labels_with_repeats, "the names are sorted with their repeats, so that numbers are skipped"),
    Mutant(_labels_without_case, "capital letters sort as small ones; plain `sorted` puts capitals first"),
    Mutant(_labels_by_count, "the most frequent class comes first; then one more photo may renumber them"),
)


def _batch_spec(step: int, batch_size: int, passes: Passes) -> list[int]:
    endless = [image for one_pass in passes for image in one_pass]
    return endless[step * batch_size : (step + 1) * batch_size]


def _batch_cases() -> Iterator[Case]:
    passes = [[2, 0, 1, 4, 3], [4, 1, 3, 0, 2], [0, 3, 2, 4, 1]]
    yield Case((0, 2, passes), "the first batch")
    yield Case((1, 2, passes), "a batch in the middle of a pass")
    yield Case((2, 2, passes), "a batch in which one pass ends and the next begins")
    yield Case((4, 2, passes), "a batch in the second pass")
    yield Case((1, 3, [[1, 0], [0, 1], [1, 0], [0, 1]]), "a batch larger than the data set")
    yield Case((3, 1, [[2, 1, 0], [0, 2, 1]]), "batches of one image, at the start of a pass")


def batch_solution(step: int, batch_size: int, passes: list) -> list:
    images = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        number, place = divmod(position, len(passes[0]))
        images.append(passes[number][place])
    return images


def _batch_drop_last(step: int, batch_size: int, passes: Passes) -> list[int]:
    a_pass = len(passes[0]) // batch_size
    if a_pass == 0:
        return []
    number, place = divmod(step, a_pass)
    return passes[number][place * batch_size : (place + 1) * batch_size]


def _batch_cut_short(step: int, batch_size: int, passes: Passes) -> list[int]:
    number, place = divmod(step * batch_size, len(passes[0]))
    return passes[number][place : place + batch_size]


def _batch_same_pass(step: int, batch_size: int, passes: Passes) -> list[int]:
    return batch_solution(step, batch_size, [passes[0]] * len(passes))


def _batch_overlapping(step: int, batch_size: int, passes: Passes) -> list[int]:
    endless = [image for one_pass in passes for image in one_pass]
    return endless[step : step + batch_size]


def _batch_from_one(step: int, batch_size: int, passes: Passes) -> list[int]:
    endless = [image for one_pass in passes for image in one_pass]
    return endless[(step - 1) * batch_size : step * batch_size]


def _batch_wrapped(step: int, batch_size: int, passes: Passes) -> list[int]:
    number, place = divmod(step * batch_size, len(passes[0]))
    return [passes[number][(place + i) % len(passes[0])] for i in range(batch_size)]


_BATCH_MUTANTS = (
    Mutant(
        _batch_drop_last, "the rest of a pass that fills no batch is dropped, and those images are not seen"
    ),
    Mutant(_batch_cut_short, "a batch ends where its pass ends, so that it is too small"),
    Mutant(_batch_same_pass, "every pass has the order of the first"),
    Mutant(_batch_overlapping, "batches overlap: the next one begins batch_size images later, not one"),
    Mutant(_batch_from_one, "steps are counted from 1; the first batch has number 0"),
    Mutant(_batch_wrapped, "a batch goes on at the start of its own pass, not in the next one"),
)


EXERCISES = (
    Exercise(
        "rate_at_step",
        NOTEBOOK,
        "the learning rate of a step (counted from 0) when it begins as lr and is divided by ten at each milestone",
        against(_rate_spec, _rate_cases, _RATE_MUTANTS),
        (
            "Nothing has to be remembered from step to step: how many milestones lie behind this step?",
            "A milestone counts as soon as step >= milestone.",
            "Go through the milestones, and divide lr by 10 for each that counts.",
        ),
        rate_solution,
        _RATE_MUTANTS,
    ),
    Exercise(
        "labels_from_names",
        NOTEBOOK,
        "the label of each object from the class names alone: names sorted, numbered from 1",
        against(_labels_spec, _labels_cases, _LABELS_MUTANTS),
        (
            "First the list of classes, each name once; then the place of each object's name in it.",
            "`sorted(set(names))` is the list of classes; 0 is taken by the background.",
            "Return `classes.index(name) + 1` for every name.",
        ),
        labels_solution,
        _LABELS_MUTANTS,
    ),
    Exercise(
        "voc_fractions",
        NOTEBOOK,
        "a VOC box in pixels as fractions (xmin, ymin, xmax, ymax) of the photo, "
        "as the original Caffe reader divides, cut at the border",
        against(_fractions_spec, _fractions_cases, _FRACTIONS_MUTANTS),
        (
            "Each of the four numbers is divided by one side of the photo. Which by which?",
            "x by the width, y by the height, nothing taken off. Then cut to the range 0 to 1.",
            "min(max(xmin / width_px, 0.0), 1.0), and likewise for the other three.",
        ),
        fractions_solution,
        _FRACTIONS_MUTANTS,
    ),
    Exercise(
        "endless_batch",
        NOTEBOOK,
        "the images of batch number `step` (from 0) when shuffled passes over the data follow each other "
        "without a gap",
        against(_batch_spec, _batch_cases, _BATCH_MUTANTS),
        (
            "Think of the passes as one long list. Where in it does the batch begin and end?",
            "Positions step * batch_size up to (step + 1) * batch_size; position p lies in pass p // N.",
            "`number, place = divmod(position, len(passes[0]))`, then `passes[number][place]`.",
        ),
        batch_solution,
        _BATCH_MUTANTS,
    ),
)
