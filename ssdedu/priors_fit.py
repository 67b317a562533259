"""A detector's default boxes measured on a data set, beside those of other descriptions and other sides of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ssdedu import priors
from ssdedu.best_box import best_default_box
from ssdedu.coverage import Coverage, coverage
from ssdedu.priors import Config
from ssdedu.priors_search import fit_score, suggest
from ssdedu.sample import Dataset

__all__ = ["Fit", "Fitted", "OfClass", "check_threshold", "fit_dataset"]


class Fitted(NamedTuple):
    """How one description fits the objects: share covered, mean IoU of the best default boxes."""

    config: Config
    share: float
    mean_iou: float


class OfClass(NamedTuple):
    """Shares covered of the objects of one class: as it is, and with other sides."""

    share: float
    other: float
    objects: int
    name: str


@dataclass(frozen=True)
class Fit:
    """A description measured on a data set, and what could be had instead.

    classes: names of the labels 1, 2, ...; before: the description as it is; after: with other sides, None if none
    are better; ratio_3: other sides and ratio 3 on every map; presets: all of `priors.PRESETS`, and the description
    itself where it is none of them.
    """

    title: str
    classes: tuple[str, ...]
    before: Coverage
    after: Coverage | None
    ratio_3: Fitted
    presets: tuple[Fitted, ...]

    @property
    def best(self) -> Config:
        """The description with other sides, or as it is where none are better."""
        return (self.after or self.before).config

    @property
    def shares(self) -> tuple[float, float, float]:
        """Share covered as it is, with other sides, and with ratio 3 as well."""
        after = self.after or self.before
        return self.before.share_covered, after.share_covered, self.ratio_3.share

    def by_class(self) -> list[OfClass]:
        """The classes that have objects, the least covered first."""
        before, after = self.before.covered, (self.after or self.before).covered
        rows = []
        for label, name in enumerate(self.classes, start=1):
            own = self.before.labels == label
            if own.any():
                rows.append(
                    OfClass(float(before[own].mean()), float(after[own].mean()), int(own.sum()), name)
                )
        return sorted(rows)


def fit_dataset(dataset: Dataset, config: Config, threshold: float = 0.5, title: str = "the data") -> Fit:
    """Measure the default boxes of a description on the objects of a data set and look for better ones.

    Raises ValueError where there is no object, and for a threshold outside 0 to 1.
    """
    check_threshold(threshold)
    truths = [dataset.truth(i) for i in range(len(dataset))]
    before = coverage(truths, config, threshold)
    if not before.num_objects:
        skipped = f"; {len(before.skipped)} degenerate boxes were skipped" if before.skipped else ""
        raise ValueError(f"{title}: no object in {len(truths):,} images, so nothing to fit{skipped}")
    boxes = before.boxes_xyxy
    other = suggest(boxes, config, threshold)
    better = fit_score(boxes, other, threshold) > fit_score(boxes, config, threshold)
    after = coverage(truths, _renamed(other, "FIT"), threshold) if better else None
    wide = _renamed(suggest(boxes, config, threshold, ratio_3=True), "FIT_RATIO_3")
    known = list(priors.PRESETS.values())
    known += [] if config in known else [config]
    return Fit(
        title,
        tuple(dataset.classes),
        before,
        after,
        _fitted(boxes, wide, threshold),
        tuple(_fitted(boxes, other, threshold) for other in known),
    )


def check_threshold(threshold: float) -> None:
    """Raises ValueError for a threshold outside 0 to 1."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")


def _renamed(config: Config, ending: str) -> Config:
    return config.replace(name=f"{config.name}_{ending}")


def _fitted(boxes_xyxy: np.ndarray, config: Config, threshold: float) -> Fitted:
    iou = best_default_box(boxes_xyxy, config).iou
    return Fitted(config, float((iou >= threshold).mean()), float(iou.mean()))
