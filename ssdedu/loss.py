"""The MultiBox loss (Sec. 2.2 Eq. 1): smooth L1 on the offsets plus softmax loss on the classes, over N."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssdedu.mining import hard_negatives

__all__ = ["MultiboxLoss", "multibox_loss", "smooth_l1"]

_VECTOR = 16  # float32 numbers that a processor takes at once
_ROWS_AT_ONCE = 4096  # which stay in its cache


class MultiboxLoss(NamedTuple):
    """The scalar to minimise and its parts: total = confidence + alpha * localization, both divided by N.

    num_positives: N, the matched default boxes of the whole batch (int64 scalar). Where several processes share a
    batch, the other three are the part of this one.
    """

    total: Tensor
    localization: Tensor
    confidence: Tensor
    num_positives: Tensor


def smooth_l1(difference: Tensor, beta: float = 1.0) -> Tensor:
    """0.5 d^2 / beta where |d| < beta, |d| - beta / 2 elsewhere, elementwise (Fast R-CNN, Eq. 3)."""
    return F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none", beta=beta)


def multibox_loss(
    offsets: Tensor,
    logits: Tensor,
    target_offsets: Tensor,
    target_labels: Tensor,
    *,
    alpha: float = 1.0,
    ratio: float = 3,
    min_negatives: int = 0,
    beta: float = 1.0,
    num_positives: Tensor | None = None,
) -> MultiboxLoss:
    """Loss of offsets (B, P, 4) and logits (B, P, C) against target_offsets (B, P, 4), target_labels (B, P).

    Smooth L1 over positives and four coordinates plus cross-entropy over positives and mined negatives
    (`mining.hard_negatives` with ratio and min_negatives), both divided by the positives N of the batch, as
    Caffe's MultiBoxLossLayer. Without positives N counts as 1: the loss is 0 (unless min_negatives brings
    some negatives in) and all gradients are finite. num_positives: N, where these images are a part of the batch.
    Raises ValueError for labels outside 0 .. C - 1.
    """
    _check_labels(target_labels, logits.shape[-1])
    positive = target_labels > 0
    num_positives = positive.sum() if num_positives is None else num_positives
    n = num_positives.clamp(min=1)
    at_once = offsets.is_cuda
    localization = _localization_sum(offsets, target_offsets, positive, beta, at_once) / n
    confidence = _confidence_sum(logits, target_labels, ratio, min_negatives, at_once) / n
    return MultiboxLoss(confidence + alpha * localization, localization, confidence, num_positives)


def _localization_sum(
    offsets: Tensor, targets: Tensor, positive: Tensor, beta: float, at_once: bool
) -> Tensor:
    """Smooth L1 summed over the positives (B, P) and four coordinates; see `_sum_where` for at_once."""
    if not at_once:
        rows = _rows(positive)
        return smooth_l1(_pick(offsets, rows).float() - _pick(targets, rows), beta).sum()
    return _sum_where(smooth_l1(offsets.float() - targets, beta), positive[..., None])


def _confidence_sum(
    logits: Tensor, labels: Tensor, ratio: float, min_negatives: int, at_once: bool
) -> Tensor:
    """Cross-entropy summed over positives and mined negatives; see `_sum_where` for at_once.

    Without it, only they have a gradient to compute: with nine objects a photo, 3 % of the default boxes.
    """
    positive = labels > 0
    if at_once:
        cross_entropy = _cross_entropy(logits, labels)
        chosen = positive | hard_negatives(cross_entropy, positive, ratio, min_negatives)
        return _sum_where(cross_entropy, chosen)
    with torch.no_grad():
        background = _background_loss(logits.float())
        chosen = positive | hard_negatives(background, positive, ratio, min_negatives)
    rows = _rows(chosen)
    return _cross_entropy(_pick(logits, rows), labels.flatten()[rows]).sum()


def _background_loss(logits: Tensor) -> Tensor:
    """Cross-entropy (B, P) of logits (B, P, C) if all were background.

    Torch goes number by number over a last axis shorter than a vector; classes one after the other in memory then
    are several times as fast, and give the same bits.
    """
    if logits.shape[-1] >= _VECTOR:
        return -F.log_softmax(logits, dim=-1)[..., 0]
    rows = logits.flatten(0, 1).split(_ROWS_AT_ONCE)
    losses = [-F.log_softmax(part.T.contiguous(), dim=0)[0] for part in rows]
    return torch.cat(losses).view(logits.shape[:2])


def _rows(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero()[:, 0]


def _pick(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (K,) of values (B, P, n), both axes counted as one: (K, n), with a quick gradient."""
    return values.flatten(0, 1).index_select(0, rows)


def _sum_where(values: Tensor, mask: Tensor) -> Tensor:
    """The sum of the values that the mask picks, for GPUs: without the CPU learning how many they are."""
    return values.where(mask, 0).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    flat = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), reduction="none")
    return flat.view_as(labels)


def _check_labels(labels: Tensor, num_classes: int) -> None:
    if labels.is_cuda or labels.numel() == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels must lie in 0 .. {num_classes - 1} for logits of {num_classes} classes, "
            f"got {low} .. {high}: is num_classes (background included) the data set's classes + 1?"
        )
