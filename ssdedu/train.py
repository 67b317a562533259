"""Training: one loop for every detector here, from the scenes that are drawn to VOC."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import nn
from tqdm.auto import tqdm

from ssdedu import batches, checkpoints, distributed, keeping
from ssdedu.batches import Batch, Transform
from ssdedu.files import DiskFullError
from ssdedu.keeping import CHECKPOINT, LOG, read_log
from ssdedu.loss import MultiboxLoss, multibox_loss
from ssdedu.matching import encode_targets
from ssdedu.model import SSD
from ssdedu.optimization import NotFiniteError, Stepper
from ssdedu.precision import autocast
from ssdedu.same_run import check_same_run
from ssdedu.sample import Dataset
from ssdedu.settings import Settings, learning_rate
from ssdedu.stopping import Stopping

__all__ = [
    "CHECKPOINT",
    "LOG",
    "Settings",
    "TrainingError",
    "batch_loss",
    "build",
    "check_same_run",
    "learning_rate",
    "read_log",
    "train",
]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, on which files, and what helps."""


def build(make: Callable[[], SSD], seed: int) -> SSD:
    """A network with initial weights drawn from `seed`, the global random state left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def batch_loss(model: SSD, batch: Batch, settings: Settings) -> MultiboxLoss:
    """Forward pass, matching and loss of one batch on the model's device, over the positives of all processes."""
    device = model.priors_cxcywh.device
    with autocast(device, settings.precision):
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
        num_positives=distributed.all_sum((targets.labels > 0).sum()),
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
        self.device = model.priors_cxcywh.device
        model.base.freeze(settings.frozen_layers)
        self.stepper = Stepper(model, settings, self.device)
        self.network = model
        self.step = 0
        self.saved_step: int | None = None
        self.records: list[dict[str, float]] = []

    def _saved(self) -> tuple[Path, dict[str, Any], list[dict[str, float]]]:
        """Path and content of the newest whole checkpoint, and the log up to it; the first process reads for all."""
        path, content = keeping.newest(self.folder)
        return path, content, [r for r in read_log(self.folder / LOG) if r["step"] <= content["step"]]

    def resume(self) -> None:
        """Go back to the newest whole checkpoint; raises CheckpointError when it belongs to other settings."""
        path, content, self.records = distributed.from_first(self._saved)
        network = {**self.model.config.to_dict(), "base": self.model.base_name}
        check_same_run(path, content["description"], self.settings, network, self.classes, self.data)
        self.model.load_state_dict(content["model"])
        self.stepper.load(content["optimizer"])
        self.step = self.saved_step = content["step"]
        if distributed.is_first():
            keeping.tidy(self.folder, path, self.records)

    def prepare(self) -> None:
        """Make of the model the network that learns: compiled, where the settings say so, one of several."""
        distributed.synchronize_norms(self.model, self.device)
        network = torch.compile(self.model) if self.settings.compile else self.model
        self.network = cast(SSD, distributed.data_parallel(cast(nn.Module, network), self.device))

    def learn(self, batch: Batch) -> MultiboxLoss:
        """One step of the optimizer on one batch, this process's part; raises NotFiniteError as `Stepper` does."""
        self.stepper.start(self.step)
        loss = self.loss(self.network, batch, self.settings)
        self.stepper.step(loss.total, self.step, batch.names)
        self.step += 1
        return loss

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
        """Add a record of this step to the log: of the whole batch, from all processes."""
        rate = learning_rate(self.step - 1, self.settings) * self.settings.lr
        record = {"step": self.step, "lr": rate, "seconds": round(seconds, 3)}
        parts = torch.stack([t.detach().float() for t in (loss.total, loss.localization, loss.confidence)])
        values = distributed.all_sum(parts).tolist()
        record |= {
            k: round(v, 6) for k, v in zip(("loss", "localization", "confidence"), values, strict=True)
        }
        record["positives"] = int(loss.num_positives)
        self.records.append(record)
        return record

    def save(self) -> None:
        """Write log and checkpoint, the log first: a checkpoint never knows more than the log."""
        if distributed.is_first():
            keeping.save(self.folder, self.records, self.saved_step, self._write_checkpoint)
        self.saved_step = self.step

    def _write_checkpoint(self, path: Path, previous: str | None) -> None:
        checkpoints.save_checkpoint(
            path,
            self.model,
            self.classes,
            self.step,
            self.stepper.to_save(),
            self.settings.to_dict(),
            self.data,
            previous,
        )

    def write_log(self) -> None:
        """Write the records so far, where there is room."""
        if distributed.is_first():
            with suppress(DiskFullError):
                keeping.write_log(self.folder, self.records)

    def asked_to_stop(self, stopping: Stopping, together: bool) -> bool:
        """Whether a signal has come, to any process; of several, they agree on it in the steps that are `together`."""
        asked = stopping.asked is not None
        if distributed.size() == 1:
            return asked
        return together and bool(distributed.all_sum(torch.tensor(float(asked))))

    def end_early(self) -> NoReturn:
        """Save, and raise KeyboardInterrupt."""
        self.stepper.check()
        if self.saved_step != self.step:
            self.save()
        raise KeyboardInterrupt(self.whereabouts())


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
    """Train `model` in place and return the log's records; `folder` receives last.pt, previous.pt, log.jsonl.

    transform: augmentation to the network's input size, such as `augment.Augment`. resume goes on from last.pt, or
    from previous.pt if that is damaged, and gives, on one machine, the very numbers of an undisturbed run. until:
    stop after this many steps of the schedule. after_save(model, step) is called behind each checkpoint. data: what
    is trained on and what is held out, kept in the checkpoint. loss: another loss of a batch, for experiments. The
    log is written however training ends; at Ctrl+C and SIGTERM a checkpoint, too (`stopping.Stopping`). Raises
    TrainingError when the loss or its gradient is not finite or an image's boxes are broken, CheckpointError when
    there is nothing fitting to resume, DiskFullError when there is no room for checkpoints.

    Within `distributed.process_group` each process calls this with equal arguments and its own device; the first one
    alone writes and calls after_save. A run may be resumed by another number of processes. A loss of yours must
    divide by numbers of the whole batch (`distributed.all_sum`), since the processes' losses are added.
    """
    run = _Run(model, tuple(dataset.classes), settings, Path(folder), data or {}, loss)
    if len(dataset.classes) + 1 != model.num_classes:
        raise ValueError(
            f"{len(dataset.classes)} classes and background need num_classes {len(dataset.classes) + 1}"
        )
    distributed.check_alike("data set and settings", [len(dataset), run.classes, settings.deciding(), data])
    if resume:
        run.resume()
    stop = min(settings.iterations, until or settings.iterations)
    loader = batches.training_batches(
        dataset,
        transform,
        settings.batch_size,
        settings.seed,
        run.step,
        stop,
        settings.workers,
        processes=(distributed.rank(), distributed.size()),
        pin_memory=run.device.type == "cuda",
    )
    if run.step < stop:
        room = keeping.checkpoint_bytes(model, run.stepper.optimizer)
        distributed.from_first(lambda: keeping.check_room(run.folder, room))
    run.prepare()
    try:
        with Stopping() as stopping:
            _loop(run, loader, stop, after_save, stopping)
    except BaseException as error:
        run.write_log()
        trouble = error if isinstance(error, NotFiniteError) else distributed.lost_process(error)
        if trouble is None:
            raise
        raise TrainingError(f"{trouble} {run.whereabouts()}") from error
    return run.records


def _loop(
    run: _Run,
    loader: Iterable[Batch],
    stop: int,
    after_save: Callable[[SSD, int], None] | None,
    stopping: Stopping,
) -> None:
    model, settings, start = run.model, run.settings, time.perf_counter()
    before = run.records[-1]["seconds"] if run.records else 0.0
    model.train()
    silent = not distributed.is_first()
    with tqdm(
        total=settings.iterations, initial=run.step, unit="step", desc="training", disable=silent
    ) as bar:
        for batch in batches.on_device(map(run.check, loader), run.device):
            loss = run.learn(batch)
            bar.update()
            logs, saves = (
                run.step % n == 0 or run.step == stop for n in (settings.log_every, settings.save_every)
            )
            if logs or saves:
                run.stepper.check()
            if logs:
                record = run.note(loss, before + time.perf_counter() - start)
                bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
            if saves:
                run.save()
                if after_save is not None and not silent:
                    after_save(model, run.step)
                    model.train()
            if run.asked_to_stop(stopping, together=logs or saves):
                run.end_early()
    distributed.share_buffers(model)
