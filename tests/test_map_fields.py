"""The fields of a detector's maps: against the closed form by name, a measured gradient, and a slow middle."""

import numpy as np
import pytest
from torch import nn

from ssdedu import bases, priors
from ssdedu import receptive_field as rf
from ssdedu.map_fields import map_fields, middle_px


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
