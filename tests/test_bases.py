"""The base networks: against slow loops, published counts, TensorFlow's padding, and what frozen layers keep."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ssdedu import bases, priors, train
from ssdedu.augment import Augment, Resize
from ssdedu.base_weights import load_base
from ssdedu.bases import MobileNetV1, SameConv2d, SmallBase
from ssdedu.batches import to_tensor
from ssdedu.datasets.shapes import Shapes
from ssdedu.datasets.voc import VOCFolder
from ssdedu.model import SSD, parameter_groups
from ssdedu.train import Settings

SHARED = Path(__file__).parents[2] / "shared"
WEIGHTS, VOC = SHARED / "weights" / "mobilenet_v1_1.0_to_pw12.pth", SHARED / "voc-sample"
needs_weights = pytest.mark.skipif(
    not (WEIGHTS.is_file() and VOC.is_dir()),
    reason="MobileNetV1's ImageNet weights and the VOC2007 photos are not beside this checkout",
)


def on_meta(make):
    with torch.device("meta"):
        return make()


def with_statistics(base, seed=0):
    """Batch normalisation that is not the identity, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (m for m in base.modules() if isinstance(m, nn.BatchNorm2d)):
        for values, low, high in (
            (norm.weight.data, 0.5, 1.5),
            (norm.bias.data, -0.3, 0.6),
            (norm.running_mean, -0.3, 0.3),
            (norm.running_var, 0.5, 2.0),
        ):
            values.uniform_(low, high, generator=generator)
    return base.eval()


def tf_padding(cells, kernel, stride, dilation=1):
    """The rule as tf.nn's "Notes on padding" has it: by the remainder, what is odd at the end."""
    window = dilation * (kernel - 1) + 1
    pad = max(window - (cells % stride or stride), 0)
    return pad // 2, pad - pad // 2


def slow_same_conv(x, weight, bias, stride, dilation, groups):
    """(D, H, W) by loops over outputs and taps; what lies outside is 0."""
    depth, rows, columns = len(weight), *x.shape[1:]
    per_group, kernel = weight.shape[1], weight.shape[2:]
    top, left = (tf_padding(n, k, stride, dilation)[0] for n, k in zip((rows, columns), kernel, strict=True))
    out = np.zeros((depth, math.ceil(rows / stride), math.ceil(columns / stride)))
    for d, i, j in np.ndindex(out.shape):
        out[d, i, j] = bias[d]
        first = d // (depth // groups) * per_group
        for c, a, b in np.ndindex(per_group, *kernel):
            row, column = i * stride + a * dilation - top, j * stride + b * dilation - left
            if 0 <= row < rows and 0 <= column < columns:
                out[d, i, j] += x[first + c, row, column] * weight[d, c, a, b]
    return out


@settings(deadline=None, max_examples=80)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    seed=st.integers(0, 9),
)
def test_same_convolution_is_the_loop_with_tensorflows_padding(kernel, stride, dilation, groups, size, seed):
    torch.manual_seed(seed)
    conv = SameConv2d(2, 2, kernel, stride, dilation=dilation, groups=groups).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    out = conv(x).detach()
    assert out.shape[-2:] == tuple(math.ceil(n / stride) for n in size)
    for axis in (0, 1):
        assert conv.same_padding(size[axis], axis) == tf_padding(size[axis], kernel[axis], stride, dilation)
    wanted = slow_same_conv(
        x[1].numpy(), conv.weight.detach().numpy(), conv.bias.detach().numpy(), stride, dilation, groups
    )
    np.testing.assert_allclose(out[1], wanted, atol=1e-12)


