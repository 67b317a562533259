"""The table in the README of how long ssdedu takes beside its peers, from the results of the last `make bench`.

Usage: python benchmarks/table.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bench import RESULTS

NAMES = {"matching": "", "loss": "", "detect": "", "augment": "augmentation, ", "map": "", "network": ""}


def rows() -> Iterator[str]:
    """A line of Markdown for each contest that has a goal."""
    for name, prefix in NAMES.items():
        contests = json.loads((RESULTS / f"{name}.json").read_text())["contests"]
        yield from (
            _row(prefix + what, c) for what, c in contests.items() if c.get("goal", {}).get("met") is not None
        )


def _row(what: str, contest: Mapping[str, Any]) -> str:
    goal, ms = contest["goal"], contest["ms"]
    peer = goal["against"]
    ratio = "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**contest["ratio"][peer])
    threads = f"{contest['threads']} thread" + "s" * (contest["threads"] > 1)
    work = f"{what.removesuffix(', two threads')}, {threads}"
    cells = [work, _ms(ms["ssdedu"]), f"{peer.partition('/')[0]} {_ms(ms[peer])}", ratio]
    return f"| {' | '.join(cells)} | {goal['at_most']:g}{'' if goal['met'] else ', missed'} |"


def _ms(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:,.0f} ms" if spread["median"] >= 10 else f"{spread['median']:.1f} ms"


if __name__ == "__main__":
    print("\n".join(rows()))
