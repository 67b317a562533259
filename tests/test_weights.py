"""Detectors as safetensors: what is kept, what is refused, and the one that ships."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssdedu import priors, shipped, weights
from ssdedu.checkpoints import CheckpointError, Detector
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
    path = shipped.find(weights.SHIPPED)
    card, detector = weights.about(path), weights.shipped()
    scenes = Shapes(60, seed=1_000_000)
    found, truths = detect_dataset(detector.model, scenes, progress=False, bfloat16=False)
    result = evaluate_voc(found, truths, detector.classes)
    assert abs(result.mean_ap - card["mAP on 400 held-out scenes, 11 points"]) < 0.08
    assert path.stat().st_size < 2_500_000
