"""Figures of 06: what is drawn equals what was given."""

import numpy as np

from ssdedu.course.display import _check_readable
from ssdedu.course.figures import loss as figures


def test_bars_are_the_two_losses_end_to_end_with_the_map_beside_them():
    fig = figures.answer_bars({"a": (8.0, 3.0), "b": (1.0, 0.5)}, {"a": 0.0, "b": 0.924})
    _check_readable(fig)
    ax = fig.axes[0]
    assert [(p.get_x(), p.get_width()) for p in ax.patches] == [(0, 8), (0, 1), (8, 3), (1, 0.5)]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.texts] == ["mAP 0.00", "mAP 0.92"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["confidence", "localization"]
    assert ax.yaxis_inverted()


def test_a_curve_for_each_loss_in_each_panel():
    panels = {"loss": {"L1": [2, 0, 2], "L2": [2, 0, 2.5]}, "gradient": {"L1": [-1, 0, 1], "L2": [-2, 0, 2]}}
    fig = figures.loss_shapes([-2, 0, 2], panels)
    _check_readable(fig)
    for ax, (title, lines) in zip(fig.axes, panels.items(), strict=True):
        assert ax.get_title() == title
        assert {line.get_label(): list(line.get_ydata()) for line in ax.lines} == lines
        assert all(list(line.get_xdata()) == [-2, 0, 2] for line in ax.lines)


def test_the_dot_is_at_the_lowest_loss_and_the_line_at_the_trained_one():
    probability, losses = [0.2, 0.75, 0.99], [8.0, 4.3, 9.0]
    fig = figures.background_curves(probability, {"one": (losses, 1.5), "two": (losses[::-1], 0.1)})
    _check_readable(fig)
    for ax, y, trained in zip(fig.axes, (losses, losses[::-1]), (1.5, 0.1), strict=True):
        curve, dot, line = ax.lines
        assert list(curve.get_ydata()) == y
        assert np.allclose(dot.get_xydata(), [[0.75, 4.3]])
        assert list(line.get_ydata()) == [trained, trained]
        assert ax.get_xscale() == "logit"
