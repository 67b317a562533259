"""The commands on a reader's own data: train, evaluate and detect from a path alone."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssdedu import distributed, keeping, plots, weights
from ssdedu.base_weights import load_base
from ssdedu.comp3 import write_comp3
from ssdedu.datasets.cached import Cached
from ssdedu.datasets.voc_image import ImageError, read_header, read_image
from ssdedu.detect import Detections
from ssdedu.evaluate import Evaluation, evaluate_voc
from ssdedu.files import write_atomically
from ssdedu.inference import detect_dataset, detect_images
from ssdedu.model import SSD
from ssdedu.recipes import Recipe, recipe
from ssdedu.sample import Dataset, Truth
from ssdedu.splits import Part, open_splits, open_unseen, reduced
from ssdedu.train import LOG, Settings, read_log, train

__all__ = ["choose_device", "detect_in_files", "evaluate_on_folder", "train_on_folder"]


_RANDOM_VGG = (
    "VGG16 starts from random weights here, and without batch normalisation its loss soon is nan: "
    "--detector ssd300-bn is made for training from scratch\n"
)
_RANDOM_START = (
    "the base starts from random weights here, and its recipe is made for trained ones: "
    "--base-weights data/voc2007_mobilenet.safetensors takes the base of the detector that ships\n"
)


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; auto takes a GPU where there is one. Raises ValueError for one that is not there.

    Each of several processes (`distributed.process_group`) has a GPU of its own.
    """
    if name == "auto":
        return distributed.own_device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: no such device; try cpu, cuda or auto") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: this torch sees no GPU; try --device cpu")
    return distributed.own_device(device)


def _from_random(chosen: Recipe) -> str:
    """What a reader should know who trains this recipe without base weights."""
    if chosen.from_random_vgg:
        return _RANDOM_VGG
    return _RANDOM_START if chosen.settings.frozen_layers else ""


def _settings(chosen: Recipe, changes: dict[str, Any], pretrained: bool) -> Settings:
    """The recipe's settings with the reader's changes; milestones and warm-up shrink with fewer steps.

    Layers are frozen only where they were trained before.
    """
    given = {k: v for k, v in changes.items() if v is not None}
    base = chosen.settings.shortened(given.get("iterations", chosen.settings.iterations))
    workers = max(0, (os.cpu_count() or 1) - 2) // distributed.local_size()
    frozen_layers = base.frozen_layers if pretrained else 0
    return replace(base, **{"workers": workers, "frozen_layers": frozen_layers, **given})


def train_on_folder(
    folder: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    detector: str = "small",
    description: str | Path | None = None,
    base_weights: str | Path | None = None,
    size_px: tuple[int, int] | None = None,
    splits: tuple[str | None, str | None] = (None, None),
    device: str = "auto",
    skip_bad: bool = False,
    resume: bool = False,
    cache_mb: float = 1000,
    changes: dict[str, Any] | None = None,
) -> Evaluation:
    """Train a detector of `recipes.RECIPES` on VOC-layout folders and measure it on the held-out part.

    folder: one or several, such as VOC2007 and VOC2012; their splits as in `splits.open_splits`. `out` receives
    last.pt, log.jsonl, metrics.json and the figures. description: a JSON file with other default boxes for the
    detector. base_weights: a file of `base_weights.load_base` from which the base starts. cache_mb: room for decoded
    images on each machine. changes: fields of `train.Settings`. Within `distributed.process_group` all processes
    train and measure together, and the first one writes. Raises ValueError for the reader's mistakes, TrainingError
    where training cannot go on.
    """
    out, chosen = Path(out), recipe(detector)
    if description is not None:
        chosen = chosen.described(description)
    if size_px is not None:
        chosen = chosen.sized(*size_px)
    settings = _settings(chosen, changes or {}, pretrained=base_weights is not None)
    place = choose_device(device)
    if keeping.has_checkpoint(out) and not resume:
        raise ValueError(f"{out} holds a run already; go on with --resume, or choose another --out")
    opened = open_splits(folder, splits, skip_bad)
    training, test = opened.training, opened.test
    print(f"{len(training)} images to train on, {len(test)} held out; classes: {', '.join(training.classes)}")
    model = chosen.model(len(training.classes) + 1, settings.seed).to(place)
    if base_weights is not None and not resume:
        load_base(model, base_weights)
    elif not resume:
        print(_from_random(chosen), end="")
    augmentation = chosen.augmentation()
    photos = reduced(training, *augmentation.least_px)
    cached = Cached(photos, _room(photos, cache_mb), settings.workers)
    train(model, cached, augmentation, settings, out, resume=resume, data=opened.record())
    with keeping.saying_how_to_go_on(settings.iterations):
        return _measure(model, test, out)


