"""Detectors as files: what is kept, what is recognised, what is refused, and the one that ships."""

import io
import json
import pickle
import re
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ssdedu import priors, shipped, weights
from ssdedu.__main__ import main
from ssdedu.base_weights import load_base
from ssdedu.checkpoints import CheckpointError, Detector, load_detector, save_checkpoint
from ssdedu.datasets.shapes import Shapes
from ssdedu.evaluate import evaluate_voc
from ssdedu.inference import detect_dataset
from ssdedu.model import SSD
from ssdedu.train import build


@pytest.fixture(scope="module")
def detector():
    model = build(lambda: SSD(priors.SHAPES128, 4, "small"), seed=3).eval()
    with torch.no_grad():
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.copy_(torch.linspace(1e-3, 300, len(value)))
    return Detector(model, ("cat", "dog", "cow"))


def test_a_saved_detector_comes_back_to_half_precision(detector, tmp_path):
    path = tmp_path / "a.safetensors"
    weights.save(path, detector, {"mAP": 0.5, "licence": "MIT"})
    again = weights.load(path)
    assert again.classes == detector.classes
    assert again.model.config == detector.model.config
    assert weights.about(path) == {"mAP": 0.5, "licence": "MIT"}
    for name, value in again.model.state_dict().items():
        old = detector.model.state_dict()[name]
        assert value.dtype == old.dtype
        exact = not (old.is_floating_point() and old.ndim == 4)
        assert torch.allclose(value, old, rtol=0 if exact else 2**-10, atol=0 if exact else 1e-7), name


def test_the_answers_stay_the_same(detector, tmp_path):
    weights.save(tmp_path / "a.safetensors", detector)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 128, 128), dtype=np.uint8))
    again = weights.load(tmp_path / "a.safetensors").model
    with torch.no_grad():
        for ours, theirs in zip(detector.model(images), again(images), strict=True):
            assert (ours - theirs).abs().max() < 0.01 * ours.abs().max()


def test_a_file_that_is_none_of_ours_is_refused_by_name(detector, tmp_path):
    cut, foreign, pickle, misfit = (tmp_path / n for n in ("cut", "foreign", "pickle", "misfit"))
    weights.save(cut, detector)
    cut.write_bytes(cut.read_bytes()[:-100])
    save_file({"a": torch.zeros(1)}, foreign)
    torch.save({"a": torch.zeros(1)}, pickle)
    weights.save(misfit, Detector(detector.model, ("one",)))
    for path in (cut, foreign, pickle, misfit, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            weights.load(path)


def test_a_checkpoint_is_recognised_and_tells_of_its_data(detector, tmp_path):
    record = {"trained_on": ["a"], "held_out": ["b"]}
    save_checkpoint(tmp_path / "last.pt", detector.model, detector.classes, data=record)
    weights.save(tmp_path / "a.safetensors", detector)
    again = weights.load(tmp_path / "last.pt")
    assert again.classes == detector.classes
    own = detector.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in again.model.state_dict().items())
    assert torch.equal(again.model.priors_cxcywh, detector.model.priors_cxcywh)
    assert weights.data_record(tmp_path / "last.pt") == record
    assert weights.data_record(tmp_path / "a.safetensors") == {}
    for name in ("last.pt", "a.safetensors"):
        with pytest.raises(CheckpointError, match=f"{name}: says itself what its classes"):
            weights.load(tmp_path / name, classes=("cat", "dog", "cow"))


def test_a_loaded_detector_can_be_trained_and_does_not_hang_on_its_file(detector, tmp_path):
    weights.save(tmp_path / "a.safetensors", detector)
    model = weights.load(tmp_path / "a.safetensors").model
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))
    assert all(value.requires_grad for value in model.parameters())
    model.train()(torch.zeros(2, 3, 128, 128))[1].sum().backward()
    assert all(value.grad is not None for value in model.class_heads.parameters())


class Bomb:
    """What, unpickled, writes a file."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return exec, (f"open({self.target!r}, 'w').close()",)


def _tar(path, bomb):
    """torch.save's first format, before 0.1.10: a tar with three pickles."""
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            content = pickle.dumps(bomb)
            tar.addfile(_info(name, len(content)), io.BytesIO(content))


