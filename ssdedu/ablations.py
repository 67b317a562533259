"""The paper's ablations in miniature (Sec. 3.2, Tables 2 and 3): the small detector, one idea changed at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssdedu import boxes, priors
from ssdedu.augment import Augment
from ssdedu.batches import Batch
from ssdedu.datasets.shapes import Shapes
from ssdedu.evaluate import Evaluation, evaluate_voc
from ssdedu.inference import detect_dataset
from ssdedu.loss import MultiboxLoss, multibox_loss
from ssdedu.matching import Targets, encode_targets
from ssdedu.model import SSD
from ssdedu.precision import autocast
from ssdedu.priors import Config
from ssdedu.recipes import RECIPES
from ssdedu.train import LossFunction, Settings, batch_loss, build, train

__all__ = [
    "GRID",
    "SCENES",
    "STEPS",
    "VARIANTS",
    "FullyConnectedGrid",
    "Variant",
    "cell_targets",
    "grid_loss",
    "mean_loss",
    "run",
]

STEPS, SCENES = 1200, 1000
ALL_NEGATIVES = 1e6
_RECIPE = RECIPES["shapes"]
_HELD_OUT_SEED = 1_000_000


def _with_ratios(config: Config, ratios: tuple[float, ...]) -> Config:
    maps = tuple(
        replace(m, aspect_ratios=tuple(r for r in m.aspect_ratios if r in ratios)) for m in config.maps
    )
    return config.replace(name=f"{config.name}_{len(ratios)}", maps=maps)


GRID = priors.SHAPES128_ONE_MAP.replace(
    name="GRID8",
    maps=(replace(priors.SHAPES128_ONE_MAP.maps[0], aspect_ratios=(), min_px=32, max_px=None),),
)
"""8 x 8 cells with one box each, all of one size: a grid without default-box shapes, as YOLO (2015) has it."""


class FullyConnectedGrid(SSD):
    """YOLO's head (arXiv 1506.02640, Sec. 2.1) on the small base: one last map, two fully connected layers, a grid.

    Images (B, 3, H, W) to offsets (B, P, 4) and logits (B, P, C), P cells of the description's only map.
    """

    def __init__(self, config: Config, num_classes: int, base: str = "small", hidden: int = 512) -> None:
        super().__init__(config, num_classes, base)
        self.offset_heads, self.class_heads = nn.ModuleList(), nn.ModuleList()
        depth, cells = self.base.channels[-1], -(-config.height_px // 32) * -(-config.width_px // 32)
        self.halve = nn.Sequential(
            nn.Conv2d(depth, depth, 3, 2, 1, bias=False), nn.BatchNorm2d(depth), nn.ReLU(inplace=True)
        )
        numbers = config.num_boxes * (4 + num_classes)
        self.connected = nn.Sequential(
            nn.Flatten(), nn.Linear(depth * cells, hidden), nn.ReLU(), nn.Linear(hidden, numbers)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), 0 .. 255, to offsets (B, P, 4) and logits (B, P, C)."""
        self._check_size(images)
        last = self.halve(self.features(images)[-1])
        numbers = self.connected(last.contiguous()).view(len(images), self.config.num_boxes, -1)
        return numbers[..., :4], numbers[..., 4:]


def cell_targets(
    boxes_xyxy: Sequence[Tensor],
    labels: Sequence[Tensor],
    priors_cxcywh: Tensor,
    grid: tuple[int, int],
    variances: Sequence[float] = boxes.VARIANCES,
) -> Targets:
    """YOLO's responsibility: the cell of a grid (rows, columns) in which an object's centre lies, and no other.

    Of objects that share a cell the first wins; the others are lost. Offsets are encoded as SSD does.
    """
    rows, columns = grid
    out_offsets = torch.zeros(len(boxes_xyxy), len(priors_cxcywh), 4)
    out_labels = torch.zeros(len(boxes_xyxy), len(priors_cxcywh), dtype=torch.int64)
    for i, (objects, names) in enumerate(zip(boxes_xyxy, labels, strict=True)):
        center = boxes.xyxy_to_cxcywh(objects)[:, :2]
        column = (center[:, 0] * columns).long().clamp(0, columns - 1)
        cell = (center[:, 1] * rows).long().clamp(0, rows - 1) * columns + column
        encoded = boxes.encode(objects, priors_cxcywh[cell], variances)
        for j in reversed(range(len(objects))):
            out_offsets[i, cell[j]], out_labels[i, cell[j]] = encoded[j], names[j]
    return Targets(out_offsets, out_labels)


