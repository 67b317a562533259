from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from cases import CLASSES, SIZE, an_image, detections, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu.evaluate import (
    DetectionArrays,
    average_precision,
    evaluate_voc,
    recall_by_size,
)
from ssdedu.sample import Truth


def flags(curve):
    marks = np.select([curve.true_positive, curve.false_positive, curve.ignored], ["T", "F", "-"], "?")
    return "".join(marks.tolist())


# --- the oracle: loops over classes, detections and objects, in rational numbers


def slow_iou(a, b, plus_one):
    def area(box):
        return (box[2] - box[0] + plus_one) * (box[3] - box[1] + plus_one)

    wide = min(a[2], b[2]) - max(a[0], b[0]) + plus_one
    high = min(a[3], b[3]) - max(a[1], b[1]) + plus_one
    if wide <= 0 or high <= 0:
        return Fraction(0)
    return Fraction(wide * high, area(a) + area(b) - wide * high)


def pixels(item):
    return [[round(float(value)) for value in box] for box in np.asarray(item.boxes_xyxy) * SIZE]


def slow_marks(found, truths, label, threshold, plus_one):
    """T, F or - of each detection of one class, best first, and the objects it may find."""
    ranked = [
        (float(score), image, index)
        for image, item in enumerate(found)
        for index, score in enumerate(item.scores)
        if item.labels[index] == label
    ]
    ranked.sort(key=lambda entry: -entry[0])
    taken, marks = set(), ""
    for _, image, index in ranked:
        box, best, owner = pixels(found[image])[index], Fraction(0), None
        for number, other in enumerate(pixels(truths[image])):
            iou = slow_iou(box, other, plus_one)
            if truths[image].labels[number] == label and iou > best:
                best, owner = iou, number
        if owner is None or best < threshold:
            marks += "F"
        elif truths[image].difficult[owner]:
            marks += "-"
        else:
            marks += "F" if (image, owner) in taken else "T"
            taken.add((image, owner))
    return marks, [entry[1:] for entry in ranked], taken


def slow_ap(marks, num_objects, metric):
    if num_objects == 0:
        return math.nan
    points, hits, misses = [], 0, 0
    for mark in marks:
        hits, misses = hits + (mark == "T"), misses + (mark == "F")
        points.append((Fraction(hits, num_objects), Fraction(hits, max(hits + misses, 1))))
    if metric == "voc07":
        grid = [Fraction(j, 10) for j in range(11)]
        return float(sum(max([p for r, p in points if r >= level], default=0) for level in grid) / 11)
    recall = [Fraction(0), *(r for r, _ in points), Fraction(1)]
    precision = [Fraction(0), *(p for _, p in points), Fraction(0)]
    for i in reversed(range(len(precision) - 1)):
        precision[i] = max(precision[i], precision[i + 1])
    return float(sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall))))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(an_image(), max_size=4), st.sampled_from(["voc07", "area"]), st.sampled_from([0.25, 0.5, 0.75]),
    st.booleans(),
)  # fmt: skip
def test_equals_the_loop(images, metric, threshold, plus_one):
    truths, found = [pair[0] for pair in images], [pair[1] for pair in images]
    result = evaluate_voc(found, truths, CLASSES, metric, threshold, plus_one)
    missed = np.isnan(result.objects.score)
    for label, curve in enumerate(result.curves, start=1):
        marks, places, taken = slow_marks(found, truths, label, threshold, int(plus_one))
        number = sum(int(((t.labels == label) & ~t.difficult).sum()) for t in truths)
        assert (curve.name, curve.num_objects, flags(curve)) == (CLASSES[label - 1], number, marks)
        assert list(zip(curve.image, curve.index, strict=True)) == places
        assert ((result.objects.labels == label) & ~missed).sum() == len(taken)
        expected = slow_ap(marks, number, metric)
        assert result.ap[label - 1] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert list(curve.recall) == pytest.approx(
            [marks[: i + 1].count("T") / (number or math.nan) for i in range(len(marks))], nan_ok=True
        )


