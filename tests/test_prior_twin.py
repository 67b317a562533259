"""The page's twin of priors, boxes and matching gives Python's numbers: every preset, random truths, ties, empty."""

import dataclasses

import numpy as np
import pytest
import torch
from cases import random_boxes
from node import needs_node, run_node

from ssdedu import boxes, matching, priors

pytestmark = needs_node
CAMERA = priors.Config(
    "CAMERA",
    320,
    192,
    (
        priors.FeatureMap("fine", 24, 40, 16.5, 40, (2.0, 3.0)),
        priors.FeatureMap("middle", 12, 20, 40, None, ()),
        priors.FeatureMap("coarse", 3, 5, 90, 180, (1.7,), step_px=70),
    ),
)
ONE_BOX = priors.Config("ONE", 100, 50, (priors.FeatureMap("only", 1, 1, 30, None, ()),))
CONFIGS = [*priors.PRESETS.values(), CAMERA, CAMERA.replace(name="CLIPPED", clip=True), ONE_BOX]
CONFIGS += [priors.SSD300_VOC.replace(name="SSD300_CLIPPED", clip=True)]
SMALL = [priors.SHAPES128, priors.SHAPES128_COARSE_MAP, CAMERA, ONE_BOX]


def named(configs):
    return pytest.mark.parametrize("config", configs, ids=lambda c: c.name)


@named(CONFIGS)
def test_default_boxes_are_the_same_bit_by_bit(config, tmp_path):
    expression = "[m.numBoxes(data), m.firstBoxes(data), Array.from(m.defaultBoxes(data))]"
    number, first, found = run_node(tmp_path, "priors.js", expression, config.to_dict())
    wanted = priors.default_boxes(config)
    assert number == config.num_boxes
    assert first == [sum(m.num_boxes for m in config.maps[:k]) for k in range(len(config.maps) + 1)]
    np.testing.assert_array_equal(np.array(found, np.float32).reshape(-1, 4), wanted.numpy())


def test_shapes_have_a_name_each(tmp_path):
    found = run_node(tmp_path, "priors.js", "data.maps.map(m.shapeNames)", priors.SSD300_VOC.to_dict())
    assert found[:2] == [["1", "1′", "2", "1/2"], ["1", "1′", "2", "1/2", "3", "1/3"]]
    assert [len(names) for names in found] == [m.boxes_per_cell for m in priors.SSD300_VOC.maps]


def test_scales_by_equation_and_in_percents(tmp_path):
    cases = [(300, m, first, 0.15, 0.85) for m in (2, 3, 5, 7) for first in (None, 0.07)]
    found = run_node(tmp_path, "priors.js", "data.map((c) => m.formulaSizes(...c))", cases)
    for case, sizes in zip(cases, found, strict=True):
        np.testing.assert_array_equal(sizes, priors.formula_sizes(*case[:2], *case[2:]))
    cases = [(512, m, 4, 10, 90) for m in (3, 6, 7)] + [(300, 6, 10, 20, 90)]
    found = run_node(tmp_path, "priors.js", "data.map((c) => m.percentSizes(...c))", cases)
    for case, sizes in zip(cases, found, strict=True):
        np.testing.assert_array_equal(sizes, priors.percent_sizes(*case))


BAD = {
    "ratio one": {"aspect_ratios": (1.0,)},
    "a ratio and its inverse": {"aspect_ratios": (2.0, 0.5)},
    "a negative ratio": {"aspect_ratios": (-2.0,)},
    "no size": {"min_px": 0},
    "less than a pixel": {"min_px": 0.5},
    "sizes the wrong way round": {"max_px": 10},
}
GOOD = {
    "no ratio": {"aspect_ratios": ()},
    "a lying ratio below one": {"aspect_ratios": (0.4,)},
    "no extra box": {"max_px": None},
    "both sizes alike": {"min_px": 40, "max_px": 40},
}


@pytest.mark.parametrize("name", [*BAD, *GOOD])
def test_the_page_refuses_what_python_refuses(name, tmp_path):
    fields = {**priors.SSD300_VOC.to_dict()}
    changed = {**fields["maps"][1], **{**BAD, **GOOD}[name]}
    fields["maps"] = [fields["maps"][0], changed, *fields["maps"][2:]]
    text = run_node(tmp_path, "priors.js", "m.problem(data)", fields)
    assert bool(text) == (name in BAD)
    if name in BAD:
        assert "fc7" in text
        with pytest.raises(ValueError, match=r"maps\[1\]"):
            priors.Config.from_dict(fields)
    else:
        priors.Config.from_dict(fields)


