"""A run that was killed, starved of disk or damaged goes on to the result of the run that nothing happened to.

Oracle everywhere: the weights, the log and the measured AP of the undisturbed run, bit for bit.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from test_files import longest_file

from ssdedu import checkpoints, keeping, plots, priors, stopping, train, workshop
from ssdedu.__main__ import main
from ssdedu.augment import Augment
from ssdedu.checkpoints import CheckpointError, UnreadableError, load_checkpoint
from ssdedu.datasets.shapes import Shapes
from ssdedu.files import DiskFullError, write_atomically
from ssdedu.model import SSD
from ssdedu.optimization import Stepper
from ssdedu.stopping import Stopping
from ssdedu.train import Settings

TINY = priors.SHAPES128_ONE_MAP
PLAN = Settings(
    iterations=6, batch_size=2, optimizer="adamw", schedule="cosine", log_every=1, save_every=2, seed=4
)
SCENES = Shapes(5, seed=2)


def tiny(seed=0):
    return train.build(lambda: SSD(TINY, 9, "small"), seed)


def go(folder, plan=PLAN, transform=None, **options):
    """Train a tiny detector in that folder; returns the network. A resumed one starts from other weights."""
    net = tiny(99 if options.get("resume") else 0)
    train.train(net, SCENES, transform or Augment(128, 128), plan, folder, **options)
    return net


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def log(folder):
    """The records without the time they took."""
    return [{k: v for k, v in r.items() if k != "seconds"} for r in keeping.read_log(folder / "log.jsonl")]


def equal(a, b):
    """Whether two values made of dicts, lists, numbers and tensors are the same to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a == b


def state(path):
    """All of a checkpoint that decides how its run goes on."""
    content = load_checkpoint(path)
    return {k: content[k] for k in ("step", "model", "optimizer")}


