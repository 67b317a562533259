"""The demo's promise, measured: mAP for three seeds, and for the same net with a single output map.

Usage: python benchmarks/demo_seeds.py [--seeds 0 1 2] [--maps 0 8 4] [--course] [--out FILE]
--maps: 0 for all four maps, 8 or 4 for the map of so many cells a side alone. --course: by the recipe of the detector
that ships. Runs that are in the file (results/demo_seeds.json, shipped_seeds.json) are kept. OMP_NUM_THREADS=1 gives
one thread, whose CPU seconds are those of the work alone.

Where the time goes: a step (32 scenes, bfloat16) is 24 GFLOP of convolutions, 105 ms at the 0.23 TFLOP/s that a Zen 4
core reaches on large matrices; they take about 140. Of the whole step that is three quarters; a tenth is batch
normalisation, the rest pooled over ReLU, matching, loss and optimizer. 150 CPU seconds for 1,000 steps would need a
smaller network or units such as AMX.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from common import save

from ssdedu.demo import COURSE, Demo, run

KEYS = ("mean_ap", "ap", "recall_by_size_at_score_0.5", "parameters", "seconds", "machine", "versions")


def measure(demo: Demo, seed: int, one_map: int) -> dict:
    """One run of the demo in a folder of its own."""
    demo = replace(demo, seed=seed)
    demo = demo.one_map(one_map) if one_map else demo
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
    parser.add_argument("--course", action="store_true", help="by the recipe of the detector that ships")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "shipped_seeds" if options.course else "demo_seeds"
    out = options.out or Path(f"benchmarks/results/{name}.json")
    demo = COURSE if options.course else Demo()
    runs = json.loads(out.read_text())["runs"] if out.exists() else []
    done = {(r["one_map"], r["seed"]) for r in runs}
    for one_map in options.maps:
        for seed in options.seeds:
            if (one_map, seed) not in done:
                runs.append(measure(demo, seed, one_map))
                save(out, {"summary": summary(runs), "runs": runs})
                print(json.dumps(summary(runs)), flush=True)


if __name__ == "__main__":
    main()
