"""A detector at work: images of any size in, detections out, for one picture or a whole data set."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from ssdedu.augment import Resize
from ssdedu.detect import Detections, detect
from ssdedu.model import SSD
from ssdedu.precision import Precision, autocast
from ssdedu.sample import Dataset, Sample, Truth

__all__ = ["detect_dataset", "detect_images", "detect_tensor"]

_WORKERS_BESIDE_GPU = min(8, os.cpu_count() or 1)
T = TypeVar("T")


@torch.inference_mode()
def detect_tensor(
    model: SSD,
    images: Tensor,
    precision: Precision = "auto",
    *,
    bfloat16: bool | None = None,
    **options: Any,
) -> list[Detections]:
    """Detections of images (B, 3, H, W) of the network's input size.

    precision of the forward pass: see `precision.forward_dtype`; bfloat16 is the older word for it. options go to
    `detect.detect`, before those of `model.processing`.
    """
    model.eval()
    device = model.priors_cxcywh.device
    with autocast(device, precision if bfloat16 is None else bfloat16):
        offsets, logits = model(images.to(device, non_blocking=True))
    options = {**model.processing.options, **options}
    return detect(offsets, logits, model.priors_cxcywh, model.config.variances, **options)


def detect_images(model: SSD, images: Sequence[np.ndarray], **options: Any) -> list[Detections]:
    """Detections of images (H, W, 3) uint8 RGB of any sizes, each warped to the network's input size."""
    return detect_tensor(model, _stack(model, images), **options)


def _stack(model: SSD, images: Sequence[np.ndarray]) -> Tensor:
    """Images (H, W, 3) of any sizes as the network's input (B, 3, H, W), channels last in memory.

    For a GPU in memory from which it copies by itself.
    """
    pixels = torch.from_numpy(np.stack([_warp(model, image) for image in images]))
    if model.priors_cxcywh.is_cuda:
        pixels = pixels.pin_memory()
    return pixels.permute(0, 3, 1, 2)


def _warp(model: SSD, image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) at the network's input size: uint8, or float32 where `model.processing` keeps fractions."""
    width_px, height_px = model.config.width_px, model.config.height_px
    if model.processing.resize == "float":
        whole = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        warped = F.interpolate(whole, size=(height_px, width_px), mode="bilinear", align_corners=False)
        return warped[0].permute(1, 2, 0).numpy()
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    return Resize(width_px, height_px)(Sample(image, *nothing)).image


def detect_dataset(
    model: SSD,
    dataset: Dataset,
    batch_size: int = 32,
    progress: bool = True,
    *,
    workers: int | None = None,
    **options: Any,
) -> tuple[list[Detections], list[Truth]]:
    """Detections and truths of every image of a data set, in its order; options go to `detect_tensor`.

    workers: threads that read and warp the next batches while the network computes, so that dataset[i] is asked for
    by several at once; None takes some beside a GPU and none on a CPU, whose cores the network needs.
    """
    if workers is None:
        workers = _WORKERS_BESIDE_GPU if model.priors_cxcywh.is_cuda else 0
    starts = range(0, len(dataset), batch_size)
    parts = [range(start, min(start + batch_size, len(dataset))) for start in starts]
    found: list[Detections] = []
    truths: list[Truth] = []
    batches = _ahead(lambda part: _load(model, dataset, part), parts, workers)
    for images, part in tqdm(batches, "detecting", len(parts), unit="batch", disable=not progress):
        found += detect_tensor(model, images, **options)
        truths += part
    return found, truths


def _load(model: SSD, dataset: Dataset, places: Iterable[int]) -> tuple[Tensor, list[Truth]]:
    """The network's input for some images of a data set, and their truths."""
    samples = [dataset[i] for i in places]
    return _stack(model, [s.image for s in samples]), [s.truth for s in samples]


def _ahead(make: Callable[[range], T], parts: Iterable[range], workers: int) -> Iterator[T]:
    """make(part) of each part in order, made by so many threads and no more than that many parts ahead."""
    if not workers:
        yield from map(make, parts)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(make, part))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
