"""What a training run is made of, and the learning rate of each of its steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import InitVar, dataclass, replace
from typing import Any, Literal, get_args

from ssdedu.matching import Rule
from ssdedu.precision import Precision

__all__ = ["Settings", "in_current_terms", "learning_rate"]

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["steps", "cosine"]
_NO_MATTER = ("compile", "workers", "log_every", "save_every")  # settings that leave the detector as it is


@dataclass(frozen=True)
class Settings:
    """What a training run is made of; the defaults are the original's for VOC07+12 (ssd_pascal.py; Sec. 3, 3.1, 3.6).

    iterations, batch_size; optimizer with lr, momentum (SGD), weight_decay, bias_factor (rate of biases, which
    never decay); schedule: "steps" divides the rate by ten at each milestone, "cosine" lets it fall to zero;
    warmup: iterations of linear rise first. clip_norm: largest gradient norm, None for no limit. threshold and
    rule of the matching, alpha, ratio and min_negatives of the loss. precision of the forward pass: as
    `precision.forward_dtype` reads it (bfloat16 = True or False is short for "bfloat16" or "float32"). compile: by
    torch.compile, which takes minutes and then makes the network faster, equal but for rounding. frozen_layers: how
    many of the base's first layers keep the weights they came with (`bases.Base.freeze`). workers: processes that
    load and augment. log_every, save_every: iterations. seed names the order of the images, their augmentation and
    the initial weights.
    """

    iterations: int = 120_000
    batch_size: int = 32
    optimizer: Optimizer = "sgd"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_factor: float = 2.0
    schedule: Schedule = "steps"
    milestones: tuple[int, ...] = (80_000, 100_000)
    warmup: int = 0
    clip_norm: float | None = None
    threshold: float = 0.5
    rule: Rule = "ssd"
    alpha: float = 1.0
    ratio: float = 3.0
    min_negatives: int = 0
    precision: Precision = "auto"
    compile: bool = False
    frozen_layers: int = 0
    workers: int = 0
    log_every: int = 10
    save_every: int = 1000
    seed: int = 0
    bfloat16: InitVar[bool | None] = None

    def __post_init__(self, bfloat16: bool | None) -> None:
        if bfloat16 is not None:
            object.__setattr__(self, "precision", _BY_BFLOAT16[bfloat16])
        for fields, rule, allowed in _RULES:
            for field in fields:
                value = getattr(self, field)
                if not allowed(value):
                    raise ValueError(f"settings: {field} must be {rule}, got {value!r}")

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the numbers; compile, workers, log_every and save_every do not."""
        return {k: v for k, v in self.to_dict().items() if k not in _NO_MATTER}

    def shortened(self, iterations: int) -> Settings:
        """The same with other iterations: milestones move along, warm-up shrinks but never grows."""
        share = iterations / self.iterations
        milestones = tuple(round(m * share) for m in self.milestones)
        warmup = round(self.warmup * min(1.0, share))
        return replace(self, iterations=iterations, milestones=milestones, warmup=warmup)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}


_BY_BFLOAT16: dict[bool | None, Precision] = {None: "auto", False: "float32", True: "bfloat16"}
_BEFORE = {"frozen_layers": 0}  # what runs were made of before these settings were there


def in_current_terms(saved: dict[str, Any]) -> dict[str, Any]:
    """Settings of a checkpoint in the terms of today: those of older files have bfloat16 in place of precision."""
    if "bfloat16" not in saved:
        return saved
    return {**_BEFORE, "precision": _BY_BFLOAT16[saved["bfloat16"]], **saved}


def _one_of(kind: Any) -> tuple[str, Callable[[Any], bool]]:
    return f"one of {', '.join(get_args(kind))}", lambda value: value in get_args(kind)


_RULES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (("iterations", "batch_size", "log_every", "save_every"), "1 or more", lambda v: v >= 1),
    (("lr", "bias_factor"), "above 0 and finite", lambda v: 0 < v < math.inf),
    (("momentum",), "at least 0 and below 1", lambda v: 0 <= v < 1),
    (("weight_decay", "alpha", "ratio"), "at least 0 and finite", lambda v: 0 <= v < math.inf),
    (("warmup", "min_negatives", "frozen_layers", "workers", "seed"), "0 or more", lambda v: v >= 0),
    (("clip_norm",), "above 0, or None for no limit", lambda v: v is None or v > 0),
    (("threshold",), "above 0 and at most 1", lambda v: 0 < v <= 1),
    (("optimizer",), *_one_of(Optimizer)),
    (("schedule",), *_one_of(Schedule)),
    (("rule",), *_one_of(Rule)),
    (("precision",), *_one_of(Precision)),
)


def learning_rate(step: int, settings: Settings) -> float:
    """The rate of iteration `step` (from 0) as a fraction of settings.lr."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule == "steps":
        return 0.1 ** sum(step >= m for m in settings.milestones)
    done = (step - settings.warmup) / max(1, settings.iterations - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
