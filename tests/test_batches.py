"""Batches between processes and devices, and the cache of decoded images that a loader's workers share."""

import dataclasses
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from ssdedu import batches, workshop
from ssdedu.augment import Augment, Resize
from ssdedu.batches import Batch, collate, training_batches
from ssdedu.datasets.cached import Cached
from ssdedu.datasets.shapes import Shapes, draw_scene
from ssdedu.datasets.voc import VOCFolder

SCENE_BYTES = 128 * 128 * 3


@pytest.fixture(scope="module")
def batch():
    """Four scenes, the second without objects."""
    scenes = [Shapes(4, seed=2)[i] for i in range(4)]
    scenes[1] = dataclasses.replace(
        scenes[1],
        boxes_xyxy=scenes[1].boxes_xyxy[:0],
        labels=scenes[1].labels[:0],
        difficult=scenes[1].difficult[:0],
    )
    return collate(scenes)


def assert_equal(a, b):
    assert a.names == b.names
    assert torch.equal(a.images, b.images)
    assert a.images.stride() == b.images.stride()
    for name in ("boxes_xyxy", "labels"):
        mine, others = getattr(a, name), getattr(b, name)
        assert [x.shape for x in mine] == [x.shape for x in others]
        assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(mine, others, strict=True))


class Copies(TorchDispatchMode):
    """The tensors that go to another device."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name == "aten::_to_copy":
            self.shapes.append(tuple(args[0].shape))
        return function(*args, **(kwargs or {}))


def test_a_batch_moves_as_three_tensors(batch):
    with Copies() as copies:
        there = batch.to(torch.device("meta"))
    objects = sum(map(len, batch.labels))
    assert copies.shapes == [(4, 3, 128, 128), (objects, 4), (objects,)]
    assert there.images.is_meta
    assert [b.shape for b in there.boxes_xyxy] == [b.shape for b in batch.boxes_xyxy]
    assert [n.shape for n in there.labels] == [n.shape for n in batch.labels]
    assert batch.to(torch.device("cpu")) is batch


def test_a_batch_is_pinned_and_pickled_as_three_tensors(batch, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(tuple(t.shape)) or t.clone())
    assert_equal(batch.pin_memory(), batch)
    assert len(pinned) == 3
    back = pickle.loads(pickle.dumps(batch))
    assert_equal(back, batch)
    assert len({t.untyped_storage().data_ptr() for t in back.boxes_xyxy if len(t)}) == 1
    without = Batch(
        batch.images, [b[:0] for b in batch.boxes_xyxy], [n[:0] for n in batch.labels], batch.names
    )
    assert_equal(pickle.loads(pickle.dumps(without)), without)


def test_images_have_their_channels_last(batch):
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    scene = Shapes(4, seed=2)[3].image
    assert torch.equal(batch.images[3], torch.from_numpy(scene).permute(2, 0, 1))


def test_batches_on_a_cpu_are_those_of_the_loader(batch):
    assert list(batches.on_device([batch, batch], torch.device("cpu"))) == [batch, batch]


class Counting(Shapes):
    """Counts in shared memory how often an image is read; `truth` does not count, as it does not decode."""

    def __init__(self, number):
        super().__init__(number, seed=1)
        self.reads = multiprocessing.Array("i", number)

    def __getitem__(self, index):
        with self.reads.get_lock():
            self.reads[index] += 1
        return draw_scene(self.seed, index)

    def truth(self, index):
        return draw_scene(self.seed, index).truth


def assert_same_samples(mine, theirs):
    for name in ("image", "boxes_xyxy", "labels", "difficult"):
        assert np.array_equal(getattr(mine, name), getattr(theirs, name))
    assert mine.name == theirs.name


def test_the_cache_reads_once_as_far_as_it_fits():
    data = Counting(3)
    cache = Cached(data, megabytes=2.5 * SCENE_BYTES / 1e6)
    for _ in range(3):
        for i in range(3):
            assert_same_samples(cache[i], draw_scene(1, i))
    assert list(data.reads) == [1, 1, 3]  # the third found no room
    assert len(cache) == 3
    assert list(cache.classes) == list(data.classes)
    assert cache.truth(1).labels.tolist() == draw_scene(1, 1).labels.tolist()
    with pytest.raises(ValueError, match="read-only"):
        cache[0].image[:] = 0


def test_a_smaller_image_takes_the_room_that_is_left():
    class Mixed(Counting):
        def __getitem__(self, index):
            s = super().__getitem__(index)
            return dataclasses.replace(s, image=s.image[: 128 // (index + 1)])

    data = Mixed(3)
    cache = Cached(data, megabytes=1.4 * SCENE_BYTES / 1e6)
    for _ in range(2):
        images = [cache[i].image for i in range(3)]
    assert [len(i) for i in images] == [128, 64, 42]
    assert list(data.reads) == [1, 2, 1]
    assert np.array_equal(images[2], draw_scene(1, 2).image[:42])


def passes(cache, workers):
    """Three passes over 12 images in batches of four, each with worker processes of its own."""
    starts = range(0, 9, 3)
    loaders = (
        training_batches(cache, Augment(128, 128), 4, 3, start, start + 3, workers) for start in starts
    )
    return [batch for loader in loaders for batch in loader]


needs_fork = pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="workers are not forked on this system"
)


@needs_fork
def test_each_image_is_decoded_once_for_all_workers():
    """A worker reads what another one has decoded."""
    data = Counting(12)
    cached = passes(Cached(data), 2)
    assert list(data.reads) == [1] * 12
    for a, b in zip(cached, passes(Shapes(12, seed=1), 0), strict=True):
        assert_equal(a, b)


@needs_fork
def test_the_limit_holds_for_all_workers_together():
    data = Counting(12)
    passes(Cached(data, megabytes=5 * SCENE_BYTES / 1e6), 2)
    assert sorted(data.reads) == [1] * 5 + [3] * 7


def test_workers_started_anew_have_a_share_of_the_room_each():
    """As where processes are spawned: the cache travels without its images."""
    cache = Cached(Shapes(4, seed=1), megabytes=3 * SCENE_BYTES / 1e6, workers=3)
    cache[0]
    text = pickle.dumps(cache)
    assert len(text) < 10_000 + len(pickle.dumps(cache.dataset))
    there = pickle.loads(text)
    assert there.megabytes == pytest.approx(SCENE_BYTES / 1e6)
    assert there._kept(0) is None
    assert_same_samples(there[2], draw_scene(1, 2))
    assert there._kept(2) is not None
    assert there[3].image.any()
    assert there._kept(3) is None


def test_a_cached_folder_gives_what_the_folder_gives(tmp_path):
    Shapes(3, seed=4).write_voc(tmp_path, "train")
    folder = VOCFolder(tmp_path, "train")
    cache = Cached(folder)
    for _ in range(2):
        for i in range(3):
            assert_same_samples(cache[i], folder[i])


def test_a_cache_that_no_machine_can_hold():
    with pytest.raises(ValueError, match=r"bytes of memory cannot be reserved .* take fewer megabytes"):
        Cached(Shapes(1), megabytes=1e15)


def test_the_reader_is_told_what_would_hold_all_images(capsys):
    data = Shapes(10, seed=1)
    assert workshop._room(data, 1000) == pytest.approx(10 * SCENE_BYTES / 1e6)
    assert capsys.readouterr().out == ""
    assert workshop._room(data, 0.25) == 0.25
    assert "--cache-mb 1 holds all" in capsys.readouterr().out


def test_pinning_is_asked_of_the_loader():
    loader = training_batches(Shapes(2), Resize(128, 128), 2, 0, 0, 1, pin_memory=True)
    assert isinstance(loader, DataLoader)
    assert loader.pin_memory
    assert not training_batches(Shapes(2), Resize(128, 128), 2, 0, 0, 1).pin_memory
