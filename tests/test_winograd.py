"""Winograd's convolution against torch's in double precision and where it is chosen."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssdedu import model, winograd
from ssdedu.precision import autocast

CPU = torch.device("cpu")


@pytest.fixture
def seen(monkeypatch):
    """Shapes of the kernels that have gone the fast way."""
    shapes = []

    def watched(x, weight, bias=None):
        shapes.append(tuple(weight.shape))
        return fast(x, weight, bias)

    fast = winograd.conv2d
    monkeypatch.setattr(winograd, "conv2d", watched)
    return shapes


def both(batch, inputs, outputs, height, width, bias):
    """Ours in single precision and torch's in double: output and gradients by images, kernels and bias."""
    torch.manual_seed(height)
    x, gradient = (torch.randn(batch, n, height, width, dtype=torch.float64) for n in (inputs, outputs))
    parameters = [torch.randn(outputs, inputs, 3, 3), *([torch.randn(outputs)] if bias else [])]
    results = []
    for conv, dtype in (
        (winograd.conv2d, torch.float32),
        (lambda *a: F.conv2d(*a, padding=1), torch.float64),
    ):
        tensors = [t.to(dtype).requires_grad_() for t in (x, *parameters)]
        y = conv(*tensors)
        results.append([y, *torch.autograd.grad(y, tensors, gradient.to(dtype))])
    return zip(*results, strict=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (8, 5), (13, 19), (38, 38)])
def test_the_numbers_are_those_of_the_definition(height, width, bias):
    for found, wanted in both(3, 5, 7, height, width, bias):
        found, wanted = found.detach(), wanted.detach()
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5 * float(wanted.abs().max()))


def test_a_few_images_at_a_time_give_what_all_together_give(monkeypatch):
    torch.manual_seed(0)
    x, weight = torch.randn(5, 4, 9, 9), torch.randn(6, 4, 3, 3)
    whole = winograd.conv2d(x, weight)
    monkeypatch.setattr(winograd, "_NUMBERS_AT_ONCE", 2 * 36 * 9 * 6)
    assert [len(range(5)[part]) for part in winograd._parts(x, 6)] == [2, 2, 1]
    torch.testing.assert_close(winograd.conv2d(x, weight), whole)


def test_the_kernel_that_copies_copies():
    """A one in the middle of the kernel."""
    weight = torch.zeros(1, 1, 3, 3)
    weight[..., 1, 1] = 1
    x = torch.arange(70.0).view(1, 1, 7, 10)
    torch.testing.assert_close(winograd.conv2d(x, weight), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("layer", "cells", "dtype", "chosen"), [
    (nn.Conv2d(128, 128, 3, padding=1), 16, torch.float32, True),
    (nn.Conv2d(128, 256, 3, padding=1, bias=False), 16, torch.float32, True),
    (nn.Conv2d(128, 127, 3, padding=1), 16, torch.float32, False),
    (nn.Conv2d(128, 128, 3, padding=1), 15, torch.float32, False),
    (nn.Conv2d(128, 128, 3), 18, torch.float32, False),
    (nn.Conv2d(128, 128, 3, stride=2, padding=1), 32, torch.float32, False),
    (nn.Conv2d(128, 128, 3, padding=6, dilation=6), 16, torch.float32, False),
    (nn.Conv2d(256, 256, 3, padding=1, groups=2), 16, torch.float32, False),
    (nn.Conv2d(128, 128, 1), 16, torch.float32, False),
    (nn.Conv2d(128, 128, 3, padding=1), 16, torch.float64, False),
])  # fmt: skip
def test_where_it_is_chosen(layer, cells, dtype, chosen, seen):
    x = torch.randn(1, layer.in_channels, cells, cells, dtype=dtype)
    wanted = layer.to(dtype)(x)
    assert not seen
    with autocast(CPU, "float32"):
        found = layer(x)
    assert bool(seen) == chosen
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    layer(x)
    assert len(seen) == chosen


def test_lower_precision_is_left_to_torch(seen):
    with autocast(CPU, "bfloat16"):
        assert nn.Conv2d(128, 128, 3, padding=1)(torch.randn(1, 128, 16, 16)).dtype == torch.bfloat16
    assert not seen


def test_vgg16_gives_nearly_the_same_numbers_in_any_precision(seen):
    """Seeded random weights: torch's own float32, channels first, is the truth."""
    torch.manual_seed(0)
    net = model.ssd300().eval()
    images = torch.randint(256, (1, 3, 300, 300), dtype=torch.uint8)
    with torch.inference_mode():
        truth = net(images)
        net = net.to(memory_format=torch.channels_last)
        for precision, off in (("float32", 1e-4), ("bfloat16", 0.05)):
            with autocast(CPU, precision):
                found = net(images)
            for value, wanted in zip(found, truth, strict=True):
                assert (value - wanted).abs().max() < off * wanted.abs().max()
    wide = {(n, m, 3, 3) for n, m in ((128, 128), (256, 128), (256, 256), (512, 256), (512, 512))}
    assert wide <= set(seen)
    assert {shape[2:] for shape in seen} == {(3, 3)}
