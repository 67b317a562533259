"""The network against published shapes and counts, and against default boxes cell by cell."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssdedu import model, priors
from ssdedu.model import SSD, L2Norm
from ssdedu.priors import Config, Extra, FeatureMap


def on_meta(make):
    """Shapes and counts without the memory or the time."""
    with torch.device("meta"):
        return make()


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("config", "classes", "count"), [
    (priors.SSD300_VOC, 21, 26_285_486), (priors.SSD300_COCO, 91, 35_641_826),
    (priors.SSD512_VOC, 21, 27_188_676),
])  # fmt: skip
def test_published_parameter_counts(config, classes, count):
    assert num_parameters(on_meta(lambda: SSD(config, classes))) == count


@pytest.mark.parametrize(("make", "size", "gmacs"), [(model.ssd300, 300, 31.37), (model.ssd512, 512, 90.21)])
def test_published_multiply_adds(make, size, gmacs):
    net = on_meta(make)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, size, size, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=0.005)


@pytest.mark.parametrize(("config", "shapes"), [
    (priors.SSD300_VOC, [(512, 38), (1024, 19), (512, 10), (256, 5), (256, 3), (256, 1)]),
    (priors.SSD512_VOC, [(512, 64), (1024, 32), (512, 16), (256, 8), (256, 4), (256, 2), (256, 1)]),
])  # fmt: skip
def test_shape_table_of_the_paper(config, shapes):
    net = on_meta(lambda: SSD(config, 21))
    images = torch.zeros(2, 3, config.height_px, config.width_px, device="meta")
    assert [tuple(m.shape) for m in net.features(images)] == [(2, d, n, n) for d, n in shapes]
    offsets, logits = net(images)
    assert offsets.shape == (2, config.num_boxes, 4)
    assert logits.shape == (2, config.num_boxes, 21)


def test_the_base_is_vgg16_layer_by_layer():
    net = on_meta(model.ssd300)
    convs = [m for m in net.base.modules() if isinstance(m, nn.Conv2d)]
    depths = [64, 64, 128, 128, 256, 256, 256, *[512] * 6, 1024, 1024]
    assert [c.out_channels for c in convs] == depths
    fc6, fc7 = convs[-2:]
    assert (fc6.kernel_size, fc6.dilation, fc6.padding) == ((3, 3), (6, 6), (6, 6))
    assert fc7.kernel_size == (1, 1)
    pools = [m for m in net.base.modules() if isinstance(m, nn.MaxPool2d)]
    assert [(p.kernel_size, p.stride, p.ceil_mode) for p in pools] == [
        (2, 2, False), (2, 2, False), (2, 2, True), (2, 2, False), (3, 1, False),
    ]  # fmt: skip
    assert not any(isinstance(m, nn.Dropout) for m in net.modules())


def test_full_vgg_variant_gives_the_same_boxes_from_other_maps():
    net = on_meta(lambda: SSD(priors.SSD300_FULL_VGG, 21, "vgg16_full"))
    maps = net.features(torch.zeros(1, 3, 300, 300, device="meta"))
    shapes = [(512, 38), (512, 19), (4096, 10), (256, 5), (256, 3), (256, 1)]
    assert [tuple(m.shape[1:3]) for m in maps] == shapes
    assert torch.equal(priors.default_boxes(net.config), priors.default_boxes(priors.SSD300_VOC))


def test_batch_norm_variant_has_norms_and_no_conv_bias_before_them():
    net = on_meta(lambda: SSD(priors.SSD300_VOC, 21, "vgg16_bn"))
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert norms == 15 + 2 * 4
    assert all(c.bias is None for c in net.base.modules() if isinstance(c, nn.Conv2d))


def test_l2_norm_by_hand():
    x = torch.tensor([3.0, 4.0])[None, :, None, None].expand(2, 2, 3, 5)
    out = L2Norm(2)(x)
    assert out.shape == x.shape
    torch.testing.assert_close(out[1, :, 2, 4], torch.tensor([12.0, 16.0]))
    assert L2Norm(2)(torch.zeros(1, 2, 1, 1)).isfinite().all()


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_row_p_of_the_output_belongs_to_default_box_p(size):
    """Only the cell that a head sees may change that cell's rows: poke one cell, look which rows move."""
    config = model.fit_config(priors.SHAPES128, *size, base="small")
    net = SSD(config, 4, "small").eval()
    maps = [torch.zeros(1, h.in_channels, m.height, m.width)
            for h, m in zip(net.class_heads, config.maps, strict=True)]  # fmt: skip
    for head in (*net.class_heads, *net.offset_heads):
        keep = head.weight.detach().clone()
        head.weight.data.zero_()
        head.weight.data[..., 1, 1] = keep[..., 1, 1]  # look at the cell itself alone
    start = 0
    for number, m in enumerate(config.maps):
        row, column = m.height - 1, m.width // 2
        poked = [x.clone() for x in maps]
        poked[number][0, :, row, column] = 1.0
        net.features = lambda _, x=poked: x
        offsets, logits = net(torch.zeros(1, 3, config.height_px, config.width_px))
        moved = (logits[0].std(-1) > 1e-6).nonzero()[:, 0]
        first = start + (row * m.width + column) * m.boxes_per_cell
        assert moved.tolist() == list(range(first, first + m.boxes_per_cell))
        assert torch.equal((offsets[0].abs().sum(-1) > 1e-6).nonzero()[:, 0], moved)
        centers = net.priors_cxcywh[moved, :2]
        expected = torch.tensor([(column + 0.5) / m.width, (row + 0.5) / m.height])
        torch.testing.assert_close(centers, expected.expand_as(centers))
        start += m.num_boxes


