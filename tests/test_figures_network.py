"""Figures of `05_network`: what is drawn equals what was given."""

import numpy as np
import pytest
from cases import texts

from ssdedu.course.display import _check_readable
from ssdedu.course.figures import network as figures

BOXES = {"conv4_3": 5776, "fc7": 2166, "conv8_2": 600}


def test_blocks_are_as_high_as_the_root_of_their_cells_and_named_below():
    fig = figures.blocks({"image": (3, 300), "fc7": (1024, 75)}, {"fc7": 2166})
    first, second = fig.axes[0].patches
    assert first.get_height() == pytest.approx(2 * second.get_height())
    assert first.get_facecolor() != second.get_facecolor()
    assert {"image", "300²", "3", "fc7", "75²", "1,024", "2,166"} <= set(texts(fig.axes[0]))
    _check_readable(fig)


def test_taps_show_the_kept_weights_and_the_distances():
    kept = np.zeros((7, 7), bool)
    kept[::3, ::3] = True
    fig = figures.taps(kept, [-96, -64, -32, 0, 32, 64, 96], [-96, 0, 96])
    left, right = fig.axes
    assert left.collections[0].get_array().reshape(7, 7).astype(bool).tolist() == kept.tolist()
    assert "9 of 49" in left.get_title()
    dense, sparse = right.lines
    assert (len(dense.get_xdata()), len(sparse.get_xdata())) == (49, 9)
    assert {*sparse.get_xdata(), *sparse.get_ydata()} == {-96, 0, 96}
    _check_readable(fig)


def test_strengths_are_sorted_and_dead_channels_lie_on_the_floor():
    fig = figures.strengths({"a": np.array([0.0, 3.0, 20.0]), "b": np.array([1.0, 2.0])}, floor=0.1)
    a, b = fig.axes[0].lines
    assert a.get_ydata().tolist() == [20, 3, 0.1]
    assert b.get_xdata().tolist() == [0.25, 0.75]
    assert [a.get_label(), b.get_label()] == ["a", "b"]
    assert texts(fig.axes[0]) == ["what is below 0.1 is drawn at 0.1"]
    assert a.get_linestyle() != b.get_linestyle()
    _check_readable(fig)


def test_path_marks_cell_channel_and_row():
    fig = figures.path((19, 19), (9, 12), (6, 21), (2, 13), BOXES, 6876)
    grid, channels, rows = fig.axes
    for ax, shape, where in ((grid, (19, 19), (9, 12)), (channels, (6, 21), (2, 13))):
        marks = ax.collections[0].get_array().reshape(shape)
        assert np.argwhere(marks).tolist() == [list(where)]
    assert channels.get_title() == "channel 55"
    assert rows.lines[0].get_ydata() == pytest.approx([6876, 6876])
    assert [p.get_height() for p in rows.patches] == list(BOXES.values())
    assert texts(rows) == list(BOXES)
    assert rows.get_yticks().tolist() == [0, 6876, sum(BOXES.values()) - 1]
    _check_readable(fig)


def test_shares_are_drawn_in_percent():
    fig = figures.shares({"base": (0.75, 0.9), "heads": (0.25, 0.1)}, ("parameters", "work"))
    ax = fig.axes[0]
    assert [p.get_width() for p in ax.patches] == pytest.approx([75, 25, 90, 10])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["base", "heads"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["parameters", "work"]
    _check_readable(fig)
