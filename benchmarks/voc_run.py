"""What a finished run of `ssdedu train` on VOC measures, as small JSON: settings, log, AP by class, errors by kind.

Usage: python benchmarks/voc_run.py RUN FOLDER --name NAME [--data TEXT] [--note TEXT] [--ship FILE] [--device auto]
RUN: the --out folder of `ssdedu train`. FOLDER: the VOC-layout folder whose test split measures it. The result goes
to benchmarks/results/NAME.json; --data says what the photos are, such as "VOC2007 at 300 px, trainval -> test".
--ship also makes a file that ships, in half precision with a card, and measures that file instead of the run's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from common import machine, save, versions

from ssdedu import errors, weights
from ssdedu.checkpoints import load_checkpoint
from ssdedu.evaluate import Evaluation, evaluate_voc, recall_by_size
from ssdedu.inference import detect_dataset
from ssdedu.splits import read_folder
from ssdedu.train import read_log
from ssdedu.workshop import choose_device

LICENCE = (
    "MIT for what the project adds. The photos of VOC2007 come from Flickr under its terms and are for research; the "
    "base began with MobileNetV1's ImageNet weights of Keras (Apache 2.0). Ask a lawyer before you sell what it finds"
)
SIDES = (0, 0.1, 0.2, 0.4, 1.01)
LOG_POINTS = 100


def described(run: Path) -> dict[str, Any]:
    """What was trained: detector, settings, number of images, steps done."""
    content = load_checkpoint(run / "last.pt")
    about = content["description"]
    images = about["data"].get("trained_on") or []
    return {
        "detector": about["config"]["name"],
        "base": about["base"],
        "parameters": sum(p.numel() for p in weights.load(run / "last.pt").model.parameters()),
        "settings": about["settings"],
        "steps": content["step"],
        "images": len(images),
        "passes": round(content["step"] * about["settings"]["batch_size"] / max(1, len(images)), 1),
    }


def shortened(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """About LOG_POINTS records: means over equal stretches, each under its last step."""
    stretch = max(1, -(-len(log) // LOG_POINTS))
    return [_mean(log[i : i + stretch]) for i in range(0, len(log), stretch)]


def _mean(records: list[dict[str, float]]) -> dict[str, float]:
    parts = ("loss", "localization", "confidence")
    means = {k: round(sum(r[k] for r in records) / len(records), 4) for k in parts}
    last = records[-1]
    return {"step": last["step"], "lr": last["lr"], "seconds": round(last["seconds"]), **means}


def measured(evaluation: Evaluation, diagnosis: errors.Diagnosis) -> dict[str, Any]:
    """mAP, AP by class, recall by size, and the kinds of the detections above score 0.5."""
    sizes = recall_by_size(evaluation, SIDES, min_score=0.5)
    return {
        "mean_ap": round(evaluation.mean_ap, 4),
        "ap": {name: round(ap, 4) for name, ap in evaluation.by_class.items()},
        "recall_at_score_0.5_by_side": dict(
            zip(map(str, SIDES[1:]), (round(s.recall, 4) for s in sizes), strict=True)
        ),
        "kinds_at_score_0.5": diagnosis.counts(0.5),
        "objects": int(diagnosis.num_objects.sum()),
        "mean_ap_without": {k: _mean_ap_without(diagnosis, k) for k in errors.KINDS[1:5]},
    }


def _mean_ap_without(diagnosis: errors.Diagnosis, kind: str) -> float:
    return round(float(errors.ap_without(diagnosis, (kind,)).mean()), 4)


def card(result: dict[str, Any]) -> dict[str, Any]:
    """What a reader of the file that ships should know."""
    return {
        "what": f"{result['detector']}: SSD300's default boxes on {result['base']}, the 20 classes of PASCAL VOC",
        "trained on": f"{result['images']:,} photos; {result['data']}",
        "base": "MobileNetV1, width 1.0, ImageNet weights of Keras as its start",
        "steps": result["steps"],
        "parameters": result["parameters"],
        f"mAP on {result['test_images']:,} photos of the test split, 11 points": result["mean_ap"],
        "licence": LICENCE,
    }


def measure(path: Path, folder: str, device: str) -> dict[str, Any]:
    """Detect on the test split with the detector in a file."""
    detector = weights.load(path)
    test = read_folder([(folder, "test")], detector.classes)
    start = time.perf_counter()
    found, truths = detect_dataset(detector.model.to(choose_device(device)), test)
    seconds = time.perf_counter() - start
    similar = errors.SIMILAR_VOC if set().union(*errors.SIMILAR_VOC) <= set(detector.classes) else ()
    evaluation, by_area = (evaluate_voc(found, truths, detector.classes, m) for m in ("voc07", "area"))
    return {
        "test_images": len(test),
        "metric": "11 points (VOC07), IoU 0.5, difficult objects ignored",
        **measured(evaluation, errors.diagnose(found, truths, detector.classes, similar)),
        "mean_ap_area": round(by_area.mean_ap, 4),
        "detection_seconds": round(seconds),
    }


def main() -> None:
    """Detect on the test split, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", default="VOC2007, trainval -> test")
    parser.add_argument("--note")
    parser.add_argument("--ship", type=Path)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    checkpoint = options.run / "last.pt"
    if options.ship:
        weights.save(options.ship, weights.load(checkpoint))
    log = read_log(options.run / "log.jsonl")
    result = {
        "data": options.data,
        **({"note": options.note} if options.note else {}),
        **described(options.run),
        **measure(options.ship or checkpoint, options.folder, options.device),
        "training_seconds": round(log[-1]["seconds"]),
        "threads": torch.get_num_threads(),
        "log": shortened(log),
        "machine": machine(),
        "versions": versions("torch", "numpy", "cv2", "ssdedu"),
    }
    if options.ship:
        weights.save(options.ship, weights.load(checkpoint), card(result))
    save(Path("benchmarks/results") / f"{options.name}.json", result)
    print(
        f"mAP {result['mean_ap']:.4f} on {result['test_images']} images; benchmarks/results/{options.name}.json"
    )


if __name__ == "__main__":
    main()
