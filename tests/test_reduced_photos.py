"""Large photos decoded at a part of their size: pixels for every crop, the same boxes, nearly the same pixels."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from cases import THREE, sample_of, smooth
from PIL import Image

from ssdedu import workshop
from ssdedu.augment import Augment
from ssdedu.datasets.cached import Cached
from ssdedu.datasets.shapes import Shapes
from ssdedu.datasets.voc import AnnotationError, VOCFolder
from ssdedu.datasets.voc_image import REDUCTIONS, read_image, reduced_px
from ssdedu.datasets.voc_write import write_voc
from ssdedu.splits import Part, Splits, reduced

SIDES = ("width_px", "height_px")


def saved(path, image, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A photo of 1201 x 900 pixels and a small one, both JPEG."""
    root = tmp_path_factory.mktemp("photos")
    for name, size in (("large", (1201, 900)), ("small", (300, 200))):
        write_voc(root, [replace(sample_of(smooth(*size), THREE, [1, 1, 1]), name=name)], ("thing",))
        png = root / "JPEGImages" / f"{name}.png"
        saved(png.with_suffix(".jpg"), smooth(*size))
        png.unlink()
    return root


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("form", ["jpg", "png"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_reduced_image_is_the_means_of_the_whole_one(reduction, form, orientation, tmp_path):
    whole = smooth(240, 160)
    path = saved(tmp_path / f"a.{form}", whole, orientation)
    found = read_image(path, orientation, reduction)
    means = cv2.resize(whole, (240 // reduction, 160 // reduction), interpolation=cv2.INTER_AREA)
    turned = {1: 0, 6: -1, 8: 1}[orientation]
    assert np.abs(found.astype(int) - np.rot90(means, turned)).max() <= 4
    assert found.flags.c_contiguous


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("form", ["jpg", "png", "bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_odd_sizes_are_rounded_up_for_every_format(reduction, form, mode, tmp_path):
    for size in ((1, 1), (37, 50), (9, 16)):
        path = tmp_path / f"a.{form}"
        Image.fromarray(smooth(*size)).convert(mode).save(path)
        wanted = (reduced_px(size[1], reduction), reduced_px(size[0], reduction), 3)
        assert read_image(path, reduction=reduction).shape == wanted
    assert [reduced_px(n, 4) for n in (1, 4, 5, 8)] == [1, 1, 2, 2]


def test_the_least_size_decides_how_far(folder):
    data = VOCFolder(folder)
    for least, size in {
        (1201, 900): (1201, 900),
        (601, 450): (601, 450),
        (602, 450): (1201, 900),
        (601, 451): (1201, 900),
        (301, 225): (301, 225),
        (1, 1): (151, 113),
        (5000, 5000): (1201, 900),
    }.items():
        truth = data.reduced(*least).truth(0)
        assert (truth.width_px, truth.height_px) == size
        assert data.reduced(*least)[0].image.shape == (*size[::-1], 3)
    assert data[0].image.shape == (900, 1201, 3)  # the data set itself is as it was


def test_boxes_stay_and_pixels_nearly(folder):
    whole = VOCFolder(folder)
    reduced = whole.reduced(300, 200)
    for i in range(2):
        a, b = whole[i], reduced[i]
        np.testing.assert_array_equal(b.boxes_xyxy, a.boxes_xyxy)
        np.testing.assert_array_equal(b.labels, a.labels)
        assert b.name == a.name
        assert [getattr(b.truth, side) for side in SIDES] == [
            getattr(reduced.truth(i), side) for side in SIDES
        ]
    means = cv2.resize(whole[0].image, reduced[0].image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(means.astype(int) - reduced[0].image).max() <= 5
    np.testing.assert_array_equal(reduced[1].image, whole[1].image)


def test_it_goes_through_the_cache_and_to_workers(folder):
    reduced = pickle.loads(pickle.dumps(VOCFolder(folder).reduced(300, 200)))
    cached = Cached(reduced, megabytes=sum(s.image.nbytes for s in reduced) / 1e6)
    for _ in range(2):
        np.testing.assert_array_equal(cached[0].image, reduced[0].image)
    assert len(cached[0].image) == 225


def test_a_photo_exchanged_for_another_size_is_noticed(folder, tmp_path):
    write_voc(tmp_path, VOCFolder(folder), ("thing",))
    data = VOCFolder(tmp_path).reduced(300, 200)
    saved(tmp_path / "JPEGImages" / "large.png", smooth(1300, 900))
    with pytest.raises(AnnotationError, match="large"):
        data[0]


def test_augmented_they_agree_and_no_crop_has_fewer_pixels_than_the_result(folder):
    augment = Augment(60, 45, interpolations=(cv2.INTER_LINEAR,), distort_probability=0)
    assert augment.least_px == (283, 213)
    whole, reduced = VOCFolder(folder)[0], VOCFolder(folder).reduced(*augment.least_px)[0]
    assert reduced.image.shape == (225, 301, 3)
    agree = []
    for seed in range(60):
        a, b = (augment(sample, np.random.default_rng(seed)) for sample in (whole, reduced))
        near = len(a) == len(b) and np.allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.02)
        agree.append(near and np.abs(a.image.astype(int) - b.image).mean() < 4)
        _, view = augment._draw_view(reduced.truth, np.random.default_rng(seed))
        assert view[2] - view[0] >= 59
        assert view[3] - view[1] >= 44
    assert (
        np.mean(agree) > 0.95
    )  # a pixel more or less may decide whether an object's centre is within the crop


def test_parts_of_a_folder_are_reduced_and_other_data_stays(folder):
    part = reduced(Part(Part(VOCFolder(folder), [1, 0]), [1]), 300, 200)
    assert [part.truth(0).width_px, part[0].image.shape[0]] == [301, 225]
    scenes = Shapes(2)
    assert reduced(scenes, 1, 1) is scenes


def test_training_takes_them_and_measures_whole_photos(folder, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        workshop, "train", lambda model, photos, *_, **__: seen.update(trained=photos[0].image.shape)
    )
    monkeypatch.setattr(
        workshop, "_measure", lambda model, data, out: seen.update(measured=data[0].image.shape)
    )
    splits = Splits(VOCFolder(folder), VOCFolder(folder), None, None)
    monkeypatch.setattr(workshop, "open_splits", lambda *_: splits)
    workshop.train_on_folder(folder, tmp_path, size_px=(90, 90), changes={"iterations": 1})
    assert seen == {"trained": (450, 601, 3), "measured": (900, 1201, 3)}
