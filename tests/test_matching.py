"""Matching against Caffe's MatchBBox written as loops, and against cases made by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu import boxes, matching, priors


def caffe_match(iou, threshold, rule):
    """MatchBBox: pairs by largest overlap while any is left, then the threshold; object of each prior."""
    num_objects, num_priors = iou.shape
    owner, pool = [-1] * num_priors, set(range(num_objects))
    while rule != "threshold" and pool:
        best, found = 1e-6, None
        for p in range(num_priors):
            for g in sorted(pool):
                if owner[p] == -1 and iou[g, p] > best:
                    best, found = iou[g, p], (g, p)
        if found is None:
            break
        owner[found[1]] = found[0]
        pool.remove(found[0])
    for p in range(num_priors):
        if rule == "multibox" or owner[p] != -1:
            continue
        best = -1.0
        for g in range(num_objects):
            if iou[g, p] >= threshold and iou[g, p] > best:
                owner[p], best = g, iou[g, p]
    return owner


def random_objects(rng, count):
    low = rng.uniform(0, 0.8, (count, 2))
    high = np.minimum(low + rng.uniform(0.03, 0.7, (count, 2)), 1.0)
    return torch.tensor(np.concatenate([low, high], 1), dtype=torch.float32)


def grid_priors(cells=4):
    maps = priors.FeatureMap("m", cells, cells, 30.0, 50.0), priors.FeatureMap("n", 2, 2, 60.0, None)
    return priors.default_boxes(priors.Config("grid", 100, 80, maps))


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.integers(0, 10_000),
    st.sampled_from(["ssd", "multibox", "threshold"]),
    st.sampled_from([0.2, 0.5, 0.9]),
)
@settings(deadline=None, max_examples=120)
def test_a_batch_equals_caffes_loops(counts, seed, rule, threshold):
    rng = np.random.default_rng(seed)
    p = grid_priors()
    b = [random_objects(rng, n) for n in counts]
    labels = [torch.tensor(rng.integers(1, 21, n)) for n in counts]
    got = matching.match_batch(b, labels, p, threshold, rule)
    for i, n in enumerate(counts):
        iou = boxes.iou(b[i], boxes.cxcywh_to_xyxy(p))
        owner = caffe_match(iou.numpy(), threshold, rule)
        assert got.object_index[i].tolist() == owner
        assert got.labels[i].tolist() == [int(labels[i][g]) if g >= 0 else 0 for g in owner]
        for k, g in enumerate(owner):
            expected = iou[g, k] if g >= 0 else (iou[:, k].max() if n else 0.0)
            assert float(got.iou[i, k]) == pytest.approx(float(expected), abs=1e-7)
        alone = matching.match(b[i], labels[i], p, threshold, rule)
        assert torch.equal(alone.object_index, got.object_index[i])


def loops_targets(b, labels, p, threshold, rule):
    """Labels and offsets of a batch by Caffe's loops."""
    names, offsets = torch.zeros(len(b), len(p), dtype=torch.int64), p.new_zeros(len(b), len(p), 4)
    b = [x.to(p.dtype) for x in b]
    for i in range(len(b)):
        owner = caffe_match(boxes.iou(b[i], boxes.cxcywh_to_xyxy(p)).numpy(), threshold, rule)
        for k, g in enumerate(owner):
            if g >= 0:
                names[i, k], offsets[i, k] = labels[i][g], boxes.encode(b[i][g], p[k])
    return names, offsets


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from(["ssd", "multibox", "threshold"]),
    st.sampled_from([0.2, 0.5, 0.9]),
    st.integers(0, 30),
    st.sampled_from([torch.float32, torch.float32, torch.float64]),
)
@settings(deadline=None, max_examples=60)
def test_targets_equal_caffes_loops_for_any_default_boxes(
    counts, seed, copies, rule, threshold, num_priors, kind
):
    """On a grid (0) or anywhere, of any size; objects compete, and there may be more of them than default boxes."""
    rng = np.random.default_rng(seed)
    p = (boxes.xyxy_to_cxcywh(random_objects(rng, num_priors)) if num_priors else grid_priors()).to(kind)
    b = [random_objects(rng, n).repeat(copies, 1) for n in counts]
    labels = [torch.tensor(rng.integers(1, 21, len(x))) for x in b]
    got = matching.encode_targets(b, labels, p, threshold=threshold, rule=rule)
    names, offsets = loops_targets(b, labels, p, threshold, rule)
    assert torch.equal(got.labels, names)
    torch.testing.assert_close(got.offsets, offsets)


