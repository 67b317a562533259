"""Box geometry: corner and centre forms, IoU, encode and decode, non-maximum suppression.

Boxes are float tensors (..., 4) in fractions of the image: xyxy = xmin, ymin, xmax, ymax; cxcywh = centre and
size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "VARIANCES",
    "area",
    "check_boxes",
    "clip",
    "constants",
    "cxcywh_to_xyxy",
    "decode",
    "encode",
    "encode_checked",
    "iou",
    "nms",
    "nms_first",
    "nms_sorted",
    "xyxy_to_cxcywh",
]

VARIANCES = (0.1, 0.1, 0.2, 0.2)
_NMS_BLOCK = 1024
_NMS_FIRST_BLOCK = 80
_ROUNDS_UNREAD = 8  # of suppression on a GPU between two looks whether it has settled


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Corner form to centre form, (..., 4) to (..., 4)."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Centre form to corner form, (..., 4) to (..., 4)."""
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def area(boxes_xyxy: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4); an inverted box has area 0."""
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def clip(boxes_xyxy: Tensor) -> Tensor:
    """Boxes (..., 4) cut at the image border, into [0, 1]."""
    return boxes_xyxy.clamp(0, 1)


def iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of boxes (..., N, 4) with boxes (..., M, 4).

    Areas have no "+1" (Caffe's JaccardOverlap on normalized boxes); two boxes of zero area have IoU 0.
    """
    a_xyxy, b_xyxy = _as_float(a_xyxy), _as_float(b_xyxy)
    a = a_xyxy.movedim(-1, 0)[..., :, None]  # (4, ..., N, 1)
    b = b_xyxy.movedim(-1, 0).contiguous()[..., None, :]  # (4, ..., 1, M)
    width = torch.minimum(a[2], b[2]).sub_(torch.maximum(a[0], b[0])).clamp_(min=0)  # (..., N, M)
    height = torch.minimum(a[3], b[3]).sub_(torch.maximum(a[1], b[1])).clamp_(min=0)
    inter = width.mul_(height)
    union = (area(a_xyxy)[..., :, None] + area(b_xyxy)[..., None, :]).sub_(inter)
    return inter / union.clamp_(min=torch.finfo(union.dtype).tiny)


def _as_float(numbers: Tensor) -> Tensor:
    return numbers if numbers.is_floating_point() else numbers.float()


def check_boxes(boxes_xyxy: Tensor, what: str = "boxes_xyxy") -> None:
    """Raise ValueError unless all boxes (..., 4) are finite with xmax > xmin and ymax > ymin.

    On a GPU the check does not wait: a bad box stops the device program at its next synchronisation.
    """
    good = (boxes_xyxy[..., 2:] > boxes_xyxy[..., :2]).all(-1) & boxes_xyxy.isfinite().all(-1)
    if boxes_xyxy.is_cuda:
        torch._assert_async(good.all())
    elif not good.all():
        i = int((~good).flatten().nonzero()[0])
        box = [round(v, 6) for v in boxes_xyxy.reshape(-1, 4)[i].tolist()]
        raise ValueError(
            f"{what}[{i}] = {box} is degenerate: needs finite xmin < xmax and ymin < ymax; "
            "remove or repair it in the annotations (`ssdedu check-data FOLDER` lists such boxes)"
        )


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Values as a tensor of the kind and on the device of another, without waiting for that device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def encode(boxes_xyxy: Tensor, priors_cxcywh: Tensor, variances: Sequence[float] = VARIANCES) -> Tensor:
    """Offsets (..., 4) that turn default boxes (..., 4) into boxes (..., 4), divided by the variances.

    (g_cx - d_cx) / d_w / v0, (g_cy - d_cy) / d_h / v1, log(g_w / d_w) / v2, log(g_h / d_h) / v3: Sec. 2.2
    Eq. 2 with Caffe's prior_variance. Raises ValueError for degenerate boxes and default boxes.
    """
    check_boxes(boxes_xyxy)
    check_boxes(cxcywh_to_xyxy(priors_cxcywh), "priors")
    return encode_checked(boxes_xyxy, priors_cxcywh, variances)


def encode_checked(boxes_xyxy: Tensor, priors_cxcywh: Tensor, variances: Sequence[float]) -> Tensor:
    """`encode` of boxes and default boxes that are known to be sound."""
    boxes = xyxy_to_cxcywh(_as_float(boxes_xyxy))
    v = constants(variances, boxes)
    shift = (boxes[..., :2] - priors_cxcywh[..., :2]) / priors_cxcywh[..., 2:] / v[:2]
    stretch = torch.log(boxes[..., 2:] / priors_cxcywh[..., 2:]) / v[2:]
    return torch.cat([shift, stretch], dim=-1)