def grid_loss(model: SSD, batch: Batch, settings: Settings) -> MultiboxLoss:
    """The MultiBox loss with each object's cell responsible (`cell_targets`) and all other cells background."""
    with autocast(model.priors_cxcywh.device, settings.precision):
        offsets, logits = model(batch.images)
    (only,) = model.config.maps
    grid = only.height, only.width
    targets = cell_targets(batch.boxes_xyxy, batch.labels, model.priors_cxcywh, grid, model.config.variances)
    return multibox_loss(offsets, logits, *targets, ratio=settings.ratio)


def mean_loss(model: SSD, batch: Batch, settings: Settings) -> MultiboxLoss:
    """What one writes first: no mining, and each part as a mean, over all default boxes or over all matches."""
    with autocast(model.priors_cxcywh.device, settings.precision):
        offsets, logits = model(batch.images)
    targets = encode_targets(batch.boxes_xyxy, batch.labels, model.priors_cxcywh, model.config.variances)
    positive = targets.labels > 0
    confidence = F.cross_entropy(logits.float().flatten(0, 1), targets.labels.flatten())
    matched = offsets[positive].float(), targets.offsets[positive]
    localization = F.smooth_l1_loss(*matched, reduction="sum") / max(1, matched[0].numel())
    return MultiboxLoss(confidence + localization, localization, confidence, positive.sum())


@dataclass(frozen=True)
class Variant:
    """One row of the table: what is changed against the whole detector.

    idea: the idea that is taken away; changes: fields of `train.Settings`; parts: fields of `augment.Augment`;
    longer: how many times as many steps.
    """

    name: str
    idea: str
    config: Config = priors.SHAPES128
    changes: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    loss: LossFunction = batch_loss
    network: Callable[..., SSD] = SSD
    longer: int = 1

    def augmentation(self) -> Augment:
        """The recipe's augmentation with this variant's parts switched off."""
        return replace(_RECIPE.augmentation(), **self.parts)

    def settings(self, seed: int, steps: int = STEPS) -> Settings:
        """The recipe's settings, shortened, in batches of 16, with this variant's changes."""
        steps *= self.longer
        short = replace(_RECIPE.settings.shortened(steps), batch_size=16, lr=5e-3)
        return replace(short, seed=seed, save_every=steps, **self.changes)


_NO_CROPS: dict[str, Any] = {"expand_probability": 0.0, "samplers": ()}
_GRID: dict[str, Any] = {"config": GRID, "changes": {"ratio": ALL_NEGATIVES}, "loss": grid_loss}
VARIANTS = {
    v.name: v
    for v in (
        Variant("SSD", "nothing: all ideas together"),
        Variant("no augmentation", "augmentation", parts={**_NO_CROPS, "mirror_probability": 0.0}),
        Variant("mirror only", "zoom out and sampled crops", parts=_NO_CROPS),
        Variant("ratios 1, 2", "ratio 3", _with_ratios(priors.SHAPES128, (2.0,))),
        Variant("ratio 1", "all ratios but 1", _with_ratios(priors.SHAPES128, ())),
        Variant("8 x 8 map alone", "several maps", priors.SHAPES128_ONE_MAP),
        Variant("4 x 4 map alone", "several maps", priors.SHAPES128_COARSE_MAP),
        Variant("no mining, sum over N", "mining", changes={"ratio": ALL_NEGATIVES}),
        Variant("no mining, means", "mining and the division by N", loss=mean_loss),
        Variant("MultiBox matching", "the matches above the threshold", changes={"rule": "multibox"}),
        Variant("grid, convolutional", "default boxes, several maps, mining", **_GRID),
        Variant(
            "grid, fully connected",
            "the same, and the convolutional head",
            network=FullyConnectedGrid,
            **_GRID,
        ),
        Variant("SSD, 3 x as long", "nothing, with more patience", longer=3),
        Variant("mirror only, 3 x as long", "zoom out and sampled crops", parts=_NO_CROPS, longer=3),
        Variant("ratio 1, 3 x as long", "all ratios but 1", _with_ratios(priors.SHAPES128, ()), longer=3),
    )
}
"""The rows of the table by name, the whole detector first."""


def run(
    variant: Variant, seed: int = 0, steps: int = STEPS, num_train: int = SCENES, num_held_out: int = 400
) -> Evaluation:
    """Train one row from `seed` on drawn scenes and evaluate it on held-out ones: 11-point AP at IoU 0.5.

    The scenes of a seed are the demo's first ones, the same for every row.
    """
    training, held_out = Shapes(num_train, seed), Shapes(num_held_out, _HELD_OUT_SEED + seed)
    model = build(lambda: variant.network(variant.config, len(training.classes) + 1, "small"), seed)
    with tempfile.TemporaryDirectory() as folder:
        train(
            model, training, variant.augmentation(), variant.settings(seed, steps), folder, loss=variant.loss
        )
    found, truths = detect_dataset(model, held_out)
    return evaluate_voc(found, truths, held_out.classes)
