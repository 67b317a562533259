"""The figures of notebook 14 show what they are given."""

import numpy as np
import torch

from ssdedu.course.display import _check_readable
from ssdedu.course.figures import voc as figures
from ssdedu.datasets.shapes import CLASSES, draw_scene
from ssdedu.detect import Detections


def test_speed_accuracy_draws_a_marker_for_each_row_hollow_where_batches_are_larger():
    rows = [
        figures.Speed("Old", 73.2, 7, 1, 6000),
        figures.Speed("SSD9", 74.3, 46, 1, 8732),
        figures.Speed("SSD9", 74.3, 59, 8, 8732),
    ]
    fig = figures.speed_accuracy(rows)
    _check_readable(fig)
    (ax,) = fig.axes
    markers = [line for line in ax.lines if line.get_marker() != "None"]
    assert [line.get_xydata().tolist() for line in markers] == [[[r.fps, r.map_percent]] for r in rows]
    assert [line.get_markerfacecolor() == "white" for line in markers] == [False, False, True]
    assert [t.get_text() for t in ax.texts] == ["Old\n6,000 boxes", "batch 1", "batch 8", "SSD9\n8,732 boxes"]
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] < 7
    assert ax.get_xlim()[1] > 59


def test_found_in_names_and_frames_what_was_found_in_each_photo():
    samples = [draw_scene(1, 0), draw_scene(1, 1)]
    box = torch.tensor([[0.25, 0.5, 0.75, 1.0]])
    found = [
        Detections(box, torch.ones(1), torch.tensor([3])),
        Detections(box[:0], torch.ones(0), torch.ones(0)),
    ]
    fig = figures.found_in(samples, found, CLASSES)
    _check_readable(fig)
    first, second = fig.axes
    assert {p.get_bbox().bounds for p in first.patches} == {(32, 64, 64, 64)}
    assert [t.get_text() for t in first.texts] == ["square"]
    assert [ax.get_title() for ax in fig.axes] == ["128 x 128 px"] * 2
    assert not second.patches
    for ax, sample in zip(fig.axes, samples, strict=True):
        assert np.array_equal(ax.images[0].get_array(), sample.image)


def test_score_bars_are_as_long_as_the_values_and_the_first_stands_out():
    values = {"right": 90.2, "worse": 68.9, "nothing": 0.0}
    fig = figures.score_bars(values)
    _check_readable(fig)
    (ax,) = fig.axes
    assert [p.get_width() for p in ax.patches] == list(values.values())
    assert [t.get_text() for t in ax.get_yticklabels()] == list(values)
    assert [t.get_text() for t in ax.texts] == ["90", "69", "0"]
    colors = [p.get_facecolor() for p in ax.patches]
    assert colors[0] != colors[1] == colors[2]


def test_a_measured_run_shows_both_parts_of_the_loss_and_every_class_best_first():
    log = [{"step": s, "confidence": 3.0 / s, "localization": 1.0 / s} for s in (1, 2, 3)]
    ap = {"bird": 0.25, "cat": 0.75, "bottle": 0.125}
    fig = figures.measured_run({"log": log, "ap": ap, "mean_ap": 0.375})
    _check_readable(fig)
    left, right = fig.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[3.0, 1.5, 1.0], [1.0, 0.5, 1 / 3]]
    assert [t.get_text() for t in left.get_legend().get_texts()] == ["confidence", "localization"]
    assert [t.get_text() for t in right.get_yticklabels()] == ["cat", "bird", "bottle"]
    assert [bar.get_width() for bar in right.patches] == [75, 25, 12.5]
    assert list(right.lines[0].get_xdata()) == [37.5, 37.5]
    assert right.get_legend().get_texts()[0].get_text() == "mean 37.5"


def test_a_measured_run_shows_another_detectors_ap_beside_its_own():
    run = {"log": [], "ap": {"bird": 0.25, "cat": 0.75}, "mean_ap": 0.5}
    fig = figures.measured_run(run, {"cat": 0.875, "bird": 0.125}, "another")
    _check_readable(fig)
    mean, marks = fig.axes[1].lines
    assert marks.get_xydata().tolist() == [[87.5, 0], [12.5, 1]]
    assert (marks.get_linestyle(), marks.get_marker()) == ("None", "D")
    assert [t.get_text() for t in fig.axes[1].get_legend().get_texts()] == [mean.get_label(), "another"]
    assert [(t.get_text(), t.get_position(), t.get_color()) for t in fig.axes[1].texts] == [
        ("75", (1, 0), "white"),
        ("25", (1, 1), "white"),
    ]


def test_photos_are_as_wide_as_asked_for():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))
    wide, narrow = (figures.found_in([draw_scene(1, 0)], [nothing], CLASSES, width) for width in (8, 6))
    assert [fig.get_size_inches()[0] for fig in (wide, narrow)] == [8, 6]
    assert wide.get_size_inches()[1] > narrow.get_size_inches()[1]
