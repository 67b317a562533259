from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from ssdedu.bases import VGG16, L2Norm, SameConv2d
from ssdedu.model import map_sizes
from ssdedu.priors import SSD300_VOC
from ssdedu.receptive_field import (
    Field,
    Layer,
    chain,
    effective,
    footprint,
    layers_of,
    measured,
    paths,
    vgg16_ssd_layers,
)


def network(layers, channels=1):
    """Convolutions, and max pools where a layer rounds up, each followed by a ReLU."""
    modules = []
    for i, layer in enumerate(layers):
        size = (layer.kernel, layer.stride, layer.padding, layer.dilation)
        if layer.ceil_mode:
            modules.append(nn.MaxPool2d(*size, ceil_mode=True))
        else:
            modules.append(nn.Conv2d(1 if i == 0 else channels, channels, *size))
        modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)


def vgg_network(layers):
    """Like `network`, but VGG16's pools are max pools, rounding down or up."""
    modules = []
    for layer in layers:
        size = (layer.kernel, layer.stride, layer.padding, layer.dilation)
        pool = layer.name.startswith("pool")
        modules.append(nn.MaxPool2d(*size, ceil_mode=layer.ceil_mode) if pool else nn.Conv2d(1, 1, *size))
    return nn.Sequential(*modules)


def by_name(fields):
    return {field.name: field for field in fields}


