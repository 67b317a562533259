"""Training: the schedule, the order of the data, checkpoints, resume, and what happens when it goes wrong."""

import dataclasses
import itertools
import json
import pickle

import numpy as np
import pytest
import torch

from ssdedu import batches, checkpoints, priors, train
from ssdedu.augment import Augment, Resize
from ssdedu.checkpoints import CheckpointError
from ssdedu.datasets.shapes import CLASSES, Shapes
from ssdedu.inference import detect_dataset, detect_images
from ssdedu.model import SSD
from ssdedu.sample import Sample
from ssdedu.train import Settings, TrainingError, learning_rate

TINY = priors.SHAPES128_ONE_MAP
QUICK = Settings(
    iterations=6,
    batch_size=3,
    optimizer="adamw",
    lr=1e-3,
    schedule="cosine",
    log_every=1,
    save_every=2,
    seed=4,
)


def tiny(seed=0, classes=9):
    return train.build(lambda: SSD(TINY, classes, "small"), seed)


@pytest.fixture(scope="module")
def scenes():
    return Shapes(7, seed=2)


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def without_time(records):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def test_the_papers_schedule():
    s = Settings()
    rates = [s.lr * learning_rate(k, s) for k in (0, 79_999, 80_000, 99_999, 100_000, 119_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert (s.momentum, s.weight_decay, s.batch_size, s.clip_norm, s.warmup) == (0.9, 5e-4, 32, None, 0)


def test_warmup_and_cosine():
    s = Settings(iterations=110, warmup=10, schedule="cosine")
    rates = [learning_rate(k, s) for k in range(110)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert rates[60] == pytest.approx(0.5)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0},
        {"lr": float("inf")},
        {"batch_size": 0},
        {"optimizer": "rmsprop"},
        {"schedule": "step"},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"threshold": 0.0},
        {"threshold": 1.01},
        {"rule": "best"},
        {"ratio": -1.0},
        {"clip_norm": 0.0},
        {"warmup": -1},
        {"workers": -1},
        {"log_every": 0},
        {"seed": -1},
        {"save_every": 0},
        {"ratio": float("nan")},
    ],
)
def test_settings_are_checked(change):
    with pytest.raises(ValueError, match=f"settings: {next(iter(change))}"):
        Settings(**change)


def test_order_visits_every_image_once_a_pass_and_starts_anywhere():
    steps = list(batches.Order(5, 3, seed=1, start=0, stop=10))
    places = [place for step in steps for place in step]
    assert [p for p, _ in places] == list(range(30))
    indices = [i for _, i in places]
    for k in range(0, 30, 5):
        assert sorted(indices[k : k + 5]) == [0, 1, 2, 3, 4]
    assert indices[:5] != indices[5:10] or indices[5:10] != indices[10:15]
    assert list(batches.Order(5, 3, seed=1, start=4, stop=10)) == steps[4:]
    assert list(batches.Order(5, 3, seed=2, start=0, stop=10)) != steps
    with pytest.raises(ValueError, match="no images"):
        batches.Order(0, 3, 0, 0, 1)


def test_batches_do_not_depend_on_the_workers(scenes):
    loaders = [batches.training_batches(scenes, Augment(128, 128), 4, 3, 1, 4, workers=w) for w in (0, 2)]
    for a, b in zip(*loaders, strict=True):
        assert a.names == b.names
        assert torch.equal(a.images, b.images)
        assert all(torch.equal(x, y) for x, y in zip(a.boxes_xyxy, b.boxes_xyxy, strict=True))


def test_collate_keeps_every_images_objects(scenes):
    empty = dataclasses.replace(
        scenes[0],
        boxes_xyxy=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        difficult=np.zeros(0, bool),
    )
    batch = batches.collate([scenes[1], empty])
    assert batch.images.shape == (2, 3, 128, 128)
    assert batch.images[0, :, 5, 9].tolist() == scenes[1].image[5, 9].tolist()
    assert [len(b) for b in batch.boxes_xyxy] == [len(scenes[1]), 0]
    assert batch.labels[1].dtype == torch.int64


