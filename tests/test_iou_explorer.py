"""The IoU explorer: its numbers in Python and on the page, what hand and slider make of its boxes."""

import random

import numpy as np
import pytest
import torch
from cases import noise, slow_iou
from node import needs_node, run_node

from ssdedu import boxes
from ssdedu.widgets.iou_explorer import IouExplorer

SQUARE = (14, 32, 50, 68)
HALF = (32, 32, 68, 68)
PAIRS = {
    "half": (SQUARE, HALF),
    "inside": (SQUARE, (23, 41, 41, 59)),
    "corner": (SQUARE, (32, 50, 68, 86)),
    "touching": (SQUARE, (50, 32, 86, 68)),
    "apart": (SQUARE, (70, 70, 100, 100)),
    "same": (SQUARE, SQUARE),
    "whole image": ((0, 0, 100, 100), (0, 0, 100, 100)),
    "on the border": ((0, 0, 40, 30), (0, 10, 100, 30)),
    "one pixel each": ((0, 0, 1, 1), (99, 99, 100, 100)),
}
HANDLES = ("move", "n", "s", "e", "w", "nw", "ne", "sw", "se")


def pixels(box):
    return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}


def random_box(rng, whole):
    draw = rng.randint if whole else rng.uniform
    (x1, x2), (y1, y2) = (sorted((draw(0, 94), draw(0, 94))) for _ in range(2))
    return [x1, y1, x2 + 6, y2 + 6]


def random_pairs(count, whole, seed=0):
    rng = random.Random(seed)
    return [[random_box(rng, whole), random_box(rng, whole)] for _ in range(count)]


def ask(tmp_path, expression, data=None):
    return run_node(tmp_path, "iou_explorer.js", expression, data)


def test_areas_are_the_pixels_counted():
    explorer = IouExplorer()
    for a, b in [*PAIRS.values(), *random_pairs(20, True)]:
        shared, both = len(pixels(a) & pixels(b)), len(pixels(a) | pixels(b))
        counted = (len(pixels(a)), len(pixels(b)), shared, both, shared / both)
        assert explorer.overlap(a, b) == pytest.approx(counted)


def test_the_iou_is_that_of_the_package_and_follows_the_boxes():
    explorer = IouExplorer(PAIRS)
    for a, b in [*PAIRS.values(), *random_pairs(50, False)]:
        explorer.a_px, explorer.b_px = list(a), list(b)
        assert explorer.iou() == pytest.approx(slow_iou(a, b))
        assert explorer.iou() == explorer.iou(a, b) == explorer.overlap().iou
        assert explorer.iou() == pytest.approx(
            boxes.iou(torch.tensor([a]), torch.tensor([b])).item(), abs=1e-5
        )


def test_its_state_and_name():
    explorer = IouExplorer(PAIRS)
    assert repr(explorer) == "IouExplorer: A (14, 32, 50, 68), B (32, 32, 68, 68), IoU 0.3333"
    assert (explorer.a_px, explorer.b_px) == (list(SQUARE), list(HALF))
    assert [(p["name"], tuple(p["a"]), tuple(p["b"])) for p in explorer.pairs] == [
        (name, a, b) for name, (a, b) in PAIRS.items()
    ]
    assert explorer.image == ""
    assert repr(IouExplorer()) == repr(explorer)
    assert IouExplorer(image=noise()).image.startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 20), "degenerate"),
        ((30, 10, 20, 20), "degenerate"),
        ((0, 0, float("nan"), 20), "degenerate"),
        ((-1, 0, 20, 20), "not inside"),
        ((0, 0, 20, 101), "not inside"),
        ((0, 0, 20), "four numbers"),
    ],
)
def test_what_is_no_box_is_refused(box, message):
    with pytest.raises(ValueError, match=message):
        IouExplorer({"x": (SQUARE, box)})
    explorer = IouExplorer()
    with pytest.raises(ValueError, match=message):
        explorer.a_px = list(box)
    with pytest.raises(ValueError, match=message):
        explorer.iou(b_px=box)
    assert explorer.a_px == list(SQUARE)


def test_no_pair_is_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        IouExplorer({})


# The page


@needs_node
def test_the_page_computes_the_same_numbers(tmp_path):
    pairs = [*map(list, PAIRS.values()), *random_pairs(300, True), *random_pairs(300, False, seed=1)]
    told = ask(tmp_path, "data.map((p) => m.overlap(...p))", pairs)
    explorer = IouExplorer()
    for pair, got in zip(pairs, told, strict=True):
        expected = explorer.overlap(*pair)
        assert list(got) == list(expected._fields)
        assert list(got.values()) == pytest.approx(list(expected), rel=1e-12, abs=1e-12)


@needs_node
def test_the_law_of_equal_boxes(tmp_path):
    """(1 - t) / (1 + t) is the IoU by boxes.iou for each shift; other pairs have no law."""
    shifted = [[list(SQUARE), [14 + px, 32, 50 + px, 68]] for px in range(-14, 37)]
    for (a, b), law in zip(shifted, ask(tmp_path, "data.map((p) => m.lawOf(...p))", shifted), strict=True):
        assert law["t"] == pytest.approx(abs(b[0] - a[0]) / 36)
        overlap = boxes.iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
        assert law["iou"] == pytest.approx(overlap.item(), abs=1e-12)
    others = [(SQUARE, (14, 32, 50, 69)), (SQUARE, (20, 33, 56, 69)), (SQUARE, (51, 32, 87, 68))]
    assert ask(tmp_path, "data.map((p) => m.lawOf(...p))", others) == [None] * 3