@st.composite
def a_layer(draw):
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    ceil_mode = draw(st.booleans())
    padding = draw(st.integers(0, kernel // 2 if ceil_mode else dilation * (kernel - 1)))
    return Layer(kernel, draw(st.integers(1, 3)), padding, dilation, ceil_mode)


@st.composite
def a_case(draw):
    """A chain, an image that it fits (height, width), and a cell of its output."""
    layers = draw(st.lists(a_layer(), min_size=1, max_size=4))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    try:
        sizes = [chain(layers, size)[-1].size for size in shape]
    except ValueError:
        assume(False)
    return layers, shape, tuple(draw(st.integers(0, size - 1)) for size in sizes)


def test_worked_example_by_hand():
    """5x5 -> 3x3 -> 2x2 with kernel 3, stride 2, padding 1."""
    fields = chain([Layer(3, 2, 1, name="a"), Layer(3, 2, 1, name="b")], 5)
    assert fields == (Field("a", 3, 2, 0.5, 3), Field("b", 2, 4, 0.5, 7))
    assert fields[1].pixels(0) == (-3, 3)
    assert fields[1].pixels(1) == (1, 7)
    assert list(footprint([Layer(3, 2, 1)] * 2, 5, 1)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "size", "jump", "receptive_field"),
    [
        ("pool3", 38, 8, 44),
        ("conv4_3", 38, 8, 92),
        ("conv5_3", 19, 16, 196),
        ("fc7", 19, 16, 420),
        ("conv8_2", 10, 32, 452),
        ("conv9_2", 5, 64, 516),
        ("conv10_2", 3, 64, 644),
        ("conv11_2", 1, 64, 772),
    ],
)
def test_vgg16_ssd300(name, size, jump, receptive_field):
    field = by_name(chain(vgg16_ssd_layers(), 300))[name]
    assert (field.size, field.jump, field.receptive_field) == (size, jump, receptive_field)


def test_vgg16_ssd512_maps():
    fields = by_name(chain(vgg16_ssd_layers(512), 512))
    maps = ["conv4_3", "fc7", "conv8_2", "conv9_2", "conv10_2", "conv11_2", "conv12_2"]
    assert [fields[name].size for name in maps] == [64, 32, 16, 8, 4, 2, 1]


def test_full_vgg16_sees_404_pixels():
    """The published field of VGG16's fc6; atrous SSD sees a little more at twice the resolution."""
    fields = by_name(chain(vgg16_ssd_layers(atrous=False)))
    assert (fields["fc6"].receptive_field, fields["fc6"].jump) == (404, 32)
    assert fields["pool5"].receptive_field == 212
    sizes = {size: chain(vgg16_ssd_layers(size, atrous=False), size) for size in (300, 512)}
    maps = ["conv5_3", "fc7", "conv8_2", "conv9_2", "conv10_2"]
    assert [by_name(sizes[300])[name].size for name in maps] == [19, 10, 5, 3, 1]
    assert sizes[512][-1].name == "conv11_2"
    assert sizes[512][-1].size == 1
    with pytest.raises(ValueError, match="300 or 512, not 301"):
        vgg16_ssd_layers(301)


@pytest.mark.parametrize(("last", "extent"), [("conv4_3", 92), ("fc7", 420)])
def test_vgg16_ssd_measured(last, extent):
    layers = vgg16_ssd_layers()
    layers = layers[: [layer.name for layer in layers].index(last) + 1]
    height, width = 452, 500
    rows, columns = chain(layers, height)[-1], chain(layers, width)[-1]
    cell = rows.size // 2, columns.size // 2
    found = measured(vgg_network(layers), (1, height, width), cell)
    assert found.rows == rows.pixels(cell[0])
    assert found.columns == columns.pixels(cell[1])
    assert found.rows[1] - found.rows[0] + 1 == extent
    assert found.gradient.shape == (height, width)


@settings(deadline=None, max_examples=120)
@given(a_case())
def test_closed_form_equals_gradient(case):
    layers, shape, cell = case
    seen = [footprint(layers, size, index) for size, index in zip(shape, cell, strict=True)]
    model = network(layers)
    if not (len(seen[0]) and len(seen[1])):
        with pytest.raises(ValueError, match="padding"):
            measured(model, (1, *shape), cell)
        return
    found = measured(model, (1, *shape), cell)
    support = np.zeros(shape, bool)
    support[np.ix_(*seen)] = True
    assert np.array_equal(found.gradient > 0, support)
    for extent, size, index in zip((found.rows, found.columns), shape, cell, strict=True):
        first, last = chain(layers, size)[-1].pixels(index)
        assert max(first, 0) <= extent[0] <= extent[1] <= min(last, size - 1)


@settings(deadline=None, max_examples=200)
@given(st.lists(a_layer(), min_size=1, max_size=5), st.integers(0, 3))
def test_interior_cells_see_first_to_last_pixel(layers, beside):
    """Far from the border, nothing is clipped: the range of Field.pixels is reached at both ends."""
    field = chain(layers)[-1]
    index = sum(layer.padding for layer in layers) + field.receptive_field + beside
    size = field.pixels(index)[1] + field.receptive_field * 2 + field.jump
    seen = footprint(layers, size, index)
    assert field.pixels(index)[0] >= 0
    assert (seen[0], seen[-1]) == field.pixels(index)
    assert field.centre(index) == (seen[0] + seen[-1] + 1) / 2


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=4), st.data())
def test_same_padding_is_clipped_by_the_image(kernels, data):
    """Stride 1 and padding that keeps the size: the field is the intersection with the image."""
    layers = [Layer(kernel, padding=kernel // 2) for kernel in kernels]
    size = data.draw(st.integers(1, 30))
    index = data.draw(st.integers(0, size - 1))
    first, last = chain(layers, size)[-1].pixels(index)
    assert list(footprint(layers, size, index)) == list(range(max(first, 0), min(last, size - 1) + 1))


def with_unit_weights(layers):
    """Convolutions whose weights are all 1, without biases and ReLUs."""
    modules = [
        nn.Conv2d(1, 1, layer.kernel, layer.stride, layer.padding, layer.dilation, bias=False)
        for layer in layers
    ]
    for module in modules:
        nn.init.ones_(module.weight)
    return nn.Sequential(*modules).double()


@settings(deadline=None, max_examples=80)
@given(a_case())
def test_paths_are_the_gradient_of_unit_weights(case):
    layers, shape, cell = case
    for size, index in zip(shape, cell, strict=True):
        assert np.array_equal(np.flatnonzero(paths(layers, size, index)), footprint(layers, size, index))
    layers = [dataclasses.replace(layer, ceil_mode=False) for layer in layers]
    image = torch.zeros(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    try:
        output = with_unit_weights(layers)(image)
    except RuntimeError:
        assume(False)
    row, column = (min(c, n - 1) for c, n in zip(cell, output.shape[-2:], strict=True))
    output[0, 0, row, column].backward()
    rows, columns = paths(layers, shape[0], row), paths(layers, shape[1], column)
    assert np.array_equal(image.grad[0, 0].numpy(), np.outer(rows, columns))


def test_paths_by_hand():
    assert paths([Layer(3), Layer(3)], 5, 0).tolist() == [1, 2, 3, 2, 1]
    assert paths([Layer(3, 2, 1)] * 2, 5, 1).tolist() == [0, 1, 1, 2, 1]
    assert paths([], 3, 1).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="index 3 is outside the last layer's 3 cells"):
        paths([Layer(3)], 5, 3)


def test_typical_gradient_of_random_weights_goes_with_the_root_of_the_paths():
    rng = np.random.default_rng(0)
    layers = [Layer(3), Layer(3, 2), Layer(3)]
    model = network(layers, channels=8).double()
    root = np.sqrt(paths(layers, 11, 0))
    total = np.zeros(11)
    for _ in range(40):
        for conv in model[::2]:
            conv.weight.data = torch.from_numpy(rng.standard_normal(conv.weight.shape))
        total += effective(model, (1, 11, 11), (0, 0), num_inputs=4).sum(0)
    assert np.abs(total / total.sum() - root / root.sum()).max() < 0.03


def test_pixels_rounded_away_are_seen_by_nobody():
    """Four pixels, every second one kept: the fourth is lost, though the range of cell 1 reaches it."""
    layers = [Layer(1, stride=2), Layer(3, padding=1)]
    assert chain(layers, 4)[-1].pixels(1) == (0, 4)
    assert list(footprint(layers, 4, 1)) == [0, 2]
    assert measured(network(layers), (1, 4, 4), (1, 1)).rows == (0, 2)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 2),
    st.integers(1, 3),
    st.booleans(),
    st.integers(1, 20),
)
def test_size_is_torch_s(kernel, stride, padding, dilation, ceil_mode, size):
    assume(padding <= kernel // 2)
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    layer = Layer(kernel, stride, padding, dilation, ceil_mode, name="pool")
    try:
        expected = pool(torch.zeros(1, 1, size, size)).shape[-1]
    except RuntimeError:
        with pytest.raises(ValueError, match=f"pool: kernel of .* {size} cells"):
            chain([layer], size)
    else:
        assert chain([layer], size)[0].size == expected


def test_ceil_mode_drops_a_window_that_starts_in_the_right_padding():
    assert chain([Layer(2, 2, 1, ceil_mode=True)], 3)[0].size == 2
    assert chain([Layer(2, 2, 0, ceil_mode=True)], 75)[0].size == 38
    assert chain([Layer(2, 2)], 75)[0].size == 37


def test_a_cell_that_sees_padding_alone():
    layers = [Layer(1, padding=2)]
    assert len(footprint(layers, 3, 0)) == 0
    assert list(footprint(layers, 3, 2)) == [0]
    with pytest.raises(ValueError, match="may see padding alone"):
        measured(network(layers), (1, 3, 3), (0, 2))


def test_chain_without_size_or_layers():
    assert chain([]) == ()
    (field,) = chain([Layer(3, 2)])
    assert field == Field("layer 0", None, 2, 1.5, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("kernel", 0), ("kernel", 2.5), ("stride", 0), ("padding", -1), ("dilation", 0), ("stride", True)],
)
def test_bad_layer_names_layer_and_field(field, value):
    with pytest.raises(ValueError, match=f"'conv9': {field} must be an integer"):
        Layer(**{"kernel": 3, "name": "conv9", field: value})


