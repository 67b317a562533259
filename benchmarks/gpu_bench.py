"""The device, the photos and the measure that the parts of `gpu.py` share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import torch
from common import machine, versions
from gpu_work import Finder, Learner, describe, in_memory, photos
from timing import FULL, TINY, Clock, Effort, in_turn

from ssdedu.datasets.cached import Cached
from ssdedu.recipes import recipe
from ssdedu.sample import Dataset
from ssdedu.workshop import choose_device

GOALS = {"loss_share": 0.05, "pipeline_share": 0.7}


@dataclass(frozen=True)
class Scale:
    """What is measured: recipes that train and one that detects, batches, photos, steps of a round from files."""

    learners: tuple[str, ...]
    finder: str
    found_at_once: tuple[int, ...]
    batch_size: int
    photos: int
    steps: int
    effort: Effort


FULL_SCALE = Scale(("ssd300-bn", "mobilenet"), "ssd300", (1, 8, 64), 32, 1000, 60, FULL)
TINY_SCALE = Scale(("shapes",), "shapes", (1, 2), 2, 4, 1, TINY)


class Bench:
    """The device, the photos and the options of one run of this script."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device, self.options = choose_device(options.device), options
        self.scale = TINY_SCALE if options.tiny else FULL_SCALE
        self.effort, self.clock = self.scale.effort, Clock(self.device)
        self.batch_size, self.workers = options.batch_size or self.scale.batch_size, options.workers
        self.dataset = photos(options.folder, self.scale.photos)
        cv2.setNumThreads(0)
        torch.backends.cudnn.benchmark = options.autotune

    @cached_property
    def decoded(self) -> Cached:
        """The photos in memory."""
        return in_memory(self.dataset, self.workers + 1)

    def sources(self) -> dict[str, Dataset]:
        """Where the loader may take photos from."""
        return {"decoding": self.dataset, "from memory": self.decoded}

    def learner(self, name: str, backend: str | None = None) -> Learner:
        """The network of a recipe with a batch."""
        return Learner(
            recipe(name), self.dataset, self.device, self.batch_size, self.options.precision, backend
        )

    def finder(self) -> Finder:
        """The network that detects."""
        most = max(self.scale.found_at_once)
        return Finder(recipe(self.scale.finder), self.dataset, self.device, most, self.options.precision)

    def in_turn(self, works: Mapping[str, Callable[[], object]], until: float) -> dict[str, list[float]]:
        """Seconds of each work, as `timing.in_turn` takes them."""
        return in_turn(self.clock, works, self.effort, until)

    def rounds(self, until: float) -> Iterator[int]:
        """Numbers of rounds, as many as the effort and the time allow."""
        for number in range(self.effort.most):
            if number >= self.effort.least and time.monotonic() >= until:
                return
            yield number

    def about(self) -> dict[str, Any]:
        """Machine, versions and photos."""
        found: dict[str, Any] = {
            "machine": machine(),
            "versions": versions("ssdedu", "torch", "numpy", "cv2"),
        }
        if self.device.type == "cuda":
            gpu = torch.cuda.get_device_properties(self.device)
            found["machine"] |= {"gpu": gpu.name, "gpu_gib": round(gpu.total_memory / 2**30, 1)}
            found["versions"] |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        found["photos"] = describe(self.dataset, self.options.folder)
        return {
            **found,
            "workers": self.workers,
            "batch_size": self.batch_size,
            "autotune": self.options.autotune,
            "goals": GOALS,
        }