@needs_node
def test_the_sentence(tmp_path):
    pairs = [PAIRS["half"], PAIRS["corner"], PAIRS["touching"], (SQUARE, (26, 32, 62, 68)), PAIRS["apart"]]
    half, corner, touching, third, apart = ask(tmp_path, "data.map((p) => m.sentence(...p))", pairs)
    assert half == (
        "Intersection 648 px², union 1296 + 1296 − 648 = 1944 px². IoU = 648 / 1944 = 0.3333, "
        "below SSD's threshold 0.5. Equal boxes, shifted t = 0.5000 of a width: (1 − t) / (1 + t) = 0.3333."
    )
    assert corner.endswith("IoU = 324 / 2268 = 0.1429, below SSD's threshold 0.5.")
    assert "IoU = 0 / 2592 = 0.0000, nothing is shared." in touching
    assert "IoU = 864 / 1728 = 0.5000, enough for SSD's threshold 0.5." in third
    assert apart.endswith("nothing is shared.")


@needs_node
def test_the_slider_shifts_b_along_a(tmp_path):
    pairs = [*map(list, PAIRS.values()), *random_pairs(200, True, seed=2)]
    expression = """data.map(([a, b]) => {
      const { most } = m.shiftOf(a, b), moved = [0, Math.floor(most)].map((px) => m.shifted(a, b, px));
      return { most, moved, px: moved.map((box) => m.shiftOf(a, box).px) };
    })"""
    for (a, b), got in zip(pairs, ask(tmp_path, expression, pairs), strict=True):
        width, room = b[2] - b[0], 100 - a[0] - (b[2] - b[0])
        assert got["most"] == max(0, min(width, room))
        assert got["px"] == [min(0, room), got["most"] if room >= 0 else room]
        for box in got["moved"]:
            assert 0 <= box[0] < box[2] <= 100
            assert (box[2] - box[0], box[1], box[3]) == (width, b[1], b[3])


@needs_node
def test_the_slider_names_pixels_and_widths(tmp_path):
    texts = ask(tmp_path, "[12, 0, -9].map((px) => m.shiftText(px, ...data))", PAIRS["half"])
    assert texts == ["12 px, t = 0.333", "0 px, t = 0.000", "-9 px, t = -0.250"]


@needs_node
def test_a_dragged_box_ends_at_whole_pixels_inside_the_image(tmp_path):
    rng = random.Random(3)
    rows = [
        [random_box(rng, True), rng.choice(HANDLES), rng.uniform(-120, 120), rng.uniform(-120, 120)]
        for _ in range(500)
    ]
    for (box, handle, *_), got in zip(
        rows, ask(tmp_path, "data.map((r) => m.dragged(...r))", rows), strict=True
    ):
        assert all(v == round(v) for v in got)
        assert all(0 <= v <= 100 for v in got)
        assert got[2] - got[0] >= 5
        assert got[3] - got[1] >= 5
        if handle == "move":
            assert np.subtract(got[2:], got[:2]).tolist() == np.subtract(box[2:], box[:2]).tolist()
    rest = [[box, "move", 0.4, -0.4] for box, *_ in rows]  # less than half a pixel: nothing moves
    assert ask(tmp_path, "data.map((r) => m.dragged(...r))", rest) == [box for box, *_ in rows]


@needs_node
@pytest.mark.parametrize(
    ("chosen", "at", "expected"),
    [
        (0, (32, 50), (0, "move")),  # equal boxes: the chosen one
        (1, (32, 50), (1, "move")),
        (0, (14, 50), (0, "w")),
        (1, (50, 68), (1, "se")),
        (1, (80, 80), None),
    ],
)
def test_the_chosen_box_lies_on_top(tmp_path, chosen, at, expected):
    hit = ask(tmp_path, "m.hitOf(...data)", [[SQUARE, SQUARE], chosen, *at, 2.5])
    assert hit == (expected and {"index": expected[0], "handle": expected[1]})


@needs_node
def test_the_hit_names_the_box_that_is_hit(tmp_path):
    rows = [[PAIRS["half"], chosen, x, 50, 2.5] for chosen in (0, 1) for x in (20, 60, 32, 50)]
    hits = ask(tmp_path, "data.map((r) => m.hitOf(...r))", rows)
    assert [(h["index"], h["handle"]) for h in hits] == [(0, "move"), (1, "move"), (1, "w"), (0, "e")] * 2


@needs_node
def test_what_two_boxes_share_is_where_their_pixels_meet(tmp_path):
    pairs = [p for p in random_pairs(100, True, seed=4) if pixels(p[0]) & pixels(p[1])]
    assert len(pairs) > 30
    told = run_node(tmp_path, "iou_draw.js", "data.map((p) => m.shared(...p))", pairs)
    for (a, b), box in zip(pairs, told, strict=True):
        assert pixels(box) == pixels(a) & pixels(b)
