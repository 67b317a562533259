"""Are these default boxes right for my data? How many objects have a default box that fits, and where the rest lie.

An object is covered when its best default box reaches the threshold of matching (Sec. 2.2). SSD's rule gives every
other object its best box all the same, but a single and poor one, to learn from and to be found by.

Coverage is not mAP. It says what the default boxes allow, not what a network will learn: objects are measured as the
detector sees whole images, while in training zoom and crops (Sec. 2.2, 3.6) show them in other sizes as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ssdedu import priors
from ssdedu.best_box import BestBox, best_default_box, reachable
from ssdedu.matching import MIN_OVERLAP, Match, Rule, match_batch
from ssdedu.priors import Config
from ssdedu.priors_search import suggest
from ssdedu.sample import Truth

__all__ = ["BestBox", "Bin", "Coverage", "best_default_box", "bins", "coverage", "reachable", "suggest"]

_BLOCK = 700_000  # overlaps of one batch, B x G x P: these fit a processor's cache
_CLEARLY = 1e-5  # a smaller difference of IoU is rounding


class Bin(NamedTuple):
    """Objects whose value lies from `low` up to but not including `high`, and how many of them are covered."""

    low: float
    high: float
    objects: int
    covered: int

    @property
    def share(self) -> float:
        """Share of the objects that is covered; nan without objects."""
        return self.covered / self.objects if self.objects else float("nan")


@dataclass(frozen=True, eq=False)
class Coverage:
    """How the default boxes of `config` fit the N objects of a data set, matched with `threshold` and `rule`.

    names: those of the images, also of those without objects. Of each object (N,): image, its place among the images;
    boxes_xyxy (N, 4); labels; difficult; best, its best default box; reachable, the IoU that an object of its size
    reaches at its luckiest place; positives, how many default boxes are responsible for it; outbid, whether its best
    default box went to another object; left_out, whether it has no default box once the plain threshold is the rule.
    positives_per_map (M,): default boxes with an object. skipped: the degenerate boxes, which count nowhere.
    Difficult objects count like all others, as in training.
    """

    config: Config
    threshold: float
    rule: Rule
    names: tuple[str, ...]
    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    best: BestBox
    reachable: np.ndarray
    positives: np.ndarray
    outbid: np.ndarray
    left_out: np.ndarray
    positives_per_map: np.ndarray
    skipped: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        """Images, also those without objects."""
        return len(self.names)

    @property
    def num_objects(self) -> int:
        """N, without the skipped ones."""
        return len(self.image)

    @property
    def covered(self) -> np.ndarray:
        """(N,) whether an object's best default box reaches the threshold."""
        return self.best.iou >= self.threshold

    @property
    def share_covered(self) -> float:
        """Share of the objects that is covered; nan without objects."""
        return float(self.covered.mean()) if self.num_objects else float("nan")

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the objects' best default boxes; nan without objects."""
        return float(self.best.iou.mean()) if self.num_objects else float("nan")

    @property
    def objects_per_map(self) -> np.ndarray:
        """(M,) objects whose best default box lies on each map."""
        return np.bincount(self.best.map_index, minlength=len(self.config.maps))

    @property
    def sizes_px(self) -> np.ndarray:
        """(N,) square root of each object's area, in pixels of the network's input."""
        return np.sqrt(self._sides_px.prod(1))

    @property
    def ratios(self) -> np.ndarray:
        """(N,) width over height in the network's input, into which the photo is squeezed."""
        width, height = self._sides_px.T
        return width / height

    @property
    def _sides_px(self) -> np.ndarray:
        boxes = self.boxes_xyxy.astype(np.float64)
        return (boxes[:, 2:] - boxes[:, :2]) * (self.config.width_px, self.config.height_px)

    def by_size(self) -> tuple[Bin, ...]:
        """Coverage in bins of `sizes_px`, two to each doubling: from 8 to 11.3 px, from 11.3 to 16 px, ..."""
        return bins(self.sizes_px, self.covered, 0.0)

    def by_ratio(self) -> tuple[Bin, ...]:
        """Coverage in bins of `ratios`, two to each doubling; 1 and the ratios 2 and 1/2 lie in their bins' middle."""
        return bins(self.ratios, self.covered, 0.5)


def bins(values: np.ndarray, covered: np.ndarray, shift: float = 0.0) -> tuple[Bin, ...]:
    """Positive values (N,), and whether covered (N,), in bins two to each doubling: edges 2 ** ((i - shift) / 2)."""
    if not len(values):
        return ()
    place = np.floor(2 * np.log2(values) + shift).astype(int)
    first = place.min()
    objects, hits = np.bincount(place - first), np.bincount(place - first, covered)
    edges = (2.0 ** ((first + np.arange(len(objects) + 1) - shift) / 2)).tolist()
    columns = zip(edges, edges[1:], objects.tolist(), hits.tolist(), strict=False)
    return tuple(Bin(low, high, number, int(hit)) for low, high, number, hit in columns)


