"""What a detector gets wrong: the kind of each detection, after Hoiem et al., and what keeps objects from it.

D. Hoiem, Y. Chodpathumwan, Q. Dai, "Diagnosing Error in Object Detectors" (ECCV 2012): the analysis behind
Sec. 3.1, Fig. 3 and Fig. 4 of the SSD paper.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssdedu.box_table import BoxTable, read_boxes
from ssdedu.evaluate import (
    DetectionsLike,
    Evaluation,
    SizeRecall,
    average_precision,
    best_object,
    evaluate_voc,
    iou_px,
    judge,
    recall_in_bins,
)
from ssdedu.sample import Truth

__all__ = [
    "KINDS",
    "SIMILAR_VOC",
    "Diagnosis",
    "ap_without",
    "confusion_matrix",
    "diagnose",
    "reachable_iou",
    "recall_by_ratio",
    "similar_classes",
]

KINDS = ("correct", "localisation", "similar", "other", "background", "ignored")
IGNORED = KINDS.index("ignored")
WEAK_IOU = 0.1
SIMILAR_VOC = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)


@dataclass(frozen=True)
class Diagnosis:
    """All D detections of all classes, best score first, and what each of them is.

    scores, labels, image, index (D,): as in `Curve`; kind (D,): places in KINDS; num_objects (C - 1,): objects
    of each class that are not difficult.
    """

    scores: np.ndarray
    labels: np.ndarray
    image: np.ndarray
    index: np.ndarray
    kind: np.ndarray
    num_objects: np.ndarray

    def counts(self, min_score: float = -math.inf) -> dict[str, int]:
        """Number of detections of each kind with a score of at least min_score."""
        numbers = np.bincount(self.kind[self.scores >= min_score], minlength=len(KINDS))
        return dict(zip(KINDS, numbers.tolist(), strict=True))

    def cumulative_shares(self) -> np.ndarray:
        """(D, 5) shares of the first five KINDS among the detections down to each rank, as in Fig. 3.

        Hits of difficult objects count for nothing; rows before the first other detection are 0.
        """
        numbers = np.cumsum(self.kind[:, None] == np.arange(IGNORED), axis=0)
        return numbers / np.maximum(numbers.sum(1, keepdims=True), 1)


def diagnose(
    detections: Sequence[DetectionsLike],
    truths: Sequence[Truth],
    classes: Sequence[str],
    similar: Sequence[Collection[str]] = (),
    iou_threshold: float = 0.5,
    weak_iou: float = WEAK_IOU,
    plus_one: bool = True,
) -> Diagnosis:
    """The kind of each detection; the inputs are those of `evaluate_voc`, `similar` is as in `similar_classes`.

    "correct": a true positive of `evaluate_voc`; "ignored": a hit of a difficult object. Each false positive is
    the first of these that holds, where difficult objects count like all others: "localisation", IoU of at
    least weak_iou with an object of its class (so too low, or the object was found already); "similar", that
    IoU with an object of a similar class; "other", with an object of any other class; "background".
    Raises ValueError naming image and field.
    """
    evaluation = evaluate_voc(detections, truths, classes, iou_threshold=iou_threshold, plus_one=plus_one)
    found = read_boxes(detections, truths, classes, "detections", "scores")
    objects = read_boxes(truths, truths, classes, "truth", "difficult")
    hit, ignored = _verdicts(evaluation, found)
    meets = _meets(found, objects, len(classes), weak_iou, plus_one)
    own = found.labels - 1
    akin = similar_classes(classes, similar)[own]
    holds = (hit, meets[np.arange(len(own)), own], (meets & akin).any(1), meets.any(1))
    kind = np.select([ignored, *holds], [IGNORED, 0, 1, 2, 3], KINDS.index("background"))
    order = np.argsort(-found.extra, kind="stable")
    columns = (found.extra, found.labels, found.image, found.index, kind)
    scores, labels, image, index, kind = (column[order] for column in columns)
    numbers = np.array([curve.num_objects for curve in evaluation.curves])
    return Diagnosis(scores, labels, image, index, kind, numbers)


def _verdicts(evaluation: Evaluation, found: BoxTable) -> tuple[np.ndarray, np.ndarray]:
    """True positives and ignored detections, as masks over the rows of `found`."""
    first = np.searchsorted(found.image, np.arange(found.image.max(initial=0) + 1))
    masks = np.zeros((2, len(found.image)), bool)
    for curve in evaluation.curves:
        rows = first[curve.image] + curve.index
        masks[:, rows] = curve.true_positive, curve.ignored
    return masks[0], masks[1]


def _meets(
    found: BoxTable, objects: BoxTable, num_classes: int, weak_iou: float, plus_one: bool
) -> np.ndarray:
    """(D, C - 1): whether a detection has an IoU of at least weak_iou with some object of each class."""
    meets = np.zeros((len(found.labels), num_classes), bool)
    for label in range(1, num_classes + 1):
        asked = replace(found, labels=np.full_like(found.labels, label))
        meets[:, label - 1] = best_object(asked, objects, int(plus_one))[0] >= weak_iou
    return meets


def similar_classes(classes: Sequence[str], similar: Sequence[Collection[str]]) -> np.ndarray:
    """(C - 1, C - 1) bool: whether two different classes stand together in one of the groups `similar`.

    Groups may share classes, as `SIMILAR_VOC` does. Raises ValueError for a name that is no class.
    """
    akin = np.zeros((len(classes), len(classes)), bool)
    for group in similar:
        unknown = sorted(set(group) - set(classes))
        if unknown:
            raise ValueError(f"similar: {unknown[0]!r} is none of the classes {list(classes)}")
        members = np.isin(classes, list(group))
        akin |= members[:, None] & members
    return akin & ~np.eye(len(classes), dtype=bool)


def ap_without(diagnosis: Diagnosis, kinds: Collection[str], metric: str = "voc07") -> np.ndarray:
    """(C - 1,) average precision if no detection of these kinds had been made; nan without objects.

    With `diagnose(..., iou_threshold=0.1)` and kinds ("localisation",): the AP if every box of the right class
    that touches its object fitted, and each object were found once. Raises ValueError for an unknown kind.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"kinds must be some of {KINDS}, not {unknown[0]!r}")
    stays = ~np.isin(diagnosis.kind, [KINDS.index(kind) for kind in kinds])
    correct, counts = diagnosis.kind == 0, diagnosis.kind != IGNORED
    ap = []
    for label, number in enumerate(diagnosis.num_objects.tolist(), start=1):
        rows = stays & (diagnosis.labels == label)
        ap.append(average_precision(correct[rows], (counts & ~correct)[rows], number, metric))
    return np.array(ap, float)


