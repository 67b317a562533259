"""Several processes: the gradient, the weights, the log and the detections of one, and an end for all when one ends."""

import copy
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import PATIENCE, Processes
from torch import nn

from ssdedu import bases, batches, checkpoints, distributed, optimization, priors, train, workshop
from ssdedu.__main__ import main
from ssdedu.augment import Augment, Resize
from ssdedu.batches import Order, collate
from ssdedu.datasets.shapes import Shapes
from ssdedu.inference import detect_dataset
from ssdedu.model import SSD
from ssdedu.optimization import Stepper
from ssdedu.settings import Settings
from ssdedu.train import TrainingError

SETTINGS = Settings(
    iterations=6,
    batch_size=4,
    lr=0.01,
    milestones=(4,),
    precision="float32",
    log_every=1,
    save_every=2,
    seed=3,
)


class Plain(bases.Base):
    """Two convolutions without batch normalisation, tapped at stride 16."""

    channels, mean, std = (24,), (127.5,) * 3, (64.0,) * 3

    def __init__(self):
        super().__init__()
        first, second = nn.Conv2d(3, 12, 8, 8), nn.Conv2d(12, 24, 3, 2, 1)
        self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x):
        return [self.layers(x)]


def network(base="plain", seed=0):
    bases.BASES["plain"] = Plain
    try:
        return train.build(lambda: SSD(priors.SHAPES128_ONE_MAP, 9, base), seed)
    finally:
        del bases.BASES["plain"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    processes = Processes(2, tmp_path_factory.mktemp("two"))
    yield processes
    processes.close()


def batch_of(objects):
    """One image for each number, with so many of its scene's objects."""
    scenes = Shapes(20, seed=2)
    rich = [scenes[i] for i in range(20) if len(scenes[i]) >= max(objects)]
    return collate([
        dataclasses.replace(s, boxes_xyxy=s.boxes_xyxy[:n], labels=s.labels[:n], difficult=s.difficult[:n])
        for s, n in zip(rich, objects, strict=False)
    ])  # fmt: skip


def share_of(batch):
    mine = distributed.part(len(batch.names))
    lists = (batch.boxes_xyxy, batch.labels, batch.names)
    return batches.Batch(batch.images[mine.start : mine.stop], *(x[mine.start : mine.stop] for x in lists))


def gradient(objects, settings):
    """Loss, positives and gradient of a batch, of which each process has its part; they start unlike each other."""
    net = network(seed=distributed.rank())
    stepper = Stepper(net, settings, torch.device("cpu"))
    together = distributed.data_parallel(net, torch.device("cpu"))
    stepper.start(0)
    mine = share_of(batch_of(objects))
    loss = train.batch_loss(together, mine, settings)
    stepper.step(loss.total, 0, mine.names)
    return (
        distributed.all_sum(loss.total).item(),
        int(loss.num_positives),
        [p.grad.clone() for p in net.parameters()],
        [p.detach().clone() for p in net.parameters()],
    )


@pytest.mark.parametrize(
    "objects", [(3, 1, 2, 4), (5, 5, 0, 1), (0, 0, 4, 1), (2, 3, 0, 0), (0, 0, 0, 0)], ids=str
)
@pytest.mark.parametrize(
    "changes", [{}, {"min_negatives": 7, "clip_norm": 0.5}], ids=["plain", "negatives, clipped"]
)
def test_two_processes_give_the_gradient_of_one(two, objects, changes):
    """Also with unequal numbers of positives, a process without any, and none anywhere."""
    settings = dataclasses.replace(SETTINGS, **changes)
    alone = gradient(objects, settings)
    assert (alone[1] > 0) == (sum(objects) > 0)
    assert any(g.abs().max() > 1e-4 for g in alone[2]) == (sum(objects) > 0 or "min_negatives" in changes)
    for loss, positives, grads, weights in two(gradient, objects, settings):
        assert loss == pytest.approx(alone[0], rel=1e-5)
        assert positives == alone[1]
        for mine, whole in zip(grads + weights, alone[2] + alone[3], strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-5, atol=1e-5)


def test_the_mean_of_the_processes_own_losses_would_be_another_gradient():
    """The test above can fail: N of each process's part instead of the whole batch's gives other numbers."""
    settings, objects = SETTINGS, (5, 5, 0, 1)
    whole, batch = gradient(objects, settings)[2], batch_of(objects)
    halves = []
    for part in (slice(0, 2), slice(2, 4)):
        net = network()
        lists = (x[part] for x in (batch.boxes_xyxy, batch.labels, batch.names))
        train.batch_loss(net, batches.Batch(batch.images[part], *lists), settings).total.backward()
        halves.append([p.grad for p in net.parameters()])
    means = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
    assert max((a - b).abs().max() for a, b in zip(means, whole, strict=True)) > 0.05


def run(folder, base, settings, steps, resume, broken=None):
    """Weights, log and what was written of a training; processes behind the first have a folder of their own."""
    folder = folder / (f"process-{distributed.rank()}" if distributed.rank() else "first")
    net = network(base, seed=distributed.rank())
    data = Shapes(7, seed=2)
    options = {"until": steps, "resume": resume, "loss": broken or train.batch_loss}
    records = train.train(net, data, Augment(128, 128), settings, folder, **options)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    return weights, records, sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def assert_same(run_a, run_b, tolerance=1e-5):
    for name, value in run_a[0].items():
        torch.testing.assert_close(
            value, run_b[0][name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n} {m}"
        )
    for a, b in zip(run_a[1], run_b[1], strict=True):
        assert (a["step"], a["lr"], a["positives"]) == (b["step"], b["lr"], b["positives"])
        for part in ("loss", "localization", "confidence"):
            assert a[part] == pytest.approx(b[part], rel=1e-4, abs=1e-5)


def test_two_processes_train_as_one_and_the_first_alone_writes(two, tmp_path):
    alone = run(tmp_path / "alone", "plain", SETTINGS, 6, False)
    first, second = two(run, tmp_path / "two", "plain", SETTINGS, 6, False)
    assert_same(first, alone)
    assert_same(second, first, 0)
    assert set(first[2]) >= {"last.pt", "log.jsonl"}
    assert second[2] == []
    saved = checkpoints.load_checkpoint(tmp_path / "two" / "first" / "last.pt")
    assert saved["model"].keys() == alone[0].keys()
    assert [r["step"] for r in train.read_log(tmp_path / "two" / "first" / "log.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_a_run_goes_on_with_another_number_of_processes(two, tmp_path):
    """From one to two and back; the checkpoint needs to be on the first process's disk alone."""
    whole = run(tmp_path / "whole", "plain", SETTINGS, 6, False)
    run(tmp_path / "parts", "plain", SETTINGS, 2, False)
    two(run, tmp_path / "parts", "plain", SETTINGS, 4, True)
    assert_same(run(tmp_path / "parts", "plain", SETTINGS, 6, True), whole)


def test_resumed_by_as_many_processes_it_is_the_same_run_bit_for_bit(two, tmp_path):
    """With batch normalisation too, whose statistics are the first process's, and AdamW."""
    settings = dataclasses.replace(SETTINGS, optimizer="adamw", schedule="cosine")
    whole = two(run, tmp_path / "whole", "small", settings, 6, False)
    two(run, tmp_path / "parts", "small", settings, 3, False)
    parts = two(run, tmp_path / "parts", "small", settings, 6, True)
    for mine in (*parts, whole[1]):
        assert_same(mine, whole[0], 0)


def broken_in_one(net, batch, settings):
    """At the third step of the second process the loss is nan."""
    loss = train.batch_loss(net, batch, settings)
    broken_in_one.steps += 1
    if distributed.rank() == 1 and broken_in_one.steps == 3:
        loss = loss._replace(total=loss.total * float("nan"))
    return loss


def run_until_broken(folder, later):
    broken_in_one.steps = 0
    settings = dataclasses.replace(SETTINGS, log_every=2, save_every=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimization, "waits", lambda device: later)
        return run(folder, "plain", settings, 6, False, broken_in_one)


@pytest.mark.parametrize("later", [False, True], ids=["as on CPUs", "as on GPUs"])
def test_nan_in_one_process_stops_all_at_the_same_step_and_names_its_files(two, tmp_path, later):
    errors = two(run_until_broken, tmp_path, later)
    order = list(Order(7, 4, 3, 0, 6))
    names = [f"scene-2-{index}" for _, index in order[2][2:]]
    for error in errors:
        assert isinstance(error, TrainingError)
        assert f"the loss is nan at step 3. Files of this batch: {', '.join(names)}. " in str(error)
        assert "last.pt holds step 2." in str(error)
    assert checkpoints.load_checkpoint(tmp_path / "first" / "last.pt")["step"] == 2
    assert [r["step"] for r in train.read_log(tmp_path / "first" / "log.jsonl")] == [2]


def test_a_batch_that_cannot_be_shared(two, tmp_path):
    errors = two(run, tmp_path, "plain", dataclasses.replace(SETTINGS, batch_size=5), 6, False)
    for error in errors:
        assert isinstance(error, ValueError)
        assert "5 cannot be shared among 2; --batch-size 4 can" in str(error)


def test_what_the_first_process_cannot_read_stops_all(two, tmp_path):
    for error in two(run, tmp_path, "plain", SETTINGS, 6, True):
        assert isinstance(error, checkpoints.CheckpointError)
        assert str(tmp_path / "first" / "last.pt") in str(error)


def unlike(folder):
    data = Shapes(5 + distributed.rank())
    train.train(network(), data, Resize(128, 128), SETTINGS, folder)


def test_processes_with_other_data_do_not_start(two, tmp_path):
    for error in two(unlike, tmp_path):
        assert isinstance(error, ValueError)
        assert "process 1 has others than process 0" in str(error)


def detected(number):
    return workshop._detect_all(network("small").eval(), Shapes(number, seed=5))


@pytest.mark.parametrize("number", [5, 1])
def test_evaluation_is_gathered_in_the_order_of_the_data_set(two, number):
    """Where the images do not divide, and where a process has none."""
    net = network("small").eval()
    found, truths = detect_dataset(net, Shapes(number, seed=5), progress=False)
    for mine, their_truths in two(detected, number):
        assert [t.name for t in their_truths] == [t.name for t in truths]
        for a, b in zip(mine, found, strict=True):
            torch.testing.assert_close(a.scores, b.scores, rtol=1e-3, atol=1e-4)


def helpers():
    return (
        distributed.from_first(lambda: f"of {distributed.rank()}"),
        distributed.gathered(["a", "b"] if distributed.rank() else []),
        distributed.all_sum(torch.tensor([1, 10 * distributed.rank()])).tolist(),
        distributed.local_size(),
    )


def test_what_the_processes_tell_each_other(two):
    assert two(helpers) == [("of 0", ["a", "b"], [2, 10], 2)] * 2
    assert helpers() == ("of 0", [], [1, 0], 1)


@given(st.integers(0, 40), st.integers(1, 7))
def test_parts_are_all_in_order(number, size):
    parts = []
    for rank in range(size):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distributed, "size", lambda: size)
            patch.setattr(distributed, "rank", lambda rank=rank: rank)
            parts.append(distributed.part(number))
    assert [i for part in parts for i in part] == list(range(number))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 12), st.integers(0, 5))
