"""The same work by ssdedu and by its peers, in one run: what the bench_*.py scripts share.

Each contest measures all contestants in turn, round by round, on as many threads as it says; a ratio is that of two
times of the same round. What is slower than `_SLOW` seconds a call is measured in the first round only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from common import machine, save, versions
from peers import Absent, Peers
from timing import TINY, Clock, Effort, Work, in_turn, ratios, spread

RESULTS = Path(__file__).parent / "results"
OURS = "ssdedu"
_SLOW = 10.0
_EFFORT = Effort(warm_up=1, seconds=0.4, least=3, most=15)  # one call of each goes before


@dataclass(frozen=True)
class Goal:
    """ssdedu's time over a peer's is to be at most this; against: that peer, or "best" for the fastest one there is."""

    at_most: float
    against: str = "best"


@dataclass(frozen=True)
class Contest:
    """One row of a table: a piece of work done by ssdedu, by others, and its part that nobody can skip (limit).

    facts: what else is worth keeping, such as how far the results agree; computed once, before the measurement.
    """

    name: str
    ours: Work
    others: Mapping[str, Work | Absent]
    goal: Goal | None = None
    limit: Work | None = None
    threads: int = 1
    facts: Callable[[], Mapping[str, Any]] = field(default=dict)


def main(
    doc: str,
    name: str,
    make: Callable[[Peers, bool], Sequence[Contest]],
    arguments: Sequence[str] | None = None,
    packages: Sequence[str] = ("torch", "numpy", "cv2", "ssdedu"),
) -> dict[str, Any]:
    """The command line of a benchmark: measure, print, and write results/NAME.json.

    make(peers, tiny) gives the contests; tiny: in miniature, to see that all of it runs.
    """
    options = _options(doc, name, arguments)
    peers = Peers(options.ports)
    effort = TINY if options.tiny else _EFFORT
    rows = [run(c, effort, options.seconds) for c in make(peers, options.tiny)]
    about = {"machine": machine(), "versions": versions(*packages) | peers.used}
    result = {**about, "contests": {r.pop("name"): r for r in rows}}
    save(options.out, result)
    return result


def _options(doc: str, name: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", type=Path, help="folder with ports as OWNER/NAME; see peers.py")
    parser.add_argument("--seconds", type=float, default=45, help="for each contest, beyond three rounds")
    parser.add_argument("--tiny", action="store_true", help="in miniature: measures nothing that counts")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json")
    return parser.parse_args(arguments)


def run(contest: Contest, effort: Effort, seconds: float) -> dict[str, Any]:
    """Measure one contest, print its lines, and give what the file keeps of it."""
    torch.set_num_threads(contest.threads)
    works = {OURS: contest.ours} | {n: w for n, w in contest.others.items() if not isinstance(w, Absent)}
    absent = {n: w.reason for n, w in contest.others.items() if isinstance(w, Absent)}
    facts = dict(contest.facts())
    limit = {"limit": contest.limit} if contest.limit else {}
    quick, slow = _by_pace(works | limit)
    taken = in_turn(Clock(torch.device("cpu")), quick, effort, time.monotonic() + seconds)
    taken |= {n: [s] for n, s in slow.items()}
    over = {n: _ratios(taken[OURS], taken[n]) for n in works if n != OURS}
    row = {
        "name": contest.name,
        "threads": contest.threads,
        "ms": {n: spread([1000 * s for s in taken[n]]) for n in taken},
        "ratio": over,
        "absent": absent,
        **({"facts": facts} if facts else {}),
        **({"goal": _verdict(contest.goal, over)} if contest.goal else {}),
    }
    _tell(row)
    return row


def _by_pace(works: Mapping[str, Work]) -> tuple[dict[str, Work], dict[str, float]]:
    """Those to be measured again and again, and the seconds of those that one call is enough for."""
    quick, slow = {}, {}
    for name, work in works.items():
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        if seconds > _SLOW and name != OURS:
            slow[name] = seconds
        else:
            quick[name] = work
    return quick, slow


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours over theirs, round by round; a single measurement of theirs counts for all rounds."""
    return ratios(ours, theirs if len(theirs) == len(ours) else [theirs[0]] * len(ours))


def _verdict(goal: Goal, over: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The ratio that counts: against the peer the goal names, or the highest, that against the fastest peer."""
    there = over if goal.against == "best" else {n: r for n, r in over.items() if n == goal.against}
    if not there:
        return {"at_most": goal.at_most, "against": goal.against, "ratio": None, "met": None}
    name = max(there, key=lambda n: there[n]["median"])
    ratio = there[name]["median"]
    return {"at_most": goal.at_most, "against": name, "ratio": ratio, "met": ratio <= goal.at_most}


def _tell(row: Mapping[str, Any]) -> None:
    print(f"\n{row['name']} ({row['threads']} thread{'s' * (row['threads'] > 1)})")
    for name, ms in row["ms"].items():
        over = row["ratio"].get(name)
        times = f"  {name:<24}{ms['median']:>10.1f} ms  ({ms['lowest']:.1f} to {ms['highest']:.1f}, {ms['runs']} x)"
        print(times + (f"   ssdedu takes {over['median']:.2f} of it" if over else ""))
    for name, reason in row["absent"].items():
        print(f"  {name:<24}{'absent':>10}      {reason}")
    for what, value in row.get("facts", {}).items():
        print(f"  {what}: {value}")
    if goal := row.get("goal"):
        met = {True: "met", False: "MISSED", None: "not measured"}[goal["met"]]
        print(f"  goal: at most {goal['at_most']} x {goal['against']}: {met}", flush=True)
