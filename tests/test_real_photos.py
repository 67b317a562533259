"""Real photos, where they are at hand: VOC2007 samples and a reader's own kind of data (blood cells)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ssdedu import boxes, matching, model, priors, train
from ssdedu.__main__ import main
from ssdedu.augment import Augment, Resize
from ssdedu.batches import collate, training_batches
from ssdedu.datasets.voc import VOC_CLASSES, VOCFolder

SHARED = Path(__file__).parents[2] / "shared"
VOC, BCCD = SHARED / "voc-sample", SHARED / "bccd"
needs_voc = pytest.mark.skipif(
    not VOC.is_dir(), reason="the sample of VOC2007 photos is not beside this checkout"
)
needs_bccd = pytest.mark.skipif(
    not BCCD.is_dir(), reason="the blood cell photos are not beside this checkout"
)


@needs_voc
def test_every_object_of_the_photos_gets_default_boxes():
    photos = VOCFolder(VOC, "train", classes=VOC_CLASSES)
    p = priors.default_boxes(priors.SSD300_VOC)
    batch = collate([Resize(300, 300)(photos[i]) for i in range(len(photos))])
    found = matching.match_batch(batch.boxes_xyxy, batch.labels, p)
    for i, objects in enumerate(batch.boxes_xyxy):
        assert set(range(len(objects))) <= set(found.object_index[i].tolist())
        positive = found.object_index[i] >= 0
        target = boxes.encode(objects[found.object_index[i][positive]], p[positive])
        back = boxes.decode(target, p[positive])
        assert (back - objects[found.object_index[i][positive]]).abs().max() < 1e-5


@needs_voc
def test_augmented_photos_keep_boxes_inside():
    photos = VOCFolder(VOC, "train", classes=VOC_CLASSES)
    for i in range(len(photos)):
        for seed in range(3):
            s = Augment(300, 300)(photos[i], np.random.default_rng([seed, i]))
            assert s.image.shape == (300, 300, 3)
            assert len(s.boxes_xyxy) == len(s.labels) == len(s.difficult)
            assert ((s.boxes_xyxy >= 0) & (s.boxes_xyxy <= 1)).all()
            assert (s.boxes_xyxy[:, 2:] > s.boxes_xyxy[:, :2]).all()


@pytest.mark.slow
@needs_voc
@pytest.mark.parametrize(("base", "lr"), [("vgg16", 1e-4), ("vgg16_bn", 1e-3)])
def test_ssd300_learns_the_photos(base, lr):
    """The paper's network on 24 photos: the loss of the same images falls in a few steps."""
    photos = VOCFolder(VOC, "train", classes=VOC_CLASSES)
    net = train.build(lambda: model.SSD(priors.SSD300_VOC, 21, base), 0).train()
    settings = train.Settings(
        iterations=9, batch_size=8, optimizer="adamw", lr=lr, bias_factor=1.0, milestones=()
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    losses = []
    for batch in training_batches(photos, Resize(300, 300), 8, 0, 0, 9):
        loss = train.batch_loss(net, batch, settings)
        assert loss.total.isfinite()
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    first, last = np.mean(losses[:3]), np.mean(losses[-3:])  # three batches are one pass over the photos
    assert last < 0.8 * first, losses


@pytest.mark.slow
@needs_bccd
def test_training_on_blood_cells_from_a_path_alone(tmp_path, capsys):
    """A short run of the command; the full one reaches far more (see benchmarks/)."""
    out = tmp_path / "bccd"
    command = ["train", str(BCCD), "--skip-bad", "--out", str(out), "--steps", "150", "--workers", "0"]
    assert main(command) == 0
    assert "292 images to train on, 72 held out" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["ap"]["WBC"] > 0.3
    assert metrics["ap"]["RBC"] > 0.3


@needs_bccd
def test_broken_boxes_stop_training_with_their_file(tmp_path, capsys):
    assert main(["train", str(BCCD), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "BloodImage_003" in error
    assert "Traceback" not in error
    assert main(["check-data", str(BCCD), "--no-decode"]) == 1
    listed = capsys.readouterr().out
    assert "BloodImage_00338" in listed
    assert "BloodImage_00343" in listed
