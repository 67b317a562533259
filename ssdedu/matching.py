"""Matching: which default box is responsible for which object (Sec. 2.2, "Matching strategy").

Three rules. "ssd": greedy bipartite, then every free default box takes the object it overlaps most if the IoU
reaches the threshold (Caffe's MatchBBox with PER_PREDICTION). "multibox": the bipartite part alone, as in
MultiBox. "threshold": the second part alone, as in many ports and in Faster R-CNN's region proposals.

All forms give the same numbers. The CPU touches no more than it has to: some images at a time, and where something
was found; for targets, where nobody asks how much background overlaps, no more than the default boxes near an object
(`tiles`). On a GPU that would mean to wait for numbers; there every shape and every round is known beforehand, so
that the program runs ahead of the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ssdedu import boxes as box_ops
from ssdedu.padding import Objects, padded
from ssdedu.tiles import Pairs, Search, tiles

__all__ = ["Match", "Rule", "Targets", "bipartite", "encode_targets", "match", "match_batch"]

Rule = Literal["ssd", "multibox", "threshold"]
MIN_OVERLAP = 1e-6  # Caffe: overlaps up to this do not count as touching
_PAIRS_AT_ONCE = 2**19  # in one table: few enough for a CPU's cache, enough to be worth a call
_LOW_HALF = 0xFFFFFFFF


class Match(NamedTuple):
    """What each default box is responsible for: shapes (P,), or (B, P) for a batch.

    labels: int64 class, 0 for background; object_index: int64 row of its object, -1 for none; iou: with that
    object, or for background the largest with any object.
    """

    labels: Tensor
    object_index: Tensor
    iou: Tensor


class Targets(NamedTuple):
    """What the network should emit: offsets (B, P, 4), 0 for background, and labels (B, P)."""

    offsets: Tensor
    labels: Tensor


def match(
    boxes_xyxy: Tensor,
    labels: Tensor,
    priors_cxcywh: Tensor,
    threshold: float = 0.5,
    rule: Rule = "ssd",
) -> Match:
    """Match one image's objects, boxes (G, 4) and labels (G,), to default boxes (P, 4); see `Match`.

    Raises ValueError for degenerate boxes, labels below 1 and unknown rules.
    """
    batch = match_batch([boxes_xyxy], [labels], priors_cxcywh, threshold, rule)
    return Match(*(t[0] for t in batch))


def match_batch(
    boxes_xyxy: Objects,
    labels: Objects,
    priors_cxcywh: Tensor,
    threshold: float = 0.5,
    rule: Rule = "ssd",
) -> Match:
    """Match B images at once: a list of boxes (G_i, 4) and of labels (G_i,), G_i may be 0; see `Match`.

    Or boxes (B, G, 4) and labels (B, G) as `padding.pad_objects` makes them. What still lies in the CPU's memory is
    moved to the default boxes' device. Follows Caffe's MatchBBox: with rule "ssd" no object that overlaps any
    default box is left without one. Ties go to the earlier default box, then to the earlier object. Raises
    ValueError as `match` does; bad objects that lie on a GPU already stop its program instead.
    """
    _check_options(priors_cxcywh, threshold, rule)
    parts = _parts(*padded(boxes_xyxy, labels, priors_cxcywh), len(priors_cxcywh))
    found = [_match_padded(b, n, priors_cxcywh, threshold, rule) for b, n in parts]
    return Match(*_together(found))


def encode_targets(
    boxes_xyxy: Objects,
    labels: Objects,
    priors_cxcywh: Tensor,
    variances: Sequence[float] = box_ops.VARIANCES,
    threshold: float = 0.5,
    rule: Rule = "ssd",
) -> Targets:
    """What a network should emit for B images: `match_batch`, then `boxes.encode` of the positives alone."""
    _check_options(priors_cxcywh, threshold, rule)
    objects = padded(boxes_xyxy, labels, priors_cxcywh)
    elsewhere = priors_cxcywh.is_cuda or not priors_cxcywh.is_cpu
    if not elsewhere and priors_cxcywh.dtype == torch.float32:
        return _encode_near(*objects, priors_cxcywh, variances, threshold, rule)
    targets = []
    for b, n in _parts(*objects, len(priors_cxcywh)):
        found = _match_padded(b, n, priors_cxcywh, threshold, rule)
        encode = _encode_all if b.is_cuda else _encode_positives
        targets.append(Targets(encode(b, found.object_index, priors_cxcywh, variances), found.labels))
    return Targets(*_together(targets))


def _check_options(priors_cxcywh: Tensor, threshold: float, rule: Rule) -> None:
    if priors_cxcywh.dim() != 2 or priors_cxcywh.shape[1] != 4 or len(priors_cxcywh) == 0:
        raise ValueError(f"priors_cxcywh must be (P, 4) with P above 0, got {tuple(priors_cxcywh.shape)}")
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")


def _parts(boxes_xyxy: Tensor, labels: Tensor, columns: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batch, on a CPU some images at a time, for tables (objects, columns), and with the least padding."""
    if labels.is_cuda:
        yield boxes_xyxy, labels
        return
    images = max(1, _PAIRS_AT_ONCE // max(1, labels.shape[1] * columns))
    for b, n in zip(boxes_xyxy.split(images), labels.split(images), strict=True):
        most = max((n != 0).any(0).nonzero().flatten().tolist(), default=-1) + 1
        yield b[:, :most], n[:, :most]


def _together(parts: Sequence[tuple[Tensor, ...]]) -> Iterable[Tensor]:
    """The fields of all parts of a batch, each in one tensor."""
    return parts[0] if len(parts) == 1 else (torch.cat(field) for field in zip(*parts, strict=True))


def _match_padded(
    boxes_xyxy: Tensor, labels: Tensor, priors_cxcywh: Tensor, threshold: float, rule: Rule
) -> Match:
    """Match boxes (B, G, 4) and labels (B, G), real where the label is not 0."""
    overlaps = box_ops.iou(boxes_xyxy, box_ops.cxcywh_to_xyxy(priors_cxcywh))  # (B, G, P)
    overlaps.masked_fill_((labels == 0)[..., None], -1)
    if overlaps.shape[1] == 0:
        return _nothing(overlaps)
    best, object_index = overlaps.max(dim=1)  # (B, P)
    best.clamp_(min=0)
    enough = best >= threshold if rule != "multibox" else torch.zeros_like(best, dtype=torch.bool)
    object_index = object_index.where(enough, -1)
    if rule != "threshold":
        object_index, best = _assign(object_index, best, bipartite(overlaps), overlaps)
    found = labels.gather(1, object_index.clamp(min=0))
    return Match(found.where(object_index >= 0, 0), object_index, best)


def _nothing(overlaps: Tensor) -> Match:
    """The match (B, P) of images without objects: all background."""
    shape = (overlaps.shape[0], overlaps.shape[2])
    index = torch.full(shape, -1, dtype=torch.int64, device=overlaps.device)
    return Match(torch.zeros_like(index), index, overlaps.new_zeros(shape))


def _assign(
    object_index: Tensor, best: Tensor, prior_index: Tensor, overlaps: Tensor
) -> tuple[Tensor, Tensor]:
    """object_index and best (B, P) once each object (b, g) owns its default box prior_index (B, G)."""
    last = overlaps.shape[2]  # a place behind all default boxes, for objects that own none
    g = torch.arange(overlaps.shape[1], device=overlaps.device).expand_as(prior_index)
    owner = object_index.new_full((len(best), last + 1), -1)
    owner = owner.scatter_(1, prior_index.where(prior_index >= 0, last), g)[:, :last]
    own = overlaps.gather(1, owner.clamp(min=0)[:, None])[:, 0]
    return owner.where(owner >= 0, object_index), own.where(owner >= 0, best)


def bipartite(overlaps: Tensor) -> Tensor:
    """Each object's own default box (B, G), -1 for none, by greedy choice on IoU (B, G, P).

    Greedy: again and again the largest IoU above 1e-6 among free objects x free default boxes makes a pair.
    Done in parallel: a pair that is the largest in its row and its column will be greedy's choice whatever
    comes before, so all such pairs are fixed at once, and only objects that lost their favourite look again.
    """
    if overlaps.is_cuda and overlaps.dtype == torch.float32:
        return _bipartite_by_offers(overlaps)
    free = overlaps.clone()  # -1 where the object or the default box is taken
    prior_index = torch.full(overlaps.shape[:2], -1, dtype=torch.int64, device=overlaps.device)
    value, favourite = free.max(dim=2)  # (B, G)
    open_ = value > MIN_OVERLAP
    while open_.any():
        b, g = _dominant(free, favourite, open_).nonzero(as_tuple=True)
        p = favourite[b, g]
        prior_index[b, g] = p
        open_[b, g] = False
        free[b, g] = -1
        free[b, :, p] = -1
        b, g = (open_ & (free.gather(2, favourite[..., None])[..., 0] < 0)).nonzero(as_tuple=True)
        value[b, g], favourite[b, g] = free[b, g].max(dim=1)
        open_ &= value > MIN_OVERLAP
    return prior_index


def _dominant(free: Tensor, favourite: Tensor, open_: Tensor) -> Tensor:
    """Mask (B, G) of the objects that are the best free object of their favourite default box."""
    rivals = free.gather(2, favourite[:, None, :].expand(-1, favourite.shape[1], -1))  # [b, rival, g]
    winner = rivals.max(dim=1).indices  # (B, G)
    return open_ & (winner == torch.arange(favourite.shape[1], device=favourite.device))


def _bipartite_by_offers(overlaps: Tensor) -> Tensor:
    """`bipartite` of float32 IoU in G - 1 rounds without looking at a number: Gale and Shapley's deferred acceptance.

    All pairs stand in one order, greedy's, so that the stable matching is unique and is greedy's choice. In each
    round every object offers itself to the best default box that holds no better offer; a box keeps its best
    one. After r rounds the r best pairs of greedy are found. At most G - 1 boxes can refuse an object: its G best
    are enough.
    """
    num_objects, num_priors = overlaps.shape[1:]
    offers, prior = _offers(overlaps, min(num_objects, num_priors))  # (B, G, K)
    held = offers.new_zeros(len(offers), num_priors)
    best, favourite = offers[..., 0], prior[..., 0]  # (B, G)
    for _ in range(num_objects - 1):
        held.scatter_reduce_(1, favourite, best, "amax")
        refused = offers < held.gather(1, prior.flatten(1)).view_as(offers)
        best, rank = offers.masked_fill(refused, 0).max(dim=2)
        favourite = prior.gather(2, rank[..., None])[..., 0]
    return favourite.where(best > 0, -1)


def _offers(overlaps: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Each object's best pairs (B, G, K) as numbers in greedy's order, 0 for no overlap, and their default boxes.

    The IoU is the upper half of the number (positive floats sort as integers); in the lower half the earlier
    default box counts more, and of two objects at one the earlier.
    """
    g, p = (torch.arange(n - 1, -1, -1, device=overlaps.device) for n in overlaps.shape[1:])
    numbers = _number(overlaps, p * len(g) + g[:, None]).masked_fill_(overlaps <= MIN_OVERLAP, 0)
    best = numbers.topk(most, dim=2).values
    return best, len(p) - 1 - (best & _LOW_HALF) // len(g)


def _number(iou: Tensor, rank: Tensor) -> Tensor:
    return iou.contiguous().view(torch.int32).long().bitwise_left_shift_(32).bitwise_or_(rank)


def _encode_near(
    boxes_xyxy: Tensor,
    labels: Tensor,
    priors_cxcywh: Tensor,
    variances: Sequence[float],
    threshold: float,
    rule: Rule,
) -> Targets:
    """`encode_targets` on a CPU in float32, where most pairs of object and default box are never looked at."""
    grid, num_priors = tiles(priors_cxcywh), len(priors_cxcywh)
    shape = len(labels), num_priors
    targets = Targets(priors_cxcywh.new_zeros(*shape, 4), labels.new_zeros(shape))
    first = 0  # place of this part in the flat targets
    for b, n in _parts(boxes_xyxy, labels, len(grid.number)):
        image, g = (n != 0).nonzero(as_tuple=True)
        if len(image):
            objects = b[image, g]
            place, owner = _positives(Search.of(objects, grid), image, threshold, rule)
            own = box_ops.encode(objects[owner], priors_cxcywh[place % num_priors], variances)
            targets.offsets.view(-1, 4)[place + first] = own
            targets.labels.view(-1)[place + first] = n[image, g][owner]
        first += len(n) * num_priors
    return targets


def _positives(search: Search, image: Tensor, threshold: float, rule: Rule) -> tuple[Tensor, Tensor]:
    """The matched default boxes, as places in (images x P), and their objects; image (N,): each object's, ascending."""
    order = _Order(image, len(search.grid.order))
    least = torch.full_like(search.bound[:, 0], threshold)
    if rule != "threshold":
        promise = search.promise().clamp_(min=MIN_OVERLAP)
        least = promise if rule == "multibox" else promise.clamp_(max=threshold)
    near = search.pairs(torch.arange(len(image)), least)
    best = image.new_zeros(order.num_places)
    if rule != "multibox":
        enough = order.numbers(near, near.iou >= threshold)
        best.scatter_reduce_(0, order.places(enough), enough, "amax")
    if rule != "threshold":
        own = _own_pairs(search, near, least, order)
        best[order.places(own)] = own
    place = best.nonzero()[:, 0]
    return place, order.objects(best[place])


class _Order(NamedTuple):
    """Greedy's order of the pairs of N objects and P default boxes, as numbers; image (N,): of each object, ascending.

    The IoU is the upper half of the number (positive floats sort as integers); in the lower half the earlier
    default box counts more, and of two objects at one the earlier.
    """

    image: Tensor
    num_priors: int

    @property
    def num_places(self) -> int:
        return (int(self.image[-1]) + 1) * self.num_priors

    def numbers(self, pairs: Pairs, chosen: Tensor) -> Tensor:
        """Of the pairs in a mask."""
        n, p, iou = (t[chosen] for t in pairs)
        return _number(iou, self.num_priors * len(self.image) - 1 - (p * len(self.image) + n))

    def objects(self, numbers: Tensor) -> Tensor:
        """The object of each pair."""
        return len(self.image) - 1 - (numbers & _LOW_HALF) % len(self.image)

    def places(self, numbers: Tensor) -> Tensor:
        """The default box of each pair, as its place in (images x P)."""
        prior = self.num_priors - 1 - (numbers & _LOW_HALF) // len(self.image)
        return self.image[self.objects(numbers)] * self.num_priors + prior


def _own_pairs(search: Search, near: Pairs, least: Tensor, order: _Order) -> Tensor:
    """`bipartite` as numbers of pairs, from near ones: all whose IoU is not below their object's least (N,).

    Objects that others leave none of these are content with half as much, until nothing is left that they touch.
    """
    while True:
        own = _settle(order.numbers(near, near.iou > MIN_OVERLAP), order)
        refused = ((own == 0) & (least > MIN_OVERLAP)).nonzero()[:, 0]
        if len(refused) == 0:
            return own[own > 0]
        least = least.index_copy(0, refused, (least[refused] / 2).clamp_(min=MIN_OVERLAP))
        near = Pairs(*map(torch.cat, zip(near, search.pairs(refused, least), strict=True)))


def _settle(numbers: Tensor, order: _Order) -> Tensor:
    """The pair that each object gets (N,), 0 for none: deferred acceptance, see `_bipartite_by_offers`."""
    n, place = order.objects(numbers), order.places(numbers)
    held = numbers.new_zeros(order.num_places)
    offer = torch.zeros_like(order.image)
    asks = torch.ones_like(offer, dtype=torch.bool)
    while asks.any():
        open_ = (asks[n] & (numbers > held[place])).nonzero()[:, 0]
        offer.masked_fill_(asks, 0).scatter_reduce_(0, n[open_], numbers[open_], "amax")
        wish = order.places(offer)
        held.scatter_reduce_(0, wish, offer, "amax")
        asks = (offer > 0) & (offer < held[wish])
    return offer


def _encode_positives(
    boxes_xyxy: Tensor, object_index: Tensor, priors_cxcywh: Tensor, variances: Sequence[float]
) -> Tensor:
    """Offsets (B, P, 4) of the objects (B, G, 4) that the default boxes are responsible for, 0 for background."""
    offsets = priors_cxcywh.new_zeros(*object_index.shape, 4)
    b, p = (object_index >= 0).nonzero(as_tuple=True)
    offsets[b, p] = box_ops.encode(boxes_xyxy[b, object_index[b, p]], priors_cxcywh[p], variances)
    return offsets


def _encode_all(
    boxes_xyxy: Tensor, object_index: Tensor, priors_cxcywh: Tensor, variances: Sequence[float]
) -> Tensor:
    """The same, computed for all default boxes, as if background were responsible for itself."""
    if boxes_xyxy.shape[1] == 0:
        return priors_cxcywh.new_zeros(*object_index.shape, 4)
    positive = (object_index >= 0)[..., None]
    own = boxes_xyxy.gather(1, object_index.clamp(min=0)[..., None].expand(-1, -1, 4))
    own = own.where(positive, box_ops.cxcywh_to_xyxy(priors_cxcywh))
    return box_ops.encode_checked(own, priors_cxcywh, variances).masked_fill(~positive, 0)