def _room(dataset: Dataset, cache_mb: float) -> float:
    """Megabytes for this process's decoded images; says so where not all of them fit."""
    truths = (dataset.truth(i) for i in range(len(dataset)))
    needed = sum(t.width_px * t.height_px * 3 for t in truths) / 1e6
    share = cache_mb / distributed.local_size()
    if needed > share:
        wanted = math.ceil(needed) * distributed.local_size()
        print(
            f"{cache_mb:g} MB hold a part of the decoded images, the others are decoded again in each pass; "
            f"--cache-mb {wanted} holds all"
        )
    return min(needed, share)


def _detect_all(model: SSD, dataset: Dataset) -> tuple[list[Detections], list[Truth]]:
    """Detections and truths of every image in order, in every process; each looks at its part of them."""
    mine = Part(dataset, distributed.part(len(dataset)))
    found, truths = detect_dataset(model, mine, progress=distributed.is_first())
    return distributed.gathered(found), distributed.gathered(truths)


def _measure(model: SSD, test: Dataset, out: Path, metric: str = "voc07") -> Evaluation:
    """Evaluate and write metrics.json and the figures, in the first process."""
    found, truths = _detect_all(model, test)
    evaluation = evaluate_voc(found, truths, test.classes, metric)
    if not distributed.is_first():
        return evaluation
    text = json.dumps(evaluation.as_dict(), indent=1)
    write_atomically(out / "metrics.json", lambda f: f.write(text.encode()))
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
    device: str = "auto",
) -> Evaluation:
    """Measure a detector on a VOC-layout folder; comp3 and report name files to write.

    checkpoint: a file that `weights.load` reads, other people's SSD300 included, each with its own way of looking at
    photos. Without a split: on the images held out from its training, see `splits.open_unseen`.
    """
    place = choose_device(device)
    model, classes = weights.load(checkpoint)
    dataset = open_unseen(folder, split, classes, weights.data_record(checkpoint), skip_bad)
    found, truths = _detect_all(model.to(place), dataset)
    evaluation = evaluate_voc(found, truths, classes, metric)
    if not distributed.is_first():
        return evaluation
    if comp3 is not None:
        write_comp3(comp3, found, truths, classes)
    if report is not None:
        text = json.dumps(evaluation.as_dict(), indent=1)
        write_atomically(report, lambda f: f.write(text.encode()))
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
    images: Sequence[str | Path],
    checkpoint: str | Path,
    out: str | Path,
    score: float = 0.5,
    device: str = "auto",
) -> Iterator[tuple[Path, Detections, list[str]]]:
    """Look for objects in picture files; `out` receives NAME.detections.png for each and detections.json for all.

    Yields path, detections and class names of each picture. No picture looked at is overwritten. Raises ValueError
    at the end, when the others are done, for files that are no pictures.
    """
    place = choose_device(device)
    model, classes = weights.load(checkpoint)
    model, out = model.to(place), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    paths = list(dict.fromkeys(Path(p) for p in images))
    report: dict[str, Any] = {}
    failed = []
    try:
        for path, target in zip(paths, _targets(paths, out), strict=True):
            try:
                image = _read_upright(path)
                found = detect_images(model, [image])[0].above(score)
                plots.write_picture(target, image, found, classes)
            except (ValueError, OSError) as error:
                failed.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                continue
            names = [classes[int(n) - 1] for n in found.labels]
            report[str(path)] = _as_json(found, names, image.shape[1], image.shape[0])
            yield path, found, names
    finally:
        if report:
            text = json.dumps(report, indent=1)
            write_atomically(out / "detections.json", lambda f: f.write(text.encode()))
    if failed:
        raise ValueError("\n  ".join([f"{len(failed)} of {len(paths)} pictures failed:", *failed]))


def _targets(paths: Sequence[Path], out: Path) -> list[Path]:
    """A picture to write for each to read: all different, none of them one that is read."""
    inputs = [path for path in paths if path.exists()]
    taken: set[str] = set()
    targets = []
    for path in paths:
        names = (f"{path.stem}{number}.detections.png" for number in chain([""], (f"-{i}" for i in count(2))))
        targets.append(next(out / n for n in names if _is_free(out / n, taken, inputs)))
        taken.add(targets[-1].name.casefold())
    return targets


def _is_free(target: Path, taken: set[str], inputs: Sequence[Path]) -> bool:
    if target.name.casefold() in taken:
        return False
    return not target.exists() or not any(target.samefile(path) for path in inputs)
