"""What the benchmarks beside peers share: who counts, whose time is over whose, and how absent peers are shown."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import table
from peers import Absent, Peers
from timing import TINY

OVER = {"slow": {"median": 0.2}, "fast": {"median": 0.8}}


@pytest.mark.parametrize(("goal", "over", "expected"), [
    (bench.Goal(0.5), OVER, {"at_most": 0.5, "against": "fast", "ratio": 0.8, "met": False}),
    (bench.Goal(0.5, "slow"), OVER, {"at_most": 0.5, "against": "slow", "ratio": 0.2, "met": True}),
    (bench.Goal(0.8, "fast"), OVER, {"at_most": 0.8, "against": "fast", "ratio": 0.8, "met": True}),
    (bench.Goal(0.5, "other"), OVER, {"at_most": 0.5, "against": "other", "ratio": None, "met": None}),
    (bench.Goal(0.5), {}, {"at_most": 0.5, "against": "best", "ratio": None, "met": None}),
])  # fmt: skip
def test_the_verdict_is_on_the_named_peer_or_the_fastest(goal, over, expected):
    assert bench._verdict(goal, over) == expected


def test_ratios_are_those_of_one_round_and_one_time_counts_for_all_rounds():
    assert bench._ratios([1.0, 3.0], [2.0, 4.0]) == {
        "median": 0.625,
        "lowest": 0.5,
        "highest": 0.75,
        "runs": 2,
    }
    assert bench._ratios([1.0, 3.0], [4.0]) == {"median": 0.5, "lowest": 0.25, "highest": 0.75, "runs": 2}


def test_a_contest_calls_all_and_shows_who_is_absent(capsys):
    called = []
    row = bench.run(
        bench.Contest(
            "counting",
            lambda: called.append("ours"),
            {"peer": lambda: called.append("peer"), "gone": Absent("it left")},
            bench.Goal(2.0, "gone"),
            limit=lambda: called.append("limit"),
            facts=lambda: {"calls before": len(called)},
        ),
        TINY,
        seconds=0,
    )
    assert set(called) == {"ours", "peer", "limit"}
    assert (set(row["ms"]), set(row["ratio"])) == ({"ssdedu", "peer", "limit"}, {"peer"})
    assert (row["absent"], row["facts"]) == ({"gone": "it left"}, {"calls before": 0})
    assert row["goal"]["met"] is None
    told = capsys.readouterr().out
    assert "absent      it left" in told
    assert "not measured" in told


def test_what_is_slow_is_called_once(monkeypatch):
    monkeypatch.setattr(bench, "_SLOW", -1.0)
    quick, slow = bench._by_pace({"ssdedu": int, "peer": int})
    assert (list(quick), list(slow)) == (["ssdedu"], ["peer"])


def port(folder, name, text):
    root = folder / name
    root.mkdir(parents=True)
    (root / "utils.py").write_text(text)
    (root / "model.py").write_text("from utils import NUMBER\n")


def test_ports_may_have_modules_of_the_same_names(tmp_path):
    port(tmp_path, "a/one", "NUMBER = 1\n")
    port(tmp_path, "b/two", "NUMBER = 2\n")
    peers = Peers(tmp_path)
    assert [peers.port(n, "model")[0].NUMBER for n in ("a/one", "b/two")] == [1, 2]
    assert not {"model", "utils"} & set(sys.modules)
    assert peers.used["a/one"].startswith("sha256 ")
    assert peers.used["a/one"] != peers.used["b/two"]


def test_absent_peers_say_why(tmp_path):
    port(tmp_path, "c/broken", "raise RuntimeError('too old')\n")
    assert "--ports" in Peers(None).port("a/one", "model").reason
    assert "git clone https://github.com/a/one" in Peers(tmp_path).port("a/one", "model").reason
    assert "too old" in Peers(tmp_path).port("c/broken", "model").reason
    assert "no_such_package" in Peers(None).package("no_such_package").reason


@pytest.mark.parametrize(("met", "end"), [(True, "| 0.5 |"), (False, "| 0.5, missed |")])
def test_a_row_of_the_table(met, end):
    ratio = {"median": 0.4, "lowest": 0.35, "highest": 0.456, "runs": 3}
    contest = {
        "threads": 2,
        "ms": {"ssdedu": {"median": 4.44}, "owner/port": {"median": 1234.5}},
        "ratio": {"owner/port": ratio},
        "goal": {"at_most": 0.5, "against": "owner/port", "ratio": 0.4, "met": met},
    }
    row = table._row("work, two threads", contest)
    assert row == f"| work, 2 threads | 4.4 ms | owner 1,234 ms | 0.40 (0.35 to 0.46) {end}"
