"""How fast training and detection are on a GPU, and what of the time is not the network's.

Usage: python benchmarks/gpu.py [FOLDER] [--workers 16] [--minutes 10] [--name NAME] [--profile]
FOLDER: photos in VOC layout; without it scenes are drawn. Images a second of the network alone, of it with matching,
mining and loss, of a whole step, and of training from photo files with that many loader processes; the same with
torch.compile; a detector from pixels to boxes; memory. All are medians of rounds in which each is measured in turn,
with the lowest and the highest; shares are those of one round. The result goes to benchmarks/results/gpu_NAME.json.
--profile instead prints the operators that take longest in a step of training.
`--device cpu --tiny` goes the whole way in miniature and measures nothing that counts.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from common import save
from gpu_bench import Bench
from gpu_work import Fed, Finder, crowd, endless
from timing import Budget, peak_gib, rates, ratios, spread, waits

from ssdedu.inference import detect_dataset
from ssdedu.matching import encode_targets
from ssdedu.recipes import recipe

CANDIDATES = 0.01  # share of scores above the threshold, as a trained network has them


def training(bench: Bench, name: str, until: float) -> dict[str, Any]:
    """The parts of a step of a recipe's training, on a batch that lies on the device."""
    learner = bench.learner(name)
    works = {
        "network": learner.forward_backward,
        "matching, mining and loss": learner.criterion,
        "network and loss": learner.loss_backward,
        "whole step": learner.update,
    }
    taken = bench.in_turn(works, until)
    learner.stepper.check()
    both = zip(taken["network"], taken["network and loss"], strict=True)
    return {
        "precision": learner.dtype,
        "images_a_second": {n: rates(bench.batch_size, s) for n, s in taken.items()},
        "loss_share": spread([1 - alone / together for alone, together in both]),
        "waits_in_a_step": waits(learner.update, bench.device),
        "peak_gib": peak_gib(learner.update, bench.device),
    }


def pipeline(bench: Bench, name: str, until: float) -> dict[str, Any]:
    """Training from files, and from photos decoded before, against the network alone."""
    learner, found = bench.learner(name), {}
    ends = (time.monotonic() + 0.5 * (until - time.monotonic()), until)
    for (source, dataset), end in zip(bench.sources().items(), ends, strict=True):
        found[source] = _fed(bench, Fed(learner, dataset, bench.workers, bench.scale.steps), end)
    return found


def _fed(bench: Bench, fed: Fed, until: float) -> dict[str, Any]:
    alone, steps = [], []
    fed.use_up()
    for _ in bench.rounds(until):
        alone.append(bench.clock.seconds(fed.learner.forward_backward, fed.steps))
        fed.use_up()
        steps.append(bench.clock.seconds(fed.learn, 1) / fed.steps)
    return {"images_a_second": rates(bench.batch_size, steps), "pipeline_share": ratios(alone, steps)}


def loading(bench: Bench, name: str, until: float) -> dict[str, Any]:
    """What a photo costs before it reaches the network: CPU time on one core, and the loader by itself."""
    chosen, ends = recipe(name), [time.monotonic() + n / 3 * (until - time.monotonic()) for n in (1, 2, 3)]
    found: dict[str, Any] = {}
    for (source, dataset), end in zip(bench.sources().items(), ends[1:], strict=True):
        loader = endless(dataset, chosen, bench.batch_size, bench.workers, bench.device)
        take = partial(_use, loader, bench.scale.steps)
        take()
        found[source] = rates(
            bench.batch_size * bench.scale.steps, [_wall_seconds(take) for _ in bench.rounds(end)]
        )
    return {"cpu_ms_an_image": _cpu_ms(bench, name, ends[0]), "images_a_second": found}


def _use(batches: Iterator[Any], number: int) -> None:
    for _ in islice(batches, number):
        pass


