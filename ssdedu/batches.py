"""Batches for training, the same for the same seed and step: resume needs no state but the step's number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ssdedu.sample import Dataset, Sample

__all__ = ["AugmentedView", "Batch", "Order", "collate", "to_tensor", "training_batches"]

Transform = Callable[[Sample, np.random.Generator], Sample]


@dataclass(frozen=True)
class Batch:
    """B images as the network takes them, uint8 (B, 3, H, W), with lists of boxes (G, 4) and labels (G,)."""

    images: Tensor
    boxes_xyxy: list[Tensor]
    labels: list[Tensor]
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """The batch in another device's memory."""
        images = self.images.to(device, non_blocking=True)
        boxes = [b.to(device, non_blocking=True) for b in self.boxes_xyxy]
        return Batch(images, boxes, [n.to(device, non_blocking=True) for n in self.labels], self.names)

    def check(self, num_classes: int) -> None:
        """Raises ValueError naming the image with a box of no area or not finite, or a label not 1 .. C - 1."""
        if _sound(torch.cat(self.boxes_xyxy), torch.cat(self.labels), num_classes):
            return
        for name, boxes, labels in zip(self.names, self.boxes_xyxy, self.labels, strict=True):
            if not _sound(boxes, labels, num_classes):
                raise ValueError(
                    f"{name}: a box without area or a label outside 1 .. {num_classes - 1} among boxes_xyxy "
                    f"{boxes.tolist()}, labels {labels.tolist()}; `ssdedu check-data FOLDER` looks for such"
                )


def _sound(boxes_xyxy: Tensor, labels: Tensor, num_classes: int) -> bool:
    area = boxes_xyxy.isfinite().all() and (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all()
    return bool(area and (labels >= 1).all() and (labels < num_classes).all())


def to_tensor(image: np.ndarray) -> Tensor:
    """An image (H, W, 3) uint8 as a tensor (3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one image size as a Batch; every image keeps its own number of objects, none included."""
    return Batch(
        torch.stack([to_tensor(s.image) for s in samples]),
        [torch.from_numpy(s.boxes_xyxy.astype(np.float32, copy=False)) for s in samples],
        [torch.from_numpy(s.labels.astype(np.int64, copy=False)) for s in samples],
        [s.name for s in samples],
    )


class Order:
    """Which images each step takes: an endless sequence of shuffled passes, cut into batches.

    Iterating yields, for step `start` .. `stop` - 1, a list of (position in the endless sequence, image
    index). A pass may end inside a batch, so a data set may be smaller than a batch. Raises ValueError when
    it is empty.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, start: int, stop: int) -> None:
        if num_images < 1:
            raise ValueError("the training set has no images")
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        passes: dict[int, np.ndarray] = {}
        for step in range(self.start, self.stop):
            first = step * self.batch_size
            positions = range(first, first + self.batch_size)
            yield [(p, self._index(p, passes)) for p in positions]

    def _index(self, position: int, passes: dict[int, np.ndarray]) -> int:
        number, place = divmod(position, self.num_images)
        if number not in passes:
            passes.clear()
            passes[number] = np.random.default_rng([self.seed, number]).permutation(self.num_images)
        return int(passes[number][place])


class AugmentedView:
    """A data set seen through an augmentation: item (position, index) is image `index`.

    What is drawn for it depends on seed and position alone.
    """

    def __init__(self, dataset: Dataset, transform: Transform, seed: int) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        position, index = place
        return self.transform(self.dataset[index], np.random.default_rng([self.seed, 1, position]))


def _one_thread(worker: int = 0) -> None:
    cv2.setNumThreads(0)


def training_batches(
    dataset: Dataset,
    transform: Transform,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    workers: int = 0,
) -> DataLoader:
    """A loader of the Batches of steps start .. stop - 1; the same for any number of worker processes."""
    _one_thread()
    return DataLoader(
        AugmentedView(dataset, transform, seed),  # type: ignore[arg-type]
        batch_sampler=Order(len(dataset), batch_size, seed, start, stop),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_one_thread,
        pin_memory=False,
    )
