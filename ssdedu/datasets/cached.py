"""A data set kept decoded in memory as far as it fits."""

from __future__ import annotations

from collections.abc import Sequence

from ssdedu.sample import Dataset, Sample, Truth

__all__ = ["Cached"]


class Cached:
    """Another data set whose decoded images stay in memory until they fill `megabytes`; the rest is read again.

    workers: processes that load from it, each of which keeps images of its own and has its share of the room.
    """

    def __init__(self, dataset: Dataset, megabytes: float = 1000, workers: int = 0) -> None:
        self.dataset, self.room = dataset, megabytes * 1e6 / max(1, workers)
        self._samples: dict[int, Sample] = {}

    @property
    def classes(self) -> Sequence[str]:
        """The other data set's classes."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._samples:
            return self._samples[index]
        sample = self.dataset[index]
        if sample.image.nbytes <= self.room:
            self.room -= sample.image.nbytes
            self._samples[index] = sample
        return sample

    def truth(self, index: int) -> Truth:
        """The objects of image `index`."""
        return self.dataset.truth(index)
