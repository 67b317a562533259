"""Steps of the optimizer: what is checked when, loss scales, and that a GPU would never be kept waiting."""

import dataclasses
import json

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssdedu import batches, checkpoints, optimization, priors, train
from ssdedu.__main__ import main
from ssdedu.augment import Augment, Resize
from ssdedu.datasets.shapes import Shapes
from ssdedu.model import SSD
from ssdedu.optimization import NotFiniteError, Stepper
from ssdedu.precision import autocast, forward_dtype, use_bfloat16
from ssdedu.settings import Settings, in_current_terms
from ssdedu.train import TrainingError

CPU = torch.device("cpu")
SGD = Settings(
    iterations=9, batch_size=3, lr=1e-2, milestones=(), precision="float32", log_every=4, save_every=4
)
ADAMW = dataclasses.replace(SGD, optimizer="adamw", lr=1e-3, schedule="cosine", clip_norm=5.0)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Checks come later and steps are left out by the device; the kernels that do it are there for CPUs too."""
    monkeypatch.setattr(optimization, "waits", lambda device: True)


def tiny(seed=0):
    return train.build(lambda: SSD(priors.SHAPES128_ONE_MAP, 9, "small"), seed)


def weights(net):
    return [p.detach().clone() for p in net.parameters()]


def learn(settings, folder, net=None, **options):
    net = net or tiny()
    records = train.train(net, Shapes(7, seed=2), Augment(128, 128), settings, folder, **options)
    return net, [{k: v for k, v in r.items() if k != "seconds"} for r in records]


@pytest.mark.parametrize("settings", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_later_checks_change_no_number(settings, tmp_path, monkeypatch):
    """Bit for bit; SGD's fused kernel rounds otherwise."""
    now, log = learn(settings, tmp_path / "now")
    monkeypatch.setattr(optimization, "waits", lambda device: True)
    later, later_log = learn(settings, tmp_path / "later")
    for a, b in zip(weights(now), weights(later), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0 if settings is ADAMW else 1e-5)
    for a, b in zip(log, later_log, strict=True):
        assert a == pytest.approx(b, rel=0 if settings is ADAMW else 1e-4)
    assert [r["step"] for r in log] == [4, 8, 9]


def broken_at(step, value=float("nan"), what="loss"):
    """A loss that is not finite, or has such a gradient, at one step (from 1) and at all after it is sound again."""
    steps = iter(range(1, 1000))

    def loss(net, batch, settings):
        parts = train.batch_loss(net, batch, settings)
        if next(steps) != step:
            return parts
        if what == "loss":
            return parts._replace(total=parts.total * value)
        return parts._replace(total=parts.total + _bad_gradient(net.class_heads[0].bias.sum(), value))

    return loss


def _bad_gradient(x, value):
    """0, with a gradient that is not finite."""
    zero = (x - x.detach()) * 1.0
    zero.register_hook(lambda gradient: gradient * value)
    return zero


