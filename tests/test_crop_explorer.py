"""The crop explorer: the rules on the page are those of the package, to the last bit, also on the limits."""

import math

import numpy as np
import pytest
from cases import THREE, noise, random_boxes, sample_of, slow_iou
from hypothesis import given
from hypothesis import strategies as st
from node import needs_node, run_node

from ssdedu import augment, crops
from ssdedu.crops import Sampler
from ssdedu.widgets import CropExplorer
from ssdedu.widgets.crop_explorer import sampler_name, verdict

CLASSES = ("cat", "dog", "cow")
ODD = (
    Sampler(max_iou=0.5),
    Sampler(min_iou=0.25, max_iou=0.5, min_scale=0.1),
    Sampler(min_aspect=3, max_aspect=4),
    Sampler(min_scale=0.5, max_scale=0.5, min_aspect=1, max_aspect=1),
)
SAMPLERS = (*crops.SAMPLERS, *ODD)
WHOLE, HALF = crops.SAMPLERS[0], crops.SAMPLERS[3]
ON_LIMITS = [
    [0.0, 0.0, 1.0, 1.0],
    *[[a, a, b, b] for a, b in ((0.1, 0.4), (0.4, 0.7), (0.7, 1.0))],
]  # scale 0.3


def explorer_of(boxes=THREE, size=(50, 38), **options):
    return CropExplorer(sample_of(noise(*size), boxes, labels=[1] * len(boxes)), CLASSES, **options)


def random_patch(rng):
    """Anywhere, or on a grid of eighths, where patches, boxes, pixels and limits meet."""
    if rng.random() < 0.5:
        low = rng.uniform(0, 0.9, 2)
        return [*low.tolist(), *np.minimum(low + rng.uniform(0.02, 1, 2), 1).tolist()]
    x, y = (np.sort(rng.choice(9, 2, replace=False)) / 8 for _ in range(2))
    return [float(v) for v in (x[0], y[0], x[1], y[1])]


def random_cases():
    """Explorers with patches: no object, one, several, some on the image's border, all kinds of images."""
    rng = np.random.default_rng(0)
    for size in ((50, 38), (64, 64), (7, 300), (20, 20)):
        for number in (0, 1, 4):
            grid = [random_patch(rng) for _ in range(number)]
            edges = [[0, 0, 1, 1], [0.5, 0, 1, 0.5], [0.25, 0.25, 0.25, 0.75]]  # the last has no width
            boxes = [*grid, *random_boxes(rng, number).tolist(), *edges[:number]]
            explorer = explorer_of(boxes, size, samplers=SAMPLERS)
            for patch in [*ON_LIMITS, *grid, *(random_patch(rng) for _ in range(60))]:
                explorer.patch = patch
                yield explorer


# What the package says


def slow_verdict(patch, boxes, sampler):
    width, height = patch[2] - patch[0], patch[3] - patch[1]
    scale = math.sqrt(width * height)
    limits = [min(max(a, scale**2), 1 / scale**2) for a in (sampler.min_aspect, sampler.max_aspect)]
    passes = sampler.min_iou is None and sampler.max_iou is None
    for box in boxes:
        iou = slow_iou(patch, box)
        low = sampler.min_iou is None or iou >= sampler.min_iou
        passes = passes or (low and (sampler.max_iou is None or iou <= sampler.max_iou))
    near = 1e-9
    return (
        sampler.min_scale - near <= scale <= sampler.max_scale + near,
        limits[0] - near <= width / height <= limits[1] + near,
        passes,
    )