def test_bad_arguments():
    with pytest.raises(ValueError, match="size must be at least 1"):
        chain([Layer(1)], 0)
    with pytest.raises(ValueError, match="deep: kernel of 5 cells does not fit into 2 cells"):
        chain([Layer(3), Layer(3, dilation=2, name="deep")], 4)
    with pytest.raises(ValueError, match="index 4 is outside the last layer's 4 cells"):
        footprint([Layer(1)], 4, 4)
    with pytest.raises(ValueError, match=r"location \(0, 4\) is outside the output of 3 x 4"):
        measured(nn.Conv2d(1, 1, 1), (1, 3, 4), (0, 4))
    with pytest.raises(ValueError, match="one feature map"):
        measured(nn.Flatten(), (1, 3, 4), (0, 0))


class Normalise(nn.Module):
    """Across channels at each location, as SSD's L2 normalisation."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), -20.0))

    def forward(self, x):
        return x / x.norm(dim=1, keepdim=True) * self.weight.view(1, -1, 1, 1)


def test_measured_through_normalisation_and_dead_relu():
    module = nn.Sequential(
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Normalise(),
        nn.Conv2d(4, 2, 3),
    )
    nn.init.constant_(module[1].weight, -1.0)
    module[2].running_mean += 5
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = measured(module.train(), (3, 9, 11), (2, 3))
    assert (found.rows, found.columns) == ((2, 6), (3, 7))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_layers_of_torch_modules():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2, padding=1, dilation=3),
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
        nn.AvgPool2d(3, 1, 1),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2),
        nn.Conv2d(4, 4, 3, padding="valid"),
    )
    expected = (
        Layer(5, 2, 1, 3, name="0"),
        Layer(2, 2, ceil_mode=True, name="1.2"),
        Layer(3, 1, 1, name="2"),
        Layer(3, 1, 2, 2, name="3"),
        Layer(3, name="4"),
    )
    assert layers_of(module) == expected
    assert layers_of(list(module)) == expected
    shape = module(torch.zeros(1, 3, 41, 50)).shape
    assert [chain(expected, size)[-1].size for size in (41, 50)] == list(shape[-2:])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=3
    ),
    st.integers(1, 40),
    st.data(),
)
def test_tensorflows_padding_is_a_layer_once_the_size_is_known(shapes, size, data):
    """The layers of SameConv2d give torch's sizes and, pixel by pixel, the measured gradient."""
    module = nn.Sequential(*(SameConv2d(1, 1, k, s, dilation=d) for k, s, d in shapes))
    layers = layers_of(module, size=size)
    cells = chain(layers, size)[-1].size
    assert module(torch.zeros(1, 1, size, size)).shape[-2:] == (cells, cells)
    index = data.draw(st.integers(0, cells - 1))
    seen = footprint(layers, size, index)
    found = measured(module, (1, size, size), (index, index))
    assert found.rows == found.columns == (seen[0], seen[-1])
    assert np.array_equal(np.flatnonzero(found.gradient.any(0)), seen)


