"""The figures of notebook 10 show what they are given."""

import numpy as np
import pytest
from cases import CLASSES, detections, truth

from ssdedu.course.display import _check_readable
from ssdedu.course.figures import evaluation as figures
from ssdedu.evaluate import average_precision, evaluate_voc

RECALL, PRECISION, MARKS = [0.25, 0.25, 0.25, 0.5, 0.75], [1, 0.5, 0.5, 2 / 3, 0.75], [1, 0, -1, 1, 1]


def test_class_curves_name_some_classes_and_draw_all():
    found = [detections([(0, 0, 9, 9), (20, 0, 29, 9)], [0.9, 0.8], [1, 2])]
    truths = [truth([(0, 0, 9, 9), (20, 0, 29, 9)], [1, 2])]
    result = evaluate_voc(found, truths, CLASSES)
    fig = figures.class_curves(result, ["dog"])
    _check_readable(fig)
    (ax,) = fig.axes
    assert [line.get_xdata().tolist() for line in ax.lines] == [c.recall.tolist() for c in result.curves]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dog: AP 1.00"]


def test_ranked_boxes_draws_objects_then_numbered_detections():
    fig = figures.ranked_boxes(
        {"A": (10, 20, 40, 50), "far": (60, 5, 70, 9)}, ["far"], [(12, 20, 44, 50)], (80, 60)
    )
    _check_readable(fig)
    (ax,) = fig.axes
    _, *drawn = ax.patches
    assert [p.get_bbox().bounds for p in drawn] == [(10, 20, 30, 30), (60, 5, 10, 4), (12, 20, 32, 30)]
    assert [p.get_hatch() for p in drawn] == [None, "///", None]
    assert [t.get_text() for t in ax.texts] == ["A", "1"]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["object", "difficult object", "detection"]


def test_curve_steps_grows_by_one_detection_a_panel():
    fig = figures.curve_steps(RECALL, PRECISION, MARKS)
    _check_readable(fig)
    panels = [ax for ax in fig.axes if ax.lines]
    assert [len(ax.lines[0].get_xdata()) for ax in panels] == [1, 2, 3, 4, 5, 5]
    words = [ax.get_title().split(": ")[-1] for ax in panels]
    assert words == ["true", "false", "ignored", "true", "true", "best from here on"]
    ends = [ax.lines[1].get_xydata().tolist() for ax in panels[:-1]]
    assert ends == [[[r, p]] for r, p in zip(RECALL, PRECISION, strict=True)]
    assert panels[-1].lines[1].get_ydata().tolist() == [1, 1, 0.75, 0.75, 0.75, 0.75, 0, 0]


def test_two_averages_are_the_evaluations_own():
    fig, facts = figures.two_averages(RECALL, PRECISION)
    _check_readable(fig)
    true, false = np.array(MARKS) == 1, np.array(MARKS) == 0
    assert facts["11 points"] == pytest.approx(average_precision(true, false, 4))
    assert facts["area"] == pytest.approx(average_precision(true, false, 4, "area"))
    assert [bar.get_height() for bar in fig.axes[1].patches] == [1, 0.75, 0.75]


def test_change_bars_are_as_long_as_the_changes():
    changes = {"area": 3.8, "nothing": 0.0, "only the best": -20.5}
    fig = figures.change_bars(changes)
    _check_readable(fig)
    (ax,) = fig.axes
    assert [p.get_width() for p in ax.patches] == list(changes.values())
    assert [t.get_text() for t in ax.get_yticklabels()] == list(changes)
    assert [t.get_text() for t in ax.texts] == ["+3.8", "+0.0", "-20.5"]


def test_threshold_strip_marks_what_is_kept_and_where_that_lies_on_the_curve():
    box, far = (0, 0, 9, 9), (20, 0, 29, 9)
    found = [detections([box, (40, 0, 49, 9), far, box, (50, 0, 59, 9)], [0.9, 0.8, 0.6, 0.4, 0.2])]
    truths = [truth([box, far, (40, 0, 49, 9)], difficult=[False, False, True])]
    curve = evaluate_voc(found, truths, CLASSES).curves[0]
    assert (curve.true_positive * 1 - curve.ignored * 1).tolist() == [1, -1, 1, 0, 0]
    fig = figures.threshold_strip(curve, (0.85, 0.6, 0.1))
    _check_readable(fig)
    lists, plots = fig.axes[:3], fig.axes[3:]
    assert [ax.get_title() for ax in lists] == [
        "score ≥ 0.85: 1 kept",
        "score ≥ 0.6: 3 kept",
        "score ≥ 0.1: 5 kept",
    ]
    places = [[line.get_xdata().tolist() for line in ax.lines] for ax in lists]
    assert [p[:-1] for p in places] == [
        [[0], [2], [], [3, 4], [], [1]],  # true, false, ignored: each above and below the threshold
        [[0, 2], [], [], [3, 4], [1], []],
        [[0, 2], [], [3, 4], [], [1], []],
    ]
    assert [p[-1][1:] for p in places] == [[x, x, -0.5] for x in (0.5, 2.5, 4.5)]
    ends = [ax.lines[-1].get_xydata().tolist() for ax in plots]
    assert ends == [[[0.5, 1]], [[1, 1]], [[1, 0.5]]]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["true", "false", "ignored"]
