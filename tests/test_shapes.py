"""Drawn scenes: the same everywhere, boxes that are what is seen, and the variety that training needs."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu.datasets import shapes
from ssdedu.datasets.shapes import CLASSES, Shapes, draw_scene, outline
from ssdedu.datasets.voc import VOCFolder

MANY = Shapes(300, seed=11)


def inside(point, contour):
    """Even-odd rule, edge by edge."""
    x, y = point
    odd = False
    for (x1, y1), (x2, y2) in zip(contour, np.roll(contour, 1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd


def slow_mask(contours, size):
    mask = np.zeros((size, size), bool)
    for row in range(size):
        for column in range(size):
            mask[row, column] = sum(inside((column + 0.5, row + 0.5), c) for c in contours) % 2
    return mask


@given(st.sampled_from(CLASSES), st.floats(-0.3, 0.3), st.floats(2, 30), st.floats(2, 30), st.floats(10, 60))
@settings(deadline=None, max_examples=60)
def test_an_outline_fills_its_box(name, tilt, x, y, width):
    box = (x, y, x + width, y + width / 2)
    contour = outline(name, tilt, box)[0]
    np.testing.assert_allclose([*contour.min(0), *contour.max(0)], box, atol=1e-9)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_filled_is_what_the_outline_holds(name):
    contours = outline(name, 0.1, (3.0, 5.0, 29.0, 26.0))
    canvas = np.zeros((32, 32), np.uint8)
    shapes._fill(canvas, shapes._fixed(contours), [1], smooth=False)
    slow = slow_mask(contours, 32)
    fringe = (canvas > 0) ^ slow  # cv2 fills the pixels that the edge passes as well
    assert (slow & (canvas == 0)).sum() <= 2  # vertices are rounded to sixteenths of a pixel
    assert fringe.sum() < 0.25 * slow.sum() + 60
    rows, columns = np.nonzero(canvas)
    assert (columns.min(), rows.min()) == pytest.approx((3, 5), abs=1)
    assert (columns.max() + 1, rows.max() + 1) == pytest.approx((29, 26), abs=1)


def test_two_shapes_of_a_pair_differ_and_holes_are_holes():
    masks = {n: slow_mask(outline(n, 0.0, (1, 1, 31, 31)), 32) for n in CLASSES}
    for a in CLASSES:
        for b in CLASSES:
            assert a == b or (masks[a] ^ masks[b]).sum() > 40
    assert not masks["ring"][16, 16]
    assert not masks["frame"][16, 16]
    assert masks["disc"][16, 16]


def test_the_same_seed_gives_the_same_bytes():
    a, b = draw_scene(5, 3), draw_scene(5, 3)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.boxes_xyxy, b.boxes_xyxy)
    assert not np.array_equal(a.image, draw_scene(5, 4).image)
    assert not np.array_equal(a.image, draw_scene(6, 3).image)


def test_scenes_are_those_of_every_machine():
    """The sum was taken once; another value means that published results no longer belong to these scenes."""
    digest = hashlib.sha256()
    for i in range(20):
        s = draw_scene(0, i)
        digest.update(s.image.tobytes() + s.boxes_xyxy.tobytes() + s.labels.tobytes())
    assert digest.hexdigest()[:16] == "2c529aff03bebe26"


def test_variety():
    objects = np.array([len(s) for s in MANY])
    assert set(objects) == set(range(1, 9))
    boxes = np.concatenate([s.boxes_xyxy for s in MANY])
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    side, ratio = np.sqrt(width * height), width / height
    assert 0.07 < side.min() < 0.09
    assert 0.6 < side.max() < 0.70
    assert 0.15 < np.median(side) < 0.25
    assert (ratio > 2).sum() > 30
    assert (ratio < 0.5).sum() > 30
    labels = np.concatenate([s.labels for s in MANY])
    shares = np.bincount(labels, minlength=9)[1:] / len(labels)
    assert (abs(shares - 1 / 8) < 0.03).all()


def test_colour_gives_no_class_away():
    """The mean colour at the boxes' edges is alike for all classes, far within what chance allows."""
    sums = {n: [] for n in range(1, 9)}
    for s in MANY:
        for box, label in zip((s.boxes_xyxy * 128).astype(int), s.labels, strict=True):
            sums[int(label)].append(s.image[box[1] : box[3], box[0] : box[2]].reshape(-1, 3).mean(0))
    means = np.array([np.mean(v, 0) for v in sums.values()])
    error = np.array([np.std(v, 0) / np.sqrt(len(v)) for v in sums.values()])
    assert (abs(means - means.mean(0)) < 4 * error).all()


def test_no_object_is_covered_by_more_than_the_limit(monkeypatch):
    """Draw with the real placement, then count what is left of each object when all are filled in order."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        owner, full, contours = np.zeros((128, 128), np.uint8), [], []
        for _ in range(8):
            placed = shapes._place(owner, full, rng, CLASSES[rng.integers(8)])
            if placed is not None:
                contours.append(placed)
        alone = []
        for c in contours:
            canvas = np.zeros((128, 128), np.uint8)
            shapes._fill(canvas, c, [1], smooth=False)
            alone.append(canvas > 0)
        for i, mine in enumerate(alone):
            covered = np.any(alone[i + 1 :], axis=0) & mine if i + 1 < len(alone) else np.zeros_like(mine)
            assert covered.sum() <= (0.45 if mine.sum() >= 300 else 0.15) * mine.sum()
            rows, columns = np.nonzero(mine & ~covered)
            box = shapes._visible_box(owner, i + 1)
            assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_a_data_set_keeps_its_scenes_and_its_bounds():
    data = Shapes(3, seed=1)
    assert data[0] is data[0]
    assert data[-1] is data[2]
    assert data.truth(1).labels.tolist() == data[1].labels.tolist()
    assert len(list(data)) == 3
    for index in (3, -4):
        with pytest.raises(IndexError):
            data[index]
    with pytest.raises(ValueError, match="num_scenes"):
        Shapes(-1)


def test_a_voc_folder_reads_back_equal(tmp_path):
    data = Shapes(6, seed=4)
    data.write_voc(tmp_path, "trainval")
    back = VOCFolder(tmp_path, "trainval", classes=data.classes)
    assert len(back) == 6
    for a, b in zip(data, (back[i] for i in range(6)), strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.boxes_xyxy, b.boxes_xyxy)
        assert a.labels.tolist() == b.labels.tolist()
