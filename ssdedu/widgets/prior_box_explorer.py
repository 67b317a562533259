"""The prior-box visualizer: objects to drag, default boxes to change, and what SSD matches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import traitlets

from ssdedu import boxes as box_ops
from ssdedu import matching, priors
from ssdedu.best_box import reachable
from ssdedu.datasets import shapes
from ssdedu.map_fields import map_fields
from ssdedu.priors import Config
from ssdedu.sample import Sample
from ssdedu.widgets.base import Explorer, bundle, data_url, named_box
from ssdedu.widgets.prior_box_data import MATCHED_IMAGES, objects_of, positives_per_map, summary

__all__ = ["KNOBS", "PriorBoxExplorer"]

Scene = Sample | np.ndarray | str | Path
KNOBS: dict[str, tuple[float | None, float, float, bool]] = {
    "SSD300_VOC": (0.1, 0.2, 0.9, True),
    "SSD300_COCO": (0.07, 0.15, 0.9, True),
    "SSD512_VOC": (0.07, 0.15, 0.9, True),
    "SSD512_COCO": (0.04, 0.1, 0.9, True),
    "SSD300_PAPER": (0.1, 0.2, 0.9, False),
    "SSD300_FULL_VGG": (0.1, 0.2, 0.9, True),
    "SSD300_MOBILENET": (0.1, 0.2, 0.9, True),
}
"""Scale of the first map, s_min, s_max, and whether in whole percents, from which a preset's sizes follow."""

_BASES = {"SSD300_FULL_VGG": "vgg16_full", "SSD300_MOBILENET": "mobilenet", "SHAPES128": "small"}
_BASES |= {"SHAPES128_ONE_MAP": "small", "SHAPES128_COARSE_MAP": "small"}
_SHOWN = (0, 233)  # seed and index of the drawn scene that is shown where none is given


