"""Hard negative mining: of thousands of background boxes, learn from those that look most like objects."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hard_negatives"]


def hard_negatives(
    confidence_loss: Tensor, positive: Tensor, ratio: float = 3, min_negatives: int = 0
) -> Tensor:
    """Mask (B, P) of the negatives to learn from: per image the ratio * positives of highest loss (Sec. 2.2).

    confidence_loss (B, P): cross-entropy of each default box; positive (B, P): bool, matched ones. An image
    takes min(max(floor(ratio * its positives), min_negatives), its negatives), and never a positive: Caffe's
    MineHardExamples with MAX_NEGATIVE. Equal losses go in order of the default boxes. Raises ValueError for a
    negative ratio or minimum.
    """
    if ratio < 0 or min_negatives < 0:
        raise ValueError(f"ratio and min_negatives must be 0 or more, got {ratio} and {min_negatives}")
    if positive.numel() == 0:
        return torch.zeros_like(positive)
    positives = positive.sum(dim=1)
    wanted = (ratio * positives).long().clamp(min=min_negatives)
    count = wanted.minimum(positive.shape[1] - positives)  # (B,)
    candidates = confidence_loss.detach().masked_fill(positive, -torch.inf)
    last = _last_chosen(candidates, count)
    harder = ~(candidates <= last)  # and nan, which must not go unnoticed
    equal = candidates == last
    place = equal.cumsum(dim=1, dtype=torch.int32)  # among equals
    spare = (count - harder.sum(dim=1))[:, None]
    return (harder | (equal & (place <= spare))) & ~positive & (count > 0)[:, None]


def _last_chosen(candidates: Tensor, count: Tensor) -> Tensor:
    """The smallest (B, 1) of the `count` largest candidates (B, P) of each image; of none: the largest."""
    if candidates.is_cuda:  # whose program would have to wait for the largest count
        ranked = candidates.sort(dim=1, descending=True).values
    else:
        ranked = candidates.topk(max(1, int(count.max())), dim=1).values
    return ranked.gather(1, (count - 1).clamp(min=0)[:, None])
