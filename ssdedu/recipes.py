"""Recipes: a detector's description, its base and the settings that train it, by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ssdedu import priors
from ssdedu.augment import Augment
from ssdedu.model import SSD, fit_config
from ssdedu.priors import Config
from ssdedu.train import Settings, build

__all__ = ["DEMO", "RECIPES", "Recipe", "recipe"]


@dataclass(frozen=True)
class Recipe:
    """What `ssdedu train` needs besides the data: description, base, settings, and how to augment.

    The paper zooms out up to 4 times (Sec. 3.6); at 128 pixels that leaves objects of 3 pixels that teach nothing,
    so that the small net stops at 2. Colours are distorted (Sec. 2.2) but for the scenes, where they are drawn at
    random already. crops=False leaves out zooming and crops.
    """

    config: Config
    base: str
    settings: Settings
    about: str
    max_zoom_out: float = 4.0
    distort_probability: float = 0.5
    crops: bool = True

    def sized(self, width_px: int, height_px: int) -> Recipe:
        """The same recipe for another input size; raises ValueError where it is too small."""
        if (width_px, height_px) == (self.config.width_px, self.config.height_px):
            return self
        return replace(self, config=fit_config(self.config, width_px, height_px, self.base))

    def described(self, path: str | Path) -> Recipe:
        """The same recipe with the description in a JSON file, which `ssdedu priors --fit` writes as priors.json.

        Raises ValueError that names the file, and the field where the description is wrong.
        """
        try:
            config = Config.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            remedy = "`ssdedu priors NAME --fit FOLDER` writes a description as priors.json"
            raise ValueError(f"{path}: {error}; {remedy}") from error
        return replace(self, config=config)

    def model(self, num_classes: int, seed: int) -> SSD:
        """An untrained network for C = num_classes, drawn from `seed`."""
        return build(lambda: SSD(self.config, num_classes, self.base), seed)

    @property
    def from_random_vgg(self) -> bool:
        """Whether a plain VGG16 starts from random weights, from which its loss soon is nan."""
        return self.base == "vgg16"

    def augmentation(self) -> Augment:
        """The original's training transform for this input size; without crops it only mirrors and distorts."""
        size, chance = (self.config.width_px, self.config.height_px), self.distort_probability
        if not self.crops:
            return Augment(*size, distort_probability=chance, expand_probability=0.0, samplers=())
        return Augment(*size, max_ratio=self.max_zoom_out, distort_probability=chance)


SMALL = Settings(
    iterations=2000,
    optimizer="adamw",
    lr=8e-3,
    weight_decay=0.05,
    bias_factor=1.0,
    schedule="cosine",
    warmup=100,
    save_every=500,
)
SCRATCH = replace(SMALL, iterations=40_000, lr=1e-3, warmup=1000, clip_norm=10.0, save_every=1000)
MOBILENET = replace(
    SMALL, iterations=3000, lr=1e-3, warmup=300, clip_norm=10.0, save_every=250, frozen_layers=21
)
RECIPES = {
    "shapes": Recipe(
        priors.SHAPES128,
        "small",
        SMALL,
        "the small net at 128 x 128, which the demo trains on drawn scenes",
        2.0,
        0.0,
    ),
    "small": Recipe(
        fit_config(priors.SHAPES128.replace(name="SMALL"), 192, 192, "small"),
        "small",
        replace(SMALL, iterations=1500, save_every=500),
        "the small net at 192 x 192, minutes on a laptop's CPU",
        2.0,
    ),
    "mobilenet": Recipe(
        priors.SSD300_MOBILENET,
        "mobilenet",
        MOBILENET,
        "SSD300's default boxes on MobileNetV1, two hours on a laptop's CPU from ImageNet weights",
        2.0,
    ),
    "ssd300": Recipe(
        priors.SSD300_VOC, "vgg16", Settings(), "the paper's SSD300 with its schedule for VOC07+12"
    ),
    "ssd512": Recipe(
        priors.SSD512_VOC, "vgg16", Settings(), "the paper's SSD512 with its schedule for VOC07+12"
    ),
    "ssd300-bn": Recipe(
        priors.SSD300_VOC, "vgg16_bn", SCRATCH, "SSD300 with batch normalisation, from scratch on a GPU"
    ),
}

# Scenes are drawn without end, so the demo learns from many rather than from crops of few. And as these default boxes
# reach an IoU of 0.5 with three objects of four only, but 0.35 with nearly all (notebook 13), it matches from there on.
DEMO = replace(
    RECIPES["shapes"],
    crops=False,
    settings=replace(SMALL, iterations=1000, lr=1.5e-2, threshold=0.35, save_every=250),
)


def recipe(name: str) -> Recipe:
    """The recipe of that name; raises ValueError that lists the names."""
    if name not in RECIPES:
        raise ValueError(f"no detector is called {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]
