"""From thousands of guesses to a few boxes: softmax, decode, per-class suppression, the best of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ssdedu import boxes as box_ops

__all__ = ["Detections", "detect"]

_IOUS_AT_ONCE = 20 * 400 * 400  # entries of IoU tables held in memory: 20 classes of 400 candidates
_IOUS_AT_ONCE_ON_GPU = 2**25
_IMAGES_AT_ONCE = 8  # on a CPU: enough to share the cost of a call, few enough for its caches
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
    if not len(offsets):
        return []
    scores = logits.float().softmax(-1)[..., 1:].transpose(1, 2)  # (B, C - 1, P)
    offsets = _limit_sizes(offsets.float(), variances, max_log_size)
    boxes_xyxy = box_ops.decode(offsets, priors_cxcywh, variances)  # (B, P, 4)
    boxes_xyxy = box_ops.clip(boxes_xyxy) if clip_first else boxes_xyxy
    if scores.is_cuda or max_detections is None:
        passed = _most_passed(scores, score_threshold, offsets=offsets, logits=logits)
        most = min(candidates_per_class, passed)
        return _class_by_class(boxes_xyxy, scores, score_threshold, most, iou_threshold, max_detections)
    _check_finite({"offsets": bool(_is_finite(offsets)), "logits": bool(_is_finite(logits))})
    groups = zip(boxes_xyxy.split(_IMAGES_AT_ONCE), scores.split(_IMAGES_AT_ONCE), strict=True)
    options = score_threshold, candidates_per_class, iou_threshold, max_detections
    return [found for group in groups for found in _best_first(*group, *options)]


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
    most, *sound = torch.stack([passed, *(_is_finite(values).long() for values in outputs.values())]).tolist()
    _check_finite(dict(zip(outputs, sound, strict=True)))
    return most


def _is_finite(values: Tensor) -> Tensor:
    """Whether all are, without a table of which are."""
    return torch.stack(values.aminmax()).isfinite().all()


def _check_finite(outputs: Mapping[str, bool]) -> None:
    for name, good in outputs.items():
        if not good:
            raise ValueError(f"{name} are not all finite: the weights are broken; take an earlier checkpoint")


def _best_first(
    boxes_xyxy: Tensor, scores: Tensor, threshold: float, per_class: int, iou_threshold: float, most: int
) -> list[Detections]:
    """Detections from boxes (B, P, 4) and scores (B, C - 1, P): all classes together, best first, until `most` stay."""
    ranked = [
        torch.from_numpy(_ranked(values.contiguous().numpy(), threshold, per_class)) for values in scores
    ]
    keys = pad_sequence(ranked, batch_first=True)  # (B, N), 0 behind the last candidate
    scores, place = (keys >> 32).int().view(torch.float32), _LOW_HALF - (keys & _LOW_HALF)
    number = boxes_xyxy.shape[1]
    labels = (place // number + 1).masked_fill_(scores == 0, 0)
    boxes_xyxy = boxes_xyxy[torch.arange(len(keys))[:, None], place % number]
    keep = box_ops.nms_first(boxes_xyxy, labels, iou_threshold, most)
    fields = zip(box_ops.clip(boxes_xyxy), scores, labels, keep, strict=True)
    return [Detections(b[k], s[k], names[k]) for b, s, names, k in fields]


def _ranked(scores: np.ndarray, threshold: float, per_class: int) -> np.ndarray:
    """Keys of an image's scores (C - 1, P) that pass, at most the per_class best of each row, best first.

    A key is a score's bits and, so that equal ones go in order, how far from the end it stands.
    """
    passed = scores > threshold
    for row in np.flatnonzero(np.count_nonzero(passed, axis=1) > per_class):
        _keep_best(scores[row], passed[row], per_class)
    place = np.flatnonzero(passed)
    keys = scores.ravel()[place].view(np.int32).astype(np.int64) << 32
    return np.sort(keys | (_LOW_HALF - place))[::-1].copy()


def _keep_best(scores: np.ndarray, passed: np.ndarray, most: int) -> None:
    """Leave, of more scores (N,) than that which passed (N,), the best alone, the first ones among equals."""
    last = np.partition(scores[passed], -most)[-most]
    np.greater_equal(scores, last, out=passed)
    if surplus := np.count_nonzero(passed) - most:
        passed[np.flatnonzero(scores == last)[-surplus:]] = False


def _class_by_class(
    boxes_xyxy: Tensor,
    scores: Tensor,
    threshold: float,
    per_class: int,
    iou_threshold: float,
    most: int | None,
) -> list[Detections]:
    """The same from each class to its end, as is needed without a limit over classes, and suits a GPU."""
    scores, index = _top(scores, per_class)  # (B, C - 1, K)
    image = torch.arange(len(boxes_xyxy), device=index.device)[:, None, None]
    candidates = boxes_xyxy[image, index]  # (B, C - 1, K, 4)
    keep = _suppress(candidates.flatten(0, 1), (scores > threshold).flatten(0, 1), iou_threshold)
    scores = scores.masked_fill(~keep.view_as(scores), 0)
    return _split(*_best(candidates, scores, most))


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