class PriorBoxExplorer(Explorer):
    """Objects on an image, the default boxes of a detector, and which are matched: all of it can be changed.

    scene: a Sample, an image (H, W, 3) uint8 or a picture file; by default a drawn scene. config: the description to
    begin with, a preset or your own; base: its base network in `bases.BASES`, by which receptive fields are known.
    classes: names for labels. data: a VOC-layout folder (or several), a data set, truths, or boxes (G, 4) image by
    image in fractions: then it also shows how many of their objects the default boxes cover. threshold and rule: of
    `matching.match`. What the page shows while a hand moves is its own twin of this package; at rest `answer` and
    `data_answer` hold the package's numbers and take its place.
    `config` is the description as it stands. Raises ValueError for what is no scene, rule or threshold.
    """

    _esm = bundle("prior_box_explorer.js")
    image = traitlets.Unicode().tag(sync=True)
    objects = traitlets.List(traitlets.Dict()).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    description = traitlets.Dict().tag(sync=True)
    threshold = traitlets.Float(0.5).tag(sync=True)
    rule = traitlets.Enum(get_args(matching.Rule), default_value="ssd").tag(sync=True)
    knobs = traitlets.Dict().tag(sync=True)
    map_index = traitlets.Int(0).tag(sync=True)
    cell = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    preset = traitlets.Unicode().tag(sync=True)
    presets = traitlets.List(traitlets.Dict()).tag(sync=True)
    num_images = traitlets.Int(0).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    revision = traitlets.Int(0).tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    data = traitlets.List(traitlets.List()).tag(sync=True)
    data_name = traitlets.Unicode().tag(sync=True)
    data_size = traitlets.Int(0).tag(sync=True)
    matched_images = traitlets.Int(MATCHED_IMAGES).tag(sync=True)
    data_revision = traitlets.Int(0).tag(sync=True)
    data_answer = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        scene: Scene | None = None,
        config: Config = priors.SSD300_VOC,
        *,
        classes: Sequence[str] = (),
        data: Any = None,
        base: str | None = None,
        threshold: float = 0.5,
        rule: matching.Rule = "ssd",
    ) -> None:
        self._objects = objects_of(data)
        if scene is None and self._objects.images is not None:
            scene, classes = self._objects.images[0], classes or self._objects.images.classes
        sample, names = _sample(scene, classes)
        presets = _presets(config, base)
        middle = config.maps[map_index := len(config.maps) // 2]
        super().__init__(
            image=_packed(sample.image),
            objects=_objects(sample, names),
            names=list(names),
            description=config.to_dict(),
            threshold=threshold,
            rule=rule,
            knobs=next(p["knobs"] for p in presets if p["config"]["name"] == config.name),
            map_index=map_index,
            cell=[middle.height // 2, middle.width // 2],
            preset=config.name,
            presets=presets,
            num_images=0 if self._objects.images is None else len(self._objects.images),
            data=self._objects.for_the_page(),
            data_name=self._objects.name,
            data_size=len(self._objects.all_xyxy),
        )
        self._asked = ""
        self._answer()
        self.observe(self._answer, ["objects", "description", "threshold", "rule", "revision"])
        self.observe(self._show_image, "index")
        self.observe(self._answer_of_data, "data_revision")

    @property
    def config(self) -> Config:
        """The description as it stands, ready for `model.SSD`; raises ValueError where it is none."""
        return Config.from_dict(self.description)

    @config.setter
    def config(self, config: Config) -> None:
        known = next((p for p in self.presets if p["config"]["name"] == config.name), None)
        fields = json.loads(json.dumps(config.to_dict()))
        if known is None or json.loads(json.dumps(known["config"])) != fields:
            known = _preset(config, None)
            others = [p for p in self.presets if p["config"]["name"] != config.name]
            self.presets = [known, *others]
        with self.hold_trait_notifications():
            self.preset, self.knobs, self.description = config.name, known["knobs"], fields

    @traitlets.validate("preset")
    def _known_preset(self, proposal: Any) -> str:
        names = [p["config"]["name"] for p in self.presets]
        if proposal["value"] not in names:
            raise ValueError(f"preset must be one of {', '.join(names)}, got {proposal['value']!r}")
        return proposal["value"]

    def match(self) -> matching.Match:
        """`matching.match` of the objects as they stand."""
        labels = torch.ones(len(self.objects), dtype=torch.int64)
        return matching.match(
            self._boxes(), labels, priors.default_boxes(self.config), self.threshold, self.rule
        )

    def _boxes(self) -> torch.Tensor:
        return torch.tensor([o["box"] for o in self.objects], dtype=torch.float32).reshape(-1, 4)

    def _answer(self, change: object = None) -> None:
        """Answer what the page asks, once for each state."""
        asked = json.dumps([self.revision, self.objects, self.description, self.threshold, self.rule])
        if asked == self._asked:
            return
        self._asked = asked
        try:
            self.answer = {"revision": self.revision, **self._scene_answer()}
        except (ValueError, KeyError, TypeError) as error:
            self.answer = {"revision": self.revision, "error": f"{type(error).__name__}: {error}"}

    def _scene_answer(self) -> dict[str, Any]:
        found, objects = self.match(), self._boxes()
        corners = box_ops.cxcywh_to_xyxy(priors.default_boxes(self.config))
        overlaps = box_ops.iou(objects, corners)  # (G, P)
        (p,) = torch.nonzero(found.object_index >= 0, as_tuple=True)
        rows = zip(p.tolist(), found.object_index[p].tolist(), found.iou[p].tolist(), strict=True)
        pairs = matching.bipartite(overlaps[None])[0].tolist()
        sizes = (objects[:, 2:] - objects[:, :2]).double().numpy()
        best = overlaps.max(dim=1) if len(objects) else None
        return {
            "positives": [list(row) for row in rows],
            "own": pairs if self.rule != "threshold" else [-1] * len(objects),
            "best": []
            if best is None
            else [list(b) for b in zip(best.indices.tolist(), best.values.tolist(), strict=True)],
            "reachable": reachable(sizes, self.config).tolist(),
        }

    def _show_image(self, change: Any) -> None:
        """Another image of the data set, with its objects."""
        sample = self._objects.images[change["new"]]
        self.image = _packed(sample.image)
        self.objects = _objects(sample, self.names)

    def _answer_of_data(self, change: object = None) -> None:
        """How the description, and the preset it came from, fit all objects of the data."""
        if not self.data_size:
            return
        preset = next(p["config"] for p in self.presets if p["config"]["name"] == self.preset)
        try:
            boxes, config = self._objects.all_xyxy, self.config
            self.data_answer = {
                "revision": self.data_revision,
                "now": summary(boxes, config, self.threshold),
                "before": summary(boxes, Config.from_dict(preset), self.threshold),
                "positives_per_map": positives_per_map(self.data, config, self.threshold, self.rule),
            }
        except ValueError as error:
            self.data_answer = {"revision": self.data_revision, "error": str(error)}

    def __repr__(self) -> str:
        config = self.config
        return f"PriorBoxExplorer: {config.name}, {config.num_boxes:,} default boxes, {len(self.objects)} objects"


def _sample(scene: Scene | None, classes: Sequence[str]) -> tuple[Sample, Sequence[str]]:
    """The scene with its objects, and the names of classes."""
    if scene is None:
        return shapes.draw_scene(*_SHOWN), classes or shapes.CLASSES
    if isinstance(scene, Sample):
        return scene, classes
    image = _read(Path(scene)) if isinstance(scene, str | Path) else np.asarray(scene)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"scene must be an image (H, W, 3) uint8, got {image.shape} {image.dtype}")
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    return Sample(image, *nothing), classes


def _packed(image: np.ndarray) -> str:
    """Drawn scenes exactly; photos, which are larger, as JPEG."""
    return data_url(image, "JPEG" if max(image.shape) > 256 else "PNG")


def _read(path: Path) -> np.ndarray:
    from ssdedu.datasets.voc_image import read_header, read_image

    return read_image(path, read_header(path).orientation)


def _objects(sample: Sample, names: Sequence[str]) -> list[dict[str, Any]]:
    def name(label: int) -> str:
        return names[label - 1] if label <= len(names) else f"class {label}"

    rows = zip(sample.boxes_xyxy, sample.labels.tolist(), strict=True)
    return [named_box(box, name(label)) for box, label in rows]


def _presets(config: Config, base: str | None) -> list[dict[str, Any]]:
    """All presets, and the description given where it is none of them."""
    own = [] if priors.PRESETS.get(config.name) == config else [_preset(config, base)]
    return own + [
        _preset(c, _BASES.get(c.name, "vgg16"))
        for c in priors.PRESETS.values()
        if c.name != config.name or not own
    ]


@cache
def _preset(config: Config, base: str | None) -> dict[str, Any]:
    """What the page knows of a detector: description, knobs, receptive fields, fewest maps, original steps."""
    if isinstance(config.clip, str):
        raise ValueError(
            f"{config.name}: clip is {config.clip!r}; the explorer cuts boxes at the border (True) or not at all"
        )
    first, low, high, whole = KNOBS.get(config.name) or _derived_knobs(config)
    fields = [] if base is None else _fields(config, base)
    return {
        "config": config.to_dict(),
        "knobs": {"first": first, "low": low, "high": high, "whole": whole},
        "fields": fields,
        "min_maps": sum(m.extra is None for m in config.maps) if base else 1,
        "steps_px": [m.step_px for m in _stepped(config).maps],
    }


def _fields(config: Config, base: str) -> list[dict[str, float]]:
    """The fields of the maps, start along the width and start_y along the height."""
    columns, rows = (map_fields(config, base, axis) for axis in (1, 0))
    return [{**vars(x), "start_y": y.start} for x, y in zip(columns, rows, strict=True)]


def _stepped(config: Config) -> Config:
    """Where the original's steps are taken from: the paper's form has none of its own."""
    return priors.SSD300_VOC if config.name == priors.SSD300_PAPER.name else config


def _derived_knobs(config: Config) -> tuple[float | None, float, float, bool]:
    """Knobs near the sizes of a description that was made without them."""
    side = min(config.width_px, config.height_px)
    scale = [round(m.min_px / side, 3) for m in config.maps]
    return (scale[0], scale[1], scale[-1], False) if len(scale) > 2 else (None, scale[0], scale[-1], False)
