"""Training: one loop for every detector here, from the scenes that are drawn to VOC."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from tqdm.auto import tqdm

from ssdedu import batches, checkpoints
from ssdedu.batches import Batch, Transform
from ssdedu.loss import MultiboxLoss, multibox_loss
from ssdedu.matching import Rule, encode_targets
from ssdedu.model import SSD, parameter_groups
from ssdedu.sample import Dataset

__all__ = [
    "Settings",
    "TrainingError",
    "autocast",
    "batch_loss",
    "build",
    "learning_rate",
    "train",
    "use_bfloat16",
]

CHECKPOINT, LOG = "last.pt", "log.jsonl"


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, on which files, and what helps."""


@dataclass(frozen=True)
class Settings:
    """What a training run is made of; the defaults are the original's for VOC07+12 (Sec. 3.1, ssd_pascal.py).

    iterations, batch_size; optimizer with lr, momentum (SGD), weight_decay, bias_factor (rate of biases, which
    never decay); schedule: "steps" divides the rate by ten at each milestone, "cosine" lets it fall to zero;
    warmup: iterations of linear rise first. clip_norm: largest gradient norm, None for no limit. threshold and
    rule of the matching, alpha, ratio and min_negatives of the loss. bfloat16: None takes it where the processor
    has units for it. workers: processes that load and augment. log_every, save_every: iterations. seed names the
    order of the images, their augmentation and the initial weights.
    """

    iterations: int = 120_000
    batch_size: int = 32
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_factor: float = 2.0
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = (80_000, 100_000)
    warmup: int = 0
    clip_norm: float | None = None
    threshold: float = 0.5
    rule: Rule = "ssd"
    alpha: float = 1.0
    ratio: float = 3.0
    min_negatives: int = 0
    bfloat16: bool | None = None
    workers: int = 0
    log_every: int = 10
    save_every: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("iterations", "batch_size", "lr", "log_every", "save_every"):
            if not getattr(self, field) > 0:
                raise ValueError(f"settings: {field} must be above 0, got {getattr(self, field)}")
        for field, known in (("optimizer", ("sgd", "adamw")), ("schedule", ("steps", "cosine"))):
            if getattr(self, field) not in known:
                raise ValueError(f"settings: {field} must be one of {known}, got {getattr(self, field)!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}


def learning_rate(step: int, settings: Settings) -> float:
    """The rate of iteration `step` (from 0) as a fraction of settings.lr."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule == "steps":
        return 0.1 ** sum(step >= m for m in settings.milestones)
    done = (step - settings.warmup) / max(1, settings.iterations - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def use_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for bfloat16: GPUs since Ampere, CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, p, lambda: False)() for p in probes)


def autocast(device: torch.device, bfloat16: bool | None = None) -> AbstractContextManager:
    """Mixed precision for the network's forward pass; None asks `use_bfloat16`."""
    enabled = use_bfloat16(device) if bfloat16 is None else bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def build(make: Callable[[], SSD], seed: int) -> SSD:
    """A network with initial weights drawn from `seed`, the global random state left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    groups = parameter_groups(model, settings.lr, settings.weight_decay, settings.bias_factor)
    for group in groups:
        group["full_lr"] = group["lr"]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    return torch.optim.SGD(groups, momentum=settings.momentum)


def batch_loss(model: SSD, batch: Batch, settings: Settings) -> MultiboxLoss:
    """Forward pass, matching and loss of one batch on the model's device."""
    device = model.priors_cxcywh.device
    with autocast(device, settings.bfloat16):
        offsets, logits = model(batch.images)
    targets = encode_targets(
        batch.boxes_xyxy,
        batch.labels,
        model.priors_cxcywh,
        model.config.variances,
        settings.threshold,
        settings.rule,
    )
    return multibox_loss(
        offsets,
        logits,
        targets.offsets,
        targets.labels,
        alpha=settings.alpha,
        ratio=settings.ratio,
        min_negatives=settings.min_negatives,
    )


class _Run:
    """A training run in a folder: the network, its optimizer, the step it has reached, the log."""

    def __init__(self, model: SSD, classes: Sequence[str], settings: Settings, folder: Path) -> None:
        self.model, self.classes, self.settings, self.folder = model, classes, settings, folder
        self.optimizer = _optimizer(model, settings)
        self.step = 0
        self.records: list[dict[str, float]] = []

    def resume(self) -> None:
        """Go back to the last checkpoint; raises CheckpointError when it belongs to other settings."""
        path = self.folder / CHECKPOINT
        content = checkpoints.load_checkpoint(path)
        about = content["description"]
        _check_same(path, "settings", about["settings"], self.settings.to_dict())
        _check_same(path, "classes", about["classes"], list(self.classes))
        _check_same(path, "network", about["config"], json.loads(json.dumps(self.model.config.to_dict())))
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = content["step"]
        self.records = [r for r in read_log(self.folder / LOG) if r["step"] <= self.step]

    def learn(self, batch: Batch) -> MultiboxLoss:
        """One step of the optimizer on one batch; raises TrainingError when the loss is not finite."""
        rate = learning_rate(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(self.model, batch, self.settings)
        value = loss.total.item()
        if not math.isfinite(value):
            raise TrainingError(_not_finite(self.step, value, batch.names))
        loss.total.backward()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.step += 1
        return loss

    def note(self, loss: MultiboxLoss, seconds: float) -> dict[str, float]:
        """Add a record of this step to the log."""
        rate = learning_rate(self.step - 1, self.settings) * self.settings.lr
        record = {"step": self.step, "lr": rate, "seconds": round(seconds, 3)}
        parts = {"loss": loss.total, "localization": loss.localization, "confidence": loss.confidence}
        record |= {k: round(v.item(), 6) for k, v in parts.items()}
        record["positives"] = int(loss.num_positives)
        self.records.append(record)
        return record

    def save(self) -> None:
        """Write log and checkpoint, the log first: a checkpoint never knows more than the log."""
        lines = "".join(json.dumps(r) + "\n" for r in self.records)
        checkpoints.write_atomically(self.folder / LOG, lambda f: f.write(lines.encode()))
        checkpoints.save_checkpoint(
            self.folder / CHECKPOINT,
            self.model,
            self.classes,
            self.step,
            self.optimizer,
            self.settings.to_dict(),
        )


def _check_same(path: Path, what: str, saved: Any, wanted: Any) -> None:
    if saved == wanted:
        return
    both = isinstance(saved, dict) and isinstance(wanted, dict)
    keys = [k for k in wanted if saved.get(k) != wanted[k]] if both else []
    detail = "; ".join(f"{k}: {saved.get(k)} there, {wanted[k]} here" for k in keys) or f"{saved} there"
    raise checkpoints.CheckpointError(
        f"{path}: the run to resume has other {what} ({detail}); repeat the first command's options, "
        "or start anew in another folder"
    )


def _not_finite(step: int, loss: float, names: Sequence[str]) -> str:
    return (
        f"the loss is {loss} at step {step + 1}. Files of this batch: {', '.join(names)}. Usual reasons: a rate "
        "too high (try a tenth, or --warmup), or broken boxes (`ssdedu check-data FOLDER`). The last checkpoint "
        "is from before."
    )


def read_log(path: Path) -> list[dict[str, float]]:
    """The records of a run's log, oldest first; none where there is no log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def train(
    model: SSD,
    dataset: Dataset,
    transform: Transform,
    settings: Settings,
    folder: str | Path,
    *,
    resume: bool = False,
    until: int | None = None,
    after_save: Callable[[SSD, int], None] | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place and return the log's records; `folder` receives last.pt and log.jsonl.

    transform: augmentation to the network's input size, such as `augment.Augment`. resume goes on from last.pt
    and gives, on one machine, the very numbers of an undisturbed run. until: stop after this many steps of the
    schedule. after_save(model, step) is called behind each checkpoint. Raises TrainingError when the loss is
    not finite, CheckpointError when there is nothing fitting to resume.
    """
    run = _Run(model, tuple(dataset.classes), settings, Path(folder))
    if len(dataset.classes) + 1 != model.num_classes:
        raise ValueError(
            f"{len(dataset.classes)} classes and background need num_classes {len(dataset.classes) + 1}"
        )
    if resume:
        run.resume()
    stop = min(settings.iterations, until or settings.iterations)
    loader = batches.training_batches(
        dataset, transform, settings.batch_size, settings.seed, run.step, stop, settings.workers
    )
    device, start = model.priors_cxcywh.device, time.perf_counter()
    before = run.records[-1]["seconds"] if run.records else 0.0
    model.train()
    with tqdm(total=settings.iterations, initial=run.step, unit="step", desc="training") as bar:
        for batch in loader:
            loss = run.learn(batch.to(device))
            bar.update()
            if run.step % settings.log_every == 0 or run.step == stop:
                record = run.note(loss, before + time.perf_counter() - start)
                bar.set_postfix(loss=f"{record['loss']:.3f}")
            if run.step % settings.save_every == 0 or run.step == stop:
                run.save()
                if after_save is not None:
                    after_save(model, run.step)
                    model.train()
    return run.records
