"""What the figures of `09_detection` draw equals what they were given."""

import numpy as np
import pytest
import torch
from cases import sample_of

from ssdedu import boxes
from ssdedu.course.figures import detection as figures
from ssdedu.widgets import NmsExplorer

IMAGE = np.full((100, 200, 3), 255, np.uint8)


def bounds(ax):
    return [p.get_bbox().bounds for p in ax.patches]


def test_labelled_boxes_are_those_given():
    entries = [((50, 40, 20, 10), 1, "disc 0.90"), ((100, 50, 40, 60), 2, "")]
    fig = figures.labelled_boxes(IMAGE, {"two": entries, "none": []})
    two, none = fig.axes
    assert bounds(two) == [(40, 35, 20, 10), (80, 20, 40, 60)]
    assert [t.get_text() for t in two.texts] == ["disc 0.90"]
    assert (two.get_title(), none.get_title(), bounds(none)) == ("two", "none", [])
    assert two.images[0].get_array().min() >= 160


def test_the_first_twenty_labels_all_look_different():
    assert len({figures._look(label) for label in range(1, 21)}) == 20


@pytest.mark.parametrize("center", [(2, 2), (198, 2), (2, 98), (198, 98), (100, 50)])
def test_texts_stay_inside_the_picture(center):
    entries = [((*center, 4, 4), 1, "triangle 0.98")] * 2
    fig = figures.labelled_boxes(IMAGE, {"one": entries})
    fig.canvas.draw()
    picture = fig.axes[0].get_window_extent()
    for text in fig.axes[0].texts:
        box = text.get_window_extent()
        assert picture.x0 <= box.x0 <= box.x1 <= picture.x1
        assert picture.y0 - 1 <= box.y0 <= box.y1 <= picture.y1 + 1


def test_steps_show_kept_dropped_and_waiting():
    step = figures.Step([(10, 10, 4, 4)], [(20, 20, 4, 4), (21, 20, 4, 4)], [(50, 50, 2, 2)])
    fig = figures.suppression_steps(IMAGE, {"step 1": step})
    (ax,) = fig.axes
    assert [p.get_label() for p in ax.patches] == ["waiting", *["dropped in this step"] * 2, "kept"]
    assert bounds(ax) == [(49, 49, 2, 2), (18, 18, 4, 4), (19, 18, 4, 4), (8, 8, 4, 4)]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["waiting", "dropped in this step", "kept"]


def test_curves_show_every_value():
    panels = {"a": ([0, 1], {"recall": [0.9, 0.1], "mAP": [0.8, 0.2]}), "b": ([0, 2], {"recall": [0.5, 0.6]})}
    fig = figures.threshold_curves(panels, (0.3, 1.5))
    a, b = fig.axes
    assert [list(line.get_ydata()) for line in a.lines[:2]] == [[0.9, 0.1], [0.8, 0.2]]
    assert [list(ax.lines[-1].get_xdata()) for ax in (a, b)] == [[0.3, 0.3], [1.5, 1.5]]
    assert (a.get_xlabel(), b.get_xlabel()) == ("a", "b")
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["recall", "mAP", "SSD's value"]


@pytest.fixture
def explorer():
    """Two cats in a row with a box between them, a dog's box elsewhere; the second cat overlaps the first."""
    corners = torch.tensor(
        [[0, 0, 0.5, 0.5], [0.125, 0, 0.625, 0.5], [0.25, 0, 0.75, 0.5], [0, 0.75, 1, 1.25]]
    )
    scores = torch.tensor([[0.1, 0.9, 1e-6], [0.2, 0.8, 1e-6], [0.3, 0.7, 1e-6], [0.4, 1e-6, 0.6]])
    sample = sample_of(IMAGE, [corners[0].tolist(), corners[2].tolist()], [1, 1])
    priors = boxes.xyxy_to_cxcywh(corners)
    return NmsExplorer(sample, torch.zeros(4, 4), scores.log(), priors, ("cat", "dog"))


def test_the_strip_shows_what_is_kept_suppressed_and_missed(explorer):
    fig = figures.suppression_strip(explorer, (0.3, 0.45, 0.9))
    titles = ["0.3: 2 kept,\n1 of 2", "0.45: 3 kept,\n2 of 2", "0.9: 4 kept,\n2 of 2"]
    assert [ax.get_title() for ax in fig.axes] == [f"IoU threshold {t} objects found" for t in titles]
    low, usual, high = ([p.get_label() for p in ax.patches] for ax in fig.axes)
    assert low == ["suppressed"] * 2 + ["missed"] + ["kept"] * 2
    assert usual == ["suppressed"] + ["kept"] * 3
    assert high == ["kept"] * 4
    assert bounds(fig.axes[0]) == [
        (25, 0, 100, 50),
        (50, 0, 100, 50),
        (50, 0, 100, 50),
        (0, 75, 200, 25),
        (0, 0, 100, 50),
    ]


def test_the_strip_gives_each_suppressed_box_its_suppressors_colour(explorer):
    first, *_, dog, cat = figures.suppression_strip(explorer, (0.3,)).axes[0].patches
    assert first.get_edgecolor() == cat.get_edgecolor() != dog.get_edgecolor()
    assert first.get_linestyle() != cat.get_linestyle()
