"""Detecting in a whole data set: threads change the time and nothing else."""

import threading
import time

import numpy as np
import pytest
import torch

from ssdedu import inference, priors
from ssdedu.datasets.shapes import Shapes
from ssdedu.inference import detect_dataset, detect_images, detect_tensor
from ssdedu.model import SSD
from ssdedu.train import build

SCENES = Shapes(11, seed=4)


@pytest.fixture(scope="module")
def net():
    return build(lambda: SSD(priors.SHAPES128_ONE_MAP, 9, "small"), 0).eval()


def assert_equal(found, expected):
    for got, wanted in zip(found, expected, strict=True):
        assert torch.equal(got.boxes_xyxy, wanted.boxes_xyxy)
        assert torch.equal(got.scores, wanted.scores)
        assert torch.equal(got.labels, wanted.labels)


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("batch_size", [2, 11, 32])
def test_threads_change_nothing(net, workers, batch_size):
    options = {"batch_size": batch_size, "progress": False, "precision": "float32"}
    expected, truths = detect_dataset(net, SCENES, **options)
    found, again = detect_dataset(net, SCENES, workers=workers, **options)
    assert_equal(found, expected)
    assert [t.name for t in again] == [t.name for t in truths] == [SCENES[i].name for i in range(11)]


class Watched:
    """Scenes the first of which take longest to read, and what was asked for when."""

    classes = SCENES.classes

    def __init__(self, fails_at=None):
        self.asked, self.at_once, self.most, self.fails_at = [], 0, 0, fails_at
        self.lock = threading.Lock()

    def __len__(self):
        return 8

    def __getitem__(self, index):
        with self.lock:
            self.asked.append(index)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.01 * (8 - index))
        with self.lock:
            self.at_once -= 1
        if index == self.fails_at:
            raise ValueError(f"image {index} is broken")
        return SCENES[index]


def test_late_images_keep_their_place_and_several_are_read_at_once(net):
    slow = Watched()
    found, _ = detect_dataset(net, slow, 1, progress=False, workers=4)
    assert_equal(found, [detect_images(net, [SCENES[i].image])[0] for i in range(8)])
    assert sorted(slow.asked) == list(range(8))
    assert 1 < slow.most <= 4


def test_reading_runs_only_so_far_ahead():
    made = []
    parts = [range(i, i + 1) for i in range(20)]
    ahead = inference._ahead(lambda part: made.append(part.start) or part.start, parts, 3)
    assert next(ahead) == 0
    time.sleep(0.05)
    assert sorted(made) == [0, 1, 2, 3]
    assert list(ahead) == list(range(1, 20))


@pytest.mark.parametrize("workers", [0, 3])
def test_a_broken_image_ends_it_and_the_threads(net, workers):
    broken, before = Watched(fails_at=2), threading.active_count()
    with pytest.raises(ValueError, match="image 2 is broken"):
        detect_dataset(net, broken, 1, progress=False, workers=workers)
    assert threading.active_count() == before
    assert len(broken.asked) < 8


def test_no_images_are_no_batches(net):
    assert detect_dataset(net, Shapes(0), progress=False, workers=2) == ([], [])


def test_images_of_any_size_become_one_tensor_with_channels_last(net):
    images = [np.full((40, 60, 3), 7, np.uint8), np.full((9, 9, 3), 200, np.uint8)]
    pixels = inference._stack(net, images)
    assert pixels.shape == (2, 3, 128, 128)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert pixels[0].unique().tolist() == [7]
    assert pixels[1].unique().tolist() == [200]


def test_memory_format_changes_no_detection(net):
    images = inference._stack(net, [SCENES[i].image for i in range(3)])
    assert_equal(detect_tensor(net, images, "float32"), detect_tensor(net, images.contiguous(), "float32"))


def test_precision_has_two_words(net):
    images = inference._stack(net, [SCENES[0].image])
    exact = detect_tensor(net, images, "float32")
    assert_equal(detect_tensor(net, images, bfloat16=False), exact)
    rough = detect_tensor(net, images, "bfloat16")
    assert_equal(detect_tensor(net, images, bfloat16=True), rough)
    assert not torch.equal(rough[0].scores, exact[0].scores)
    torch.testing.assert_close(rough[0].scores[:5], exact[0].scores[:5], rtol=0.05, atol=0.01)
    with pytest.raises(ValueError, match="precision must be one of"):
        detect_tensor(net, images, "half")
