"""The commands of notebook 14 for VOC and GPUs, taken from it and run in miniature, each its whole schedule.

They run where they expect to be run: in a folder with the data/ that `ssdedu download` leaves, here drawn scenes and
random weights. Only the device and the number of GPUs are replaced, `--steps` and `--batch-size` added.
"""

import ast
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from other_ssds import Amdegroot, random_state
from test_base_weights import as_keras, mobilenet_state
from torch.distributed.run import get_args_parser

from ssdedu import priors, recipes, train, workshop
from ssdedu.__main__ import _parser, main
from ssdedu.catalogue import CATALOGUE
from ssdedu.checkpoints import load_checkpoint
from ssdedu.datasets import shapes, voc
from ssdedu.optimization import Stepper

NOTEBOOK = nbformat.read(Path(__file__).parents[1] / "notebooks" / "14_voc.ipynb", 4)
KERAS = "mobilenet_1_0_224_tf_no_top.h5"
PARTS = (("VOC2007", "trainval", 4), ("VOC2007", "test", 3), ("VOC2012", "trainval", 3))


def commands():
    """The words of the commands by the names that the notebook gives them."""
    (source,) = (c.source for c in NOTEBOOK.cells if "commands = {" in c.source)
    (value,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "commands"
    )
    return {name: list(map(shlex.split, lines)) for name, lines in ast.literal_eval(value).items()}


COMMANDS = commands()
ALL = [words for several in COMMANDS.values() for words in several]


def without_torchrun(words):
    """The words behind `ssdedu`, and those of the launcher before them, if there is one."""
    if words[0] != "torchrun":
        assert words[0] == "ssdedu"
        return words[1:], None
    launcher = get_args_parser().parse_args(words[1:])
    assert (launcher.module, launcher.training_script) == (True, "ssdedu")
    return launcher.training_script_args, launcher


def options_of(words):
    return _parser().parse_args(without_torchrun(words)[0])


def kind(words):
    return options_of(words).command.__name__.removeprefix("_run_")


# --- without training


def test_the_notebook_has_a_command_for_each_way_to_train():
    detectors = [options_of(words).detector for words in ALL if kind(words) == "train"]
    assert detectors == ["ssd300", "ssd512", "ssd300", "mobilenet"]
    launched = [without_torchrun(words)[1] for words in ALL]
    assert [launcher.nproc_per_node for launcher in launched if launcher] == ["4", "4"]
    assert {kind(words) for words in ALL} == {"download", "check_data", "train", "evaluate"}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_command_line_takes_every_command(words):
    options = options_of(words)
    assert not vars(options).get("resume")
    with pytest.raises(SystemExit):
        options_of([*words, "--no-such-option"])


def left_by(words):
    """Files and folders that a command leaves for the next ones."""
    options = options_of(words)
    if kind(words) == "train":
        return {f"{options.out}/last.pt"}
    if kind(words) != "download":
        return set()
    items = [CATALOGUE[name] for name in options.names]
    return {f"{options.to}/{i.folder}" if i.folder else f"{options.to}/{i.files[0].name}" for i in items}


def read_by(words):
    options = options_of(words)
    folders = vars(options).get("folder", [])
    files = [vars(options).get(name) for name in ("base_weights", "checkpoint")]
    return {*([folders] if isinstance(folders, str) else folders), *filter(None, files)}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_all_that_a_command_reads_was_downloaded_or_made_by_those_before_it(name):
    there = set.union(*map(left_by, COMMANDS["data"]))
    for words in COMMANDS[name]:
        assert read_by(words) <= there
        there |= left_by(words)


def test_what_is_measured_is_voc2007_test_by_the_detector_just_trained():
    for several in COMMANDS.values():
        trained = [options_of(words).out for words in several if kind(words) == "train"]
        for options in (options_of(words) for words in several if kind(words) == "evaluate"):
            assert (options.folder, options.split, options.metric) == (
                "data/VOCdevkit/VOC2007",
                "test",
                "voc07",
            )
            assert not trained or options.checkpoint == f"{trained[0]}/last.pt"


# --- what a command starts


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as the downloads leave it: drawn scenes under VOC's names, random weights."""
    root = tmp_path_factory.mktemp("place")
    names = voc.VOC_CLASSES[: len(shapes.CLASSES)]
    for seed, (year, split, number) in enumerate(PARTS):
        scenes = [shapes.draw_scene(50 + seed, i) for i in range(number)]
        voc.write_voc(root / "data" / "VOCdevkit" / year, scenes, names, split)
    torch.save(random_state(Amdegroot, 21, background=3.0), root / "data" / "ssd300_mAP_77.43_v2.pth")
    torch.save(vgg16_reducedfc(), root / "data" / "vgg16_reducedfc.pth")
    yield root
    shutil.rmtree(root)


