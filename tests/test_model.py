"""The network against published shapes and counts, and against default boxes cell by cell."""

import dataclasses
import hashlib
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssdedu import bases, model, priors
from ssdedu.bases import L2Norm
from ssdedu.model import SSD
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
    assert all(
        c.bias is None for part in (net.base, net.extras) for c in part.modules() if isinstance(c, nn.Conv2d)
    )
    assert not any(isinstance(m, L2Norm) for m in net.modules())


def test_separable_extras_and_predictors_are_ssdlites():
    """MobileNetV2's Sec. 6.2: each 3x3 convolution becomes a depthwise one, normalised, and a 1x1."""
    net = on_meta(lambda: SSD(priors.SSD300_MOBILENET, 21, "mobilenet"))
    for block, m in zip(net.extras, priors.SSD300_MOBILENET.maps[3:], strict=True):
        first, depthwise, last = (c for c in block if isinstance(c, nn.Conv2d))
        shape = depthwise.kernel_size[0], depthwise.stride[0], depthwise.padding[0]
        assert shape == (m.extra.kernel, m.extra.stride, m.extra.padding)
        assert depthwise.groups == depthwise.in_channels == first.out_channels == m.extra.mid
        assert (last.kernel_size, last.groups, last.out_channels) == ((1, 1), 1, m.extra.out)
        kinds = [type(part).__name__ for part in block]
        assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 3
    depths = (256, 512, 1024, 512, 256, 256)
    for heads, numbers in ((net.offset_heads, 4), (net.class_heads, 21)):
        for head, depth, m in zip(heads, depths, net.config.maps, strict=True):
            depthwise, norm, _, last = head
            assert depthwise.weight.shape == (depth, 1, 3, 3)
            assert norm.num_features == depth
            assert last.weight.shape == (m.boxes_per_cell * numbers, depth, 1, 1)
            assert last.bias is not None


