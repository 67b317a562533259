from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from cases import CLASSES, an_image, detections, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu.comp3 import read_comp3, write_comp3
from ssdedu.evaluate import evaluate_voc
from ssdedu.sample import Truth


def test_comp3_as_text(tmp_path):
    size = np.array([500, 375, 500, 375])
    found = [detections([(250, 0, 500, 187.5)], [0.25], [2], size=size)]
    paths = write_comp3(tmp_path / "new", found, [truth(name="000005", size=size)], CLASSES)
    assert [path.name for path in paths] == [f"comp3_det_test_{name}.txt" for name in CLASSES]
    assert paths[1].read_text() == "000005 0.25 250.000000 0.000000 500.000000 187.500000\n"
    assert paths[0].read_text() == paths[2].read_text() == ""
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


@settings(deadline=None, max_examples=25)
@given(images=st.lists(an_image(), max_size=3))
def test_comp3_comes_back_with_the_same_result(tmp_path_factory, images):
    truths = [Truth(**{**vars(pair[0]), "name": f"{i:06d}"}) for i, pair in enumerate(images)]
    found = [pair[1] for pair in images]
    folder = tmp_path_factory.mktemp("comp3")
    write_comp3(folder, found, truths, CLASSES, prefix="comp4_")
    back = read_comp3(folder, truths, CLASSES, prefix="comp4_")
    for before, after in zip(found, back, strict=True):
        order = np.argsort(before.labels, kind="stable")
        assert np.array_equal(after.labels, before.labels[order])
        assert np.array_equal(after.scores.astype(np.float32), before.scores[order])
        assert np.array_equal(after.boxes_xyxy, before.boxes_xyxy[order])
    expected = evaluate_voc(found, truths, CLASSES).ap
    assert np.array_equal(evaluate_voc(back, truths, CLASSES).ap, expected, equal_nan=True)


def test_comp3_keeps_scores_apart(tmp_path):
    scores = [0.7, np.nextafter(np.float32(0.7), np.float32(1)), 1e-7]
    found = [detections([(0, 0, 9, 9)] * 3, scores)]
    write_comp3(tmp_path, found, [truth()], ["cat"])
    (back,) = read_comp3(tmp_path, [truth()], ["cat"])
    assert np.array_equal(back.scores.astype(np.float32), found[0].scores)


def test_comp3_keeps_the_old_file_when_writing_fails(tmp_path, monkeypatch):
    (path,) = write_comp3(tmp_path, [detections()], [truth()], ["cat"])

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_comp3(tmp_path, [detections([(0, 0, 9, 9)], [0.5])], [truth()], ["cat"])
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 0.5 1 2 3", r"cat\.txt:2: expected `image_id score"),
        ("a 0.5 1 2 3 4 5", r"cat\.txt:2: expected"),
        ("a high 1 2 3 4", r"cat\.txt:2: expected"),
        ("a nan 1 2 3 4", r"cat\.txt:2: expected"),
        ("z 0.5 1 2 3 4", r"cat\.txt:2: image_id 'z' is not among"),
    ],
)
def test_bad_comp3_names_file_and_line(tmp_path, line, message):
    (tmp_path / "comp3_det_test_cat.txt").write_text(f"a 0.5 1 2 3 4\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_comp3(tmp_path, [truth()], ["cat"])


def test_comp3_may_hold_empty_lines(tmp_path):
    (tmp_path / "comp3_det_test_cat.txt").write_text("a 0.5 16 8 32 32\r\n\r\n")
    (back,) = read_comp3(tmp_path, [truth()], ["cat"])
    assert back.boxes_xyxy.tolist() == [[0.25, 0.25, 0.5, 1]]


def test_comp3_needs_files_and_plain_names(tmp_path):
    with pytest.raises(ValueError, match=r"comp3_det_test_cat\.txt: no such file"):
        read_comp3(tmp_path, [truth()], ["cat"])
    with pytest.raises(ValueError, match=r"'a b'.*without blanks"):
        write_comp3(tmp_path, [detections()], [truth(name="a b")], ["cat"])
    with pytest.raises(ValueError, match="'a' belongs to several images"):
        write_comp3(tmp_path, [detections()] * 2, [truth()] * 2, ["cat"])
    with pytest.raises(ValueError, match="'x/y' cannot be part of a file name"):
        write_comp3(tmp_path, [detections()], [truth()], ["x/y"])


def test_needs_no_torch():
    code = "import sys, ssdedu.comp3; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
