"""The report says what coverage measured, the picture shows it, and the suggestion is Python that runs."""

import dataclasses
import json
import math
import re

import cv2
import numpy as np
import pytest
from cases import random_boxes
from matplotlib.text import Text
from test_coverage import CAMERA, CONFIGS, truth_of

from ssdedu import coverage, coverage_report, priors, priors_fit, priors_search, priors_text
from ssdedu.coverage_figure import picture
from ssdedu.coverage_report import FILES, fit_folders, report, source, verdict
from ssdedu.datasets.shapes import Shapes
from ssdedu.priors import Config, Extra, FeatureMap
from ssdedu.recipes import RECIPES


class Objects:
    """A data set of boxes alone, with labels 1 and 2 in turns."""

    classes = ("cell", "plate")

    def __init__(self, images):
        truths = [truth_of(boxes, f"photo {i}") for i, boxes in enumerate(images)]
        self.truths = [dataclasses.replace(t, labels=1 + np.arange(len(t)) % 2) for t in truths]

    def __len__(self):
        return len(self.truths)

    def truth(self, index):
        return self.truths[index]


def scattered(seed=0, images=25):
    rng = np.random.default_rng(seed)
    return Objects([random_boxes(rng, int(rng.integers(0, 7))) for _ in range(images)])


@pytest.fixture(scope="module")
def found():
    return priors_fit.fit_dataset(scattered(), priors.SHAPES128, title="25 photos")


def as_run(text, variable="config"):
    space = {}
    exec(text, space)
    return space[variable]


ODD = Config("O'Hara \\ \"1\"", np.int64(200), 120, (
    FeatureMap("a", np.int32(6), 10, np.float32(12.5), 31.25, [2.0, 1.7], 1 / 3),
    FeatureMap("b\n", 3, 5, 0.1 + 0.2, None, (3.0,), None, Extra(8, 16, 4, 1, 0)),
), [0.1, 0.1, 0.3, 1e-7], whole_px=False, clip=True)  # fmt: skip


@pytest.mark.parametrize(
    "config", [*CONFIGS, ODD, *(r.config for r in RECIPES.values())], ids=lambda c: c.name
)
def test_a_description_as_python_is_the_same_description(config):
    assert as_run(priors.as_python(config)) == config
    again = as_run(priors_text.as_python(config, "camera"), "camera")
    assert again.to_dict() == config.to_dict()
    assert priors.table(again) == priors.table(config)


def test_the_table_is_still_a_function_of_priors():
    assert priors.table is priors_text.table
    assert "38x38" in priors.table(priors.SSD300_VOC)


def test_descriptions_by_name():
    assert priors_text.named("ssd512_coco") is priors.SSD512_COCO
    assert priors_text.named("Small") is RECIPES["small"].config
    assert priors_text.tables("ALL").count("input") == len(priors.PRESETS)
    assert priors_text.tables("small") == priors.table(RECIPES["small"].config)
    with pytest.raises(ValueError, match=r"known: SSD300_VOC.*small"):
        priors_text.named("SSD301")


