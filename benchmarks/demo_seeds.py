"""The demo's promise, measured: mAP for three seeds, and for the same net with a single output map.

Usage: python benchmarks/demo_seeds.py [--seeds 0 1 2] [--out benchmarks/results/demo_seeds.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from ssdedu.demo import Demo, run


def measure(seed: int, one_map: bool) -> dict:
    """One run of the demo in a folder of its own."""
    demo = Demo(seed).one_map() if one_map else Demo(seed)
    with tempfile.TemporaryDirectory() as folder:
        metrics = run(demo, folder)
    keys = ("mean_ap", "ap", "recall_by_size_at_score_0.5", "parameters", "seconds", "machine", "versions")
    return {"seed": seed, "one_map": one_map, **{k: metrics[k] for k in keys}}


def summary(runs: list[dict]) -> dict:
    """Median, lowest and highest mAP of each kind."""
    kinds = {
        name: [r["mean_ap"] for r in runs if r["one_map"] is flag]
        for name, flag in (("demo", False), ("one_map", True))
    }
    return {
        name: {"median": statistics.median(v), "lowest": min(v), "highest": max(v), "runs": len(v)}
        for name, v in kinds.items()
        if v
    }


def main() -> None:
    """Run all and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", default="benchmarks/results/demo_seeds.json")
    options = parser.parse_args()
    out, runs = Path(options.out), []
    out.parent.mkdir(parents=True, exist_ok=True)
    for one_map in (False, True):
        for seed in options.seeds:
            runs.append(measure(seed, one_map))
            out.write_text(json.dumps({"summary": summary(runs), "runs": runs}, indent=1) + "\n")
            print(json.dumps(summary(runs)))


if __name__ == "__main__":
    main()
