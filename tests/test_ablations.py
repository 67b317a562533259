"""The ablations: what each row changes, the grid head and its responsibility, the naive loss."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from cases import random_boxes

from ssdedu import ablations, boxes, priors
from ssdedu.augment import Resize
from ssdedu.batches import collate
from ssdedu.datasets.shapes import Shapes
from ssdedu.detect import detect
from ssdedu.evaluate import evaluate_voc
from ssdedu.inference import detect_dataset
from ssdedu.model import SSD
from ssdedu.train import batch_loss, build, train

PRIORS = priors.default_boxes(ablations.GRID)


def test_the_grid_has_one_square_box_a_cell():
    assert len(PRIORS) == 64
    assert torch.allclose(PRIORS[:, 2:], torch.tensor(0.25))
    assert torch.allclose(PRIORS[9, :2], torch.tensor([1.5 / 8, 1.5 / 8]))


def test_the_cell_of_the_centre_is_responsible():
    """Against a loop over cells that looks for the centre."""
    rng = np.random.default_rng(0)
    objects = [torch.from_numpy(random_boxes(rng, n)) for n in (0, 1, 5)]
    names = [torch.arange(1, len(o) + 1) for o in objects]
    targets = ablations.cell_targets(objects, names, PRIORS, (8, 8))
    for i, (some, labels) in enumerate(zip(objects, names, strict=True)):
        for cell, (x, y) in enumerate(PRIORS[:, :2].tolist()):
            inside = [
                j
                for j, (x1, y1, x2, y2) in enumerate(some.tolist())
                if abs((x1 + x2) / 2 - x) < 1 / 16 and abs((y1 + y2) / 2 - y) < 1 / 16
            ]
            assert targets.labels[i, cell] == (labels[inside[0]] if inside else 0)
            if inside:
                decoded = boxes.decode(targets.offsets[i, cell], PRIORS[cell])
                assert torch.allclose(decoded, some[inside[0]], atol=1e-5)
            else:
                assert (targets.offsets[i, cell] == 0).all()


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ([0.0, 0.0, 1.0, 1.0], 8 * 4 + 4),
        ([0.9, 0.0, 1.1, 0.02], 7),
        ([0.24, 0.0, 0.26, 0.1], 2),
        ([0.98, 0.98, 1.0, 1.0], 63),
    ],
)
def test_centres_on_edges_and_borders_have_one_cell(box, cell):
    targets = ablations.cell_targets([torch.tensor([box])], [torch.tensor([3])], PRIORS, (8, 8))
    assert targets.labels.nonzero().tolist() == [[0, cell]]


def test_of_two_objects_in_a_cell_the_first_is_kept():
    two = torch.tensor([[0.1, 0.1, 0.2, 0.2], [0.0, 0.0, 0.3, 0.3]])
    targets = ablations.cell_targets([two], [torch.tensor([4, 2])], PRIORS, (8, 8))
    assert targets.labels.sum() == 4
    assert torch.allclose(boxes.decode(targets.offsets[0, 9], PRIORS[9]), two[0], atol=1e-6)


def test_a_grid_may_have_other_rows_than_columns():
    box = [torch.tensor([[0.85, 0.55, 0.95, 0.65]])]
    config = ablations.GRID.replace(
        height_px=64, maps=(dataclasses.replace(ablations.GRID.maps[0], height=4, step_px=None),)
    )
    targets = ablations.cell_targets(box, [torch.tensor([1])], priors.default_boxes(config), (4, 8))
    assert targets.labels[0].nonzero().item() == 2 * 8 + 7


def test_the_fully_connected_head_sees_the_whole_image():
    model = build(lambda: ablations.FullyConnectedGrid(ablations.GRID, 9), 0).eval()
    images = torch.full((1, 3, 128, 128), 100.0, requires_grad=True)
    offsets, logits = model(images)
    assert offsets.shape == (1, 64, 4)
    assert logits.shape == (1, 64, 9)
    logits[0, 0].sum().backward()
    assert images.grad[0, :, 100:, 100:].abs().sum() > 0
    assert len(detect(offsets, logits, model.priors_cxcywh)) == 1
    with pytest.raises(ValueError, match="128 x 128 px"):
        model(torch.zeros(1, 3, 64, 64))


@pytest.mark.slow
def test_the_fully_connected_grid_learns_eight_images_by_heart(tmp_path):
    few, row = Shapes(8, seed=3), ablations.VARIANTS["grid, fully connected"]
    settings = dataclasses.replace(row.settings(0, 60), batch_size=8, lr=1e-3, warmup=10, save_every=60)
    model = build(lambda: row.network(row.config, 9, "small"), 0)
    train(model, few, Resize(128, 128), settings, tmp_path, loss=row.loss)
    found, truths = detect_dataset(model, few, progress=False)
    assert evaluate_voc(found, truths, few.classes).mean_ap > 0.9


def test_the_naive_loss_is_the_mean_over_everything():
    model = build(lambda: SSD(priors.SHAPES128, 9, "small"), 0).eval()
    scenes = Shapes(2, seed=5)
    batch = collate([scenes[0], scenes[1]])
    settings = ablations.VARIANTS["no mining, means"].settings(0)
    settings = dataclasses.replace(settings, bfloat16=False)
    naive, whole = ablations.mean_loss(model, batch, settings), batch_loss(model, batch, settings)
    with torch.no_grad():
        logits = model(batch.images)[1]
    positives = int(whole.num_positives)
    assert naive.num_positives == positives > 0
    assert naive.localization.item() == pytest.approx(whole.localization.item() / 4, rel=1e-5)
    everything = dataclasses.replace(settings, ratio=ablations.ALL_NEGATIVES)
    summed = batch_loss(model, batch, everything).confidence.item() * positives
    assert naive.confidence.item() == pytest.approx(summed / logits[..., 0].numel(), rel=1e-5)


def test_the_naive_loss_of_images_without_objects_is_finite():
    model = build(lambda: SSD(priors.SHAPES128, 9, "small"), 0).eval()
    empty = collate([dataclasses.replace(Shapes(1)[0], boxes_xyxy=np.zeros((0, 4), np.float32),
                                         labels=np.zeros(0, np.int64), difficult=np.zeros(0, bool))])  # fmt: skip
    loss = ablations.mean_loss(model, empty, ablations.VARIANTS["SSD"].settings(0))
    assert math.isfinite(loss.total.item())


def test_each_row_changes_what_it_says():
    whole = ablations.VARIANTS["SSD"]
    per_cell = {n: [m.boxes_per_cell for m in v.config.maps] for n, v in ablations.VARIANTS.items()}
    assert per_cell["SSD"] == [6, 6, 6, 4]
    assert per_cell["ratios 1, 2"] == [4, 4, 4, 4]
    assert per_cell["ratio 1"] == [2, 2, 2, 2]
    assert per_cell["8 x 8 map alone"] == per_cell["4 x 4 map alone"] == [6]
    assert per_cell["grid, convolutional"] == [1]
    assert ablations.VARIANTS["MultiBox matching"].settings(0).rule == "multibox"
    assert ablations.VARIANTS["no mining, sum over N"].settings(0).ratio * 1 > 2032
    bare = ablations.VARIANTS["no augmentation"].augmentation()
    assert (bare.samplers, bare.expand_probability, bare.mirror_probability) == ((), 0, 0)
    assert ablations.VARIANTS["mirror only"].augmentation().mirror_probability == 0.5
    assert whole.augmentation().max_ratio == 2
    assert whole.settings(7).seed == 7
    assert whole.settings(0).iterations == ablations.STEPS


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_each_row_trains_and_is_measured(name):
    result = ablations.run(ablations.VARIANTS[name], steps=1, num_train=32, num_held_out=3)
    assert 0 <= result.mean_ap <= 1


def test_a_row_run_twice_gives_the_same_numbers():
    runs = [
        ablations.run(ablations.VARIANTS["grid, convolutional"], 3, steps=2, num_train=32, num_held_out=3)
        for _ in "ab"
    ]
    assert (runs[0].objects.score == runs[1].objects.score).tolist() == (
        ~np.isnan(runs[0].objects.score)
    ).tolist()
    assert np.array_equal(runs[0].ap, runs[1].ap, equal_nan=True)