def _wall_seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _cpu_ms(bench: Bench, name: str, until: float) -> dict[str, float]:
    transform, decoding, augmenting = recipe(name).augmentation(), [], []
    for index in count():
        if index >= len(bench.dataset) or (index >= bench.effort.least and time.monotonic() >= until):
            break
        times = [time.thread_time()]
        sample = bench.dataset[index]
        times.append(time.thread_time())
        transform(sample, np.random.default_rng(index))
        times.append(time.thread_time())
        decoding.append(1000 * (times[1] - times[0]))
        augmenting.append(1000 * (times[2] - times[1]))
    means = {"decoding": np.mean(decoding), "augmentation": np.mean(augmenting)}
    return {what: round(float(ms), 3) for what, ms in means.items()}


def matching(bench: Bench, until: float) -> dict[str, Any]:
    """Milliseconds of matching and encoding a batch with few and with many objects an image."""
    priors = bench.finder().model.priors_cxcywh
    crowds = {f"{n} objects an image": crowd(bench.batch_size, n, bench.device) for n in (1, 9, 100)}
    taken = bench.in_turn({n: partial(encode_targets, *c, priors) for n, c in crowds.items()}, until)
    return {"default_boxes": len(priors), "ms": {n: _ms(s) for n, s in taken.items()}}


def _ms(seconds: list[float]) -> dict[str, float]:
    return spread([1000 * s for s in seconds])


def inference(bench: Bench, until: float, backend: str | None = None) -> dict[str, Any]:
    """From pixels in the CPU's memory to boxes there, and the network's part; first as if every box were an object."""
    finder = bench.finder()
    if backend:
        finder.network = torch.compile(finder.model, backend=backend, dynamic=False)
    half = time.monotonic() + 0.5 * (until - time.monotonic())
    untrained = _found(bench, finder, half)
    finder.expect_background(CANDIDATES)
    counts = [len(d) for d in finder.detect(max(bench.scale.found_at_once))]
    return {
        "detections_an_image": float(np.mean(counts)),
        "batches": _found(bench, finder, until),
        "batches of an untrained network": untrained,
    }


def _found(bench: Bench, finder: Finder, until: float) -> dict[str, Any]:
    numbers = bench.scale.found_at_once
    works = {f"network {n}": partial(finder.forward, n) for n in numbers}
    taken = bench.in_turn(works | {f"all {n}": partial(finder.detect, n) for n in numbers}, until)
    return {
        str(n): {
            "ms": _ms(taken[f"all {n}"]),
            "images_a_second": rates(n, taken[f"all {n}"]),
            "network_share": ratios(taken[f"network {n}"], taken[f"all {n}"]),
        }
        for n in numbers
    }


def evaluation(bench: Bench, until: float) -> dict[str, Any]:
    """Images a second of `detect_dataset`, from files to detections."""
    finder = bench.finder()
    finder.expect_background(CANDIDATES)
    work = partial(
        detect_dataset, finder.model, bench.dataset, progress=False, precision=bench.options.precision
    )
    work()
    taken = [_wall_seconds(work) for _ in bench.rounds(until)]
    return {"images_a_second": rates(len(bench.dataset), taken)}


def compiled(bench: Bench, name: str, until: float) -> dict[str, Any]:
    """Network and whole step of a recipe's training, plain and compiled, and how long compiling took."""
    plain, start = bench.learner(name), time.monotonic()
    fast = bench.learner(name, bench.options.compile)
    fast.update()
    seconds = time.monotonic() - start
    works = {"network": plain.forward_backward, "network compiled": fast.forward_backward}
    works |= {"whole step": plain.update, "whole step compiled": fast.update}
    taken = bench.in_turn(works, until)
    return {
        "images_a_second": {n: rates(bench.batch_size, s) for n, s in taken.items()},
        "faster": {n: ratios(taken[n], taken[f"{n} compiled"]) for n in ("network", "whole step")},
        "seconds_to_compile": round(seconds, 1),
        "peak_gib": peak_gib(fast.update, bench.device),
    }


