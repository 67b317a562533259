"""The README says what the benchmarks measured, names commands that exist, and links files that are there."""

import json
import re
from pathlib import Path

import pytest

from ssdedu.__main__ import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def results(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text())


def span(values, form, between=" to "):
    return form.format(min(values)) + between + form.format(max(values))


@pytest.mark.parametrize("one_map", [0, 8, 4])
def test_the_demos_figures_are_those_measured(one_map):
    runs = [r for r in results("demo_seeds.json")["runs"] if r["one_map"] == one_map]
    assert len(runs) == 3
    small = [r["recall_by_size_at_score_0.5"][0]["recall"] for r in runs]
    cells = [
        span([r["mean_ap"] for r in runs], "{:.3f}"),
        span([100 * s for s in small], "{:.0f} %"),
        span([r["seconds"]["training"] for r in runs], "{:.0f}"),
    ]
    assert f"| {' | '.join(cells)} |" in README


def test_the_number_of_objects_and_the_versions_are_those_measured():
    runs = results("demo_seeds.json")["runs"]
    counts = [sum(s["objects"] for s in r["recall_by_size_at_score_0.5"]) for r in runs]
    assert span(counts, "{:,}") in README
    assert f"torch {runs[0]['versions']['torch'].partition('+')[0]}" in README
    assert all(r["machine"]["threads"] == 2 for r in runs)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^ssdedu ([a-z-]+)", README, re.MULTILINE))))
def test_commands_exist(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out


def test_the_course_table_has_every_notebook_in_order():
    listed = re.findall(r"^\| \[(\d\d [^]]+)\]\(notebooks/(\w+)\.ipynb\)", README, re.MULTILINE)
    assert [name for _, name in listed] == sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert all(title.replace(" ", "_").lower() == name for title, name in listed)


def test_the_table_of_modules_has_every_module_of_the_design():
    modules = {p.stem for p in (ROOT / "ssdedu").glob("*.py")} - {"__init__", "__main__"}
    behind_them = {
        "box_table",
        "files",
        "sample",
        "precision",
        "settings",
        "demo",
        "plots",
        "shipped",
        "splits",
    }
    missing = {m for m in modules - behind_them if not re.search(rf"`(datasets\.)?{m}`", README)}
    assert missing == set()
