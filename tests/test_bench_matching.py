"""The benchmark of matching goes its whole way in miniature, without peers and with made ones."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import bench_matching
import matching_data
from peers import AMDEGROOT, LUFFICC, Absent, Peers

from ssdedu import boxes

MATCH = """
def match(threshold, truths, priors, variances, labels, offsets, classes, index):
    assert (threshold, variances, labels.dtype.is_floating_point) == (0.5, (0.1, 0.2), True)
    offsets[index], classes[index] = 0, 0
    classes[index, :len(labels)] = labels.long() + 1
"""
TRANSFORM = """
import torch

class SSDTargetTransform:
    def __init__(self, priors, center_variance, size_variance, threshold):
        assert (center_variance, size_variance, threshold) == (0.1, 0.2, 0.5)
        self.priors = priors

    def __call__(self, boxes, labels):
        classes = torch.zeros(len(self.priors), dtype=torch.int64)
        classes[:len(labels)] = labels
        return torch.zeros(len(self.priors), 4), classes
"""


def write_port(folder, name, path, text):
    file = folder / name / path
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_the_whole_way_in_miniature(tmp_path, capsys):
    out = tmp_path / "result.json"
    bench.main("", "matching", bench_matching.make, ["--tiny", "--out", str(out)])
    contests = json.loads(out.read_text())["contests"]
    assert len(contests) == 2
    for contest in contests.values():
        assert set(contest["absent"]) == {AMDEGROOT, LUFFICC}
        assert contest["ms"]["ssdedu"]["median"] > 0
        assert contest["facts"]["ssdedu"]["objects without one"] == 0
        assert contest["facts"]["ssdedu"]["matched default boxes"] >= contest["facts"]["objects"]
    assert "goal: at most 0.45 x best: not measured" in capsys.readouterr().out


def test_ports_are_called_as_their_training_calls_them(tmp_path):
    write_port(tmp_path, AMDEGROOT, "layers/box_utils.py", MATCH)
    write_port(tmp_path, LUFFICC, "ssd/data/transforms/target_transform.py", TRANSFORM)
    objects = matching_data.photos(3)
    for adapter in (bench_matching.amdegroot, bench_matching.lufficc):
        found = adapter(Peers(tmp_path))(objects)
        assert found.offsets.shape == (3, 8732, 4)
        assert [n[n > 0].tolist() for n in found.labels] == [n.tolist() for n in objects.labels]
    assert isinstance(bench_matching.lufficc(Peers(None)), Absent)


def test_an_object_that_is_encoded_nowhere_is_counted():
    objects = matching_data.Objects(
        [torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.5, 0.9, 0.8]])], [torch.tensor([3, 4])]
    )
    found = bench_matching.ours(objects)
    shortened = found.labels.where(found.labels != 4, 0)
    both = bench_matching._about(lambda _: found, objects, found)
    one = bench_matching._about(lambda _: found._replace(labels=shortened), objects, found)
    assert (both["objects without one"], one["objects without one"]) == (0, 1)
    lost = int((found.labels == 4).sum())
    assert (both["of other label than ssdedu's"], one["of other label than ssdedu's"]) == (0, lost)
    assert both["matched default boxes"] - one["matched default boxes"] == lost


def test_the_peak_of_memory_is_what_is_held_at_once():
    def work():
        first = torch.ones(2**20)
        del first
        second = torch.ones(2**20)
        return second + 1

    assert bench_matching.peak_mib(work) == pytest.approx(8, abs=0.01)
    assert bench_matching.peak_mib(lambda: None) == 0


def test_the_photos_are_what_the_table_says():
    few, many = matching_data.photos(32), matching_data.crowds(32)
    assert sum(len(n) for n in few.labels) == round(32 * 8.9)
    assert {len(n) for n in many.labels} == {100}
    assert min(len(n) for n in few.labels) >= 1
    for objects in (few, many):
        boxes.check_boxes(torch.cat(objects.boxes_xyxy))
        assert torch.equal(boxes.clip(torch.cat(objects.boxes_xyxy)), torch.cat(objects.boxes_xyxy))
        assert set(torch.cat(objects.labels).tolist()) == set(range(1, 21))
    again = matching_data.photos(32)
    assert all(torch.equal(a, b) for a, b in zip(few.boxes_xyxy, again.boxes_xyxy, strict=True))
