"""What the figures of `07_hard_negative_mining` draw equals what they were given."""

import numpy as np
from cases import texts

from ssdedu.course.figures import hard_negative_mining as figures


def test_chosen_boxes_are_those_given():
    image = np.full((20, 40, 3), 200, np.uint8)
    fig = figures.chosen_boxes(image, {"one": ([(10, 5, 4, 2)], True), "none": ([], False)})
    one, none = fig.axes
    assert [p.get_bbox().bounds for p in one.patches] == [(8, 4, 4, 2)]
    assert [len(none.patches), one.get_title(), none.get_title()] == [0, "one", "none"]
    assert (one.get_xlim(), one.get_ylim()) == ((0, 40), (20, 0))
    assert int(one.images[0].get_array()[0, 0, 0]) == 128 + 100


def test_positives_and_negatives_look_different():
    image = np.zeros((10, 10, 3), np.uint8)
    fig = figures.chosen_boxes(image, {"p": ([(5, 5, 2, 2)], True), "n": ([(5, 5, 2, 2)], False)})
    positive, negative = (ax.patches[0] for ax in fig.axes)
    assert positive.get_edgecolor() != negative.get_edgecolor()
    assert positive.get_linestyle() != negative.get_linestyle()


def test_rank_lines_lead_each_box_to_its_place():
    fig = figures.rank_lines([0.5, 2.0, 1.0], [1, 2, 0], [2, 0, 1], chosen=1)
    (ax,) = fig.axes
    ends = [tuple(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 2]
    assert ends[:3] == [(0, -2), (-1, 0), (-2, -1)]
    assert "box 0: loss 0.5,  rank[0] = 2" in texts(ax)
    assert "place 0:  order[0] = 1" in texts(ax)


def test_share_curves_show_every_share():
    fig = figures.share_curves({"a": np.array([0.5, 1.0]), "b": np.array([0.1, 1.0])}, kept=1.5)
    (ax,) = fig.axes
    assert [line.get_ydata().tolist() for line in ax.lines[:2]] == [[0.5, 1.0], [0.1, 1.0]]
    assert list(ax.lines[2].get_xdata()) == [1.5, 1.5]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
