"""How the score threshold and the IoU threshold of the suppression turn many guesses into few boxes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from torch import Tensor

from ssdedu import boxes
from ssdedu.sample import Sample
from ssdedu.widgets.base import Explorer, bundle, data_url

__all__ = ["Candidates", "Counts", "NmsExplorer", "Suppression"]

FOUND_IOU = 0.5
_LOWEST = 0.001  # of all floors: the page's chart of the scores is logarithmic
_SMALL = 100_000  # bytes of an image that stays a PNG
_SETTING = ("score_threshold", "iou_threshold", "kind", "agnostic")


class Candidates(NamedTuple):
    """Boxes of one image that compete, best score first; a default box comes once for each class it may be.

    boxes_xyxy (N, 4) fractions of the image, not cut at its border; scores (N,); labels (N,) 1 .. C - 1.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor


class Suppression(NamedTuple):
    """What greedy suppression did with N candidates, and which of G objects were found.

    kept (K,): candidates kept, best score first; by (N,): the kept candidate that suppressed each one, itself
    where it is kept, -1 where it took no part; found (G,): whether a kept box of the object's class has an
    IoU of 0.5 or more with it.
    """

    kept: Tensor
    by: Tensor
    found: Tensor


class Counts(NamedTuple):
    """Candidates; of these above the score; of these suppressed and kept; objects found, and all objects."""

    candidates: int
    above: int
    suppressed: int
    kept: int
    found: int
    objects: int


class NmsExplorer(Explorer):
    """One image with the guesses of a network: sliders set both thresholds, a third one replays the suppression.

    sample: the image with its objects; offsets (P, 4) and logits (P, C) at the default boxes (P, 4); classes:
    names of labels 1 .. C - 1. Candidates are, as in `detect.detect` (Sec. 3.7), the candidates_per_class best
    of each class above the score `floor`; its limit for the whole image is left out. Traits in step with the
    page: score_threshold; iou_threshold; kind, the label whose candidates compete, 0 for all; agnostic, one
    competition for all classes; step, how many boxes the replay has kept, None for all; selected, the
    candidate whose victims are shown, or None. Raises ValueError where the shapes do not fit, a number is not
    finite, or a threshold is out of range.
    """

    _esm = bundle("nms_explorer.js")
    image = traitlets.Unicode().tag(sync=True)
    size_px = traitlets.List(traitlets.Int()).tag(sync=True)
    classes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    objects = traitlets.List(traitlets.Dict()).tag(sync=True)
    packed = traitlets.Dict(traitlets.Unicode()).tag(sync=True)
    floor = traitlets.Float(0.01).tag(sync=True)
    score_threshold = traitlets.Float(0.5).tag(sync=True)
    iou_threshold = traitlets.Float(0.45).tag(sync=True)
    kind = traitlets.Int(0).tag(sync=True)
    agnostic = traitlets.Bool(False).tag(sync=True)
    step = traitlets.Int(None, allow_none=True, min=0).tag(sync=True)
    selected = traitlets.Int(None, allow_none=True, min=0).tag(sync=True)

    def __init__(
        self,
        sample: Sample,
        offsets: Tensor,
        logits: Tensor,
        priors_cxcywh: Tensor,
        classes: Sequence[str],
        variances: Sequence[float] = boxes.VARIANCES,
        *,
        score_threshold: float = 0.5,
        iou_threshold: float = 0.45,
        floor: float = 0.01,
        candidates_per_class: int = 400,
    ) -> None:
        _check(offsets, logits, priors_cxcywh, classes)
        setting = {"floor": floor, "score_threshold": score_threshold, "iou_threshold": iou_threshold}
        _check_setting(floor, len(classes), setting)
        if candidates_per_class < 1:
            raise ValueError(f"candidates_per_class must be 1 or more, got {candidates_per_class}")
        offsets, logits, priors_cxcywh = (t.detach().cpu().float() for t in (offsets, logits, priors_cxcywh))
        decoded = boxes.decode(offsets, priors_cxcywh, variances)
        self.sample, self._number = sample, len(decoded)
        self.candidates = _candidates(decoded, logits, candidates_per_class, floor)
        height_px, width_px = sample.image.shape[:2]
        super().__init__(
            image=data_url(sample.image, "PNG" if sample.image.size < _SMALL else "JPEG"),
            size_px=[width_px, height_px],
            classes=list(classes),
            objects=_objects(sample),
            packed=_packed(self.candidates),
            **setting,
        )

    @traitlets.validate("floor", "score_threshold", "iou_threshold", "kind")
    def _valid(self, proposal: Any) -> Any:
        _check_setting(self.floor, len(self.classes), {proposal["trait"].name: proposal["value"]})
        return proposal["value"]

    def suppression(self, **changes: Any) -> Suppression:
        """What the suppression does, for the present traits or with changes of some: (iou_threshold=0.9)."""
        now = self._setting(changes)
        boxes_xyxy, scores, labels = self.candidates
        taking_part = (scores > now["score_threshold"]) & _of_kind(labels, now["kind"])
        groups = torch.zeros_like(labels) if now["agnostic"] else labels
        by = torch.full_like(labels, -1)
        for group in groups[taking_part].unique():
            index = (taking_part & (groups == group)).nonzero()[:, 0]
            by[index] = index[_winners(boxes_xyxy[index], now["iou_threshold"])]
        kept = (by == torch.arange(len(by))).nonzero()[:, 0]
        return Suppression(kept, by, self._found(kept))

    def counts(self, **changes: Any) -> Counts:
        """The numbers that the page shows, for the present traits or with changes of some."""
        kind = self._setting(changes)["kind"]
        kept, by, found = self.suppression(**changes)
        above = int((by >= 0).sum())
        candidates = int(_of_kind(self.candidates.labels, kind).sum())
        objects = int(_of_kind(torch.from_numpy(self.sample.labels), kind).sum())
        return Counts(candidates, above, above - len(kept), len(kept), int(found.sum()), objects)

    def _setting(self, changes: dict[str, Any]) -> dict[str, Any]:
        unknown = set(changes) - set(_SETTING)
        if unknown:
            raise ValueError(
                f"no such setting: {', '.join(sorted(unknown))}; there are {', '.join(_SETTING)}"
            )
        _check_setting(self.floor, len(self.classes), changes)
        return {name: changes.get(name, getattr(self, name)) for name in _SETTING}

    def _found(self, kept: Tensor) -> Tensor:
        truths, labels = torch.from_numpy(self.sample.boxes_xyxy), torch.from_numpy(self.sample.labels)
        cut = boxes.clip(self.candidates.boxes_xyxy[kept])
        good = (boxes.iou(truths, cut) >= FOUND_IOU) & (labels[:, None] == self.candidates.labels[kept])
        return good.any(1)

    def __repr__(self) -> str:
        return (
            f"NmsExplorer: {self._number:,} boxes, {len(self.classes)} classes, {len(self.objects)} objects"
        )


