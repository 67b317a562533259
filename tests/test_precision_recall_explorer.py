"""The precision-recall explorer: its points against shorter lists, and the page's arithmetic against Python's."""

import json
import math

import numpy as np
import pytest
from cases import CLASSES, detections, truth
from node import needs_node, run_node
from traitlets import TraitError

from ssdedu.evaluate import DetectionArrays, average_precision, evaluate_voc
from ssdedu.widgets import PrecisionRecallExplorer
from ssdedu.widgets.precision_recall_explorer import IOU_THRESHOLDS

THRESHOLDS = (-1.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.90000001, 1.0, 2.0)
CAFFE = "FTTFTFTFFFT"  # the ranked list of the original code's own test, 5 objects, AP 0.598662
SMALL = {"width": 370, "height": 300, "left": 50, "top": 34}


def random_images(rng, number=3):
    """Objects that overlap, some difficult, and detections near them with a few scores, most of them tied."""
    truths, found = [], []
    for _ in range(number):
        objects, hits = rng.integers(0, 4), rng.integers(0, 9)
        corners = rng.integers(0, 20, (objects, 2))
        boxes = np.hstack([corners, corners + rng.integers(3, 12, (objects, 2))])
        shown = boxes[rng.integers(0, objects, hits)] if objects else np.zeros((0, 4), int)
        shown = shown + rng.integers(-1, 2, shown.shape)
        scores = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], len(shown)).astype(np.float32)
        truths.append(truth(boxes, rng.integers(1, 3, objects), rng.random(objects) < 0.25))
        found.append(detections(shown, scores, rng.integers(1, 3, len(shown))))
    return found, truths


def special_cases():
    """Nothing found; nothing there; all difficult; one object; equal scores; and three of many things."""
    box, far = (0, 0, 9, 9), (20, 0, 29, 9)
    return {
        "nothing found": ([detections()], [truth([box])]),
        "nothing there": ([detections([box, far], [0.9, 0.3])], [truth()]),
        "nothing at all": ([], []),
        "all difficult": (
            [detections([box, box, far], [0.9, 0.5, 0.3])],
            [truth([box], difficult=[True])],
        ),
        "one object": ([detections([far, box, box], [0.9, 0.5, 0.3])], [truth([box])]),
        "ties": ([detections([box, far, box, far], [0.5] * 4)], [truth([box, far])]),
    }


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    return [*special_cases().values(), *(random_images(rng, number=1 + i % 4) for i in range(40))]


def above(found, threshold):
    kept = [d.scores >= threshold for d in found]
    return [
        DetectionArrays(d.boxes_xyxy[k], d.scores[k], d.labels[k]) for d, k in zip(found, kept, strict=True)
    ]


def shown(case, kind="cat", **state):
    return PrecisionRecallExplorer(*case, CLASSES, kind=kind, **state)


# --- Python


def test_a_point_is_the_end_of_the_list_above_the_threshold(cases):
    """What is counted at a threshold is what an evaluation of the detections above it counts."""
    for case in cases:
        explorer = shown(case)
        for iou, threshold in zip(
            (0.5, 0.65, 0.95) * 3, (0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 1, 2), strict=True
        ):
            limit = float(f"{np.float32(threshold):.9g}")
            short = evaluate_voc(above(case[0], np.float32(threshold)), case[1], CLASSES, iou_threshold=iou)
            for kind, curve in zip(CLASSES, short.curves, strict=True):
                explorer.kind, explorer.iou_threshold = kind, iou
                point = explorer.point(limit)
                true, false = int(curve.true_positive.sum()), int(curve.false_positive.sum())
                assert point[:4] == (len(curve.scores), true, false, int(curve.ignored.sum()))
                assert point.missed == curve.num_objects - true
                assert point.precision == true / max(true + false, 1)
                recall = true / curve.num_objects if curve.num_objects else math.nan
                assert point.recall == pytest.approx(recall, nan_ok=True)


def test_by_hand():
    box, far = (0, 0, 9, 9), (20, 0, 29, 9)
    found = [detections([box, far, (20, 0, 29, 6), (40, 0, 49, 9)], [0.9, 0.8, 0.7, 0.6])]
    explorer = shown((found, [truth([box, far, (40, 0, 49, 9)], difficult=[False, False, True])]))
    assert explorer.point() == (4, 2, 1, 1, 0, pytest.approx(2 / 3), 1)
    assert explorer.point(0.8) == explorer.point(0.75) == (2, 2, 0, 0, 0, 1, 1)
    assert explorer.point(0.95) == (0, 0, 0, 0, 2, 0, 0)
    assert str(explorer.point()) == "2 true, 1 false, 0 missed, precision 0.667, recall 1.000"
    assert explorer.curves[0]["marks"][0] == "TTFI"
    assert repr(explorer) == "PrecisionRecallExplorer: 3 classes, 2 objects"


