import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cases import random_boxes, slow_iou
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu.crops import (
    SAMPLERS,
    Sampler,
    choose_crop,
    crop_iou,
    narrowest_crop,
    pass_crops,
    propose_crops,
    sample_crops,
)

ANYTHING = Sampler()


unit = st.floats(0, 1, width=32)
box = st.tuples(unit, unit, unit, unit).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)
boxes_of = st.lists(box, max_size=6)


def test_the_seven_samplers():
    assert [s.min_iou for s in SAMPLERS] == [None, 0.1, 0.3, 0.5, 0.7, 0.9, None]
    assert [s.tries for s in SAMPLERS] == [1] + [50] * 6
    np.testing.assert_array_equal(propose_crops(SAMPLERS[0], np.random.default_rng(0)), [[0, 0, 1, 1]])


def test_proposed_crops_lie_inside_with_uniform_scale_and_limited_aspect():
    crops = propose_crops(Sampler(tries=20000), np.random.default_rng(0))
    assert crops.shape == (20000, 4)
    assert crops.min() >= 0
    assert crops.max() <= 1
    width, height = (crops[:, 2:] - crops[:, :2]).T
    scale, aspect = np.sqrt(width * height), width / height
    quantiles = np.quantile(scale, (0, 0.25, 0.5, 0.75, 1))
    np.testing.assert_allclose(quantiles, (0.3, 0.475, 0.65, 0.825, 1), atol=0.01)
    low, high = np.maximum(0.5, scale**2), np.minimum(2, scale**-2)
    assert np.all((aspect >= low - 1e-9) & (aspect <= high + 1e-9))
    free = aspect[(scale > 0.3) & (scale < 0.7)]  # scale^2 < .5: nothing is limited
    np.testing.assert_allclose(np.quantile(free, (0.25, 0.5, 0.75)), (0.875, 1.25, 1.625), atol=0.02)
    at_limit = np.mean(np.isclose(aspect, scale**2) | np.isclose(aspect, scale**-2))
    assert 0.05 < at_limit < 0.4
    place = crops[:, 0] / np.maximum(1 - width, 1e-9)
    np.testing.assert_allclose(
        np.quantile(place[width < 0.99], (0.25, 0.5, 0.75)), (0.25, 0.5, 0.75), atol=0.02
    )


@pytest.mark.parametrize(
    ("sampler", "shares"),
    [
        (Sampler(), (0.3 * math.sqrt(0.5), 0.3 / math.sqrt(2))),
        (Sampler(min_aspect=0.04, max_aspect=1), (0.3 * 0.3, 0.3)),  # the aspect stops at the scale squared
        (Sampler(min_scale=0.5, min_aspect=1, max_aspect=9), (0.5, 0.5 / 2)),
        (Sampler(min_scale=1, min_aspect=1, max_aspect=1), (1.0, 1.0)),
    ],
)
def test_no_crop_is_narrower_than_the_narrowest(sampler, shares):
    assert narrowest_crop((sampler,)) == pytest.approx(shares)
    crops = propose_crops(replace(sampler, tries=20000), np.random.default_rng(0))
    sides = (crops[:, 2:] - crops[:, :2]).min(axis=0)
    assert np.all(sides >= np.array(shares) - 1e-9)
    np.testing.assert_allclose(sides, shares, atol=0.02)


def test_the_narrowest_crop_of_several_samplers_and_of_none():
    assert narrowest_crop(SAMPLERS) == pytest.approx((0.3 * math.sqrt(0.5),) * 2)
    assert narrowest_crop((Sampler(min_scale=0.5, min_aspect=1), Sampler(max_aspect=1))) == pytest.approx(
        (0.3 * math.sqrt(0.5), 0.3)
    )
    assert narrowest_crop(()) == (1.0, 1.0)


