"""What every data set gives and every evaluation reads: an image and its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Dataset", "Sample", "Truth"]


@dataclass(frozen=True)
class Truth:
    """The objects of one image, without its pixels: what evaluation compares detections with.

    boxes_xyxy (G, 4) float32, fractions of the image; labels (G,) int64, 1 .. C - 1 (0 is background);
    difficult (G,) bool; width_px and height_px of the image; name for messages and result files.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    width_px: int
    height_px: int
    name: str = ""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Sample:
    """One image and its objects, as a data set gives it and every augmentation step returns it.

    image (H, W, 3) uint8, RGB; boxes_xyxy (G, 4) float32, fractions of the image; labels (G,) int64,
    1 .. C - 1 (0 is background); difficult (G,) bool; name for messages.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    name: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def truth(self) -> Truth:
        """The objects without the pixels."""
        height_px, width_px = self.image.shape[:2]
        return Truth(self.boxes_xyxy, self.labels, self.difficult, width_px, height_px, self.name)


class Dataset(Protocol):
    """What training and evaluation ask of a data set: `shapes.Shapes` and `voc.VOCFolder` are two."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes 1 .. C - 1, background left out."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def truth(self, index: int) -> Truth:
        """The objects of image `index`, without decoding its pixels where that can be avoided."""
        ...
