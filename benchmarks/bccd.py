"""Training on one's own data, measured: AP and time of the small detector on the BCCD blood cells.

Usage: python benchmarks/bccd.py FOLDER [--seeds 0 1 2] [--out benchmarks/results/bccd.json]
FOLDER is the data set in VOC layout. Each run is that of `ssdedu train FOLDER --skip-bad --seed SEED`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch
from common import cpu_seconds, machine, save, versions

from ssdedu.workshop import train_on_folder


def measure(folder: str, seed: int) -> dict:
    """One run of the command, evaluation and figures included, in a folder of its own."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryDirectory() as out:
        evaluation = train_on_folder(folder, out, skip_bad=True, changes={"seed": seed})
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {"seed": seed, **evaluation.as_dict(), "seconds": {"wall": round(wall, 1), "cpu": round(cpu, 1)}}


def summary(runs: list[dict]) -> dict:
    """Median, lowest and highest of mAP, of each class's AP and of the times."""
    columns = {"mean_ap": [run["mean_ap"] for run in runs]}
    columns |= {f"ap {name}": [run["ap"][name] for run in runs] for name in runs[0]["ap"]}
    columns |= {f"{kind} seconds": [run["seconds"][kind] for run in runs] for kind in ("wall", "cpu")}
    return {name: _spread(values) for name, values in columns.items()}


def _spread(values: list[float]) -> dict:
    points = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, 4) for name, value in points.items()}


def main() -> None:
    """Run all seeds and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", default="benchmarks/results/bccd.json")
    options = parser.parse_args()
    about = {"machine": {**machine(), "threads": torch.get_num_threads()}}
    about["versions"] = versions("ssdedu", "torch", "numpy", "cv2")
    runs: list[dict] = []
    for number, seed in enumerate(options.seeds, start=1):
        print(f"run {number} of {len(options.seeds)}: seed {seed}", flush=True)
        runs.append(measure(options.folder, seed))
        save(options.out, {"summary": summary(runs), "runs": runs, **about})
        print(f"mAP {runs[-1]['mean_ap']:.4f}, {runs[-1]['ap']}, {runs[-1]['seconds']}", flush=True)


if __name__ == "__main__":
    main()