def wave(shape, phase):
    """Numbers that are the same on every machine, unlike a random generator's."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (0.7 * count + phase).sin().reshape(shape)


def test_the_trained_mobilenet_detector_stays_loadable():
    """Names and shapes of its numbers, and what it gives for weights known by a formula: checkpoints rest on both."""
    net = SSD(priors.SSD300_MOBILENET, 21, "mobilenet").double().eval()
    state = net.state_dict()
    layout = "\n".join(f"{name} {list(value.shape)}" for name, value in state.items())
    known = "ab6a5d9c114240f3a72f12074fad35ac37a332b7d488f53773075ae42843793b"
    assert hashlib.sha256(layout.encode()).hexdigest() == known
    for i, (name, value) in enumerate(state.items()):
        if value.ndim == 4:
            value.copy_(wave(value.shape, i) * (6 / value[0].numel()) ** 0.5)
        elif value.ndim == 1:
            middle, reach = (1, 0.5) if "running_var" in name else (name.endswith("weight"), 0.1)
            value.copy_(middle + reach * wave(value.shape, i))
    with torch.no_grad():
        offsets, logits = net((127.5 + 127.5 * wave((1, 3, 300, 300), 0)).round())
    sizes = [m.num_boxes for m in net.config.maps]
    found = [
        (o.abs().mean().item(), c.std().item())
        for o, c in zip(offsets[0].split(sizes), logits[0].split(sizes), strict=True)
    ]
    pinned = [
        (5.257184, 5.096521),
        (4.383611, 6.029414),
        (12.04326, 10.21804),
        (1.401004, 139.1364),
        (1539.8, 406.6898),
        (5546.927, 12090.74),
    ]
    assert found == [pytest.approx(pair, rel=1e-6) for pair in pinned]


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


def test_one_map_predicts_from_the_last_base_map():
    net = SSD(priors.SHAPES128_ONE_MAP, 9, "small")
    offsets, logits = net(torch.zeros(1, 3, 128, 128))
    assert offsets.shape == (1, 384, 4)
    assert logits.shape == (1, 384, 9)
    assert len(net.extras) == 0


@pytest.mark.parametrize(("width", "height"), [(300, 300), (500, 300), (300, 512), (641, 333)])
@pytest.mark.parametrize(("start", "base"), [("SSD300_VOC", "vgg16"), ("SSD300_MOBILENET", "mobilenet")])
def test_fit_config_gives_maps_that_the_network_has(start, base, width, height):
    config = model.fit_config(priors.PRESETS[start], width, height, base)
    net = on_meta(lambda: SSD(config, 3, base)).eval()
    offsets, _ = net(torch.zeros(1, 3, height, width, device="meta"))
    assert offsets.shape[1] == config.num_boxes
    if (width, height) == (300, 300):
        assert torch.equal(priors.default_boxes(config), priors.default_boxes(priors.SSD300_VOC))
    assert priors.default_boxes(config)[:, :2].max() <= 1.02
    short = min(width, height)
    assert config.maps[0].min_px == pytest.approx(short / 10)


@pytest.mark.parametrize("size", [320, 500, 512, 544, 600, 640, 800, (700, 500)])
@pytest.mark.parametrize(("config", "base"), [
    (priors.SSD300_VOC, "vgg16"), (priors.SSD512_VOC, "vgg16"), (priors.SSD300_MOBILENET, "mobilenet"),
])  # fmt: skip
def test_fitted_grids_fill_the_image_and_stay_in_it(config, base, size):
    width, height = size if isinstance(size, tuple) else (size, size)
    for m in model.fit_config(config, width, height, base).maps:
        centers = priors.cell_centers(m, width, height)
        assert centers.max() <= 1.02
        for cells, last in ((m.width, centers[-1, -1, 0]), (m.height, centers[-1, -1, 1])):
            assert 1 - last <= 1.5 / cells


@pytest.mark.parametrize(("config", "base"), [
    (priors.SSD300_VOC, "vgg16"), (priors.SSD512_COCO, "vgg16_bn"), (priors.SSD300_FULL_VGG, "vgg16_full"),
    (priors.SSD300_MOBILENET, "mobilenet"), (priors.SHAPES128_COARSE_MAP, "small"),
])  # fmt: skip
@pytest.mark.parametrize("size", [(300, 300), (301, 331), (512, 298), (299, 640)])
def test_sizes_by_arithmetic_are_those_of_the_running_network(config, base, size):
    network = on_meta(lambda: bases.make_base(base))
    wanted = model._sizes_by_running(config, network, size[::-1])
    assert model.map_sizes(config, base, *size) == wanted


def test_a_base_that_branches_is_measured_by_running(monkeypatch):
    class Branching(bases.SmallBase):
        tapped = ()

    monkeypatch.setitem(bases.BASES, "branching", Branching)
    assert model.map_sizes(priors.SHAPES128, "branching", 128, 96) == [(12, 16), (6, 8), (3, 4), (2, 2)]
    start = priors.SHAPES128.maps
    bare = priors.SHAPES128.replace(maps=tuple(dataclasses.replace(m, extra=None) for m in start))
    with pytest.raises(ValueError, match="4 maps, but base and extra blocks give 2"):
        SSD(bare, 2, "branching")
    tight = priors.SHAPES128.replace(
        maps=(*start[:3], dataclasses.replace(start[3], extra=Extra(8, 8, 5, 1, 0)))
    )
    with pytest.raises(ValueError, match="SHAPES128: an input of 64 x 64 px is too small"):
        model.map_sizes(tight, "branching", 64, 64)


def test_a_detector_is_built_without_loading_torchs_compiler():
    """It took a second before the first photo, for numbers that nobody reads."""
    use = "from ssdedu import model, priors; model.SSD(priors.SHAPES128, 3, 'small'); import ssdedu.recipes"
    code = f"import sys; {use}; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


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
    for size in ((128, 300), (300, 128), (31, 31)):
        with pytest.raises(
            ValueError, match=f"SSD300_MOBILENET: an input of {size[0]} x {size[1]} px is too small"
        ):
            model.fit_config(priors.SSD300_MOBILENET, *size, "mobilenet")
    with pytest.raises(ValueError, match="base must be one of"):
        model.fit_config(priors.SSD300_VOC, 300, 300, "resnet")
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
    assert all(p.dim() == 4 for p in weights["params"])
    assert len(scales["params"]) == 2 * 23  # batch normalisation's factors and shifts
    assert len(biases["params"]) == 2 * 6  # the heads
    assert sum(len(g["params"]) for g in (weights, scales, biases)) == len(list(net.parameters()))


def test_the_papers_network_has_its_l2_norm_among_the_weights():
    net = on_meta(model.ssd300)
    weights, scales, biases = model.parameter_groups(net, 0.001, 5e-4)
    assert [p.shape for p in weights["params"] if p.dim() != 4] == [(512,)]
    assert scales["params"] == []
    assert len(weights["params"]) - 1 == len(biases["params"]) == 15 + 8 + 12


@pytest.mark.parametrize(("config", "base"), [
    (priors.SSD300_VOC, "vgg16_bn"), (priors.SSD300_MOBILENET, "mobilenet"),
    (model.fit_config(priors.SHAPES128_ONE_MAP, 16, 16, "small"), "small"),
])  # fmt: skip
def test_one_image_is_too_few_to_train_where_a_normalised_map_has_one_cell(config, base):
    """torch would say "Expected more than 1 value per channel when training", without a hint at the batch."""
    net = on_meta(lambda: SSD(config, 3, base)).train()
    image = torch.zeros(1, 3, config.height_px, config.width_px, device="meta")
    with pytest.raises(
        ValueError, match=r"needs 2 images or more a batch in training.* map \w+ of 1 x 1 cells"
    ):
        net(image)
    assert net(image.expand(2, -1, -1, -1))[0].shape[0] == 2
    assert net.eval()(image)[0].shape[0] == 1


def test_one_image_trains_where_nothing_stands_in_the_way():
    for config, base in ((priors.SSD300_VOC, "vgg16"), (priors.SHAPES128, "small")):
        net = on_meta(lambda config=config, base=base: SSD(config, 3, base)).train()
        assert net(torch.zeros(1, 3, config.height_px, config.width_px, device="meta"))[0].shape[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "base"), [(priors.SHAPES128, "small"), (priors.SSD300_MOBILENET, "mobilenet")]
)
def test_one_exported_program_serves_every_batch(config, base):
    net = SSD(config, 3, base).eval()
    shape = 3, config.height_px, config.width_px
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (torch.zeros(2, *shape),), dynamic_shapes=dynamic).module()
    images = torch.rand(3, *shape) * 255
    with torch.no_grad():
        for number in (1, 3):
            for one, other in zip(program(images[:number]), net(images[:number]), strict=True):
                torch.testing.assert_close(one, other)
