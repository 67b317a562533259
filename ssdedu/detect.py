"""From thousands of guesses to a few boxes: softmax, decode, per-class suppression, the best of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssdedu import boxes as box_ops

__all__ = ["Detections", "detect"]

_ROWS_AT_ONCE = 160 * 400 * 400  # IoU entries held in memory: 8 images of 20 classes, 400 candidates each


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

    Caffe's DetectionOutputLayer (Sec. 3, "Inference" in 3.7): softmax; per class the candidates_per_class
    best scores above score_threshold; greedy suppression of IoU > iou_threshold on unclipped boxes; the
    max_detections best of the image over all classes; boxes clipped to the image at the very end. Equal
    scores go in order of the default boxes. Raises ValueError where the shapes do not fit.
    """
    _check_shapes(offsets, logits, priors_cxcywh)
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


def _candidates(scores: Tensor, most: int, threshold: float) -> tuple[Tensor, Tensor]:
    """The best scores (B, C - 1, K) and their default boxes, best first; K no larger than any class needs."""
    passed = int((scores > threshold).sum(-1).max()) if scores.numel() else 0
    top, index = scores.topk(min(most, passed), dim=-1, sorted=False)
    index, by_index = index.sort(dim=-1)
    top, by_score = top.gather(-1, by_index).sort(dim=-1, descending=True, stable=True)
    return top, index.gather(-1, by_score)


def _suppress(boxes_xyxy: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Mask of what greedy suppression keeps in each row of boxes (R, K, 4), some rows at a time."""
    rows = max(1, _ROWS_AT_ONCE // max(1, valid.shape[1] ** 2))
    parts = zip(boxes_xyxy.split(rows), valid.split(rows), strict=True)
    return torch.cat([box_ops.nms_sorted(b, iou_threshold, v) for b, v in parts])


def _best(boxes_xyxy: Tensor, scores: Tensor, most: int) -> Detections:
    """The best of one image over classes: boxes (C - 1, K, 4), scores (C - 1, K) with 0 for dropped ones."""
    label, rank = (scores > 0).nonzero(as_tuple=True)
    order = scores[label, rank].argsort(descending=True, stable=True)[:most]
    label, rank = label[order], rank[order]
    return Detections(box_ops.clip(boxes_xyxy[label, rank]), scores[label, rank], label + 1)
