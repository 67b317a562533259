"""Matching and encoding of a batch of 32 photos for SSD300's 8,732 default boxes, by ssdedu and by its peers.

Everybody begins with the boxes and the labels of each photo and ends with the batch's offsets (32, 8732, 4) and
labels (32, 8732), each for the same default boxes and as its own training does it:

ssdedu: `matching.encode_targets`, lists of tensors in.
amdegroot/ssd.pytorch: `match` of each photo into the batch's tensors, as its MultiBoxLoss calls it.
lufficc/SSD: `SSDTargetTransform` of each photo, as its loader calls it, and torch.stack.

The peers do less: where two objects have the same best default box, the earlier one loses it and may be left with none.
The facts count those objects, and the default boxes whose label differs from ssdedu's for that reason, or because
lufficc adds 1e-5 to the union. Where the labels are those of ssdedu and the objects alone, the offsets are too.
"Memory" is the most that torch had allocated within a call beyond what it had before, in MiB; the result takes 6.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from bench import Contest, Goal, main
from matching_data import Objects, crowds, photos
from peers import AMDEGROOT, LUFFICC, Absent, Peers
from timing import Work

from ssdedu.boxes import decode
from ssdedu.matching import Targets, encode_targets
from ssdedu.priors import SSD300_VOC, default_boxes

PRIORS = default_boxes(SSD300_VOC)
THRESHOLD, VARIANCES = 0.5, (0.1, 0.2)
_CLOSE = 1e-4  # of the same box, encoded and decoded

Matching = Callable[[Objects], Targets]


def make(peers: Peers, tiny: bool) -> list[Contest]:
    """Photos with few objects, and crowds."""
    number = 2 if tiny else 32
    others = {AMDEGROOT: amdegroot(peers), LUFFICC: lufficc(peers)}
    few, many = photos(number), crowds(number, 20 if tiny else 100)
    return [
        _contest(f"matching + encoding, batch {number}, 8.9 objects a photo", few, others),
        _contest(f"matching + encoding, batch {number}, {len(many.labels[0])} objects a photo", many, others),
    ]


def _contest(name: str, objects: Objects, others: Mapping[str, Matching | Absent]) -> Contest:
    works = {n: f if isinstance(f, Absent) else partial(f, objects) for n, f in others.items()}
    there = {"ssdedu": ours} | {n: f for n, f in others.items() if not isinstance(f, Absent)}
    return Contest(name, partial(ours, objects), works, Goal(0.45), facts=partial(facts, there, objects))


def ours(objects: Objects) -> Targets:
    """Targets by ssdedu."""
    return encode_targets(*objects, PRIORS, threshold=THRESHOLD)


def amdegroot(peers: Peers) -> Matching | Absent:
    """Its `match`, photo by photo; its labels count from 0, background is added within."""
    found = peers.port(AMDEGROOT, "layers.box_utils")
    return found if isinstance(found, Absent) else partial(_amdegroot, found[0].match)


def _amdegroot(match: Callable[..., None], objects: Objects) -> Targets:
    shape = len(objects.labels), len(PRIORS)
    offsets, labels = torch.Tensor(*shape, 4), torch.LongTensor(*shape)
    for i, (b, n) in enumerate(zip(*objects, strict=True)):
        match(THRESHOLD, b, PRIORS, VARIANCES, n.float() - 1, offsets, labels, i)
    return Targets(offsets, labels)


def lufficc(peers: Peers) -> Matching | Absent:
    """Its transform of targets, photo by photo."""
    found = peers.port(LUFFICC, "ssd.data.transforms.target_transform")
    if isinstance(found, Absent):
        return found
    return partial(_lufficc, found[0].SSDTargetTransform(PRIORS, *VARIANCES, THRESHOLD))


def _lufficc(transform: Callable[..., tuple[torch.Tensor, torch.Tensor]], objects: Objects) -> Targets:
    found = [transform(b, n) for b, n in zip(*objects, strict=True)]
    return Targets(*(torch.stack(field) for field in zip(*found, strict=True)))


def facts(matchings: Mapping[str, Matching], objects: Objects) -> dict[str, Any]:
    """What each one's targets are, and how much memory it takes for them."""
    expected = ours(objects)
    return {
        "objects": sum(len(n) for n in objects.labels),
        **{name: _about(f, objects, expected) for name, f in matchings.items()},
    }


def _about(matching: Matching, objects: Objects, expected: Targets) -> dict[str, float]:
    found = matching(objects)
    return {
        "matched default boxes": int((found.labels > 0).sum()),
        "of other label than ssdedu's": int((found.labels != expected.labels).sum()),
        "objects without one": sum(map(_left_out, found.offsets, found.labels, objects.boxes_xyxy)),
        "memory, MiB": round(peak_mib(partial(matching, objects)), 1),
    }


def _left_out(offsets: torch.Tensor, labels: torch.Tensor, boxes_xyxy: torch.Tensor) -> int:
    """How many of a photo's objects are encoded nowhere."""
    own = decode(offsets, PRIORS)[labels > 0]
    return int(((boxes_xyxy[:, None] - own).abs().amax(2) > _CLOSE).all(1).sum())


def peak_mib(work: Work) -> float:
    """The most memory that torch holds within a call, in MiB, beyond what it held before."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        work()
    events = sorted(profile.kineto_results.events(), key=lambda e: e.start_ns())
    return max(accumulate((e.nbytes() for e in events if e.name() == "[memory]"), initial=0)) / 2**20


if __name__ == "__main__":
    main(__doc__, "matching", make)
