"""The paper's Tables 2 and 3 in miniature: mAP of the small detector with one idea changed, for several seeds.

Usage: python benchmarks/ablations.py [--seeds 0 1 2] [--variants NAME ...] [--out benchmarks/results/ablations.json]
Runs that are in the file are kept. Two of these commands may work at once on different seeds and files;
--merge FILE ... joins what is in such files into --out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from common import cpu_seconds, machine, save, versions

from ssdedu import ablations
from ssdedu.datasets.shapes import Shapes
from ssdedu.evaluate import Evaluation, recall_by_size

SIZES, RATIOS = (0, 0.1, 0.2, 0.4, 1.01), (1, 1.5, 2, 10)


def measure(name: str, seed: int) -> dict:
    """One run: mAP, AP by class, recall by size and by elongation at score 0.5, times."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = ablations.run(ablations.VARIANTS[name], seed)
    seconds = {
        "wall": round(time.perf_counter() - wall, 1),
        "cpu": round(cpu_seconds() - cpu, 1),
    }
    sizes = [round(s.recall, 4) for s in recall_by_size(result, SIZES, min_score=0.5)]
    scores = {"mean_ap": result.mean_ap, "ap": {n: round(a, 4) for n, a in result.by_class.items()}}
    by = {"recall_by_size": sizes, "recall_by_elongation": _by_elongation(result, seed)}
    return {"variant": name, "seed": seed, **scores, **by, "seconds": seconds}


def _by_elongation(result: Evaluation, seed: int) -> list[float]:
    """Recall at score 0.5 of objects whose longer side is 1 to 1.5, to 2, or more times the shorter."""
    held_out = Shapes(400, 1_000_000 + seed)
    boxes = np.concatenate([held_out[i].boxes_xyxy for i in range(len(held_out))])
    sides = boxes[:, 2:] - boxes[:, :2]
    elongation = sides.max(1) / sides.min(1)
    found = result.objects.score >= 0.5
    bins = np.digitize(elongation, RATIOS)
    return [round(float(found[bins == b].mean()), 4) for b in range(1, len(RATIOS))]


def summary(runs: list[dict]) -> dict:
    """Median, lowest and highest mAP of each variant."""
    kinds: dict[str, list[float]] = {}
    for r in runs:
        kinds.setdefault(r["variant"], []).append(r["mean_ap"])
    return {
        name: {"median": statistics.median(v), "lowest": min(v), "highest": max(v), "runs": len(v)}
        for name, v in kinds.items()
    }


def _runs(path: Path) -> list[dict]:
    return json.loads(path.read_text())["runs"]


def _place(run: dict) -> tuple[int, int]:
    return list(ablations.VARIANTS).index(run["variant"]), run["seed"]


def main() -> None:
    """Run what is not in the file yet, seed by seed, and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(ablations.VARIANTS))
    parser.add_argument("--out", type=Path, default="benchmarks/results/ablations.json")
    parser.add_argument("--merge", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    runs = [run for path in [options.out, *options.merge] if path.exists() for run in _runs(path)]
    done = {(r["variant"], r["seed"]) for r in runs}
    about = {
        "steps": ablations.STEPS,
        "scenes": ablations.SCENES,
        "edges": {"sizes": SIZES, "elongations": RATIOS},
    }
    about |= {"machine": {**machine(), "threads": torch.get_num_threads()}}
    about["versions"] = versions("ssdedu", "torch", "numpy", "cv2")
    if options.merge:
        runs = sorted({(r["variant"], r["seed"]): r for r in runs}.values(), key=_place)
        measured = json.loads(options.merge[0].read_text())
        save(options.out, {**measured, "summary": summary(runs), "runs": runs})
        return
    for seed in options.seeds:
        for name in options.variants:
            if (name, seed) not in done:
                runs.append(measure(name, seed))
                save(options.out, {"summary": summary(runs), "runs": runs, **about})
                print(f"{name}, seed {seed}: {runs[-1]['mean_ap']:.4f} {runs[-1]['seconds']}", flush=True)


if __name__ == "__main__":
    main()