def test_images_in_a_batch_do_not_mix_and_uint8_equals_float():
    net = SSD(priors.SHAPES128, 9, "small").eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 128, 128), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        offsets, logits = net(images)
        alone = net(images[1:2].float())
    torch.testing.assert_close(offsets[1:2], alone[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(logits[1:2], alone[1], rtol=1e-3, atol=1e-4)


def test_input_is_normalised_by_the_bases_mean():
    net = SSD(priors.SHAPES128, 2, "small").eval()
    seen = []
    net.base.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.full((1, 3, 128, 128), 127.5))
    assert seen[0].abs().max() == 0
    assert on_meta(model.ssd300).mean.shape == (3, 1, 1)
    assert SSD(dataclasses.replace(priors.SHAPES128), 2, "small").mean.flatten().tolist() == [127.5] * 3


def test_one_map_predicts_from_the_last_base_map():
    net = SSD(priors.SHAPES128_ONE_MAP, 9, "small")
    offsets, logits = net(torch.zeros(1, 3, 128, 128))
    assert offsets.shape == (1, 384, 4)
    assert logits.shape == (1, 384, 9)
    assert len(net.extras) == 0


@pytest.mark.parametrize(("width", "height"), [(300, 300), (500, 300), (300, 512), (641, 333)])
def test_fit_config_gives_maps_that_the_network_has(width, height):
    config = model.fit_config(priors.SSD300_VOC, width, height)
    net = on_meta(lambda: SSD(config, 3))
    offsets, _ = net(torch.zeros(1, 3, height, width, device="meta"))
    assert offsets.shape[1] == config.num_boxes
    if (width, height) == (300, 300):
        assert torch.equal(priors.default_boxes(config), priors.default_boxes(priors.SSD300_VOC))
    assert priors.default_boxes(config)[:, :2].max() <= 1.02
    short = min(width, height)
    assert config.maps[0].min_px == pytest.approx(short / 10)


@pytest.mark.parametrize("size", [320, 500, 512, 544, 600, 640, 800, (700, 500)])
@pytest.mark.parametrize("config", [priors.SSD300_VOC, priors.SSD512_VOC])
def test_fitted_grids_fill_the_image_and_stay_in_it(config, size):
    width, height = size if isinstance(size, tuple) else (size, size)
    for m in model.fit_config(config, width, height).maps:
        centers = priors.cell_centers(m, width, height)
        assert centers.max() <= 1.02
        for cells, last in ((m.width, centers[-1, -1, 0]), (m.height, centers[-1, -1, 1])):
            assert 1 - last <= 1.5 / cells


def test_images_of_another_size_are_refused():
    net = SSD(priors.SHAPES128, 2, "small")
    with pytest.raises(ValueError, match=r"takes images of 128 x 128 px .*got 160 x 128"):
        net(torch.zeros(1, 3, 160, 128))


def test_a_description_that_does_not_fit_is_named():
    maps = (dataclasses.replace(priors.SSD300_VOC.maps[0], height=37), *priors.SSD300_VOC.maps[1:])
    with pytest.raises(ValueError, match=r"maps\[0\] \(conv4_3\) is described as 37 x 38.*gives 38 x 38"):
        SSD(priors.SSD300_VOC.replace(maps=maps), 21)
    with pytest.raises(ValueError, match="too small"):
        model.fit_config(priors.SSD300_VOC, 64, 64)
    with pytest.raises(ValueError, match="base must be one of"):
        SSD(priors.SSD300_VOC, 21, "resnet")
    with pytest.raises(ValueError, match="num_classes"):
        SSD(priors.SSD300_VOC, 1)
    three = (priors.SHAPES128.maps[0],) * 3
    with pytest.raises(ValueError, match="3 maps, but base and extra blocks give 2"):
        SSD(priors.SHAPES128.replace(maps=three), 2, "small")


def test_a_custom_detector_from_its_description_alone():
    maps = (
        FeatureMap("a", 8, 12, 10.0, 20.0, (3.0,)),
        FeatureMap("b", 4, 6, 20.0, None, ()),
        FeatureMap("c", 2, 3, 40.0, 60.0, (2.0,), extra=Extra(16, 24)),
    )
    net = SSD(Config("mine", 96, 64, maps), 3, "small")
    offsets, logits = net(torch.zeros(2, 3, 64, 96))
    count = 8 * 12 * 4 + 4 * 6 * 1 + 2 * 3 * 4
    assert offsets.shape == (2, count, 4)
    assert logits.shape == (2, count, 3)


def test_parameter_groups_follow_the_original():
    net = on_meta(lambda: SSD(priors.SSD300_VOC, 21, "vgg16_bn"))
    weights, scales, biases = model.parameter_groups(net, 0.001, 5e-4)
    assert [g["lr"] for g in (weights, scales, biases)] == [0.001, 0.001, 0.002]
    assert [g["weight_decay"] for g in (weights, scales, biases)] == [5e-4, 0.0, 0.0]
    assert all(p.dim() == 4 or p is net.base.l2_norm.weight for p in weights["params"])
    assert len(scales["params"]) == 2 * 23  # batch normalisation's factors and shifts
    assert len(biases["params"]) == 2 * 6  # the heads
    assert sum(len(g["params"]) for g in (weights, scales, biases)) == len(list(net.parameters()))
