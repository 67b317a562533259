"""The fields of a detector's maps: against the closed form by name, a measured gradient, and a slow middle."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from ssdedu import bases, priors
from ssdedu import receptive_field as rf
from ssdedu.map_fields import map_fields, map_layers, middle_px
from ssdedu.model import SSD, fit_config


@pytest.mark.parametrize("config", [priors.SSD300_VOC, priors.SSD512_VOC], ids=lambda c: c.name)
def test_fields_of_the_papers_detectors_are_those_of_the_layers_by_name(config):
    by_name = {field.name: field for field in rf.chain(rf.vgg16_ssd_layers(config.width_px))}
    for m, field in zip(config.maps, map_fields(config, "vgg16"), strict=True):
        wanted = by_name[m.name]
        assert (field.jump, field.start, field.field_px) == (
            wanted.jump,
            wanted.start,
            wanted.receptive_field,
        )
        assert 0 < field.middle_px < field.field_px


def test_the_small_net_measured_by_gradient():
    fields = map_fields(priors.SHAPES128, "small")
    base = bases.SmallBase()
    networks = [base.to_stride8, nn.Sequential(base.to_stride8, base.to_stride16)]
    for field, network, cell in zip(fields, networks, (8, 4), strict=False):
        first, last = rf.measured(network, (3, 128, 128), (cell, cell)).rows
        assert last - first + 1 == field.field_px
        assert (first + last + 1) / 2 == field.start + cell * field.jump


@pytest.fixture
def thin_mobilenet(monkeypatch):
    """An eighth of the channels: the same geometry, sooner measured."""
    monkeypatch.setitem(bases.BASES, "mobilenet", partial(bases.MobileNetV1, 0.125))


def networks_to_each_map(net):
    stages = [getattr(net.base, name) for name in net.base.tapped]
    parts = [*stages, *net.extras]
    return [nn.Sequential(*parts[: i + 1]) for i in range(len(parts))]


@pytest.mark.parametrize("size", [(300, 300), (331, 270)])
def test_mobilenet_measured_by_gradient(thin_mobilenet, size):
    """Corner, centre and last cell of every map; even and odd sizes are padded differently."""
    config = fit_config(priors.SSD300_MOBILENET, *size, "mobilenet")
    net = SSD(config, 3, "mobilenet")
    height, width = config.height_px, config.width_px
    rows, columns = (map_fields(config, "mobilenet", axis) for axis in (0, 1))
    for m, along_y, along_x, network in zip(
        config.maps, rows, columns, networks_to_each_map(net), strict=True
    ):
        for cell in {(0, 0), (m.height // 2, m.width // 2), (m.height - 1, m.width - 1)}:
            found = rf.measured(network, (3, height, width), cell)
            for extent, field, index, pixels in zip(
                (found.rows, found.columns), (along_y, along_x), cell, (height, width), strict=True
            ):
                first = field.start + index * field.jump - field.field_px / 2
                seen = max(first, 0), min(first + field.field_px - 1, pixels - 1)
                assert extent == seen, (m.name, cell)


def test_mobilenets_fields_by_hand():
    """A stride moves cell 0 by its input's jump where the cells are even: 300 and 150 are, 75 is not, 38 is, 19 not."""
    fields = map_fields(priors.SSD300_MOBILENET, "mobilenet")
    assert [f.jump for f in fields] == [8, 16, 32, 64, 64, 64]
    assert [f.start for f in fields[:3]] == [0.5 + 1 + 2, 0.5 + 1 + 2 + 8, 0.5 + 1 + 2 + 8]
    assert [f.start - fields[2].start for f in fields[3:]] == [0, 64, 128]
    jumps = 2, 2, 4, 4, 8  # of the inputs of blocks 1 .. 5; each 3x3 adds two of them
    assert fields[0].field_px == 3 + 2 * sum(jumps)
    assert fields[1].field_px == fields[0].field_px + 2 * (8 + 5 * 16)
    assert fields[2].field_px == fields[1].field_px + 2 * 16
    config = fit_config(priors.SSD300_MOBILENET, 301, 300, "mobilenet")  # 301 and 151 are odd, 76 is even
    assert [map_fields(config, "mobilenet", axis)[0].start for axis in (0, 1)] == [3.5, 4.5]


def test_the_real_mobilenet_at_its_own_size():
    """All channels, one cell of its last tapped map, rows and columns alike."""
    base = bases.make_base("mobilenet")
    network = nn.Sequential(base.to_stride8, base.to_stride16, base.to_stride32)
    field = map_fields(priors.SSD300_MOBILENET, "mobilenet")[2]
    found = rf.measured(network, (3, 300, 300), (4, 5))
    first = [round(field.start + i * field.jump - field.field_px / 2) for i in (4, 5)]
    assert found.rows == (first[0], first[0] + field.field_px - 1)
    assert found.columns == (first[1], first[1] + field.field_px - 1)


def test_a_base_without_a_known_geometry_is_named():
    class Branching(bases.SmallBase):
        tapped = ()

    with pytest.raises(ValueError, match="Branching names no tapped children: its geometry is not known"):
        map_layers(priors.SHAPES128, Branching(), 0, 128)
    with pytest.raises(ValueError, match="base must be one of"):
        map_fields(priors.SHAPES128, "resnet")
    with pytest.raises(ValueError, match="SSD300_MOBILENET: 6 maps, but base and extra blocks give 5"):
        map_fields(priors.SSD300_MOBILENET, "vgg16")
    with torch.device("meta"):
        base = bases.make_base("vgg16")
    with pytest.raises(ValueError, match="conv10_2: kernel of 3 cells does not fit into 2 cells"):
        [rf.chain(layers, 128) for layers in map_layers(priors.SSD300_VOC, base, 1, 128)]


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "vgg16_full"])
def test_a_norm_does_not_change_what_vgg_sees(name):
    config = priors.SSD300_FULL_VGG if name == "vgg16_full" else priors.SSD300_VOC
    plain = map_fields(config, "vgg16_full" if name == "vgg16_full" else "vgg16")
    assert map_fields(config, name) == map_fields(config, name, axis=0) == plain


def test_one_map_sees_what_it_sees_among_four():
    whole = map_fields(priors.SHAPES128, "small")
    assert map_fields(priors.SHAPES128_ONE_MAP, "small") == whole[1:2]
    assert map_fields(priors.SHAPES128_COARSE_MAP, "small") == whole[2:3]


def test_full_vgg_has_a_field_for_each_map():
    config = priors.SSD300_FULL_VGG
    fields = map_fields(config, "vgg16_full")
    assert len(fields) == len(config.maps)
    assert [f.jump for f in fields[:3]] == [8, 16, 32]


def slow_middle(profile, share):
    for width in range(len(profile) % 2 or 2, len(profile) + 1, 2):
        cut = (len(profile) - width) // 2
        if profile[cut : cut + width].sum() >= share * profile.sum():
            return width
    raise AssertionError


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("number", [1, 2, 9, 40])
def test_the_middle_is_the_shortest(number, share):
    rng = np.random.default_rng(number)
    half = rng.random((number + 1) // 2)
    profile = np.concatenate([half, half[::-1][number % 2 :]])
    assert middle_px(profile, share) == slow_middle(profile, share)


def test_a_bell_of_known_middle():
    assert middle_px(np.array([1.0, 2, 10, 2, 1]), 0.8) == 3
    assert middle_px(np.array([1.0, 2, 10, 2, 1]), 0.9) == 5