def test_ratios_as_people_write_them(tmp_path):
    texts = ["2, 3", "2 3", "", "1/3; 2.5", "two", "2,,3", "1/0"]
    found = run_node(tmp_path, "priors.js", "data.map(m.readRatios)", texts)
    assert found == [[2, 3], [2, 3], [], [1 / 3, 2.5], None, [2, 3], None]


def truths(rng):
    """Lists of objects: none, one, random ones, equal ones, on the border, crowded, tiny, without overlap."""
    whole = [[0.0, 0.0, 1.0, 1.0]]
    grid = (rng.integers(0, 7, (6, 2)) / 8).astype(np.float32)
    on_grid = np.hstack([grid, grid + np.float32(0.125)]).tolist()
    yield []
    yield whole
    yield whole * 3
    yield [[0, 0, 0.3, 0.2], [0.7, 0.8, 1, 1], [0, 0, 0.3, 0.2]]
    yield [[0.5, 0.5, 0.5001, 0.5001]]
    yield on_grid + on_grid[:2]
    for count in (1, 3, 12, 40):
        yield random_boxes(rng, count).tolist()


def check_matches(config, cases, threshold, rule, tmp_path):
    expression = (
        "(() => { const corners = m.cornersAndAreas(Float32Array.from(data.priors.flat()));"
        " return data.cases.map((boxes) => { const r = m.match(boxes, corners, data.threshold, data.rule);"
        " return [Array.from(r.objectIndex), Array.from(r.iou), r.own]; }); })()"
    )
    default_boxes = priors.default_boxes(config)
    data = {"priors": default_boxes.tolist(), "cases": cases, "threshold": threshold, "rule": rule}
    found = run_node(tmp_path, "matching.js", expression, data)
    for case, (index, iou, own) in zip(cases, found, strict=True):
        objects = torch.tensor(case, dtype=torch.float32).reshape(-1, 4)
        labels = torch.ones(len(case), dtype=torch.int64)
        wanted = matching.match(objects, labels, default_boxes, threshold, rule)
        assert index == wanted.object_index.tolist()
        np.testing.assert_array_equal(np.array(iou, np.float32), wanted.iou.numpy())
        overlaps = boxes.iou(objects, boxes.cxcywh_to_xyxy(default_boxes))
        pairs = matching.bipartite(overlaps[None])[0].tolist()
        assert own == (pairs if rule != "threshold" else [-1] * len(case))


@named(SMALL)
@pytest.mark.parametrize("rule", ["ssd", "multibox", "threshold"])
def test_matches_are_the_same_number_by_number(config, rule, tmp_path):
    cases = list(truths(np.random.default_rng(len(config.name))))
    check_matches(config, cases, 0.5, rule, tmp_path)
    check_matches(config, cases, 0.3, rule, tmp_path)


@named([c for c in CONFIGS if c not in SMALL])
def test_matches_of_full_detectors(config, tmp_path):
    cases = list(truths(np.random.default_rng(1)))
    check_matches(config, cases, 0.5, "ssd", tmp_path)


def test_shared_favourites_and_equal_overlaps(tmp_path):
    """More objects than default boxes, and a grid on which many overlaps are equal."""
    few = dataclasses.replace(priors.SHAPES128_COARSE_MAP.maps[0], height=2, width=2, aspect_ratios=())
    config = priors.Config("FEW", 128, 128, (few,))
    side = np.arange(5) / 8
    cases = [[[x, y, x + 0.5, y + 0.5] for x in side for y in side]]
    check_matches(config, cases, 0.5, "ssd", tmp_path)
    check_matches(config, cases, 1.0, "multibox", tmp_path)


@named(CONFIGS)
def test_the_copied_source_builds_the_same_description(config, tmp_path):
    space = {}
    exec(run_node(tmp_path, "priors_text.js", "m.asPython(data)", config.to_dict()), space)
    assert space["config"] == config