def _check(offsets: Tensor, logits: Tensor, priors: Tensor, classes: Sequence[str]) -> None:
    if offsets.shape != priors.shape or logits.shape != (len(priors), len(classes) + 1):
        raise ValueError(
            "expected offsets (P, 4), logits (P, C), default boxes (P, 4) and C - 1 classes, got "
            f"{tuple(offsets.shape)}, {tuple(logits.shape)}, {tuple(priors.shape)} and {len(classes)} classes"
        )
    if not (offsets.isfinite().all() and logits.isfinite().all()):
        raise ValueError("offsets and logits must be finite")


def _check_setting(floor: float, num_classes: int, setting: dict[str, Any]) -> None:
    ranges = {
        "floor": (_LOWEST, 1),
        "score_threshold": (floor, 1),
        "iou_threshold": (0, 1),
        "kind": (0, num_classes),
    }
    for name in ranges.keys() & setting.keys():
        low, high = ranges[name]
        if not low <= setting[name] <= high:
            raise ValueError(f"{name} must be {low:g} to {high:g}, got {setting[name]}")


def _candidates(boxes_xyxy: Tensor, logits: Tensor, most: int, floor: float) -> Candidates:
    """As `detect.detect` chooses and orders them: equal scores by class, then by default box."""
    scores, prior = logits.softmax(-1)[:, 1:].T.sort(descending=True, stable=True)  # (C - 1, P)
    label, rank = (scores[:, :most] > floor).nonzero(as_tuple=True)
    order = scores[label, rank].argsort(descending=True, stable=True)
    label, rank = label[order], rank[order]
    return Candidates(boxes_xyxy[prior[label, rank]], scores[label, rank], label + 1)


def _objects(sample: Sample) -> list[dict[str, Any]]:
    rows = zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), strict=True)
    return [{"box": box, "label": label} for box, label in rows]


def _packed(candidates: Candidates) -> dict[str, str]:
    """The exact numbers as base64: a third of what they take in JSON, and nothing is rounded."""
    kinds = ("<f4", "<f4", "<u2")
    arrays = [c.numpy().astype(k) for c, k in zip(candidates, kinds, strict=True)]
    texts = (base64.b64encode(np.ascontiguousarray(a).tobytes()).decode() for a in arrays)
    return dict(zip(("boxes", "scores", "labels"), texts, strict=True))


def _of_kind(labels: Tensor, kind: int) -> Tensor:
    return labels == kind if kind else torch.ones_like(labels, dtype=torch.bool)


def _winners(boxes_xyxy: Tensor, iou_threshold: float) -> Tensor:
    """For each box (K, 4), best first, the kept one that drops it; itself where it is kept."""
    kept = boxes.nms_sorted(boxes_xyxy, iou_threshold).nonzero()[:, 0]
    covers = boxes.iou(boxes_xyxy[kept], boxes_xyxy) > iou_threshold
    covers[torch.arange(len(kept)), kept] = True
    return kept[covers.int().argmax(0)]
