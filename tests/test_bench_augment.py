"""The benchmark of augmentation goes its whole way in miniature; what it hands to the ports is what they expect."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import noise

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import bench_augment
from peers import Absent, Peers

AMDEGROOT = """
import numpy as np

class Crop:
    def __init__(self):
        self.sample_options = (None, (0.1, None), (None, None))

class SSDAugmentation:
    def __init__(self, size):
        self.size, self.augment = size, type("Compose", (), {"transforms": [object(), Crop()]})()

    def __call__(self, image, boxes, labels):
        drawn = {np.random.choice(self.augment.transforms[1].sample_options) for _ in range(50)}
        assert drawn == {None, (0.1, None), (None, None)}, drawn
        out = np.zeros((self.size, self.size, 3), np.float32)
        out[:] = image[0, 0]
        return out, boxes, labels
"""


@pytest.fixture
def ports(tmp_path):
    utils = tmp_path / "amdegroot" / "ssd.pytorch" / "utils"
    utils.mkdir(parents=True)
    (utils / "__init__.py").touch()
    (utils / "augmentations.py").write_text(AMDEGROOT)
    return tmp_path


def test_the_whole_way_in_miniature(tmp_path, ports, monkeypatch, capsys):
    packages = {"albumentations", "torchvision.models.detection.transform"}
    real = Peers.package
    monkeypatch.setattr(Peers, "package", lambda self, n: Absent("none") if n in packages else real(self, n))
    arguments = ["--tiny", "--ports", str(ports), "--out", str(tmp_path / "result.json")]
    bench.main(bench_augment.__doc__, "augment", bench_augment.make, arguments)
    contests = json.loads((tmp_path / "result.json").read_text())["contests"]
    floats, as_bytes, read, large = contests.values()
    for row in (floats, read):
        assert set(row["ms"]) == {"ssdedu", "amdegroot", "limit"}
        assert set(row["absent"]) == {
            "albumentations", "torchvision v1 pil", "torchvision v1 tensor", "torchvision v2 pil",
            "torchvision v2 tv_tensor",
        }  # fmt: skip
    assert set(as_bytes["absent"]) == {"albumentations"}
    assert set(large["ratio"]) == {"ssdedu, not reduced"}
    assert all(
        row["goal"]["at_most"] == 1 and row["facts"]["images a call"] == 2 for row in contests.values()
    )
    assert "ssdedu takes" in capsys.readouterr().out


def test_the_photos_differ_and_are_what_the_contest_says():
    photos = bench_augment.Photos(4)
    samples = [photos.folder[i] for i in range(4)]
    assert all(path.suffix == ".jpg" for path in photos.paths)
    assert all(s.image.shape == (375, 500, 3) and len(s) == 3 for s in samples)
    assert len({s.image.tobytes() for s in samples}) == len({s.boxes_xyxy.tobytes() for s in samples}) == 4
    again = bench_augment.Photos(4)
    assert all(np.array_equal(s.image, again.folder[i].image) for i, s in enumerate(samples))


def test_our_batches_follow_each_other_and_floats_are_the_bytes_minus_the_mean():
    photos = bench_augment.Photos(2)
    one, two = (
        bench_augment.our_work(photos.folder, f) for f in (bench_augment.as_loaded, bench_augment.as_floats)
    )
    bytes_, floats = one(), two()
    assert (bytes_.dtype, floats.dtype) == (torch.uint8, torch.float32)
    assert bytes_.shape == floats.shape == (2, 3, 300, 300)
    assert floats.is_contiguous()
    torch.testing.assert_close(floats, bytes_ - torch.tensor([123.0, 117.0, 104.0])[:, None, None])
    assert not torch.equal(one(), bytes_)


def test_the_port_gets_fractions_and_gives_rgb(ports):
    recipe = bench_augment.amdegroot(Peers(ports))
    boxes_px = np.array([[50, 75, 250, 375], [0, 0, 500, 37.5], [1, 1, 2, 2]], np.float32)
    before, image = boxes_px.copy(), noise(500, 375)
    items = [recipe.augment(image, boxes_px, np.array([1, 1, 1]))]
    images, truths = recipe.batch(items)
    assert images.shape == (1, 3, 300, 300)
    assert images[0, :, 5, 5].tolist() == image[0, 0, ::-1].tolist()
    np.testing.assert_allclose(truths[0][:2], [[0.1, 0.2, 0.5, 1, 1], [0, 0, 1, 0.1, 1]], atol=1e-6)
    np.testing.assert_array_equal(boxes_px, before)