def test_same_padding_by_hand():
    """TensorFlow's own cases: 300 is padded behind alone, 75 on both sides, stride 1 on both sides."""
    halves, keeps = SameConv2d(1, 1, 3, 2), SameConv2d(1, 1, 3)
    assert [halves.same_padding(n, 0) for n in (300, 75, 2, 1)] == [(0, 1), (1, 1), (0, 1), (1, 1)]
    assert keeps.same_padding(300, 1) == keeps.same_padding(1, 0) == (1, 1)
    assert SameConv2d(1, 1, 1, 2).same_padding(300, 0) == (0, 0)
    assert SameConv2d(1, 1, (5, 2), 1).same_padding(9, 0) == (2, 2)
    assert SameConv2d(1, 1, (5, 2), 1).same_padding(9, 1) == (0, 1)


@pytest.mark.parametrize("size", [(12, 12), (13, 9), (12, 9)])
def test_the_detour_over_single_precision_gives_bfloat16s_numbers(size, monkeypatch):
    """On a CPU a strided depthwise convolution that learns is reckoned in single precision: same numbers, sooner."""
    torch.manual_seed(0)
    conv, seen = SameConv2d(8, 8, 3, 2, groups=8, bias=False), []
    slow = SameConv2d._convolve
    monkeypatch.setattr(
        SameConv2d,
        "_convolve",
        lambda self, x, w, p: (seen.append((x.dtype, w.dtype)), slow(self, x, w, p))[1],
    )
    x = torch.randn(2, 8, *size).bfloat16()
    outs, grads = [], []
    for learns in (True, False):
        image = x.clone().requires_grad_()
        if not learns:
            monkeypatch.setattr(SameConv2d, "_is_slow_to_learn", lambda self, x: False)
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = conv(image)
        out.float().square().sum().backward()
        outs.append(out.detach())
        grads.append((image.grad, conv.weight.grad.clone()))
    assert seen[0] == (torch.float32, torch.float32)
    assert seen[1][0] == torch.bfloat16
    assert outs[0].dtype == outs[1].dtype == grads[0][0].dtype == torch.bfloat16
    torch.testing.assert_close(outs[0], outs[1])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


def test_only_what_learns_in_bfloat16_takes_the_detour():
    x = torch.zeros(1, 4, 6, 6)
    slow = SameConv2d(4, 4, 3, 2, groups=4)._is_slow_to_learn
    assert slow(x.bfloat16().requires_grad_())
    assert not slow(x.bfloat16())
    assert not slow(x.clone().requires_grad_())
    assert not SameConv2d(4, 4, 3, 1, groups=4)._is_slow_to_learn(x.bfloat16().requires_grad_())
    assert not SameConv2d(4, 4, 3, 2)._is_slow_to_learn(x.bfloat16().requires_grad_())
    with torch.no_grad():
        assert not slow(x.bfloat16().requires_grad_())


