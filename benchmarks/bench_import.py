"""How long a learner waits before anything happens: imports, help texts, small commands and the first plot.

Each command runs in a process of its own, in turn with all others, with the interpreter that runs this script, whose
start (`python -c pass`) and whose `import torch` stand beside it. "wall" is what a watch shows, "cpu" the processor
time of the process, which other work on the machine disturbs less. The goal counts the wall time.

What is measured needs no torch; behind each time stands what of torch, matplotlib, cv2 and numpy it imports (`heavy`).
A first plot cannot be faster than matplotlib, of which `matplotlib alone` draws and saves the same lines; `profile`
says where its time goes, in milliseconds by package, as `python -X importtime` counts the imports.

Of the commands, `train`, `evaluate`, `detect`, `demo` and `export` import torch after their options are read, `priors`
for the detectors of `ssdedu train` (their descriptions are made for an input size with the network's own rules), and
`solution` because exercises are checked against torch.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import machine, save, versions
from timing import TINY, Clock, Effort, in_turn, spread

from ssdedu.datasets.shapes import Shapes

RESULTS = Path(__file__).parent / "results"
GOAL_SECONDS = 0.3
COMMANDS = ("demo", "train", "evaluate", "detect", "priors", "check-data", "download", "export", "solution")
HEAVY = ("torch", "matplotlib", "cv2", "numpy")
_FULL = Effort(warm_up=1, seconds=0.0, least=11, most=11)
_PLOTS = {
    "matplotlib alone": """
import sys
from matplotlib.figure import Figure
figure = Figure(figsize=(5.5, 5.5), layout="constrained")
ax = figure.subplots()
for name, top in (("confidence", 9), ("localization", 3)):
    ax.plot(range(1, 99), [top / i for i in range(1, 99)], label=name)
ax.legend()
figure.savefig(sys.argv[1], dpi=80)
""",
    "first plot: loss curve": """
import sys
from ssdedu import plots
records = [{"step": i, "confidence": 9 / i, "localization": 3 / i} for i in range(1, 99)]
plots.save(plots.loss_curve(records), sys.argv[1])
""",
}
_PEERS = {"python -c pass": "pass", "import numpy": "import numpy", "import torch": "import torch"}
_IMPORTS = (
    "ssdedu",
    "ssdedu.priors",
    "ssdedu.evaluate",
    "ssdedu.crops",
    "ssdedu.datasets.shapes",
    "ssdedu.augment",
)


class Command:
    """A process; its processor time is kept at each run."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments, self.cpu = list(arguments), list[float]()

    def __call__(self) -> None:
        """Run it once."""
        before = _cpu_seconds()
        subprocess.run(self.arguments, check=True, capture_output=True)
        self.cpu.append(_cpu_seconds() - before)


def _cpu_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commands(folder: Path) -> dict[str, list[str]]:
    """What a learner types, by name: those that are held to the goal."""
    Shapes(3, seed=0).write_voc(folder / "voc", "trainval")
    typed = {"ssdedu --help": ["--help"], "ssdedu --version": ["--version"]}
    typed |= {f"ssdedu {name} --help": [name, "--help"] for name in COMMANDS}
    typed |= {
        "ssdedu priors": ["priors"],
        "ssdedu download --list": ["download", "--list", "--to", str(folder)],
    }
    typed |= {"ssdedu check-data FOLDER (3 images)": ["check-data", str(folder / "voc")]}
    script = Path(sys.executable).with_name("ssdedu")
    installed = {"ssdedu --help, installed": [str(script), "--help"]} if script.is_file() else {}
    return {
        **{f"import {name}": [sys.executable, "-c", f"import {name}"] for name in _IMPORTS},
        **installed,
        **{name: [sys.executable, "-m", "ssdedu", *arguments] for name, arguments in typed.items()},
        "first plot: loss curve": _drawing("first plot: loss curve", folder),
    }


