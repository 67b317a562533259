"""Matching, encoding, mining and loss of 32 photos for SSD300 with 21 classes, forward and backward to its outputs.

Everybody begins with the boxes and the labels of each photo and the same random outputs of the net, offsets
(32, 8732, 4) and logits (32, 8732, 21), and ends with the gradient of the loss by both; the same default boxes:

ssdedu: `matching.encode_targets`, `loss.multibox_loss`.
torchvision: `box_iou` and `SSDMatcher` of each photo as SSD.forward does, then `SSD.compute_loss` with its BoxCoder.
amdegroot/ssd.pytorch: `MultiBoxLoss`. Mended from outside: the cross-entropies have one row a photo from the
beginning, since today's torch refuses the mask of positives where they have one row a default box.
lufficc/SSD: `SSDTargetTransform` of each photo, which its loader does, torch.stack, `MultiBoxLoss`.
sgrvinod/a-PyTorch-Tutorial-to-Object-Detection: `MultiBoxLoss`. Its localization is L1, averaged over coordinates too.

All of them match less well than ssdedu (see bench_matching.py). With one object a photo nothing is left to compete for:
the facts give everybody's loss for that case too, one number but for sgrvinod's localization, and for lufficc's IoU
with 1e-5 added to the union.
limit: log-softmax of the logits and its gradient alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import bench_matching
import torch
import torch.nn.functional as F
from bench import Contest, Goal, main
from bench_matching import PRIORS, THRESHOLD
from matching_data import CLASSES, Objects, crowds, photos
from peers import AMDEGROOT, LUFFICC, SGRVINOD, Absent, Peers
from torch import Tensor

from ssdedu.boxes import cxcywh_to_xyxy
from ssdedu.loss import multibox_loss

TORCHVISION = "torchvision"
RATIO = 3


class Case(NamedTuple):
    """Objects of photos, and what the net says: offsets (B, P, 4), logits (B, P, C), both with a gradient."""

    objects: Objects
    offsets: Tensor
    logits: Tensor


Loss = Callable[[Case], Tensor]


def make(peers: Peers, tiny: bool) -> list[Contest]:
    """Photos with few objects, and crowds on two threads."""
    number = 2 if tiny else 32
    warnings.filterwarnings("ignore", "size_average and reduce args")  # which ports still have
    others = {
        TORCHVISION: torchvision(peers),
        AMDEGROOT: amdegroot(peers),
        LUFFICC: lufficc(peers),
        SGRVINOD: sgrvinod(peers),
    }
    few, many = photos(number), crowds(number, 20 if tiny else 100)
    name = f"matching + encoding + loss + mining, forward and backward, batch {number}, {CLASSES + 1} classes"
    return [
        _contest(name, draw(few), others, 0.55, 1),
        _contest(f"{name}, {len(many.labels[0])} crowded objects a photo", draw(many), others, 0.45, 2),
    ]


def draw(objects: Objects, seed: int = 0) -> Case:
    """Outputs of a net that knows nothing, for these objects."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(objects.labels), len(PRIORS)
    offsets, logits = (torch.randn(*shape, n, generator=generator) for n in (4, CLASSES + 1))
    return Case(objects, offsets.requires_grad_(), logits.requires_grad_())


def _contest(
    name: str, case: Case, others: Mapping[str, Loss | Absent], at_most: float, threads: int
) -> Contest:
    works = {n: f if isinstance(f, Absent) else partial(step, f, case) for n, f in others.items()}
    there = {"ssdedu": ours} | {n: f for n, f in others.items() if not isinstance(f, Absent)}
    return Contest(
        name,
        partial(step, ours, case),
        works,
        Goal(at_most, TORCHVISION),
        partial(log_softmax, case),
        threads,
        partial(facts, there, case),
    )


def step(loss: Loss, case: Case) -> None:
    """Forward and backward, from no gradient."""
    case.offsets.grad = case.logits.grad = None
    loss(case).backward()


def log_softmax(case: Case) -> None:
    """Forward and backward, from no gradient."""
    case.logits.grad = None
    F.log_softmax(case.logits, dim=-1).backward(case.logits.detach())