def test_resume_continues_bit_for_bit(scenes, tmp_path):
    whole, parts = tiny(), tiny()
    records = train.train(whole, scenes, Augment(128, 128), QUICK, tmp_path / "whole")
    train.train(parts, scenes, Augment(128, 128), QUICK, tmp_path / "parts", until=3)
    other = tiny(seed=99)
    resumed = train.train(other, scenes, Augment(128, 128), QUICK, tmp_path / "parts", resume=True)
    assert same(whole, other)
    assert without_time(resumed) == without_time(records)
    assert [r["step"] for r in train.read_log(tmp_path / "parts" / "log.jsonl")] == [1, 2, 3, 4, 5, 6]
    finished = train.train(tiny(5), scenes, Augment(128, 128), QUICK, tmp_path / "parts", resume=True)
    assert without_time(finished) == without_time(records)


def test_log_lines_are_json_with_the_parts_of_the_loss(scenes, tmp_path):
    train.train(tiny(), scenes, Resize(128, 128), QUICK, tmp_path)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        r = json.loads(line)
        assert r["loss"] == pytest.approx(r["localization"] + r["confidence"], abs=1e-5)
        assert r["positives"] > 0


def test_resume_refuses_another_run(scenes, tmp_path):
    train.train(tiny(), scenes, Resize(128, 128), QUICK, tmp_path, until=2)
    other = dataclasses.replace(QUICK, lr=0.5)
    with pytest.raises(CheckpointError, match=r"other settings \(lr: 0.001 there, 0.5 here\)"):
        train.train(tiny(), scenes, Resize(128, 128), other, tmp_path, resume=True)
    based = tiny()
    based.base_name = "other"
    with pytest.raises(CheckpointError, match=r"other network \(base: small there, other here\)"):
        train.train(based, scenes, Resize(128, 128), QUICK, tmp_path, resume=True)
    data = {"trained_on": ["a", "b"]}
    with pytest.raises(CheckpointError, match=r"other images to train on \(0 images there, 2 images here"):
        train.train(tiny(), scenes, Resize(128, 128), QUICK, tmp_path, resume=True, data=data)
    free = dataclasses.replace(QUICK, workers=1, log_every=2, save_every=3)
    train.train(tiny(), scenes, Resize(128, 128), free, tmp_path, resume=True, until=3)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        train.train(tiny(), scenes, Resize(128, 128), QUICK, tmp_path / "none", resume=True)


def test_wrong_number_of_classes(scenes, tmp_path):
    with pytest.raises(ValueError, match="8 classes and background need num_classes 9"):
        train.train(tiny(classes=4), scenes, Resize(128, 128), QUICK, tmp_path)


def test_nan_stops_with_the_files_of_the_batch(scenes, tmp_path):
    net = tiny()
    train.train(net, scenes, Resize(128, 128), QUICK, tmp_path, until=2)
    before = (tmp_path / "last.pt").read_bytes()
    for head in net.class_heads:
        torch.nn.init.constant_(head.bias, float("nan"))
    with pytest.raises(TrainingError, match=r"loss is nan at step 1.*scene-2-\d, scene-2-\d, scene-2-\d"):
        train.train(net, scenes, Resize(128, 128), QUICK, tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before


def poison(net, name):
    """A network whose forward pass is sound and whose gradient is nan."""
    parameter = dict(net.named_parameters())[name]
    parameter.register_hook(lambda gradient: gradient * float("nan"))
    return net


def test_a_gradient_that_is_not_finite_stops_before_it_is_used(scenes, tmp_path):
    """The batch to blame is this one, not the next; the weights and the log are those of the steps before."""
    net = poison(tiny(), "class_heads.0.weight")
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" not in k and "num_b" not in k}
    first = next(iter(batches.training_batches(scenes, Resize(128, 128), 3, 4, 0, 1)))
    with pytest.raises(TrainingError, match="norm of the gradient is nan at step 1") as stop:
        train.train(net, scenes, Resize(128, 128), QUICK, tmp_path)
    assert ", ".join(first.names) in str(stop.value)
    assert "no checkpoint yet" in str(stop.value)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())


