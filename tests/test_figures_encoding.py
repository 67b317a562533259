"""Figures of 04: what is drawn equals what was given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from ssdedu.course.display import _check_readable
from ssdedu.course.figures import encoding as figures


def test_panels_show_the_image_and_each_box_of_each_panel():
    image = np.zeros((20, 30, 3), np.uint8)
    panels = {"one": [(1, 2, 11, 8)], "two": [(0, 0, 5, 5), (-4, 3, 40, 9)]}
    fig = figures.box_panels(image, panels, margin_px=5)
    _check_readable(fig)
    assert [ax.get_title() for ax in fig.axes] == ["one", "two"]
    for ax, boxes in zip(fig.axes, panels.values(), strict=True):
        assert ax.images[0].get_array().shape == (20, 30, 3)
        assert (ax.get_xlim(), ax.get_ylim()) == ((-5, 35), (25, -5))
        drawn = [tuple(line.get_xydata()[[0, 2]].ravel()) for line in ax.lines]
        assert drawn == boxes


def test_boxes_of_one_panel_differ_in_colour_also_when_there_are_many():
    fig = figures.box_panels(np.zeros((9, 9, 3), np.uint8), {"many": [(0, 0, i, i) for i in range(1, 9)]})
    colors = [to_hex(line.get_color()) for line in fig.axes[0].lines]
    assert len(colors) == 8
    assert len(set(colors)) == 7


def test_iou_is_drawn_over_the_ratio_and_over_its_logarithm():
    factors, iou = [0.25, 0.5, 1, 2, 4], [0.25, 0.5, 1, 0.5, 0.25]
    fig = figures.iou_over_width(factors, iou)
    _check_readable(fig)
    left, right = (ax.lines[0] for ax in fig.axes)
    assert left.get_xdata().tolist() == [-0.75, -0.5, 0, 1, 3]
    assert np.allclose(right.get_xdata(), np.log(factors))
    assert list(left.get_ydata()) == list(right.get_ydata()) == iou
    dots = [[tuple(line.get_xydata()[0]) for line in ax.lines[1:]] for ax in fig.axes]
    assert np.allclose(dots, [[(-0.5, 0.5), (1, 0.5)], [(-np.log(2), 0.5), (np.log(2), 0.5)]])
    assert {"half", "twice"} <= {text.get_text() for text in fig.axes[0].texts}
    bands = [ax.patches[0].get_extents().transformed(ax.transData.inverted()) for ax in fig.axes]
    assert np.allclose([(b.x0, b.x1) for b in bands], [(-0.5, 1), (-np.log(2), np.log(2))])


def test_a_histogram_holds_all_offsets_within_the_limit():
    offsets = np.random.default_rng(0).normal(0, (0.5, 1, 1.5, 9), (1000, 4))
    fig = figures.target_histograms({"wide": (offsets, 0.5), "narrow": (offsets / 10, 0.1)})
    _check_readable(fig)
    for ax, (values, width) in zip(fig.axes, [(offsets, 0.5), (offsets / 10, 0.1)], strict=True):
        assert [line.get_label() for line in ax.lines] == ["cx", "cy", "w", "h"]
        for line, column in zip(ax.lines, values.T, strict=True):
            inside = (np.abs(column) < 5 + width / 2).mean()
            assert np.sum(line.get_ydata()) * width == pytest.approx(inside)
    band = fig.axes[0].patches[0].get_extents().transformed(fig.axes[0].transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-1, 1))


def test_a_bin_counts_what_lies_about_its_middle():
    middle, density = figures._density(np.array([-0.2, 0.0, 0.2, 0.9]), 0.5, 1)
    assert middle.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert density.tolist() == [0, 0, 1.5, 0, 0.5]
