"""What a detector does around its network, as its authors do it: the way from a photo to its input, and from its
output to detections.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Processing"]

RESIZES = ("uint8", "float")


@dataclass(frozen=True)
class Processing:
    """How photos become a network's input and its output becomes detections, where this is not Caffe's way.

    resize: "uint8" rounds the bilinearly resized photo to whole numbers, as Caffe and OpenCV do; "float" keeps the
    fractions, as torchvision does. options: those of `detect.detect` that differ from its defaults. Belongs to a
    network as `SSD.processing` and is kept in its files. Raises ValueError for another resize.
    """

    resize: str = "uint8"
    options: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {self.resize!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain strings and numbers, for JSON and checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Processing:
        """The inverse of `to_dict`; {} gives Caffe's way. Raises ValueError for an unknown field."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"not a description of a detector's processing: {error}") from error