def vgg16_reducedfc():
    """Random numbers in amdegroot's layout, at 0.63 of the deviation that keeps activations as large as the pixels.

    After fifteen layers they are a thousandth of that: the first loss is not huge, and the paper's rate not too high.
    """
    g = torch.Generator().manual_seed(0)
    layers = [shape for shape in Amdegroot.shapes(21) if shape[0].startswith("vgg.")]
    state = {}
    for key, outputs, inputs, kernel in layers:
        scale = 0.63 * math.sqrt(2 / (inputs * kernel * kernel))
        number = key.removeprefix("vgg.")
        state[f"{number}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=g) * scale
        state[f"{number}.bias"] = torch.zeros(outputs)
    return state


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    yield place
    shutil.rmtree(place / "runs", ignore_errors=True)


def on_cpu(words, *more):
    """The command without the launcher, on the CPU, with more options."""
    words = without_torchrun(words)[0]
    return ["cpu" if word == "cuda" else word for word in words] + list(more)


def named(name, which):
    (words,) = (words for words in COMMANDS[name] if kind(words) == which)
    return words


def started(words, monkeypatch):
    """What the command gives to `train.train`, before the first step."""
    taken = {}

    def take(model, images, augmentation, settings, out, **options):
        taken.update(options, model=model, images=images, augmentation=augmentation, settings=settings)
        raise ValueError("taken")

    monkeypatch.setattr(workshop, "train", take)
    assert main(on_cpu(words)) == 2
    return taken


SEC_3 = {"optimizer": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32}
SEC_3_1_DOUBLED = {"schedule": "steps", "milestones": (80_000, 100_000), "iterations": 120_000}
SEC_2_2 = {"threshold": 0.5, "rule": "ssd", "alpha": 1.0, "ratio": 3.0, "min_negatives": 0}
SSD_PASCAL_PY = {"bias_factor": 2.0, "warmup": 0, "clip_norm": None, "frozen_layers": 0}


@pytest.mark.parametrize(("name", "boxes", "side"), [("SSD300", 8732, 300), ("SSD512", 24564, 512)])
def test_it_is_trained_with_the_papers_settings_from_vgg16(name, boxes, side, here, monkeypatch):
    """Sec. 3: optimizer and batch; Sec. 3.1, doubled by Sec. 3.6: the schedule; ssd_pascal.py: biases."""
    taken = started(named(name, "train"), monkeypatch)
    settings, model, augment = taken["settings"], taken["model"], taken["augmentation"]
    for given in (SEC_3, SEC_3_1_DOUBLED, SEC_2_2, SSD_PASCAL_PY):
        assert {field: getattr(settings, field) for field in given} == given
    assert model.config == (priors.SSD300_VOC if side == 300 else priors.SSD512_VOC)
    assert model.priors_cxcywh.shape == (boxes, 4)
    assert (model.base_name, model.num_classes) == ("vgg16", 21)
    assert (augment.width_px, augment.height_px, augment.max_ratio) == (side, side, 4)
    assert (augment.distort_probability, augment.expand_probability, augment.mirror_probability) == (0.5,) * 3
    file = torch.load("data/vgg16_reducedfc.pth", weights_only=True)
    assert torch.equal(model.base.to_conv4_3[0].weight, file["0.weight"])
    assert torch.equal(model.base.to_fc7[3].bias, file["33.bias"])
    assert model.mean.flatten().tolist() == [123, 117, 104]
    assert sorted(taken["data"]["trained_on"]) == [
        *(f"scene-50-{i}" for i in range(4)),
        *(f"scene-52-{i}" for i in range(3)),
    ]
    assert_rates(model, settings)


def assert_rates(model, settings):
    """Biases: twice the rate, no decay. All else, L2 normalisation's scale too: the rate itself, decay."""
    stepper = Stepper(model, settings, torch.device("cpu"))
    names = {id(p): name for name, p in model.named_parameters()}
    for step, rate in ((0, 1e-3), (79_999, 1e-3), (80_000, 1e-4), (99_999, 1e-4), (100_000, 1e-5)):
        stepper.start(step)
        seen = {names[id(p)]: group for group in stepper.optimizer.param_groups for p in group["params"]}
        assert seen.keys() == dict(model.named_parameters()).keys()
        for name, group in seen.items():
            bias = name.endswith(".bias")
            assert group["lr"] == pytest.approx(2 * rate if bias else rate)
            assert (group["weight_decay"], group["momentum"]) == (0 if bias else 5e-4, 0.9)


def test_several_gpus_train_with_the_settings_of_one():
    one, four = (vars(options_of(named(name, "train"))) for name in ("SSD300", "SSD300 on 4 GPUs"))
    assert {**one, "out": None} == {**four, "out": None}


# --- in miniature


def rates_by_hand(steps):
    """Of the paper's schedule in so many steps: two thirds, a sixth, a sixth."""
    return [1e-3] * (steps * 4 // 6) + [1e-4] * (steps // 6) + [1e-5] * (steps // 6)


@pytest.fixture
def log_each_step(monkeypatch):
    for name, recipe in recipes.RECIPES.items():
        often = replace(recipe, settings=replace(recipe.settings, log_every=1))
        monkeypatch.setitem(recipes.RECIPES, name, often)


def interrupt_in(monkeypatch, step):
    """Send this process SIGTERM, by which clusters end programs, in a step counted from 1."""
    start = Stepper.start

    def start_and_interrupt(self, index):
        start(self, index)
        if index == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Stepper, "start", start_and_interrupt)


def assert_sound(log, rates):
    assert [r["lr"] for r in log] == pytest.approx(rates)
    assert all(math.isfinite(r[part]) for r in log for part in ("loss", "localization", "confidence"))
    assert all(r["positives"] > 0 and r["loss"] > 0 for r in log)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("SSD300", 12), ("SSD512", 6)])