def test_a_higher_iou_turns_true_into_false():
    found = [detections([(0, 0, 9, 6), (0, 0, 9, 9)], [0.9, 0.8])]  # IoU 0.7 and 1
    explorer = shown((found, [truth([(0, 0, 9, 9)])]))
    assert explorer.curves[0]["marks"] == ["TF"] * 5 + ["FT"] * 5
    assert explorer.average_precision() == 1
    explorer.iou_threshold = 0.75
    assert explorer.average_precision() == explorer.average_precision("area") == 0.5
    assert explorer.point(0.85).precision == 0


def test_average_precision_is_the_evaluations(cases):
    for case in cases:
        explorer = shown(case)
        for metric in ("voc07", "area"):
            for iou in (0.5, 0.75):
                explorer.iou_threshold, explorer.metric = iou, metric
                expected = evaluate_voc(*case, CLASSES, metric, iou).by_class["cat"]
                assert explorer.average_precision() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"kind": "horse"}, "kind must be one of"),
        ({"iou_threshold": 0.52}, "iou_threshold must be one of"),
        ({"metric": "coco"}, "metric must be one of"),
        ({"threshold": math.nan}, "threshold must be a finite score"),
    ],
)
def test_refuses_what_the_page_could_not_show(state, message):
    case = special_cases()["one object"]
    with pytest.raises(ValueError, match=message):
        PrecisionRecallExplorer(*case, CLASSES, **state)
    explorer = shown(case)
    with pytest.raises((ValueError, TraitError), match=message):
        explorer.set_trait(*next(iter(state.items())))
    assert (explorer.kind, explorer.threshold, explorer.iou_threshold) == ("cat", 0.5, 0.5)