def test_tensorflows_padding_without_what_decides_it():
    assert layers_of([SameConv2d(1, 1, 3, 2)], size=300) == (Layer(3, 2, 0, ceil_mode=True, name="0"),)
    assert layers_of([SameConv2d(1, 1, 3, 2)], size=75) == (Layer(3, 2, 1, name="0"),)
    after_pool = [nn.MaxPool2d(2), SameConv2d(1, 1, 3, 2)]
    assert layers_of(after_pool, size=150)[1] == Layer(3, 2, 1, name="1")  # the pool leaves 75 cells
    with pytest.raises(
        ValueError, match=r"'0\.1': its padding follows from the size of the input: pass size"
    ):
        layers_of(nn.Sequential(nn.Sequential(nn.ReLU(), SameConv2d(1, 1, 3))))
    with pytest.raises(ValueError, match="an even kernel at stride 1 is padded on one side"):
        layers_of([SameConv2d(1, 1, 2)], size=9)


def test_a_relu6_does_not_hide_what_a_cell_sees():
    """Two sums over 3x3 pixels of 0.5 and more stand above its limit of 6, where the gradient is 0."""
    sums = [nn.AvgPool2d(3, 1, divisor_override=1) for _ in range(2)]
    module = nn.Sequential(*sums, nn.ReLU6(), nn.Conv2d(1, 1, 3))
    assert measured(module, (1, 9, 9), (1, 1)).rows == (1, 7)
    assert module[2].max_val == 6