def test_verdicts_against_a_loop():
    seen = set()
    for explorer in random_cases():
        boxes = [o["box"] for o in explorer.objects]
        expected = [slow_verdict(explorer.patch, boxes, s) for s in SAMPLERS]
        assert [tuple(v) for v in explorer.verdicts()] == expected
        seen |= set(expected)
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("patch", "sampler", "expected"),
    [
        ((0, 0, 1, 1), WHOLE, (True, True, True)),
        ((0, 0, 1, 0.99), WHOLE, (False, False, True)),
        ((0.1, 0.1, 0.4, 0.4), HALF, (True, True, False)),  # scale 0.3 up to rounding
        ((0.1, 0.1, 0.399, 0.4), HALF, (False, True, False)),
        ((0, 0, 1, 0.5), HALF, (True, True, True)),  # aspect 2, IoU 0.5
        ((0, 0, 1, 0.49), HALF, (True, False, True)),
        ((0, 0, 1, 0.5), Sampler(max_iou=0.25), (True, True, False)),
        ((0, 0, 1, 1), Sampler(min_iou=0.25, max_iou=0.25), (True, True, True)),  # both limits met
        ((0, 0, 1, 1), Sampler(max_iou=math.nextafter(0.25, 0)), (True, True, False)),
        ((0, 0, 1, 1), Sampler(min_iou=math.nextafter(0.25, 1)), (True, True, False)),
        ((0, 0.1, 1, 0.9), Sampler(min_aspect=3, max_aspect=4), (True, True, True)),  # brought back to 1.25
    ],
)
def test_verdicts_on_the_limits(patch, sampler, expected):
    boxes = np.array([[0, 0, 1, 0.25]], np.float32)  # a quarter of the image
    assert tuple(verdict(np.array(patch, float), boxes, sampler)) == expected


@given(
    st.floats(0.05, 1),
    st.floats(0, 1),
    st.floats(0.1, 8),
    st.floats(1, 4),
    st.integers(0, 10),
)
def test_a_sampler_may_propose_whatever_it_proposes(scale, part, aspect, more, seed):
    sampler = Sampler(
        min_scale=scale, max_scale=scale + part * (1 - scale), min_aspect=aspect, max_aspect=aspect * more
    )
    for patch in crops.propose_crops(sampler, np.random.default_rng(seed)):
        assert verdict(patch, np.zeros((0, 4), np.float32), sampler) == (True, True, True)


def test_trials_are_those_of_sample_crops():
    for seed in range(5):
        explorer = explorer_of(samplers=SAMPLERS, seed=seed)
        boxes = np.array(THREE, np.float32)
        found = crops.sample_crops(boxes, SAMPLERS, np.random.default_rng(seed))
        for index, crop in enumerate(found):
            explorer.sampler = index
            passing = explorer.passing_trials()
            assert bool(passing) == (crop is not None)
            if passing:
                explorer.trial = passing[0]
                np.testing.assert_array_equal(explorer.shown(), crop)
            for number, trial in enumerate(explorer.trials[index], 1):
                explorer.trial = number
                assert trial["passes"] == (number in passing) == explorer.verdicts()[index].overlap
                assert trial["iou"] == max(o.iou for o in explorer.objects_in_patch())
    explorer.trial = 0
    assert explorer.shown().tolist() == explorer.patch


def test_fates_and_magnification_by_hand():
    boxes = [[0, 0, 0.5, 0.5], [0.5, 0.5, 0.75, 1], [0, 0, 1, 0.25], [0.25, 0.375, 0.5, 0.625]]
    explorer = explorer_of(boxes, (64, 32), patch=[0.25, 0.25, 1, 0.75])
    first, second, third, fourth = explorer.objects_in_patch()
    assert (first.left, first.iou) == pytest.approx(
        (1 / 4, 0.0625 / (0.375 + 0.25 - 0.0625))
    )  # centre on a corner
    assert second.left == pytest.approx(1 / 2)  # centre on an edge
    assert third.left == 0
    assert fourth.left == pytest.approx(1)
    assert [o.name for o in explorer.objects_in_patch()] == ["cat 1", "cat 2", "cat 3", "cat 4"]
    assert explorer.magnification() == pytest.approx(math.sqrt(1 / (0.75 * 0.5)))
    before, after = (
        np.prod(s.boxes_xyxy[-1][2:] - s.boxes_xyxy[-1][:2]) for s in (explorer._sample, explorer.view())
    )
    assert explorer.magnification() == pytest.approx(math.sqrt(after / before))


def test_names_are_numbered_where_a_class_comes_twice():
    sample = sample_of(noise(), THREE, labels=[2, 1, 2])
    assert [o["name"] for o in CropExplorer(sample, CLASSES).objects] == ["dog 1", "cat", "dog 2"]


def test_names_of_samplers():
    names = ["whole image", *[f"IoU ≥ 0.{n}" for n in (1, 3, 5, 7, 9)], "any patch"]
    assert list(map(sampler_name, crops.SAMPLERS)) == names
    assert list(map(sampler_name, ODD)) == ["IoU ≤ 0.5", "IoU 0.25 to 0.5", "any patch", "any patch"]