@pytest.mark.parametrize("rule", ["ssd", "multibox", "threshold"])
def test_targets_of_a_crowd_are_those_of_the_whole_table(rule, monkeypatch):
    """Many photos in several parts, objects of which most cannot have their best default box, photos without any."""
    rng = np.random.default_rng(2)
    p = priors.default_boxes(priors.SSD300_VOC)
    b = [random_objects(rng, n).repeat(4, 1) for n in (30, 0, 1, 12, 0, 7)]
    labels = [torch.tensor(rng.integers(1, 21, len(x))) for x in b]
    whole = matching.match_batch(b, labels, p, rule=rule)
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 2**17)
    got = matching.encode_targets(b, labels, p, rule=rule)
    assert torch.equal(got.labels, whole.labels)
    own = torch.cat([x[m[m >= 0]] for x, m in zip(b, whole.object_index, strict=True)])
    place = (whole.object_index >= 0).nonzero()[:, 1]
    assert torch.equal(got.offsets[whole.object_index >= 0], boxes.encode(own, p[place]))
    assert got.offsets[whole.object_index < 0].abs().sum() == 0


@given(st.integers(1, 12), st.integers(0, 10_000), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_every_object_keeps_a_prior_also_when_they_share_the_best(count, seed, copies):
    """Exact copies and jittered ones compete for the same default boxes."""
    rng = np.random.default_rng(seed)
    b = random_objects(rng, count).repeat(copies, 1)
    got = matching.match(b, torch.ones(len(b), dtype=torch.int64), grid_priors(6))
    assert set(range(len(b))) <= set(got.object_index.tolist())


def test_ties_between_equal_objects_go_as_in_caffe():
    p = grid_priors(3)
    b = torch.tensor([[0.3, 0.3, 0.7, 0.7]] * 5)  # all alike, symmetric to the grid
    iou = boxes.iou(b, boxes.cxcywh_to_xyxy(p))
    got = matching.match(b, torch.arange(1, 6), p, 0.4)
    assert got.object_index.tolist() == caffe_match(iou.numpy(), 0.4, "ssd")


def test_bipartite_on_a_matrix_by_hand():
    """Object 1 takes its favourite first; object 0 loses it to 1 and falls back; object 2 touches nothing."""
    iou = torch.tensor([[[0.6, 0.5, 0.1], [0.8, 0.7, 0.0], [0.0, 0.0, 1e-7]]])
    assert matching.bipartite(iou).tolist() == [[1, 0, -1]]


def test_bipartite_waits_for_a_rival_that_falls_back():
    """0 and 1 want prior 0; 1 wins it. 0 falls back on prior 1, where it beats 2, whose favourite it was."""
    iou = torch.tensor([[[0.80, 0.70, 0.0], [0.90, 0.10, 0.0], [0.0, 0.60, 0.3]]])
    assert matching.bipartite(iou).tolist() == [[1, 0, 2]]


def test_more_objects_than_priors():
    iou = torch.tensor([[[0.5], [0.7], [0.6]]])
    assert matching.bipartite(iou).tolist() == [[-1, 0, -1]]


def test_threshold_is_inclusive_and_takes_the_better_object():
    p = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 1.0]])
    half = torch.tensor([[0.0, 0.0, 0.5, 1.0]])  # IoU .5 with the first prior, 1 with the second
    got = matching.match(half, torch.tensor([7]), p, 0.5)
    assert got.labels.tolist() == [7, 7]
    assert got.iou.tolist() == [0.5, 1.0]
    assert matching.match(half, torch.tensor([7]), p, 0.51).labels.tolist() == [0, 7]
    assert matching.match(half, torch.tensor([7]), p, rule="multibox").labels.tolist() == [0, 7]