def test_scores_stay_apart_and_the_page_small():
    """Neighbouring float32 scores are no ties; 3,600 detections of 8 classes stay below 100 kB."""
    rng = np.random.default_rng(1)
    scores = np.sort(rng.random(3600).astype(np.float32))[::-1]
    scores[:2] = np.float32(0.01), np.nextafter(np.float32(0.01), np.float32(1))
    names = [f"class {i}" for i in range(8)]
    found = [detections([(0, 0, 9, 9)] * 3600, scores, np.arange(3600) // 2 % 8 + 1)]
    explorer = PrecisionRecallExplorer(found, [truth([(0, 0, 9, 9)])], names)
    kept = explorer.curves[0]["scores"]
    assert len(set(kept)) == len({float(s) for s in scores[np.arange(3600) // 2 % 8 == 0]})
    assert (np.float32(kept) == np.sort(scores[np.arange(3600) // 2 % 8 == 0])[::-1]).all()
    assert len(json.dumps(explorer.get_state(["curves", "iou_thresholds", "kind"]))) < 100_000


# --- the page


def page_says(tmp_path, rows):
    expression = """data.map(([marks, objects, scores, thresholds]) => ({
      points: thresholds.map((t) => m.pointAt(marks, objects, m.keptAbove(scores, t))),
      walk: m.walk(marks, objects),
      interpolated: m.interpolated(marks, objects),
      ap: ["voc07", "area"].map((metric) => m.averagePrecision(marks, objects, metric)),
      cuts: m.cuts(scores).map((k) => [k, m.keptAbove(scores, m.thresholdOf(scores, k))]),
    }))"""
    return run_node(tmp_path, "evaluate.js", expression, rows)


def nulls(values):
    """As JSON brings them from the page: null for nan."""
    return [None if math.isnan(v) else pytest.approx(v, abs=1e-12) for v in values]


def same_as_python(explorer, says):
    curve = explorer.curve()
    for threshold, point in zip(THRESHOLDS, says["points"], strict=True):
        expected = explorer.point(threshold)
        names = ["kept", "truePositive", "falsePositive", "ignored", "missed"]
        assert [point[name] for name in names] == list(expected[:5])
        assert [point["precision"], point["recall"]] == nulls(expected[5:])
    assert says["walk"]["recall"] == nulls(curve.recall)
    assert says["walk"]["precision"] == nulls(curve.precision)
    assert says["ap"] == nulls([explorer.average_precision("voc07"), explorer.average_precision("area")])


def slow_heights(recall, precision):
    """The best precision at each of the eleven recalls, with a tolerance instead of whole numbers."""
    pairs = list(zip(recall, precision, strict=True))
    return [max((p for r, p in pairs if r >= j / 10 - 1e-9), default=0) for j in range(11)]


@needs_node
def test_the_page_computes_the_same(cases, tmp_path):
    explorers = [
        shown(case, kind, iou_threshold=IOU_THRESHOLDS[i % 10])
        for i, case in enumerate(cases)
        for kind in CLASSES[:2]
    ]
    rows = []
    for explorer in explorers:
        described = next(c for c in explorer.curves if c["name"] == explorer.kind)
        marks = described["marks"][IOU_THRESHOLDS.index(explorer.iou_threshold)]
        rows.append([marks, described["num_objects"], described["scores"], THRESHOLDS])
    assert {"T", "F", "I"} <= set("".join(row[0] for row in rows))
    for explorer, row, says in zip(explorers, rows, page_says(tmp_path, rows), strict=True):
        same_as_python(explorer, says)
        curve = explorer.curve()
        heights = slow_heights(curve.recall, curve.precision) if curve.num_objects else [math.nan] * 11
        assert says["interpolated"] == nulls(heights)
        lengths = [0, *(sum(s >= score for s in row[2]) for score in sorted(set(row[2]), reverse=True))]
        assert says["cuts"] == [[k, k] for k in lengths]


@needs_node
def test_the_page_gives_published_and_exact_numbers(tmp_path):
    """The original's own test; and every recall k / 10 reached exactly, where floating point loses some."""
    rows = [[CAFFE, 5, [], []], *([["T" * k, 10, [], []] for k in range(1, 11)])]
    caffe, *exact = [says["ap"][0] for says in page_says(tmp_path, rows)]
    assert caffe == pytest.approx(0.598662, abs=1e-6)
    assert exact == pytest.approx([(k + 1) / 11 for k in range(1, 11)])


@needs_node
def test_the_stairs_enclose_the_area(cases, tmp_path):
    flags = [c for case in cases if (c := shown(case).curve()).num_objects]
    data = [
        {"recall": c.recall.tolist(), "best": np.maximum.accumulate(c.precision[::-1])[::-1].tolist()}
        for c in flags
    ]
    drawn = run_node(tmp_path, "precision_recall_explorer.js", "data.map(m.stairs)", data)
    for curve, corners in zip(flags, drawn, strict=True):
        x, y = np.array(corners).T
        area = float(np.sum(np.diff(x) * y[1:]))  # every rise of recall is level
        expected = average_precision(curve.true_positive, curve.false_positive, curve.num_objects, "area")
        assert area == pytest.approx(expected)
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) <= 1e-12).all()
        assert corners[-1] == [1, 0]


@needs_node
def test_every_detection_has_a_cell_of_its_own(tmp_path):
    expression = """data.map((n) => {
      const { cell, columns } = m.gridOf(n, AREA);
      const centre = (i) => [AREA.left + (i % columns + 0.5) * cell, AREA.top + (Math.floor(i / columns) + 0.5) * cell];
      return { cell, columns, found: Array.from({ length: n }, (_, i) => m.detectionAt(...centre(i), n, AREA)) };
    })""".replace("AREA", json.dumps(SMALL))
    numbers = [1, 2, 12, 99, 100, 267, 596, 5000]
    for number, grid in zip(
        numbers, run_node(tmp_path, "precision_recall_explorer.js", expression, numbers), strict=True
    ):
        assert grid["found"] == list(range(number))
        assert grid["columns"] * grid["cell"] <= SMALL["width"]
        assert math.ceil(number / grid["columns"]) * grid["cell"] <= SMALL["height"]
    beside = f"[[0, 0], [9999, 40], [60, 9999]].map(([x, y]) => m.detectionAt(x, y, 30, {json.dumps(SMALL)}))"
    assert run_node(tmp_path, "precision_recall_explorer.js", beside) == [0, 11, 29]
    nearest = "m.nearestPoint([[0, 0], [10, 0], [10, 8]], [9, 5])"
    assert run_node(tmp_path, "precision_recall_explorer.js", nearest) == 2


@needs_node
def test_the_sentence(tmp_path):
    point = {"kept": 3, "truePositive": 2, "falsePositive": 1, "ignored": 0, "missed": 1}
    point |= {"precision": 2 / 3, "recall": 2 / 3}
    rest = {"detections": 4, "objects": 3, "iou": 0.5, "ap": {"voc07": 0.5, "area": 0.25}}
    expression = (
        "[m.sentence(data[0], 0.5, data[1]), m.sentence({...data[0], kept: 0, recall: NaN}, 2, data[1])]"
    )
    said, nothing = run_node(tmp_path, "precision_recall_explorer.js", expression, [point, rest])
    assert said == (
        "Score at least 0.500: 3 of 4 detections kept. 2 true positives, 1 false positive, 0 ignored; "
        "1 of 3 objects missed (false negatives). Precision 0.667, recall 0.667. "
        "AP of the whole list at IoU 0.50: 0.500 by 11 points, 0.250 by area."
    )
    assert nothing.startswith("No score is so high: 0 of 4 detections kept.")
    assert "recall not defined" in nothing