@pytest.mark.parametrize("settings", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize(
    ("what", "said"), [("loss", "the loss is"), ("gradient", "the norm of the gradient is")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_later_check_names_the_first_bad_step_and_its_files(
    settings, what, said, value, tmp_path, as_on_a_gpu
):
    """Step 6 of 9 is bad; the check comes at step 8, before its checkpoint is written."""
    order = list(batches.Order(7, 3, 0, 0, 9))
    names = ", ".join(f"scene-2-{i}" for _, i in order[5])
    with pytest.raises(TrainingError) as stop:
        learn(settings, tmp_path, loss=broken_at(6, value, what))
    assert f"{said} {value} at step 6. Files of this batch: {names}. " in str(stop.value)
    assert "last.pt holds step 4." in str(stop.value)
    assert checkpoints.load_checkpoint(tmp_path / "last.pt")["step"] == 4
    assert [r["step"] for r in train.read_log(tmp_path / "log.jsonl")] == [4]


@pytest.mark.parametrize("settings", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("bad", [1, 3])
def test_no_step_is_made_with_a_gradient_that_is_not_finite(settings, bad, as_on_a_gpu):
    """The weights stay for that step alone; SGD's momentum is sound after a first step that was left out."""
    net, loss = tiny().train(), broken_at(bad, what="gradient")
    batch = next(iter(batches.training_batches(Shapes(7, seed=2), Resize(128, 128), 3, 0, 0, 1)))
    stepper = Stepper(net, settings, CPU)
    moved = []
    for step in range(5):
        before = weights(net)
        stepper.start(step)
        stepper.step(loss(net, batch, settings).total, step, batch.names)
        moved.append(not all(torch.equal(a, b) for a, b in zip(before, weights(net), strict=True)))
    assert moved == [step + 1 != bad for step in range(5)]
    assert all(w.isfinite().all() and w.abs().max() < 100 for w in weights(net))
    with pytest.raises(NotFiniteError, match=f"at step {bad}\\."):
        stepper.check()
    stepper.check()  # what has been told is not told again


class Waits(TorchDispatchMode):
    """Counts the operations for whose result a CPU would wait for the GPU."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"):
            self.seen.append(name)
        if name.startswith("aten::index") and any(
            getattr(i, "dtype", None) == torch.bool
            for a in args[1:]
            if isinstance(a, list | tuple)
            for i in a
        ):
            self.seen.append(f"{name} by a mask")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_asks_the_device_for_nothing(optimizer, precision, as_on_a_gpu):
    settings = dataclasses.replace(ADAMW, optimizer=optimizer, precision=precision)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    stepper, images = Stepper(net, settings, CPU), torch.randn(5, 3, 8, 8)
    with Waits() as waits:
        for step in range(3):
            stepper.start(step)
            stepper.step(net(images).square().mean(), step, ["a"])
        assert waits.seen == []
        torch.ones(1).item()
        images[images[:, 0, 0, 0] > 0]
        assert len(waits.seen) >= 2  # the counter does count


def test_float16_is_scaled_and_leaves_out_what_overflows(tmp_path):
    """A gradient that is not finite once halves the scale and the run goes on, to the loss of float32, nearly."""
    settings = dataclasses.replace(ADAMW, precision="float16", log_every=1)
    net, log = learn(settings, tmp_path / "16", loss=broken_at(3, float("inf"), "gradient"))
    _, exact = learn(dataclasses.replace(settings, precision="float32"), tmp_path / "32")
    assert len(log) == 9
    assert log[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.02)
    assert all(w.isfinite().all() for w in weights(net))
    saved = checkpoints.load_checkpoint(tmp_path / "16" / "last.pt")
    assert saved["optimizer"]["param_groups"][0]["loss_scale"]["scale"] <= 2.0**15


@pytest.mark.parametrize("later", [False, True])
def test_float16_gives_up_when_no_scale_is_small_enough(later, monkeypatch):
    """From 2 ** 16 the scale is below 1 after 17 steps, of which each was left out."""
    monkeypatch.setattr(optimization, "waits", lambda device: later)
    net = nn.Linear(3, 1)
    before, stepper = weights(net), Stepper(net, dataclasses.replace(SGD, precision="float16"), CPU)

    def step_and_check(step):
        stepper.start(step)
        bad = _bad_gradient(net.bias.sum(), float("inf"))
        stepper.step(net(torch.ones(2, 3)).square().mean() + bad, step, ["a", "b"])
        stepper.check()

    for step in range(16):
        step_and_check(step)
    with pytest.raises(NotFiniteError, match=r"even at a loss scale of 1, is nan at step 1[78]\. .*: a, b\."):
        list(map(step_and_check, (16, 17)))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(net), strict=True))


def test_a_loss_that_is_not_finite_stops_float16_too(tmp_path):
    settings = dataclasses.replace(ADAMW, precision="float16")
    with pytest.raises(TrainingError, match="the loss is nan at step 2"):
        learn(settings, tmp_path, loss=broken_at(2))


@pytest.mark.parametrize("change", [{}, {"precision": "float16"}, {"optimizer": "sgd"}], ids=str)
def test_resume_is_bit_for_bit_as_on_a_gpu(change, tmp_path, as_on_a_gpu):
    settings = dataclasses.replace(ADAMW, **change)
    whole, log = learn(settings, tmp_path / "whole")
    learn(settings, tmp_path / "parts", until=5)
    parts, parts_log = learn(settings, tmp_path / "parts", tiny(9), resume=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(parts), strict=True))
    assert [r for r in parts_log if r["step"] != 5] == log


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_moves_from_a_cpu_to_a_gpu_and_back(optimizer, tmp_path, monkeypatch):
    settings = dataclasses.replace(ADAMW, optimizer=optimizer)
    whole, _ = learn(settings, tmp_path / "whole")
    parts = None
    for until, later in ((3, False), (6, True), (9, False)):
        monkeypatch.setattr(optimization, "waits", lambda device, later=later: later)
        parts, _ = learn(settings, tmp_path / "parts", until=until, resume=until > 3)
    for a, b in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_types_of_the_forward_pass(monkeypatch):
    gpu = torch.device("cuda")
    assert forward_dtype(CPU, "float16") == torch.float16
    assert forward_dtype(CPU, True) == forward_dtype(gpu, "bfloat16") == torch.bfloat16
    assert forward_dtype(CPU, False) == forward_dtype(gpu, "float32") == torch.float32
    for units, cpu, cuda in ((True, torch.bfloat16, torch.bfloat16), (False, torch.float32, torch.float16)):
        monkeypatch.setattr("ssdedu.precision.use_bfloat16", lambda device, units=units: units)
        assert forward_dtype(CPU, "auto") == forward_dtype(CPU) == cpu
        assert forward_dtype(gpu, "auto") == cuda
        assert forward_dtype(gpu) == (torch.bfloat16 if units else torch.float32)
    with autocast(CPU, "float16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float16
    with autocast(CPU, "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(("old", "precision"), [(None, "auto"), (False, "float32"), (True, "bfloat16")])
def test_checkpoints_that_know_bfloat16_alone_can_be_resumed(old, precision, tmp_path):
    """As they were written before there were precision, compile and frozen_layers."""
    settings = dataclasses.replace(ADAMW, precision=precision)
    whole, _ = learn(settings, tmp_path / "whole")
    learn(settings, tmp_path / "old", until=4)
    content = torch.load(tmp_path / "old" / "last.pt", weights_only=True)
    about = json.loads(content["description"])
    for name in ("precision", "compile", "frozen_layers"):
        del about["settings"][name]
    about["settings"]["bfloat16"] = old
    torch.save({**content, "description": json.dumps(about)}, tmp_path / "old" / "last.pt")
    resumed, _ = learn(settings, tmp_path / "old", tiny(5), resume=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    about["settings"]["bfloat16"] = precision != "bfloat16"
    torch.save({**content, "description": json.dumps(about)}, tmp_path / "old" / "last.pt")
    with pytest.raises(checkpoints.CheckpointError, match="other settings"):
        learn(settings, tmp_path / "old", resume=True)
    assert in_current_terms({}) == {}
    assert in_current_terms({"precision": "float16"}) == {"precision": "float16"}


def test_bfloat16_is_short_for_a_precision():
    assert Settings(bfloat16=False) == Settings(precision="float32")
    assert dataclasses.replace(Settings(), bfloat16=True).precision == "bfloat16"
    assert dataclasses.replace(Settings(bfloat16=False), precision="float16").precision == "float16"
    assert dataclasses.replace(Settings(precision="float16"), lr=1.0).precision == "float16"
    assert "bfloat16" not in Settings().to_dict()
    assert use_bfloat16(torch.device("meta")) is False
    with pytest.raises(ValueError, match="settings: precision"):
        Settings(precision="half")


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch):
    """As torch.compile captures it, without its code generator, which takes a minute; checkpoints keep their names."""
    backends = []

    def capture(network):
        backends.append("aot_eager")
        return compiled(network, backend=backends[-1])

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", capture)
    plain, log = learn(SGD, tmp_path / "plain")
    fast, fast_log = learn(dataclasses.replace(SGD, compile=True), tmp_path / "fast", until=5)
    assert len(backends) == 1
    fast, fast_log = learn(SGD, tmp_path / "fast", resume=True)
    for a, b in zip(weights(plain), weights(fast), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert [r["loss"] for r in fast_log if r["step"] != 5] == pytest.approx(
        [r["loss"] for r in log], rel=1e-3
    )


def test_the_command_hands_its_options_on(tmp_path, monkeypatch):
    given = []

    def note(*_, **options):
        given.append(options)
        raise ValueError("seen")

    monkeypatch.setattr("ssdedu.workshop.train_on_folder", note)
    options = ["--precision", "float16", "--compile", "--cache-mb", "70", "--batch-size", "6"]
    assert main(["train", "folder", *options]) == 2
    assert main(["train", "folder"]) == 2
    assert given[0]["cache_mb"] == 70
    assert {k: v for k, v in given[0]["changes"].items() if v is not None} == {
        "precision": "float16",
        "compile": True,
        "batch_size": 6,
    }
    assert set(given[1]["changes"].values()) == {None}
