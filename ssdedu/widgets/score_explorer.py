"""A picture with its detections and a slider over their score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import traitlets

from ssdedu.evaluate import evaluate_voc
from ssdedu.sample import Sample
from ssdedu.widgets.base import Explorer, bundle, data_url, named_box

if TYPE_CHECKING:
    from ssdedu.detect import Detections

__all__ = ["Counts", "ScoreExplorer"]


class Counts(NamedTuple):
    """Boxes shown; of these correct and wrong; objects missed."""

    shown: int
    correct: int
    wrong: int
    missed: int


class ScoreExplorer(Explorer):
    """One image with its detections: a slider sets the score above which they are shown, counts follow.

    sample: the image with its true objects; detections: of that image; classes: names of labels 1 .. C - 1.
    A detection is correct as VOC counts it (`evaluate.evaluate_voc`). `threshold` is in step with the slider.
    """

    _esm = bundle("score_explorer.js")
    image = traitlets.Unicode().tag(sync=True)
    size_px = traitlets.List(traitlets.Int()).tag(sync=True)
    detections = traitlets.List(traitlets.Dict()).tag(sync=True)
    objects = traitlets.List(traitlets.Dict()).tag(sync=True)
    threshold = traitlets.Float(0.5, min=0, max=1).tag(sync=True)

    def __init__(
        self, sample: Sample, detections: Detections, classes: Sequence[str], threshold: float = 0.5
    ) -> None:
        height_px, width_px = sample.image.shape[:2]
        super().__init__(
            image=data_url(sample.image),
            size_px=[width_px, height_px],
            detections=_described(sample, detections, classes),
            objects=[
                named_box(b, classes[n - 1]) for b, n in zip(sample.boxes_xyxy, sample.labels, strict=True)
            ],
            threshold=threshold,
        )

    def counts(self, threshold: float | None = None) -> Counts:
        """What is shown above a score, the slider's by default."""
        limit = self.threshold if threshold is None else threshold
        shown = [d["correct"] for d in self.detections if d["score"] > limit]
        correct = sum(shown)
        return Counts(len(shown), correct, len(shown) - correct, len(self.objects) - correct)

    def __repr__(self) -> str:
        return f"ScoreExplorer: {len(self.detections)} detections, {len(self.objects)} objects"


def _described(sample: Sample, found: Detections, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Each detection with its class, score and whether it is a true positive, best score first."""
    curves = evaluate_voc([found], [sample.truth], classes).curves
    hits = {int(i) for c in curves for i in c.index[c.true_positive]}
    rows = zip(found.boxes_xyxy, found.scores.tolist(), found.labels.tolist(), strict=True)
    described = [
        {**named_box(b, classes[n - 1]), "score": s, "kind": n - 1, "correct": i in hits}
        for i, (b, s, n) in enumerate(rows)
    ]
    return sorted(described, key=lambda d: -d["score"])