def coverage(truths: Sequence[Truth], config: Config, threshold: float = 0.5, rule: Rule = "ssd") -> Coverage:
    """Measure the default boxes of a detector on the objects of images; see `Coverage`.

    Who is responsible is asked of `matching.match_batch`, in batches of bounded memory. Raises ValueError as that does.
    """
    objects = _collect(truths)
    best = best_default_box(objects.boxes_xyxy, config)
    tally = _Tally.empty(objects, config)
    batches = list(_batches(objects.image, config.num_boxes))
    for rows in tqdm(batches, desc="matching", unit="batch", leave=False, disable=len(truths) < 2000):
        tally.add(objects.boxes_xyxy, rows, threshold, rule)
    competes = best.iou >= threshold if rule == "threshold" else best.iou > MIN_OVERLAP
    sizes = objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]
    return Coverage(
        config=config,
        threshold=threshold,
        rule=rule,
        names=tuple(_name(truth, i) for i, truth in enumerate(truths)),
        image=objects.image,
        boxes_xyxy=objects.boxes_xyxy,
        labels=objects.labels,
        difficult=objects.difficult,
        best=best,
        reachable=reachable(sizes, config),
        positives=tally.positives,
        outbid=competes & (tally.own_iou < best.iou - _CLEARLY),
        left_out=tally.left_out,
        positives_per_map=tally.per_map,
        skipped=objects.skipped,
    )


class _Objects(NamedTuple):
    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    skipped: tuple[str, ...]


def _collect(truths: Sequence[Truth]) -> _Objects:
    """The objects of all images one below the other, without the degenerate ones."""
    images, skipped = [], []
    columns = [(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, bool))]
    for i, truth in enumerate(truths):
        boxes = np.asarray(truth.boxes_xyxy, np.float32).reshape(-1, 4)
        sound = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        skipped += [f"{_name(truth, i)}: object {k}, box {boxes[k].tolist()}" for k in np.flatnonzero(~sound)]
        images += [i] * int(sound.sum())
        columns.append((boxes[sound], np.asarray(truth.labels)[sound], np.asarray(truth.difficult)[sound]))
    boxes, labels, difficult = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return _Objects(np.array(images, np.int64), boxes, labels, difficult, tuple(skipped))


def _name(truth: Truth, index: int) -> str:
    return truth.name or f"image {index}"


def _batches(image: np.ndarray, num_boxes: int) -> Iterator[list[np.ndarray]]:
    """Rows of the objects of each of some images, which have about as many objects and together fit `_BLOCK`."""
    starts = np.unique(image, return_index=True)[1]
    batch: list[np.ndarray] = []
    for rows in sorted(np.split(np.arange(len(image)), starts[1:]), key=len):
        if batch and (len(batch) + 1) * len(rows) * num_boxes > _BLOCK:
            yield batch
            batch = []
        if len(rows):
            batch.append(rows)
    if batch:
        yield batch


@dataclass(frozen=True)
class _Tally:
    """What matching says of each object, filled batch by batch.

    own_iou (N,): best IoU with a default box that is responsible for it, 0 without one; the rest as in `Coverage`.
    """

    default_boxes: Tensor
    map_of_box: np.ndarray
    positives: np.ndarray
    own_iou: np.ndarray
    left_out: np.ndarray
    per_map: np.ndarray

    @classmethod
    def empty(cls, objects: _Objects, config: Config) -> _Tally:
        number, maps = len(objects.image), range(len(config.maps))
        map_of_box = np.repeat(maps, [m.num_boxes for m in config.maps])
        of_objects = np.zeros(number, np.int64), np.zeros(number), np.ones(number, bool)
        return cls(priors.default_boxes(config), map_of_box, *of_objects, np.zeros(len(maps), np.int64))

    def add(self, boxes_xyxy: np.ndarray, rows: list[np.ndarray], threshold: float, rule: Rule) -> None:
        """Match the images whose objects lie in these rows."""
        boxes = [torch.from_numpy(boxes_xyxy[r]) for r in rows]
        labels = [torch.ones(len(r), dtype=torch.int64) for r in rows]
        found = match_batch(boxes, labels, self.default_boxes, threshold, rule)
        owner, place = _owners(found, rows)
        np.add.at(self.positives, owner, 1)
        np.maximum.at(self.own_iou, owner, found.iou[found.object_index >= 0].numpy())
        np.add.at(self.per_map, self.map_of_box[place], 1)
        # A default box that is positive by the plain threshold is so by SSD's rule: only those are asked again.
        asked = (found.object_index >= 0).any(0) if rule != "multibox" else slice(None)
        candidates = self.default_boxes[asked]
        if len(candidates):
            again = match_batch(boxes, labels, candidates, threshold, "threshold")
            self.left_out[_owners(again, rows)[0]] = False


def _owners(found: Match, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Row of the object and place of the default box of each positive."""
    b, place = (found.object_index >= 0).nonzero(as_tuple=True)
    first = torch.tensor([r[0] for r in rows])
    return (first[b] + found.object_index[b, place]).numpy(), place.numpy()
