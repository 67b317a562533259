"""Figures of `03_matching`: what is drawn equals what was given; its exercises agree with the package."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from ssdedu import boxes, matching, priors
from ssdedu.course import display
from ssdedu.course.exercises import matching as exercises
from ssdedu.course.figures import matching as figures
from ssdedu.course.figures.common import COLORS
from ssdedu.datasets import shapes


def drawn(ax, label):
    """Rectangles of a panel by label: (x, y, width, height) and colour, in order."""
    found = [p for p in ax.patches if p.get_label() == label]
    return [(p.get_bbox().bounds, to_hex(p.get_edgecolor())) for p in found]


def test_the_iou_strip_fills_what_is_shared():
    square = (0, 0, 20, 20)
    pairs = {"half": (square, (10, 0, 30, 20)), "apart": (square, (30.5, 30, 50, 50))}
    fig = figures.iou_strip(pairs)
    display._check_readable(fig)
    half, apart = fig.axes
    for ax, pair in zip(fig.axes, pairs.values(), strict=True):
        given = [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in pair]
        for label in ("box", "union", "ground"):
            assert [bounds for bounds, _ in drawn(ax, label)] == given
        assert [color for _, color in drawn(ax, "box")] == [c.lower() for c in COLORS[:2]]
    assert [bounds for bounds, _ in drawn(half, "shared")] == [(10, 0, 10, 20)]
    assert drawn(apart, "shared") == []
    assert [ax.get_title() for ax in fig.axes] == ["half\nIoU 0.33", "apart\nIoU 0.00"]
    assert half.get_xlim() == (-13, 43)
    assert [ax.get_xlim()[1] - ax.get_xlim()[0] for ax in fig.axes] == [56, 56]
    assert [ax.get_ylim() for ax in fig.axes] == [(38, -18), (53, -3)]


@pytest.mark.parametrize("name", ["SHAPES128", "SHAPES128_ONE_MAP"])
def test_matched_maps_draw_every_positive_once_on_its_map(name):
    config = priors.PRESETS[name]
    scene = shapes.draw_scene(0, 233)
    p = priors.default_boxes(config)
    index = matching.match(torch.from_numpy(scene.boxes_xyxy), torch.from_numpy(scene.labels), p).object_index
    fig = figures.matched_maps(scene.image, scene.boxes_xyxy, config, index, ["a", "b", "c"])
    display._check_readable(fig)
    assert len(fig.axes) == len(config.maps)
    start = 0
    for ax, feature_map in zip(fig.axes, config.maps, strict=True):
        rows = slice(start, start := start + feature_map.num_boxes)
        mine = index[rows] >= 0
        expected = boxes.cxcywh_to_xyxy(p[rows][mine]) * 128
        expected[:, 2:] -= expected[:, :2]
        got = drawn(ax, "default box")
        np.testing.assert_allclose([b for b, _ in got], expected.reshape(-1, 4), atol=1e-3)
        assert [c for _, c in got] == [COLORS[g].lower() for g in index[rows][mine]]
        assert len(drawn(ax, "object")) == 3


def test_numbered_draws_the_default_boxes_with_their_numbers():
    objects = {"plate": (10, 10, 90, 90), "cup": (10, 10, 30, 30)}
    default_boxes = torch.tensor([[20, 20, 20, 20], [50, 50, 60, 60], [30, 50, 20, 60]])
    fig = figures.numbered(objects, default_boxes, {"fine": [0], "coarse": [1, 2]})
    display._check_readable(fig)
    assert [ax.get_title() for ax in fig.axes] == ["objects", "fine", "coarse"]
    assert [len(drawn(ax, "object")) for ax in fig.axes] == [2, 2, 2]
    assert [[b for b, _ in drawn(ax, "default box")] for ax in fig.axes] == [
        [],
        [(10, 10, 20, 20)],
        [(20, 20, 60, 60), (20, 20, 20, 60)],
    ]
    written = [[(t.get_text(), t.get_position()) for t in ax.texts] for ax in fig.axes]
    assert written == [[], [("0", (30, 10))], [("1", (80, 20)), ("2", (40, 20))]]


def test_rules_side_by_side_draw_the_owners():
    objects = {"plate": (10, 10, 90, 90), "cup": (10, 10, 30, 30)}
    default_boxes = [(20, 20, 20, 20), (50, 50, 60, 60)]
    fig = figures.rules_side_by_side(objects, default_boxes, {"one": [1, 0], "other": [-1, 1]})
    display._check_readable(fig)
    blue, red = COLORS[0].lower(), COLORS[1].lower()
    one, other = fig.axes
    assert drawn(one, "default box") == [((10, 10, 20, 20), red), ((20, 20, 60, 60), blue)]
    assert drawn(other, "default box") == [((20, 20, 60, 60), red)]
    assert [b for b, _ in drawn(one, "object")] == [(10, 10, 80, 80), (10, 10, 20, 20)]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["plate", "cup", "object itself"]


def test_positives_by_size_draw_the_counts_and_their_sum():
    fig = figures.positives_by_size([10, 20, 30], {"fine": [1, 4, 0], "coarse": [0, 2, 5]})
    display._check_readable(fig)
    fine, coarse, total = (line.get_ydata() for line in fig.axes[0].lines)
    np.testing.assert_array_equal(fine, [1, 4, np.nan])
    np.testing.assert_array_equal(coarse, [np.nan, 2, 5])
    np.testing.assert_array_equal(total, [1, 6, 5])


def test_the_solutions_together_are_ssds_rule():
    p = priors.default_boxes(priors.SHAPES128_COARSE_MAP)
    for index in range(20):
        b = torch.from_numpy(shapes.draw_scene(1, index).boxes_xyxy)
        table = boxes.iou(b, boxes.cxcywh_to_xyxy(p))
        by_arithmetic = exercises.iou_solution(b.tolist(), boxes.cxcywh_to_xyxy(p).tolist())
        np.testing.assert_allclose(by_arithmetic, table, atol=1e-6)
        iou = table.tolist()
        own = exercises.greedy_solution(iou)
        owner = exercises.fill_solution(iou, own, 0.5)
        labels = torch.ones(len(b), dtype=torch.int64)
        assert owner == matching.match(b, labels, p).object_index.tolist()
        alone = matching.match(b, labels, p, rule="threshold").object_index.tolist()
        assert exercises.left_solution(iou, 0.5) == len(b) - len(set(alone) - {-1})
