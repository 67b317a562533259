"""The objects of a data set as the prior-box explorer takes them, and how a description fits all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssdedu import matching, priors
from ssdedu.best_box import best_default_box
from ssdedu.coverage import bins
from ssdedu.priors import Config
from ssdedu.sample import Truth

__all__ = ["MATCHED_IMAGES", "DataObjects", "objects_of", "positives_per_map", "summary"]

_PAGE_OBJECTS = 2000  # as many the page itself reckons with while a slider moves
MATCHED_IMAGES = 50  # of these the positives are counted, which takes longer


@dataclass(frozen=True)
class DataObjects:
    """The boxes (G, 4) of each image of a data set, without degenerate ones; `images` can show them, or is None."""

    name: str
    boxes_xyxy: tuple[np.ndarray, ...]
    images: Any = None

    @property
    def all_xyxy(self) -> np.ndarray:
        """(N, 4), image after image."""
        return np.concatenate([np.empty((0, 4), np.float32), *self.boxes_xyxy])

    def for_the_page(self, seed: int = 0) -> list[list[list[float]]]:
        """Boxes of some images, drawn with `seed`: as many as have about 2,000 objects together."""
        order = np.random.default_rng(seed).permutation(len(self.boxes_xyxy))
        ends = np.cumsum([len(self.boxes_xyxy[i]) for i in order])
        chosen = order[: int(np.searchsorted(ends, _PAGE_OBJECTS)) + 1]
        return [np.round(self.boxes_xyxy[i], 4).tolist() for i in chosen]


def objects_of(data: Any) -> DataObjects:
    """The objects of a VOC-layout folder (or several), a data set, truths, or boxes (G, 4) image by image.

    Boxes are corners in fractions of their image. Raises ValueError for what is none of these.
    """
    if data is None:
        return DataObjects("", ())
    folders = [data] if isinstance(data, str | Path) else data
    if isinstance(folders, Sequence) and folders and all(isinstance(f, str | Path) for f in folders):
        from ssdedu.datasets.voc import VOCFolder

        names = " and ".join(Path(f).resolve().name for f in folders)
        dataset = VOCFolder(folders if len(folders) > 1 else folders[0], on_error="skip")
        return DataObjects(names, _boxes([dataset.truth(i) for i in range(len(dataset))]), dataset)
    if hasattr(data, "truth") and hasattr(data, "classes"):
        return DataObjects("this data set", _boxes([data.truth(i) for i in range(len(data))]), data)
    return DataObjects("these objects", _boxes(data))


def _boxes(images: Any) -> tuple[np.ndarray, ...]:
    if isinstance(images, np.ndarray) and images.ndim == 2:
        images = [images]
    return tuple(_sound(i.boxes_xyxy if isinstance(i, Truth) else i) for i in images)


def _sound(boxes_xyxy: Any) -> np.ndarray:
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    if len(boxes) and boxes.max() > 2:
        raise ValueError(
            f"data: boxes must be fractions of their image, got {boxes[0].tolist()}; divide by its size"
        )
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def summary(boxes_xyxy: np.ndarray, config: Config, threshold: float) -> dict[str, Any]:
    """How a description fits objects (N, 4), in the numbers that the page shows; bins as in `coverage.Coverage`."""
    best = best_default_box(boxes_xyxy, config)
    covered = best.iou >= threshold
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).astype(np.float64) * (config.width_px, config.height_px)
    width, height = sides.T
    return {
        "num": len(boxes_xyxy),
        "covered": int(covered.sum()),
        "mean_iou": float(best.iou.mean()),
        "objects_per_map": np.bincount(best.map_index, minlength=len(config.maps)).tolist(),
        "by_size": [list(b) for b in bins(np.sqrt(width * height), covered, 0.0)],
        "by_ratio": [list(b) for b in bins(width / height, covered, 0.5)],
    }


def positives_per_map(
    images: Sequence[Sequence[Any]], config: Config, threshold: float, rule: matching.Rule
) -> list[int]:
    """Default boxes with an object on each map, summed over the first images, at most MATCHED_IMAGES."""
    boxes = [torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in images[:MATCHED_IMAGES]]
    labels = [torch.ones(len(b), dtype=torch.int64) for b in boxes]
    default_boxes = priors.default_boxes(config)
    map_of_box = np.repeat(range(len(config.maps)), [m.num_boxes for m in config.maps])
    sums = np.zeros(len(config.maps), np.int64)
    for start in range(0, len(boxes), 16):
        found = matching.match_batch(
            boxes[start : start + 16], labels[start : start + 16], default_boxes, threshold, rule
        )
        place = (found.object_index >= 0).nonzero()[:, 1]
        sums += np.bincount(map_of_box[place.numpy()], minlength=len(sums))
    return sums.tolist()
