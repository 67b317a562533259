"""The figures of notebook 11 show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from cases import noise, sample_of

from ssdedu.course.figures import training
from ssdedu.detect import Detections


def test_smoothing_is_a_mean_over_the_last_values():
    assert training.smoothed([3.0, 1.0, 5.0, 7.0], 2).tolist() == [3, 2, 3, 6]
    assert training.smoothed([3.0, 1.0], 1).tolist() == [3, 1]
    assert training.smoothed([], 3).tolist() == []


def test_curves_of_unequal_length():
    fig = training.loss_curves({"a": [4.0, 2.0, 0.0], "cut": [9.0]}, width=2, top=10)
    first, second = fig.axes[0].lines
    assert first.get_xydata().tolist() == [[1, 4], [2, 3], [3, 1]]
    assert second.get_xydata().tolist() == [[1, 9]]
    assert fig.axes[0].get_ylim() == (0, 10)


def test_a_level_is_a_named_line_across():
    fig = training.loss_curves({"a": [4.0, 2.0]}, levels={"blind": 3.5})
    assert list(fig.axes[0].lines[1].get_ydata()) == [3.5, 3.5]
    assert [(t.get_text(), t.get_position()[1]) for t in fig.axes[0].texts] == [("blind", 3.5)]


def test_rates_run_over_the_whole_schedule():
    fig = training.rates({"steps": [1, 0.1, 0.01], "cosine": [0.5, 1]})
    assert fig.axes[0].lines[0].get_xydata().tolist() == [[0, 1], [0.5, 0.1], [1, 0.01]]
    assert fig.axes[0].lines[1].get_xydata().tolist() == [[0, 0.5], [1, 1]]


def test_a_panel_for_each_snapshot_with_what_is_above_the_score():
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.9, 0.9]])
    found = Detections(boxes, torch.tensor([0.9, 0.2]), torch.tensor([1, 2]))
    sample = sample_of(noise(20, 20), [[0, 0, 1, 1]])
    fig = training.progress_strip(sample, {0: found, 50: found.above(0.5)}, ("cat", "dog"), score=0.1)
    assert [ax.get_title() for ax in fig.axes] == ["step 0", "step 50"]
    assert [[t.get_text() for t in ax.texts] for ax in fig.axes] == [["dog", "cat"], ["cat"]]
    measured = training.progress_strip(sample, {50: found}, ("cat", "dog"), mean_ap={50: 0.256})
    assert measured.axes[0].get_title() == "step 50\nmAP 0.26"
    plt.close(measured)
    np.testing.assert_allclose(fig.axes[1].patches[0].get_bbox().bounds, (2, 2, 8, 8), rtol=1e-6)


def test_a_panel_shows_no_more_than_the_best():
    found = Detections(torch.rand(9, 4).sort().values, torch.linspace(0.9, 0.5, 9), torch.ones(9, dtype=int))
    fig = training.progress_strip(sample_of(noise(20, 20), []), {0: found}, ("cat",), most=4)
    assert len(fig.axes[0].texts) == 4