@settings(deadline=None, max_examples=50)
@given(st.lists(an_image(), min_size=1, max_size=4))
def test_tensors_give_the_same_as_arrays(images):
    truths, found = [pair[0] for pair in images], [pair[1] for pair in images]
    tensors = [DetectionArrays(*(torch.tensor(a) for a in (d.boxes_xyxy, d.scores, d.labels))) for d in found]
    expected = evaluate_voc(found, truths, CLASSES).ap
    assert np.array_equal(evaluate_voc(tensors, truths, CLASSES).ap, expected, equal_nan=True)


# --- published and hand-computed numbers

CAFFE = np.array([0, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1])  # the hits of the ranked list in Caffe's own test


@pytest.mark.parametrize(
    ("hits", "num_objects", "metric", "expected"),
    [
        (CAFFE, 5, "voc07", 0.598662),
        (CAFFE[:7], 5, "voc07", 0.598662 - 5 / 11 * 2 / 11),
        (CAFFE, 5, "area", (2 * 2 / 3 + 3 / 5 + 4 / 7 + 5 / 11) / 5),
        (np.array([1, 0, 1]), 2, "voc07", (6 + 5 * 2 / 3) / 11),
        (np.array([1, 0, 1]), 2, "area", (1 + 2 / 3) / 2),
        (np.array([1, 0, 0, 0]), 3, "voc07", 4 / 11),
        (np.array([0, 0]), 3, "voc07", 0),
        (np.array([], int), 3, "area", 0),
    ],
)
def test_average_precision(hits, num_objects, metric, expected):
    assert average_precision(hits, 1 - hits, num_objects, metric) == pytest.approx(expected, abs=1e-6)


def float_grid(hits, num_objects):
    """The usual code: recall compared with steps of 0.1 in floating point."""
    recall, precision = np.cumsum(hits) / num_objects, np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return sum(precision[recall >= level].max(initial=0) for level in np.arange(0, 1.1, 0.1)) / 11


def test_integers_where_a_floating_grid_misses():
    assert round(float_grid(CAFFE, 5), 4) == 0.5961
    assert round(average_precision(CAFFE, 1 - CAFFE, 5), 4) == 0.5987
    perfect = [average_precision(np.ones(k), np.zeros(k), 10) for k in range(11)]
    assert perfect == pytest.approx([0, *((k + 1) / 11 for k in range(1, 11))], abs=1e-12)
    lost = [k for k in range(1, 11) if float_grid(np.ones(k), 10) < perfect[k] - 1e-9]
    assert lost == [3, 6, 7]


def test_average_precision_of_a_class_without_objects():
    assert math.isnan(average_precision(np.array([0]), np.array([1]), 0))


def test_a_day_at_the_zoo_by_hand():
    """Two images; a hit, a duplicate, a miss, a hit of a difficult object, and a wrong class."""
    truths = [
        truth([(0, 0, 9, 9), (20, 0, 29, 9)], [1, 2], [False, True], "one"),
        truth([(0, 0, 9, 9)], [1], name="two"),
    ]
    found = [
        detections([(0, 0, 9, 9), (0, 0, 9, 8), (20, 0, 29, 9)], [0.8, 0.9, 0.7], [1, 1, 2]),
        detections([(40, 20, 49, 29), (0, 0, 9, 9), (0, 0, 9, 9)], [0.95, 0.4, 0.99], [1, 1, 3]),
    ]
    result = evaluate_voc(found, truths, CLASSES)
    cat, dog, cow = result.curves
    assert (flags(cat), flags(dog), flags(cow)) == ("FTFT", "-", "F")
    assert list(cat.scores) == pytest.approx([0.95, 0.9, 0.8, 0.4])
    assert list(cat.recall) == [0, 0.5, 0.5, 1]
    assert list(cat.precision) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert list(dog.precision) == [0]
    assert [(i, j) for i, j in zip(cat.image, cat.index, strict=True)] == [(1, 0), (0, 1), (0, 0), (1, 1)]
    assert result.ap == pytest.approx([0.5, math.nan, math.nan], nan_ok=True)
    assert (result.mean_ap, result.num_objects) == (0.5, 2)
    assert result.objects.score == pytest.approx([0.9, math.nan, 0.4], nan_ok=True)
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False)) == {
        "metric": "voc07",
        "iou_threshold": 0.5,
        "mean_ap": 0.5,
        "ap": {"cat": 0.5, "dog": None, "cow": None},
        "num_objects": 2,
    }


