"""The prior-box explorer: what it holds, answers and shows, in Python and on the page."""

import json

import numpy as np
import pytest
import torch
from cases import noise, random_boxes, sample_of, slow_iou
from node import needs_node, run_node

from ssdedu import boxes, matching, model, priors
from ssdedu.widgets import PriorBoxExplorer
from ssdedu.widgets.prior_box_explorer import KNOBS

CLASSES = ("cat", "dog")
TWO = [[0.1, 0.2, 0.5, 0.6], [0.55, 0.5, 0.95, 0.98]]


@pytest.fixture
def explorer():
    return PriorBoxExplorer(sample_of(noise(), TWO), priors.SHAPES128, classes=CLASSES, base="small")


def test_what_it_starts_with(explorer):
    assert repr(explorer) == "PriorBoxExplorer: SHAPES128, 2,032 default boxes, 2 objects"
    assert [o["name"] for o in explorer.objects] == ["cat", "dog"]
    assert explorer.config == priors.SHAPES128
    assert explorer.image.startswith("data:image/png;base64,")
    assert len(json.dumps(explorer.get_state(), default=str)) < 200_000


def test_the_default_is_a_drawn_scene_under_ssd300():
    explorer = PriorBoxExplorer()
    assert explorer.config == priors.SSD300_VOC
    assert len(explorer.objects) == 3


def test_an_image_or_a_file_is_a_scene(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), noise())
    for scene in (noise(), tmp_path / "photo.png", str(tmp_path / "photo.png")):
        explorer = PriorBoxExplorer(scene, priors.SHAPES128)
        assert explorer.objects == []
        assert explorer.answer["positives"] == []
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        PriorBoxExplorer(np.zeros((4, 4)))


@pytest.mark.parametrize("rule", ["ssd", "multibox", "threshold"])
def test_the_answer_is_that_of_the_package(explorer, rule):
    explorer.rule = rule
    explorer.threshold = 0.4
    objects = torch.tensor(TWO)
    default_boxes = priors.default_boxes(priors.SHAPES128)
    wanted = matching.match(objects, torch.tensor([1, 2]), default_boxes, 0.4, rule)
    positives = (wanted.object_index >= 0).nonzero()[:, 0].tolist()
    assert [p for p, _, _ in explorer.answer["positives"]] == positives
    for p, g, iou in explorer.answer["positives"]:
        assert g == wanted.object_index[p]
        corners = boxes.cxcywh_to_xyxy(default_boxes[p]).tolist()
        assert iou == pytest.approx(slow_iou(TWO[g], corners), abs=1e-6)
    overlaps = boxes.iou(objects, boxes.cxcywh_to_xyxy(default_boxes))
    assert [p for p, _ in explorer.answer["best"]] == overlaps.argmax(1).tolist()
    for (_, best), reach in zip(explorer.answer["best"], explorer.answer["reachable"], strict=True):
        assert best <= reach + 1e-6


def test_the_answer_belongs_to_its_question(explorer):
    before = explorer.answer
    explorer.revision = 7
    assert explorer.answer["revision"] == 7
    assert explorer.answer["positives"] == before["positives"]
    explorer.objects = [*explorer.objects, {"box": [0.0, 0.0, 1.0, 1.0], "name": "cat"}]
    assert len(explorer.answer["own"]) == 3


def test_nonsense_from_the_page_is_answered_with_the_reason(explorer):
    maps = [dict(m) for m in explorer.description["maps"]]
    maps[0]["aspect_ratios"] = [1]
    explorer.description = {**explorer.description, "maps": maps}
    assert "aspect_ratios" in explorer.answer["error"]
    explorer.config = priors.SHAPES128
    assert "error" not in explorer.answer
    explorer.objects = [{"box": [0.5, 0.5, 0.5, 0.6], "name": "thin"}]
    assert "degenerate" in explorer.answer["error"]
    explorer.objects = []
    assert explorer.answer["positives"] == []


@needs_node
def test_knobs_give_the_sizes_of_their_preset(tmp_path):
    for name, (first, low, high, whole) in KNOBS.items():
        config = priors.PRESETS[name]
        knobs = {"first": first, "low": low, "high": high, "whole": whole}
        data = [config.to_dict(), knobs]
        changed = priors.Config.from_dict(run_node(tmp_path, "priors.js", "m.withScales(...data)", data))
        assert changed == config, name


@needs_node
@pytest.mark.parametrize("whole", [True, False])
def test_turned_knobs_follow_the_formulas(whole, tmp_path):
    knobs = {"first": 0.08, "low": 0.25, "high": 0.8, "whole": whole}
    data = [priors.SSD300_VOC.to_dict(), knobs]
    changed = priors.Config.from_dict(run_node(tmp_path, "priors.js", "m.withScales(...data)", data))
    by_code, by_paper = priors.percent_sizes(300, 6, 8, 25, 80), priors.formula_sizes(300, 6, 0.08, 0.25, 0.8)
    wanted = by_code if whole else by_paper
    assert [(m.min_px, m.max_px) for m in changed.maps] == wanted


def test_every_preset_trims_to_descriptions_that_build():
    """The fewest maps that the slider offers, and one more, make a network."""
    presets = {p["config"]["name"]: p for p in PriorBoxExplorer().presets}
    named = {"SHAPES128": "small", "SSD300_VOC": "vgg16", "SSD300_FULL_VGG": "vgg16_full"}
    for name, base in {**named, "SSD300_MOBILENET": "mobilenet"}.items():
        least = presets[name]["min_maps"]
        for number in (least, least + 1):
            config = priors.PRESETS[name]
            with torch.device("meta"):
                model.SSD(config.replace(maps=config.maps[:number]), 3, base)


