"""Batches for training, the same for the same seed and step: resume needs no state but the step's number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ssdedu.sample import Dataset, Sample
from ssdedu.stopping import outlive_signals

__all__ = ["AugmentedView", "Batch", "Order", "collate", "on_device", "to_tensor", "training_batches"]

Transform = Callable[[Sample, np.random.Generator], Sample]


@dataclass(frozen=True)
class Batch:
    """B images as the network takes them, uint8 (B, 3, H, W), with lists of boxes (G, 4) and labels (G,).

    Between processes and devices all boxes travel as one tensor, and all labels.
    """

    images: Tensor
    boxes_xyxy: list[Tensor]
    labels: list[Tensor]
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """The batch in another device's memory; to a GPU without waiting for the copy."""
        if self.images.device == device:
            return self
        joined = self._joined()
        if device.type == "cuda":
            joined = joined.moved(_pinned)
        return joined.moved(lambda values: values.to(device, non_blocking=True)).batch()

    def pin_memory(self) -> Batch:
        """The batch in memory from which a GPU copies by itself; DataLoader calls this."""
        return self._joined().moved(_pinned).batch()

    def _joined(self) -> _Joined:
        counts = [len(n) for n in self.labels]
        return _Joined(self.images, torch.cat(self.boxes_xyxy), torch.cat(self.labels), counts, self.names)

    def __reduce__(self) -> tuple[Callable[[_Joined], Batch], tuple[_Joined]]:
        return _Joined.batch, (self._joined(),)

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


class _Joined(NamedTuple):
    """A Batch with the boxes (sum of G, 4) and labels (sum of G,) of all images in one piece."""

    images: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    counts: list[int]
    names: list[str]

    def moved(self, move: Callable[[Tensor], Tensor]) -> _Joined:
        images, boxes_xyxy, labels = (move(t) for t in self[:3])
        return self._replace(images=images, boxes_xyxy=boxes_xyxy, labels=labels)

    def batch(self) -> Batch:
        boxes_xyxy, labels = (list(t.split(self.counts)) for t in (self.boxes_xyxy, self.labels))
        return Batch(self.images, boxes_xyxy, labels, self.names)


def _pinned(values: Tensor) -> Tensor:
    return values.pin_memory()  # which is the tensor itself where it is pinned


def _sound(boxes_xyxy: Tensor, labels: Tensor, num_classes: int) -> bool:
    area = boxes_xyxy.isfinite().all() and (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all()
    return bool(area and (labels >= 1).all() and (labels < num_classes).all())


def to_tensor(image: np.ndarray) -> Tensor:
    """An image (H, W, 3) uint8 as a tensor (3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one image size as a Batch; every image keeps its own number of objects, none included.

    The images lie in memory with their channels last, as cameras give and convolutions want them.
    """
    return Batch(
        torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2),
        [torch.from_numpy(s.boxes_xyxy.astype(np.float32, copy=False)) for s in samples],
        [torch.from_numpy(s.labels.astype(np.int64, copy=False)) for s in samples],
        [s.name for s in samples],
    )


class Order:
    """Which images each step takes: an endless sequence of shuffled passes, cut into batches.

    Iterating yields, for step `start` .. `stop` - 1, a list of (position in the endless sequence, image
    index). A pass may end inside a batch, so a data set may be smaller than a batch. processes: (number of this
    one, how many there are); each takes its equal share of every batch, in order. Raises ValueError for an empty
    data set and a batch that cannot be shared.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        processes: tuple[int, int] = (0, 1),
    ) -> None:
        if num_images < 1:
            raise ValueError("the training set has no images")
        rank, size = processes
        if batch_size % size:
            fitting = max(1, batch_size // size) * size
            raise ValueError(
                f"batch_size counts the images of all processes, and {batch_size} cannot be shared among {size}; "
                f"--batch-size {fitting} can"
            )
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.start, self.stop, self.share = start, stop, batch_size // size
        self.first = rank * self.share

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        passes: dict[int, np.ndarray] = {}
        for step in range(self.start, self.stop):
            first = step * self.batch_size + self.first
            positions = range(first, first + self.share)
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


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)
    outlive_signals()


def training_batches(
    dataset: Dataset,
    transform: Transform,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    workers: int = 0,
    *,
    processes: tuple[int, int] = (0, 1),
    pin_memory: bool = False,
) -> DataLoader:
    """A loader of the Batches of steps start .. stop - 1; the same for any number of worker processes.

    It is iterated once: its workers last as long as the training. processes: as in `Order`. pin_memory: for a GPU,
    see `Batch.pin_memory`.
    """
    cv2.setNumThreads(0)
    return DataLoader(
        AugmentedView(dataset, transform, seed),  # type: ignore[arg-type]
        batch_sampler=Order(len(dataset), batch_size, seed, start, stop, processes),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
    )


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches in the device's memory.

    On a GPU the copy runs beside the computation: the CPU, which is ahead of the GPU as long as nothing waits for
    results, has the next batch copied on a stream of its own while the GPU is busy with the last one. (This
    stream has not been run on a GPU yet.)
    """
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copying = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(copying):
            there = batch.to(device)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        for values in (there.images, *there.boxes_xyxy[:1], *there.labels[:1]):
            values.record_stream(computing)  # its memory is not given away while the computation needs it
        yield there
