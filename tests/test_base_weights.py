"""Bases from other people's files: each number where it belongs, the input they were trained with, and nothing else."""

import copy
import functools
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from other_ssds import VGG, Amdegroot, Torchvision, random_state
from torch import nn

from ssdedu import bases, keras_weights, layouts, priors, shipped, vgg_classifier, weights
from ssdedu.base_weights import load_base
from ssdedu.checkpoints import CheckpointError, Detector, save_checkpoint
from ssdedu.datasets.shapes import Shapes
from ssdedu.model import SSD
from ssdedu.train import build
from ssdedu.workshop import train_on_folder

MOBILENET = Path(__file__).parents[2] / "shared" / "weights" / "mobilenet_v1_1.0_to_pw12.pth"
CAFFE_MEAN = [123.0, 117.0, 104.0]
BN_CONVS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
FC = {"classifier.0": (4096, 25088), "classifier.3": (4096, 4096), "classifier.6": (1000, 4096)}


@pytest.fixture(scope="module")
def made():
    return build(lambda: SSD(priors.SSD300_VOC, 3), seed=1)


@pytest.fixture
def ssd300(made):
    return copy.deepcopy(made)


def snapshot(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(net, before):
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def input_of(net):
    return [values.flatten().tolist() for values in (net.mean, net.std)]


@functools.cache
def random_convs(seed=0):
    g = torch.Generator().manual_seed(seed)
    weights_ = [torch.randn(o, i, k, k, generator=g) * (2 / i / k / k) ** 0.5 for _, o, i, k in CONVS]
    return list(zip(weights_, [torch.randn(o, generator=g) * 0.1 for _, o, _, _ in CONVS], strict=True))


CONVS = [(i, o, n, 3) for i, o, n in VGG]
REDUCED = [*CONVS, (31, 1024, 512, 3), (33, 1024, 1024, 1)]


def windows(shape, step, seed):
    """A matrix whose rows are overlapping windows of few numbers: as good as random, in 1 % of the memory."""
    storage = torch.randn(shape[0] * step + shape[1], generator=torch.Generator().manual_seed(seed)) * 0.02
    return storage.as_strided(shape, (step, 1))


def classifier(batch_norm=False, nan=False):
    """A torchvision VGG16's state dict with random numbers; nan: its fully connected layers have none."""
    state, g = {}, torch.Generator().manual_seed(5)
    for number, (_, outputs, _, _), (weight, bias) in zip(
        BN_CONVS if batch_norm else [i for i, *_ in CONVS], CONVS, random_convs(), strict=True
    ):
        state |= {f"features.{number}.weight": weight, f"features.{number}.bias": bias}
        if batch_norm:
            for name in ("weight", "bias", "running_mean", "running_var"):
                state[f"features.{number + 1}.{name}"] = torch.rand(outputs, generator=g) + 0.5
    for i, (key, shape) in enumerate(FC.items()):
        empty = torch.full((1,), torch.nan)
        state[f"{key}.weight"] = empty.expand(shape) if nan else windows(shape, 101, i)
        state[f"{key}.bias"] = empty.expand(shape[0]) if nan else torch.randn(shape[0], generator=g)
    return state


def reference(state, numbers, x, pools, norm=False):
    """Convolutions of `features` as they are in torchvision, pooling before those of `pools`."""
    for position, number in enumerate(numbers):
        if position in pools:
            x = F.max_pool2d(x, 2, 2, ceil_mode=position == 7)
        x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1)
        if norm:
            parts = (
                state[f"features.{number + 1}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.batch_norm(x, *parts)
        x = F.relu(x)
    return x


def test_amdegroots_reduced_vgg16_is_taken_number_by_number(ssd300, tmp_path):
    state = {}
    g = torch.Generator().manual_seed(0)
    for i, outputs, inputs, kernel in REDUCED:
        state[f"{i}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=g)
        state[f"{i}.bias"] = torch.randn(outputs, generator=g)
    torch.save(state, tmp_path / "vgg16_reducedfc.pth", _use_new_zipfile_serialization=False)
    ssd300.mean.zero_()
    before = snapshot(ssd300)
    load_base(ssd300, tmp_path / "vgg16_reducedfc.pth")
    convs = [m for m in ssd300.base.modules() if isinstance(m, nn.Conv2d)]
    for (i, *_), conv in zip(REDUCED, convs, strict=True):
        assert torch.equal(conv.weight, state[f"{i}.weight"])
        assert torch.equal(conv.bias, state[f"{i}.bias"])
    assert input_of(ssd300) == [CAFFE_MEAN, [1.0] * 3]
    assert (ssd300.base.l2_norm.weight == 20).all()
    assert changed(ssd300, before) == {f"base.{key}" for key in layouts.VGG16_REDUCED} | {"mean"}


def test_torchvisions_features_leave_fc6_and_fc7_as_they_were(ssd300, tmp_path):
    state = classifier(nan=True)
    torch.save(state, tmp_path / "vgg16_features-amdegroot-88682ab5.pth")
    before = snapshot(ssd300)
    load_base(ssd300, tmp_path / "vgg16_features-amdegroot-88682ab5.pth")
    other = {
        name
        for name in changed(ssd300, before)
        if not name.startswith(("base.to_conv4_3", "base.to_conv5_3"))
    }
    assert other == {"mean"}
    np.testing.assert_allclose(input_of(ssd300)[0], [122.99925, 116.9991, 103.9992], rtol=1e-6)
    assert input_of(ssd300)[1] == [1.0] * 3
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = reference(state, [i for i, *_ in CONVS[:10]], x, (2, 4, 7))
        np.testing.assert_allclose(ssd300.base.to_conv4_3(x), wanted, atol=1e-4)


def test_torchvisions_classifier_is_decimated_as_the_paper_says(ssd300, tmp_path):
    """Every fourth output, every third row and column, by loops; the input is 0 .. 1 with ImageNet's statistics."""
    state = classifier()
    torch.save(state, tmp_path / "vgg16-397923af.pth")
    load_base(ssd300, tmp_path / "vgg16-397923af.pth")
    fc6, fc7 = ssd300.base.to_fc7[1], ssd300.base.to_fc7[3]
    for output in range(0, 1024, 41):
        kernels = state["classifier.0.weight"][4 * output].reshape(512, 7, 7)
        for row in range(3):
            for column in range(3):
                assert torch.equal(fc6.weight[output, :, row, column], kernels[:, 3 * row, 3 * column])
        assert fc6.bias[output] == state["classifier.0.bias"][4 * output]
        assert fc7.bias[output] == state["classifier.3.bias"][4 * output]
        for i in range(0, 1024, 57):
            assert fc7.weight[output, i, 0, 0] == state["classifier.3.weight"][4 * output, 4 * i]
    mean, std = input_of(ssd300)
    np.testing.assert_allclose(np.array(mean) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(std) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
    assert (ssd300.base.l2_norm.weight == 20).all()


def test_the_full_vgg16_takes_fc6_and_fc7_whole():
    with torch.device("meta"):
        base = bases.BASES["vgg16_full"]()
    state = classifier()
    made = vgg_classifier.from_classifier(base, state)
    shapes = {name: value.shape for name, value in base.state_dict().items() if name != "l2_norm.weight"}
    assert {name: value.shape for name, value in made.items()} == shapes
    assert torch.equal(made["to_fc7.1.weight"].flatten(1), state["classifier.0.weight"])
    assert torch.equal(made["to_fc7.3.weight"].flatten(1), state["classifier.3.weight"])
    assert made["to_fc7.1.bias"] is state["classifier.0.bias"]


@pytest.mark.parametrize("counters", [False, True], ids=["published", "counters"])
def test_with_batch_normalisation_the_base_computes_what_the_classifier_does(counters):
    """Its convolutions have biases, ours have none; in evaluation the function is the same, fc6 and fc7 included."""
    state = classifier(batch_norm=True)
    if counters:
        state |= {f"features.{i + 1}.num_batches_tracked": torch.tensor(7) for i in BN_CONVS}
    base = bases.BASES["vgg16_bn"]().eval()
    made = vgg_classifier.from_classifier(base, state)
    base.load_state_dict({**base.state_dict(), **made})
    assert set(made) == set(base.state_dict())
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        conv4_3 = reference(state, BN_CONVS[:10], x, (2, 4, 7), norm=True)
        conv5_3 = reference(state, BN_CONVS[10:], F.max_pool2d(conv4_3, 2, 2), (), norm=True)
        fc6 = state["classifier.0.weight"].reshape(4096, 512, 7, 7)[::4, :, ::3, ::3]
        y = F.conv2d(
            F.max_pool2d(conv5_3, 3, 1, 1), fc6, state["classifier.0.bias"][::4], padding=6, dilation=6
        )
        fc7 = state["classifier.3.weight"][::4, ::4, None, None]
        y = F.relu(F.conv2d(F.relu(y), fc7, state["classifier.3.bias"][::4]))
        ours = base(x)
    np.testing.assert_allclose(ours[0], conv4_3, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours[1], y, rtol=1e-3, atol=1e-3)


def test_what_does_not_fit_is_listed(ssd300, tmp_path):
    path = tmp_path / "a.pth"
    good = classifier(nan=True)
    wrong = {
        "missing: features.5.bias": {k: v for k, v in good.items() if k != "features.5.bias"},
        "unexpected: features.1.weight": {**good, "features.1.weight": torch.ones(64)},
        r"of another shape: classifier.3.bias \(5,\) instead of \(4096,\)": {
            **good,
            "classifier.3.bias": torch.ones(5),
        },
        "not finite, such as to_fc7.1.weight": {**good, "classifier.3.bias": torch.zeros(4096)},
        "missing: 2.weight, 2.bias": {"0.weight": torch.zeros(64, 3, 3, 3), "0.bias": torch.zeros(64)},
        r"no known classifier or detector \(stem.weight, ...\)": {"stem.weight": torch.zeros(1)},
        "these are weights of MobileNetV1": {"conv1.weight": torch.zeros(1)},
    }
    before = snapshot(ssd300)
    for reason, state in wrong.items():
        torch.save(state, path)
        with pytest.raises(
            CheckpointError, match=rf"{re.escape(str(path))}: does not fit the base vgg16: .*{reason}"
        ):
            load_base(ssd300, path)
    with pytest.raises(CheckpointError, match="no such"):
        load_base(ssd300, tmp_path / "absent.pth")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="cut short"):
        load_base(ssd300, path)
    assert not changed(ssd300, before)


@pytest.mark.parametrize("base", ["vgg16_bn", "vgg16_full", "mobilenet", "small"])
def test_weights_of_another_base_are_refused(base, tmp_path):
    with torch.device("meta"):
        network = bases.BASES[base]()
    states = [{"0.weight": torch.zeros(64, 3, 3, 3)}]
    states += [classifier(nan=True)] if base != "vgg16_full" else []
    states += [{"conv1.weight": torch.zeros(32, 3, 3, 3)}]
    for i, state in enumerate(states):
        torch.save(state, tmp_path / f"{i}.pth")
        with pytest.raises(CheckpointError, match=f"{i}.pth: does not fit the base"):
            load_base(network, tmp_path / f"{i}.pth")


def mobilenet_state(seed=0):
    """The plain layout conv1, bn1, b.0 .. b.11 with random numbers, made from its description alone."""
    g = torch.Generator().manual_seed(seed)
    depths = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024)
    convs, norms = {"conv1": (32, 3, 3, 3)}, {"bn1": 32}
    for i, (inputs, outputs) in enumerate(pairwise(depths)):
        convs |= {f"b.{i}.dw": (inputs, 1, 3, 3), f"b.{i}.pw": (outputs, inputs, 1, 1)}
        norms |= {f"b.{i}.n1": inputs, f"b.{i}.n2": outputs}
    state = {f"{name}.weight": torch.randn(shape, generator=g) for name, shape in convs.items()}
    for name, width in norms.items():
        state |= {f"{name}.{p}": torch.rand(width, generator=g) for p in ("weight", "bias", "running_mean")}
        state[f"{name}.running_var"] = torch.rand(width, generator=g) + 0.1
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return state


def test_a_plain_mobilenet_is_taken_layer_by_layer(tmp_path):
    state = mobilenet_state()
    torch.save(state, tmp_path / "mobilenet.pth")
    net = build(lambda: SSD(priors.SSD300_MOBILENET, 3, "mobilenet"), 0)
    before = snapshot(net)
    load_base(net, tmp_path / "mobilenet.pth")
    order = ["conv1", *(f"b.{i}.{part}" for i in range(12) for part in ("dw", "pw"))]
    convs = [m for m in net.base.modules() if isinstance(m, nn.Conv2d)]
    for name, conv in zip(order, convs, strict=True):
        assert torch.equal(conv.weight, state[f"{name}.weight"]), name
    norms = [m for m in net.base.modules() if isinstance(m, nn.BatchNorm2d)]
    for name, norm in zip([n.replace("conv1", "bn1").replace("dw", "n1").replace("pw", "n2") for n in order], norms,
                          strict=True):  # fmt: skip
        for part in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(getattr(norm, part), state[f"{name}.{part}"]), name
    assert all(name.startswith("base.") for name in changed(net, before))
    assert input_of(net) == [[127.5] * 3] * 2


@pytest.mark.skipif(not MOBILENET.is_file(), reason="the ImageNet weights are not beside this checkout")
def test_the_real_mobilenet_weights_load():
    base = bases.MobileNetV1()
    load_base(base, MOBILENET)
    variances = [m.running_var for m in base.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((v > 0).all() and v.std() > 0 for v in variances)


def as_keras(state):
    """What Keras calls the same numbers, axes in its order, and the block behind the base's last."""
    arrays = {}
    parts = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    layers = {"conv1": "conv1", "bn1": "conv1_bn"}
    for i in range(12):
        layers |= {f"b.{i}.dw": f"conv_dw_{i + 1}", f"b.{i}.n1": f"conv_dw_{i + 1}_bn"}
        layers |= {f"b.{i}.pw": f"conv_pw_{i + 1}", f"b.{i}.n2": f"conv_pw_{i + 1}_bn"}
    for key, value in state.items():
        ours, _, part = key.rpartition(".")
        if part != "num_batches_tracked":
            layer, kernel = layers[ours], "depthwise_kernel" if ours.endswith("dw") else "kernel"
            arrays[f"{layer}/{kernel if value.ndim == 4 else parts[part]}"] = _keras_axes(
                value, ours.endswith("dw")
            )
    return {**arrays, "conv_dw_13/depthwise_kernel": np.zeros((3, 3, 1024, 1), np.float32)}


def _keras_axes(value, depthwise):
    if value.ndim != 4:
        return value.numpy()
    outputs, inputs, rows, columns = value.shape
    array = np.zeros((rows, columns, *((outputs, 1) if depthwise else (inputs, outputs))), np.float32)
    for r in range(rows):
        for c in range(columns):
            array[r, c] = value[:, :, r, c].numpy() if depthwise else value[:, :, r, c].numpy().T
    return array


def test_keras_numbers_land_where_they_belong():
    state = mobilenet_state(1)
    made = keras_weights.from_keras(as_keras(state))
    assert set(made) == set(state)
    assert all(torch.equal(made[key], value) for key, value in state.items())
    arrays = as_keras(state)
    del arrays["conv_pw_7_bn/gamma"]
    with pytest.raises(layouts.LayoutError, match=r"^missing: conv_pw_7_bn/gamma$"):
        keras_weights.from_keras(arrays)
    with pytest.raises(layouts.LayoutError, match=r"^unexpected: dense/kernel$"):
        keras_weights.from_keras({**as_keras(state), "dense/kernel": np.zeros(1)})


def test_keras_file_is_read_with_h5py(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    state = mobilenet_state(2)
    with h5py.File(tmp_path / "mobilenet_1_0_224_tf_no_top.h5", "w") as file:
        for name, array in as_keras(state).items():
            layer = name.partition("/")[0]
            file.create_dataset(f"{layer}/{name}:0", data=array)
    base = bases.MobileNetV1()
    load_base(base, tmp_path / "mobilenet_1_0_224_tf_no_top.h5")
    torch.save(state, tmp_path / "plain.pth")
    twin = bases.MobileNetV1()
    load_base(twin, tmp_path / "plain.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(base.state_dict().values(), twin.state_dict().values(), strict=True)
    )
    content = (tmp_path / "mobilenet_1_0_224_tf_no_top.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"cut.h5: no weights of Keras' MobileNet"):
        load_base(base, tmp_path / "cut.h5")


def test_without_h5py_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(CheckpointError, match=r"a\.h5: .*pip install h5py"):
        load_base(bases.MobileNetV1(), tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["a.safetensors", "last.pt"])
def test_our_own_detectors_give_their_base(kind, tmp_path):
    """For other classes and default boxes: base, mean and std of the one, all else of the other."""
    teacher = build(lambda: SSD(priors.SHAPES128, 9, "small"), 3)
    teacher.mean.fill_(100), teacher.std.fill_(50)
    path = tmp_path / kind
    if kind == "last.pt":
        save_checkpoint(path, teacher, [f"class {i}" for i in range(8)])
    else:
        weights.save(path, Detector(teacher, tuple(f"class {i}" for i in range(8))))
    net = build(lambda: SSD(priors.SHAPES128.replace(maps=priors.SHAPES128.maps[:3]), 4, "small"), 4)
    before = snapshot(net)
    load_base(net, path)
    wanted = weights.load(path).model.state_dict()
    taken = {name for name in before if name.startswith("base.") or name in ("mean", "std")}
    assert all(torch.equal(net.state_dict()[name], wanted[name]) for name in taken)
    assert changed(net, before) <= taken
    assert input_of(net) == [[100.0] * 3, [50.0] * 3]
    assert (net.base.mean, net.base.std) == ((100.0,) * 3, (50.0,) * 3)
    with pytest.raises(CheckpointError, match="does not fit the base MobileNetV1"):
        load_base(bases.MobileNetV1(), path)


@pytest.mark.parametrize("other", [Amdegroot, Torchvision], ids=lambda other: other.name)
def test_other_peoples_detectors_give_their_base(other, ssd300, tmp_path):
    state = random_state(other, 4)
    torch.save(state, tmp_path / "theirs.pth")
    load_base(ssd300, tmp_path / "theirs.pth")
    layout = layouts.LAYOUTS[other.name]
    own = ssd300.state_dict()
    base = {ours: theirs for ours, theirs in layout.keys.items() if ours.startswith("base.")}
    assert len(base) == 31
    assert all(torch.equal(own[ours], state[theirs]) for ours, theirs in base.items())
    np.testing.assert_allclose(input_of(ssd300)[0], layout.mean)


def test_a_base_alone_keeps_the_input_in_its_attributes(tmp_path):
    torch.save(mobilenet_state(), tmp_path / "a.pth")
    base = bases.MobileNetV1()
    base.mean = (0.0, 0.0, 0.0)
    load_base(base, tmp_path / "a.pth")
    assert (base.mean, base.std) == ((127.5,) * 3, (127.5,) * 3)
    assert bases.MobileNetV1.mean == (127.5,) * 3


@pytest.mark.slow
def test_fine_tuning_starts_from_the_detector_that_ships(tmp_path, capsys):
    """`ssdedu train --base-weights data/shapes128.safetensors`: after a step of no length its kernels are there."""
    Shapes(6, seed=1).write_voc(tmp_path / "voc", "trainval")
    path = shipped.find("data/shapes128.safetensors")
    changes = {"iterations": 1, "batch_size": 2, "lr": 1e-12, "workers": 0}
    train_on_folder(
        tmp_path / "voc",
        tmp_path / "run",
        detector="shapes",
        base_weights=path,
        device="cpu",
        changes=changes,
    )
    tuned, teacher = (weights.load(p).model.base for p in (tmp_path / "run" / "last.pt", path))
    convs = [[m.weight for m in base.modules() if isinstance(m, nn.Conv2d)] for base in (tuned, teacher)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*convs, strict=True))
    capsys.readouterr()
