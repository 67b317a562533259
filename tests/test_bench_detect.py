"""The benchmark of detection goes its whole way in miniature, without ports and with made ones."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import bench_detect
from peers import AMDEGROOT, LUFFICC, SGRVINOD, Absent, Peers

from ssdedu import boxes, priors
from ssdedu.detect import Detections, detect

POST_PROCESSOR = """
import torch_extension

class PostProcessor:
    def __init__(self, cfg):
        self.cfg = cfg

    def __call__(self, detections):
        scores, boxes = detections
        assert (scores.shape[2], self.cfg.TEST.MAX_PER_IMAGE) == (21, 200)
        return [torch_extension.nms(b * self.cfg.INPUT.IMAGE_SIZE) for b in boxes]
"""
BOX_UTILS = """
import torch

def convert_locations_to_boxes(locations, priors, center_variance, size_variance):
    assert (center_variance, size_variance) == (0.1, 0.2)
    return priors.expand_as(locations)

def center_form_to_corner_form(boxes):
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
"""


@pytest.fixture
def outputs():
    p = priors.default_boxes(priors.SHAPES128_ONE_MAP)[::7]
    return bench_detect.untrained(2, p)


def test_the_whole_way_in_miniature(tmp_path):
    out = tmp_path / "result.json"
    bench.main("", "detect", bench_detect.make, ["--tiny", "--out", str(out)])
    trained, surer, untrained, single = json.loads(out.read_text())["contests"].values()
    for contest in (trained, surer, untrained, single):
        assert {AMDEGROOT, LUFFICC, SGRVINOD} <= set(contest["absent"])
        assert {"ssdedu", "limit"} <= set(contest["ms"])
    assert [c["goal"]["against"] for c in (trained, untrained)] == ["torchvision"] * 2
    passed = [c["facts"]["scores above 0.01 an image"] for c in (surer, trained, untrained, single)]
    assert 20 < passed[0] < 1000 < passed[1] < passed[2] == passed[3] == 8732 * 20
    assert [c["facts"]["detections an image"] for c in (trained, untrained, single)] == [200] * 3


def test_agreement_counts_what_is_the_same_in_order():
    found = detect(*bench_detect.untrained(2, priors.default_boxes(priors.SHAPES128_ONE_MAP)))
    theirs = [{"boxes": d.boxes_xyxy * 300, "scores": d.scores, "labels": d.labels} for d in found]
    number = len(found[0])
    assert bench_detect.agreement(found, theirs)["the same"] == sum(map(len, found))
    theirs[0] = {**theirs[0], "boxes": theirs[0]["boxes"] + 0.01}
    theirs[1] = {name: values[:3] for name, values in theirs[1].items()}
    theirs[1]["labels"] = theirs[1]["labels"] + torch.tensor([0, 1, 0])
    expected = {"detections": number + len(found[1]), "torchvision's": number + 3, "the same": 2}
    assert bench_detect.agreement(found, theirs) == expected


def test_nothing_agrees_with_nothing():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    theirs = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0)}
    assert bench_detect.agreement([nothing], [theirs])["the same"] == 0


def test_a_port_gets_the_suppression_it_asks_for(tmp_path, monkeypatch, outputs):
    """As lufficc's: its extension is not there, and it does not believe today's torchvision."""
    root = tmp_path / LUFFICC / "ssd"
    for name, text in (("modeling/box_head/inference.py", POST_PROCESSOR), ("utils/box_utils.py", BOX_UTILS)):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    ops = SimpleNamespace(nms=lambda boxes_px: boxes_px)
    monkeypatch.setattr(Peers, "package", lambda self, name, version_of: ops)
    found = bench_detect.lufficc(Peers(tmp_path))(outputs)
    torch.testing.assert_close(found[1], 300 * boxes.cxcywh_to_xyxy(outputs.priors))
    assert "torch_extension" not in sys.modules
    assert isinstance(bench_detect.lufficc(Peers(None)), Absent)


def test_pieces_lie_in_their_photos():
    photos, pieces = bench_detect.pieces(2), bench_detect.pieces(8)
    assert (photos[0] == pieces[0]).all()
    assert len({piece.shape for piece in pieces}) > 4
    assert all(min(piece.shape[:2]) > 100 and piece.shape[2] == 3 for piece in pieces)
