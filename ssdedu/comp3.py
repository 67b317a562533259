"""PASCAL VOC's result files (comp3, comp4): a text file for each class, a line for each detection."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssdedu.box_table import describe_image, read_boxes, sizes_px
from ssdedu.evaluate import DetectionArrays, DetectionsLike
from ssdedu.files import write_atomically
from ssdedu.sample import Truth

__all__ = ["read_comp3", "write_comp3"]


def write_comp3(
    folder: str | os.PathLike[str],
    detections: Sequence[DetectionsLike],
    truths: Sequence[Truth],
    classes: Sequence[str],
    prefix: str = "comp3_det_test_",
) -> list[Path]:
    """Write VOC's result files, `prefix` + class + ".txt", one line for each detection; gives the paths.

    A line is `image_id score xmin ymin xmax ymax`: image_id is the truth's name, coordinates are pixels, that
    is fractions times width and height, to six decimals; scores have nine digits, exact for float32. Each
    file appears complete or not at all. Raises ValueError for names that the format cannot hold.
    """
    found = read_boxes(detections, truths, classes, "detections", "scores")
    names, paths = _image_ids(truths), _result_paths(folder, prefix, classes)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for label, path in enumerate(paths, start=1):
        rows = np.flatnonzero(found.labels == label)
        values = np.column_stack([found.extra[rows], found.boxes_px[rows]]).tolist()
        lines = [
            "{} {:.9g} {:.6f} {:.6f} {:.6f} {:.6f}\n".format(names[image], *numbers)
            for image, numbers in zip(found.image[rows], values, strict=True)
        ]
        write_atomically(path, "".join(lines).encode())
    return paths


def read_comp3(
    folder: str | os.PathLike[str],
    truths: Sequence[Truth],
    classes: Sequence[str],
    prefix: str = "comp3_det_test_",
) -> list[DetectionArrays]:
    """Detections of each image of `truths` from VOC's result files, in the order of classes and lines.

    Boxes come back as fractions (float64). Raises ValueError naming file and line for a line that is not
    `image_id score xmin ymin xmax ymax` with an image_id among the truths' names, or a file that is missing.
    """
    images = {name: index for index, name in enumerate(_image_ids(truths))}
    rows: list[list[tuple[float, ...]]] = [[] for _ in truths]
    for label, path in enumerate(_result_paths(folder, prefix, classes), start=1):
        if not path.is_file():
            raise ValueError(f"{path}: no such file; give a class without detections an empty one")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                image, values = _parse(line, images, f"{path}:{number}")
                rows[image].append((label, *values))
    return [_from_rows(*pair) for pair in zip(rows, sizes_px(truths), strict=True)]


def _image_ids(truths: Sequence[Truth]) -> list[str]:
    names = [truth.name for truth in truths]
    for number, name in enumerate(names):
        if not name or name.split() != [name]:
            where = f"truth of {describe_image(number, truths)}"
            raise ValueError(f"{where}: name must be non-empty and without blanks")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"truths: name {twice!r} belongs to several images; result files need one each")
    return names


def _result_paths(folder: str | os.PathLike[str], prefix: str, classes: Sequence[str]) -> list[Path]:
    for name in classes:
        if set(name) & set("/\\\0"):
            raise ValueError(f"classes: {name!r} cannot be part of a file name")
    return [Path(folder) / f"{prefix}{name}.txt" for name in classes]


def _parse(line: str, images: dict[str, int], where: str) -> tuple[int, list[float]]:
    image_id, *texts = line.split()
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = []
    if len(values) != 5 or not all(map(math.isfinite, values)):
        raise ValueError(f"{where}: expected `image_id score xmin ymin xmax ymax`, got {line!r}")
    if image_id not in images:
        raise ValueError(f"{where}: image_id {image_id!r} is not among the names of the truths")
    return images[image_id], values


def _from_rows(rows: list[tuple[float, ...]], size: np.ndarray) -> DetectionArrays:
    """Rows of label, score and pixel box; size (4,) is width, height, width, height."""
    values = np.array(rows, float).reshape(-1, 6)
    return DetectionArrays(values[:, 2:] / size, values[:, 1], values[:, 0].astype(np.int64))
