"""A picture with a patch to drag: which of SSD's samplers take it, which objects stay, what the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import traitlets

from ssdedu import augment, crops
from ssdedu.sample import Sample
from ssdedu.widgets.base import Explorer, bundle, data_url

__all__ = ["CropExplorer", "ObjectInPatch", "Verdict", "sampler_name", "verdict"]

_ROUNDING = 1e-9


class ObjectInPatch(NamedTuple):
    """An object's name, its IoU with the patch, and the share of its area left in the view; 0: it is gone."""

    name: str
    iou: float
    left: float


class Verdict(NamedTuple):
    """Whether a sampler's ranges of scale and aspect hold a patch, and whether the patch has the IoU asked for."""

    scale: bool
    aspect: bool
    overlap: bool


def verdict(patch_xyxy: np.ndarray, boxes_xyxy: np.ndarray, sampler: crops.Sampler) -> Verdict:
    """Could the sampler propose this patch (4,), and would it accept it among these boxes (G, 4)?

    Scale is sqrt(width * height), aspect width / height, both in fractions of the image, as `propose_crops`
    draws them; equal to a limit, up to rounding, is within it. The overlap is judged by `crops.pass_crops`.
    """
    width, height = patch_xyxy[2:] - patch_xyxy[:2]
    scale = np.sqrt(width * height)
    narrowest, widest = np.clip((sampler.min_aspect, sampler.max_aspect), scale**2, scale**-2)
    return Verdict(
        bool(sampler.min_scale - _ROUNDING <= scale <= sampler.max_scale + _ROUNDING),
        bool(narrowest * (1 - _ROUNDING) <= width / height <= widest * (1 + _ROUNDING)),
        bool(crops.pass_crops(patch_xyxy[None], boxes_xyxy, sampler)[0]),
    )


def sampler_name(sampler: crops.Sampler) -> str:
    """What a sampler asks for, in a few words."""
    low, high = sampler.min_iou, sampler.max_iou
    if low is not None:
        return f"IoU ≥ {low:g}" if high is None else f"IoU {low:g} to {high:g}"
    if high is not None and high < 1:
        return f"IoU ≤ {high:g}"
    return "whole image" if sampler.min_scale == 1 else "any patch"