def decode(offsets: Tensor, priors_cxcywh: Tensor, variances: Sequence[float] = VARIANCES) -> Tensor:
    """Boxes xyxy (..., 4) from offsets (..., 4) and default boxes (..., 4): the inverse of `encode`.

    Nothing is clipped (Caffe clips after the suppression, see `ssdedu.detect`).
    """
    offsets = _as_float(offsets)
    v = constants(variances, offsets)
    center = offsets[..., :2] * v[:2] * priors_cxcywh[..., 2:] + priors_cxcywh[..., :2]
    half = torch.exp(offsets[..., 2:] * v[2:]) * priors_cxcywh[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def nms(boxes_xyxy: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices (K,) of the boxes (N, 4) that greedy suppression keeps, best score (N,) first.

    Walking down the scores, a box is dropped when its IoU with a kept one exceeds the threshold; equal scores
    go in input order. Works in blocks, so memory stays linear in N.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = order[:0]
    for block in order.split(_NMS_BLOCK):
        free = ~(iou(boxes_xyxy[kept], boxes_xyxy[block]) > iou_threshold).any(0)
        block = block[free]
        kept = torch.cat([kept, block[nms_sorted(boxes_xyxy[block], iou_threshold)]])
    return kept


def nms_sorted(boxes_xyxy: Tensor, iou_threshold: float, valid: Tensor | None = None) -> Tensor:
    """Mask (..., K) of what greedy suppression keeps of boxes (..., K, 4) already sorted, best first.

    Exact and without a loop over boxes: "keep what no kept better box overlaps" is repeated for all boxes at
    once until nothing changes. Box j is final after j rounds at the latest, and in practice after a handful;
    on a GPU several rounds pass before the program waits to see whether something changed.
    valid (..., K): entries that take part; the others are neither kept nor suppress.
    """
    valid = torch.ones_like(boxes_xyxy[..., 0], dtype=torch.bool) if valid is None else valid
    return _settle(iou(boxes_xyxy, boxes_xyxy).gt_(iou_threshold).triu_(1), valid)


def nms_first(boxes_xyxy: Tensor, labels: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Mask (R, N) of the first `most` that greedy suppression keeps in each row of boxes (R, N, 4), best first.

    Boxes drop those of their own label (R, N) alone; label 0 takes no part. Goes down the boxes in blocks, each
    against those kept so far and itself, until every row has its share: what comes behind needs no IoU.
    """
    labels = labels.to(boxes_xyxy.dtype)
    keep = torch.zeros_like(labels, dtype=torch.bool)
    rows = torch.arange(len(labels), device=labels.device)  # those that still lack some
    kept, names = boxes_xyxy[:, :0], labels[:, :0]  # so far: (rows, K, 4) and (rows, K), padded with label 0
    for start in range(0, labels.shape[1], _NMS_FIRST_BLOCK):
        block, before = slice(start, start + _NMS_FIRST_BLOCK), kept.shape[1]
        kept = torch.cat([kept, boxes_xyxy[rows, block]], dim=1)
        names = torch.cat([names, labels[rows, block]], dim=1)
        covers = iou(kept, kept[:, before:]).gt_(iou_threshold).triu_(1 - before)
        covers *= (names[:, :, None] - names[:, None, before:]).eq_(0)
        stays = names > 0
        free = stays[:, before:] & ~_covered(stays[:, :before], covers[:, :before])
        stays[:, before:] = keep[rows, block] = _settle(covers[:, before:], free)
        found = stays.sum(1)
        lacking = (found < most).nonzero()[:, :1]
        if not len(lacking):
            break
        order = stays[lacking[:, 0]].byte().argsort(dim=1, descending=True, stable=True)
        order = order[:, : found[lacking].max()]
        rows, kept, names = rows[lacking[:, 0]], kept[lacking, order], (names * stays)[lacking, order]
    return keep & (keep.cumsum(1) <= most)


def _covered(kept: Tensor, covers: Tensor) -> Tensor:
    """Which (..., K) a kept one (..., J) covers, from covers (..., J, K): 1 where j covers k, 0 elsewhere."""
    return (kept.to(covers.dtype)[..., None, :] @ covers)[..., 0, :] > 0


def _settle(covers: Tensor, valid: Tensor) -> Tensor:
    """Mask (..., K) of the valid that no kept one covers, from covers (..., K, K), 0 where j is not behind i."""
    keep = valid
    while True:
        for _ in range(_ROUNDS_UNREAD if keep.is_cuda else 1):
            settled, keep = keep, valid & ~_covered(keep, covers)
        if torch.equal(settled, keep):
            return keep
