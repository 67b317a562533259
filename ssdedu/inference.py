"""A detector at work: images of any size in, detections out, for one picture or a whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ssdedu.augment import Resize
from ssdedu.batches import to_tensor
from ssdedu.detect import Detections, detect
from ssdedu.model import SSD
from ssdedu.precision import autocast
from ssdedu.sample import Dataset, Sample, Truth

__all__ = ["detect_dataset", "detect_images", "detect_tensor"]


@torch.inference_mode()
def detect_tensor(
    model: SSD, images: Tensor, bfloat16: bool | None = None, **options: Any
) -> list[Detections]:
    """Detections of images (B, 3, H, W) of the network's input size; options go to `detect.detect`."""
    model.eval()
    device = model.priors_cxcywh.device
    with autocast(device, bfloat16):
        offsets, logits = model(images.to(device))
    found = detect(offsets, logits, model.priors_cxcywh, model.config.variances, **options)
    return [d.cpu() for d in found]


def detect_images(model: SSD, images: Sequence[np.ndarray], **options: Any) -> list[Detections]:
    """Detections of images (H, W, 3) uint8 RGB of any sizes, each warped to the network's input size."""
    warp = Resize(model.config.width_px, model.config.height_px)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    tensors = [to_tensor(warp(Sample(image, *nothing)).image) for image in images]
    return detect_tensor(model, torch.stack(tensors), **options)


def detect_dataset(
    model: SSD, dataset: Dataset, batch_size: int = 32, progress: bool = True, **options: Any
) -> tuple[list[Detections], list[Truth]]:
    """Detections and truths of every image of a data set, in its order; options go to `detect_tensor`."""
    found, truths = [], []
    starts = range(0, len(dataset), batch_size)
    for start in tqdm(starts, desc="detecting", unit="batch", disable=not progress):
        samples = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        found += detect_images(model, [s.image for s in samples], **options)
        truths += [s.truth for s in samples]
    return found, truths