def test_the_processes_together_take_the_images_of_one_in_its_order(size, share, images, start):
    whole = list(Order(images, size * share, 1, start, start + 3))
    shares = [list(Order(images, size * share, 1, start, start + 3, (rank, size))) for rank in range(size)]
    assert [list(itertools.chain(*step)) for step in zip(*shares, strict=True)] == whole


def test_batch_normalisation_on_gpus_is_synchronised(monkeypatch):
    """The kind of layer changes, the names and numbers of the state do not, nor what it does in evaluation."""
    net = network("small").eval()
    twin = copy.deepcopy(net)
    parameters = list(net.parameters())
    monkeypatch.setattr(distributed, "size", lambda: 2)
    distributed.synchronize_norms(net, torch.device("cpu"))
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in net.modules())
    distributed.synchronize_norms(net, torch.device("cuda"))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert list(net.state_dict()) == list(twin.state_dict())
    images = torch.randint(0, 256, (2, 3, 128, 128))
    assert all(torch.equal(a, b) for a, b in zip(net(images), twin(images), strict=True))


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(distributed, "size", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.own_device(torch.device("cuda")) == torch.device("cuda", 1)
    assert distributed.own_device(torch.device("cpu")) == torch.device("cpu")
    assert chosen == [1]
    with pytest.raises(ValueError, match="--device cuda:0: of several processes each takes a GPU of its own"):
        distributed.own_device(torch.device("cuda", 0))
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="4 processes, but 2 GPUs here: torchrun --nproc-per-node 2"):
        distributed.own_device(torch.device("cuda"))


