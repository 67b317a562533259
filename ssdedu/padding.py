"""The objects of a batch as two tensors: every image has its own number of them, and a GPU wants one shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssdedu.boxes import check_boxes

__all__ = ["Objects", "pad_objects", "padded"]

Objects = Sequence[Tensor] | Tensor


def pad_objects(boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A list of boxes (G_i, 4) and one of labels (G_i,) as two tensors (B, G, 4) and (B, G), zeros behind each's own.

    No object has label 0. Done before a batch goes to a GPU, two tensors travel instead of 2 B. Raises ValueError for
    degenerate boxes, labels below 1 and lists that do not fit; of tensors that lie on a GPU nothing is read, and bad
    ones stop its program instead.
    """
    counts = _check_lists(boxes_xyxy, labels)
    flat_xyxy, flat_labels = torch.cat(list(boxes_xyxy)), torch.cat([n.long() for n in labels])
    check_boxes(flat_xyxy)
    _check_labels((flat_labels >= 1).all(), flat_labels)
    rows = _rows(counts).to(flat_labels.device, non_blocking=True)  # (B, G)
    zero = flat_xyxy.new_zeros(1, 4)
    return torch.cat([flat_xyxy, zero])[rows], torch.cat([flat_labels, flat_labels.new_zeros(1)])[rows]


def _rows(counts: Sequence[int]) -> Tensor:
    """Where in the concatenation of B lists each of their entries stands (B, G), the row behind all for padding."""
    number = torch.tensor(counts)[:, None]
    place = torch.arange(max(counts))
    return (number.cumsum(0) - number + place).where(place < number, sum(counts))


def padded(boxes_xyxy: Objects, labels: Objects, like: Tensor) -> tuple[Tensor, Tensor]:
    """Objects, lists or padded already, as `pad_objects` gives them: checked, on the device of `like`, boxes its kind.

    Raises ValueError as `pad_objects` does, and for a label 0 beside a box.
    """
    if isinstance(boxes_xyxy, Tensor) and isinstance(labels, Tensor):
        _check_padded(boxes_xyxy, labels)
    else:
        boxes_xyxy, labels = pad_objects(list(boxes_xyxy), list(labels))
    boxes_xyxy = boxes_xyxy.to(like.device, like.dtype, non_blocking=True)
    return boxes_xyxy, labels.to(like.device, torch.int64, non_blocking=True)


def _check_lists(boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor]) -> list[int]:
    """The number of objects of each image."""
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
    return [len(n) for n in labels]


def _check_padded(boxes_xyxy: Tensor, labels: Tensor) -> None:
    if len(labels) == 0 or boxes_xyxy.shape != (*labels.shape, 4) or labels.dim() != 2:
        raise ValueError(
            "padded objects are boxes_xyxy (B, G, 4) and labels (B, G) with B above 0, got "
            f"{tuple(boxes_xyxy.shape)} and {tuple(labels.shape)}"
        )
    if labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers, got {labels.dtype}")
    real = labels != 0
    whole_image = torch.arange(4, device=labels.device) // 2
    check_boxes(boxes_xyxy.where(real[..., None], whole_image))
    _check_labels(((labels >= 1) | ((labels == 0) & (boxes_xyxy == 0).all(-1))).all(), labels)


def _check_labels(good: Tensor, labels: Tensor) -> None:
    if labels.is_cuda:
        torch._assert_async(good)
    elif not good:
        raise ValueError(f"labels of objects start at 1 (0 is background), got {int(labels.min())}")