def slow_samples(boxes, samplers, rng, all_objects):
    """One sampler after the other, with numbers drawn for scale, aspect and place of all its tries in turn."""
    found = []
    for sampler in samplers:
        scale = rng.uniform(sampler.min_scale, sampler.max_scale, sampler.tries)
        aspect = rng.uniform(sampler.min_aspect, sampler.max_aspect, sampler.tries)
        root = np.sqrt(np.clip(aspect, scale**2, scale**-2))
        width, height = scale * root, scale / root
        left, top = rng.random((2, sampler.tries)) * (1 - width, 1 - height)
        crops = np.clip(np.stack([left, top, left + width, top + height], axis=-1), 0, 1)
        passed = pass_crops(crops, boxes, sampler, all_objects)
        found.append(crops[passed.argmax()] if passed.any() else None)
    return found


@pytest.mark.parametrize("all_objects", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_all_samplers_at_once_are_one_after_the_other_to_the_bit(count, all_objects):
    samplers = [*SAMPLERS, Sampler(tries=3), Sampler(min_iou=0.2, max_iou=0.5, tries=7, min_scale=0.1)]
    for seed in range(30):
        boxes = random_boxes(np.random.default_rng(seed), count)
        one, two = np.random.default_rng(seed), np.random.default_rng(seed)
        found = sample_crops(boxes, samplers, one, all_objects)
        wanted = slow_samples(boxes, samplers, two, all_objects)
        assert [c is None for c in found] == [c is None for c in wanted]
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        assert one.random() == two.random()


@settings(deadline=None)
@given(st.lists(box.filter(lambda b: b[2] > b[0] and b[3] > b[1]), min_size=1, max_size=5), boxes_of)
def test_iou_of_crops_and_boxes_by_a_slow_loop(crops, boxes):
    found = crop_iou(np.array(crops, np.float64), np.array(boxes, np.float32).reshape(-1, 4))
    assert found.shape == (len(crops), len(boxes))
    for i, a in enumerate(crops):
        for j, b in enumerate(boxes):
            assert math.isclose(found[i, j], slow_iou(a, b), abs_tol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("sampler", [*SAMPLERS, Sampler(min_iou=0.1, max_iou=0.4)])
def test_any_object_and_all_objects_by_a_slow_loop(sampler, count):
    rng = np.random.default_rng(count)
    for _ in range(5):
        boxes = random_boxes(rng, count)
        crops = propose_crops(replace(sampler, tries=40), rng)
        for rule, every in ((any, False), (all, True)):
            found = pass_crops(crops, boxes, sampler, all_objects=every)
            for crop, passed in zip(crops, found, strict=True):
                overlaps = [slow_iou(crop, b) for b in boxes.astype(float)]
                low, high = sampler.min_iou or 0, 1 if sampler.max_iou is None else sampler.max_iou
                wanted = bool(overlaps) and rule(low <= iou <= high for iou in overlaps)
                unconstrained = sampler.min_iou is None and sampler.max_iou is None
                assert passed == (unconstrained or wanted)


def test_first_passing_try_of_each_sampler_by_a_slow_loop():
    boxes = random_boxes(np.random.default_rng(3), 3)
    for seed in range(20):
        found = sample_crops(boxes, SAMPLERS, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        for sampler, crop in zip(SAMPLERS, found, strict=True):
            slow = None
            for tried in propose_crops(sampler, rng):
                enough = max(slow_iou(tried, b) for b in boxes.astype(float)) >= (sampler.min_iou or 0)
                if slow is None and enough:
                    slow = tried
            np.testing.assert_array_equal(crop, slow)


def test_acceptance_falls_with_the_overlap_asked_for_and_all_objects_lose_most():
    rng = np.random.default_rng(0)
    passed = np.zeros((2, len(SAMPLERS)))
    for _ in range(150):
        boxes = random_boxes(rng, 4)
        seed = int(rng.integers(1 << 30))
        for row, every in enumerate((False, True)):
            crops = sample_crops(boxes, SAMPLERS, np.random.default_rng(seed), all_objects=every)
            passed[row] += [crop is not None for crop in crops]
    share = passed / 150
    assert np.all(np.diff(share[0, 1:6]) <= 0)
    assert share[0, 0] == share[0, 6] == 1
    assert share[0, 1] > 0.8
    assert np.all(share[1, 2:6] < 0.3 * share[0, 2:6])


def test_the_choice_is_uniform_among_samplers_that_passed():
    sizes = (1.0, 0.9, 0.7, 0.5, 0.3)
    samplers = [Sampler(min_scale=s, max_scale=s, min_aspect=1, max_aspect=1) for s in sizes]
    samplers.insert(2, Sampler(min_iou=0.99))
    tiny = np.array([[0.5, 0.5, 0.51, 0.51]], np.float32)
    rng = np.random.default_rng(0)
    chosen = np.array([choose_crop(tiny, samplers, rng) for _ in range(3000)])
    counts = [np.isclose(chosen[:, 2] - chosen[:, 0], size).sum() for size in sizes]
    assert sum(counts) == 3000
    assert sum((count - 600) ** 2 / 600 for count in counts) < 18.5  # chi-square, 4 degrees: p = .001


def caffe_crop(boxes, rng):
    """The original's way, one try after another: stop a sampler at its first success, then choose."""
    found = [(0.0, 0.0, 1.0, 1.0)]
    for least in (0.1, 0.3, 0.5, 0.7, 0.9, 0.0):
        for _ in range(50):
            scale, aspect = rng.uniform(0.3, 1), rng.uniform(0.5, 2)
            aspect = min(max(aspect, scale**2), 1 / scale**2)
            width, height = scale * math.sqrt(aspect), scale / math.sqrt(aspect)
            x, y = rng.uniform(0, max(1 - width, 0)), rng.uniform(0, max(1 - height, 0))
            crop = (x, y, x + width, y + height)
            if any(slow_iou(crop, b) >= least for b in boxes):
                found.append(crop)
                break
    return found[rng.integers(len(found))]


def test_chosen_crops_are_distributed_as_in_the_original():
    boxes = random_boxes(np.random.default_rng(5), 2)
    ours, theirs = np.random.default_rng(0), np.random.default_rng(1)
    a = np.array([choose_crop(boxes, SAMPLERS, ours) for _ in range(1200)])
    b = np.array([caffe_crop(boxes.astype(float).tolist(), theirs) for _ in range(1200)])
    for values in (lambda c: c[:, 0], lambda c: c[:, 3], lambda c: np.prod(c[:, 2:] - c[:, :2], axis=1)):
        x, y = np.sort(values(a)), np.sort(values(b))
        grid = np.concatenate([x, y, np.concatenate([x, y]) + 1e-9])
        gap = np.searchsorted(x, grid) - np.searchsorted(y, grid)
        assert np.abs(gap).max() / 1200 < 1.95 * math.sqrt(2 / 1200)  # Kolmogorov-Smirnov, p = .001


def test_without_objects_only_the_whole_image_passes():
    empty = np.zeros((0, 4), np.float32)
    rng = np.random.default_rng(0)
    for every in (False, True):
        crops = sample_crops(empty, SAMPLERS, rng, all_objects=every)
        assert [crop is not None for crop in crops] == [True] + [False] * 6
        np.testing.assert_array_equal(choose_crop(empty, SAMPLERS, rng), [0, 0, 1, 1])
    assert choose_crop(empty, SAMPLERS[1:], rng) is None
    assert choose_crop(empty, (), rng) is None
    assert choose_crop(empty, (ANYTHING,), rng) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_scale": 0},
        {"min_scale": 0.9, "max_scale": 0.5},
        {"max_scale": 1.2},
        {"min_aspect": 0},
        {"max_aspect": 0.1},
        {"tries": 0},
    ],
)
def test_impossible_samplers_are_refused(wrong):
    with pytest.raises(ValueError, match="Sampler"):
        Sampler(**wrong)


def test_needs_no_torch_and_no_opencv():
    code = "import sys, ssdedu.crops; assert not {'torch', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