def endless(folder):
    settings = dataclasses.replace(SETTINGS, iterations=100_000, milestones=())
    return run(folder, "plain", settings, None, False)


def test_a_killed_process_ends_the_other_within_seconds(tmp_path):
    pair = Processes(2, tmp_path)
    try:
        pair.start(endless, tmp_path)
        wait_until((tmp_path / "first" / "last.pt").exists, "checkpoint")
        pair.processes[1].kill()
        start = time.monotonic()
        error = pair.result(0)
        assert time.monotonic() - start < 10
    finally:
        pair.close()
    assert isinstance(error, TrainingError)
    assert "another of the 2 processes of this run has ended" in str(error)
    step = checkpoints.load_checkpoint(tmp_path / "first" / "last.pt")["step"]
    assert f"last.pt holds step {step}." in str(error)
    assert train.read_log(tmp_path / "first" / "log.jsonl")[-1]["step"] >= step


def wait_until(there, what):
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """20 scenes to train on and 7 to measure on, which two processes cannot share equally."""
    root = tmp_path_factory.mktemp("scenes")
    Shapes(20, seed=1).write_voc(root, "trainval")
    Shapes(7, seed=2).write_voc(root, "test")
    return root


def torchrun(text, command, *arguments):
    """The command as two processes, with a worker process each where it trains; all that they say goes to a file."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ssdedu", command]
    training = ["--detector", "shapes", "--batch-size", "4", "--workers", "1"] if command == "train" else []
    with text.open("w") as file:
        return subprocess.Popen(
            [*start, *map(str, arguments), *training, "--device", "cpu"],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )


def wait_for_text(path, wanted):
    wait_until(lambda: re.search(wanted, path.read_text()), f"{wanted} in {path}")


@pytest.mark.slow
def test_the_command_with_torchrun(folder, tmp_path, capsys):
    """Trains, writes and prints once; measures what one process measures."""
    out, said = tmp_path / "run", tmp_path / "text"
    assert torchrun(said, "train", folder, "--out", out, "--steps", "4").wait() == 0
    text = said.read_text()
    assert text.count("20 images to train on, 7 held out") == 1
    assert len(re.findall("^mAP ", text, re.MULTILINE)) == 1
    assert {p.name for p in out.iterdir()} >= {"last.pt", "log.jsonl", "metrics.json", "loss.png"}
    assert torchrun(said, "evaluate", out / "last.pt", folder, "--json", tmp_path / "two.json").wait() == 0
    assert main(["evaluate", str(out / "last.pt"), str(folder), "--json", str(tmp_path / "one.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] in said.read_text()
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    assert two["ap"] == pytest.approx(one["ap"], abs=1e-3)
    assert two["num_objects"] == one["num_objects"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "interrupted", "lost image"])
def test_torchrun_ends_all_when_one_ends(tmp_path, how):
    """Within seconds, with a message, leaving no process. The image is lost to the one process that is to read it."""
    folder, said = tmp_path / "scenes", tmp_path / "text"
    Shapes(60, seed=1).write_voc(folder, "trainval")
    Shapes(2, seed=2).write_voc(folder, "test")
    ids = (folder / "ImageSets" / "Main" / "trainval.txt").read_text().split()
    last = list(Order(60, 4, 0, 0, 15))[-1][-1][1]  # the last one of the first pass
    process = torchrun(said, "train", folder, "--out", tmp_path / "run", "--steps", "3000")
    try:
        wait_for_text(said, "held out" if how == "lost image" else r" [1-9]\d*/3000")
        children, start = child_processes(process.pid), time.monotonic()
        if how == "killed":
            os.kill(children[1], signal.SIGKILL)
        elif how == "interrupted":
            process.send_signal(signal.SIGINT)
        else:
            (folder / "JPEGImages" / f"{ids[last]}.png").unlink()
        assert process.wait(PATIENCE) != 0
    finally:
        process.kill()
    assert time.monotonic() - start < (PATIENCE if how == "lost image" else 60)
    message = {
        "killed": "ssdedu: another of the 2 processes of this run has ended or does not answer",
        "interrupted": "ssdedu: interrupted; the same command with --resume goes on",
        "lost image": f"ssdedu: process 1: .*{ids[last]}",
    }[how]
    assert re.search(message, said.read_text())
    assert len(children) == 2
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def child_processes(number):
    return [int(p) for p in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