def ours(case: Case) -> Tensor:
    """The loss by ssdedu."""
    return multibox_loss(case.offsets, case.logits, *bench_matching.ours(case.objects), ratio=RATIO).total


def torchvision(peers: Peers) -> Loss | Absent:
    """Its SSD's matching and loss, without the network."""
    ssd = peers.package("torchvision.models.detection.ssd", version_of="torchvision")
    return ssd if isinstance(ssd, Absent) else partial(_torchvision, ssd)


def _torchvision(ssd: ModuleType, case: Case) -> Tensor:
    matcher = ssd.det_utils.SSDMatcher(THRESHOLD)
    coder = ssd.det_utils.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    detector = SimpleNamespace(box_coder=coder, neg_to_pos_ratio=RATIO)
    targets = [{"boxes": b, "labels": n} for b, n in zip(*case.objects, strict=True)]
    anchors = cxcywh_to_xyxy(PRIORS)
    matched = [matcher(ssd.box_ops.box_iou(b, anchors)) for b in case.objects.boxes_xyxy]
    outputs = {"bbox_regression": case.offsets, "cls_logits": case.logits}
    return sum(ssd.SSD.compute_loss(detector, targets, outputs, [anchors] * len(targets), matched).values())


def amdegroot(peers: Peers) -> Loss | Absent:
    """Its MultiBoxLoss as its train.py makes it, on the CPU."""
    found = peers.port(AMDEGROOT, "layers.modules.multibox_loss")
    if isinstance(found, Absent):
        return found
    found[0].log_sum_exp = partial(_RowOfEachPhoto, found[0].log_sum_exp)
    return partial(
        _amdegroot, found[0].MultiBoxLoss(CLASSES + 1, THRESHOLD, True, 0, True, RATIO, 0.5, False, False)
    )


class _RowOfEachPhoto:
    """log_sum_exp (B * P, 1), from which others (B * P, 1) may be subtracted: the result is (B, P)."""

    def __init__(self, log_sum_exp: Callable[[Tensor], Tensor], logits: Tensor) -> None:
        self.values = log_sum_exp(logits)

    def __sub__(self, others: Tensor) -> Tensor:
        return (self.values - others).view(-1, len(PRIORS))


def _amdegroot(criterion: Callable[..., tuple[Tensor, Tensor]], case: Case) -> Tensor:
    targets = [torch.cat([b, n[:, None] - 1], 1) for b, n in zip(*case.objects, strict=True)]
    return sum(criterion((case.offsets, case.logits, PRIORS), targets))


def lufficc(peers: Peers) -> Loss | Absent:
    """Its transform of targets and its MultiBoxLoss."""
    matching = bench_matching.lufficc(peers)
    found = peers.port(LUFFICC, "ssd.modeling.box_head.loss")
    if isinstance(matching, Absent) or isinstance(found, Absent):
        return matching if isinstance(matching, Absent) else found
    return partial(_lufficc, matching, found[0].MultiBoxLoss(RATIO))


def _lufficc(
    matching: bench_matching.Matching, criterion: Callable[..., tuple[Tensor, Tensor]], case: Case
) -> Tensor:
    targets = matching(case.objects)
    return sum(criterion(case.logits, case.offsets, targets.labels, targets.offsets))


def sgrvinod(peers: Peers) -> Loss | Absent:
    """Its MultiBoxLoss."""
    found = peers.port(SGRVINOD, "model")
    return found if isinstance(found, Absent) else partial(_sgrvinod, found[0].MultiBoxLoss(PRIORS))


def _sgrvinod(criterion: Callable[..., Tensor], case: Case) -> Tensor:
    return criterion(case.offsets, case.logits, *case.objects)


def facts(losses: Mapping[str, Loss], case: Case) -> dict[str, Any]:
    """Everybody's loss of these objects, and of the first of each photo alone."""
    first = Objects(*([values[:1] for values in field] for field in case.objects))
    lonely = Case(first, case.offsets, case.logits)
    return {
        what: {name: float(f"{loss(c).item():.6g}") for name, loss in losses.items()}
        for what, c in (("loss", case), ("loss with one object a photo", lonely))
    }


if __name__ == "__main__":
    main(__doc__, "loss", make)
