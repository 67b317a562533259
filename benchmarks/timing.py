"""How `gpu.py` takes time: in turn, on the device's own clock, and no longer than it was given."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Work = Callable[[], object]


class Clock:
    """Seconds of work on a device, from the moment it starts there until all of it is done."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"

    def seconds(self, work: Work, times: int) -> float:
        """Seconds of one of `times` calls, one after the other."""
        if not self.on_gpu:
            start = time.perf_counter()
            for _ in range(times):
                work()
            return (time.perf_counter() - start) / times
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(times):
            work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000 / times


@dataclass(frozen=True)
class Effort:
    """How much measuring: warm-up calls, seconds a measurement at least, rounds at least and at most."""

    warm_up: int
    seconds: float
    least: int
    most: int


FULL = Effort(warm_up=5, seconds=0.4, least=3, most=15)
TINY = Effort(warm_up=1, seconds=0.0, least=1, most=1)


def in_turn(clock: Clock, works: Mapping[str, Work], effort: Effort, until: float) -> dict[str, list[float]]:
    """Seconds a call of each work, one measurement of each a round, so that what disturbs one disturbs all.

    Rounds go on until that time (`time.monotonic`), within the effort's limits; every second one runs backwards.
    """
    times = {name: _times(clock, work, effort) for name, work in works.items()}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(effort.most):
        if number >= effort.least and time.monotonic() >= until:
            break
        for name in list(works)[:: 1 if number % 2 == 0 else -1]:
            taken[name].append(clock.seconds(works[name], times[name]))
    return taken


def _times(clock: Clock, work: Work, effort: Effort) -> int:
    """Calls in a measurement, after the warm-up."""
    clock.seconds(work, effort.warm_up)
    return max(1, math.ceil(effort.seconds / max(clock.seconds(work, 1), 1e-9)))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of some measurements, to four digits, and how many they are."""
    points = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {**{name: float(f"{v:.4g}") for name, v in points.items()}, "runs": len(values)}


def rates(number: int, seconds: Sequence[float]) -> dict[str, float]:
    """The spread of `number` things a second."""
    return spread([number / s for s in seconds])


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """The spread of one measurement over another of the same round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def waits(work: Work, device: torch.device) -> int | None:
    """How often the program waits for the GPU within `work`; None for other devices."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(w.message) for w in seen)


def peak_gib(work: Work, device: torch.device) -> float | None:
    """The most GPU memory in use within `work`, in GiB; None for other devices."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize()
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)


class Budget:
    """Time for several sections, shared by weight; what a section leaves is for those behind it."""

    def __init__(self, seconds: float, weights: Sequence[float]) -> None:
        self.end, self.weights = time.monotonic() + seconds, list(weights)

    def next(self) -> float | None:
        """Until when the next section may measure (`time.monotonic`); None when all time is spent."""
        now, left = time.monotonic(), sum(self.weights)
        share = self.weights.pop(0) / left
        return None if now >= self.end else now + share * (self.end - now)
