"""How good detections are: the average precision of PASCAL VOC, and recall by size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from ssdedu.box_table import BoxTable, read_boxes, sizes_px
from ssdedu.sample import Truth

__all__ = [
    "Curve",
    "DetectionArrays",
    "DetectionsLike",
    "Evaluation",
    "Objects",
    "SizeRecall",
    "average_precision",
    "best_object",
    "evaluate_voc",
    "iou_px",
    "judge",
    "recall_by_size",
    "recall_in_bins",
]

METRICS = ("voc07", "area")


class DetectionsLike(Protocol):
    """The detections of one image: numpy arrays or CPU tensors.

    boxes_xyxy (N, 4) fractions of the image; scores (N,); labels (N,) integers, 1 .. C - 1.
    """

    @property
    def boxes_xyxy(self) -> Any: ...  # noqa: D102
    @property
    def scores(self) -> Any: ...  # noqa: D102
    @property
    def labels(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class DetectionArrays:
    """Detections of one image as arrays: what `comp3.read_comp3` gives. Fields as in DetectionsLike."""

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Curve:
    """All D detections of one class, best score first, and what each counted as.

    scores (D,); true_positive, false_positive, ignored (D,) bool, one of which is True; image (D,) and
    index (D,): the image and the detection's place in it; num_objects: objects that are not difficult.
    """

    name: str
    num_objects: int
    scores: np.ndarray
    true_positive: np.ndarray
    false_positive: np.ndarray
    ignored: np.ndarray
    image: np.ndarray
    index: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """(D,) share of the objects found down to each detection; nan when there are no objects."""
        return np.cumsum(self.true_positive) / (self.num_objects or math.nan)

    @property
    def precision(self) -> np.ndarray:
        """(D,) share of true positives down to each detection; 0 before the first that counts."""
        return _precision(self.true_positive, self.false_positive)


@dataclass(frozen=True)
class Objects:
    """All G objects of the truths, in their order, and how each was found.

    image, labels (G,); difficult (G,) bool; side (G,): square root of the area as a fraction of the image's;
    side_px (G,): the same in pixels; score (G,): of the true positive that found it, nan when missed.
    """

    image: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    side: np.ndarray
    side_px: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Average precision: ap (C - 1,), nan for a class without objects, with a Curve for each class."""

    classes: tuple[str, ...]
    metric: str
    iou_threshold: float
    ap: np.ndarray
    curves: tuple[Curve, ...]
    objects: Objects

    @property
    def mean_ap(self) -> float:
        """Mean over the classes that have objects; nan when none has."""
        present = self.ap[~np.isnan(self.ap)]
        return float(present.mean()) if len(present) else math.nan

    @property
    def by_class(self) -> dict[str, float]:
        """AP of each class by its name."""
        return dict(zip(self.classes, self.ap.tolist(), strict=True))

    @property
    def num_objects(self) -> int:
        """Number of objects that are not difficult."""
        return sum(curve.num_objects for curve in self.curves)

    def as_dict(self) -> dict[str, Any]:
        """The numbers for a JSON file; nan becomes None."""
        values = {name: None if math.isnan(ap) else ap for name, ap in self.by_class.items()}
        mean = None if math.isnan(self.mean_ap) else self.mean_ap
        settings = {"metric": self.metric, "iou_threshold": self.iou_threshold}
        return {**settings, "mean_ap": mean, "ap": values, "num_objects": self.num_objects}


class SizeRecall(NamedTuple):
    """Objects whose side (or what else was binned) lies in [low, high): how many, how many found, the quotient."""

    low: float
    high: float
    num_objects: int
    num_found: int
    recall: float


