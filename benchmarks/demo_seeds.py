"""The demo's promise, measured: mAP for three seeds, and for the same net with a single output map.

Usage: python benchmarks/demo_seeds.py [--seeds 0 1 2] [--maps 0 8 4] [--out benchmarks/results/demo_seeds.json]
--maps: 0 for all four maps, 8 or 4 for the map of so many cells a side alone. Runs that are in the file are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from common import save

from ssdedu.demo import Demo, run

KEYS = ("mean_ap", "ap", "recall_by_size_at_score_0.5", "parameters", "seconds", "machine", "versions")


def measure(seed: int, one_map: int) -> dict:
    """One run of the demo in a folder of its own."""
    demo = Demo(seed).one_map(one_map) if one_map else Demo(seed)
    with tempfile.TemporaryDirectory() as folder:
        metrics = run(demo, folder)
    return {"seed": seed, "one_map": one_map, **{k: metrics[k] for k in KEYS}}


def summary(runs: list[dict]) -> dict:
    """Median, lowest and highest mAP of each kind."""
    kinds: dict[str, list[float]] = {}
    for r in runs:
        kinds.setdefault(f"map {r['one_map']} alone" if r["one_map"] else "all maps", []).append(r["mean_ap"])
    return {
        name: {"median": statistics.median(v), "lowest": min(v), "highest": max(v), "runs": len(v)}
        for name, v in kinds.items()
    }


def main() -> None:
    """Run what is not in the file yet and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--maps", type=int, nargs="+", default=[0, 8, 4])
    parser.add_argument("--out", type=Path, default="benchmarks/results/demo_seeds.json")
    options = parser.parse_args()
    runs = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    done = {(r["one_map"], r["seed"]) for r in runs}
    for one_map in options.maps:
        for seed in options.seeds:
            if (one_map, seed) not in done:
                runs.append(measure(seed, one_map))
                save(options.out, {"summary": summary(runs), "runs": runs})
                print(json.dumps(summary(runs)), flush=True)


if __name__ == "__main__":
    main()
