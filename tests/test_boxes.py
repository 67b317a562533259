"""Geometry against loops over pixels and boxes, and against hand-computed cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu import boxes, priors


def slow_iou(a, b):
    """IoU of two boxes, written out."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union > 0 else 0.0


def slow_nms(boxes_xyxy, scores, threshold):
    """The textbook loop: take the best, drop what it covers, repeat."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if not slow_iou(boxes_xyxy[best], boxes_xyxy[i]) > threshold]
    return kept


def random_boxes(rng, n, smallest=0.02):
    low = rng.uniform(-0.1, 0.9, (n, 2))
    high = low + rng.uniform(smallest, 0.6, (n, 2))
    return torch.tensor(np.concatenate([low, high], 1), dtype=torch.float64)


coordinate = st.floats(-0.5, 1.5)
side = st.floats(1e-3, 1.5)
xyxy = st.tuples(coordinate, coordinate, side, side).map(lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3]))
some_boxes = st.lists(xyxy, max_size=6).map(lambda b: torch.tensor(b, dtype=torch.float64).reshape(-1, 4))


@given(some_boxes, some_boxes)
@settings(deadline=None)
def test_iou_equals_the_loop(a, b):
    got = boxes.iou(a, b)
    assert got.shape == (len(a), len(b))
    expected = [[slow_iou(x, y) for y in b.tolist()] for x in a.tolist()]
    np.testing.assert_allclose(got.numpy(), np.reshape(expected, got.shape), atol=1e-9)
    np.testing.assert_allclose(got.numpy(), boxes.iou(b, a).T.numpy(), atol=1e-12)


@given(some_boxes, st.floats(0.1, 10), st.floats(-3, 3))
@settings(deadline=None)
def test_iou_ignores_scale_shift_and_stretch(b, factor, shift):
    moved = b * torch.tensor([factor, 2 * factor, factor, 2 * factor], dtype=b.dtype) + shift
    np.testing.assert_allclose(boxes.iou(moved, moved).numpy(), boxes.iou(b, b).numpy(), atol=1e-6)


def test_iou_by_hand_and_by_pixels():
    a, b = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 1, 6, 3]])
    canvas = np.zeros((2, 8, 8), bool)
    canvas[0, 0:4, 0:4] = canvas[1, 1:3, 2:6] = True
    pixels = canvas.all(0).sum() / canvas.any(0).sum()
    assert boxes.iou(a, b).item() == pytest.approx(pixels)
    assert boxes.iou(a, b).item() == pytest.approx(4 / 20)


def test_iou_of_degenerate_and_touching_boxes_is_zero():
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    inverted = torch.tensor([[0.6, 0.6, 0.4, 0.4]])
    assert boxes.iou(point, point).item() == 0
    assert boxes.iou(inverted, torch.tensor([[0.0, 0, 1, 1]])).item() == 0
    assert boxes.iou(torch.tensor([[0.0, 0, 0.5, 1]]), torch.tensor([[0.5, 0, 1, 1]])).item() == 0


def test_iou_broadcasts_over_images_and_has_gradients():
    a, b = torch.rand(3, 1, 4, 4), torch.rand(1, 2, 5, 4)
    assert boxes.iou(a, b).shape == (3, 2, 4, 5)
    a = torch.tensor([[0.0, 0, 2, 2]], requires_grad=True)
    boxes.iou(a, torch.tensor([[1.0, 1, 3, 3]])).sum().backward()
    assert a.grad.isfinite().all()
    assert (a.grad != 0).any()


@given(some_boxes)
@settings(deadline=None)
def test_forms_are_inverse(b):
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(b)).numpy(), b.numpy(), atol=1e-12)


def test_forms_by_hand():
    b = torch.tensor([0.1, 0.2, 0.5, 0.8])
    np.testing.assert_allclose(boxes.xyxy_to_cxcywh(b), [0.3, 0.5, 0.4, 0.6], rtol=1e-6)
    np.testing.assert_allclose(boxes.area(b), 0.24, rtol=1e-6)
    np.testing.assert_allclose(boxes.clip(torch.tensor([-0.1, 0.2, 1.5, 0.8])), [0, 0.2, 1, 0.8])


def test_encode_by_hand():
    prior = torch.tensor([0.5, 0.5, 0.2, 0.4])
    box = torch.tensor([0.5, 0.3, 0.7, 0.8])  # centre .6, .55; size .2, .5
    expected = [0.1 / 0.2 / 0.1, 0.05 / 0.4 / 0.1, 0.0, math.log(0.5 / 0.4) / 0.2]
    np.testing.assert_allclose(boxes.encode(box, prior), expected, rtol=1e-4, atol=1e-5)
    plain = boxes.encode(box, prior, (1, 1, 1, 1))
    np.testing.assert_allclose(plain * torch.tensor([10, 10, 5, 5]), expected, rtol=1e-4, atol=1e-5)


@given(
    st.lists(st.tuples(xyxy, xyxy), min_size=1, max_size=8),
    st.sampled_from([(0.1, 0.1, 0.2, 0.2), (1, 1, 1, 1)]),
)
@settings(deadline=None)
def test_decode_inverts_encode(pairs, variances):
    box = torch.tensor([p[0] for p in pairs], dtype=torch.float64)
    prior = boxes.xyxy_to_cxcywh(torch.tensor([p[1] for p in pairs], dtype=torch.float64))
    back = boxes.decode(boxes.encode(box, prior, variances), prior, variances)
    np.testing.assert_allclose(back.numpy(), box.numpy(), atol=1e-9)


def test_decode_inverts_encode_in_float32_on_all_default_boxes():
    p = priors.default_boxes(priors.SSD300_VOC)
    box = torch.tensor([0.1, 0.2, 0.7, 0.95]).expand(len(p), 4)
    back = boxes.decode(boxes.encode(box, p), p)
    assert (back - box).abs().max() < 2e-6
    zero = boxes.decode(torch.zeros(len(p), 4), p)
    assert (zero - boxes.cxcywh_to_xyxy(p)).abs().max() < 1e-6


@pytest.mark.parametrize("bad", [
    [0.5, 0.5, 0.5, 0.9], [0.5, 0.5, 0.9, 0.5], [0.9, 0.1, 0.2, 0.5], [0.1, float("nan"), 0.5, 0.5],
    [0.1, 0.1, float("inf"), 0.5],
])  # fmt: skip
def test_encode_refuses_degenerate_boxes(bad):
    b = torch.tensor([[0.1, 0.1, 0.2, 0.2], bad])
    with pytest.raises(ValueError, match=r"boxes_xyxy\[1\].*degenerate"):
        boxes.encode(b, torch.tensor([0.5, 0.5, 0.2, 0.2]))


@given(st.integers(0, 60), st.integers(0, 10_000), st.floats(0.05, 0.95), st.booleans())
@settings(deadline=None, max_examples=80)
def test_nms_equals_the_loop(n, seed, threshold, ties):
    rng = np.random.default_rng(seed)
    b, scores = random_boxes(rng, n), torch.tensor(rng.uniform(0, 1, n))
    scores = (scores * 4).round() if ties else scores
    assert boxes.nms(b, scores, threshold).tolist() == slow_nms(b.tolist(), scores.tolist(), threshold)


def test_nms_over_many_blocks_equals_the_loop():
    rng = np.random.default_rng(0)
    b, scores = random_boxes(rng, 2300), torch.tensor(rng.uniform(0, 1, 2300))
    assert boxes.nms(b, scores, 0.6).tolist() == slow_nms(b.tolist(), scores.tolist(), 0.6)


@given(
    st.integers(1, 4), st.integers(0, 200), st.integers(0, 10_000), st.floats(0.05, 0.95), st.integers(1, 60)
)
@settings(deadline=None, max_examples=60)
def test_the_first_ones_of_each_row_equal_the_loop_within_labels(rows, n, seed, threshold, most):
    rng = np.random.default_rng(seed)
    b = torch.stack([random_boxes(rng, n) for _ in range(rows)])
    labels = torch.tensor(rng.integers(0, rng.integers(1, 5) + 1, (rows, n)))
    keep = boxes.nms_first(b, labels, threshold, most)
    for i in range(rows):
        kept = []
        for label in set(labels[i].tolist()) - {0}:
            place = (labels[i] == label).nonzero()[:, 0]
            kept += place[slow_nms(b[i][place].tolist(), range(0, -len(place), -1), threshold)].tolist()
        assert keep[i].nonzero()[:, 0].tolist() == sorted(kept)[:most]


def test_whole_numbers_are_not_truncated():
    """Boxes in whole pixels, as somebody's first try will have them, count as floats."""
    box, prior = torch.tensor([[0, 0, 4, 2]]), torch.tensor([[1, 1, 2, 2]])
    np.testing.assert_allclose(boxes.encode(box, prior.float()), boxes.encode(box.float(), prior.float()))
    offsets = torch.tensor([[1, -2, 0, 1]])
    np.testing.assert_allclose(
        boxes.decode(offsets, prior.float()), boxes.decode(offsets.float(), prior.float())
    )
    assert boxes.iou(box, torch.tensor([[2, 0, 6, 2]])).item() == pytest.approx(1 / 3)


def test_encode_refuses_degenerate_default_boxes():
    with pytest.raises(ValueError, match=r"priors\[0\].*degenerate"):
        boxes.encode(torch.tensor([0.1, 0.1, 0.2, 0.2]), torch.tensor([0.5, 0.5, 0.0, 0.2]))


def test_nms_threshold_is_exclusive_and_chains_resolve():
    row = torch.tensor([[0.0, 0, 3, 1], [1.0, 0, 4, 1], [2.0, 0, 5, 1], [3.0, 0, 6, 1]])  # neighbours: IoU .5
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert boxes.nms(row, scores, 0.5).tolist() == [0, 1, 2, 3]
    assert boxes.nms(row, scores, 0.49).tolist() == [0, 2]
    assert boxes.nms(row, scores, 0.1).tolist() == [0, 3]
    assert boxes.nms(row[:0], scores[:0], 0.5).tolist() == []


def test_nms_sorted_leaves_out_invalid_entries():
    b = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 1], [0.0, 0, 1, 1]])
    keep = boxes.nms_sorted(b[None], 0.5, torch.tensor([[False, True, True]]))
    assert keep.tolist() == [[False, True, False]]