def plain_mobilenet(state, x):
    """MobileNetV1 up to block 12 from its bare numbers: padding by hand, Table 1's strides, epsilon 1e-3, ReLU6."""
    kernels = [(name, value) for name, value in state.items() if value.ndim == 4]
    strides = {
        0: 2,
        3: 2,
        7: 2,
        11: 2,
        23: 2,
    }  # the first convolution, and the depthwise ones of blocks 2, 4, 6, 12
    maps = []
    for number, (name, kernel) in enumerate(kernels):
        stride = strides.get(number, 1)
        if kernel.shape[-1] == 3:
            (top, bottom), (left, right) = ((1 - (stride == 2 and n % 2 == 0), 1) for n in x.shape[-2:])
            x = F.pad(x, (left, right, top, bottom))
        x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1] if number % 2 and number else 1)
        stage, place, _ = name.rsplit(".", 2)
        norm = f"{stage}.{int(place) + 1}."
        mean, var, weight, bias = (
            state[norm + part][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = ((x - mean) / (var + 1e-3).sqrt() * weight + bias).clamp(0, 6)
        if number in (10, 22, 24):
            maps.append(x)
    return maps


@pytest.mark.parametrize("size", [(64, 64), (75, 75), (53, 98), (33, 32), (1, 1)])
def test_mobilenet_is_the_plain_one(size):
    torch.manual_seed(0)
    base = with_statistics(MobileNetV1(width=0.25)).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        found, wanted = base(x), plain_mobilenet(base.state_dict(), x)
    for one, other, stride in zip(found, wanted, (8, 16, 32), strict=True):
        assert one.shape[-2:] == tuple(math.ceil(n / stride) for n in size)
        assert other.std() > 0.01
        torch.testing.assert_close(one, other)


def test_mobilenets_published_counts_and_sizes():
    """Keras counts 3,228,864 numbers without the classifier, running statistics included; block 13 is not here."""
    base = on_meta(MobileNetV1)
    numbers = [v.numel() for name, v in base.state_dict().items() if not name.endswith("num_batches_tracked")]
    block13 = 9 * 1024 + 1024 * 1024 + 2 * 4 * 1024
    assert sum(numbers) == 3_228_864 - block13
    maps = base.eval()(torch.zeros(1, 3, 300, 300, device="meta"))
    assert [tuple(m.shape) for m in maps] == [(1, 256, 38, 38), (1, 512, 19, 19), (1, 1024, 10, 10)]
    assert base.channels == (256, 512, 1024)
    half = on_meta(lambda: MobileNetV1(0.5))
    assert half.channels == (128, 256, 512)
    assert not any(isinstance(m, bases.L2Norm) for m in base.modules())


@needs_weights
def test_real_photos_have_the_statistics_that_imagenet_had():
    """Every number is loaded, and what each batch normalisation is given has about its own running mean and variance.

    So input scale, padding, order of the layers and loading are those of the training: an input in 0 .. 1, noise, or
    a kernel in another's place is far off.
    """
    base = MobileNetV1()
    before = {k: v.clone() for k, v in base.state_dict().items()}
    load_base(base, WEIGHTS)
    after = base.eval().state_dict()
    assert all(not torch.equal(before[k], after[k]) for k in after if not k.endswith("num_batches_tracked"))
    photos, seen = VOCFolder(VOC, "train"), []
    images = torch.stack([to_tensor(Resize(300, 300)(photos[i]).image) for i in range(4)])

    def standardised(norm, inputs):
        alive = norm.running_var > norm.eps  # some channels of the first layers never learned anything
        mean, var = (v[alive, None, None] for v in (norm.running_mean, norm.running_var))
        seen.append((inputs[0][:, alive] - mean) / var.sqrt())

    for norm in (m for m in base.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.register_forward_pre_hook(standardised)
    with torch.no_grad():
        maps = base(images / 127.5 - 1)
    assert len(seen) == 1 + 2 * 12
    for z in seen:
        assert z.mean((0, 2, 3)).abs().mean() < 0.35
        assert 0.7 < z.square().mean().sqrt() < 1.2
    assert all(m.isfinite().all() and m.min() == 0 and 1 < m.max() <= 6 for m in maps)


class Seen(Exception):
    """Carries what the base was given, without computing it."""


@pytest.mark.parametrize(("config", "base", "pixel", "wanted"), [
    (priors.SSD300_VOC, "vgg16", (124, 119, 107), (1, 2, 3)),
    (priors.SSD300_MOBILENET, "mobilenet", (0, 127.5, 255), (-1, 0, 1)),
    (priors.SHAPES128, "small", (63.5, 127.5, 191.5), (-1, 0, 1)),
])  # fmt: skip
def test_each_base_normalises_its_input(config, base, pixel, wanted):
    def stop(module, inputs):
        raise Seen(inputs[0])

    net = SSD(config, 2, base)
    net.base.register_forward_pre_hook(stop)
    images = torch.tensor(pixel)[None, :, None, None].expand(1, 3, config.height_px, config.width_px)
    with pytest.raises(Seen) as seen:
        net.eval()(images)
    (given,) = seen.value.args
    assert given.dtype == torch.float32
    torch.testing.assert_close(given[0, :, 7, 9], torch.tensor(wanted, dtype=torch.float32))


@pytest.mark.parametrize("name", bases.BASES)
def test_every_base_says_what_it_gives(name):
    base = on_meta(lambda: bases.make_base(name)).eval()
    maps = base(torch.zeros(1, 3, 96, 128, device="meta"))
    assert tuple(m.shape[1] for m in maps) == base.channels
    assert len(base.tapped) == len(maps)
    assert set(base.tapped) <= {child for child, _ in base.named_children()}
    assert base.normalizes_batches == (name not in ("vgg16", "vgg16_full"))
    assert base.separable == (name == "mobilenet")


def test_an_unknown_base_is_answered_with_the_names():
    with pytest.raises(ValueError, match=r"base must be one of vgg16, .*mobilenet, small, got 'resnet'"):
        bases.make_base("resnet")


def test_batch_normalised_vgg_has_a_norm_behind_every_convolution():
    base = on_meta(lambda: bases.make_base("vgg16_bn"))
    for stage in (base.to_conv4_3, base.to_conv5_3, base.to_fc7):
        for conv, norm, relu in zip(stage, stage[1:], stage[2:], strict=False):
            if isinstance(conv, nn.Conv2d):
                assert isinstance(norm, nn.BatchNorm2d)
                assert norm.num_features == conv.out_channels
                assert isinstance(relu, nn.ReLU)
                assert conv.bias is None
    plain, full = (on_meta(lambda name=name: bases.make_base(name)) for name in ("vgg16", "vgg16_full"))
    shapes = [[m.weight.shape for m in b.modules() if isinstance(m, nn.Conv2d)] for b in (base, plain, full)]
    assert shapes[0] == shapes[1]
    assert shapes[2] == [*shapes[1][:-2], (4096, 512, 7, 7), (4096, 4096, 1, 1)]
    assert all(m.bias is not None for m in plain.modules() if isinstance(m, nn.Conv2d))


def test_l2_normalisation_is_where_the_paper_has_it():
    """Behind conv4_3 of a VGG16 without batch normalisation, whose maps have scales of their own (Sec. 3.1)."""
    for name in bases.BASES:
        norms = [
            m
            for m in on_meta(lambda name=name: bases.make_base(name)).modules()
            if isinstance(m, bases.L2Norm)
        ]
        assert len(norms) == (name in ("vgg16", "vgg16_full")), name


def test_batch_normalisation_gives_the_tapped_maps_one_scale():
    """Why vgg16_bn needs no L2 normalisation: a channel is the positive half of a standard normal, root mean
    square sqrt(1/2), and conv4_3's vectors of 512 have the length 16 where the paper's L2Norm starts at 20."""
    torch.manual_seed(0)
    base = bases.make_base("vgg16_bn").train()
    with torch.no_grad():
        maps = base(100 * torch.randn(2, 3, 64, 64))
    for m in maps:
        assert m.square().mean().sqrt() == pytest.approx(math.sqrt(0.5), rel=0.1)
    assert maps[0].norm(dim=1).mean() == pytest.approx(16, rel=0.1)


def detector(frozen=0, seed=0):
    net = train.build(lambda: SSD(priors.SHAPES128_ONE_MAP, 9, "small"), seed)
    net.base.freeze(frozen)
    return net


def a_step(net, settings=None):
    """One step of the optimizer on noise."""
    groups = parameter_groups(net, 1e-2, 0.05)
    optimizer = torch.optim.AdamW(groups)
    offsets, logits = net.train()(torch.rand(3, 3, 128, 128) * 255)
    (offsets.square().mean() + logits.logsumexp(-1).mean()).backward()
    optimizer.step()
    return groups


def test_frozen_layers_keep_their_numbers_and_the_others_learn():
    net, layers = detector(frozen=9), 9  # three convolutions with their norms and ReLUs
    before = {k: v.clone() for k, v in net.state_dict().items()}
    groups = a_step(net)
    names = [name for name, m in net.base.named_modules() if not list(m.children())]
    frozen = {f"base.{name}" for name in names[:layers]}
    assert frozen == {f"base.to_stride8.{i}" for i in range(layers)}
    for key, value in net.state_dict().items():
        same = torch.equal(value, before[key])
        constant = key in ("mean", "std")
        assert same == (constant or key.rpartition(".")[0] in frozen), key
    grouped = {id(p) for group in groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        is_frozen = name.rpartition(".")[0] in frozen
        assert (id(parameter) in grouped) == (parameter.grad is not None) == (not is_frozen), name


def test_frozen_layers_stay_in_evaluation_through_every_toggle():
    net = detector(frozen=6)
    leaves = [m for m in net.base.modules() if not list(m.children())]
    for mode in (True, False, True, True):
        net.train(mode)
        assert [m.training for m in leaves] == [False] * 6 + [mode] * (len(leaves) - 6)
    assert all(m.training for m in net.class_heads.modules())


def test_freezing_again_replaces_what_was_frozen():
    base = SmallBase()
    leaves = [m for m in base.modules() if not list(m.children())]
    leaves[-2].requires_grad_(False)  # by hand
    for layers in (6, 3, 9, 0):
        base.train().freeze(layers)
        learns = [all(p.requires_grad for p in m.parameters()) for m in leaves]
        assert learns[:-2] == [not list(m.parameters()) or i >= layers for i, m in enumerate(leaves[:-2])]
        assert not learns[-2]
        assert [m.training for m in leaves] == [i >= layers for i in range(len(leaves))]
    assert base.frozen == 0


@pytest.mark.parametrize("layers", [-1, 25])
def test_a_number_of_layers_that_the_base_has_not(layers):
    base = SmallBase()
    with pytest.raises(
        ValueError, match=rf"frozen_layers must be 0 \.\. 24, the layers of SmallBase, got {layers}"
    ):
        base.freeze(layers)
    assert base.frozen == 0
    base.freeze(24)
    assert not any(p.requires_grad for p in base.parameters())


def test_the_recipe_freezes_mobilenets_first_three_blocks():
    base = on_meta(MobileNetV1)
    base.freeze(21)
    frozen = [name for name, p in base.named_parameters() if not p.requires_grad]
    assert len(frozen) == 3 + 3 * 6  # kernel, factor and shift of seven convolutions
    assert frozen[-1] == "to_stride8.19.bias"
    assert base.to_stride8[21].weight.requires_grad  # block 4, which halves to stride 8


def test_a_run_with_frozen_layers_resumes_bit_for_bit(tmp_path):
    scenes, settings = (
        Shapes(5, seed=2),
        Settings(
            iterations=4,
            batch_size=2,
            optimizer="adamw",
            lr=1e-3,
            schedule="cosine",
            save_every=2,
            frozen_layers=9,
        ),
    )
    whole, first, second = detector(seed=1), detector(seed=1), detector(seed=2)
    start = whole.base.to_stride8[3].weight.clone()
    train.train(whole, scenes, Augment(128, 128), settings, tmp_path / "whole")
    train.train(first, scenes, Augment(128, 128), settings, tmp_path / "parts", until=2)
    train.train(second, scenes, Augment(128, 128), settings, tmp_path / "parts", resume=True)
    assert torch.equal(whole.base.to_stride8[3].weight, start)
    ours, theirs = whole.state_dict(), second.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_no_surprise_under_a_dynamic_batch():
    """One program serves every batch size: sizes of the image are constants in it, the batch is not."""
    conv = SameConv2d(4, 4, 3, 2, groups=4, bias=False)
    batch = torch.export.Dim("batch")
    program = torch.export.export(conv, (torch.zeros(2, 4, 10, 7),), dynamic_shapes=({0: batch},)).module()
    for number in (1, 2, 5):
        x = torch.randn(number, 4, 10, 7)
        torch.testing.assert_close(program(x), conv(x))
