"""The score explorer: what it counts in Python and in JavaScript, and what its figures draw."""

import numpy as np
import pytest
import torch
from cases import noise, sample_of, slow_iou
from node import needs_node, run_node

from ssdedu.course.figures import start_here
from ssdedu.detect import Detections
from ssdedu.widgets import ScoreExplorer

CLASSES = ("cat", "dog")
THRESHOLDS = (0.0, 0.1, 0.35, 0.5, 0.7, 0.9, 1.0)


@pytest.fixture
def case():
    """Three objects; right, duplicate, wrong class, badly placed and background detections, unsorted."""
    sample = sample_of(noise(60, 40), [[0, 0, 0.4, 0.5], [0.5, 0.5, 0.9, 1], [0.6, 0, 1, 0.4]], [1, 2, 1])
    boxes = [
        [0, 0, 0.4, 0.45],
        [0, 0, 0.38, 0.5],
        [0.5, 0.5, 0.9, 1],
        [0.5, 0.5, 0.9, 0.95],
        [0.7, 0.3, 1, 0.9],
        [0.62, 0, 1, 0.4],
    ]
    scores, labels = [0.5, 0.9, 0.8, 0.35, 0.95, 0.1], [1, 1, 1, 2, 2, 1]
    return sample, Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


def slow_counts(sample, found, threshold):
    taken, shown, correct = set(), 0, 0
    for i in sorted(range(len(found)), key=lambda i: -float(found.scores[i])):
        if float(found.scores[i]) <= threshold:
            continue
        shown += 1
        overlaps = [
            slow_iou(found.boxes_xyxy[i].tolist(), b) if label == found.labels[i] else 0
            for b, label in zip(sample.boxes_xyxy.tolist(), sample.labels, strict=True)
        ]
        best = int(np.argmax(overlaps))
        if overlaps[best] >= 0.5 and best not in taken:
            taken.add(best)
            correct += 1
    return shown, correct, shown - correct, len(sample.labels) - correct


def test_counts_against_a_loop(case):
    explorer = ScoreExplorer(*case, CLASSES)
    for threshold in THRESHOLDS:
        assert explorer.counts(threshold) == slow_counts(*case, threshold)
    explorer.threshold = 0.7
    assert explorer.counts() == explorer.counts(0.7)
    assert repr(explorer) == "ScoreExplorer: 6 detections, 3 objects"


def test_nothing_found_and_nothing_there():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    explorer = ScoreExplorer(sample_of(noise(), []), nothing, CLASSES)
    assert explorer.counts(0) == (0, 0, 0, 0)
    assert explorer.image.startswith("data:image/png;base64,")
    assert explorer.size_px == [50, 38]


@needs_node
def test_the_page_counts_the_same(case, tmp_path):
    explorer = ScoreExplorer(*case, CLASSES)
    data = [explorer.detections, explorer.objects, THRESHOLDS]
    counted = run_node(
        tmp_path, "score_explorer.js", "data[2].map((t) => m.counts(data[0], data[1], t))", data
    )
    assert counted == [explorer.counts(t)._asdict() for t in THRESHOLDS]
    text = run_node(tmp_path, "score_explorer.js", "m.sentence(m.counts(data[0], data[1], 0.5), 0.5)", data)
    assert text == "Above 0.50: 3 boxes, 1 correct, 2 wrong; 2 objects missed."


def test_the_strip_draws_the_boxes_above_each_threshold(case):
    fig = start_here.detection_strip(*case, CLASSES, (0.2, 0.85))
    left, right = fig.axes
    assert [len(left.patches), len(right.patches)] == [2 * 5, 2 * 2]
    assert right.get_title() == "score > 0.85: 2 boxes"
    assert [t.get_text() for t in right.texts] == ["dog", "cat"]  # the last given lies below
    assert right.patches[2].get_bbox().bounds == pytest.approx((0, 0, 0.38 * 60, 20))


def test_the_map_names_every_notebook_of_a_station():
    fig = start_here.course_map()
    written = " ".join(t.get_text() for t in fig.axes[0].texts)
    assert all(f"{n:02d}" in written for n in range(1, 14))
    assert len(fig.axes[0].patches) == 12
