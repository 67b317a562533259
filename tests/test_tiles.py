"""Tiles rule out only what the IoU of every object with every default box rules out too."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_matching import grid_priors, random_objects

from ssdedu import boxes, priors
from ssdedu.tiles import Search, tiles


def any_priors(rng, count):
    """Default boxes of no grid: of all sizes, some alike, some outside the image, some without an area."""
    drawn = np.concatenate([rng.uniform(-0.5, 1.5, (count, 2)), np.exp(rng.uniform(-6, 1, (count, 2)))], 1)
    drawn[rng.uniform(size=count) < 0.3, 2:] = 0.25
    drawn[rng.uniform(size=count) < 0.1, 2] = 0
    return torch.tensor(drawn, dtype=torch.float32)


def some_priors(kind, rng):
    return grid_priors(9) if kind == "grid" else any_priors(rng, int(rng.integers(1, 200)))


def table(objects, default_boxes):
    return boxes.iou(objects, boxes.cxcywh_to_xyxy(default_boxes))


def test_every_default_box_is_in_one_tile_with_its_like():
    p = priors.default_boxes(priors.SSD300_VOC)
    grid = tiles(p)
    assert grid.order.sort().values.tolist() == list(range(len(p)))
    assert grid.first.tolist() == (grid.number.cumsum(0) - grid.number).tolist()
    assert len(grid.number) < len(p) / 10
    for tile in zip(grid.first.tolist(), grid.number.tolist(), strict=True):
        members = p[grid.order[slice(tile[0], sum(tile))]]
        size = members[:, 2:]
        assert (size.amax(0) <= 2**0.25 * 1.001 * size.amin(0)).all()
        assert (members[:, :2].amax(0) - members[:, :2].amin(0) <= size.amax(0)).all()


@given(st.sampled_from(["grid", "any"]), st.integers(0, 10_000))
@settings(deadline=None, max_examples=80)
def test_no_member_overlaps_more_than_its_tile_may(kind, seed):
    """Exactly: not even by rounding."""
    rng = np.random.default_rng(seed)
    p, objects = some_priors(kind, rng), random_objects(rng, 20)
    search, iou = Search.of(objects, tiles(p)), table(objects, p)
    tile = torch.empty(len(p), dtype=torch.int64)
    tile[search.grid.order] = torch.arange(len(search.grid.number)).repeat_interleave(search.grid.number)
    assert (iou <= search.bound[:, tile]).all()
    promise = search.promise()
    assert (promise <= iou.amax(1)).all()
    assert (iou == promise[:, None]).any(1).all() or promise.min() == 0


@given(st.sampled_from(["grid", "any"]), st.integers(0, 10_000), st.floats(0, 1))
@settings(deadline=None, max_examples=80)
def test_all_pairs_above_a_limit_are_found(kind, seed, share):
    rng = np.random.default_rng(seed)
    p, objects = some_priors(kind, rng), random_objects(rng, 12)
    iou = table(objects, p)
    least = iou.amax(1) * share
    rows = torch.tensor([1, 4, 5, 11])
    found = Search.of(objects, tiles(p)).pairs(rows, least)
    got = sorted(
        zip(found.object_index.tolist(), found.prior_index.tolist(), found.iou.tolist(), strict=True)
    )
    n, k = (iou[rows] >= least[rows, None]).nonzero(as_tuple=True)
    assert got == list(zip(rows[n].tolist(), k.tolist(), iou[rows[n], k].tolist(), strict=True))


def test_few_are_looked_at():
    """An object of 60 x 60 pixels on SSD300 needs a look at one default box in fifty."""
    p = priors.default_boxes(priors.SSD300_VOC)
    search = Search.of(torch.tensor([[0.4, 0.4, 0.6, 0.6]]), tiles(p))
    best = search.promise()
    assert best.item() == pytest.approx(table(search.objects_xyxy, p).max().item(), rel=0.2)
    assert search.grid.number[search.bound[0] >= best].sum() < len(p) / 50
