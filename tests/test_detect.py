"""Detection against the loops of Caffe's DetectionOutputLayer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_boxes import slow_nms

from ssdedu import boxes, priors
from ssdedu.detect import detect


def slow_detect(offsets, logits, p, score_threshold, candidates, iou_threshold, most):
    """One image, one class after the other; (box, score, label) best first."""
    scores = torch.softmax(logits, -1)
    decoded = boxes.decode(offsets, p)
    found = []
    for label in range(1, logits.shape[1]):
        s = scores[:, label]
        order = sorted((i for i in range(len(s)) if s[i] > score_threshold), key=lambda i: (-s[i].item(), i))
        order = order[:candidates]
        kept = slow_nms(decoded[order].tolist(), s[order].tolist(), iou_threshold)
        found += [(decoded[order[k]], s[order[k]].item(), label) for k in kept]
    found.sort(key=lambda f: -f[1])
    return found[:most]


def random_outputs(seed, batch, classes, sharpness):
    rng = np.random.default_rng(seed)
    p = priors.default_boxes(priors.SHAPES128_ONE_MAP)[::7]
    offsets = torch.tensor(rng.normal(0, 1, (batch, len(p), 4)), dtype=torch.float32)
    logits = torch.tensor(rng.normal(0, sharpness, (batch, len(p), classes)), dtype=torch.float32)
    return offsets, logits, p


def assert_equal_to_loop(found, expected):
    assert len(found) == len(expected)
    if not expected:
        return
    boxes_xyxy, scores, labels = zip(*expected, strict=True)
    assert found.labels.tolist() == list(labels)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, torch.stack(boxes_xyxy).clamp(0, 1), atol=1e-6)


@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from([2, 5]),
    st.sampled_from([0.1, 3.0]),
    st.sampled_from([5, 400]),
    st.sampled_from([0.05, 0.45]),
    st.sampled_from([3, 200]),
)
@settings(deadline=None, max_examples=25)
def test_equals_the_loops(seed, batch, classes, sharpness, candidates, iou_threshold, most):
    offsets, logits, p = random_outputs(seed, batch, classes, sharpness)
    options = {"score_threshold": 0.15, "candidates_per_class": candidates, "iou_threshold": iou_threshold}
    found = detect(offsets, logits, p, max_detections=most, **options)
    for i in range(batch):
        expected = slow_detect(offsets[i], logits[i], p, 0.15, candidates, iou_threshold, most)
        assert_equal_to_loop(found[i], expected)


def test_one_object_by_hand():
    p = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4], [0.1, 0.1, 0.4, 0.4]])
    logits = torch.tensor([[[0.0, 3.0, 0.0], [0.0, 2.0, 0.0], [0.0, -9.0, 1.0]]])
    (found,) = detect(torch.zeros(1, 3, 4), logits, p, score_threshold=0.3)
    assert found.labels.tolist() == [1, 2]
    best = math.exp(3) / (2 + math.exp(3))
    assert found.scores[0].item() == pytest.approx(best)
    np.testing.assert_allclose(found.boxes_xyxy, [[0.3, 0.3, 0.7, 0.7], [0.0, 0.0, 0.3, 0.3]], atol=1e-6)


def test_suppression_sees_unclipped_boxes():
    """Two boxes equal once clipped, but apart by more than the threshold before: both stay, as in Caffe."""
    p = torch.tensor([[0.0, 0.5, 0.2, 0.2], [-0.4, 0.5, 1.0, 0.2]])
    logits = torch.tensor([[[0.0, 5.0], [0.0, 4.0]]])
    (found,) = detect(torch.zeros(1, 2, 4), logits, p)
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0.4, 0.1, 0.6], [0, 0.4, 0.1, 0.6]], atol=1e-6)


def test_nothing_above_the_threshold():
    offsets, logits, p = random_outputs(0, 2, 3, 1.0)
    logits[..., 0] = 50
    for found in detect(offsets, logits, p):
        assert len(found) == 0
        assert found.boxes_xyxy.shape == (0, 4)
    mixed = logits.clone()
    mixed[1, 4] = torch.tensor([0.0, 9.0, 0.0])
    assert [len(d) for d in detect(offsets, mixed, p)] == [0, 1]


def test_a_batch_gives_what_its_images_give_alone():
    offsets, logits, p = random_outputs(5, 4, 6, 2.0)
    together = detect(offsets, logits, p)
    for i, found in enumerate(together):
        (alone,) = detect(offsets[i : i + 1], logits[i : i + 1], p)
        assert torch.equal(found.boxes_xyxy, alone.boxes_xyxy)
        assert torch.equal(found.labels, alone.labels)


def test_worst_case_of_an_untrained_net_equals_the_loop():
    """All 8,732 x 20 scores pass: 400 a class compete, 200 an image stay."""
    rng = torch.Generator().manual_seed(0)
    p = priors.default_boxes(priors.SSD300_VOC)
    offsets = 0.1 * torch.randn(2, len(p), 4, generator=rng)
    logits = 0.05 * torch.randn(2, len(p), 21, generator=rng)
    assert (logits.softmax(-1) > 0.01).all()
    found = detect(offsets, logits, p)
    assert [len(d) for d in found] == [200, 200]
    part = slow_detect(offsets[0], logits[0, :, :3], p, 0.01, 400, 0.45, 200)
    assert_equal_to_loop(detect(offsets[:1], logits[:1, :, :3], p)[0], part)


def test_equal_scores_go_in_order_of_the_default_boxes():
    """Few distinct scores, so that the cut at the best candidates falls among equals; disjoint boxes all stay."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(30) / 30, np.arange(30) / 30)
    p = torch.tensor(np.stack([x, y, 0 * x + 0.01, 0 * y + 0.01], -1).reshape(-1, 4)).float()
    p[:, :2] += 0.016
    logits = torch.zeros(1, 900, 3)
    logits[..., 1:] = torch.tensor(rng.integers(0, 3, (1, 900, 2)))
    expected = slow_detect(torch.zeros(900, 4), logits[0], p, 0.01, 40, 0.45, 200)
    (found,) = detect(torch.zeros(1, 900, 4), logits, p, candidates_per_class=40)
    assert_equal_to_loop(found, expected)
    assert len(found) == 80


