"""The demo: draw scenes, train the small SSD, measure it on held-out scenes, and show what came out."""

from __future__ import annotations

import html
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

import ssdedu
from ssdedu import checkpoints, keeping, plots, priors
from ssdedu.datasets.shapes import Shapes
from ssdedu.detect import Detections
from ssdedu.evaluate import Evaluation, evaluate_voc, recall_by_size
from ssdedu.files import write_atomically
from ssdedu.inference import detect_dataset
from ssdedu.recipes import DEMO, RECIPES, Recipe
from ssdedu.sample import Truth
from ssdedu.train import CHECKPOINT, LOG, Settings, check_same_run, read_log, train

__all__ = ["COURSE", "Demo", "run"]

METRICS, PAGE = "metrics.json", "index.html"
_HELD_OUT_SEED = 1_000_000
_GALLERY = 12


@dataclass(frozen=True)
class Demo:
    """What the demo does: how many scenes it draws, from which seed, and the recipe it trains by."""

    seed: int = 0
    num_train: int = 12_000
    num_held_out: int = 400
    recipe: Recipe = DEMO

    @property
    def training(self) -> Shapes:
        """The scenes that are learned from."""
        return Shapes(self.num_train, self.seed)

    @property
    def held_out(self) -> Shapes:
        """The scenes that are measured on, of another series than any that is trained on."""
        return Shapes(self.num_held_out, _HELD_OUT_SEED + self.seed)

    def one_map(self, cells: int = 4) -> Demo:
        """The same with predictions from its map of 8 x 8 or 4 x 4 cells alone, for comparison (Sec. 3.2, Table 3).

        Raises ValueError for another number of cells.
        """
        configs = {c.maps[0].width: c for c in (priors.SHAPES128_ONE_MAP, priors.SHAPES128_COARSE_MAP)}
        if cells not in configs:
            raise ValueError(f"the map has {' or '.join(map(str, configs))} cells a side, got {cells}")
        return replace(self, recipe=replace(self.recipe, config=configs[cells]))

    def short(self, steps: int) -> Demo:
        """The same with fewer training steps."""
        settings = self.recipe.settings.shortened(steps)
        return replace(self, recipe=replace(self.recipe, settings=settings))

    def description(self) -> dict[str, Any]:
        """All that decides the result: two runs of equal description may share a checkpoint."""
        settings = replace(self.recipe.settings, seed=self.seed)
        scenes = {"seed": self.seed, "num_train": self.num_train, "num_held_out": self.num_held_out}
        augmentation = asdict(self.recipe.augmentation())
        network = {"config": self.recipe.config.to_dict(), "base": self.recipe.base}
        return json.loads(
            json.dumps({**scenes, **network, "augmentation": augmentation, "settings": settings.to_dict()})
        )


# What made the detector that ships with the course: fewer scenes, seen in the crops and by the rule of the paper.
COURSE = Demo(num_train=4000, recipe=RECIPES["shapes"])


def run(
    demo: Demo, folder: str | Path, fresh: bool = False, say: Callable[[str], object] = print
) -> dict[str, Any]:
    """Train, evaluate and write metrics.json, the figures and index.html to `folder`; returns the metrics.

    What an earlier run of the same description left is used again, a cut one goes on where it stopped; fresh
    starts anew.
    """
    folder = Path(folder)
    old = _earlier(demo, folder) if not fresh else None
    if old is not None:
        say(
            f"{folder}: this very run is done already, its detector and figures are used again (--fresh: anew)."
        )
        return old
    start = time.perf_counter()
    training, held_out = demo.training, demo.held_out
    model = demo.recipe.model(len(training.classes) + 1, demo.seed)
    seconds = _train(demo, model, training, folder, fresh, say)
    _draw(held_out, "drawing held-out scenes")
    found, truths = detect_dataset(model, held_out)
    evaluation = evaluate_voc(found, truths, held_out.classes)
    metrics = _metrics(demo, evaluation, seconds, sum(p.numel() for p in model.parameters()))
    metrics["seconds"]["all"] = round(time.perf_counter() - start, 1)
    _write(demo, metrics, evaluation, found, truths, held_out, folder)
    return metrics


def _earlier(demo: Demo, folder: Path) -> dict[str, Any] | None:
    """The metrics of a finished run of the same description, or None."""
    try:
        metrics = json.loads((folder / METRICS).read_text())
    except (OSError, ValueError):
        return None
    there = all((folder / name).is_file() for name in (CHECKPOINT, PAGE))
    return metrics if there and metrics.get("description") == demo.description() else None


def _draw(scenes: Shapes, what: str) -> None:
    for i in tqdm(range(len(scenes)), desc=what, unit="scene"):
        scenes[i]