def test_pixels_count_inclusively():
    """4 x 4 against 4 x 2 pixels is exactly one half; between the corner points it is one third."""
    truths, found = [truth([(0, 0, 3, 3)])], [detections([(0, 0, 3, 1)], [1.0])]
    assert evaluate_voc(found, truths, CLASSES).ap[0] == 1
    assert evaluate_voc(found, truths, CLASSES, iou_threshold=0.51).ap[0] == 0
    assert evaluate_voc(found, truths, CLASSES, plus_one=False).ap[0] == 0


def test_a_detection_belongs_to_one_object_only():
    """The better object is taken already: the other, overlapped by more than half, stays unfound."""
    objects = [(0, 0, 9, 9), (0, 0, 9, 6)]
    found = [detections([(0, 0, 9, 9), (0, 0, 9, 9)], [0.9, 0.8])]
    result = evaluate_voc(found, [truth(objects)], CLASSES)
    assert flags(result.curves[0]) == "TF"
    assert list(np.isnan(result.objects.score)) == [False, True]


@pytest.mark.parametrize(("difficult", "marks"), [((True, False), "--"), ((False, True), "TF")])
def test_of_equal_objects_the_first_counts(difficult, marks):
    twins, found = truth([(0, 0, 9, 9)] * 2, difficult=difficult), detections([(0, 0, 9, 9)] * 2, [0.9, 0.8])
    assert flags(evaluate_voc([found], [twins], CLASSES).curves[0]) == marks


def test_ties_keep_the_order_of_images_and_detections():
    truths = [truth([], name="a"), truth([(0, 0, 9, 9)], name="b")]
    found = [detections([(0, 0, 9, 9)], [0.5]), detections([(0, 0, 9, 9), (0, 0, 9, 9)], [0.5, 0.5])]
    assert flags(evaluate_voc(found, truths, CLASSES).curves[0]) == "FTF"
    assert flags(evaluate_voc(found[::-1], truths[::-1], CLASSES).curves[0]) == "TFF"


def test_the_truth_is_a_perfect_detection_on_any_shape_and_at_the_border():
    size = np.array([500, 37, 500, 37])
    objects = [(0, 0, 500, 37), (0, 0, 3, 37), (499, 36, 500, 37), (250, 0, 251, 37)]
    truths = [truth(objects, [1, 2, 3, 3], size=size)]
    found = [detections(objects, [0.9, 0.8, 0.7, 0.6], [1, 2, 3, 3], size=size)]
    for metric in ("voc07", "area"):
        assert list(evaluate_voc(found, truths, CLASSES, metric).ap) == [1, 1, 1]


# --- nothing to evaluate


@pytest.mark.parametrize("metric", ["voc07", "area"])
def test_no_images_no_detections_no_objects(metric):
    def ap(found, truths):
        return evaluate_voc(found, truths, CLASSES, metric)

    assert np.isnan(ap([], []).ap).all()
    assert math.isnan(ap([], []).mean_ap)
    assert ap([detections()], [truth([(0, 0, 9, 9)])]).by_class == pytest.approx(
        {"cat": 0.0, "dog": math.nan, "cow": math.nan}, nan_ok=True
    )
    assert np.isnan(ap([detections([(0, 0, 9, 9)], [1.0])], [truth()]).ap).all()
    hard = ap([detections([(0, 0, 9, 9)] * 2, [1.0, 0.5])], [truth([(0, 0, 9, 9)], difficult=[True])])
    assert np.isnan(hard.ap).all()
    assert flags(hard.curves[0]) == "--"
    assert math.isnan(hard.curves[0].recall[0])
    assert hard.as_dict()["mean_ap"] is None


def test_plain_empty_lists_are_detections():
    empty = DetectionArrays([], [], [])
    assert evaluate_voc([empty], [truth([(0, 0, 9, 9)])], CLASSES).ap[0] == 0


# --- recall by size