def sections(bench: Bench) -> list[tuple[str, float, Callable[[float], dict[str, Any]]]]:
    """Name, share of the time and work of each part, the most important first."""
    learners = bench.scale.learners
    found = [(f"training {n}", 2.0, partial(training, bench, n)) for n in learners]
    found += [(f"pipeline {n}", 3.0, partial(pipeline, bench, n)) for n in learners]
    found += [("inference", 2.0, partial(inference, bench)), ("matching", 0.5, partial(matching, bench))]
    found += [
        ("loading", 1.0, partial(loading, bench, learners[0])),
        ("evaluation", 0.5, partial(evaluation, bench)),
    ]
    if bench.options.compile:
        found += [(f"compiled {n}", 3.0, partial(compiled, bench, n)) for n in learners]
        found += [("compiled inference", 3.0, partial(inference, bench, backend=bench.options.compile))]
    return found


def measure(bench: Bench, out: str | None) -> dict[str, Any]:
    """All parts for which there is time, written after each; a part that fails says why."""
    parts = sections(bench)
    budget, result = Budget(60 * bench.options.minutes, [weight for _, weight, _ in parts]), bench.about()
    for name, _, work in parts:
        until = budget.next()
        try:
            result[name] = work(until) if until else {"left_out": "no time was left; give more --minutes"}
        except RuntimeError as error:  # out of memory, no compiler: the other parts are worth having
            result[name] = {"failed": str(error).strip().splitlines()[0]}
        print(name, result[name], flush=True)
        if out:
            save(out, result)
    return result


def verdicts(result: dict[str, Any]) -> list[str]:
    """Each goal beside what was measured."""
    goals, lines = result["goals"], []
    for name, part in result.items():
        if name.startswith("training") and "loss_share" in part:
            share = part["loss_share"]["median"]
            lines.append(f"{name}: loss share {share:.3f}, to be below {goals['loss_share']}")
        if name.startswith("pipeline") and "decoding" in part:
            shares = " and ".join(
                f"{p['pipeline_share']['median']:.2f} {source}" for source, p in part.items()
            )
            lines.append(f"{name}: {shares} of the network's rate, to be {goals['pipeline_share']} or more")
    return lines


def profile(bench: Bench, name: str, steps: int = 5) -> str:
    """The operators of a recipe's training that take longest, as a table."""
    learner = bench.learner(name)
    bench.clock.seconds(learner.update, bench.effort.warm_up)
    with torch.profiler.profile() as seen:
        bench.clock.seconds(learner.update, steps)
    kind = "device" if bench.device.type == "cuda" else "cpu"
    table = seen.key_averages().table(f"self_{kind}_time_total", row_limit=25, max_name_column_width=60)
    return f"{name}: {steps} steps of {bench.batch_size} images\n{table}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--minutes", type=float, default=9, help="for all; each part takes a few rounds at least"
    )
    parser.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 1) - 2))
    parser.add_argument("--batch-size", type=int, help="of training")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="inductor", help="backend of torch.compile; '' leaves it out")
    parser.add_argument("--autotune", action="store_true", help="let cuDNN try its algorithms for each layer")
    parser.add_argument(
        "--tiny", action="store_true", help="a small network and few photos, to try the script"
    )
    parser.add_argument(
        "--profile", action="store_true", help="print the operators that take longest, no more"
    )
    parser.add_argument("--name", help="of the result; the GPU's name unless given")
    parser.add_argument("--out", help="another file for the result")
    return parser.parse_args(arguments)


def result_file(options: argparse.Namespace, device: torch.device) -> str | None:
    """Where the result goes; nowhere, unless --out says so, where there is no GPU or nothing was measured."""
    if options.out or options.tiny or device.type != "cuda":
        return options.out
    name = options.name or re.sub(r"\W+", "_", torch.cuda.get_device_name(device)).lower()
    return f"benchmarks/results/gpu_{name}.json"


def main(arguments: list[str] | None = None) -> None:
    """Measure, or profile."""
    options = parse(arguments)
    bench = Bench(options)
    if options.profile:
        for name in bench.scale.learners:
            print(profile(bench, name))
        return
    print("\n".join(verdicts(measure(bench, result_file(options, bench.device)))))


if __name__ == "__main__":
    main()