def _info(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def _saved(content, legacy=False):
    return lambda path, bomb: torch.save(content(bomb), path, _use_new_zipfile_serialization=not legacy)


class Module(nn.Linear):
    """A whole module, as torch.save(model) writes it; unpickling it sets it on its way."""

    def __init__(self, bomb):
        super().__init__(1, 1)
        self.bomb = bomb


HOSTILE = {
    "a state dict": _saved(lambda bomb: {"backbone.scale_weight": bomb}),
    "a state dict in the old format": _saved(lambda bomb: {"vgg.0.weight": bomb}, legacy=True),
    "a checkpoint": _saved(lambda bomb: {"description": json.dumps({"format": 1}), "model": bomb}),
    "a whole module": _saved(Module),
    "a whole module in the old format": _saved(Module, legacy=True),
    "a plain pickle": lambda path, bomb: Path(path).write_bytes(pickle.dumps(bomb)),
    "a pickle of protocol 0": lambda path, bomb: Path(path).write_bytes(pickle.dumps(bomb, 0)),
    "a tar": _tar,
}


@pytest.mark.parametrize("forced", [False, True], ids=["", "forced"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_runs_code_is_refused_and_nothing_runs(kind, forced, detector, tmp_path, monkeypatch):
    """forced: even where an environment variable asks torch to trust every file."""
    fired, path = tmp_path / "fired", tmp_path / "hostile.pth"
    HOSTILE[kind](path, Bomb(fired))
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert fired.exists(), "the bomb is a dud"
    fired.unlink()
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    readers = (weights.load, weights.about, weights.data_record, load_detector)
    for read in (*readers, lambda p: load_base(detector.model, p)):
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read(path)
        assert not fired.exists()


def test_a_whole_module_without_malice_is_refused_too_with_the_remedy(detector, tmp_path):
    torch.save(detector.model, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"could run code.*torch\.save\(model\.state_dict\(\)"):
        weights.load(tmp_path / "model.pth")


def test_a_missing_shipped_file_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_CLONE", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no/such.file .* reinstall"):
        shipped.find("no/such.file")


def test_an_installed_package_finds_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json").write_text("{}")
    monkeypatch.setattr(shipped, "_CLONE", tmp_path / "elsewhere")
    monkeypatch.setattr(shipped, "_INSTALLED", tmp_path)
    assert shipped.find("data/a.json") == tmp_path / "data" / "a.json"


def test_the_shipped_detector_keeps_what_its_card_says():
    """On the first 60 held-out scenes, whose mAP lies within sampling error of the whole 400's."""
    path = shipped.find(weights.SHIPPED["shapes"])
    card, detector = weights.about(path), weights.shipped("shapes")
    scenes = Shapes(60, seed=1_000_000)
    found, truths = detect_dataset(detector.model, scenes, progress=False, bfloat16=False)
    result = evaluate_voc(found, truths, detector.classes)
    assert abs(result.mean_ap - card["mAP on 400 held-out scenes, 11 points"]) < 0.08
    assert path.stat().st_size < 2_500_000


def test_export_by_command_writes_another_programs_layout(tmp_path, capsys):
    detector = Detector(build(lambda: SSD(priors.SSD300_VOC, 3), seed=1).eval(), ("cat", "dog"))
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.pth"
    weights.save(ours, detector)
    assert main(["export", str(ours), str(theirs), "--layout", "torchvision"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{theirs}: state dict in the layout of torchvision\n")
    assert "default boxes: sizes 30 to 60 px" in said
    state = torch.load(theirs, weights_only=True)
    wanted = weights.load(ours).model.state_dict()["class_heads.0.weight"]
    assert torch.equal(state["head.classification_head.module_list.0.weight"], wanted)


def test_export_by_command_refuses_a_detector_that_has_no_such_layout(tmp_path, capsys):
    assert main(["export", str(tmp_path / "no.pth"), "--layout", "amdegroot"]) == 2
    assert "is for the base vgg16, not for mobilenet" in capsys.readouterr().err
