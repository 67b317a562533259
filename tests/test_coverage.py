"""The best default box against all of them, reachability against a dense search, coverage against a plain loop."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from cases import random_boxes, slow_iou
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu import boxes, coverage, matching, priors, priors_search
from ssdedu.best_box import best_default_box, reachable
from ssdedu.coverage import Bin
from ssdedu.priors import Config, FeatureMap
from ssdedu.sample import Truth

CAMERA = Config("CAMERA", 320, 192, (
    FeatureMap("fine", 24, 40, 16, 40, (2.0, 3.0)),
    FeatureMap("middle", 12, 20, 40, 90, (2.0, 3.0), step_px=17.5),
    FeatureMap("coarse", 3, 5, 90, None, ()),
))  # fmt: skip
CONFIGS = [*priors.PRESETS.values(), CAMERA]
SMALL = [priors.SHAPES128, CAMERA]
named = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)


def many_boxes(seed=0, number=400):
    """Objects of all sizes down to a thousandth of the image, many at the border, many on a grid, where ties are."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(0.001), 0, (number, 2)))
    low = rng.uniform(0, 1, (number, 2)) * (1 - size)
    low[: number // 4] = rng.choice([0, 1], (number // 4, 2)) * (1 - size[: number // 4])
    found = np.hstack([low, low + size])
    grid = np.round(found[number // 2 :] * 16) / 16
    found[number // 2 :] = np.where((grid[:, 2:] > grid[:, :2]).all(1)[:, None], grid, found[number // 2 :])
    return found[(found[:, 2:] > found[:, :2]).all(1)]


def all_boxes(config):
    """The default boxes (P, 4) as corners in float64."""
    cells = [priors.cell_boxes(m, config).reshape(-1, 4) for m in config.maps]
    return boxes.cxcywh_to_xyxy(torch.from_numpy(np.concatenate(cells)))


def same_as_all(objects, config):
    found = best_default_box(objects, config)
    overlaps = boxes.iou(torch.from_numpy(objects), all_boxes(config)).numpy()
    best = overlaps.max(1)
    np.testing.assert_allclose(found.iou, best, rtol=0, atol=1e-12)
    earliest = (overlaps >= best[:, None] - 1e-11).argmax(1)  # exact arithmetic: rounding makes no winners
    np.testing.assert_array_equal(found.box_index, earliest)
    map_of_box = np.repeat(range(len(config.maps)), [m.num_boxes for m in config.maps])
    np.testing.assert_array_equal(found.map_index, map_of_box[earliest])


@named
@pytest.mark.parametrize("clip", [False, True])
def test_the_best_default_box_is_the_best_of_all(config, clip):
    same_as_all(many_boxes(number=400 if config.width_px < 512 else 100), config.replace(clip=clip))


@pytest.mark.parametrize("config", [priors.SSD300_VOC, priors.SSD512_COCO], ids=lambda c: c.name)
def test_the_best_default_box_is_the_one_that_matching_sees(config):
    """In float32, as in training: the same value, and the same box wherever no other comes near."""
    objects = random_boxes(np.random.default_rng(1), 300)
    found = best_default_box(objects, config)
    default_boxes = boxes.cxcywh_to_xyxy(priors.default_boxes(config))
    top = boxes.iou(torch.from_numpy(objects), default_boxes).topk(2)
    np.testing.assert_allclose(found.iou, top.values[:, 0], rtol=0, atol=1e-6)
    clear = (top.values[:, 0] - top.values[:, 1] > 1e-5).numpy()
    assert clear.sum() > 200
    np.testing.assert_array_equal(found.box_index[clear], top.indices[:, 0].numpy()[clear])


@st.composite
def a_config(draw):
    maps = []
    for i in range(draw(st.integers(1, 3))):
        low = draw(st.floats(1, 80))
        high = draw(st.none() | st.floats(low, 120))
        ratios = draw(st.sampled_from([(), (2.0,), (2.0, 3.0), (1.5, 0.25)]))
        rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        step = draw(st.none() | st.floats(3, 40))
        maps.append(FeatureMap(f"m{i}", rows, columns, low, high, ratios, step))
    sides = draw(st.integers(20, 90)), draw(st.integers(20, 90))
    flags = {"whole_px": draw(st.booleans()), "clip": draw(st.booleans())}
    return Config("DRAWN", *sides, tuple(maps), **flags)


@settings(deadline=None, max_examples=60)
@given(a_config(), st.integers(0, 999))
def test_any_description_any_objects(config, seed):
    same_as_all(many_boxes(seed, 60), config)


def two_cells(**changes):
    return Config("TWO", 100, 100, (FeatureMap("m", 1, 2, 40, None, (), **changes),))


def test_hand_computed_best_boxes():
    """Cells of 40 x 40 px about (25, 50) and (75, 50)."""
    px = np.array([
        [5, 30, 45, 70],  # the first default box itself
        [60, 40, 80, 60],  # within the second: 400 of 1,600
        [30, 30, 70, 70],  # between both: 15 x 40 of 2 x 1,600 - 600
        [0, 0, 3, 3],  # touches none
        [0, 0, 100, 100],  # around both: the earlier
    ])  # fmt: skip
    found = best_default_box(px / 100, two_cells())
    assert found.iou == pytest.approx([1, 0.25, 600 / 2600, 0, 0.16])
    assert found.box_index.tolist() == [0, 1, 0, 0, 0]


def test_ties_go_to_the_earlier_map_and_shape():
    twice = FeatureMap("m", 2, 2, 30, 30, ())
    config = Config("TWICE", 100, 100, (twice, dataclasses.replace(twice, name="n")))
    found = best_default_box(np.array([[0.6, 0.6, 0.9, 0.9], [0.1, 0.6, 0.4, 0.9]]), config)
    assert found.box_index.tolist() == [6, 4]
    assert found.map_index.tolist() == [0, 0]


def test_no_objects_and_bad_ones():
    for config in (CAMERA, CAMERA.replace(clip=True)):
        found = best_default_box(np.zeros((0, 4)), config)
        assert [len(part) for part in found] == [0, 0, 0]
    assert best_default_box(torch.tensor([[0.1, 0.1, 0.2, 0.2]]), CAMERA).iou.shape == (1,)
    with pytest.raises(ValueError, match=r"boxes_xyxy\[1\].*degenerate"):
        best_default_box([[0, 0, 1, 1], [0.5, 0, 0.5, 1]], CAMERA)
    with pytest.raises(ValueError, match="must be"):
        best_default_box([0.1, 0.1, 0.2, 0.2], CAMERA)


def best_anywhere(width, height, config, places):
    """Dense search: the object at a grid of places inside the image."""
    x, y = (np.linspace(0, 1 - side, places) for side in (width, height))
    x, y = (a.ravel() for a in np.meshgrid(x, y))
    return best_default_box(np.column_stack([x, y, x + width, y + height]), config).iou.max()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(
    "config", [*SMALL, priors.SHAPES128_COARSE_MAP, two_cells(step_px=70)], ids=lambda c: c.name
)
def test_what_is_reachable_is_what_a_dense_search_finds(config, clip):
    config = config.replace(clip=clip)
    rng = np.random.default_rng(0)
    sizes = np.vstack([np.exp(rng.uniform(np.log(0.05), 0, (12, 2))), [[1, 1], [1, 0.1], [0.02, 1]]])
    bound = reachable(sizes, config)
    places = 20 if clip else 60
    found = np.array([best_anywhere(*size, config, places) for size in sizes])
    assert (found <= bound + 1e-11).all()
    nearest = 0.5 / places / sizes.min(1)  # a place of the grid is off by half a step at most in x and in y
    assert (bound - found <= 4 * nearest).all()
    assert np.median(bound - found) < 1.2 / places


@named
def test_the_best_of_any_object_is_within_reach(config):
    objects = many_boxes(2)
    sizes = objects[:, 2:] - objects[:, :2]
    assert (best_default_box(objects, config).iou <= reachable(sizes, config) + 1e-9).all()


def test_hand_computed_reach():
    """A box of 40 px about (75, 50) moved to (105, 50): 15 px of it are in the image."""
    assert reachable([[0.4, 0.4], [0.2, 0.2], [1, 1]], two_cells()) == pytest.approx([1, 0.25, 0.16])
    outside = Config("OUT", 100, 100, (FeatureMap("m", 1, 1, 40, None, (), step_px=210),))
    assert reachable([[0.4, 0.4], [0.15, 0.15]], outside) == pytest.approx([225 / 2975, 225 / 1600])
    assert reachable(np.zeros((0, 2)), CAMERA).shape == (0,)
    for sizes in ([[0.1, 0]], [[0.1, math.nan]], [0.1, 0.2]):
        with pytest.raises(ValueError, match="sizes must be"):
            reachable(sizes, CAMERA)


def truth_of(objects, name="", difficult=None):
    number = len(objects)
    flags = np.zeros(number, bool) if difficult is None else np.array(difficult)
    return Truth(
        np.array(objects, np.float32).reshape(-1, 4), np.ones(number, np.int64), flags, 100, 80, name
    )


def crowd(seed=0, images=12):
    """Images with up to 14 objects, some of them nearly on top of one another; some images are empty."""
    rng = np.random.default_rng(seed)
    truths = []
    for i in range(images):
        objects = random_boxes(rng, int(rng.integers(0, 8)))
        near = (objects + rng.normal(0, 0.01, objects.shape).astype(np.float32)).clip(0, 1)
        near = near[(near[:, 2:] > near[:, :2]).all(1)]
        truths.append(truth_of(np.vstack([objects, near]), f"photo {i}"))
    return truths


def slow_coverage(truths, config, threshold, rule):
    """One image, one object at a time, from `matching.match` and an IoU in plain Python."""
    cells = priors.default_boxes(config)
    corners = boxes.cxcywh_to_xyxy(cells).double().tolist()
    map_of_box = [i for i, m in enumerate(config.maps) for _ in range(m.num_boxes)]
    per_map, rows = [0] * len(config.maps), []
    for truth in truths:
        objects, labels = torch.from_numpy(truth.boxes_xyxy), torch.from_numpy(truth.labels)
        owner = matching.match(objects, labels, cells, threshold, rule).object_index.tolist()
        plain = matching.match(objects, labels, cells, threshold, "threshold").object_index.tolist()
        for p, g in enumerate(owner):
            per_map[map_of_box[p]] += g >= 0
        for g, box in enumerate(objects.double().tolist()):
            ious = [slow_iou(box, corner) for corner in corners]
            best = max(ious)
            favourites = [owner[p] for p, iou in enumerate(ious) if iou > best - 1e-5]
            wanted = rule != "threshold" or best >= threshold
            outbid = wanted and g not in favourites and all(other >= 0 for other in favourites)
            rows.append((best, owner.count(g), outbid, g not in plain))
    return per_map, [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("rule", ["ssd", "multibox", "threshold"])
@pytest.mark.parametrize("threshold", [0.35, 0.5])
def test_coverage_is_what_a_plain_loop_counts(rule, threshold):
    config, truths = priors.SHAPES128_ONE_MAP, crowd()
    found = coverage.coverage(truths, config, threshold, rule)
    per_map, (best, positives, outbid, left_out) = slow_coverage(truths, config, threshold, rule)
    assert found.num_images == 12
    assert found.num_objects == len(best) > 60
    np.testing.assert_allclose(found.best.iou, best, atol=1e-6)
    np.testing.assert_array_equal(found.positives, positives)
    np.testing.assert_array_equal(found.outbid, outbid)
    np.testing.assert_array_equal(found.left_out, left_out)
    assert found.positives_per_map.tolist() == per_map
    assert found.share_covered == pytest.approx(np.mean(best >= threshold))
    assert found.mean_iou == pytest.approx(best.mean())
    if rule == "ssd":
        assert outbid.any()
        assert left_out.any()
        assert not left_out.all()


def test_small_batches_change_nothing(monkeypatch):
    truths = crowd(3)
    whole = coverage.coverage(truths, CAMERA, 0.4)
    monkeypatch.setattr(coverage, "_BLOCK", 1)
    single = coverage.coverage(truths, CAMERA, 0.4)
    for name in ("image", "positives", "outbid", "left_out", "positives_per_map"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(single, name))
    assert whole.positives_per_map.sum() == whole.positives.sum()
    assert list(whole.names) == [f"photo {i}" for i in range(12)]
    np.testing.assert_array_equal(np.bincount(whole.image, minlength=12), [len(t) for t in truths])


def test_every_preset_leaves_no_object_without_a_default_box_that_touches_one():
    """Caffe's rule: an object that overlaps any default box gets one."""
    for config in SMALL:
        found = coverage.coverage(crowd(5), config)
        assert (found.positives[found.best.iou > 1e-3] > 0).all()


def test_difficult_objects_count_and_degenerate_ones_are_named():
    good, flat, wild = [0.1, 0.1, 0.4, 0.4], [0.2, 0.2, 0.2, 0.5], [math.nan, 0, 1, 1]
    truths = [truth_of([good, flat], "a", [True, False]), truth_of([]), truth_of([wild, good], "")]
    found = coverage.coverage(truths, priors.SHAPES128)
    assert found.num_objects == 2
    assert found.num_images == 3
    assert found.image.tolist() == [0, 2]
    assert found.difficult.tolist() == [True, False]
    assert found.names == ("a", "image 1", "image 2")
    assert len(found.skipped) == 2
    assert found.skipped[0].startswith("a: object 1, box [0.2")
    assert found.skipped[1].startswith("image 2: object 0, box [nan")
    assert (found.positives > 0).all()


def test_nothing_to_cover():
    for truths in ([], [truth_of([])]):
        found = coverage.coverage(truths, CAMERA)
        assert found.num_objects == 0
        assert math.isnan(found.share_covered)
        assert math.isnan(found.mean_iou)
        assert found.by_size() == found.by_ratio() == ()
        assert found.positives_per_map.tolist() == found.objects_per_map.tolist() == [0, 0, 0]


def test_a_threshold_that_matching_refuses():
    with pytest.raises(ValueError, match="threshold"):
        coverage.coverage(crowd(), CAMERA, 1.5)
    with pytest.raises(ValueError, match="rule"):
        coverage.coverage(crowd(), CAMERA, rule="best")


def test_sizes_and_ratios_are_those_of_the_input():
    """An object of a tenth by a fifth of the image, 32 x 38.4 px in an input of 320 x 192."""
    found = coverage.coverage([truth_of([[0, 0, 0.1, 0.2]])], CAMERA)
    assert found.sizes_px.tolist() == pytest.approx([math.sqrt(32 * 38.4)])
    assert found.ratios.tolist() == pytest.approx([32 / 38.4])
    assert found.objects_per_map.tolist() == [1, 0, 0]
    assert found.by_ratio()[0].low < 32 / 38.4 < found.by_ratio()[0].high


def test_hand_computed_bins():
    """Edges 8, 11.3, 16 ... without shift; with it 0.84, 1.19, 1.68 ..., so that 1 and 2 lie in the middle."""
    values, covered = np.array([8, 11, 16, 15.9, 40]), np.array([True, False, True, True, False])
    root = math.sqrt(2)
    found = coverage.bins(values, covered, 0.0)
    assert [(b.objects, b.covered) for b in found] == [(2, 1), (1, 1), (1, 1), (0, 0), (1, 0)]
    assert [b.low for b in found] == pytest.approx([8, 8 * root, 16, 16 * root, 32])
    assert [b.high for b in found] == pytest.approx([8 * root, 16, 16 * root, 32, 32 * root])
    assert found[0].share == 0.5
    assert math.isnan(found[3].share)
    middle = coverage.bins(np.array([1.0, 2.0]), np.array([True, True]), 0.5)
    assert [math.sqrt(b.low * b.high) for b in middle] == pytest.approx([1, root, 2])
    assert Bin(1, 2, 4, 1).share == 0.25


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1e-3, 1e4), st.booleans()), max_size=30), st.sampled_from([0.0, 0.5]))
def test_every_object_lies_in_one_bin(rows, shift):
    values, covered = np.array([v for v, _ in rows]), np.array([c for _, c in rows], bool)
    found = coverage.bins(values, covered, shift)
    for b in found:
        inside = (values >= b.low * (1 + 1e-12)) & (values < b.high * (1 - 1e-12))
        near = (values >= b.low * (1 - 1e-12)) & (values < b.high * (1 + 1e-12))
        assert inside.sum() <= b.objects <= near.sum()
    assert sum(b.objects for b in found) == len(rows)
    assert sum(b.covered for b in found) == covered.sum()
    assert all(a.high == b.low for a, b in pairwise(found))


def without_sizes(config, ratios=True):
    """A description with all sides alike, to compare the rest."""
    maps = [
        dataclasses.replace(
            m,
            min_px=1,
            max_px=None if m.max_px is None else 1,
            aspect_ratios=m.aspect_ratios if ratios else (),
        )
        for m in config.maps
    ]
    return config.replace(maps=tuple(maps))


def sides_of(config):
    last = config.maps[-1].max_px
    return [m.min_px for m in config.maps] + ([] if last is None else [last])


@pytest.mark.parametrize("ratio_3", [False, True])
@pytest.mark.parametrize("config", [*CONFIGS, CAMERA.replace(clip=True)], ids=lambda c: f"{c.name} {c.clip}")
def test_a_suggestion_is_never_worse_and_changes_sides_alone(config, ratio_3):
    objects = random_boxes(np.random.default_rng(4), 80)
    found = coverage.suggest(objects, config, ratio_3=ratio_3)
    before, after = (priors_search.fit_score(objects, c) for c in (config, found))
    assert after >= before
    assert without_sizes(found, ratios=not ratio_3) == without_sizes(config, ratios=not ratio_3)
    if found.maps != config.maps:
        sides = sides_of(found)
        assert all(low < high for low, high in pairwise(sides))
        assert all(m.max_px in (None, high) for m, high in zip(found.maps, sides[1:], strict=False))
    if ratio_3:
        assert all(
            set(m.aspect_ratios) >= {*old.aspect_ratios, 3.0}
            for m, old in zip(found.maps, config.maps, strict=True)
        )
    assert coverage.suggest(objects, config, ratio_3=ratio_3) == found


def test_fit_score_counts_then_averages():
    objects = random_boxes(np.random.default_rng(6), 50)
    iou = boxes.iou(torch.from_numpy(objects).double(), all_boxes(CAMERA)).max(1).values.numpy()
    number, mean = priors_search.fit_score(objects, CAMERA, 0.4)
    assert number == (iou >= 0.4).sum()
    assert mean == pytest.approx(iou.mean(), abs=1e-8)


@settings(deadline=None, max_examples=15)
@given(a_config(), st.integers(0, 999), st.sampled_from([0.3, 0.5, 0.7]))
def test_no_description_gets_worse(config, seed, threshold):
    objects = many_boxes(seed, 30)
    found = coverage.suggest(objects, config, threshold)
    assert priors_search.fit_score(objects, found, threshold) >= priors_search.fit_score(
        objects, config, threshold
    )
    assert without_sizes(found) == without_sizes(config)


def test_what_fits_perfectly_stays():
    """Objects that are default boxes of 12.5 px, which no whole pixels can equal."""
    config = Config("HALF", 100, 100, (FeatureMap("m", 4, 4, 12.5, None, ()),), whole_px=False)
    assert coverage.suggest(all_boxes(config), config) == config
    whole = config.replace(maps=(dataclasses.replace(config.maps[0], min_px=20),))
    assert sides_of(coverage.suggest(all_boxes(config), whole)) in ([12], [13])


def test_objects_smaller_than_all_boxes_get_smaller_boxes():
    """Squares of 10 px all over: SSD300's smallest box of 30 px covers none; a search finds better."""
    low = np.random.default_rng(0).uniform(0, 0.95, (200, 2))
    objects = np.hstack([low, low + 10 / 300])
    assert priors_search.fit_score(objects, priors.SSD300_VOC)[0] == 0
    found = coverage.suggest(objects, priors.SSD300_VOC)
    assert priors_search.fit_score(objects, found)[0] > 120
    assert sides_of(found)[0] < 20


def test_many_objects_are_drawn_by_seed():
    """Of 50 small and 50 large objects the search sees those drawn: one object, so that one is fitted."""
    rng = np.random.default_rng(1)
    objects = random_boxes(rng, 100)
    chosen = [coverage.suggest(objects, CAMERA, num_objects=1, seed=seed) for seed in range(5)]
    assert len({c.maps for c in chosen}) > 1
    for seed, config in enumerate(chosen):
        row = np.random.default_rng(seed).choice(100, 1, replace=False)
        assert config == coverage.suggest(objects[row], CAMERA)


def test_a_suggestion_needs_objects():
    with pytest.raises(ValueError, match="nothing to fit"):
        coverage.suggest(np.zeros((0, 4)), CAMERA)
    with pytest.raises(ValueError, match="degenerate"):
        coverage.suggest([[0.2, 0.2, 0.2, 0.4]], CAMERA)
