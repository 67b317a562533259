"""The detector for photos that ships: what it finds in photos that everyone may use, and what its file says."""

import json

import cv2
import numpy as np
import pytest

from ssdedu import shipped, weights
from ssdedu.__main__ import main
from ssdedu.course.display import _check_readable
from ssdedu.course.figures import start_here
from ssdedu.datasets.voc_folder import VOC_CLASSES
from ssdedu.inference import detect_images

PHOTOS = {"cat": ("cat", [0, 0, 0.95, 1]), "astronaut": ("person", [0.05, 0.05, 0.8, 1])}


@pytest.fixture(scope="module")
def detector():
    return weights.shipped()


def photo(name):
    return cv2.imread(str(shipped.find(f"data/photos/{name}.jpg")))[..., ::-1].copy()


@pytest.mark.parametrize("name", PHOTOS)
def test_it_finds_what_a_person_sees_in_the_photos_that_ship(detector, name):
    """The boxes were drawn by eye, to a twentieth or so: a coarse oracle, but not the detector's own."""
    wanted, box = PHOTOS[name]
    (found,) = detect_images(detector.model, [photo(name)], bfloat16=False)
    best = found.above(0.5)
    assert [detector.classes[n - 1] for n in best.labels] == [wanted]
    x1, y1, x2, y2 = best.boxes_xyxy[0].tolist()
    shared = max(0, min(x2, box[2]) - max(x1, box[0])) * max(0, min(y2, box[3]) - max(y1, box[1]))
    areas = (x2 - x1) * (y2 - y1) + (box[2] - box[0]) * (box[3] - box[1])
    assert shared / (areas - shared) > 0.6


def test_its_file_is_small_and_its_card_says_where_it_comes_from(detector):
    path = shipped.find(weights.SHIPPED["voc"])
    assert path.stat().st_size < 12e6
    card = weights.about(path)
    assert {"what", "trained on", "base", "steps", "licence"} <= set(card)
    result = json.loads(shipped.find("benchmarks/results/voc2007_300px_mobilenet.json").read_text())
    assert card["mAP on 4,952 photos of the test split, 11 points"] == result["mean_ap"]
    assert result["data"] == "VOC2007 at 300 px, trainval -> test"
    assert card["steps"] == result["steps"]
    assert detector.classes == VOC_CLASSES


def test_detect_uses_it_where_no_checkpoint_is_named(tmp_path, capsys):
    path = shipped.find("data/photos/cat.jpg")
    assert main(["detect", str(path), "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: cat 0.")
    (row,) = json.loads((tmp_path / "detections.json").read_text())[str(path)]
    assert row["class"] == "cat"
    assert cv2.imread(str(tmp_path / "cat.detections.png")) is not None


def test_a_name_that_does_not_ship_is_answered_with_those_that_do():
    with pytest.raises(ValueError, match="'yolo' ships; known: voc, shapes"):
        weights.shipped("yolo")


def test_photos_found_frames_each_photo_in_its_own_shape(detector):
    photos = [photo(name) for name in PHOTOS]
    found = [d.above(0.5) for d in detect_images(detector.model, photos, bfloat16=False)]
    fig = start_here.photos_found(photos, found, detector.classes)
    _check_readable(fig)
    assert [[t.get_text() for t in ax.texts] for ax in fig.axes] == [["cat"], ["person"]]
    shapes = [ax.images[0].get_array().shape for ax in fig.axes]
    assert shapes == [p.shape for p in photos]
    assert np.isclose(*[ax.get_window_extent().height for ax in fig.axes], rtol=0.1)
