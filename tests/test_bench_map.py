"""The benchmark of mAP in miniature, its data, and what its adapters hand to the peers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import detections, truth

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import bench_map
import map_data
from peers import Absent, Peers

PORT = '''
import numpy as np
from ssdedu.evaluate import DetectionArrays, evaluate_voc
from ssdedu.sample import Truth

def eval_detection_voc(boxes, labels, scores, true_boxes, true_labels, difficult, use_07_metric=False):
    """Stands for the port's, which does not sort stably: equal scores in the order from last to first."""
    side = np.array([500, 375] * 2)
    scores = [s + np.arange(len(s)) * 1e-12 + i * 1e-9 for i, s in enumerate(scores)]
    found = [DetectionArrays(b / side, s, n) for b, s, n in zip(boxes, scores, labels)]
    truths = [Truth(b / side, n, d, 500, 375) for b, n, d in zip(true_boxes, true_labels, difficult)]
    result = evaluate_voc(found, truths, [str(i) for i in range(20)], "voc07" if use_07_metric else "area")
    print("a port may print")
    return {"ap": np.append(np.nan, result.ap), "map": result.mean_ap}
'''
EVAL = """
import sys
from data import VOC_CLASSES as labelmap, VOC_ROOT, VOCDetection
from ssd import build_ssd
assert sys.argv[0] == "eval.py", sys.argv

def voc_eval(detpath, annopath, imagesetfile, classname, cachedir, ovthresh=0.5, use_07_metric=True):
    lines = open(detpath).read().splitlines()
    names = open(imagesetfile).read().split()
    objects = sum(open(annopath % name).read().count(f"<name>{classname}</name>") for name in names)
    assert (ovthresh, use_07_metric, len(labelmap)) == (0.5, True, 20)
    return None, None, len(lines) / max(objects, 1)
"""


@pytest.fixture
def ports(tmp_path):
    """A folder of ports whose packages cannot be imported as a whole."""
    package = tmp_path / "lufficc" / "SSD" / "ssd" / "data" / "datasets" / "evaluation" / "voc"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("import something_that_nobody_has")
    (package / "eval_detection_voc.py").write_text(PORT)
    (tmp_path / "amdegroot" / "ssd.pytorch").mkdir(parents=True)
    (tmp_path / "amdegroot" / "ssd.pytorch" / "eval.py").write_text(EVAL)
    return tmp_path


def run(path, *more):
    bench.main("", "map", bench_map.make, ["--tiny", "--out", str(path), *more])
    (contest,) = json.loads(path.read_text())["contests"].values()
    return contest


def test_without_peers_all_are_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(Peers, "package", lambda self, name, **options: Absent(f"no {name}"))
    contest = run(tmp_path / "map.json")
    assert set(contest["ms"]) == {"ssdedu"}
    assert len(contest["absent"]) == 7
    assert contest["goal"]["met"] is None
    means = contest["facts"]["mAP of the first 20 images"]
    assert set(means) == {"ssdedu", "ssdedu without +1"}
    assert 0.3 < means["ssdedu"] < 1


def test_with_ports(tmp_path, ports, monkeypatch, capsys):
    monkeypatch.setattr(Peers, "package", lambda self, name, **options: Absent(f"no {name}"))
    before = set(sys.modules)
    contest = run(tmp_path / "map.json", "--ports", str(ports))
    assert not {"ssd", "ssd.data", "data", "eval"} & (set(sys.modules) - before)
    assert set(contest["ms"]) == {"ssdedu", "lufficc/SSD", "amdegroot/ssd.pytorch"}
    agreement = contest["facts"]["agreement with lufficc/SSD"]
    assert agreement["area, largest difference"] < 1e-9
    assert agreement["area with ties, largest difference"] < 1e-9
    assert agreement["11 points, classes that differ"] == {}
    assert contest["facts"]["mAP of the first 20 images"]["amdegroot/ssd.pytorch"] > 0
    assert "a port may print" not in capsys.readouterr().out


def test_the_data_have_the_objects_of_voc2007_test():
    case = map_data.draw(map_data.NUM_IMAGES, 1)
    difficult = np.concatenate([t.difficult for t in case.truths])
    assert (len(case.truths), (~difficult).sum(), difficult.sum()) == (4952, 12_032, 2_944)
    assert min(len(t) for t in case.truths) >= 1
    boxes_px = np.concatenate([t.boxes_xyxy for t in case.truths]) * [500, 375, 500, 375]
    assert abs(boxes_px - boxes_px.round()).max() < 1e-3
    assert boxes_px.min() >= 0
    assert (boxes_px[:, 2:] > boxes_px[:, :2]).all()
    assert len({t.name for t in case.truths}) == 4952


def test_scores_differ_until_they_are_made_to_tie():
    case = map_data.draw(30, 40)
    scores = np.concatenate([d.scores for d in case.detections])
    assert scores.dtype == np.float32
    assert len(np.unique(scores)) == len(scores) == 1200
    tied, ranks = bench_map._with_ties(case)
    rounded = np.concatenate([d.scores for d in tied.detections])
    assert len(np.unique(rounded)) < 101
    best_first = np.argsort(-np.concatenate(ranks))
    assert list(best_first) == sorted(range(1200), key=lambda row: (-rounded[row], row))


# --- one image by hand: what each kind of peer is given

OBJECT = truth([(4, 8, 20, 24)], [2], [True], "000001")
FOUND = detections([(5, 8, 21, 24)], [0.8126], [2])
CASE = map_data.Case([OBJECT], [FOUND])


def test_files_count_pixels_from_one_and_round_as_the_port_does(tmp_path):
    bench_map._write_files(CASE, tmp_path)
    assert (tmp_path / "bicycle.txt").read_text() == "000001 0.813 6.0 9.0 22.0 25.0\n"
    assert (tmp_path / "aeroplane.txt").read_text() == ""
    assert (tmp_path / "test.txt").read_text() == "000001\n"
    text = (tmp_path / "000001.xml").read_text()
    assert "<name>bicycle</name>" in text
    assert (
        "<difficult>1</difficult><bndbox><xmin>5</xmin><ymin>9</ymin><xmax>21</xmax><ymax>25</ymax>" in text
    )


def test_coco_gets_width_and_height_and_crowds_for_difficult_objects():
    (annotation,) = bench_map._coco_dataset(CASE)["annotations"]
    assert annotation["bbox"] == [4, 8, 16, 16]
    assert (annotation["area"], annotation["iscrowd"], annotation["category_id"]) == (256, 1, 2)
    row = bench_map._coco_rows(0, FOUND, OBJECT)
    assert row.tolist() == [[0, 5, 8, 16, 16, np.float32(0.8126), 2]]


def test_tensors_are_the_same_numbers():
    given = []
    measure = bench_map._prepared_tensors(CASE, lambda *lists: given.extend(lists) or (None, 0.5))
    assert measure() == 0.5
    arrays = (
        FOUND.boxes_xyxy,
        FOUND.labels,
        FOUND.scores,
        OBJECT.boxes_xyxy,
        OBJECT.labels,
        OBJECT.difficult,
    )
    for (tensor,), array in zip(given, arrays, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
