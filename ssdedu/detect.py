"""From thousands of guesses to a few boxes: softmax, decode, per-class suppression, the best of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssdedu import boxes as box_ops

__all__ = ["Detections", "detect"]

_IOUS_AT_ONCE = 20 * 400 * 400  # entries of IoU tables held in memory: 20 classes of 400 candidates


@dataclass(frozen=True)
class Detections:
    """The detections of one image, best score first.

    boxes_xyxy (N, 4) fractions of the image, within [0, 1]; scores (N,); labels (N,) int64, 1 .. C - 1.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Detections:
        """The detections with a score above `score`."""
        keep = self.scores > score
        return Detections(self.boxes_xyxy[keep], self.scores[keep], self.labels[keep])

    def cpu(self) -> Detections:
        """The same detections in the CPU's memory."""
        return Detections(self.boxes_xyxy.cpu(), self.scores.cpu(), self.labels.cpu())


@torch.no_grad()
def detect(
    offsets: Tensor,
    logits: Tensor,
    priors_cxcywh: Tensor,
    variances: Sequence[float] = box_ops.VARIANCES,
    *,
    score_threshold: float = 0.01,
    candidates_per_class: int = 400,
    iou_threshold: float = 0.45,
    max_detections: int = 200,
) -> list[Detections]:
    """Detections of each image from offsets (B, P, 4) and logits (B, P, C) at default boxes (P, 4).

    Caffe's DetectionOutputLayer (Sec. 3.7, "Inference time"): softmax; per class the candidates_per_class
    best scores above score_threshold; greedy suppression of IoU > iou_threshold on unclipped boxes; the
    max_detections best of the image over all classes; boxes clipped to the image at the very end. Equal
    scores go in order of the default boxes. Raises ValueError where the shapes do not fit or a number is
    not finite.
    """
    _check_shapes(offsets, logits, priors_cxcywh)
    _check_options(candidates_per_class, max_detections)
    _check_finite(offsets=offsets, logits=logits)
    scores = logits.float().softmax(-1)[..., 1:].transpose(1, 2)  # (B, C - 1, P)
    boxes_xyxy = box_ops.decode(offsets.float(), priors_cxcywh, variances)  # (B, P, 4)
    scores, index = _candidates(scores, candidates_per_class, score_threshold)  # (B, C - 1, K)
    image = torch.arange(len(boxes_xyxy), device=index.device)[:, None, None]
    candidates = boxes_xyxy[image, index]  # (B, C - 1, K, 4)
    keep = _suppress(candidates.flatten(0, 1), (scores > score_threshold).flatten(0, 1), iou_threshold)
    scores = scores.masked_fill(~keep.view_as(scores), 0)
    return [_best(b, s, max_detections) for b, s in zip(candidates, scores, strict=True)]


def _check_shapes(offsets: Tensor, logits: Tensor, priors: Tensor) -> None:
    good = offsets.dim() == 3 and offsets.shape[1:] == priors.shape and logits.shape[:2] == offsets.shape[:2]
    if not good:
        raise ValueError(
            "expected offsets (B, P, 4), logits (B, P, C) and priors (P, 4), got "
            f"{tuple(offsets.shape)}, {tuple(logits.shape)}, {tuple(priors.shape)}"
        )


def _check_options(candidates_per_class: int, max_detections: int) -> None:
    for name, value in (("candidates_per_class", candidates_per_class), ("max_detections", max_detections)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")


def _check_finite(**outputs: Tensor) -> None:
    for name, values in outputs.items():
        if not values.isfinite().all():
            raise ValueError(f"{name} are not all finite: the weights are broken; take an earlier checkpoint")


def _candidates(scores: Tensor, most: int, threshold: float) -> tuple[Tensor, Tensor]:
    """The best scores (B, C - 1, K) and their default boxes, best first; K no larger than any class needs."""
    passed = int((scores > threshold).sum(-1).max()) if scores.numel() else 0
    last = scores.shape[-1] - 1
    backwards = torch.arange(last, -1, -1, device=scores.device)
    keys = (
        scores.contiguous().view(torch.int32).long() << 32
    ) | backwards  # positive floats sort as integers
    index = last - (keys.topk(min(most, passed), dim=-1).values & 0xFFFFFFFF)
    return scores.gather(-1, index), index


def _suppress(boxes_xyxy: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Mask of what greedy suppression keeps in each row of boxes (R, K, 4), some rows at a time."""
    rows = max(1, _IOUS_AT_ONCE // max(1, valid.shape[1] ** 2))
    parts = zip(boxes_xyxy.split(rows), valid.split(rows), strict=True)
    return torch.cat([box_ops.nms_sorted(b, iou_threshold, v) for b, v in parts])


def _best(boxes_xyxy: Tensor, scores: Tensor, most: int) -> Detections:
    """The best of one image over classes: boxes (C - 1, K, 4), scores (C - 1, K) with 0 for dropped ones."""
    label, rank = (scores > 0).nonzero(as_tuple=True)
    order = scores[label, rank].argsort(descending=True, stable=True)[:most]
    label, rank = label[order], rank[order]
    return Detections(box_ops.clip(boxes_xyxy[label, rank]), scores[label, rank], label + 1)