class CropExplorer(Explorer):
    """One image and a patch of it, judged by SSD's samplers as `ssdedu.crops` does, beside the view it gives.

    sample: the image with its objects; classes: names of labels 1 .. C - 1; seed: of the proposals, drawn in
    the order of `crops.sample_crops`. In step with the page: `patch`, the reader's own, corners in fractions
    of the image; `sampler`, an index into `samplers`; `trial`, 0 for the reader's patch, else the number of the
    sampler's proposal that is shown in its place. ValueError for a patch or a sampler that is none.
    """

    _esm = bundle("crop_explorer.js")
    image = traitlets.Unicode().tag(sync=True)
    size_px = traitlets.List(traitlets.Int()).tag(sync=True)
    objects = traitlets.List(traitlets.Dict()).tag(sync=True)
    samplers = traitlets.List(traitlets.Dict()).tag(sync=True)
    trials = traitlets.List(traitlets.List(traitlets.Dict())).tag(sync=True)
    patch = traitlets.List(traitlets.Float()).tag(sync=True)
    sampler = traitlets.Int().tag(sync=True)
    trial = traitlets.Int(min=0).tag(sync=True)

    def __init__(
        self,
        sample: Sample,
        classes: Sequence[str],
        samplers: Sequence[crops.Sampler] = crops.SAMPLERS,
        seed: int = 0,
        patch: Sequence[float] = (0.2, 0.1, 0.8, 0.7),
        sampler: int = 0,
        trial: int = 0,
    ) -> None:
        if not samplers:
            raise ValueError("CropExplorer: samplers must hold at least one")
        self._sample, self._samplers, self._seed = sample, tuple(samplers), seed
        height_px, width_px = sample.image.shape[:2]
        super().__init__(
            image=min(data_url(sample.image), data_url(sample.image, "JPEG"), key=len),
            size_px=[width_px, height_px],
            objects=_described(sample, classes),
            samplers=[{"name": sampler_name(s), **asdict(s)} for s in samplers],
            trials=_trials(sample, samplers, seed),
            patch=list(map(float, patch)),
            sampler=sampler,
            trial=trial,
        )

    @traitlets.validate("patch")
    def _check_patch(self, proposal: Any) -> list[float]:
        patch: list[float] = proposal["value"]
        if len(patch) != 4 or not (0 <= patch[0] < patch[2] <= 1 and 0 <= patch[1] < patch[3] <= 1):
            raise ValueError(
                f"CropExplorer: patch must be corners within 0 .. 1, low before high, got {patch}"
            )
        return patch

    @traitlets.validate("sampler")
    def _check_sampler(self, proposal: Any) -> int:
        sampler: int = proposal["value"]
        if not 0 <= sampler < len(self._samplers):
            raise ValueError(f"CropExplorer: sampler must be 0 .. {len(self._samplers) - 1}, got {sampler}")
        return sampler

    def shown(self) -> np.ndarray:
        """The patch on the page, (4,) float64: the reader's, or that of the trial (the last, if it has fewer)."""
        if not self.trial:
            return np.array(self.patch)
        return np.array(self.trials[self.sampler][: self.trial][-1]["patch"])

    def verdicts(self) -> list[Verdict]:
        """What each sampler says to the patch shown."""
        return [verdict(self.shown(), self._sample.boxes_xyxy, s) for s in self._samplers]

    def view(self) -> Sample:
        """The patch shown, cut out with the objects that stay."""
        return augment.crop(self._sample, self.shown())

    def objects_in_patch(self) -> list[ObjectInPatch]:
        """What becomes of each object in the view of the patch shown."""
        boxes = self._sample.boxes_xyxy
        names = [o["name"] for o in self.objects]
        iou = crops.crop_iou(self.shown()[None], boxes)[0].tolist()
        number = np.arange(len(boxes))
        view = augment.crop(replace(self._sample, labels=number), self.shown())
        left = np.zeros(len(boxes))
        left[view.labels] = _areas_px(view) / _areas_px(self._sample)[view.labels]
        return [ObjectInPatch(*row) for row in zip(names, iou, left.tolist(), strict=True)]

    def magnification(self) -> float:
        """How many times longer an object's side is in the view of the patch shown than without a crop.

        Side is sqrt(area), of an object that is not cut; both are resized to the same square.
        """
        (height_px, width_px), (high_px, wide_px) = self._sample.image.shape[:2], self.view().image.shape[:2]
        return float(np.sqrt(width_px * height_px / (wide_px * high_px)))

    def passing_trials(self) -> list[int]:
        """Numbers, from 1, of the selected sampler's trials that pass; SSD takes the first."""
        return [n for n, trial in enumerate(self.trials[self.sampler], 1) if trial["passes"]]

    def __repr__(self) -> str:
        trials = sum(map(len, self.trials))
        return f"CropExplorer: {len(self.objects)} objects, {len(self.samplers)} samplers, {trials} trials"


def _described(sample: Sample, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Objects with unrounded corners, so that the page meets every limit exactly as the package does.

    Of several objects of a class each has its number in its name.
    """
    labels = sample.labels.tolist()
    names = [
        classes[label - 1] + (f" {labels[:i].count(label) + 1}" if labels.count(label) > 1 else "")
        for i, label in enumerate(labels)
    ]
    return [{"box": box, "name": name} for box, name in zip(sample.boxes_xyxy.tolist(), names, strict=True)]


def _trials(sample: Sample, samplers: Sequence[crops.Sampler], seed: int) -> list[list[dict[str, Any]]]:
    """All proposals of each sampler, drawn as `sample_crops` draws them, with the best IoU; None: no object."""
    rng = np.random.default_rng(seed)
    trials = []
    for sampler in samplers:
        proposed = crops.propose_crops(sampler, rng)
        passes = crops.pass_crops(proposed, sample.boxes_xyxy, sampler).tolist()
        iou = crops.crop_iou(proposed, sample.boxes_xyxy)
        best = iou.max(axis=1).tolist() if len(sample) else [None] * len(proposed)
        rows = zip(proposed.tolist(), best, passes, strict=True)
        trials.append([{"patch": p, "iou": i, "passes": ok} for p, i, ok in rows])
    return trials


def _areas_px(sample: Sample) -> np.ndarray:
    height_px, width_px = sample.image.shape[:2]
    sides = (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).astype(np.float64)
    return sides.prod(axis=1) * width_px * height_px
