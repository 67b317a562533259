"""From thousands of guesses to a few boxes: softmax, decode, per-class suppression, the best of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssdedu import boxes as box_ops

__all__ = ["Detections", "detect"]

_IOUS_AT_ONCE = 20 * 400 * 400  # entries of IoU tables held in memory: 20 classes of 400 candidates
_IOUS_AT_ONCE_ON_GPU = 2**25
_LOW_HALF = 0xFFFFFFFF


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
    max_detections: int | None = 200,
    clip_first: bool = False,
    max_log_size: float | None = None,
) -> list[Detections]:
    """Detections of each image, in the CPU's memory, from offsets (B, P, 4) and logits (B, P, C) at boxes (P, 4).

    Caffe's DetectionOutputLayer (Sec. 3.7, "Inference time"): softmax; per class the candidates_per_class
    best scores above score_threshold; greedy suppression of IoU > iou_threshold on unclipped boxes; the
    max_detections best of the image over all classes; boxes clipped to the image at the very end. Equal
    scores go in order of the default boxes. Other people's habits: max_detections None sets no limit over
    classes (amdegroot/ssd.pytorch); clip_first clips before the suppression, max_log_size limits ln(w / w of the
    default box) and the height's (torchvision). Raises ValueError where the shapes do not fit or a number is not
    finite.
    """
    _check_shapes(offsets, logits, priors_cxcywh)
    _check_options(candidates_per_class, max_detections)
    scores = logits.float().softmax(-1)[..., 1:].transpose(1, 2)  # (B, C - 1, P)
    offsets = _limit_sizes(offsets.float(), variances, max_log_size)
    boxes_xyxy = box_ops.decode(offsets, priors_cxcywh, variances)  # (B, P, 4)
    boxes_xyxy = box_ops.clip(boxes_xyxy) if clip_first else boxes_xyxy
    passed = _most_passed(scores, score_threshold, offsets=offsets, logits=logits)
    scores, index = _top(scores, min(candidates_per_class, passed))  # (B, C - 1, K)
    image = torch.arange(len(boxes_xyxy), device=index.device)[:, None, None]
    candidates = boxes_xyxy[image, index]  # (B, C - 1, K, 4)
    keep = _suppress(candidates.flatten(0, 1), (scores > score_threshold).flatten(0, 1), iou_threshold)
    scores = scores.masked_fill(~keep.view_as(scores), 0)
    return _split(*_best(candidates, scores, max_detections))


def _check_shapes(offsets: Tensor, logits: Tensor, priors: Tensor) -> None:
    good = offsets.dim() == 3 and offsets.shape[1:] == priors.shape and logits.shape[:2] == offsets.shape[:2]
    if not good:
        raise ValueError(
            "expected offsets (B, P, 4), logits (B, P, C) and priors (P, 4), got "
            f"{tuple(offsets.shape)}, {tuple(logits.shape)}, {tuple(priors.shape)}"
        )


def _limit_sizes(offsets: Tensor, variances: Sequence[float], max_log_size: float | None) -> Tensor:
    """Offsets (B, P, 4) of which the last two, times their variances, are at most max_log_size."""
    if max_log_size is None:
        return offsets
    limit = max_log_size / box_ops.constants(variances[2:], offsets)
    return torch.cat([offsets[..., :2], offsets[..., 2:].minimum(limit)], dim=-1)


def _check_options(candidates_per_class: int, max_detections: int | None) -> None:
    for name, value in (("candidates_per_class", candidates_per_class), ("max_detections", max_detections)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")


def _most_passed(scores: Tensor, threshold: float, **outputs: Tensor) -> int:
    """How many of the scores (B, C - 1, P) of a class of an image pass, at most; ValueError for broken outputs.

    Both together, so that a GPU is waited for once.
    """
    passed = (scores > threshold).sum(-1).flatten()
    passed = torch.cat([passed, passed.new_zeros(1)]).amax()
    finite = [values.isfinite().all().long() for values in outputs.values()]
    most, *sound = torch.stack([passed, *finite]).tolist()
    for name, good in zip(outputs, sound, strict=True):
        if not good:
            raise ValueError(f"{name} are not all finite: the weights are broken; take an earlier checkpoint")
    return most


def _top(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The best scores (..., K) of (..., N) and their places, best first, equal ones in order."""
    last = scores.shape[-1] - 1
    keys = scores.contiguous().view(torch.int32).long() << 32  # positive floats sort as integers
    keys |= torch.arange(last, -1, -1, device=scores.device)
    index = last - (keys.topk(min(most, last + 1), dim=-1).values & _LOW_HALF)
    return scores.gather(-1, index), index


def _suppress(boxes_xyxy: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Mask of what greedy suppression keeps in each row of boxes (R, K, 4), some rows at a time."""
    room = _IOUS_AT_ONCE_ON_GPU if valid.is_cuda else _IOUS_AT_ONCE
    rows = max(1, room // max(1, valid.shape[1] ** 2))
    parts = zip(boxes_xyxy.split(rows), valid.split(rows), strict=True)
    return torch.cat([box_ops.nms_sorted(b, iou_threshold, v) for b, v in parts])


def _best(boxes_xyxy: Tensor, scores: Tensor, most: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (B, N, 4), scores (B, N) and labels (B, N) of each image's best, score 0 behind the last detection.

    From boxes (B, C - 1, K, 4) and scores (B, C - 1, K), 0 for dropped ones.
    """
    flat = scores.flatten(1)  # class, then rank
    scores, place = _top(flat, flat.shape[1] if most is None else most)
    image = torch.arange(len(place), device=place.device)[:, None]
    labels = place // max(1, boxes_xyxy.shape[2]) + 1
    return box_ops.clip(boxes_xyxy.flatten(1, 2)[image, place]), scores, labels


def _split(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor) -> list[Detections]:
    """What `_best` gives, image by image in the CPU's memory; from a GPU it comes in one piece."""
    if scores.is_cuda:
        packed = torch.cat([boxes_xyxy, scores[..., None], labels[..., None].float()], dim=-1).cpu()
        boxes_xyxy, scores, labels = packed[..., :4], packed[..., 4], packed[..., 5].long()
    counts = (scores > 0).sum(1).tolist()
    fields = zip(boxes_xyxy, scores, labels, counts, strict=True)
    return [Detections(b[:n].clone(), s[:n].clone(), names[:n].clone()) for b, s, names, n in fields]
