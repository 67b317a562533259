"""Boxes of many images, detections or truths, checked and stacked into one table for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssdedu.sample import Truth

__all__ = ["BoxTable", "describe_image", "read_boxes", "sizes_px"]


@dataclass(frozen=True)
class BoxTable:
    """The boxes of all images below each other: image, index in it, pixel box, label, score or flag."""

    image: np.ndarray
    index: np.ndarray
    boxes_px: np.ndarray
    labels: np.ndarray
    extra: np.ndarray


def read_boxes(
    items: Sequence[Any], truths: Sequence[Truth], classes: Sequence[str], what: str, extra: str
) -> BoxTable:
    """Check boxes, labels and the field `extra` ("scores" or "difficult") of all images, and stack them.

    items: detections or truths, one for each of `truths`; what: their name in messages. Raises ValueError
    naming image and field.
    """
    if len(items) != len(truths):
        raise ValueError(f"{what}: {len(items)} images, but truths: {len(truths)}; give one entry per image")
    if not len(classes) or len(set(classes)) != len(classes):
        raise ValueError(f"classes: give at least one name, all different, not {list(classes)}")
    columns: list[list[np.ndarray]] = [[np.zeros((0, 4))], [np.zeros(0, int)], [np.zeros(0, np.float32)]]
    for number, item in enumerate(items):
        arrays = _arrays(item, ("boxes_xyxy", "labels", extra), f"{what} of {describe_image(number, truths)}")
        for column, array in zip(columns, arrays, strict=True):
            column.append(array)
    boxes, labels, extras = (np.concatenate(column) for column in columns)
    extras = extras.astype(bool) if extra == "difficult" else extras
    counts = np.array([len(array) for array in columns[1][1:]], int)
    image = np.repeat(np.arange(len(items)), counts)
    index = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
    boxes_px = boxes * np.repeat(sizes_px(truths), counts, axis=0)
    table = BoxTable(image, index, boxes_px, labels.astype(np.int64), extras)
    _refuse(~np.isfinite(boxes), table, truths, f"{what}: boxes_xyxy must be finite")
    _refuse(~np.isfinite(extras), table, truths, f"{what}: {extra} must be finite")
    wrong = (labels < 1) | (labels > len(classes))
    _refuse(wrong, table, truths, f"{what}: labels must be 1 .. {len(classes)} (0 is background)")
    return table


def describe_image(number: int, truths: Sequence[Truth]) -> str:
    """What messages call image `number`."""
    return f"image {number} ({truths[number].name!r})"


def sizes_px(truths: Sequence[Truth]) -> np.ndarray:
    """(images, 4) float64: width, height, width, height in pixels; ValueError unless all are positive."""
    sizes = np.array([(t.width_px, t.height_px) * 2 for t in truths], float).reshape(-1, 4)
    bad = np.flatnonzero(~(sizes > 0).all(1))
    if len(bad):
        where = f"truth of {describe_image(bad[0], truths)}"
        raise ValueError(f"{where}: width_px and height_px must be positive")
    return sizes


def _arrays(item: Any, fields: Sequence[str], where: str) -> list[np.ndarray]:
    boxes, labels, extra = (_array(item, field, where) for field in fields)
    number = labels.size
    arrays = [boxes.reshape(0, 4) if boxes.size == number == 0 else boxes, labels, extra]
    for field, array, shape in zip(fields, arrays, ((number, 4), (number,), (number,)), strict=True):
        if array.shape != shape:
            raise ValueError(f"{where}: {field} has shape {array.shape}, expected {shape}")
    if number and labels.dtype.kind not in "iu":
        raise ValueError(f"{where}: labels must be integers, not {labels.dtype}")
    return arrays


def _array(item: Any, field: str, where: str) -> np.ndarray:
    try:
        return np.asarray(getattr(item, field))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{where}: {field} is no array; move it to the CPU, as float32 ({error})") from error


def _refuse(bad: np.ndarray, table: BoxTable, truths: Sequence[Truth], message: str) -> None:
    """Raise for the first row in which anything is bad."""
    if bad.any():
        row = int(bad.reshape(len(bad), -1).any(1).argmax())
        where = f"{describe_image(table.image[row], truths)}, entry {table.index[row]} of its"
        raise ValueError(f"{where} {message}")
