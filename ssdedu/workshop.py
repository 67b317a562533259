"""The commands on a reader's own data: train, evaluate and detect from a path alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssdedu import checkpoints, plots
from ssdedu.comp3 import write_comp3
from ssdedu.datasets.cached import Cached
from ssdedu.datasets.voc import VOCFolder
from ssdedu.datasets.voc_image import ImageError, read_header, read_image
from ssdedu.detect import Detections
from ssdedu.evaluate import Evaluation, evaluate_voc
from ssdedu.inference import detect_dataset, detect_images
from ssdedu.model import SSD
from ssdedu.recipes import Recipe, recipe
from ssdedu.sample import Dataset, Sample, Truth
from ssdedu.train import CHECKPOINT, LOG, Settings, read_log, train

__all__ = ["choose_device", "detect_in_files", "evaluate_on_folder", "open_splits", "train_on_folder"]

_HELD_OUT_SHARE = 5


class _Part:
    """Some images of a data set, by index."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices, self.classes = dataset, list(indices), dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def truth(self, index: int) -> Truth:
        return self.dataset.truth(self.indices[index])


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; auto takes a GPU where there is one. Raises ValueError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: no such device; try cpu, cuda or auto") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: this torch sees no GPU; try --device cpu")
    return device


def _splits(folder: str | Path) -> list[str]:
    """Names of the splits of a VOC-layout folder."""
    lists = Path(folder) / "ImageSets" / "Main"
    return sorted(p.stem for p in lists.glob("*.txt")) if lists.is_dir() else []


def _first(present: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in present), None)


def open_splits(
    folder: str | Path, splits: tuple[str | None, str | None] = (None, None), skip_bad: bool = False
) -> tuple[Dataset, Dataset]:
    """Training and test part of a VOC-layout folder; each None is chosen: trainval or train, test or val.

    Without fitting splits every fifth image is held out. Raises ValueError as `VOCFolder` does.
    """
    present, on_error = _splits(folder), "skip" if skip_bad else "raise"
    for_training = splits[0] or _first(present, ("trainval", "train"))
    others = ("test", "val") if for_training == "train" else ("test",)
    for_test = splits[1] or _first(present, others)
    if for_training and for_test:
        training = VOCFolder(folder, for_training, on_error=on_error)
        return training, VOCFolder(folder, for_test, classes=training.classes, on_error=on_error)
    everything = VOCFolder(folder, for_training, on_error=on_error)
    held_out = range(_HELD_OUT_SHARE - 1, len(everything), _HELD_OUT_SHARE)
    if not held_out:
        raise ValueError(
            f"{folder}: {len(everything)} images are too few to hold some out; give --test-split"
        )
    kept = [i for i in range(len(everything)) if i not in held_out]
    return _Part(everything, kept), _Part(everything, held_out)


def _settings(chosen: Recipe, changes: dict[str, Any]) -> Settings:
    """The recipe's settings with the reader's changes; milestones and warm-up shrink with fewer steps."""
    base = chosen.settings
    given = {k: v for k, v in changes.items() if v is not None}
    share = given.get("iterations", base.iterations) / base.iterations
    scaled = {
        "milestones": tuple(round(m * share) for m in base.milestones),
        "warmup": round(base.warmup * min(1.0, share)),
        "workers": max(0, (os.cpu_count() or 1) - 2),
    }
    return replace(base, **{**scaled, **given})


def train_on_folder(
    folder: str | Path,
    out: str | Path,
    *,
    detector: str = "small",
    size_px: tuple[int, int] | None = None,
    splits: tuple[str | None, str | None] = (None, None),
    device: str = "auto",
    skip_bad: bool = False,
    resume: bool = False,
    changes: dict[str, Any] | None = None,
) -> Evaluation:
    """Train a detector of `recipes.RECIPES` on a VOC-layout folder and measure it on the held-out part.

    `out` receives last.pt, log.jsonl, metrics.json and the figures. changes: fields of `train.Settings`. Raises
    ValueError for the reader's mistakes, TrainingError where training cannot go on.
    """
    out, chosen = Path(out), recipe(detector)
    if size_px is not None:
        chosen = chosen.sized(*size_px)
    settings, place = _settings(chosen, changes or {}), choose_device(device)
    if (out / CHECKPOINT).exists() and not resume:
        raise ValueError(f"{out} holds a run already; go on with --resume, or choose another --out")
    training, test = open_splits(folder, splits, skip_bad)
    print(f"{len(training)} images to train on, {len(test)} held out; classes: {', '.join(training.classes)}")
    model = chosen.model(len(training.classes) + 1, settings.seed).to(place)
    train(model, Cached(training), chosen.augmentation(), settings, out, resume=resume)
    return _measure(model, test, out)