def others(folder: Path) -> dict[str, list[str]]:
    """What stands beside them."""
    beside = {name: [sys.executable, "-c", code] for name, code in _PEERS.items()}
    beside["matplotlib alone"] = _drawing("matplotlib alone", folder)
    vision = [sys.executable, "-c", "import torchvision"]
    there = subprocess.run(vision, check=False, capture_output=True).returncode == 0
    return {**beside, **({"import torchvision": vision} if there else {})}


def _drawing(name: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", _PLOTS[name], str(folder / "figure.png")]


def measure(typed: Mapping[str, Sequence[str]], effort: Effort) -> dict[str, dict[str, Any]]:
    """Milliseconds of each command, wall and processor."""
    works = {name: Command(arguments) for name, arguments in typed.items()}
    wall = in_turn(Clock(torch.device("cpu")), works, effort, time.monotonic())
    cpu = {name: works[name].cpu[-len(wall[name]) :] for name in works}
    in_ms = {"wall_ms": wall, "cpu_ms": cpu}
    return {name: {k: spread([1000 * s for s in v[name]]) for k, v in in_ms.items()} for name in works}


def heavy(arguments: Sequence[str]) -> list[str]:
    """Which of the heavy packages a command imports, by the interpreter's own account."""
    return [package for package in HEAVY if package in _imported(arguments)]


def profile(arguments: Sequence[str]) -> dict[str, float]:
    """Milliseconds in the imports of the six most expensive packages, of the rest, and of what is no import."""
    start = time.perf_counter()
    imported = _imported(arguments)
    total = 1000 * (time.perf_counter() - start)
    most = dict(imported.most_common(6))
    rest = {"other imports": imported.total() - sum(most.values()), "all else": total - imported.total()}
    return {name: round(ms, 1) for name, ms in {**most, **rest}.items()}


def _imported(arguments: Sequence[str]) -> Counter[str]:
    """Milliseconds that each package's modules took by themselves."""
    done = subprocess.run(
        arguments,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
    )
    found: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|") if line.count("|") == 2 else ("", "", "")
        if own.strip().isdigit():
            found[name.strip().partition(".")[0]] += int(own) / 1000
    return found


def run(tiny: bool) -> dict[str, Any]:
    """All of it; tiny: two commands, once."""
    with tempfile.TemporaryDirectory() as place:
        held, beside = commands(Path(place)), others(Path(place))
        if tiny:
            held = {name: held[name] for name in ("import ssdedu", "ssdedu priors --help")}
            beside = {name: beside[name] for name in ("python -c pass",)}
        taken = measure({**held, **beside}, TINY if tiny else _FULL)
        drawn = {} if tiny else {name: profile(_drawing(name, Path(place))) for name in _PLOTS}
        rows = {name: {**taken[name], "heavy": heavy(held[name])} for name in held}
    for row in rows.values():
        row["met"] = row["wall_ms"]["median"] <= 1000 * GOAL_SECONDS
    return {
        "goal_ms": 1000 * GOAL_SECONDS,
        "held": rows,
        "beside": {n: taken[n] for n in beside},
        "profile": drawn,
    }


def _tell(result: Mapping[str, Any]) -> None:
    for name, row in {**result["held"], **result["beside"]}.items():
        wall, cpu = (row[kind] for kind in ("wall_ms", "cpu_ms"))
        line = f"  {name:<38}{wall['median']:>8.0f} ms ({wall['lowest']:.0f} to {wall['highest']:.0f})"
        line += f"{cpu['median']:>8.0f} ms cpu"
        print(
            line
            + (f"   {'met' if row['met'] else 'MISSED'}  {' '.join(row['heavy'])}" if "met" in row else "")
        )
    for name, parts in result["profile"].items():
        print(f"  {name}: {parts}")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ports", type=Path, help="as in the other benchmarks; nothing here comes from there"
    )
    parser.add_argument("--tiny", action="store_true", help="in miniature: measures nothing that counts")
    parser.add_argument("--out", type=Path, default=RESULTS / "import.json")
    options = parser.parse_args(arguments)
    result = run(options.tiny)
    _tell(result)
    about = {"machine": machine(), "versions": versions("torch", "numpy", "matplotlib", "cv2", "ssdedu")}
    save(options.out, {**about, **result})
    return result


if __name__ == "__main__":
    main()
