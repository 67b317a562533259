"""A data set kept decoded in memory as far as it fits, once for all processes that load from it."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssdedu.sample import Dataset, Sample, Truth

__all__ = ["Cached"]


class Cached:
    """Another data set whose decoded images stay in memory until they fill `megabytes`; the rest is read again.

    The memory is shared with the processes forked from this one, such as a DataLoader's workers on Linux: what one of
    them has decoded is there for all, so that each photo is decoded once. It is taken as it fills. Where workers are
    started anew (Windows, macOS), each of them keeps images of its own in its share of the room. Images from the
    cache are read-only; their objects come from the other data set's `truth`. Raises ValueError where so much
    memory cannot be reserved.
    """

    def __init__(self, dataset: Dataset, megabytes: float = 1000, workers: int = 0) -> None:
        self.dataset, self.megabytes, self.workers = dataset, megabytes, workers
        self._lock = multiprocessing.Lock()
        # offset in the pixels, height and width of each image, all 0 until it is there; then the bytes in use
        self._places = np.frombuffer(_shared(8 * (3 * len(dataset) + 1)), np.int64)
        self._pixels = np.frombuffer(_shared(int(megabytes * 1e6)), np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        share = self.megabytes / max(1, self.workers)
        return {"dataset": self.dataset, "megabytes": share, "workers": self.workers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def classes(self) -> Sequence[str]:
        """The other data set's classes."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        image = self._kept(index)
        if image is None:
            sample = self.dataset[index]
            self._keep(index, sample.image)
            return sample
        truth = self.dataset.truth(index)
        return Sample(image, truth.boxes_xyxy, truth.labels, truth.difficult, truth.name)

    def truth(self, index: int) -> Truth:
        """The objects of image `index`."""
        return self.dataset.truth(index)

    def _row(self, index: int) -> np.ndarray:
        return self._places[:-1].reshape(-1, 3)[index]

    def _kept(self, index: int) -> np.ndarray | None:
        with self._lock:
            offset, height, width = self._row(index).tolist()
        if not height:
            return None
        image = self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)
        image.flags.writeable = False
        return image

    def _keep(self, index: int, image: np.ndarray) -> None:
        """Copy the pixels, then say where they are: a process killed between leaves the image unread, not torn."""
        with self._lock:
            offset = int(self._places[-1])
            if offset + image.nbytes > len(self._pixels) or self._row(index)[1]:
                return
            self._places[-1] += image.nbytes
        self._pixels[offset : offset + image.nbytes] = image.reshape(-1)
        with self._lock:
            self._row(index)[:] = offset, *image.shape[:2]


def _shared(num_bytes: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, max(1, num_bytes))
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{num_bytes:,} bytes of memory cannot be reserved ({error}); take fewer megabytes"
        ) from error
