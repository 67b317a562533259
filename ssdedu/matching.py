"""Matching: which default box is responsible for which object (Sec. 2.2, "Matching strategy").

Three rules. "ssd": greedy bipartite, then every free default box takes the object it overlaps most if the IoU
reaches the threshold (Caffe's MatchBBox with PER_PREDICTION). "multibox": the bipartite part alone, as in
MultiBox. "threshold": the second part alone, as in many ports and in Faster R-CNN's region proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ssdedu import boxes as box_ops

__all__ = ["Match", "Rule", "Targets", "bipartite", "encode_targets", "match", "match_batch"]

Rule = Literal["ssd", "multibox", "threshold"]
MIN_OVERLAP = 1e-6  # Caffe: overlaps up to this do not count as touching


class Match(NamedTuple):
    """What each default box is responsible for: shapes (P,), or (B, P) for a batch.

    labels: int64 class, 0 for background; object_index: int64 row of its object, -1 for none; iou: with that
    object, or for background the largest with any object.
    """

    labels: Tensor
    object_index: Tensor
    iou: Tensor


class Targets(NamedTuple):
    """What the network should emit: offsets (B, P, 4), 0 for background, and labels (B, P)."""

    offsets: Tensor
    labels: Tensor


def match(
    boxes_xyxy: Tensor,
    labels: Tensor,
    priors_cxcywh: Tensor,
    threshold: float = 0.5,
    rule: Rule = "ssd",
) -> Match:
    """Match one image's objects, boxes (G, 4) and labels (G,), to default boxes (P, 4); see `Match`.

    Raises ValueError for degenerate boxes, labels below 1 and unknown rules.
    """
    batch = match_batch([boxes_xyxy], [labels], priors_cxcywh, threshold, rule)
    return Match(*(t[0] for t in batch))


def match_batch(
    boxes_xyxy: Sequence[Tensor],
    labels: Sequence[Tensor],
    priors_cxcywh: Tensor,
    threshold: float = 0.5,
    rule: Rule = "ssd",
) -> Match:
    """Match B images at once: a list of boxes (G_i, 4) and of labels (G_i,), G_i may be 0; see `Match`.

    Follows Caffe's MatchBBox: with rule "ssd" no object that overlaps any default box is left without one.
    Ties go to the earlier default box, then to the earlier object. Raises ValueError as `match` does.
    """
    return _match_padded(*_pad(boxes_xyxy, labels, priors_cxcywh), priors_cxcywh, threshold, rule)


def _match_padded(
    boxes_xyxy: Tensor, labels: Tensor, real: Tensor, priors_cxcywh: Tensor, threshold: float, rule: Rule
) -> Match:
    """Match boxes (B, G, 4) and labels (B, G), real where the mask (B, G) says so."""
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    overlaps = box_ops.iou(boxes_xyxy, box_ops.cxcywh_to_xyxy(priors_cxcywh))  # (B, G, P)
    overlaps.masked_fill_(~real[..., None], -1)
    if overlaps.shape[1] == 0:
        return _nothing(overlaps)
    best, object_index = overlaps.max(dim=1)  # (B, P)
    best.clamp_(min=0)
    enough = best >= threshold if rule != "multibox" else torch.zeros_like(best, dtype=torch.bool)
    object_index = object_index.where(enough, -1)
    if rule != "threshold":
        _assign(object_index, best, bipartite(overlaps), overlaps)
    found = labels.gather(1, object_index.clamp(min=0))
    return Match(found.where(object_index >= 0, 0), object_index, best)


def _pad(
    boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor], priors_cxcywh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Lists of (G_i, 4) and (G_i,) as (B, G, 4), of the priors' kind, and (B, G), and a mask of the real ones."""
    if priors_cxcywh.dim() != 2 or priors_cxcywh.shape[1] != 4 or len(priors_cxcywh) == 0:
        raise ValueError(f"priors_cxcywh must be (P, 4) with P above 0, got {tuple(priors_cxcywh.shape)}")
    counts = _check_objects(boxes_xyxy, labels)
    most, device = max(counts, default=0), boxes_xyxy[0].device
    real = torch.arange(most, device=device) < torch.tensor(counts, device=device)[:, None]
    padded_xyxy = priors_cxcywh.new_zeros(len(counts), most, 4)
    padded_labels = torch.zeros(len(counts), most, dtype=torch.int64, device=device)
    padded_xyxy[real] = torch.cat(list(boxes_xyxy)).to(padded_xyxy.dtype)
    padded_labels[real] = torch.cat([n.long() for n in labels])
    return padded_xyxy, padded_labels, real