def test_the_whole_schedule(name, steps, here, monkeypatch, log_each_step, capsys):
    """Checked, interrupted behind the middle, resumed to the end, measured again."""
    assert all(main(on_cpu(words)) == 0 for words in COMMANDS["data"] if kind(words) == "check_data")
    words = on_cpu(named(name, "train"), "--steps", str(steps), "--batch-size", "2")
    out, middle = Path(options_of(named(name, "train")).out), steps // 2 + 1
    with monkeypatch.context() as patch:
        interrupt_in(patch, middle)
        assert main(words) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert load_checkpoint(out / "last.pt")["step"] == middle
    assert main([*words, "--resume"]) == 0
    log = train.read_log(out / "log.jsonl")
    assert [r["step"] for r in log] == list(range(1, steps + 1))
    assert_sound(log, rates_by_hand(steps))
    trained = mean_ap(capsys.readouterr().out)
    assert main(on_cpu(named(name, "evaluate"))) == 0
    assert mean_ap(capsys.readouterr().out) == trained


def mean_ap(text):
    """The line of the mAP, behind one for each of VOC's classes."""
    lines = text.splitlines()
    (place,) = (i for i, line in enumerate(lines) if re.match(r"mAP \d", line))
    assert [line.split()[0] for line in lines[place - 20 : place]] == list(voc.VOC_CLASSES)
    return lines[place]


@pytest.mark.slow
def test_the_whole_schedule_by_two_processes(here):
    """gloo in the place of nccl; the log has the tenth step and the last."""
    train_words, evaluate_words = COMMANDS["SSD300 on 4 GPUs"]
    launch(train_words, "--steps", "12", "--batch-size", "2")
    out = Path(options_of(train_words).out)
    log = train.read_log(out / "log.jsonl")
    assert [r["step"] for r in log] == [10, 12]
    assert_sound(log, [rates_by_hand(12)[r["step"] - 1] for r in log])
    said = mean_ap(launch(evaluate_words))
    trained = json.loads((out / "metrics.json").read_text())["mean_ap"]
    assert float(said.split()[1]) == pytest.approx(trained, abs=6e-4)


def launch(words, *more):
    """Run a torchrun command as two processes on the CPU; what it prints."""
    words = [{"4": "2", "cuda": "cpu"}.get(word, word) for word in words[1:]]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words, *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_mobilenet_on_a_cpu(here, log_each_step, capsys):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(f"data/{KERAS}", "w") as file:
        for name, array in as_keras(mobilenet_state(2)).items():
            file.create_dataset(f"{name.partition('/')[0]}/{name}:0", data=array)
    words = named("MobileNet on a CPU", "train")
    assert main(on_cpu(words, "--steps", "12", "--batch-size", "2")) == 0
    assert mean_ap(capsys.readouterr().out)
    log = train.read_log(Path(options_of(words).out) / "log.jsonl")
    falling = [0.5 * (1 + math.cos(math.pi * step / 11)) for step in range(11)]
    assert_sound(log, [1e-3 * share for share in (1, *falling)])
    first = load_checkpoint(Path(options_of(words).out) / "last.pt")["model"]["base.to_stride8.0.weight"]
    np.testing.assert_array_equal(first, mobilenet_state(2)["conv1.weight"])  # frozen


@pytest.mark.slow
def test_what_others_trained_is_measured(here, capsys):
    assert main(on_cpu(named("others' SSD300", "evaluate"))) == 0
    assert mean_ap(capsys.readouterr().out)
