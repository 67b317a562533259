"""Training: one loop for every detector here, from the scenes that are drawn to VOC."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from ssdedu import batches, checkpoints
from ssdedu.batches import Batch, Transform
from ssdedu.files import write_atomically
from ssdedu.loss import MultiboxLoss, multibox_loss
from ssdedu.matching import encode_targets
from ssdedu.model import SSD, parameter_groups
from ssdedu.precision import autocast
from ssdedu.sample import Dataset
from ssdedu.settings import Settings, learning_rate

__all__ = [
    "Settings",
    "TrainingError",
    "batch_loss",
    "build",
    "check_same_run",
    "learning_rate",
    "read_log",
    "train",
]

CHECKPOINT, LOG = "last.pt", "log.jsonl"


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, on which files, and what helps."""


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


LossFunction = Callable[[SSD, Batch, Settings], MultiboxLoss]


class _Run:
    """A training run in a folder: the network, its optimizer, the step it has reached, the log."""

    def __init__(
        self,
        model: SSD,
        classes: Sequence[str],
        settings: Settings,
        folder: Path,
        data: dict[str, Any],
        loss: LossFunction,
    ) -> None:
        self.model, self.classes, self.settings, self.folder = model, classes, settings, folder
        self.data, self.loss = data, loss
        model.base.freeze(settings.frozen_layers)
        self.optimizer = _optimizer(model, settings)
        self.step = 0
        self.saved_step: int | None = None
        self.records: list[dict[str, float]] = []

    def resume(self) -> None:
        """Go back to the last checkpoint; raises CheckpointError when it belongs to other settings."""
        path = self.folder / CHECKPOINT
        content = checkpoints.load_checkpoint(path)
        network = {**self.model.config.to_dict(), "base": self.model.base_name}
        check_same_run(path, content["description"], self.settings, network, self.classes, self.data)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = self.saved_step = content["step"]
        self.records = [r for r in read_log(self.folder / LOG) if r["step"] <= self.step]

    def learn(self, batch: Batch) -> MultiboxLoss:
        """One step of the optimizer on one batch; raises TrainingError when loss or gradient is not finite."""
        rate = learning_rate(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model, batch, self.settings)
        loss.total.backward()
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self._check_finite(loss.total, norm, batch.names)
        self.optimizer.step()
        self.step += 1
        return loss

    def _check_finite(self, loss: torch.Tensor, norm: torch.Tensor, names: Sequence[str]) -> None:
        values = torch.stack([loss.detach().float(), norm.float()]).tolist()
        for what, value in zip(("loss", "norm of the gradient"), values, strict=True):
            if not math.isfinite(value):
                raise TrainingError(_not_finite(what, value, self.step, names, self.whereabouts()))

    def whereabouts(self) -> str:
        """Where this run's last checkpoint is, or that there is none."""
        if self.saved_step is None:
            return "This run has no checkpoint yet."
        return f"{self.folder / CHECKPOINT} holds step {self.saved_step}."

    def check(self, batch: Batch) -> Batch:
        """The batch, if its boxes and labels are sound; raises TrainingError that names the image."""
        try:
            batch.check(self.model.num_classes)
        except ValueError as error:
            raise TrainingError(f"step {self.step + 1}: {error}. {self.whereabouts()}") from error
        return batch

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
        self.write_log()
        checkpoints.save_checkpoint(
            self.folder / CHECKPOINT,
            self.model,
            self.classes,
            self.step,
            self.optimizer,
            self.settings.to_dict(),
            self.data,
        )
        self.saved_step = self.step

    def write_log(self) -> None:
        """Write the records so far, if there are any."""
        lines = "".join(json.dumps(r) + "\n" for r in self.records)
        if lines:
            write_atomically(self.folder / LOG, lambda f: f.write(lines.encode()))


def check_same_run(
    path: Path,
    about: dict[str, Any],
    settings: Settings,
    network: dict[str, Any],
    classes: Sequence[str],
    data: dict[str, Any] | None = None,
) -> None:
    """Raises CheckpointError unless the run that a checkpoint's description is `about` may go on as this one.

    network: the fields of `priors.Config` and `base`. Settings that change no number (workers, log_every,
    save_every) may differ.
    """
    _check_same(path, "settings", about["settings"], settings.deciding())
    _check_same(path, "classes", about["classes"], list(classes))
    saved = {**about["config"], "base": about["base"]}
    _check_same(path, "network", saved, json.loads(json.dumps(network)))
    trained_on = [(d or {}).get("trained_on") for d in (about.get("data"), data)]
    if trained_on[0] != trained_on[1]:
        there, here = (f"{len(ids or [])} images" for ids in trained_on)
        _refuse(path, "images to train on", f"{there} there, {here} here, not all the same")


def _check_same(path: Path, what: str, saved: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        keys = [k for k in wanted if saved.get(k) != wanted[k]]
        detail = "; ".join(f"{k}: {saved.get(k)} there, {wanted[k]} here" for k in keys)
    else:
        detail = f"{saved} there" if saved != wanted else ""
    if detail:
        _refuse(path, what, detail)


def _refuse(path: Path, what: str, detail: str) -> None:
    raise checkpoints.CheckpointError(
        f"{path}: the run to resume has other {what} ({detail}); repeat the first command's options, "
        "or start anew in another folder"
    )


def _not_finite(what: str, value: float, step: int, names: Sequence[str], whereabouts: str) -> str:
    return (
        f"the {what} is {value} at step {step + 1}. Files of this batch: {', '.join(names)}. Usual reasons: a "
        "rate too high (try a tenth, or --warmup), or broken boxes (`ssdedu check-data FOLDER`). "
        + whereabouts
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
    data: dict[str, Any] | None = None,
    loss: LossFunction = batch_loss,
) -> list[dict[str, float]]:
    """Train `model` in place and return the log's records; `folder` receives last.pt and log.jsonl.

    transform: augmentation to the network's input size, such as `augment.Augment`. resume goes on from last.pt
    and gives, on one machine, the very numbers of an undisturbed run. until: stop after this many steps of the
    schedule. after_save(model, step) is called behind each checkpoint. data: what is trained on and what is held
    out, kept in the checkpoint. loss: another loss of a batch, for experiments. The log is written however
    training ends. Raises TrainingError when the loss or its gradient is not finite or an image's boxes are broken,
    CheckpointError when there is nothing fitting to resume.
    """
    run = _Run(model, tuple(dataset.classes), settings, Path(folder), data or {}, loss)
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
    try:
        _loop(run, loader, stop, after_save)
    except BaseException:
        run.write_log()
        raise
    return run.records


def _loop(
    run: _Run, loader: Iterable[Batch], stop: int, after_save: Callable[[SSD, int], None] | None
) -> None:
    model, settings = run.model, run.settings
    device, start = model.priors_cxcywh.device, time.perf_counter()
    before = run.records[-1]["seconds"] if run.records else 0.0
    model.train()
    with tqdm(total=settings.iterations, initial=run.step, unit="step", desc="training") as bar:
        for batch in loader:
            loss = run.learn(run.check(batch).to(device))
            bar.update()
            if run.step % settings.log_every == 0 or run.step == stop:
                record = run.note(loss, before + time.perf_counter() - start)
                bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
            if run.step % settings.save_every == 0 or run.step == stop:
                run.save()
                if after_save is not None:
                    after_save(model, run.step)
                    model.train()
