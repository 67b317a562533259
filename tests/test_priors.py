"""Default boxes against Caffe's layer written as a loop, and against the published tables and counts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu import boxes, priors
from ssdedu.priors import Config, Extra, FeatureMap

CAFFE = {  # step, min, max as in the prototxt files of the original's SSD300 and SSD512 models
    "SSD300_VOC": [
        (38, 8, 30, 60, [2]), (19, 16, 60, 111, [2, 3]), (10, 32, 111, 162, [2, 3]),
        (5, 64, 162, 213, [2, 3]), (3, 100, 213, 264, [2]), (1, 300, 264, 315, [2]),
    ],
    "SSD300_COCO": [
        (38, 8, 21, 45, [2]), (19, 16, 45, 99, [2, 3]), (10, 32, 99, 153, [2, 3]),
        (5, 64, 153, 207, [2, 3]), (3, 100, 207, 261, [2]), (1, 300, 261, 315, [2]),
    ],
    "SSD512_VOC": [
        (64, 8, 35.84, 76.8, [2]), (32, 16, 76.8, 153.6, [2, 3]), (16, 32, 153.6, 230.4, [2, 3]),
        (8, 64, 230.4, 307.2, [2, 3]), (4, 128, 307.2, 384, [2, 3]), (2, 256, 384, 460.8, [2]),
        (1, 512, 460.8, 537.6, [2]),
    ],
    "SSD512_COCO": [
        (64, 8, 20.48, 51.2, [2]), (32, 16, 51.2, 133.12, [2, 3]), (16, 32, 133.12, 215.04, [2, 3]),
        (8, 64, 215.04, 296.96, [2, 3]), (4, 128, 296.96, 378.88, [2, 3]), (2, 256, 378.88, 460.8, [2]),
        (1, 512, 460.8, 542.72, [2]),
    ],
}  # fmt: skip


def caffe_prior_boxes(maps, size):
    """PriorBoxLayer::Forward_cpu with its whole-pixel sizes, flip on, clip off: corners as it writes them."""
    out = []
    for cells, step, min_size, max_size, ratios in maps:
        min_size, max_size = int(min_size), int(max_size)
        for h in range(cells):
            for w in range(cells):
                cx, cy = (w + 0.5) * step, (h + 0.5) * step
                sides = [(min_size, min_size), (math.sqrt(min_size * max_size),) * 2]
                for ar in ratios:
                    for r in (ar, 1 / ar):
                        sides.append((min_size * math.sqrt(r), min_size / math.sqrt(r)))
                for bw, bh in sides:
                    corners = cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2
                    out.append([v / size for v in corners])
    return np.array(out)


@pytest.mark.parametrize(("name", "size", "count"), [
    ("SSD300_VOC", 300, 8732), ("SSD300_COCO", 300, 8732),
    ("SSD512_VOC", 512, 24564), ("SSD512_COCO", 512, 24564),
])  # fmt: skip
def test_equals_caffes_layer_in_value_and_order(name, size, count):
    mine = priors.default_boxes(priors.PRESETS[name])
    assert mine.shape == (count, 4)
    assert mine.dtype == torch.float32
    assert priors.PRESETS[name].num_boxes == count
    theirs = caffe_prior_boxes(CAFFE[name], size)
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(mine).numpy(), theirs, rtol=0, atol=1e-6)


def test_truncation_matters_at_512_alone():
    largest_change = {
        priors.SSD300_VOC: 0.0,
        priors.SSD300_COCO: 0.0,
        priors.SSD512_VOC: 0.8 * 3**0.5 / 512,  # 76.8 and 460.8 lose .8 pixels; ratio 3 occurs at 76.8
        priors.SSD512_COCO: 0.96 * 3**0.5 / 512,  # 296.96 loses .96 pixels
    }
    for config, largest in largest_change.items():
        whole = priors.default_boxes(config)
        exact = priors.default_boxes(config.replace(whole_px=False))
        assert (whole - exact).abs().max().item() == pytest.approx(largest, abs=5e-5)


def test_published_counts():
    b = priors.default_boxes(priors.SSD300_VOC)
    corners = boxes.cxcywh_to_xyxy(b)
    assert ((corners < 0) | (corners > 1)).any(1).sum() == 2869
    assert ((b < 0) | (b > 1)).any(1).sum() == 134
    assert b[:, 0].max().item() == pytest.approx(1.0133, abs=1e-4)


def test_scales_are_equation_four():
    assert priors.scales(6) == pytest.approx([0.2, 0.34, 0.48, 0.62, 0.76, 0.9])
    assert priors.scales(5) == pytest.approx([0.2, 0.375, 0.55, 0.725, 0.9])
    assert priors.scales(1, 0.3) == [0.3]
    assert priors.scales(2, 0.1, 0.1) == [0.1, 0.1]


@given(st.integers(2, 20), st.floats(0.01, 0.5), st.floats(0.5, 1.5))
def test_scales_are_evenly_spaced(m, low, high):
    s = priors.scales(m, low, high)
    assert (s[0], s[-1]) == pytest.approx((low, high))
    np.testing.assert_allclose(np.diff(s), (high - low) / (m - 1), atol=1e-12)


@pytest.mark.parametrize("arguments", [(0,), (2.5,), (3, 0.0), (3, 0.9, 0.2), (True,)])
def test_scales_refuse_nonsense(arguments):
    with pytest.raises(ValueError, match=r"num_maps|s_min"):
        priors.scales(*arguments)


def test_percent_rule_gives_the_published_sizes():
    voc = [(a, b) for _, _, a, b, _ in CAFFE["SSD300_VOC"]]
    coco512 = [(a, b) for _, _, a, b, _ in CAFFE["SSD512_COCO"]]
    np.testing.assert_allclose(priors.percent_sizes(300, 6, 10, 20, 90), voc)
    np.testing.assert_allclose(priors.percent_sizes(512, 7, 4, 10, 90), coco512)
    with pytest.raises(ValueError, match="3 or more"):
        priors.percent_sizes(300, 2, 10, 20, 90)


def test_paper_description():
    sizes = [m.min_px / 300 for m in priors.SSD300_PAPER.maps]
    assert sizes == pytest.approx([0.1, 0.2, 0.375, 0.55, 0.725, 0.9])
    paper, caffe = (priors.default_boxes(c) for c in (priors.SSD300_PAPER, priors.SSD300_VOC))
    assert (paper[:, :2] - caffe[:, :2]).abs().max().item() == pytest.approx(0.0633, abs=1e-4)
    assert paper[:, :2].max() < 1


def test_first_cell_by_hand():
    b = priors.default_boxes(priors.SSD300_VOC)[:4] * 300
    root2 = math.sqrt(2)
    expected = [(30, 30), (math.sqrt(1800),) * 2, (30 * root2, 30 / root2), (30 / root2, 30 * root2)]
    np.testing.assert_allclose(b[:, 2:].numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(b[:, :2].numpy(), 4.0, rtol=1e-6)


maps = st.builds(
    FeatureMap,
    name=st.just("m"),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    min_px=st.floats(1, 200),
    max_px=st.one_of(st.none(), st.floats(200, 400)),
    aspect_ratios=st.sampled_from([(), (2.0,), (2.0, 3.0), (0.5,), (1.6, 3.0, 5.0)]),
    step_px=st.one_of(st.none(), st.floats(1, 100)),
)


@given(st.lists(maps, min_size=1, max_size=4), st.integers(50, 400), st.integers(50, 400))
@settings(deadline=None, max_examples=60)
def test_any_description_against_a_loop(feature_maps, width, height):
    config = Config("any", width, height, tuple(feature_maps))
    expected = []
    for m in feature_maps:
        low = math.floor(m.min_px)
        sides = [(low, low)]
        if m.max_px is not None:
            sides.append((math.sqrt(low * math.floor(m.max_px)),) * 2)
        for r in m.aspect_ratios:
            sides += [(low * math.sqrt(r), low / math.sqrt(r)), (low / math.sqrt(r), low * math.sqrt(r))]
        assert len(sides) == m.boxes_per_cell
        for i in range(m.height):
            for j in range(m.width):
                step_x, step_y = m.step_px or width / m.width, m.step_px or height / m.height
                x, y = (j + 0.5) * step_x / width, (i + 0.5) * step_y / height
                expected += [(x, y, w / width, h / height) for w, h in sides]
    got = priors.default_boxes(config)
    assert len(got) == config.num_boxes
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-6, atol=1e-6)
    assert Config.from_dict(config.to_dict()) == config


def test_clip_cuts_corners_not_centres():
    plain = boxes.cxcywh_to_xyxy(priors.default_boxes(priors.SSD300_VOC))
    clipped = boxes.cxcywh_to_xyxy(priors.default_boxes(priors.SSD300_VOC.replace(clip=True)))
    np.testing.assert_allclose(clipped, plain.clamp(0, 1), atol=1e-6)


GOOD = {"name": "m", "height": 2, "width": 3, "min_px": 10.0, "max_px": 20.0}


@pytest.mark.parametrize(("change", "field"), [
    ({"height": 0}, r"maps\[0\].height"), ({"width": 2.5}, r"maps\[0\].width"),
    ({"min_px": -1.0}, r"maps\[0\].min_px"), ({"min_px": float("nan")}, r"maps\[0\].min_px"),
    ({"min_px": 0.5}, "whole_px"), ({"max_px": 5.0}, r"maps\[0\].max_px"),
    ({"aspect_ratios": (0.0,)}, "aspect_ratios"), ({"aspect_ratios": (1.0,)}, "aspect_ratios"),
    ({"aspect_ratios": (2.0, 0.5)}, "aspect_ratios"), ({"step_px": 0.0}, "step_px"),
    ({"aspect_ratios": 2.0}, "aspect_ratios"), ({"extra": (8, 8)}, r"maps\[0\].extra must be None or an Extra"),
    ({"extra": Extra(8, 0)}, r"maps\[0\].extra.out"), ({"extra": Extra(8, 8, padding=-1)}, r"maps\[0\].extra.padding"),
])  # fmt: skip
def test_a_wrong_map_is_named(change, field):
    with pytest.raises(ValueError, match=field):
        Config("mine", 100, 100, (FeatureMap(**{**GOOD, **change}),))


@pytest.mark.parametrize(("change", "field"), [
    ({"width_px": 0}, "width_px"), ({"height_px": 1.5}, "height_px"), ({"maps": ()}, "maps"),
    ({"maps": ("conv4_3",)}, "maps"), ({"maps": priors.SSD300_VOC.maps[0]}, "maps"), ({"variances": 0.1}, "variances"),
    ({"variances": (0.1, 0.1)}, "variances"), ({"variances": (0.1, 0.1, 0.2, 0)}, "variances"),
])  # fmt: skip
def test_a_wrong_description_is_named(change, field):
    with pytest.raises(ValueError, match=f"SSD300_VOC: {field}"):
        priors.SSD300_VOC.replace(**change)


def test_base_maps_come_first():
    base, extra = FeatureMap(**GOOD), FeatureMap(**GOOD, extra=Extra(8, 8))
    Config("mine", 100, 100, (base, extra))
    with pytest.raises(ValueError, match=r"maps\[1\].extra"):
        Config("mine", 100, 100, (extra, base))


def test_from_dict_refuses_strangers():
    fields = priors.SSD300_VOC.to_dict()
    with pytest.raises(ValueError, match="not a detector description"):
        Config.from_dict({**fields, "colour": "red"})
    with pytest.raises(ValueError, match="not a detector description"):
        Config.from_dict({"name": "x"})


def test_numpy_numbers_are_numbers():
    m = FeatureMap("m", np.int64(2), np.int64(3), np.float32(10), np.float64(20), (np.float32(2),))
    config = Config("numpy", np.int32(60), 40, (m,))
    assert len(priors.default_boxes(config)) == 2 * 3 * 4


def test_table_counts_add_up():
    for config in priors.PRESETS.values():
        lines = priors.table(config).splitlines()
        assert len(lines) == len(config.maps) + 3
        assert lines[-1].split()[-1] == f"{config.num_boxes:,}"