def _train(
    demo: Demo, model: Any, training: Shapes, folder: Path, fresh: bool, say: Callable[[str], object]
) -> dict[str, float]:
    settings = replace(demo.recipe.settings, seed=demo.seed)
    network = {**demo.recipe.config.to_dict(), "base": demo.recipe.base}
    resume = not fresh and _can_resume(folder, settings, network, training.classes)
    if resume:
        say(f"{folder}: going on from the checkpoint of a run that was cut.")
    start, cpu = time.perf_counter(), time.process_time()
    _draw(training, "drawing training scenes")
    drawn = time.perf_counter()
    train(model, training, demo.recipe.augmentation(), settings, folder, resume=resume)
    return {
        "drawing": round(drawn - start, 1),
        "training": round(time.perf_counter() - drawn, 1),
        "training_cpu": round(time.process_time() - cpu, 1),
    }


def _can_resume(folder: Path, settings: Settings, network: dict[str, Any], classes: Sequence[str]) -> bool:
    try:
        path, content = keeping.newest(folder, say=lambda text: None)
        check_same_run(path, content["description"], settings, network, classes)
    except checkpoints.CheckpointError:
        return False
    return True


def _metrics(
    demo: Demo, evaluation: Evaluation, seconds: dict[str, float], parameters: int
) -> dict[str, Any]:
    sizes = [
        {"low": s.low, "high": min(s.high, 1.0), "objects": s.num_objects, "recall": round(s.recall, 4)}
        for s in recall_by_size(evaluation, min_score=0.5)
    ]
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    versions = {"ssdedu": ssdedu.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {
        **evaluation.as_dict(),
        "recall_by_size_at_score_0.5": sizes,
        "parameters": parameters,
        "seconds": seconds,
        "machine": machine,
        "versions": versions,
        "description": demo.description(),
    }


def _write(
    demo: Demo,
    metrics: dict[str, Any],
    evaluation: Evaluation,
    found: list[Detections],
    truths: list[Truth],
    held_out: Shapes,
    folder: Path,
) -> None:
    """The figures, the page, and last metrics.json, whose presence says that the run is complete."""
    shown = range(min(_GALLERY, len(truths)))
    plots.save(plots.loss_curve(read_log(folder / LOG)), folder / "loss.png")
    plots.save(plots.pr_curves(evaluation), folder / "pr.png")
    picture = plots.gallery([held_out[i] for i in shown], [found[i] for i in shown], held_out.classes)
    plots.save(picture, folder / "gallery.png")
    page = _page(metrics, demo.recipe.config.name)
    write_atomically(folder / PAGE, lambda f: f.write(page.encode()))
    text = json.dumps(metrics, indent=1)
    write_atomically(folder / METRICS, lambda f: f.write(text.encode()))


def _page(metrics: dict[str, Any], config_name: str) -> str:
    """The report as one HTML page beside its pictures."""
    ap = {name: value for name, value in metrics["ap"].items() if value is not None}
    best, worst = (f(ap, key=lambda name: ap[name]) for f in (max, min))
    alt = {
        "gallery.png": "Held-out scenes in pairs: left the true boxes, right the detections with a score above 0.5.",
        "pr.png": f"A precision-recall curve for each class; AP is highest for {best}, lowest for {worst}.",
        "loss.png": "Confidence and localization loss falling over the training steps.",
    }
    titles = {"gallery.png": "Detections", "pr.png": "Precision and recall", "loss.png": "Training"}
    pictures = "".join(
        f'<h2>{titles[name]}</h2><img src="{name}" alt="{html.escape(alt[name])}">' for name in titles
    )
    rows = "".join(f"<tr><th>{html.escape(name)}<td>{value:.3f}" for name, value in ap.items())
    sizes = "".join(
        f"<tr><th>{s['low']:.0%} to {s['high']:.0%}<td>{s['objects']}<td>{s['recall']:.3f}"
        for s in metrics["recall_by_size_at_score_0.5"]
    )
    about = metrics["description"]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>ssdedu demo</title>
<style>
body {{ font: 17px/1.5 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
img {{ max-width: 100%; height: auto; }} td, th {{ padding: .15rem 1rem .15rem 0; text-align: left; }}
</style>
<h1>mAP {metrics["mean_ap"]:.3f} on {about["num_held_out"]} scenes never seen in training</h1>
<p>{html.escape(config_name)}: {metrics["parameters"]:,} parameters, {about["settings"]["iterations"]:,} steps on
{about["num_train"]:,} drawn scenes from seed {about["seed"]}, {metrics["seconds"]["training"]:.0f} s of training.
The measure is VOC's: 11 points, IoU 0.5.</p>
{pictures}
<h2>Average precision</h2><table>{rows}</table>
<h2>Recall at score 0.5 by object size</h2>
<table><tr><th>side of the object / image<th>objects<th>recall{sizes}</table>
<h2>What next</h2>
<p>Open <code>notebooks/00_start_here.ipynb</code> in JupyterLab to learn how this detector works, part by part.
Look for objects in a picture of yours: <code>ssdedu detect PICTURE --checkpoint last.pt</code>.
Train on your own data: <code>ssdedu train FOLDER</code>.</p>
</html>
"""
