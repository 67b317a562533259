"""Figures of `01_receptive_fields`: what is drawn equals what was given."""

import numpy as np
import pytest

from ssdedu.course.display import show
from ssdedu.course.figures import receptive_fields as figures
from ssdedu.course.figures.common import COLORS
from ssdedu.receptive_field import Layer, chain, footprint
from ssdedu.widgets.receptive_field_explorer import Cell


def readable(fig, monkeypatch):
    """Whether `show` takes the figure."""
    import IPython.display

    bundles = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: bundles.append(bundle))
    show(fig, "A figure.", {"figures": 1})
    return len(bundles) == 1


def lines(ax, marker):
    return [line for line in ax.lines if line.get_marker() == marker]


def bounds(patch):
    return patch.get_bbox().bounds


def test_views_frame_field_and_box_and_pale_the_rest(monkeypatch):
    photo = np.full((20, 30, 3), (200, 100, 30), np.uint8)
    weights = np.zeros((20, 30))
    weights[5, 6], weights[7, 8] = 4.0, 2.0
    view = figures.View(weights, (15, 10, 8, 6), (14, 9, 4, 4))
    fig = figures.views(photo, {"one": view, "two": view}, margin_px=5)
    assert [ax.get_title() for ax in fig.axes] == ["one", "two"]
    field, box = fig.axes[0].patches
    assert (bounds(field), bounds(box)) == ((11, 7, 8, 6), (12, 7, 4, 4))
    (picture,) = fig.axes[0].images
    drawn = np.asarray(picture.get_array())
    assert drawn[5, 6].tolist() == [200, 100, 30]
    assert drawn[0, 0].tolist() == [222, 222, 222]
    assert drawn[7, 8].tolist() == [211, 161, 126]
    assert fig.axes[0].get_xlim() == (-5, 35)
    assert readable(fig, monkeypatch)


def test_the_strip_frames_field_and_effective_field(monkeypatch):
    border = Cell("conv4_3", 19, 0)
    fig = figures.field_strip({"one": border, "two": Cell("fc7", 4, 5, atrous=False)})
    one, two = fig.axes
    assert [ax.get_title() for ax in fig.axes] == ["one", "two"]
    assert [bounds(p) for p in one.patches] == [(-42, 110, 92, 92), (-29, 123, 66, 66)]
    assert [bounds(p) for p in two.patches] == [(-26, -58, 404, 404), (31, -1, 290, 290)]
    dots, (cell,) = lines(two, "."), lines(two, "o")
    assert np.unique(dots[0].get_xydata()[:, 0]).tolist() == list(range(16, 305, 32))
    assert len(dots[0].get_xydata()) == 10 * 10
    assert cell.get_xydata().tolist() == [[176, 144]]
    drawn = np.asarray(one.images[0].get_array())
    weights = border.weights()
    assert (drawn[weights == weights.max()] == [230, 159, 0]).all()
    assert (drawn[weights == 0] == [226, 226, 226]).all()
    for share in (0.05, 0.36, 0.93):  # steps 0.2, 0.4, 1
        step = np.ceil(share * 5) / 5
        near = np.abs(weights / weights.max() - share) < 0.01
        expected = step * np.array([230, 159, 0]) + (1 - step) * (200 + 0.2 * 389 / 3)
        assert np.abs(drawn[near] - expected).max() <= 0.5
    assert (drawn[155, 50] == [226, 226, 226]).all()  # the first pixel right of the field
    assert (drawn[155, 49] != [226, 226, 226]).any()
    assert one.get_xlim() == two.get_xlim() == (-86, 386)
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["receptive field", "effective field"]
    assert readable(fig, monkeypatch)


@pytest.mark.parametrize(
    ("layers", "size", "index", "under_padding"),
    [
        ([Layer(3, 2, 1, name="a"), Layer(3, 2, 1, name="b")], 5, 1, 3),
        ([Layer(2, 2, name="a"), Layer(3, padding=1, dilation=2, name="b")], 12, 2, 0),
    ],
)
def test_tower_colours_what_the_cell_sees(layers, size, index, under_padding, monkeypatch):
    fig = figures.tower(layers, size, index)
    (ax,) = fig.axes
    squares = lines(ax, "s")
    seen = {
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in squares
        if line.get_markerfacecolor() == COLORS[0]
    }
    fields = chain(layers, size)
    expected = {(pixel + 0.5, 0) for pixel in footprint(layers, size, index).tolist()}
    expected |= {
        (fields[0].centre(cell), 1) for cell in footprint(layers[1:], fields[0].size, index).tolist()
    }
    assert seen == expected | {(fields[1].centre(index), 2)}
    hollow = {
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in squares
        if line.get_markerfacecolor() == "white"
    }
    padding = sum(layer.padding for layer in layers)
    low, high = fields[1].pixels(index)
    beyond = {(pixel + 0.5, 0) for pixel in range(low, high + 1) if not -1 <= pixel <= size}
    assert beyond <= hollow
    assert len(hollow - beyond) == 2 * padding
    (bar,) = (line for line in ax.lines if line.get_linewidth() == 5)
    assert list(bar.get_xdata()) == [low, high + 1]
    joined = [line for line in ax.lines if line not in squares and line is not bar]
    dotted = [line for line in joined if line.get_linestyle() == ":"]
    assert len(joined) - len(dotted) == sum(
        f.size * layer.kernel for f, layer in zip(fields, layers, strict=True)
    )
    assert len(dotted) == under_padding
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        f"{name}, {n} cells"
        for name, n in zip(("input", "a", "b"), (size, *(f.size for f in fields)), strict=True)
    ]
    assert readable(fig, monkeypatch)


def test_profiles_are_centred_and_scaled_to_their_peak(monkeypatch):
    fig = figures.profiles({"a": {"x": [1, 4, 1], "y": [2, 2]}, "b": {"z": [5]}}, [3, 1], "share")
    first, second = fig.axes
    assert first.lines[0].get_xydata().tolist() == [[-1, 0.25], [0, 1], [1, 0.25]]
    assert first.lines[1].get_xydata().tolist() == [[-0.5, 1], [0.5, 1]]
    assert second.lines[0].get_xydata().tolist() == [[0, 1]]
    assert [ax.patches[0].get_bbox().bounds[0::2] for ax in fig.axes] == [(-1.5, 3), (-0.5, 1)]
    assert readable(fig, monkeypatch)


def test_sizes_draws_each_line_and_the_image(monkeypatch):
    fig = figures.sizes(["a", "b"], {"field": [90, 400], "box": [30, 60]}, 300)
    field, box, image = fig.axes[0].lines
    assert list(field.get_ydata()) == [90, 400]
    assert list(box.get_ydata()) == [30, 60]
    assert list(image.get_ydata()) == [300, 300]
    assert [t.get_text() for t in fig.axes[0].get_legend().get_texts()] == ["field", "box"]
    assert readable(fig, monkeypatch)


def test_centres_draws_a_row_for_each_map(monkeypatch):
    fig = figures.centres({"a": ([8, 40], [16, 48]), "b": ([136], [150])}, 300)
    (ax,) = fig.axes
    assert [line.get_xydata().tolist() for line in lines(ax, "o")] == [[[8, 0], [40, 0]], [[136, 1]]]
    assert [line.get_xydata().tolist() for line in lines(ax, "x")] == [[[16, 0], [48, 0]], [[150, 1]]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["field", "default box"]
    assert readable(fig, monkeypatch)
