"""The kinds of error, the confusion matrix, recall by ratio and reachable IoU, each against a loop."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import CLASSES, SIZE, an_image, detections, random_boxes, slow_iou, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu import boxes, priors
from ssdedu.errors import (
    KINDS,
    SIMILAR_VOC,
    ap_without,
    confusion_matrix,
    diagnose,
    reachable_iou,
    recall_by_ratio,
    similar_classes,
)
from ssdedu.evaluate import DetectionArrays, evaluate_voc, recall_in_bins
from ssdedu.sample import Truth

PAIR = (("cat", "dog"),)
IMAGES = st.lists(an_image(), max_size=4)


def kinds(diagnosis):
    return [KINDS[k] for k in diagnosis.kind]


def split(images):
    return [pair[1] for pair in images], [pair[0] for pair in images]


# --- oracles: loops over detections, best first, and the objects of their image


def plus_one_iou(a, b):
    grown_a, grown_b = ((x1, y1, x2 + 1, y2 + 1) for x1, y1, x2, y2 in (a, b))
    return slow_iou(grown_a, grown_b)


def pixels(item):
    return (np.asarray(item.boxes_xyxy, float) * SIZE).tolist()


def ranked(found):
    rows = [(float(s), i, k) for i, item in enumerate(found) for k, s in enumerate(item.scores)]
    return sorted(rows, key=lambda row: -row[0])


def slow_kinds(found, truths, groups, threshold, weak):
    """Kind, image and index of each detection."""
    taken, result = set(), []
    for _, image, index in ranked(found):
        objects, label = truths[image], found[image].labels[index]
        ious = [plus_one_iou(pixels(found[image])[index], box) for box in pixels(objects)]
        mine = [k for k in range(len(ious)) if objects.labels[k] == label and ious[k] > 0]
        best = max(mine, key=lambda k: ious[k], default=None)
        name = CLASSES[label - 1]
        touched = {CLASSES[objects.labels[k] - 1] for k in range(len(ious)) if ious[k] >= weak}
        if best is not None and ious[best] >= threshold and objects.difficult[best]:
            kind = "ignored"
        elif best is not None and ious[best] >= threshold and (image, best) not in taken:
            taken.add((image, best))
            kind = "correct"
        elif name in touched:
            kind = "localisation"
        elif any(name in group and other in group for group in groups for other in touched):
            kind = "similar"
        else:
            kind = "other" if touched else "background"
        result.append((kind, image, index))
    return result


def slow_confusion(found, truths, min_score, threshold):
    matrix = np.zeros((len(CLASSES) + 1,) * 2, int)
    seen = {}
    for score, image, index in ranked(found):
        if score < min_score:
            continue
        ious = [plus_one_iou(pixels(found[image])[index], box) for box in pixels(truths[image])]
        best = max(range(len(ious)), key=lambda k: ious[k], default=None)
        label = found[image].labels[index]
        if best is None or ious[best] < threshold:
            matrix[0, label] += 1
        else:
            seen.setdefault((image, best), label)
    for image, item in enumerate(truths):
        for k in range(len(item)):
            if not item.difficult[k]:
                matrix[item.labels[k], seen.get((image, k), 0)] += 1
    return matrix


@settings(deadline=None, max_examples=300)
@given(IMAGES, st.sampled_from([(), PAIR, (("dog", "cow"), PAIR[0])]), st.sampled_from([0.25, 0.5, 0.75]))
def test_kinds_equal_the_loop(images, groups, threshold):
    found, truths = split(images)
    result = diagnose(found, truths, CLASSES, groups, threshold, 0.2)
    places = zip(kinds(result), result.image.tolist(), result.index.tolist(), strict=True)
    assert list(places) == slow_kinds(found, truths, groups, threshold, 0.2)
    for label, curve in enumerate(evaluate_voc(found, truths, CLASSES, iou_threshold=threshold).curves, 1):
        mine = result.labels == label
        assert (result.kind[mine] == 0).tolist() == curve.true_positive.tolist()
        assert (result.kind[mine] == KINDS.index("ignored")).tolist() == curve.ignored.tolist()
        assert result.scores[mine].tolist() == curve.scores.tolist()
        assert result.num_objects[label - 1] == curve.num_objects


@settings(deadline=None, max_examples=100)
@given(IMAGES, st.sampled_from([0.0, 0.5, 0.8]), st.sampled_from([0.25, 0.5]))
def test_the_confusion_matrix_equals_the_loop(images, min_score, threshold):
    found, truths = split(images)
    matrix = confusion_matrix(found, truths, CLASSES, min_score, threshold)
    assert matrix.tolist() == slow_confusion(found, truths, min_score, threshold).tolist()


@settings(deadline=None, max_examples=50)
@given(IMAGES)
def test_shares_and_oracles(images):
    found, truths = split(images)
    result = diagnose(found, truths, CLASSES, PAIR)
    shares, names = result.cumulative_shares(), kinds(result)
    for i in range(len(names)):
        counted = [name for name in names[: i + 1] if name != "ignored"]
        assert shares[i].tolist() == [counted.count(name) / max(len(counted), 1) for name in KINDS[:5]]
    assert result.counts() == {name: names.count(name) for name in KINDS}
    evaluation = evaluate_voc(found, truths, CLASSES)
    assert np.array_equal(ap_without(result, ()), evaluation.ap, equal_nan=True)
    without = {place for place in slow_kinds(found, truths, PAIR, 0.5, 0.1) if place[0] == "similar"}
    kept = [
        DetectionArrays(*(np.asarray(a)[rows] for a in (d.boxes_xyxy, d.scores, d.labels)))
        for i, d in enumerate(found)
        for rows in [[k for k in range(len(d.scores)) if ("similar", i, k) not in without]]
    ]
    expected = evaluate_voc(kept, truths, CLASSES).ap
    assert np.array_equal(ap_without(result, ["similar"]), expected, equal_nan=True)


# --- by hand

OBJECT = (0, 0, 9, 9)  # 10 x 10 pixels, the last one included


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        (OBJECT, 1, "correct"),
        ((0, 0, 9, 4), 1, "correct"),  # IoU 0.5
        ((0, 0, 9, 3), 1, "localisation"),  # 0.4
        ((0, 0, 0, 9), 1, "localisation"),  # 0.1
        ((0, 0, 0, 8), 1, "background"),  # 0.09
        (OBJECT, 2, "similar"),
        ((0, 0, 9, 3), 2, "similar"),
        ((0, 0, 0, 8), 2, "background"),
        (OBJECT, 3, "other"),
        ((30, 20, 40, 30), 1, "background"),
        ((50, 0, 59, 9), 1, "ignored"),
        ((50, 0, 59, 3), 1, "localisation"),  # a difficult object
        ((50, 0, 59, 9), 2, "similar"),
    ],
)
def test_one_detection(box, label, kind):
    truths = [truth([OBJECT, (50, 0, 59, 9)], difficult=[False, True])]
    assert kinds(diagnose([detections([box], [0.9], [label])], truths, CLASSES, PAIR)) == [kind]


def test_a_second_hit_is_a_localisation_error_and_the_own_class_goes_first():
    truths = [truth([OBJECT, OBJECT], [1, 2])]
    found = [detections([OBJECT] * 4, [0.9, 0.7, 0.8, 0.6], [1, 1, 3, 2])]
    result = diagnose(found, truths, CLASSES, PAIR)
    assert kinds(result) == ["correct", "other", "localisation", "correct"]
    assert result.index.tolist() == [0, 2, 1, 3]
    assert result.counts(0.75)["localisation"] == 0
    assert result.counts(0.7)["localisation"] == 1
    assert result.cumulative_shares()[2].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3, 0])


def test_without_plus_one():
    found, truths = [detections([(0, 0, 10, 5)], [0.9])], [truth([(0, 0, 10, 10)])]
    assert kinds(diagnose(found, truths, CLASSES)) == ["correct"]
    just_below = [detections([(0, 0, 10, 4.9)], [0.9])]
    assert kinds(diagnose(just_below, truths, CLASSES)) == ["correct"]
    assert kinds(diagnose(just_below, truths, CLASSES, plus_one=False)) == ["localisation"]


def test_what_mended_boxes_would_bring():
    """Of two objects one is found late and one only touched: 11-point AP 6 / 11 * 1 / 2 becomes 1."""
    truths = [truth([OBJECT, (30, 0, 39, 9)])]
    found = [detections([(30, 0, 39, 3), OBJECT, (30, 0, 39, 2)], [0.9, 0.8, 0.7])]
    strict = diagnose(found, truths, CLASSES)
    assert kinds(strict) == ["localisation", "correct", "localisation"]
    assert ap_without(strict, ())[0] == pytest.approx(6 / 11 / 2)
    assert ap_without(strict, ["localisation"])[0] == pytest.approx(6 / 11)
    weak = diagnose(found, truths, CLASSES, iou_threshold=0.1)
    assert kinds(weak) == ["correct", "correct", "localisation"]
    assert ap_without(weak, ["localisation"])[0] == pytest.approx(1)
    assert ap_without(weak, ["localisation"], "area")[0] == pytest.approx(1)
    assert ap_without(strict, ["correct"])[0] == 0
    with pytest.raises(ValueError, match=r"kinds must be some of .* not 'location'"):
        ap_without(strict, ["location"])


def test_confusion_by_hand():
    truths = [truth([OBJECT, (20, 0, 29, 9), (40, 0, 49, 9)], [1, 2, 3]), truth([OBJECT], [2], [True])]
    found = [
        detections([OBJECT, OBJECT, (21, 0, 29, 9), (40, 0, 49, 3)], [0.8, 0.9, 0.7, 0.95], [1, 2, 2, 3]),
        detections([OBJECT, (50, 20, 60, 30)], [0.9, 0.6], [1, 1]),
    ]
    assert confusion_matrix(found, truths, CLASSES).tolist() == [
        [0, 1, 0, 1],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [1, 0, 0, 0],
    ]
    assert confusion_matrix(found, truths, CLASSES, min_score=0.99)[1:, 0].tolist() == [1, 1, 1]


def test_similar_classes():
    assert similar_classes(CLASSES, ()).tolist() == [[False] * 3] * 3
    expected = [[False, True, False], [True, False, False], [False, False, False]]
    assert similar_classes(CLASSES, PAIR).tolist() == expected
    voc = sorted({name for group in SIMILAR_VOC for name in group} | {"bottle", "pottedplant", "tvmonitor"})
    akin = similar_classes(voc, SIMILAR_VOC)
    assert len(voc) == 20
    assert (akin == akin.T).all()
    assert akin[voc.index("aeroplane"), voc.index("bird")]
    assert akin[voc.index("person"), voc.index("sheep")]
    assert not akin[voc.index("bird"), voc.index("bus")]
    assert akin.sum(1)[[voc.index(n) for n in ("bottle", "sofa", "bird", "car")]].tolist() == [0, 2, 7, 6]
    with pytest.raises(ValueError, match="similar: 'kitten' is none of the classes"):
        diagnose([], [], CLASSES, [("cat", "kitten")])


# --- ratio and reach


def test_recall_by_ratio():
    shapes = [(0, 0, 4, 16), (10, 0, 18, 8), (20, 0, 36, 8), (40, 0, 56, 8), (0, 20, 8, 20)]
    truths = [truth(shapes, difficult=[False, False, False, True, False]), truth()]
    found = [detections([shapes[1], shapes[2]], [0.9, 0.3]), detections()]
    result = evaluate_voc(found, truths, CLASSES)
    bins = recall_by_ratio(result, truths)
    assert [(b.num_objects, b.num_found) for b in bins] == [(1, 0), (0, 0), (1, 1), (0, 0), (1, 1)]
    assert math.isnan(bins[1].recall)
    strict = recall_by_ratio(result, truths, (0, 1, 2.5), min_score=0.5)
    assert [(b.low, b.high, b.num_objects, b.recall) for b in strict] == [(0, 1, 1, 0), (1, 2.5, 2, 0.5)]
    with pytest.raises(ValueError, match="increasing"):
        recall_by_ratio(result, truths, (1,))
    with pytest.raises(ValueError, match=r"values: \(0,\), but 5 objects"):
        recall_by_ratio(result, [truth()])


@settings(deadline=None, max_examples=50)
@given(st.lists(an_image(), max_size=3))
def test_recall_by_ratio_equals_the_loop(images):
    found, truths = split(images)
    result = evaluate_voc(found, truths, CLASSES)
    (wide,) = recall_by_ratio(result, truths, (1.5, 4))
    numbers, row = [0, 0], 0
    for item in truths:
        for (x1, y1, x2, y2), difficult in zip(pixels(item), item.difficult, strict=True):
            if not difficult and y2 > y1 and 1.5 <= (x2 - x1) / (y2 - y1) < 4:
                numbers[0] += 1
                numbers[1] += not math.isnan(result.objects.score[row])
            row += 1
    assert [wide.num_objects, wide.num_found] == numbers


def test_reachable_iou_equals_the_loop_and_the_tensors():
    rng = np.random.default_rng(0)
    truths = [Truth(random_boxes(rng, n), np.ones(n, int), np.zeros(n, bool), 50, 30) for n in (3, 0, 4)]
    default_boxes = boxes.cxcywh_to_xyxy(priors.default_boxes(priors.SHAPES128))
    best = reachable_iou(truths, default_boxes.numpy())
    objects = np.concatenate([t.boxes_xyxy for t in truths])
    slow = [max(slow_iou(box, other) for other in default_boxes.tolist()) for box in objects.tolist()]
    assert best == pytest.approx(slow, abs=1e-6)
    expected = boxes.iou(torch.from_numpy(objects), default_boxes).amax(1)
    assert best == pytest.approx(expected.numpy(), abs=1e-6)
    result = evaluate_voc([detections()] * 3, truths, CLASSES)
    assert recall_in_bins(result.objects, best, (0, 2))[0].num_objects == 7


def test_a_box_equal_to_a_default_box_is_reached_wholly():
    assert reachable_iou([truth([(0, 0, 16, 8)])], np.array([[0.5, 0.5, 1, 1], [0, 0, 0.25, 0.25]])) == [1]
    assert reachable_iou([truth([(0, 0, 16, 8)])], np.zeros((0, 4))) == [0]
    assert reachable_iou([], np.zeros((2, 4))).shape == (0,)


# --- nothing to judge


def test_no_images_no_detections_no_objects():
    for found, truths in [([], []), ([detections()], [truth()]), ([detections()], [truth([OBJECT])])]:
        result = diagnose(found, truths, CLASSES, PAIR)
        assert result.counts() == dict.fromkeys(KINDS, 0)
        assert result.cumulative_shares().shape == (0, 5)
        assert result.num_objects.sum() == sum(map(len, truths))
        expected = evaluate_voc(found, truths, CLASSES).ap
        assert np.array_equal(ap_without(result, ["other"]), expected, equal_nan=True)
        assert confusion_matrix(found, truths, CLASSES)[:, 0].sum() == sum(map(len, truths))
    only = diagnose([detections([OBJECT], [0.9])], [truth()], CLASSES)
    assert kinds(only) == ["background"]
    assert confusion_matrix([detections([OBJECT], [0.9])], [truth()], CLASSES).tolist()[0] == [0, 1, 0, 0]
    hard = diagnose([detections([OBJECT], [0.9])], [truth([OBJECT], difficult=[True])], CLASSES)
    assert kinds(hard) == ["ignored"]
    assert hard.cumulative_shares().tolist() == [[0] * 5]
    assert np.isnan(ap_without(hard, ())).all()


def test_mistakes_name_image_and_field():
    bad = DetectionArrays(np.zeros((1, 4)), np.ones(1), np.array([7]))
    for judged in (diagnose, confusion_matrix):
        with pytest.raises(ValueError, match=r"image 0 \('a'\), entry 0 of its detections: labels"):
            judged([bad], [truth()], CLASSES)


def test_needs_no_torch():
    code = "import sys, ssdedu.errors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