def evaluate_voc(
    detections: Sequence[DetectionsLike],
    truths: Sequence[Truth],
    classes: Sequence[str],
    metric: str = "voc07",
    iou_threshold: float = 0.5,
    plus_one: bool = True,
) -> Evaluation:
    """Average precision per class and its mean, by the rules of the PASCAL VOC development kit.

    One entry of `detections` and `truths` for each image; `classes` names labels 1, 2, ... A detection
    belongs to the object of its class and image with the highest IoU, the first of equals. It hits at
    iou_threshold; the best-scored hit of an object is the true positive, further ones are false positives,
    hits of difficult objects are ignored. Equal scores keep the order of the images and within them.
    metric "voc07" averages precision at 11 recalls (VOC2007, ssd_pascal.py), "area" is the area under
    the curve (VOC2010 and later). plus_one measures pixel boxes from first to last pixel inclusive as the
    development kit does; False gives the plain IoU, as Caffe's DetectionEvaluate layer without a name_size_file.
    Raises ValueError naming image and field.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {METRICS}, not {metric!r}")
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be above 0 and at most 1, not {iou_threshold!r}")
    objects = read_boxes(truths, truths, classes, "truth", "difficult")
    found = read_boxes(detections, truths, classes, "detections", "scores")
    iou, best = best_object(found, objects, int(plus_one))
    order = _best_first(found.extra, found.labels)
    ends = np.cumsum(np.bincount(found.labels, minlength=len(classes) + 1))[1:-1]
    scores, owner = found.extra[order], best[order]
    verdict = judge((iou >= iou_threshold)[order], owner, objects.extra)
    ranked = (scores, *verdict, found.image[order], found.index[order])
    numbers = np.bincount(objects.labels[~objects.extra], minlength=len(classes) + 1)[1:].tolist()
    columns = zip(*(np.split(array, ends) for array in ranked), strict=True)
    curves = tuple(Curve(*head, *arrays) for *head, arrays in zip(classes, numbers, columns, strict=True))
    ap = [average_precision(c.true_positive, c.false_positive, c.num_objects, metric) for c in curves]
    score = np.full(len(objects.labels), np.nan)
    score[owner[verdict[0]]] = scores[verdict[0]]
    described = Objects(objects.image, objects.labels, objects.extra, *_sides(objects, truths), score)
    return Evaluation(tuple(classes), metric, iou_threshold, np.array(ap, float), curves, described)


def average_precision(
    true_positive: np.ndarray, false_positive: np.ndarray, num_objects: int, metric: str = "voc07"
) -> float:
    """Average precision of detections ranked best first, each with two flags (D,); nan without objects.

    "voc07": the mean over recalls j / 10, j = 0 .. 10, of the best precision at that recall or a higher one,
    compared in integers, since 0.1 * 3 > 0.3 in floating point loses recalls reached exactly. "area": every
    true positive raises the recall by 1 / num_objects, at the best precision from there on.
    """
    if num_objects == 0:
        return math.nan
    precision = _precision(true_positive, false_positive)
    best_onward = np.maximum.accumulate(precision[::-1])[::-1]
    if metric == "area":
        return float(best_onward[np.asarray(true_positive, bool)].sum() / num_objects)
    reached = np.searchsorted(10 * np.cumsum(true_positive), np.arange(11) * num_objects)
    return float(np.append(best_onward, 0.0)[reached].sum() / 11)


def recall_by_size(
    evaluation: Evaluation,
    edges: Sequence[float] = (0, 0.1, 0.2, 0.4, math.inf),
    unit: str = "fraction",
    min_score: float = -math.inf,
) -> list[SizeRecall]:
    """Recall of the objects in each bin of size, difficult ones left out; nan for an empty bin.

    Size is the square root of the area, as a fraction of the image's ("fraction") or in "pixels" (there,
    edges 0, 32, 96, inf are COCO's small, medium and large). Detections below min_score do not count.
    """
    if unit not in ("fraction", "pixels"):
        raise ValueError(f"unit must be 'fraction' or 'pixels', not {unit!r}")
    objects = evaluation.objects
    side = objects.side if unit == "fraction" else objects.side_px
    return recall_in_bins(objects, side, edges, min_score)


def recall_in_bins(
    objects: Objects, values: np.ndarray, edges: Sequence[float], min_score: float = -math.inf
) -> list[SizeRecall]:
    """Recall of the objects whose values (G,) lie in each bin between edges, as `recall_by_size` gives it."""
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges must be at least two increasing numbers, not {edges!r}")
    if np.shape(values) != objects.labels.shape:
        raise ValueError(f"values: {np.shape(values)}, but {len(objects.labels)} objects; give one for each")
    bins = []
    for low, high in pairwise(edges):
        inside = ~objects.difficult & (values >= low) & (values < high)
        number, hits = int(inside.sum()), int((objects.score[inside] >= min_score).sum())
        bins.append(SizeRecall(low, high, number, hits, hits / number if number else math.nan))
    return bins


def best_object(found: BoxTable, objects: BoxTable, plus_one: int) -> tuple[np.ndarray, np.ndarray]:
    """IoU and row of the object that each detection belongs to; 0 and -1 where it overlaps none.

    All detections meet the first object of their image and class at once, then all the second, and so on.
    """
    group, object_group, groups = _groups(found, objects)
    order = np.argsort(object_group, kind="stable")
    numbers = np.bincount(object_group, minlength=groups)
    iou, best = np.zeros(len(group)), np.full(len(group), -1)
    rows = np.flatnonzero(numbers[group])
    number, first = numbers[group[rows]], (np.cumsum(numbers) - numbers)[group[rows]]
    for k in range(numbers.max(initial=0)):
        more = number > k
        rows, number, first = rows[more], number[more], first[more]
        candidate = order[first + k]
        overlap = iou_px(found.boxes_px[rows], objects.boxes_px[candidate], plus_one)
        better = overlap > iou[rows]
        iou[rows[better]], best[rows[better]] = overlap[better], candidate[better]
    return iou, best


def _groups(found: BoxTable, objects: BoxTable) -> tuple[np.ndarray, np.ndarray, int]:
    """One number for each pair of image and class, for the rows of both tables, and how many there can be."""
    images, stride = (
        1 + max(int(column.max(initial=0)) for column in columns)
        for columns in ((found.image, objects.image), (found.labels, objects.labels))
    )
    numbers = (table.image * stride + table.labels for table in (found, objects))
    return *numbers, images * stride


def iou_px(a: np.ndarray, b: np.ndarray, plus_one: int) -> np.ndarray:
    """IoU of box i of a with box i of b, both (N, 4) in pixels; 0 where they do not meet."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + plus_one
    wide, high = sides.T
    shared = np.where((wide > 0) & (high > 0), wide * high, 0.0)
    union = _area_px(a, plus_one) + _area_px(b, plus_one) - shared
    return np.divide(shared, union, out=np.zeros(len(a)), where=shared > 0)


