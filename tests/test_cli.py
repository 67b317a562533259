"""The commands as a reader types them: results on disk, and mistakes answered without a traceback."""

import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from ssdedu import checkpoints, priors, train
from ssdedu.__main__ import main
from ssdedu.comp3 import read_comp3
from ssdedu.datasets.shapes import CLASSES, Shapes
from ssdedu.datasets.voc import VOCFolder
from ssdedu.demo import Demo, run
from ssdedu.model import SSD


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small VOC-layout folder with two splits."""
    root = tmp_path_factory.mktemp("voc")
    Shapes(6, seed=1).write_voc(root, "trainval")
    Shapes(3, seed=2).write_voc(root, "test")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "last.pt"
    checkpoints.save_checkpoint(path, train.build(lambda: SSD(priors.SHAPES128, 9, "small"), 0), CLASSES)
    return path


def test_help_and_priors_come_without_torch():
    """The help of every command, and the plain import, wait for nothing heavy."""
    code = "import sys, ssdedu.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert m.main(['priors', 'ssd512_coco']) == 0\n"
    code += "assert not {'torch', 'matplotlib', 'cv2'} & set(sys.modules), sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "check-data" in done.stdout
    assert "24,564" in done.stdout


@pytest.mark.parametrize(
    "command", ["demo", "train", "evaluate", "detect", "priors", "check-data", "solution"]
)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 150


def test_priors_lists_all(capsys):
    assert main(["priors", "all"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in priors.PRESETS)


@pytest.mark.parametrize(("arguments", "message"), [
    (["priors", "SSD301"], "known: SSD300_VOC"),
    (["detect", "nothing.jpg", "--checkpoint", "none.pt"], "none.pt: no such checkpoint"),
    (["evaluate", "none.pt", "nowhere"], "none.pt: no such checkpoint"),
    (["train", "nowhere", "--out", "run"], "nowhere"),
    (["train", "nowhere", "--detector", "yolo"], "known: shapes, small, ssd300"),
    (["train", "nowhere", "--device", "abacus"], "--device abacus"),
    (["check-data", "nowhere"], "nowhere"),
    (["solution", "nothing"], "nothing"),
])  # fmt: skip
def test_mistakes_get_an_answer(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    with pytest.raises((ValueError, OSError)):
        main(["--traceback", *arguments])


@pytest.mark.parametrize(
    "arguments", [["train", "x", "--size", "big"], ["demo", "--steps", "0"], ["fly"], []]
)
def test_wrong_options_are_refused_by_the_parser(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_train_then_evaluate_then_detect(folder, tmp_path, capsys):
    out = tmp_path / "run"
    common = [
        "train",
        str(folder),
        "--out",
        str(out),
        "--size",
        "128x96",
        "--batch-size",
        "3",
        "--workers",
        "0",
    ]
    assert main([*common, "--steps", "3"]) == 0
    text = capsys.readouterr().out
    assert "6 images to train on, 3 held out" in text
    assert "mAP" in text
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["ap"]) <= set(CLASSES)
    for name in ("last.pt", "log.jsonl", "loss.png", "pr.png", "gallery.png"):
        assert (out / name).stat().st_size > 0

    assert main([*common, "--steps", "3"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*common, "--steps", "3", "--resume"]) == 0

    report, results = tmp_path / "numbers.json", tmp_path / "comp3"
    arguments = [str(out / "last.pt"), str(folder), "--comp3", str(results), "--json", str(report)]
    assert main(["evaluate", *arguments]) == 0
    assert json.loads(report.read_text())["mean_ap"] == pytest.approx(metrics["mean_ap"], abs=1e-6)
    model, classes = checkpoints.load_detector(out / "last.pt")
    assert (model.config.width_px, model.config.height_px) == (128, 96)
    test = VOCFolder(folder, "test", classes=classes)
    assert len(read_comp3(results, [test.truth(i) for i in range(3)], classes)) == 3

    picture = folder / "JPEGImages" / f"{test.ids[0]}.png"
    found = tmp_path / "found"
    score = ["--score", "0.0001", "--checkpoint", str(out / "last.pt"), "--out", str(found)]
    assert main(["detect", str(picture), *score]) == 0
    listed = json.loads((found / "detections.json").read_text())[str(picture)]
    assert len(listed) == 200
    for entry in listed:
        x1, y1, x2, y2 = entry["box_xyxy_px"]
        assert 0 <= x1 <= x2 <= 128
        assert 0 <= y1 <= y2 <= 128
        assert entry["class"] in CLASSES
    drawn = cv2.imread(str(found / f"{picture.stem}.png"))
    assert drawn.shape[0] == drawn.shape[1] >= 128


def test_without_splits_every_fifth_image_is_held_out(tmp_path, capsys):
    Shapes(6, seed=1).write_voc(tmp_path / "data", None)
    out = [
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "1",
        "--size",
        "128",
        "--batch-size",
        "2",
        "--workers",
        "0",
    ]
    assert main(["train", str(tmp_path / "data"), *out]) == 0
    assert "5 images to train on, 1 held out" in capsys.readouterr().out
    Shapes(3, seed=1).write_voc(tmp_path / "few", None)
    assert main(["train", str(tmp_path / "few"), "--out", str(tmp_path / "other")]) == 2
    assert "too few" in capsys.readouterr().err


def test_an_error_in_a_worker_is_one_line(folder, tmp_path, capsys):
    Shapes(6, seed=1).write_voc(tmp_path / "data", "trainval")
    Shapes(2, seed=2).write_voc(tmp_path / "data", "test")
    victims = sorted((tmp_path / "data" / "JPEGImages").glob("scene-1-*"))
    arguments = [
        "train",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "4",
        "--size",
        "128",
    ]
    data = bytearray(victims[0].read_bytes())
    data[200:400] = bytes(200)
    victims[0].write_bytes(bytes(data))
    assert main([*arguments, "--workers", "1", "--batch-size", "6"]) == 2
    error = capsys.readouterr().err
    assert victims[0].name in error
    assert "Traceback" not in error


def test_detect_turns_pictures_upright_and_names_bad_files(checkpoint, tmp_path, capsys):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 no picture")
    assert main(["detect", str(bad), "--checkpoint", str(checkpoint), "--out", str(tmp_path)]) == 2
    assert "bad.jpg" in capsys.readouterr().err
    assert (
        main(["detect", str(tmp_path / "gone.png"), "--checkpoint", str(checkpoint), "--out", str(tmp_path)])
        == 2
    )
    assert "no such picture" in capsys.readouterr().err
    wide = tmp_path / "wide.png"
    cv2.imwrite(str(wide), np.full((60, 200, 3), 90, np.uint8))
    assert main(["detect", str(wide), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "o")]) == 0
    assert "wide.png:" in capsys.readouterr().out
    assert json.loads((tmp_path / "o" / "detections.json").read_text()).keys() == {str(wide)}


def test_check_data_finds_what_is_wrong(folder, tmp_path, capsys):
    assert main(["check-data", str(folder)]) == 0
    assert "9" in capsys.readouterr().out
    Shapes(2, seed=1).write_voc(tmp_path, None)
    victim = next((tmp_path / "Annotations").glob("*.xml"))
    victim.write_text(victim.read_text().replace("<xmax>", "<xmax>-"))
    assert main(["check-data", str(tmp_path), "--no-decode"]) == 1
    assert victim.name in capsys.readouterr().out


def test_solution_prints_code(capsys):
    from ssdedu.course.exercises import registry

    name = next(iter(registry()))
    assert main(["solution", name]) == 0
    assert "def " in capsys.readouterr().out


def quick(seed=0, steps=4):
    return Demo(seed, num_train=6, num_held_out=4).short(steps)


def test_the_demo_writes_its_report_and_uses_it_again(tmp_path):
    said = []
    metrics = run(quick(), tmp_path, say=said.append)
    assert said == []
    page = (tmp_path / "index.html").read_text()
    for name in ("loss.png", "pr.png", "gallery.png"):
        assert cv2.imread(str(tmp_path / name)) is not None
        assert f'<img src="{name}" alt="' in page
    assert f"mAP {metrics['mean_ap']:.3f}" in page
    assert metrics["description"]["seed"] == 0
    assert sum(s["objects"] for s in metrics["recall_by_size_at_score_0.5"]) == metrics["num_objects"]
    stamp = (tmp_path / "last.pt").stat().st_mtime_ns
    again = run(quick(), tmp_path, say=said.append)
    assert again == json.loads((tmp_path / "metrics.json").read_text())
    assert len(said) == 1
    assert "used again" in said[0]
    assert (tmp_path / "last.pt").stat().st_mtime_ns == stamp
    run(quick(), tmp_path, fresh=True, say=said.append)
    assert (tmp_path / "last.pt").stat().st_mtime_ns > stamp
    assert run(quick(seed=1), tmp_path, say=said.append)["description"]["seed"] == 1


def test_a_cut_demo_goes_on_to_the_same_detector(tmp_path):
    whole = run(quick(), tmp_path / "whole", say=lambda _: None)
    demo = quick()
    settings = dataclasses.replace(demo.recipe.settings, seed=0)
    net = demo.recipe.model(9, 0)
    train.train(net, demo.training, demo.recipe.augmentation(), settings, tmp_path / "cut", until=2)
    said = []
    resumed = run(demo, tmp_path / "cut", say=said.append)
    assert "cut" in said[0]
    assert resumed["ap"] == whole["ap"]
    nets = [checkpoints.load_detector(tmp_path / n / "last.pt").model.state_dict() for n in ("whole", "cut")]
    assert all(torch.equal(a, b) for a, b in zip(nets[0].values(), nets[1].values(), strict=True))


def test_one_map_predicts_fewer_boxes():
    demo = Demo().one_map()
    assert demo.recipe.config.num_boxes == 384
    assert demo.recipe.settings == Demo().recipe.settings


@pytest.mark.slow
def test_the_demo_keeps_its_promise(tmp_path):
    """mAP at least .85 on 400 held-out scenes, and clearly less from a single map."""
    metrics = run(Demo(), tmp_path / "demo")
    assert metrics["mean_ap"] >= 0.85
