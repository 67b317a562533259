"""The benchmark of the network goes its whole way in miniature, without ports and with made ones."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import bench_network
import timing
from peers import AMDEGROOT, LUFFICC, SGRVINOD, Absent, Peers

from ssdedu import precision

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        numbers = self.scale * images.mean()
        return numbers.expand(len(images), 9, 4), numbers.expand(len(images), 9, 21)
"""
PORTS = {
    AMDEGROOT: {
        "ssd.py": NET
        + """
def build_ssd(phase, size, num_classes):
    assert (phase, size, num_classes) == ("train", 300, 21)
    net = Net()
    forward = net.forward
    net.forward = lambda images: (*forward(images), "default boxes")
    return net
"""
    },
    LUFFICC: {
        "ssd/__init__.py": "",
        "ssd/modeling/__init__.py": "",
        "ssd/modeling/backbone/__init__.py": "",
        "ssd/modeling/box_head/__init__.py": "",
        "ssd/modeling/backbone/vgg.py": NET
        + """
from torch.hub import _download_url_to_file

class VGG(Net):
    def __init__(self, cfg):
        super().__init__()
        assert cfg.INPUT.IMAGE_SIZE == 300
""",
        "ssd/modeling/box_head/box_predictor.py": """
from torch import nn

class SSDBoxPredictor(nn.Linear):
    def __init__(self, cfg):
        super().__init__(1, 1)
        assert cfg.MODEL.NUM_CLASSES == 21
        assert cfg.MODEL.PRIORS.BOXES_PER_LOCATION == [4, 6, 6, 6, 4, 4]
        assert len(cfg.MODEL.BACKBONE.OUT_CHANNELS) == 6

    def forward(self, features):
        offsets, logits = features
        return logits + self.weight.sum(), offsets
""",
    },
    SGRVINOD: {
        "model.py": NET
        + """
class VGGBase:
    def load_pretrained_layers(self):
        raise OSError("downloads")

class SSD300(Net):
    def __init__(self, n_classes):
        super().__init__()
        assert n_classes == 21
        VGGBase().load_pretrained_layers()
"""
    },
}
ADAPTERS = {
    AMDEGROOT: bench_network.amdegroot,
    LUFFICC: bench_network.lufficc,
    SGRVINOD: bench_network.sgrvinod,
}


@pytest.fixture
def ports(tmp_path):
    for port, files in PORTS.items():
        for name, text in files.items():
            path = tmp_path / port / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return Peers(tmp_path)


def test_the_whole_way_in_miniature(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_network, "_SIDE", 64)
    monkeypatch.setattr(bench_network, "PX", 128)
    monkeypatch.setattr(Peers, "package", lambda self, name, version_of=None: Absent("elsewhere"))
    out = tmp_path / "result.json"
    bench.main("", "network", bench_network.make, ["--tiny", "--out", str(out)])
    contests = json.loads(out.read_text())["contests"]
    precisions = len(bench_network.precisions())
    assert len(contests) == 4 * precisions
    assert [c["threads"] for c in contests.values()] == [1] * 2 * precisions + [2] * 2 * precisions
    for number, contest in enumerate(contests.values()):
        assert {"ssdedu", "limit"} == set(contest["ms"])
        named = {"torchvision", *ADAPTERS} if number < 2 else {"torchvision"}
        assert set(contest["absent"]) == named
        assert contest["facts"]["GFLOP an image"] > 0.1


def test_the_goals_of_both_kinds_of_processors(monkeypatch):
    for units, wanted in ((True, {"auto": 0.25, "float32": 0.8}), (False, {"auto": 0.8})):
        monkeypatch.setattr(precision, "use_bfloat16", lambda device, units=units: units)
        assert {p: bench_network.goal(p) for p in bench_network.precisions()} == wanted


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_port_gives_offsets_and_logits_and_learns(name, ports):
    net = ADAPTERS[name](ports)
    images = torch.rand(2, 3, 6, 6)
    assert [o.shape for o in net.forward(images)] == [(2, 9, 4), (2, 9, 21)]
    for _ in range(2):
        bench_network.backward(net, images)
    numbers = 2 * 9 * (4 + 21)
    assert net.parameters[0].grad.item() == pytest.approx(1e-3 * numbers * images.mean().item())


def test_a_torchvision_gives_the_outputs_of_its_head(ports, monkeypatch):
    class SSD300(nn.Module):
        def __init__(self, **options):
            super().__init__()
            assert options == {"weights": None, "weights_backbone": None, "num_classes": 21}
            self.weight = nn.Parameter(torch.randn(()))

        def backbone(self, images):
            return {"0": images * self.weight}

        def head(self, maps):
            assert len(maps) == 1
            return {"cls_logits": maps[0], "bbox_regression": -maps[0]}

    monkeypatch.setattr(ports, "package", lambda name, version_of: SimpleNamespace(ssd300_vgg16=SSD300))
    images = torch.rand(1, 3, 6, 6)
    offsets, logits = bench_network.torchvision(ports).forward(images)
    assert torch.equal(offsets, -logits)
    assert torch.equal(bench_network.torchvision(ports).forward(images)[1], logits)


def test_the_limit_multiplies_as_often_as_the_convolutions(monkeypatch):
    monkeypatch.setattr(bench_network, "_SIDE", 16)
    work = bench_network.products(2 * 16**2 * 10, "float32", 3)
    assert [p.shape for p in work()] == [(10, 16)] * 3


def test_the_pieces_can_be_measured():
    net = bench_network.network(bench_network.small(), "float32")
    clock = timing.Clock(torch.device("cpu"))
    assert clock.seconds(lambda: bench_network.forward(net, bench_network.draw(1)), 1) > 0