def assert_same_end(folder, whole):
    assert equal(state(folder / "last.pt"), state(whole / "last.pt"))
    assert log(folder) == log(whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run that nothing happened to: checkpoints of steps 6 and 4."""
    folder = tmp_path_factory.mktemp("whole")
    go(folder)
    return folder


@pytest.fixture
def cut(whole, tmp_path):
    """A run that ended after step 5: checkpoints of steps 5 and 4."""
    return shutil.copytree(cut_once(whole), tmp_path / "cut")


def cut_once(whole):
    folder = whole.with_name(f"{whole.name}-cut")
    if not folder.exists():
        go(folder, until=5)
    return folder


def flip(path, bit):
    """Change one bit of a file; negative ones are counted from its end."""
    data = bytearray(path.read_bytes())
    bit %= 8 * len(data)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def in_tensor(path):
    """The number of a bit in the middle of a checkpoint, which is a weight's."""
    return 4 * path.stat().st_size


# --- the two checkpoints


def test_newest_and_the_one_before_are_kept(whole):
    assert {p.name for p in whole.iterdir()} == {"last.pt", "previous.pt", "log.jsonl"}
    assert [load_checkpoint(whole / n)["step"] for n in ("last.pt", "previous.pt")] == [6, 4]
    assert keeping.newest(whole, say=pytest.fail)[0] == whole / "last.pt"


def test_a_new_run_keeps_nothing_of_an_old_one(cut):
    go(cut, until=1)
    assert load_checkpoint(cut / "last.pt")["step"] == 1
    assert not (cut / "previous.pt").exists()


def test_a_flipped_bit_is_found_and_the_run_goes_on_from_the_one_before(cut, whole, capsys):
    last, previous = cut / "last.pt", cut / "previous.pt"
    flip(last, in_tensor(last))
    assert torch.load(last, weights_only=True)["step"] == 5  # torch alone sees nothing
    damaged = last.read_bytes()
    go(cut, resume=True)
    said = capsys.readouterr().out
    assert f"{last}: damaged: part archive/data/" in said
    assert f"Going on from the checkpoint before it, {previous}, at step 4." in said
    assert f"{last} is last.pt.damaged now" in said
    assert_same_end(cut, whole)
    assert (cut / "last.pt.damaged").read_bytes() == damaged
    assert load_checkpoint(previous)["step"] == 4


def test_a_damaged_checkpoint_never_takes_the_place_of_the_one_before(cut, whole):
    """Killed again at the very first save after the fall back."""
    flip(cut / "last.pt", in_tensor(cut / "last.pt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            go(cut, resume=True)
    assert load_checkpoint(cut / "previous.pt")["step"] == 4
    go(cut, resume=True)
    assert_same_end(cut, whole)


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_without_last_the_one_before_serves(cut, whole, capsys):
    """As after a kill where no hard links are."""
    (cut / "last.pt").unlink()
    go(cut, resume=True)
    assert f"{cut / 'last.pt'}: no such checkpoint file. Going on from" in capsys.readouterr().out
    assert_same_end(cut, whole)


def test_both_damaged_is_an_error_that_names_both(cut):
    for name in ("last.pt", "previous.pt"):
        flip(cut / name, in_tensor(cut / name))
    before = {p.name: p.read_bytes() for p in cut.iterdir()}
    with pytest.raises(CheckpointError) as stop:
        go(cut, resume=True)
    for words in (
        f"{cut / 'last.pt'}: damaged",
        f"{cut / 'previous.pt'}: damaged",
        "a copy of one",
        "start anew",
    ):
        assert words in str(stop.value)
    assert {p.name: p.read_bytes() for p in cut.iterdir()} == before


def test_nothing_to_resume_is_said(cut, tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(
            CheckpointError, match=r"last\.pt: no such checkpoint file to resume from \(the run"
        ):
            go(folder, resume=True)
    for name in ("last.pt", "previous.pt"):
        (cut / name).unlink()
    with pytest.raises(CheckpointError, match=r"log\.jsonl is there, but .* start without --resume"):
        go(cut, resume=True)


def test_a_whole_newest_checkpoint_of_another_run_is_refused_not_skipped(cut):
    before = (cut / "last.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"last\.pt: the run to resume has other settings \(lr"):
        go(cut, dataclasses.replace(PLAN, lr=0.5), resume=True)
    assert (cut / "last.pt").read_bytes() == before


def test_a_detector_alone_is_no_run(tmp_path):
    checkpoints.save_checkpoint(tmp_path / "last.pt", tiny(), SCENES.classes, settings=PLAN.to_dict())
    with pytest.raises(CheckpointError, match="a detector without the state of its training"):
        go(tmp_path, resume=True)


# --- damage of every kind


@pytest.fixture(scope="module")
def pair(whole, tmp_path_factory):
    """A folder with checkpoints of steps 1 and 2, of one tensor with its averages; bytes and content of the newer."""
    folder, content = tmp_path_factory.mktemp("pair"), {"description": '{"format": 1}'}
    assert content.keys() < load_checkpoint(whole / "last.pt").keys()
    for step in (1, 2):
        net = torch.nn.Linear(7, 3, bias=False)
        adam = torch.optim.AdamW(net.parameters())
        net.weight.square().sum().backward()
        adam.step()
        small = content | {"step": step, "model": net.state_dict(), "optimizer": adam.state_dict()}
        write_atomically(folder / "last.pt", functools.partial(torch.save, small), "previous.pt")
    return folder, (folder / "last.pt").read_bytes(), load_checkpoint(folder / "last.pt")


def found(folder, content):
    """True where the damage of last.pt is found and said; else it must have changed nothing of the content."""
    said = []
    path, newest = keeping.newest(folder, said.append)
    if path.name == "last.pt":
        assert said == []
        assert equal(newest, content)
        return False
    assert newest["step"] == 1
    assert said[0].startswith(str(folder / "last.pt"))
    return True


def directory(data):
    """Where the list of a zip file's parts begins."""
    return data.index(b"PK\1\2")


def test_every_damage_is_found_or_harmless(pair):
    folder, data, content = pair
    results, start = [], directory(data)

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(
        bits=st.lists(
            st.integers(0, 8 * len(data) - 1) | st.integers(8 * start, 8 * len(data) - 1), max_size=3
        ),
        length=st.just(len(data)) | st.integers(0, len(data) - 1),
    )
    def check(bits, length):
        (folder / "last.pt").write_bytes(data)
        for bit in bits:
            flip(folder / "last.pt", bit)
        os.truncate(folder / "last.pt", length)
        results.append(found(folder, content))
        assert results[-1] or length == len(data)

    check()
    assert len(set(results)) == 2


def test_every_bit_of_the_weights_and_of_their_averages_is_found(pair):
    folder, data, content = pair
    for tensor in (
        content["model"]["weight"],
        *(content["optimizer"]["state"][0][k] for k in ("exp_avg", "step")),
    ):
        raw = tensor.numpy().tobytes()
        start = data.index(raw)
        for byte in range(start, start + len(raw)):
            (folder / "last.pt").write_bytes(data)
            flip(folder / "last.pt", 8 * byte + byte % 8)
            assert found(folder, content)


def test_a_tensor_marked_as_a_folder_is_found(pair):
    """One bit of the list of parts, outside all checksums: torch would take what happens to lie in memory."""
    folder, data, content = pair
    mark = data.index(b"archive/data/0", directory(data)) - 8
    (folder / "last.pt").write_bytes(data)
    flip(folder / "last.pt", 8 * mark + 4)
    assert not equal(torch.load(folder / "last.pt", weights_only=True)["model"], content["model"])
    assert found(folder, content)


def test_no_bit_of_the_list_of_parts_changes_the_content(pair):
    """Of this list no checksum is kept: the entry of a tensor, and the end."""
    folder, data, content = pair
    path, tensor = folder / "last.pt", data.index(b"archive/data/0", directory(data)) - 46
    refused = 0
    for byte in (*range(tensor, tensor + 60), *range(len(data) - 22, len(data))):
        for bit in range(8):
            path.write_bytes(data)
            flip(path, 8 * byte + bit)
            try:
                assert equal(load_checkpoint(path), content)
            except UnreadableError:
                refused += 1
    assert refused > 200


# --- the log


def test_the_log_is_cut_back_to_the_checkpoint(cut, whole, capsys):
    """Records of steps 5 to 7, of which the checkpoint of step 4 knows nothing, and a torn line."""
    (cut / "last.pt").unlink()
    with (cut / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    with pytest.raises(KeyboardInterrupt):
        go(cut, resume=True, transform=interrupt)
    assert f"{cut / 'log.jsonl'}: line 7 is torn and left out." in capsys.readouterr().out
    assert [json.loads(line)["step"] for line in (cut / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4]
    go(cut, resume=True)
    assert_same_end(cut, whole)


def test_a_log_that_is_younger_than_the_checkpoint_is_emptied(tmp_path):
    plan = dataclasses.replace(PLAN, log_every=3)
    go(tmp_path, plan, until=3)
    assert [r["step"] for r in log(tmp_path)] == [3]
    (tmp_path / "last.pt").unlink()
    go(tmp_path, plan, resume=True, until=2)
    assert (tmp_path / "log.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    "line", [b"", b"nul\0\xff", b"12", b"[1]", b'{"loss": 1}', b'{"step": "2"}', b'{"step": null}']
)
def test_a_torn_line_is_left_out_and_said(tmp_path, line):
    path, said = tmp_path / "log.jsonl", []
    path.write_bytes(b'{"step": 1, "loss": 2.5}\n' + line + b'\n{"step": 3, "loss": 2.0}\n')
    assert [r["step"] for r in train.read_log(path, said.append)] == [1, 3]
    assert said == [f"{path}: line 2 is torn and left out."]
    assert keeping.read_log(tmp_path / "none") == []


# --- killed between any two calls


def snapshots(run, folder, into):
    """What `run` leaves in its folder after each of its file-system calls: the states that a kill would leave."""
    link, seen = os.link, []

    def take():
        state = {p.name.rsplit(".", 2)[0]: p.stat().st_ino for p in folder.glob(".*.tmp")}
        state |= {p.name: p.stat().st_ino for p in folder.glob("[!.]*")}
        if state not in seen:
            seen.append(state)
            shutil.copytree(folder, into / str(len(seen)), copy_function=link)

    def watched(original):
        def call(*args, **options):
            take()
            original(*args, **options)
            take()

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("link", "replace", "unlink", "fsync"):
            patch.setattr(os, name, watched(getattr(os, name)))
        run()
    return [into / str(number + 1) for number in range(len(seen))]


def test_killed_between_any_two_calls_the_run_goes_on_to_the_same_end(tmp_path, whole):
    folder = tmp_path / "run"
    folder.mkdir()
    states = snapshots(lambda: go(folder), folder, tmp_path / "states")
    assert len(states) >= 15
    steps = []
    for state in states:
        if keeping.has_checkpoint(state):
            path, content = keeping.newest(state, say=pytest.fail)
            assert path.name == "last.pt"
            assert [r["step"] for r in log(state)][: content["step"]] == list(range(1, content["step"] + 1))
            steps.append(content["step"])
    assert steps == sorted(steps)
    assert set(steps) == {2, 4, 6}
    for state in states[5:10]:  # around the second save
        go(state, resume=keeping.has_checkpoint(state))
        assert_same_end(state, whole)
        assert {p.name for p in state.iterdir()} == {"last.pt", "previous.pt", "log.jsonl"}


# --- a full disk


def size_of(whole):
    return (whole / "last.pt").stat().st_size


@pytest.mark.parametrize(
    ("room", "name"), [(0, "log.jsonl"), (100, "log.jsonl"), (5000, "last.pt"), (-9000, "last.pt")]
)
def test_a_full_disk_leaves_the_checkpoint_and_says_how_to_go_on(tmp_path, whole, capsys, room, name):
    """Full at the first byte, within the log, within the checkpoint, near its end."""
    go(tmp_path, until=2)
    before = (tmp_path / "last.pt").read_bytes()
    with longest_file(room % size_of(whole)), pytest.raises(DiskFullError) as stop:
        go(tmp_path, resume=True)
    message = str(stop.value)
    assert message.startswith(f"{tmp_path / name}: cannot be written")
    assert "with --resume goes on from step 2" in message
    needed = int(re.search(r"it needs ([\d,]+) bytes", message)[1].replace(",", ""))
    assert name != "last.pt" or needed == pytest.approx(size_of(whole), rel=1e-3)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "log.jsonl"}
    go(tmp_path, resume=True)
    assert_same_end(tmp_path, whole)


def test_a_disk_full_at_the_first_save_says_so(tmp_path, whole, capsys):
    with (
        longest_file(size_of(whole) // 2),
        pytest.raises(DiskFullError, match="no checkpoint yet: make room"),
    ):
        go(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"log.jsonl"}
    go(tmp_path)
    assert_same_end(tmp_path, whole)


def with_free(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def test_room_is_looked_for_before_the_first_step(tmp_path, whole, monkeypatch, capsys):
    size = size_of(whole)
    with_free(monkeypatch, size // 2)
    with pytest.raises(
        DiskFullError, match=r"run: no room .* take [\d,]+ bytes each, .* has [\d,]+ free; make room"
    ):
        go(tmp_path / "run", transform=interrupt)
    assert not (tmp_path / "run").exists()
    with_free(monkeypatch, 2 * size)
    go(tmp_path / "run", until=2)
    assert "warning: little room" in capsys.readouterr().out
    go(tmp_path / "run", until=4, resume=True)  # one is there, and two more fit
    with_free(monkeypatch, 4 * size)
    go(tmp_path / "other", until=1)
    assert "warning" not in capsys.readouterr().out
    with_free(monkeypatch, 0)
    go(whole, resume=True)  # all is done, nothing is to be written


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_size_of_a_checkpoint_is_known_before_it_is_written(tmp_path, optimizer):
    plan = dataclasses.replace(PLAN, optimizer=optimizer, iterations=1)
    net = go(tmp_path, plan)
    optimizer = Stepper(net, plan, torch.device("cpu")).optimizer
    assert keeping.checkpoint_bytes(net, optimizer) == pytest.approx(size_of(tmp_path), rel=0.01)


@pytest.mark.parametrize("room", [0, 1, 1000, 20_000])
def test_a_figure_and_a_checkpoint_fail_by_the_disks_own_error(tmp_path, capsys, room):
    """Not by what the writers of PNG and of zip files make of it."""
    figure = Figure()
    figure.text(0.5, 0.5, "a figure", fontsize=60)
    writers = (
        lambda file: figure.savefig(file, format="png", dpi=300),
        lambda file: torch.save(torch.rand(9999), file),
    )
    for write in writers:
        with longest_file(room), pytest.raises(DiskFullError, match="cannot be written"):
            write_atomically(tmp_path / "x", write)
        assert list(tmp_path.iterdir()) == []


# --- asked to stop


class Asks:
    """An augmentation in which, at its n-th call, signals arrive, at a worker process as well as at the program."""

    def __init__(self, call, *numbers):
        self.call, self.numbers, self.program, self.augment = call, numbers, os.getpid(), Augment(128, 128)

    def __call__(self, sample, rng):
        self.call -= 1
        for number in self.numbers if self.call == 0 else ():
            for process in {os.getpid(), self.program}:
                os.kill(process, number)
        return self.augment(sample, rng)


@pytest.fixture
def ctrl_c():
    """SIGINT as at a terminal; a program in the background may have been started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_lets_the_step_end_and_be_saved(tmp_path, whole, capsys, number, workers):
    plan = dataclasses.replace(PLAN, save_every=100, workers=workers)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt, match=r"last\.pt holds step \d\."):
        go(tmp_path, plan, Asks(5, number))
    step = load_checkpoint(tmp_path / "last.pt")["step"]
    assert step == 3 if workers == 0 else 1 <= step <= 3
    assert [r["step"] for r in log(tmp_path)] == list(range(1, step + 1))
    assert f"{number.name}: saving after this step" in capsys.readouterr().err
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    go(tmp_path, plan, resume=True)
    assert_same_end(tmp_path, whole)


@pytest.mark.usefixtures("ctrl_c")
def test_a_signal_passed_on_once_more_is_one(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="holds step 2"):
        go(tmp_path, transform=Asks(3, signal.SIGINT, signal.SIGINT, signal.SIGTERM))


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_signal_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_REPEAT", -1)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, transform=Asks(3, signal.SIGINT, signal.SIGINT))
    assert not keeping.has_checkpoint(tmp_path)
    assert [r["step"] for r in log(tmp_path)] == [1]


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, whole):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        go(tmp_path, transform=Asks(3, signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same_end(tmp_path, whole)


def test_in_another_thread_signals_are_left_alone():
    seen = []

    def enter():
        with Stopping() as asked:
            seen.append((asked.asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(None, signal.getsignal(signal.SIGINT))]


# --- the command, killed for good


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A VOC-layout folder of drawn scenes."""
    root = tmp_path_factory.mktemp("voc")
    Shapes(5, seed=1).write_voc(root, "trainval")
    Shapes(2, seed=2).write_voc(root, "test")
    return root


CHANGES = {"iterations": 11, "batch_size": 2, "workers": 0, "log_every": 1, "save_every": 2}


def command(data, out, **options):
    return {"folder": data, "out": out, "size_px": (128, 128), "changes": CHANGES, **options}


def evaluated(out):
    metrics = json.loads((out / "metrics.json").read_text())
    return {k: v for k, v in metrics.items() if "seconds" not in k}


class Server:
    """Programs in which the package is imported already, so that each that is killed starts within a moment."""

    def __init__(self):
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["ssdedu.workshop"])
        first = self.context.Process(target=int)
        first.start()
        first.join()

    def start(self, options):
        resume = keeping.has_checkpoint(options["out"])
        process = self.context.Process(target=workshop.train_on_folder, kwargs={**options, "resume": resume})
        process.start()
        return process

    def run(self, options):
        """Seconds that the command takes undisturbed."""
        begin = time.perf_counter()
        process = self.start(options)
        process.join()
        assert process.exitcode == 0
        return time.perf_counter() - begin


@pytest.fixture(scope="module")
def server():
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no forkserver")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield Server()


@pytest.fixture(scope="module")
def undisturbed(server, data, tmp_path_factory):
    """The folder of the run that nobody killed, and its seconds."""
    out = tmp_path_factory.mktemp("undisturbed")
    return out, server.run(command(data, out))


def saved(out):
    """What tells the checkpoint that is there from any other."""
    path = out / "last.pt"
    return path.stat().st_mtime_ns if path.is_file() else 0


def wait(process, condition):
    while process.is_alive() and not condition():
        time.sleep(0.0005)


def kill_at_random(process, out, seconds, rng):
    """SIGKILL after none or one more save, in the midst of a write or at any moment; returns whether in time."""
    if rng.random() < 0.7:
        before = saved(out)
        wait(process, lambda: saved(out) != before)
    if rng.random() < 0.5:
        wait(process, lambda: any(out.glob(".*.tmp")))
        process.join(rng.uniform(0, 0.01))
    else:
        process.join(rng.uniform(0, seconds / 10))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def kill_again_and_again(server, options, seconds, seed, kills):
    """Start the command and kill it so many times, then let it end; returns the steps at which it was found."""
    rng, out, steps = random.Random(seed), options["out"], []
    out.mkdir()
    for _ in range(kills):
        if kill_at_random(server.start(options), out, seconds, rng) and keeping.has_checkpoint(out):
            steps.append(keeping.newest(out, say=pytest.fail)[1]["step"])
    server.run(options)
    return steps


def assert_same_result(out, other):
    assert_same_end(out, other)
    assert evaluated(out) == evaluated(other)
    assert {p.name for p in out.iterdir()} == {p.name for p in other.iterdir()}


def test_killed_again_and_again_the_command_ends_with_the_same_result(server, data, undisturbed, tmp_path):
    folder, seconds = undisturbed
    steps = kill_again_and_again(server, command(data, tmp_path / "run"), seconds, seed=3, kills=5)
    assert steps == sorted(steps)
    assert len(steps) >= 2, "killed in time, with something to go on from"
    assert_same_result(tmp_path / "run", folder)


@pytest.mark.slow
def test_killed_for_most_of_a_minute(server, data, undisturbed, tmp_path):
    folder, seconds = undisturbed
    end, seed = time.monotonic() + 35, 100
    while time.monotonic() < end:
        out = tmp_path / str(seed)
        kill_again_and_again(server, command(data, out), seconds, seed, kills=5)
        assert_same_result(out, folder)
        seed += 1


# --- the command, by its own words


def last_time(path):
    return path.stat().st_mtime_ns


@pytest.fixture
def plain_figures(monkeypatch):
    """Figures without the seconds that it takes to draw them."""
    for name in ("loss_curve", "pr_curves", "gallery"):
        monkeypatch.setattr(plots, name, lambda *_: Figure())


def train_in(data, out, *more):
    small = ["--size", "128", "--batch-size", "2", "--workers", "0", "--steps", "3"]
    return main(["train", str(data), "--out", str(out), *small, *more])


@pytest.fixture(scope="module")
def trained_once(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    assert train_in(data, out) == 0
    return out


@pytest.fixture
def trained(trained_once, plain_figures, tmp_path):
    return shutil.copytree(trained_once, tmp_path / "run")


def test_a_cut_evaluation_is_repeated_without_training(data, trained, monkeypatch, capsys):
    before, saved = evaluated(trained), last_time(trained / "last.pt")
    for name in ("metrics.json", "loss.png", "pr.png", "gallery.png"):
        (trained / name).unlink()
    monkeypatch.setattr(train, "batch_loss", pytest.fail)
    with monkeypatch.context() as patch:
        patch.setattr(plots, "pr_curves", interrupt)
        assert train_in(data, trained, "--resume") == 130
    assert "the same command with --resume" in capsys.readouterr().err
    assert not (trained / "gallery.png").exists()
    assert train_in(data, trained, "--resume") == 0
    assert evaluated(trained) == before
    assert (trained / "gallery.png").exists()
    assert last_time(trained / "last.pt") == saved


def test_other_images_are_refused(data, trained, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "less")
    listing = tmp_path / "less" / "ImageSets" / "Main" / "trainval.txt"
    listing.write_text("".join(listing.read_text().splitlines(keepends=True)[:-1]))
    assert train_in(tmp_path / "less", trained, "--resume") == 2
    assert "other images to train on (5 images there, 4 images here" in capsys.readouterr().err


def test_a_folder_with_the_one_before_alone_is_not_written_over(data, trained, capsys):
    (trained / "last.pt").rename(trained / "previous.pt")
    assert train_in(data, trained) == 2
    assert "--resume" in capsys.readouterr().err
    assert train_in(data, trained, "--resume") == 0


def test_a_disk_full_while_measuring_is_said(data, trained, capsys):
    (trained / "metrics.json").unlink()
    with longest_file(50):
        assert train_in(data, trained, "--resume") == 2
    error = capsys.readouterr().err
    assert f"{trained / 'metrics.json'}: cannot be written" in error
    assert "with --resume goes on from step 3" in error
    assert train_in(data, trained, "--resume") == 0


def test_a_figure_on_a_full_disk_is_written_whole_or_not_at_all(data, trained, capsys):
    before = (trained / "loss.png").read_bytes()
    with longest_file(1000):
        assert train_in(data, trained, "--resume") == 2
    assert f"{trained / 'loss.png'}: cannot be written" in capsys.readouterr().err
    assert (trained / "loss.png").read_bytes() == before