def crowd():
    offsets, logits, p = random_outputs(0, 3, 40, 0.01)
    return offsets.repeat(1, 8, 1), logits.repeat(1, 8, 1), p.repeat(8, 1)


def test_memory_of_the_worst_case_is_bounded(monkeypatch):
    """However many images and classes, no suppression sees more entries at once than its bound."""
    sizes, real = [], boxes.nms_sorted

    def watched(boxes_xyxy, iou_threshold, valid):
        sizes.append(valid.shape[0] * valid.shape[1] ** 2)
        return real(boxes_xyxy, iou_threshold, valid)

    monkeypatch.setattr(boxes, "nms_sorted", watched)
    detect(*crowd(), max_detections=None)
    assert len(sizes) > 5
    assert max(sizes) <= 20 * 400 * 400


def test_a_limit_over_classes_bounds_memory_and_work(monkeypatch):
    """Of 23,400 candidates an image, those that decide about its 200 detections are compared with few at a time."""
    sizes, real = [], boxes.iou

    def watched(a_xyxy, b_xyxy):
        sizes.append(a_xyxy.shape[:2].numel() * b_xyxy.shape[1])
        return real(a_xyxy, b_xyxy)

    monkeypatch.setattr(boxes, "iou", watched)
    offsets, logits, p = (torch.cat([t] * 4) if t.dim() == 3 else t for t in crowd())
    found = detect(offsets, logits, p)
    assert [len(d) for d in found] == [200] * 12
    assert max(sizes) <= 8 * (200 + 80 + 80) * 80
    assert sum(sizes) < 12 * 1000 * 300


@pytest.mark.parametrize("options", [
    {}, {"score_threshold": 0.3}, {"score_threshold": -1.0}, {"max_detections": 1}, {"max_detections": 5000},
    {"candidates_per_class": 3}, {"iou_threshold": 0.05}, {"clip_first": True, "max_log_size": 0.5},
])  # fmt: skip
@pytest.mark.parametrize("ties", [False, True])
def test_down_from_the_best_gives_what_every_class_to_its_end_gives(options, ties):
    """Ten images, two groups of them; the reference sorts and cuts only when all classes are through."""
    offsets, logits, p = random_outputs(7, 10, 6, 2.0)
    logits[:3, :, 2] += 3
    logits[4, :, 0] += 50
    logits = logits.round() if ties else logits
    most = options.get("max_detections", 200)
    whole = detect(offsets, logits, p, **(options | {"max_detections": None}))
    for found, every in zip(detect(offsets, logits, p, **options), whole, strict=True):
        assert torch.equal(found.boxes_xyxy, every.boxes_xyxy[:most])
        assert torch.equal(found.scores, every.scores[:most])
        assert torch.equal(found.labels, every.labels[:most])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_outputs_are_an_error(bad):
    offsets, logits, p = random_outputs(0, 1, 3, 1.0)
    logits[0, 3, 1] = bad
    with pytest.raises(ValueError, match="logits are not all finite"):
        detect(offsets, logits, p)
    for option in ("candidates_per_class", "max_detections"):
        with pytest.raises(ValueError, match="1 or more"):
            detect(offsets, logits.zero_(), p, **{option: 0})


def test_shapes_that_do_not_fit_are_refused():
    offsets, logits, p = random_outputs(0, 1, 3, 1.0)
    with pytest.raises(ValueError, match="expected offsets"):
        detect(offsets, logits, p[1:])


def test_above_filters_by_score():
    offsets, logits, p = random_outputs(2, 1, 3, 2.0)
    (found,) = detect(offsets, logits, p)
    few = found.above(0.5)
    assert 0 < len(few) < len(found)
    assert few.scores.min() > 0.5
    assert len(few.boxes_xyxy) == len(few.labels) == (found.scores > 0.5).sum()


def test_a_batch_of_no_images_gives_no_detections():
    offsets, logits, p = random_outputs(0, 1, 3, 1.0)
    assert detect(offsets[:0], logits[:0], p) == []


def test_detections_hold_no_more_memory_than_they_need():
    """Kept for thousands of images, and written to files: no views of the batch's tensors."""
    offsets, logits, p = random_outputs(1, 2, 3, 3.0)
    for found in detect(offsets, logits, p, score_threshold=0.9, max_detections=None):
        for values in (found.boxes_xyxy, found.scores, found.labels):
            assert values.untyped_storage().nbytes() == values.numel() * values.element_size()
