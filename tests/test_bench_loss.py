"""The benchmark of the loss goes its whole way in miniature, without ports and with made ones."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import bench_loss
import matching_data
from peers import AMDEGROOT, LUFFICC, SGRVINOD, Absent, Peers

MULTIBOX_LOSS = """
import torch

def log_sum_exp(x):
    return x.logsumexp(1, keepdim=True)

class MultiBoxLoss:
    def __init__(self, num_classes, overlap, *settings):
        assert (num_classes, overlap, settings[3], settings[-1]) == (21, 0.5, 3, False)

    def __call__(self, predictions, targets):
        offsets, logits, priors = predictions
        assert {float(t[:, 4].min()) for t in targets} >= {0.0} and targets[0].shape[1] == 5
        flat = logits.view(-1, 21)
        entropy = log_sum_exp(flat) - flat[:, :1]
        entropy[torch.zeros(logits.shape[:2], dtype=torch.bool)] = 0
        return offsets.sum(), entropy.sum()
"""


@pytest.fixture
def case():
    objects = matching_data.photos(2)
    objects.labels[0][0] = objects.labels[1][0] = 1
    return bench_loss.draw(objects)


def test_the_whole_way_in_miniature(tmp_path):
    out = tmp_path / "result.json"
    bench.main("", "loss", bench_loss.make, ["--tiny", "--out", str(out)])
    contests = json.loads(out.read_text())["contests"].values()
    assert [c["threads"] for c in contests] == [1, 2]
    for contest in contests:
        assert {AMDEGROOT, LUFFICC, SGRVINOD} <= set(contest["absent"])
        assert {"ssdedu", "limit"} <= set(contest["ms"])
        assert contest["goal"]["against"] == "torchvision"
        assert all(loss["ssdedu"] > 0 for loss in contest["facts"].values())


def test_a_step_leaves_the_gradient_of_one_loss(case):
    bench_loss.step(bench_loss.ours, case)
    once = case.logits.grad.clone(), case.offsets.grad.clone()
    bench_loss.step(bench_loss.ours, case)
    assert torch.equal(case.logits.grad, once[0])
    assert torch.equal(case.offsets.grad, once[1])
    assert (once[0] != 0).any()
    bench_loss.log_softmax(case)
    assert not torch.equal(case.logits.grad, once[0])


def test_a_mask_of_rows_a_photo_works_in_the_port(tmp_path, case):
    """As in amdegroot's forward: today's torch refuses a mask (B, P) of numbers (B * P, 1)."""
    file = tmp_path / AMDEGROOT / "layers/modules/multibox_loss.py"
    file.parent.mkdir(parents=True)
    file.write_text(MULTIBOX_LOSS)
    expected = case.offsets.sum() - case.logits.log_softmax(2)[..., 0].sum()
    torch.testing.assert_close(bench_loss.amdegroot(Peers(tmp_path))(case), expected)
    assert isinstance(bench_loss.amdegroot(Peers(None)), Absent)


def test_torchvisions_loss_is_ours_where_nothing_competes(case):
    """One object a photo."""
    torchvision = bench_loss.torchvision(Peers(None))
    if isinstance(torchvision, Absent):
        pytest.skip(torchvision.reason)
    facts = bench_loss.facts({"ours": bench_loss.ours, "theirs": torchvision}, case)
    lonely = facts["loss with one object a photo"]
    assert lonely["ours"] == pytest.approx(lonely["theirs"], rel=1e-5)