class Stops(Shapes):
    """Raises at the reading of one image after a number of others."""

    def __init__(self, after, error):
        super().__init__(7, 2)
        self.left, self.error = after, error

    def __getitem__(self, index):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().__getitem__(index)


def test_what_was_logged_survives_an_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train.train(tiny(), Stops(10, KeyboardInterrupt()), Resize(128, 128), QUICK, tmp_path)
    assert [r["step"] for r in train.read_log(tmp_path / "log.jsonl")] == [1, 2, 3]
    assert checkpoints.load_checkpoint(tmp_path / "last.pt")["step"] == 2


def test_an_error_says_which_step_the_checkpoint_holds(scenes, tmp_path):
    class Late(Shapes):
        reads = 0

        def __getitem__(self, index):
            Late.reads += 1
            s = super().__getitem__(index)
            boxes = s.boxes_xyxy[:, [2, 1, 0, 3]] if Late.reads == 14 else s.boxes_xyxy
            return dataclasses.replace(s, boxes_xyxy=boxes, name=f"read-{Late.reads}")

    with pytest.raises(TrainingError, match=r"step 5: read-14: .*last\.pt holds step 4"):
        train.train(tiny(), Late(7, 2), lambda s, rng: s, QUICK, tmp_path)


@pytest.mark.parametrize(("boxes", "labels"), [
    ([[0.5, 0.1, 0.5, 0.2]], [1]), ([[0.1, 0.3, 0.5, 0.2]], [1]), ([[0.1, 0.1, float("nan"), 0.2]], [1]),
    ([[0.1, 0.1, float("inf"), 0.2]], [1]), ([[0.1, 0.1, 0.2, 0.2]], [0]), ([[0.1, 0.1, 0.2, 0.2]], [9]),
    ([[0.1, 0.1, 0.2, 0.2]], [-1]),
])  # fmt: skip
def test_broken_boxes_and_labels_are_found_in_the_batch(scenes, boxes, labels):
    fine = batches.collate([scenes[0], scenes[1]])
    fine.check(9)
    batches.Batch(
        fine.images, [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2, ["a", "b"]
    ).check(9)
    broken = batches.Batch(
        fine.images,
        [fine.boxes_xyxy[0], torch.tensor(boxes)],
        [fine.labels[0], torch.tensor(labels)],
        ["a", "b"],
    )
    with pytest.raises(ValueError, match=r"^b: .*check-data"):
        broken.check(9)


def test_images_without_objects_train(tmp_path):
    class Empty(Shapes):
        def __getitem__(self, index):
            s = super().__getitem__(index)
            return Sample(s.image, s.boxes_xyxy[:0], s.labels[:0], s.difficult[:0], s.name)

    net = tiny()
    records = train.train(net, Empty(3), Augment(128, 128), QUICK, tmp_path)
    assert [r["loss"] for r in records] == [0.0] * 6
    assert all(p.isfinite().all() for p in net.parameters())


def test_eight_scenes_are_learned_by_heart(tmp_path):
    few = Shapes(8, seed=1)
    net = train.build(lambda: SSD(priors.SHAPES128, 9, "small"), 0)
    settings = dataclasses.replace(QUICK, iterations=40, batch_size=8, lr=2e-3, save_every=100)
    records = train.train(net, few, Resize(128, 128), settings, tmp_path)
    assert records[-1]["loss"] < 0.05 * records[0]["loss"]


def test_sgd_moves_weights_as_the_original(scenes, tmp_path):
    """One step from rest: weights by lr * (gradient + decay * weight), biases by 2 lr * gradient."""
    settings = Settings(iterations=1, batch_size=7, lr=0.01, milestones=(), bfloat16=False)
    net, twin = tiny(), tiny()
    train.train(net, scenes, Resize(128, 128), settings, tmp_path)
    batch = next(iter(batches.training_batches(scenes, Resize(128, 128), 7, 0, 0, 1)))
    train.batch_loss(twin.train(), batch, settings).total.backward()
    head, other = net.class_heads[0], twin.class_heads[0]
    moved = other.weight - 0.01 * (other.weight.grad + 5e-4 * other.weight)
    torch.testing.assert_close(head.weight, moved, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.bias, other.bias - 0.02 * other.bias.grad, rtol=1e-4, atol=1e-6)


def test_gradient_clipping_limits_the_step(scenes, tmp_path):
    settings = Settings(iterations=1, batch_size=7, lr=1.0, weight_decay=0, bias_factor=1, clip_norm=1e-3)
    net, twin = tiny(), tiny()
    train.train(net, scenes, Resize(128, 128), settings, tmp_path)
    moved = sum(((a - b) ** 2).sum() for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert moved.sqrt().item() == pytest.approx(1e-3, rel=1e-2)


def test_build_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    assert same(tiny(3), tiny(3))
    assert not same(tiny(3), tiny(4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_detector_survives_its_checkpoint(scenes, tmp_path):
    net = tiny()
    checkpoints.save_checkpoint(tmp_path / "a.pt", net, CLASSES)
    back = checkpoints.load_detector(tmp_path / "a.pt")
    assert back.classes == CLASSES
    assert back.model.config == TINY
    assert same(back.model, net)
    for a, b in zip(*(detect_images(m, [scenes[0].image]) for m in (net.eval(), back.model)), strict=True):
        assert torch.equal(a.boxes_xyxy, b.boxes_xyxy)


class Trap:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return (open, ("trap-was-sprung", "w"))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "cut", "empty", "strange"])
def test_files_that_are_no_checkpoints_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "torch":
        torch.save({"model": Trap()}, path)
    elif kind == "strange":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "cut":
        checkpoints.save_checkpoint(path, tiny(), CLASSES)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.write_text("hello" if kind == "text" else "")
    with pytest.raises(CheckpointError, match=r"bad\.pt: not a checkpoint of `ssdedu train`, or cut short$"):
        checkpoints.load_detector(path)
    assert not (tmp_path / "trap-was-sprung").exists()


def test_a_checkpoint_that_contradicts_itself_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    checkpoints.save_checkpoint(path, tiny(), CLASSES)
    content = torch.load(path, weights_only=True)
    content["model"].pop("class_heads.0.bias")
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="does not fit its own description"):
        checkpoints.load_detector(path)
    content["description"] = json.dumps({**json.loads(content["description"]), "format": 99})
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="another version"):
        checkpoints.load_detector(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.bin"
    checkpoints.write_atomically(path, lambda f: f.write(b"old"))

    def fail(file):
        file.write(b"new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoints.write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_detecting_a_data_set_equals_image_by_image(scenes):
    net = tiny().eval()
    found, truths = detect_dataset(
        net, scenes, batch_size=3, progress=False, bfloat16=False, score_threshold=0.1
    )
    assert len(found) == len(truths) == len(scenes)
    for i, d in enumerate(found):
        (alone,) = detect_images(net, [scenes[i].image], bfloat16=False, score_threshold=0.1)
        torch.testing.assert_close(d.scores, alone.scores, rtol=1e-3, atol=1e-4)
        assert truths[i].labels.tolist() == scenes[i].labels.tolist()


def test_bfloat16_gives_nearly_the_same_loss(scenes):
    batch = next(iter(batches.training_batches(scenes, Resize(128, 128), 7, 0, 0, 1)))
    losses = [
        train.batch_loss(tiny().train(), batch, dataclasses.replace(QUICK, bfloat16=b)).total.item()
        for b in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
