"""How fast scenes are drawn: scenes a second of `shapes.draw_scene` in one thread.

Usage: python benchmarks/shapes_speed.py [--rounds 9] [--scenes 200] [--out benchmarks/results/shapes_speed.json]
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
from common import machine, save, versions

from ssdedu.datasets.shapes import draw_scene


def scenes_a_second(seed: int, scenes: int) -> float:
    """One round: the first scenes of a series, each drawn anew."""
    start = time.perf_counter()
    for index in range(scenes):
        draw_scene(seed, index)
    return scenes / (time.perf_counter() - start)


def summary(rates: list[float]) -> dict:
    """Median, lowest and highest rate."""
    points = {"median": statistics.median(rates), "lowest": min(rates), "highest": max(rates)}
    return {name: round(rate, 1) for name, rate in points.items()}


def main() -> None:
    """Run all rounds after one that does not count, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scenes", type=int, default=200, help="scenes a round")
    parser.add_argument("--out", default="benchmarks/results/shapes_speed.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    scenes_a_second(0, options.scenes)
    rates = [scenes_a_second(1 + i, options.scenes) for i in range(options.rounds)]
    settings = {"rounds": options.rounds, "scenes_a_round": options.scenes, "threads": 1}
    about = {"machine": machine(), "versions": versions("ssdedu", "numpy", "cv2")}
    save(options.out, {"scenes_a_second": summary(rates), **settings, **about})
    print(summary(rates))


if __name__ == "__main__":
    main()