def test_every_map_of_every_preset_has_its_field():
    """On its own base: MobileNet's cells start elsewhere than VGG16's, and in a wide image x and y differ."""
    presets = {p["config"]["name"]: p for p in PriorBoxExplorer().presets}
    assert set(presets) == set(priors.PRESETS)
    for name, preset in presets.items():
        assert len(preset["fields"]) == len(priors.PRESETS[name].maps), name
    assert [f["start"] for f in presets["SSD300_MOBILENET"]["fields"][:2]] == [3.5, 11.5]
    assert all(f["start_y"] == f["start"] for p in presets.values() for f in p["fields"])
    wide = model.fit_config(priors.SSD300_MOBILENET, 301, 300, "mobilenet")
    own = PriorBoxExplorer(config=wide, base="mobilenet").presets[0]["fields"][0]
    assert (own["start"], own["start_y"], own["jump"]) == (4.5, 3.5, 8)


@needs_node
def test_a_cell_holds_its_default_boxes(explorer, tmp_path):
    """The page's rows of a cell against cell_boxes, slow IoU, and encode without variances."""
    config, objects = priors.SHAPES128, random_boxes(np.random.default_rng(0), 3)
    data = [config.to_dict(), [{"box": b.tolist(), "name": "x"} for b in objects]]
    script = (
        "(() => { const d = m.detectorOf(data[0]); const r = m.solve(data[1], d, 0.5, 'ssd');"
        " return m.cellBoxes(d, 1, [3, 5], data[1], r); })()"
    )
    rows = run_node(tmp_path, "prior_box_scene.js", script, data)
    cell = torch.from_numpy(priors.cell_boxes(config.maps[1], config)[3, 5]).float()
    found = matching.match(torch.tensor(objects), torch.ones(3).long(), priors.default_boxes(config))
    for row, box in zip(rows, cell, strict=True):
        overlaps = [slow_iou(o, boxes.cxcywh_to_xyxy(box).tolist()) for o in objects.tolist()]
        assert row["iou"] == pytest.approx(max(overlaps), abs=1e-6)
        nearest = torch.tensor(objects[row["object"]])
        offset = boxes.encode(nearest[None], box[None], (1, 1, 1, 1))[0, :2].tolist()
        assert row["offset"] == pytest.approx(offset, abs=1e-4)
        assert row["positive"] == found.object_index[row["p"]]
        assert (box[2:] * 128).tolist() == pytest.approx(row["sizePx"], abs=1e-4)


@needs_node
@pytest.mark.parametrize(
    "config", [priors.SSD300_VOC, priors.SHAPES128.replace(clip=True)], ids=lambda c: c.name
)
def test_page_and_python_answer_alike(config, tmp_path):
    rng = np.random.default_rng(3)
    for count in (0, 1, 9):
        explorer = PriorBoxExplorer(sample_of(noise(), random_boxes(rng, count), [1] * count), config)
        script = "m.solve(data[1], m.detectorOf(data[0]), data[2], data[3])"
        data = [explorer.description, explorer.objects, explorer.threshold, explorer.rule]
        found = run_node(tmp_path, "prior_box_scene.js", script, data)
        assert [q[:2] for q in found["positives"]] == [q[:2] for q in explorer.answer["positives"]]
        assert [p for p, _ in found["best"]] == [p for p, _ in explorer.answer["best"]]
        assert found["own"] == explorer.answer["own"]
        assert found["reachable"] == pytest.approx(explorer.answer["reachable"], abs=1e-6)


@needs_node
def test_the_cell_under_the_pointer_is_the_nearest(tmp_path):
    rng = np.random.default_rng(5)
    points = rng.uniform(0, 1, (40, 2)).tolist()
    for config in (priors.SSD300_VOC, priors.SSD300_PAPER):
        for k, feature_map in enumerate(config.maps):
            centers = priors.cell_centers(feature_map, 300, 300)
            data = [config.to_dict(), points]
            found = run_node(
                tmp_path, "prior_box_scene.js", f"data[1].map((q) => m.cellAt(data[0], {k}, ...q))", data
            )
            for (x, y), (row, column) in zip(points, found, strict=True):
                far = np.hypot(*(centers - (x, y)).transpose(2, 0, 1))
                assert far[row, column] == pytest.approx(far.min(), abs=1e-9)


def test_a_description_of_ones_own_becomes_a_detector_to_choose(explorer):
    explorer.config = priors.SSD512_COCO
    assert (explorer.preset, explorer.knobs["first"]) == ("SSD512_COCO", 0.04)
    own = priors.SHAPES128.replace(name="OWN", clip=True)
    explorer.config = own
    assert (explorer.preset, explorer.config, explorer.presets[0]["config"]["name"]) == ("OWN", own, "OWN")
    explorer.config = own.replace(clip=False)
    assert [p["config"]["name"] for p in explorer.presets].count("OWN") == 1
    with pytest.raises(ValueError, match="preset must be one of OWN, "):
        explorer.preset = "nothing"


@pytest.mark.parametrize("clip", ["wh", "cxcywh"])
def test_clamped_default_boxes_of_other_programs_are_refused(clip):
    config = priors.SSD300_VOC.replace(name="OTHER", clip=clip)
    with pytest.raises(ValueError, match=f"OTHER: clip is '{clip}'"):
        PriorBoxExplorer(config=config)
    explorer = PriorBoxExplorer()
    with pytest.raises(ValueError, match=f"OTHER: clip is '{clip}'"):
        explorer.config = config
    assert explorer.config == priors.SSD300_VOC