def _measure(model: SSD, test: Dataset, out: Path, metric: str = "voc07") -> Evaluation:
    """Evaluate and write metrics.json and the figures."""
    found, truths = detect_dataset(model, test)
    evaluation = evaluate_voc(found, truths, test.classes, metric)
    text = json.dumps(evaluation.as_dict(), indent=1)
    checkpoints.write_atomically(out / "metrics.json", lambda f: f.write(text.encode()))
    plots.save(plots.loss_curve(read_log(out / LOG)), out / "loss.png")
    plots.save(plots.pr_curves(evaluation), out / "pr.png")
    shown = range(min(8, len(test)))
    picture = plots.gallery([test[i] for i in shown], [found[i] for i in shown], test.classes)
    plots.save(picture, out / "gallery.png")
    return evaluation


def evaluate_on_folder(
    checkpoint: str | Path,
    folder: str | Path,
    split: str | None = None,
    metric: str = "voc07",
    *,
    skip_bad: bool = False,
    comp3: str | Path | None = None,
    report: str | Path | None = None,
) -> Evaluation:
    """Measure the detector of a checkpoint on a VOC-layout folder; comp3 and report name files to write."""
    model, classes = checkpoints.load_detector(checkpoint)
    split = split or _first(_splits(folder), ("test", "val"))
    dataset = VOCFolder(folder, split, classes=classes, on_error="skip" if skip_bad else "raise")
    found, truths = detect_dataset(model.to(choose_device()), dataset)
    evaluation = evaluate_voc(found, truths, classes, metric)
    if comp3 is not None:
        write_comp3(comp3, found, truths, classes)
    if report is not None:
        text = json.dumps(evaluation.as_dict(), indent=1)
        checkpoints.write_atomically(report, lambda f: f.write(text.encode()))
    return evaluation


def _read_upright(path: Path) -> np.ndarray:
    """The picture as a viewer shows it, turned by its EXIF tag."""
    if not path.is_file():
        raise ValueError(f"{path}: no such picture")
    try:
        return read_image(path, read_header(path).orientation)
    except ImageError as error:
        raise ValueError(f"{path}: {error}") from error


def _as_json(found: Detections, names: Sequence[str], width_px: int, height_px: int) -> list[dict[str, Any]]:
    scale = torch.tensor([width_px, height_px, width_px, height_px])
    rows = zip(names, found.scores.tolist(), (found.boxes_xyxy * scale).tolist(), strict=True)
    return [{"class": n, "score": round(s, 4), "box_xyxy_px": [round(v, 1) for v in b]} for n, s, b in rows]


def detect_in_files(
    images: Sequence[str | Path], checkpoint: str | Path, out: str | Path, score: float = 0.5
) -> Iterator[tuple[Path, Detections, list[str]]]:
    """Look for objects in picture files; writes NAME.png with the boxes drawn in, and detections.json, to `out`.

    Yields path, detections and class names of each picture. Raises ValueError for a file that is no picture.
    """
    model, classes = checkpoints.load_detector(checkpoint)
    paths, out, report = [Path(p) for p in images], Path(out), {}
    out.mkdir(parents=True, exist_ok=True)
    model = model.to(choose_device())
    for path in paths:
        image = _read_upright(path)
        found = detect_images(model, [image])[0].above(score)
        names = [classes[int(n) - 1] for n in found.labels]
        plots.write_picture(out / f"{path.stem}.png", image, found, classes)
        report[str(path)] = _as_json(found, names, image.shape[1], image.shape[0])
        yield path, found, names
    text = json.dumps(report, indent=1)
    checkpoints.write_atomically(out / "detections.json", lambda f: f.write(text.encode()))