def confusion_matrix(
    detections: Sequence[DetectionsLike],
    truths: Sequence[Truth],
    classes: Sequence[str],
    min_score: float = 0.5,
    iou_threshold: float = 0.5,
    plus_one: bool = True,
) -> np.ndarray:
    """(C, C) whole numbers: objects by their label (row) and by the label of their best detection (column).

    Of the detections with a score of at least min_score, each belongs to the object of any class with the
    highest IoU, where that reaches iou_threshold; the best-scored one names its object. Column 0: objects
    without a detection; row 0: detections without an object, by their label. Difficult objects and further
    detections of an object count nowhere. Raises ValueError naming image and field.
    """
    found = read_boxes(detections, truths, classes, "detections", "scores")
    objects = read_boxes(truths, truths, classes, "truth", "difficult")
    order = np.argsort(-found.extra, kind="stable")
    order = order[found.extra[order] >= min_score]
    of_any = [replace(table, labels=np.zeros_like(table.labels)) for table in (found, objects)]
    iou, owner = (array[order] for array in best_object(of_any[0], of_any[1], int(plus_one)))
    hit, labels = iou >= iou_threshold, found.labels[order]
    names = judge(hit, owner, objects.extra)[0]
    seen_as = np.zeros_like(objects.labels)
    seen_as[owner[names]] = labels[names]
    matrix = np.zeros((len(classes) + 1,) * 2, int)
    np.add.at(matrix, (objects.labels[~objects.extra], seen_as[~objects.extra]), 1)
    np.add.at(matrix[0], labels[~hit], 1)
    return matrix


def recall_by_ratio(
    evaluation: Evaluation,
    truths: Sequence[Truth],
    edges: Sequence[float] = (0, 0.5, 0.75, 4 / 3, 2, math.inf),
    min_score: float = -math.inf,
) -> list[SizeRecall]:
    """Recall of the objects in each bin of width over height in pixels: `recall_by_size` for aspect ratios.

    truths: those that were evaluated. An object without height has the ratio inf, and no bin.
    """
    objects = read_boxes(truths, truths, evaluation.classes, "truth", "difficult")
    width, height = (objects.boxes_px[:, 2:] - objects.boxes_px[:, :2]).T
    ratio = np.divide(width, height, out=np.full(len(width), math.inf), where=height > 0)
    return recall_in_bins(evaluation.objects, ratio, edges, min_score)


def reachable_iou(truths: Sequence[Truth], default_boxes_xyxy: np.ndarray) -> np.ndarray:
    """(G,) best IoU of any default box (P, 4) with each object, in the order of `Evaluation.objects`.

    All boxes are fractions of their image; no +1, as in matching (Sec. 2.2).
    """
    boxes = np.asarray(default_boxes_xyxy, float).reshape(-1, 4)
    objects = [np.asarray(box, float) for truth in truths for box in truth.boxes_xyxy]
    best = [iou_px(np.broadcast_to(box, boxes.shape), boxes, 0).max(initial=0) for box in objects]
    return np.array(best, float)