def test_recall_by_size():
    squares = [(0, 0, 2, 2), (10, 0, 18, 8), (30, 0, 46, 16), (0, 16, 8, 24)]
    truths = [truth(squares, difficult=[False, False, False, True])]
    found = [detections([squares[2], squares[1], squares[3]], [0.9, 0.3, 0.8])]
    result = evaluate_voc(found, truths, CLASSES)
    in_pixels = recall_by_size(result, (0, 8, 16, math.inf), unit="pixels")
    assert [(b.num_objects, b.num_found) for b in in_pixels] == [(1, 0), (1, 1), (1, 1)]
    assert [b.recall for b in in_pixels] == [0, 1, 1]
    strict = recall_by_size(result, (0, 16, math.inf), unit="pixels", min_score=0.5)
    assert [b.recall for b in strict] == [0, 1]
    fractions = recall_by_size(result, (0, 8 / math.sqrt(64 * 32) + 1e-6, 1, 2))
    assert [b.num_objects for b in fractions] == [2, 1, 0]
    assert math.isnan(fractions[2].recall)
    assert sum(b.num_objects for b in recall_by_size(result)) == 3
    with pytest.raises(ValueError, match="unit must be"):
        recall_by_size(result, unit="metres")
    with pytest.raises(ValueError, match="increasing"):
        recall_by_size(result, (1, 0.5))


# --- mistakes


def broken(**fields):
    good = detections([(0, 0, 9, 9), (1, 1, 5, 5)], [0.9, 0.8])
    return DetectionArrays(**{**vars(good), **fields})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (broken(labels=np.array([1, 4])), r"image 1 \('b'\), entry 1 of its detections: labels .* 1 \.\. 3"),
        (
            broken(labels=np.array([0, 1])),
            r"image 1 \('b'\), entry 0 of its detections: labels .* background",
        ),
        (broken(labels=np.array([1.0, 1.0])), r"detections of image 1 \('b'\): labels must be integers"),
        (broken(labels=np.array([1])), r"image 1 \('b'\): boxes_xyxy has shape \(2, 4\), expected \(1, 4\)"),
        (broken(scores=np.array([0.9, math.nan])), r"image 1 \('b'\), entry 1 .*: scores must be finite"),
        (broken(scores=np.array([[0.9], [0.8]])), r"image 1 \('b'\): scores has shape \(2, 1\)"),
        (
            broken(boxes_xyxy=np.full((2, 4), math.inf)),
            r"entry 0 of its detections: boxes_xyxy must be finite",
        ),
        (broken(scores=torch.ones(2, requires_grad=True)), r"image 1 \('b'\): scores is no array"),
        (broken(scores=torch.ones(2, dtype=torch.bfloat16)), r"scores is no array; move it to the CPU"),
    ],
)
def test_bad_detections_name_image_and_field(bad, message):
    truths = [truth(name="a"), truth([(0, 0, 9, 9)], name="b")]
    with pytest.raises(ValueError, match=message):
        evaluate_voc([detections(), bad], truths, CLASSES)


def test_bad_truths_and_arguments():
    found, good = [detections()], [truth()]
    with pytest.raises(ValueError, match=r"image 0 \('a'\), entry 0 of its truth: labels must be 1 \.\. 3"):
        evaluate_voc(found, [truth([(0, 0, 1, 1)], [7])], CLASSES)
    with pytest.raises(ValueError, match=r"image 0 \('a'\): width_px and height_px must be positive"):
        evaluate_voc(
            found, [Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), 5, 0, "a")], CLASSES
        )
    with pytest.raises(ValueError, match="detections: 1 images, but truths: 2"):
        evaluate_voc(found, good * 2, CLASSES)
    with pytest.raises(ValueError, match="metric must be one of"):
        evaluate_voc(found, good, CLASSES, metric="coco")
    with pytest.raises(ValueError, match="iou_threshold must be"):
        evaluate_voc(found, good, CLASSES, iou_threshold=50)
    with pytest.raises(ValueError, match="classes: give at least one name, all different"):
        evaluate_voc(found, good, ["cat", "cat"])


def test_needs_no_torch():
    code = "import sys, ssdedu.evaluate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
