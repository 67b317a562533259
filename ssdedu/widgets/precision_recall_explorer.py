"""The ranked detections of a class beside its precision-recall curve, and a slider over the score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import traitlets

from ssdedu.evaluate import METRICS, Curve, DetectionsLike, Evaluation, average_precision, evaluate_voc
from ssdedu.sample import Truth
from ssdedu.widgets.base import Explorer, bundle

__all__ = ["IOU_THRESHOLDS", "Point", "PrecisionRecallExplorer"]

IOU_THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))  # COCO's ten


class Point(NamedTuple):
    """A point of a curve: detections kept, what they count as, objects missed, precision and recall."""

    kept: int
    true_positive: int
    false_positive: int
    ignored: int
    missed: int
    precision: float
    recall: float

    def __str__(self) -> str:
        counts = f"{self.true_positive} true, {self.false_positive} false, {self.missed} missed"
        return f"{counts}, precision {self.precision:.3f}, recall {self.recall:.3f}"


class PrecisionRecallExplorer(Explorer):
    """The ranked detections of one class, its precision-recall curve, and a score threshold on both.

    detections, truths: one entry for each image; classes: names of labels 1 .. C - 1, as for
    `evaluate.evaluate_voc`, which judges once for each of IOU_THRESHOLDS. In step with the controls: `kind`
    (the class), `threshold` (kept are scores of at least this), `iou_threshold` (one of IOU_THRESHOLDS) and
    `metric` ("voc07": 11 points, or "area"). Raises ValueError for a class or a number that is none of these.
    """

    _esm = bundle("precision_recall_explorer.js")
    curves = traitlets.List(traitlets.Dict()).tag(sync=True)
    iou_thresholds = traitlets.List(traitlets.Float()).tag(sync=True)
    kind = traitlets.Unicode().tag(sync=True)
    threshold = traitlets.Float(0.5).tag(sync=True)
    iou_threshold = traitlets.Float(0.5).tag(sync=True)
    metric = traitlets.Unicode("voc07").tag(sync=True)

    def __init__(
        self,
        detections: Sequence[DetectionsLike],
        truths: Sequence[Truth],
        classes: Sequence[str],
        kind: str | None = None,
        **state: Any,
    ) -> None:
        self._evaluations = {
            t: evaluate_voc(detections, truths, classes, iou_threshold=t) for t in IOU_THRESHOLDS
        }
        super().__init__(
            curves=_described(self._evaluations),
            iou_thresholds=list(IOU_THRESHOLDS),
            kind=classes[0] if kind is None else kind,
            **state,
        )

    def curve(self) -> Curve:
        """The curve that is shown: of the chosen class, judged at the chosen IoU threshold."""
        evaluation = self._evaluations[self.iou_threshold]
        return evaluation.curves[evaluation.classes.index(self.kind)]

    def point(self, threshold: float | None = None) -> Point:
        """Where a score threshold, the slider's by default, lies on the curve; recall is nan without objects."""
        limit = self.threshold if threshold is None else threshold
        curve, described = self.curve(), next(c for c in self.curves if c["name"] == self.kind)
        kept = sum(score >= limit for score in described["scores"])
        flags = (curve.true_positive, curve.false_positive, curve.ignored)
        true, false, ignored = (int(flag[:kept].sum()) for flag in flags)
        nothing = 0.0 if curve.num_objects else math.nan
        precision, recall = (curve.precision, curve.recall) if kept else ([0.0], [nothing])
        missed = curve.num_objects - true
        return Point(kept, true, false, ignored, missed, float(precision[kept - 1]), float(recall[kept - 1]))

    def average_precision(self, metric: str | None = None) -> float:
        """AP of the curve that is shown, by the chosen metric unless another is given."""
        curve = self.curve()
        flags = curve.true_positive, curve.false_positive
        return average_precision(*flags, curve.num_objects, metric or self.metric)

    @traitlets.validate("kind")
    def _known_class(self, proposal: Mapping[str, Any]) -> str:
        return _one_of("kind", proposal["value"], [c["name"] for c in self.curves])

    @traitlets.validate("metric")
    def _known_metric(self, proposal: Mapping[str, Any]) -> str:
        return _one_of("metric", proposal["value"], METRICS)

    @traitlets.validate("iou_threshold")
    def _known_iou(self, proposal: Mapping[str, Any]) -> float:
        return _one_of("iou_threshold", round(proposal["value"], 6), IOU_THRESHOLDS)

    @traitlets.validate("threshold")
    def _finite(self, proposal: Mapping[str, Any]) -> float:
        if not math.isfinite(proposal["value"]):
            raise ValueError(f"threshold must be a finite score, not {proposal['value']}")
        return float(proposal["value"])

    def __repr__(self) -> str:
        objects = sum(c["num_objects"] for c in self.curves)
        return f"PrecisionRecallExplorer: {len(self.curves)} classes, {objects} objects"


def _one_of(name: str, value: Any, known: Sequence[Any]) -> Any:
    if value not in known:
        raise ValueError(f"{name} must be one of {list(known)}, not {value!r}")
    return value


def _described(evaluations: Mapping[float, Evaluation]) -> list[dict[str, Any]]:
    """Each class as the page knows it; marks: for each IoU threshold one letter for each detection."""
    return [
        {
            "name": curves[0].name,
            "num_objects": curves[0].num_objects,
            "scores": [float(f"{score:.9g}") for score in curves[0].scores],  # all that a float32 holds
            "marks": [_letters(curve) for curve in curves],
        }
        for curves in zip(*(evaluation.curves for evaluation in evaluations.values()), strict=True)
    ]


def _letters(curve: Curve) -> str:
    """T for true positive, F for false positive, I for ignored, best score first."""
    return "".join(np.array(list("FTI"))[curve.true_positive + 2 * curve.ignored])