def test_what_is_shown_follows_trial_and_sampler():
    explorer = explorer_of(sampler=1, trial=50)
    assert explorer.shown().tolist() == explorer.trials[1][49]["patch"]
    explorer.sampler = 0  # has one trial only
    assert explorer.shown().tolist() == [0, 0, 1, 1]
    explorer.trial = 0
    assert explorer.shown().tolist() == [0.2, 0.1, 0.8, 0.7]
    assert repr(explorer) == "CropExplorer: 3 objects, 7 samplers, 301 trials"


@pytest.mark.parametrize(
    "options",
    [
        {"patch": (0.5, 0, 0.5, 1)},
        {"patch": (0, 0, 1.1, 1)},
        {"patch": (-0.1, 0, 1, 1)},
        {"patch": (0, 0.6, 1, 0.4)},
        {"patch": (0, 0, 1)},
        {"patch": (0, 0, 1, math.nan)},
        {"sampler": 7},
        {"sampler": -1},
        {"samplers": ()},
    ],
)
def test_what_is_no_patch_or_sampler_is_refused(options):
    with pytest.raises(ValueError, match=r"CropExplorer: (patch|sampler|samplers) must"):
        explorer_of(**options)


def test_a_refused_patch_changes_nothing():
    explorer = explorer_of()
    with pytest.raises(ValueError, match="patch must"):
        explorer.patch = [0, 0, 2, 1]
    assert explorer.patch == [0.2, 0.1, 0.8, 0.7]


# The page says the same


@needs_node
def test_the_page_judges_and_cuts_exactly_as_the_package(tmp_path):
    cases, expected = [], []
    for explorer in random_cases():
        cases.append([explorer.patch, explorer.objects, explorer.size_px])
        view = explorer.view()
        fates = [list(o) for o in explorer.objects_in_patch()]
        height_px, width_px = view.image.shape[:2]
        expected.append(
            [
                [v._asdict() for v in explorer.verdicts()],
                [f[:2] for f in fates],
                view.boxes_xyxy.tolist(),
                [width_px, height_px],
            ]
        )
    kept = sum(len(e[2]) for e in expected)
    assert 500 < kept < sum(len(c[1]) for c in cases) - 500
    expression = """data[1].map(([patch, objects, size]) => {
      const boxes = objects.map((o) => o.box), found = m.objectsInPatch(patch, objects, size);
      const [left, top, right, bottom] = m.pixelsOf(patch, size);
      return [
        data[0].map((s) => m.verdictOf(patch, boxes, s)), found.map((o) => [o.name, o.iou]),
        found.filter((o) => o.box).map((o) => o.box), [right - left, bottom - top],
      ];
    })"""
    samplers = explorer_of(samplers=SAMPLERS).samplers
    assert run_node(tmp_path, "crop_rules.js", expression, [samplers, cases]) == expected


@needs_node
def test_shares_left_magnification_and_the_patch_shown(tmp_path):
    cases, expected = [], []
    for n, explorer in enumerate(random_cases()):
        explorer.sampler, explorer.trial = n % len(SAMPLERS), n % 53
        state = {
            name: getattr(explorer, name) for name in ("patch", "sampler", "trial", "objects", "size_px")
        }
        cases.append({**state, "trials": [row[:] for row in explorer.trials]} if n % 20 == 0 else None)
        lefts = [o.left for o in explorer.objects_in_patch()]
        expected.append([explorer.shown().tolist(), lefts, explorer.magnification()] if n % 20 == 0 else None)
    expression = """data.map((s) => {
      const patch = m.shownPatch(s);
      const left = m.objectsInPatch(patch, s.objects, s.size_px).map((o) => o.left);
      return [patch, left, m.magnificationOf(patch, s.size_px)];
    })"""
    cases, expected = [c for c in cases if c], [e for e in expected if e]
    for found, wanted in zip(run_node(tmp_path, "crop_rules.js", expression, cases), expected, strict=True):
        assert found[0] == wanted[0]
        assert found[1:] == [pytest.approx(wanted[1], rel=1e-5), pytest.approx(wanted[2])]


@needs_node
def test_halves_of_a_pixel_are_rounded_as_in_python(tmp_path):
    patches = [
        [a / 40, b / 40, c / 40, d / 40] for a, b, c, d in ((1, 3, 5, 7), (7, 1, 39, 5), (39, 39, 40, 40))
    ]
    found = run_node(tmp_path, "crop_rules.js", "data.map((p) => m.pixelsOf(p, [20, 20]))", patches)
    assert found == [[0, 2, 2, 4], [4, 0, 20, 2], [19, 19, 20, 20]]
    views = [augment.crop(sample_of(noise(20, 20), []), np.array(p)).image.shape[:2] for p in patches]
    assert [(b - t, r - x) for x, t, r, b in found] == views