def number(text, start):
    """The first number in the line that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return float(re.search(r"[\d,]*\.?\d+", line[len(start) :].lstrip(":"))[0].replace(",", ""))


def test_the_text_says_what_was_measured(found):
    text, c = report(found), found.before
    assert "25 photos: 25 images" in text
    missed = c.num_objects - c.covered.sum()
    assert number(text, "covered: a default box of this IoU or more") == c.covered.sum()
    reached = (~c.covered & (c.reachable >= 0.5)).sum()
    assert (
        number(text, "not covered: no default box reaches its size and shape at any place")
        == missed - reached
    )
    assert number(text, "not covered: only because of its place between the default boxes") == reached
    assert number(text, "without a default box after SSD's matching") == (c.positives == 0).sum()
    assert number(text, "best default box went to another object") == c.outbid.sum()
    assert number(text, "left out if a plain threshold") == c.left_out.sum()
    assert number(text, "mean IoU of the best default boxes") == pytest.approx(c.mean_iou, abs=5e-4)
    assert 0 < c.covered.sum() < c.num_objects
    for m, positives in zip(c.config.maps, c.positives_per_map.tolist(), strict=True):
        assert re.search(rf"^{m.name} .* {positives:,} ", text, re.MULTILINE)
    for label, name in enumerate(Objects.classes, 1):
        own = c.covered[c.labels == label]
        other = found.after.covered[c.labels == label].mean()
        assert re.search(rf"^{name} +{len(own)} +{own.mean():.1%} +{other:.1%}$", text, re.MULTILINE)
    assert f"Verdict: {verdict(found)[9:]}" == text.splitlines()[-1]
    assert max(map(len, text.splitlines()[:-1])) <= 120


def test_the_worst_bins_name_their_worst_object(found):
    text, c = report(found), found.before
    bins = sorted(c.by_size(), key=lambda b: b.covered - b.objects)[:3]
    for b in bins:
        inside = (c.sizes_px >= b.low) & (c.sizes_px < b.high)
        lowest = c.best.iou[inside].min()
        line = next(
            line for line in text.splitlines() if line.startswith(f"  {b.low:.3g} to {b.high:.3g} px")
        )
        assert f"{b.objects:,}" in line
        assert f"{b.share:.1%}" in line
        assert f"IoU {lowest:.2f}, in photo " in line


def test_all_presets_are_compared(found):
    boxes = found.before.boxes_xyxy
    text = report(found)
    for name, config in priors.PRESETS.items():
        covered, mean = priors_search.fit_score(boxes, config)
        row = rf"^{name}( \*)? .* {covered / len(boxes):.1%} +{mean:.3f}$"
        assert re.search(row, text, re.MULTILINE), name
    assert [f.config.name for f in found.presets] == list(priors.PRESETS)
    other = priors_fit.fit_dataset(scattered(1, 5), CAMERA)
    assert [f.config.name for f in other.presets] == [*priors.PRESETS, "CAMERA"]
    assert "CAMERA *" in report(other)


def test_the_suggestion_is_better_on_all_objects_and_runs(found):
    boxes = found.before.boxes_xyxy
    after = priors_search.fit_score(boxes, found.after.config)
    assert after > priors_search.fit_score(boxes, found.before.config)
    assert found.after.config.name == "SHAPES128_FIT"
    assert (found.after.best.iou >= 0.5).sum() == after[0]
    text = source(found)
    assert as_run(text) == found.after.config
    assert as_run(text, "config_ratio_3") == found.ratio_3.config
    assert text.count("import") == 1
    share, mean = found.ratio_3[1:]
    covered, exact = priors_search.fit_score(boxes, found.ratio_3.config)
    assert (share, mean) == (covered / len(boxes), pytest.approx(exact, abs=1e-8))


def test_where_nothing_is_better_the_description_stays(monkeypatch):
    """The search sees a part of the objects; what it finds may be worse on all of them."""
    worse = priors.SHAPES128.replace(maps=priors.SHAPES128.maps[:1])
    monkeypatch.setattr(priors_fit, "suggest", lambda boxes, config, threshold, ratio_3=False: worse)
    found = priors_fit.fit_dataset(scattered(), priors.SHAPES128)
    assert found.after is None
    assert as_run(source(found)) == priors.SHAPES128
    text = report(found)
    assert "no other sides were found that fit better" in text
    assert "keep these" in text
    assert len(picture(found.before, found.after).axes[3].patches) == len(priors.SHAPES128.maps)


def test_everything_covered_is_said():
    square = [[0.2, 0.2, 0.2 + 24 / 128, 0.2 + 24 / 128]]
    found = priors_fit.fit_dataset(Objects([square] * 3), priors.SHAPES128)
    text = report(found)
    assert "Every object is covered." in text
    assert "hardly needed, best for less than 1% of the objects: " in text
    assert "suit your data: 100.0%" in text


def test_without_objects_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="here: no object in 2 images, so nothing to fit"):
        priors_fit.fit_dataset(Objects([[], []]), CAMERA, title="here")
    with pytest.raises(ValueError, match="1 degenerate boxes were skipped"):
        priors_fit.fit_dataset(Objects([[[0.1, 0.1, 0.1, 0.2]]]), CAMERA)
    for threshold in (0, 1.2, math.nan):
        with pytest.raises(ValueError, match="threshold must be above 0"):
            priors_fit.fit_dataset(Objects([[]]), CAMERA, threshold)


def test_skipped_boxes_are_named_in_the_text():
    flat = [0.1, 0.1, 0.1, 0.2]
    text = report(priors_fit.fit_dataset(Objects([[[0.2, 0.2, 0.5, 0.5]], [flat] * 7]), CAMERA))
    assert "7 degenerate boxes were skipped: photo 1: object 0" in text
    assert "and 2 more" in text


def with_shares(found, covered, other, wide, plate=None, largest=0.0):
    """The same measurement with other shares of covered objects; plate: of the class of that name."""
    labels = np.where(np.arange(1000) % 5, 1, 2)
    iou = np.where(np.arange(1000) < 1000 * covered, 0.9, 0.1)
    if plate is not None:
        iou[labels == 2] = np.where(np.arange(200) < 200 * plate, 0.9, 0.1)
        iou[labels == 1] = np.where(np.arange(800) < 1000 * covered - 200 * plate, 0.9, 0.1)
    boxes = np.tile(np.array([[0, 0, 8 / 128, 8 / 128]], np.float32), (1000, 1))
    zeros = np.zeros(1000, int)
    c = dataclasses.replace(
        found.before,
        reachable=np.full(1000, 0.4),
        boxes_xyxy=boxes,
        labels=labels,
        best=coverage.BestBox(iou, zeros, zeros),
        image=zeros,
    )
    shifted = coverage.BestBox(np.where(np.arange(1000) < 1000 * other, 0.9, 0.1), zeros, zeros)
    presets = [f._replace(share=largest if f.config == priors.SSD512_VOC else 0.0) for f in found.presets]
    return dataclasses.replace(
        found,
        before=c,
        after=dataclasses.replace(c, best=shifted),
        ratio_3=found.ratio_3._replace(share=wide),
        presets=tuple(presets),
    )


@pytest.mark.parametrize(("shares", "wanted", "unwanted"), [
    ((0.98, 0.985, 0.985), ["suit your data: 98.0%", "would change little"], ["those others", "priors.py", "class"]),
    ((0.96, 0.96, 0.96, 0.93), ["suit your data: 96.0%"], ["class"]),
    ((0.96, 0.98, 0.98, 0.8), ["as a whole, not every class: 96.0%", "least is plate: 80.0% of its 200 objects",
                               "to 98.0% (priors.py)"], ["ratio 3"]),
    ((0.9, 0.9, 0.95), ["most of your objects, not all: 90.0%", "smaller than the smallest default box (12 px)",
                        "to 95.0% with ratio 3 on every map (priors.py)"], ["A larger input"]),
    ((0.6, 0.7, 0.75, None, 0.8), ["do not suit your data: 60.0%", "to 70.0%, and to 75.0% with ratio 3",
                                   "SSD512_VOC (512 x 512 px) 80.0%"], []),
    ((0.6, 0.7, 0.75, None, 0.755), ["60.0%"], ["A larger input"]),
])  # fmt: skip
def test_the_verdict_follows_from_the_shares(found, shares, wanted, unwanted):
    text = verdict(with_shares(found, *shares))
    assert text.startswith("Verdict: These default boxes")
    assert "Coverage is not mAP" in text
    assert all(words in text for words in wanted), text
    assert not any(words in text for words in unwanted), text


def test_the_verdict_warns_where_other_sides_cost_a_class(found):
    """900 cells of 60 px that become covered, 100 plates of 14 px that are given up for them."""
    measured = with_shares(found, 0.1, 0.9, 0.9)
    labels, covered = np.where(np.arange(1000) < 900, 1, 2), np.arange(1000) >= 900
    for share_lost, warns in ((1.0, True), (0.04, False)):
        kept = covered & (np.arange(1000) >= 900 + 100 * share_lost)
        iou = [np.where(fits, 0.9, 0.1) for fits in (covered, ~covered | kept)]
        before, after = (
            dataclasses.replace(c, labels=labels, best=c.best._replace(iou=i))
            for c, i in zip((measured.before, measured.after), iou, strict=True)
        )
        text = verdict(dataclasses.replace(measured, before=before, after=after))
        assert ("But with other sides plate falls from 100.0% to 0.0%!" in text) == warns
        assert ("falls" in text) == warns


def test_the_verdict_says_what_uncovered_objects_have_in_common(found):
    measured = with_shares(found, 0.6, 0.6, 0.6)
    large = {"boxes_xyxy": measured.before.boxes_xyxy * 4}
    for reach, words in ((0.4, "a size of 32 to 32 px"), (0.8, "100% of those others only lie too far from")):
        before = dataclasses.replace(measured.before, **large, reachable=np.full(1000, reach))
        assert words in verdict(dataclasses.replace(measured, before=before))


def test_the_picture_shows_what_was_measured(found):
    figure = picture(found.before, found.after)
    scatter, size, ratio, maps = figure.axes[:4]
    c, after = found.before, found.after
    points = [len(s.get_offsets()) for s in scatter.collections[:3]]
    shapes = sum(m.boxes_per_cell for m in c.config.maps)
    assert points == [c.covered.sum(), (~c.covered).sum(), shapes]
    for ax, method in ((size, "by_size"), (ratio, "by_ratio")):
        for line, measured in zip(ax.lines, (c, after), strict=True):
            drawn = [b for b in getattr(measured, method)() if b.objects >= 5]
            np.testing.assert_allclose(line.get_ydata(), [100 * b.share for b in drawn])
            np.testing.assert_allclose(line.get_xdata(), [math.sqrt(b.low * b.high) for b in drawn])
        assert len({line.get_linestyle() for line in ax.lines}) == 2
    widths = [bar.get_width() for bar in maps.patches]
    np.testing.assert_allclose(widths, np.concatenate([c.positives_per_map, after.positives_per_map]) / 25)
    bars = [bar.get_height() for ax in figure.axes[4:] for bar in ax.patches]
    assert bars == [b.objects for b in (*c.by_size(), *c.by_ratio())]
    assert f"{c.share_covered:.1%} → {after.share_covered:.1%}" in figure.get_suptitle()
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 11


def test_the_frontier_is_where_reach_equals_the_threshold(found):
    line = picture(found.before).axes[0].collections[-1].get_paths()[0]
    side, ratio = line.vertices.T
    sizes = np.column_stack([side * np.sqrt(ratio), side / np.sqrt(ratio)]) / 128
    inside = (sizes < 0.97).all(1)
    assert inside.sum() > 20
    assert np.abs(coverage.reachable(sizes[inside], found.before.config) - 0.5).max() < 0.06


def test_a_picture_of_many_objects_draws_some(monkeypatch, found):
    monkeypatch.setattr("ssdedu.coverage_figure._POINTS", 20)
    points = [len(s.get_offsets()) for s in picture(found.before).axes[0].collections[:2]]
    assert sum(points) == 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    Shapes(5, seed=1).write_voc(root, "trainval")
    Shapes(3, seed=2).write_voc(root, "test")
    return root


def test_folders_leave_text_picture_and_python(folder, tmp_path):
    text = fit_folders(priors.SHAPES128, [folder], tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert (tmp_path / "out" / "fit.txt").read_text() == f"{text}\n"
    assert cv2.imread(str(tmp_path / "out" / "fit.png")).shape[1] >= 1000
    fitted = as_run((tmp_path / "out" / "priors.py").read_text())
    assert fitted.name.startswith("SHAPES128")
    assert priors.Config.from_dict(json.loads((tmp_path / "out" / "priors.json").read_text())) == fitted
    objects = sum(len(Shapes(5, seed=1).truth(i)) for i in range(5))
    assert f"{folder} (trainval): 5 images, {objects} objects" in text


def test_splits_and_several_folders(folder, tmp_path):
    Shapes(2, seed=3).write_voc(tmp_path / "more", None)
    assert f"{folder} (test): 3 images" in fit_folders(priors.SHAPES128, [folder], tmp_path, "test")
    text = fit_folders(priors.SHAPES128, [folder, tmp_path / "more"], tmp_path)
    assert f"{folder} (trainval) + {tmp_path / 'more'}: 7 images" in text
    with pytest.raises(ValueError, match="no split 'val'"):
        fit_folders(priors.SHAPES128, [folder], tmp_path, "val")


def test_a_failure_leaves_the_old_files(folder, tmp_path, monkeypatch):
    (tmp_path / "fit.png").write_text("old")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        fit_folders(priors.SHAPES128, [folder], tmp_path)
    assert (tmp_path / "fit.png").read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} <= set(FILES)


def test_a_bad_threshold_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="threshold must be above 0 and at most 1, got 2"):
        fit_folders(priors.SHAPES128, ["nowhere"], tmp_path, threshold=2)
    assert coverage_report.FILES == ("fit.txt", "fit.png", "priors.py", "priors.json")
