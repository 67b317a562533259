"""A picture with its detections and a slider over their score."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import numpy as np
import traitlets
from PIL import Image

from ssdedu.detect import Detections
from ssdedu.evaluate import evaluate_voc
from ssdedu.sample import Sample

__all__ = ["Counts", "ScoreExplorer"]

_HERE = Path(__file__).parent


class Counts(NamedTuple):
    """Boxes shown; of these correct and wrong; objects missed."""

    shown: int
    correct: int
    wrong: int
    missed: int


class ScoreExplorer(anywidget.AnyWidget):
    """One image with its detections: a slider sets the score above which they are shown, counts follow.

    sample: the image with its true objects; detections: of that image; classes: names of labels 1 .. C - 1.
    A detection is correct as VOC counts it (`evaluate.evaluate_voc`). `threshold` is in step with the slider.
    """

    _esm = _HERE / "score_explorer.js"
    _css = _HERE / "explorer.css"
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
            image=_data_url(sample.image),
            size_px=[width_px, height_px],
            detections=_described(sample, detections, classes),
            objects=[_box(b, classes[n - 1]) for b, n in zip(sample.boxes_xyxy, sample.labels, strict=True)],
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


def _data_url(image: np.ndarray) -> str:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()


def _box(box_xyxy: Any, name: str) -> dict[str, Any]:
    return {"box": [round(float(v), 5) for v in box_xyxy], "name": name}


def _described(sample: Sample, found: Detections, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Each detection with its class, score and whether it is a true positive, best score first."""
    curves = evaluate_voc([found], [sample.truth], classes).curves
    hits = {int(i) for c in curves for i in c.index[c.true_positive]}
    rows = zip(found.boxes_xyxy, found.scores.tolist(), found.labels.tolist(), strict=True)
    described = [
        {**_box(b, classes[n - 1]), "score": s, "kind": n - 1, "correct": i in hits}
        for i, (b, s, n) in enumerate(rows)
    ]
    return sorted(described, key=lambda d: -d["score"])
