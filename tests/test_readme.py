"""The README says what the benchmarks measured, names commands that exist, and links files that are there."""

import json
import re
import sys
from pathlib import Path

import pytest

from ssdedu.__main__ import main

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import table

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
        span([r["seconds"]["training_cpu"] for r in runs], "{:.0f}"),
    ]
    assert f"| {' | '.join(cells)} |" in README


def test_the_number_of_objects_and_the_versions_are_those_measured():
    runs = results("demo_seeds.json")["runs"]
    counts = [sum(s["objects"] for s in r["recall_by_size_at_score_0.5"]) for r in runs]
    assert span(counts, "{:,}") in README
    assert f"torch {runs[0]['versions']['torch'].partition('+')[0]}" in README
    assert all(r["machine"]["threads"] == 1 for r in runs)


@pytest.mark.parametrize("detector", ["SSD300_VOC", "SSD512_VOC"])
def test_the_explorers_figures_are_those_measured(detector):
    measured = results("explorers.json")
    one, processor = measured["detectors"][detector], measured["machine"]["processor"]
    rate = one["frames_a_second"]
    cells = [
        f"{detector}, {one['default_boxes']:,} default boxes",
        f"{rate['median']:.0f}, {rate['lowest']:.0f}",
    ]
    cells += ["{median:.0f} ({p90:.0f})".format(**one[name]) for name in ("ms", "answer_ms")]
    assert f"| {' | '.join(cells)} |" in README
    assert f"{measured['drags']} drags along {measured['positions_a_drag']} places" in README
    assert (measured["machine"]["cores"], "AMD EPYC" in processor) == (2, True)


@pytest.mark.parametrize("detector", ["SSD300_VOC", "SSD512_VOC"])
def test_the_explorer_was_as_fast_as_it_is_to_be(detector):
    measured = results("explorers.json")
    one, goals = measured["detectors"][detector], measured["goals"]
    assert one["frames_a_second"]["median"] >= goals["frames_a_second"] == 30
    assert one["answer_ms"]["p90"] <= goals["answer_ms"] == 150


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
        "padding",
        "settings",
        "demo",
        "plots",
        "shipped",
        "splits",
    }
    missing = {m for m in modules - behind_them if not re.search(rf"`(datasets\.)?{m}`", README)}
    assert missing == set()


def test_the_detector_for_photos_is_described_as_it_was_measured():
    run = results("voc2007_300px_mobilenet.json")
    text = " ".join(README.split())
    assert f"trained on the {run['images']:,} trainval photos of VOC2007 at 300 px" in text
    assert (
        f"for {run['steps']:,} steps, {run['passes']} passes, which took {run['training_seconds'] / 60:.0f} min"
        in text
    )
    assert f"On the {run['test_images']:,} test photos its mAP is {run['mean_ap']:.3f} (11 points;" in text


def test_the_times_beside_others_are_those_measured():
    rows = list(table.rows())
    assert len(rows) > 12
    assert [line for line in README.splitlines() if line in rows] == rows
    versions = [results(f"{name}.json")["versions"] for name in table.NAMES]
    assert {v["torch"].partition("+")[0] for v in versions} == {"2.13.0"}
    assert {v["torchvision"].partition("+")[0] for v in versions if "torchvision" in v} == {"0.28.0"}


def test_commands_that_need_no_torch_answer_as_soon_as_the_readme_says():
    measured, text = results("import.json"), " ".join(README.split())
    held, beside = (
        {n: f"{row['wall_ms']['median']:,.0f}" for n, row in measured[kind].items()}
        for kind in ("held", "beside")
    )
    plot, alone = held["first plot: loss curve"], beside["matplotlib alone"]
    assert (
        f"`import ssdedu` takes {held['import ssdedu']} ms, `ssdedu --help` {held['ssdedu --help']} ms"
        in text
    )
    assert f"a first plot {plot} ms, of which matplotlib by itself takes {alone} (" in text
    assert f"`import torch` takes {beside['import torch']} ms there" in text
    assert [n for n, row in measured["held"].items() if not row["met"]] == ["first plot: loss curve"]