@needs_node
def test_answers_name_the_first_reason_and_never_round_to_the_limit(tmp_path):
    boxes = [[0, 0, 0.5, 0.5]]
    samplers = {name: s for s in explorer_of(samplers=SAMPLERS).samplers for name in [s["name"]]}
    cases = [
        [[0, 0, 0.29996, 0.29996], boxes, "IoU ≥ 0.1", "scale 0.299 < 0.3"],
        [[0, 0, 1, 0.4999], boxes, "IoU ≥ 0.1", "aspect 2.001 > 2"],
        [[0, 0, 0.5, 0.24999], boxes, "IoU ≥ 0.5", "aspect 2.001 > 2"],
        [[0, 0, 0.4, 0.8], boxes, "IoU ≥ 0.7", "best IoU 0.540 < 0.7"],
        [[0, 0, 0.49999, 1], boxes, "IoU ≥ 0.5", "aspect 0.499 < 0.5"],
        [[0, 0, 0.50001, 1], boxes, "IoU ≥ 0.5", "best IoU 0.499 < 0.5"],
        [[0, 0, 0.5, 1], boxes, "IoU ≥ 0.5", "takes it"],
        [[0, 0, 0.5, 0.5], boxes, "IoU 0.25 to 0.5", "no IoU in its range"],
        [[0, 0, 0.5, 1], [], "IoU ≥ 0.5", "needs an object"],
        [[0, 0, 1, 1], [], "whole image", "takes it"],
    ]
    found = run_node(
        tmp_path,
        "crop_rules.js",
        "data.map((c) => m.answerOf(...c))",
        [[patch, objects, samplers[name]] for patch, objects, name, _ in cases],
    )
    assert found == [answer for *_, answer in cases]


@needs_node
def test_words_for_the_fates(tmp_path):
    lefts = [0, 1e-4, 0.25, 0.9999, 1, 1.0000001]
    found = run_node(tmp_path, "crop_rules.js", "data.map((left) => m.fateOf({ left }))", lefts)
    cut = [f"stays, cut to {n}\u00a0%" for n in (1, 25, 99)]
    assert found == ["gone: centre outside", *cut, "stays", "stays"]


STATE = ("objects", "samplers", "trials", "size_px", "patch", "sampler", "trial")


def sentence_of(tmp_path, explorer):
    state = {name: getattr(explorer, name) for name in STATE}
    return run_node(tmp_path, "crop_rules.js", "m.cropSentence(data)", state)


@needs_node
def test_the_page_is_one_module_without_doubled_names(tmp_path):
    assert run_node(tmp_path, "crop_explorer.js", "Object.keys(m.default)") == ["render"]


@needs_node
def test_the_sentence(tmp_path):
    explorer = explorer_of([[0, 0, 0.5, 0.5], [0.6, 0.6, 1, 1]], (100, 100), patch=[0, 0, 0.5, 0.8])
    patch = "Patch of scale 0.632 and aspect 0.63; best IoU 0.625 (cat 1). "
    takers = "4 of 7 samplers would take it: IoU ≥ 0.1, IoU ≥ 0.3, IoU ≥ 0.5, any patch. "
    rest = "1 of 2 objects stays. The view magnifies 1.58 times (side of an object, compared with no crop)."
    assert sentence_of(tmp_path, explorer) == patch + takers + rest
    explorer.sampler, explorer.trial = 0, 1
    assert sentence_of(tmp_path, explorer).startswith(
        "Whole image: trial 1 passes. 1 of 1 trial passes; SSD takes the first, trial 1. Patch of scale 1.000"
    )
    explorer.sampler = 5
    assert "IoU ≥ 0.9: trial 1 is refused. None of its 50 trials passes: no crop from it. " in sentence_of(
        tmp_path, explorer
    )


@needs_node
def test_the_sentence_without_objects(tmp_path):
    text = sentence_of(tmp_path, explorer_of([], patch=[0, 0, 1, 1]))
    assert text == (
        "Patch of scale 1.000 and aspect 1.00. 1 of 7 samplers would take it: whole image. 0 of 0 objects stay. "
        "The view magnifies 1.00 times (side of an object, compared with no crop)."
    )