def _area_px(boxes_px: np.ndarray, plus_one: int = 0) -> np.ndarray:
    x1, y1, x2, y2 = boxes_px.T
    return (x2 - x1 + plus_one) * (y2 - y1 + plus_one)


def _sides(objects: BoxTable, truths: Sequence[Truth]) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of the objects' areas (G,), as fractions of the image and in pixels."""
    side_px = np.sqrt(np.maximum(_area_px(objects.boxes_px), 0))
    return side_px / np.sqrt(sizes_px(truths)[objects.image, :2].prod(1)), side_px


def judge(hit: np.ndarray, owner: np.ndarray, difficult: np.ndarray) -> tuple[np.ndarray, ...]:
    """True positive, false positive, ignored: one is True for each detection, ranked best first."""
    hits = np.flatnonzero(hit)
    ignored, first = np.zeros_like(hit), np.zeros_like(hit)
    ignored[hits] = difficult[owner[hits]]
    first[hits[np.unique(owner[hits], return_index=True)[1]]] = True
    return first & ~ignored, ~(first | ignored), ignored


def _best_first(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows class by class, in each the best score first, equal ones in their order."""
    label = labels.astype(np.min_scalar_type(labels.max(initial=0)))
    return np.lexsort((*_falling_digits(scores), label))


def _falling_digits(scores: np.ndarray) -> list[np.ndarray]:
    """Numbers that rise as the scores fall, as digits of 16 bits, the last one first: numpy sorts those by radix.

    The bits of a float, read as a whole number, rise with it above 0 and fall below.
    """
    bits = (0.0 - scores).view(f"u{scores.itemsize}")
    sign = bits.dtype.type(1 << (8 * scores.itemsize - 1))
    rising = np.where(bits & sign, ~bits, bits | sign)
    return [(rising >> shift).astype(np.uint16) for shift in range(0, 8 * scores.itemsize, 16)]


def _precision(true_positive: np.ndarray, false_positive: np.ndarray) -> np.ndarray:
    found, wrong = np.cumsum(true_positive), np.cumsum(false_positive)
    return found / np.maximum(found + wrong, 1)