def test_no_objects_is_all_background():
    none, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    p = grid_priors()
    got = matching.match(none, labels, p)
    assert got.labels.tolist() == [0] * len(p)
    assert got.object_index.tolist() == [-1] * len(p)
    assert got.iou.tolist() == [0.0] * len(p)
    mixed = matching.match_batch([none, torch.tensor([[0.1, 0.1, 0.5, 0.5]])], [labels, torch.tensor([3])], p)
    assert mixed.labels[0].sum() == 0
    assert (mixed.labels[1] == 3).any()


def test_objects_on_the_border_and_outside():
    p = grid_priors()
    corner = torch.tensor([[0.9, 0.9, 1.0, 1.0], [5.0, 5.0, 6.0, 6.0]])
    got = matching.match(corner, torch.tensor([1, 2]), p)
    assert (got.labels == 1).sum() >= 1
    assert (got.labels == 2).sum() == 0


def test_encode_targets_decode_to_the_objects():
    rng = np.random.default_rng(3)
    p = priors.default_boxes(priors.SSD300_VOC)
    counts = (3, 0, 1, 9)
    b = [random_objects(rng, n) for n in counts]
    labels = [torch.tensor(rng.integers(1, 21, n)) for n in counts]
    target = matching.encode_targets(b, labels, p)
    match = matching.match_batch(b, labels, p)
    assert torch.equal(target.labels, match.labels)
    for i, n in enumerate(counts):
        positive = match.object_index[i] >= 0
        assert target.offsets[i][~positive].abs().sum() == 0
        decoded = boxes.decode(target.offsets[i], p)[positive]
        assert (decoded - b[i][match.object_index[i][positive]]).abs().sum() < 1e-4 * max(n, 1)


@pytest.mark.parametrize(("b", "labels", "rule", "message"), [
    ([[0.5, 0.5, 0.5, 0.6]], [1], "ssd", "degenerate"),
    ([[0.1, 0.1, 0.5, 0.6]], [0], "ssd", "labels of objects start at 1"),
    ([[0.1, 0.1, 0.5, 0.6]], [1, 2], "ssd", "image 0: boxes_xyxy must be"),
    ([[0.1, 0.1, 0.5, 0.6]], [1], "best", "rule must be one of"),
])  # fmt: skip
def test_errors_are_clear(b, labels, rule, message):
    with pytest.raises(ValueError, match=message):
        matching.match(torch.tensor(b), torch.tensor(labels), grid_priors(), rule=rule)


def test_errors_of_a_batch_are_clear():
    b, labels, p = torch.tensor([[0.1, 0.1, 0.5, 0.6]]), torch.tensor([1]), grid_priors()
    with pytest.raises(ValueError, match="at least one image"):
        matching.match_batch([], [], p)
    with pytest.raises(ValueError, match="each image needs its boxes and its labels, got 2 and 1"):
        matching.match_batch([b, b], [labels], p)
    for threshold in (0, -0.5, 1.1, float("nan")):
        with pytest.raises(ValueError, match="threshold must be above 0"):
            matching.match(b, labels, p, threshold)
    with pytest.raises(ValueError, match="P above 0"):
        matching.match(b, labels, p[:0])
    with pytest.raises(ValueError, match="image 0: labels must be whole numbers"):
        matching.match(b, torch.tensor([1.5]), p)


def test_kinds_of_numbers_may_mix():
    """Boxes of numpy's float64 beside float32, int32 labels, and an empty image written as tensor([])."""
    p = grid_priors()
    b = [
        torch.tensor([[0.1, 0.1, 0.5, 0.6]], dtype=torch.float64),
        torch.zeros(0, 4),
        torch.tensor([[0, 0, 1, 1]]),
    ]
    labels = [torch.tensor([3], dtype=torch.int32), torch.tensor([]), torch.tensor([2])]
    target = matching.encode_targets(b, labels, p)
    assert target.labels.dtype == torch.int64
    assert target.offsets.dtype == torch.float32
    same = matching.encode_targets([x.float() for x in b], [n.long() for n in labels], p)
    torch.testing.assert_close(target.offsets, same.offsets)
    assert torch.equal(target.labels, same.labels)