def _check_objects(boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor]) -> list[int]:
    if len(boxes_xyxy) == 0:
        raise ValueError(
            "a batch needs at least one image, got none (an image without objects has empty boxes)"
        )
    if len(boxes_xyxy) != len(labels):
        raise ValueError(
            f"each image needs its boxes and its labels, got {len(boxes_xyxy)} and {len(labels)}"
        )
    for i, (b, n) in enumerate(zip(boxes_xyxy, labels, strict=True)):
        if b.shape != (len(n), 4):
            wanted = f"({len(n)}, 4) beside {len(n)} labels"
            raise ValueError(f"image {i}: boxes_xyxy must be {wanted}, got {tuple(b.shape)}")
        if n.is_floating_point() and len(n):
            raise ValueError(f"image {i}: labels must be whole numbers, got {n.dtype}")
    box_ops.check_boxes(torch.cat(list(boxes_xyxy)))
    _check_labels(torch.cat(list(labels)))
    return [len(n) for n in labels]


def _check_labels(labels: Tensor) -> None:
    good = (labels >= 1).all()
    if labels.is_cuda:
        torch._assert_async(good)
    elif not good:
        raise ValueError(f"labels of objects start at 1 (0 is background), got {int(labels.min())}")


def _nothing(overlaps: Tensor) -> Match:
    """The match (B, P) of images without objects: all background."""
    shape = (overlaps.shape[0], overlaps.shape[2])
    index = torch.full(shape, -1, dtype=torch.int64, device=overlaps.device)
    return Match(torch.zeros_like(index), index, overlaps.new_zeros(shape))


def _assign(object_index: Tensor, best: Tensor, prior_index: Tensor, overlaps: Tensor) -> None:
    """Let each object (b, g) own its default box prior_index (B, G), in place."""
    b, g = (prior_index >= 0).nonzero(as_tuple=True)
    p = prior_index[b, g]
    object_index[b, p] = g
    best[b, p] = overlaps[b, g, p]


def bipartite(overlaps: Tensor) -> Tensor:
    """Each object's own default box (B, G), -1 for none, by greedy choice on IoU (B, G, P).

    Greedy: again and again the largest IoU above 1e-6 among free objects x free default boxes makes a pair.
    Done in parallel: a pair that is the largest in its row and its column will be greedy's choice whatever
    comes before, so all such pairs are fixed at once, and only objects that lost their favourite look again.
    """
    free = overlaps.clone()  # -1 where the object or the default box is taken
    prior_index = torch.full(overlaps.shape[:2], -1, dtype=torch.int64, device=overlaps.device)
    value, favourite = free.max(dim=2)  # (B, G)
    open_ = value > MIN_OVERLAP
    while open_.any():
        b, g = _dominant(free, favourite, open_).nonzero(as_tuple=True)
        p = favourite[b, g]
        prior_index[b, g] = p
        open_[b, g] = False
        free[b, g] = -1
        free[b, :, p] = -1
        b, g = (open_ & (free.gather(2, favourite[..., None])[..., 0] < 0)).nonzero(as_tuple=True)
        value[b, g], favourite[b, g] = free[b, g].max(dim=1)
        open_ &= value > MIN_OVERLAP
    return prior_index


def _dominant(free: Tensor, favourite: Tensor, open_: Tensor) -> Tensor:
    """Mask (B, G) of the objects that are the best free object of their favourite default box."""
    rivals = free.gather(2, favourite[:, None, :].expand(-1, favourite.shape[1], -1))  # [b, rival, g]
    winner = rivals.max(dim=1).indices  # (B, G)
    return open_ & (winner == torch.arange(favourite.shape[1], device=favourite.device))


def encode_targets(
    boxes_xyxy: Sequence[Tensor],
    labels: Sequence[Tensor],
    priors_cxcywh: Tensor,
    variances: Sequence[float] = box_ops.VARIANCES,
    threshold: float = 0.5,
    rule: Rule = "ssd",
) -> Targets:
    """What a network should emit for B images: `match_batch`, then `boxes.encode` of the positives alone."""
    padded_xyxy, padded_labels, real = _pad(boxes_xyxy, labels, priors_cxcywh)
    found = _match_padded(padded_xyxy, padded_labels, real, priors_cxcywh, threshold, rule)
    b, p = (found.object_index >= 0).nonzero(as_tuple=True)
    offsets = priors_cxcywh.new_zeros(*found.labels.shape, 4)
    offsets[b, p] = box_ops.encode(padded_xyxy[b, found.object_index[b, p]], priors_cxcywh[p], variances)
    return Targets(offsets, found.labels)