@pytest.mark.parametrize("atrous", [True, False])
def test_table_is_the_geometry_of_the_network(atrous):
    with torch.device("meta"):
        base = VGG16(atrous=atrous)
    found = layers_of(base.children(), ignore=[L2Norm])
    table = vgg16_ssd_layers(atrous=atrous)[: len(found)]
    assert table[-1].name == "fc7"
    assert [dataclasses.replace(layer, name="") for layer in found] == [
        dataclasses.replace(layer, name="") for layer in table
    ]


@pytest.mark.parametrize(("height", "width"), [(300, 300), (300, 500), (421, 300)])
def test_maps_of_the_network_on_images_of_any_shape(height, width):
    names = ["conv4_3", "fc7", "conv8_2", "conv9_2", "conv10_2", "conv11_2"]
    rows, columns = (by_name(chain(vgg16_ssd_layers(), size)) for size in (height, width))
    expected = [(rows[name].size, columns[name].size) for name in names]
    assert map_sizes(SSD300_VOC, "vgg16", width, height) == expected


def test_layers_of_what_is_not_a_chain():
    wide = nn.Conv2d(1, 1, (1, 3), padding=(0, 1))
    with pytest.raises(ValueError, match="'0': its axes differ"):
        layers_of([wide])
    assert layers_of([wide], axis=0) == (Layer(1, name="0"),)
    assert layers_of([wide], axis=1) == (Layer(3, 1, 1, name="0"),)
    with pytest.raises(ValueError, match=r"'0': unknown geometry; pass ignore=\(Normalise,\)"):
        layers_of([Normalise()])
    assert layers_of([Normalise(), nn.ReLU()], ignore=[Normalise]) == ()
    with pytest.raises(ValueError, match="'0': padding must be an integer"):
        layers_of([nn.Conv2d(1, 1, 2, padding="same")])


def test_effective_field_lies_within_the_field_and_peaks_inside():
    torch.manual_seed(0)
    layers = [Layer(3, padding=1) for _ in range(6)]
    model = network(layers, channels=4)
    density = effective(model, (1, 21, 25), (10, 12), num_inputs=8)
    first, last = chain(layers)[-1].pixels(10)
    assert density.shape == (21, 25)
    assert density.sum() == pytest.approx(1)
    outside = density.copy()
    outside[first : last + 1, first + 2 : last + 3] = 0
    assert outside.sum() < 1e-6
    assert density[8:13, 10:15].sum() > 25 / 13**2 * 2
    assert np.array_equal(density, effective(model, (1, 21, 25), (10, 12), num_inputs=8))


def test_effective_of_a_blocked_cell():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
    nn.init.constant_(model[0].weight, 0.0)
    with pytest.raises(ValueError, match="no gradient in any of 2 inputs"):
        effective(model, (1, 3, 3), (1, 1), num_inputs=2)


def test_the_arithmetic_needs_no_torch():
    use = "from ssdedu.receptive_field import *; chain(vgg16_ssd_layers(), 300)"
    code = f"import sys; {use}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
