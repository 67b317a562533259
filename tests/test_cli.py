"""The commands as a reader types them: results on disk, and mistakes answered without a traceback."""

import dataclasses
import json
import re
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
from ssdedu.demo import Demo, _can_resume, run
from ssdedu.model import SSD
from ssdedu.splits import names_of, open_splits


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
    "command",
    ["demo", "train", "evaluate", "detect", "priors", "check-data", "download", "export", "solution"],
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


def test_priors_of_a_detector_that_trains(capsys):
    assert main(["priors", "small"]) == 0
    assert ": input 192 x 192 px" in capsys.readouterr().out


def test_priors_fit_measures_a_folder(folder, tmp_path, capsys):
    out = tmp_path / "fit"
    assert main(["priors", "shapes128", "--fit", str(folder), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert (out / "fit.txt").read_text() in text
    assert "SHAPES128: input 128 x 128 px" in text
    assert f"{folder} (trainval): 6 images" in text
    assert "Verdict: " in text
    assert cv2.imread(str(out / "fit.png")) is not None
    for name in ("fit.txt", "fit.png", "priors.py"):
        assert str(out / name) in text.splitlines()[-2]
    assert text.splitlines()[-1].endswith(f"--priors {out / 'priors.json'}")
    space = {}
    exec((out / "priors.py").read_text(), space)
    assert space["config"].num_boxes == priors.SHAPES128.num_boxes
    strict = ["--threshold", "0.75", "--split", "test", "--out", str(out)]
    assert main(["priors", "shapes128", "--fit", str(folder), *strict]) == 0
    text = capsys.readouterr().out
    assert f"{folder} (test): 3 images" in text
    assert "objects, at IoU 0.75" in text


def test_fitted_priors_train(folder, tmp_path, capsys):
    """What --fit writes is what the network that is trained with --priors consists of."""
    assert main(["priors", "shapes", "--fit", str(folder), "--out", str(tmp_path / "fit")]) == 0
    fitted = priors.Config.from_dict(json.loads((tmp_path / "fit" / "priors.json").read_text()))
    assert fitted.maps != priors.SHAPES128.maps
    run = [
        "train",
        str(folder),
        "--detector",
        "shapes",
        "--steps",
        "2",
        "--batch-size",
        "2",
        "--workers",
        "0",
    ]
    given = ["--priors", str(tmp_path / "fit" / "priors.json"), "--out", str(tmp_path / "run")]
    assert main([*run, *given]) == 0
    assert checkpoints.load_detector(tmp_path / "run" / "last.pt").model.config == fitted
    (tmp_path / "bad.json").write_text('{"name": "X"}')
    (tmp_path / "torn.json").write_text('{"name": ')
    capsys.readouterr()
    for name, words in {
        "bad.json": "'maps'",
        "torn.json": "Expecting value",
        "none.json": "No such file",
    }.items():
        assert main([*run, "--priors", str(tmp_path / name), "--out", str(tmp_path / "other")]) == 2
        error = capsys.readouterr().err
        assert name in error
        assert words in error
        assert "ssdedu priors NAME --fit" in error


def test_priors_fit_stops_at_broken_annotations_unless_told_to_skip_them(tmp_path, capsys, recwarn):
    Shapes(4, seed=1).write_voc(tmp_path / "data", None)
    victim = sorted((tmp_path / "data" / "Annotations").glob("*.xml"))[0]
    victim.write_text(victim.read_text().replace("<xmin>", "<xmin>nan", 1))
    arguments = ["priors", "shapes", "--fit", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert victim.name in error
    assert "object 1" in error
    assert "--skip-bad" in error
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--skip-bad"]) == 0
    text = capsys.readouterr().out
    assert "bad number (object): 1." in text
    assert "4 images, " in text
    assert not [w for w in recwarn if "dataset.report" in str(w.message)]


def test_priors_fit_needs_objects(tmp_path, capsys):
    Shapes(2, seed=1).write_voc(tmp_path / "data", None)
    for xml in (tmp_path / "data" / "Annotations").glob("*.xml"):
        xml.write_text(re.sub(r"<object>.*</object>", "", xml.read_text(), flags=re.DOTALL))
    assert main(["priors", "--fit", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    assert "no object in 2 images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["priors", "SSD301"], "known: SSD300_VOC"),
    (["detect", "nothing.jpg", "--checkpoint", "none.pt"], "none.pt: no such checkpoint"),
    (["evaluate", "none.pt", "nowhere"], "none.pt: no such checkpoint"),
    (["train", "nowhere", "--out", "run"], "nowhere"),
    (["train", "nowhere", "--detector", "yolo"], "known: shapes, small, mobilenet, ssd300"),
    (["train", "nowhere", "--device", "abacus"], "--device abacus"),
    (["evaluate", "none.pt", "nowhere", "--device", "abacus"], "--device abacus"),
    (["detect", "nothing.jpg", "--checkpoint", "none.pt", "--device", "abacus"], "--device abacus"),
    (["detect", "nothing.jpg"], "nothing.jpg: no such picture"),
    (["train", "nowhere", "--lr", "0"], "lr must be above 0"),
    (["check-data", "nowhere"], "nowhere"),
    (["solution", "nothing"], "nothing"),
    (["priors", "--fit", "nowhere"], "nowhere is not a folder"),
    (["priors", "SSD301", "--fit", "nowhere"], "of `ssdedu train`: shapes, small"),
    (["priors", "--fit", "nowhere", "--threshold", "0"], "threshold must be above 0"),
    (["priors", "--split", "val"], "--fit FOLDER"),
    (["priors", "--skip-bad"], "--fit FOLDER"),
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
    "arguments",
    [
        ["train", "x", "--size", "big"],
        ["train", "x", "--workers", "-1"],
        ["train", "x", "--seed", "-1"],
        ["train"],
        ["demo", "--steps", "0"],
        ["demo", "--seed", "-1"],
        ["fly"],
        [],
    ],
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
    drawn = cv2.imread(str(found / f"{picture.stem}.detections.png"))
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
    damage(victims[0])
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


def test_detect_never_writes_over_a_picture_it_reads(checkpoint, tmp_path):
    """The photos lie in --out, two share a stem, and one has the very name that would be written."""
    names = ("a.png", "A.jpg", "a.detections.png", "sub/a.png")
    (tmp_path / "sub").mkdir()
    for grey, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.full((40, 50, 3), 40 * grey, np.uint8))
    before = {name: (tmp_path / name).read_bytes() for name in names}
    pictures = [str(tmp_path / name) for name in names]
    for _ in range(2):
        arguments = [*pictures, pictures[0], "--checkpoint", str(checkpoint), "--out", str(tmp_path)]
        assert main(["detect", *arguments]) == 0
        assert {name: (tmp_path / name).read_bytes() for name in names} == before
        written = {p.name for p in tmp_path.glob("*.detections.png")} - set(names)
        assert len({name.casefold() for name in written}) == len(names)
    assert list(json.loads((tmp_path / "detections.json").read_text())) == pictures


def test_one_bad_picture_does_not_lose_the_others(checkpoint, tmp_path, capsys):
    for name in ("first.png", "last.png"):
        cv2.imwrite(str(tmp_path / name), np.full((40, 50, 3), 90, np.uint8))
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    pictures = [str(tmp_path / name) for name in ("first.png", "bad.jpg", "gone.png", "last.png")]
    out = tmp_path / "out"
    assert main(["detect", *pictures, "--checkpoint", str(checkpoint), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert "last.png:" in said.out
    assert "2 of 4 pictures failed" in said.err
    assert all(path in said.err for path in pictures[1:3])
    assert list(json.loads((out / "detections.json").read_text())) == [pictures[0], pictures[3]]
    assert {p.name for p in out.glob("*.png")} == {"first.detections.png", "last.detections.png"}


def damage(image):
    """Bytes inside the file overwritten."""
    data = bytearray(image.read_bytes())
    data[200:400] = bytes(200)
    image.write_bytes(bytes(data))


def forget_quantization(image):
    """The picture as a JPEG file whose header and end are whole, but which cannot be decoded: DQT is missing."""
    data = cv2.imencode(".jpg", cv2.imread(str(image)))[1].tobytes()
    while (start := data.find(b"\xff\xdb")) >= 0:
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    image.unlink()
    image.with_suffix(".jpg").write_bytes(data)
    return image.with_suffix(".jpg")


def test_skip_bad_trains_without_what_cannot_be_decoded(tmp_path, capsys, recwarn):
    Shapes(6, seed=1).write_voc(tmp_path, "trainval")
    Shapes(3, seed=2).write_voc(tmp_path, "test")
    first, half = sorted((tmp_path / "JPEGImages").glob("scene-1-*"))[:2]
    damaged = forget_quantization(first)
    forget_quantization(sorted((tmp_path / "JPEGImages").glob("scene-2-*"))[0])
    VOCFolder(tmp_path, "test", classes=CLASSES)  # finds nothing wrong, since it does not decode
    xml = tmp_path / "Annotations" / f"{half.stem}.xml"
    xml.write_text(xml.read_text().replace("<xmin>", "<xmin>nan", 1))
    small = ["--steps", "1", "--size", "128", "--batch-size", "6", "--workers", "0"]
    out = tmp_path / "run"
    assert main(["train", str(tmp_path), "--skip-bad", "--out", str(out), *small]) == 0
    text = capsys.readouterr().out
    assert "5 images to train on, 2 held out" in text
    assert text.count("broken image (image): 1.") == 2
    assert text.count("bad number (object): 1.") == 1
    assert damaged.name in text
    assert not [w for w in recwarn if "dataset.report" in str(w.message)]
    assert main(["evaluate", str(out / "last.pt"), str(tmp_path), "--skip-bad"]) == 0
    assert "measuring 2 images: those held out when it was trained" in capsys.readouterr().out


def saved_by_training(folder, path, **splits):
    """A detector whose checkpoint says that it was trained on this folder."""
    opened = open_splits(folder, **splits)
    net = train.build(lambda: SSD(priors.SHAPES128, 9, "small"), 0)
    checkpoints.save_checkpoint(path, net, CLASSES, data=opened.record())
    return opened


def test_evaluate_measures_what_was_held_out(tmp_path, capsys):
    """A folder with trainval and val alone: val is a part of trainval, as in VOC2012."""
    Shapes(5, seed=1).write_voc(tmp_path / "d", "trainval")
    lists = tmp_path / "d" / "ImageSets" / "Main"
    ids = (lists / "trainval.txt").read_text().split()
    (lists / "val.txt").write_text("\n".join(ids[:3]))
    opened = saved_by_training(tmp_path / "d", tmp_path / "net.pt")
    assert names_of(opened.test) == [ids[4]]
    evaluate = ["evaluate", str(tmp_path / "net.pt"), str(tmp_path / "d")]
    assert main(evaluate) == 0
    text = capsys.readouterr().out
    assert "measuring 1 images: those held out" in text
    assert "warning" not in text
    assert main([*evaluate, "--split", "val"]) == 0
    text = capsys.readouterr().out
    assert "measuring 3 images: split val" in text
    assert "warning: 3 of them, by their names, were trained on" in text


def test_evaluate_elsewhere_leaves_out_what_was_trained_on(tmp_path, capsys):
    Shapes(4, seed=1).write_voc(tmp_path / "a", "trainval")
    Shapes(2, seed=2).write_voc(tmp_path / "a", "test")
    saved_by_training(tmp_path / "a", tmp_path / "net.pt")
    Shapes(6, seed=1).write_voc(tmp_path / "b", None)  # its first four scenes are those of a
    assert main(["evaluate", str(tmp_path / "net.pt"), str(tmp_path / "b")]) == 0
    text = capsys.readouterr().out
    assert "measuring 2 images: all in the folder, without 4 that were trained on" in text
    assert "warning" not in text
    Shapes(3, seed=1).write_voc(tmp_path / "c", None)
    assert main(["evaluate", str(tmp_path / "net.pt"), str(tmp_path / "c")]) == 0
    assert "warning: 3 of them" in capsys.readouterr().out


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("arguments", "has_checkpoint", "hint"), [
    (["train", "x", "--out", "o"], True, "the same command with --resume"),
    (["train", "x", "--out", "o"], False, "before the first checkpoint"),
    (["demo", "--fresh"], False, "the same command without --fresh goes on"),
    (["detect", "x", "--checkpoint", "o/last.pt"], True, ""),
])  # fmt: skip
def test_an_interrupt_says_how_to_go_on(arguments, has_checkpoint, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("workshop.train_on_folder", "workshop.detect_in_files", "demo.run"):
        monkeypatch.setattr(f"ssdedu.{name}", interrupt)
    (tmp_path / "o").mkdir()
    if has_checkpoint:
        (tmp_path / "o" / "last.pt").touch()
    assert main(arguments) == 130
    error = capsys.readouterr().err
    assert hint in error
    assert hint or "--resume" not in error
    assert ("--resume" in error) == (arguments[0] == "train" and has_checkpoint)


def test_every_kind_of_demo_has_a_folder_of_its_own(monkeypatch, capsys):
    folders = []

    def note(demo, folder, fresh):
        folders.append(folder.as_posix())
        return {"mean_ap": 1.0, "seconds": {"training": 0}}

    monkeypatch.setattr("ssdedu.demo.run", note)
    for options in (
        [],
        ["--seed", "1"],
        ["--one-map", "8"],
        ["--one-map", "4", "--seed", "2", "--steps", "9"],
        ["--out", "x"],
    ):
        assert main(["demo", *options]) == 0
    names = ("demo", "demo-seed1", "demo-one-map8", "demo-one-map4-seed2-steps9")
    assert folders == [*(f"runs/{n}" for n in names), "x"]


def test_several_folders_train_together(tmp_path, capsys):
    """As VOC07+12: trainval of both, measured on the test split that one of them has."""
    Shapes(4, seed=1).write_voc(tmp_path / "VOC2007", "trainval")
    Shapes(2, seed=2).write_voc(tmp_path / "VOC2007", "test")
    Shapes(3, seed=3).write_voc(tmp_path / "VOC2012", "trainval")
    folders = [str(tmp_path / name) for name in ("VOC2007", "VOC2012")]
    small = ["--steps", "1", "--size", "128", "--batch-size", "2", "--workers", "0"]
    assert main(["train", *folders, "--out", str(tmp_path / "run"), *small]) == 0
    assert "7 images to train on, 2 held out" in capsys.readouterr().out


def test_check_data_finds_what_is_wrong(folder, tmp_path, capsys):
    assert main(["check-data", str(folder)]) == 0
    listed = capsys.readouterr().out
    objects = sum(len(Shapes(n, seed=s).truth(i)) for n, s in ((6, 1), (3, 2)) for i in range(n))
    assert "9 images (0 without objects)" in listed
    assert f"{objects} objects (0 difficult)" in listed
    assert "No problems found." in listed
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


def test_a_demo_cut_by_other_options_or_base_is_told_apart(tmp_path):
    demo = quick()
    settings = dataclasses.replace(demo.recipe.settings, seed=0)
    net = demo.recipe.model(9, 0)
    optimizer = torch.optim.AdamW(net.parameters())
    checkpoints.save_checkpoint(tmp_path / "last.pt", net, CLASSES, 0, optimizer, settings.to_dict())
    network = {**demo.recipe.config.to_dict(), "base": "small"}

    def resumes(base="small", **changes):
        changed = dataclasses.replace(settings, **changes)
        return _can_resume(tmp_path, changed, {**network, "base": base}, CLASSES)

    assert resumes()
    assert resumes(workers=2, log_every=3, save_every=7)
    assert not resumes(lr=0.5)
    assert not resumes(base="vgg16")
    (tmp_path / "last.pt").rename(tmp_path / "previous.pt")
    assert resumes()
    (tmp_path / "previous.pt").unlink()
    assert not resumes()


def test_a_short_demo_has_a_short_warmup():
    base = Demo().recipe.settings
    assert Demo().short(base.iterations // 10).recipe.settings.warmup == base.warmup // 10
    assert Demo().short(base.iterations * 2).recipe.settings.warmup == base.warmup


def test_one_map_predicts_fewer_boxes():
    for cells in (8, 4):
        demo = Demo().one_map(cells)
        assert demo.recipe.config.num_boxes == cells * cells * 6
        assert demo.recipe.settings == Demo().recipe.settings
        assert demo.recipe.model(9, 0).priors_cxcywh.shape == (cells * cells * 6, 4)
    with pytest.raises(ValueError, match="8 or 4 cells"):
        Demo().one_map(5)


@pytest.mark.slow
def test_the_demo_keeps_its_promise(tmp_path):
    """mAP at least .89 on 400 held-out scenes (at most .909 can be had), and clearly less from a single map."""
    metrics = run(Demo(), tmp_path / "demo")
    assert metrics["num_objects"] > 1500
    assert metrics["mean_ap"] >= 0.89
    single = run(Demo().one_map(), tmp_path / "single")
    assert single["num_objects"] == metrics["num_objects"]
    assert single["mean_ap"] < metrics["mean_ap"] - 0.1
