"""Editing boxes on the page: what the pointer hits, what drags and keys make of a box, the steps back."""

import itertools
import random

import pytest
from node import needs_node, run_node

from ssdedu.widgets.base import bundle

pytestmark = needs_node
HANDLES = ("move", "n", "s", "e", "w", "nw", "ne", "sw", "se")
ARROWS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowUp": (0, -1), "ArrowDown": (0, 1)}
BIG, SMALL = [0.2, 0.2, 0.8, 0.8], [0.4, 0.4, 0.6, 0.6]
TOLERANCE, LEAST = (0.02, 0.03), (0.04, 0.05)


def call(tmp_path, name, rows):
    """The function's value for each row of arguments."""
    return run_node(tmp_path, "box_editor.js", f"data.map((row) => m.{name}(...row))", rows)


def random_span(rng, least):
    size = rng.choice([least, 1.0, rng.uniform(least, 1)])
    low = rng.choice([0.0, 1 - size, rng.uniform(0, 1 - size)])
    return low, low + size


def random_box(rng):
    (x1, x2), (y1, y2) = random_span(rng, LEAST[0]), random_span(rng, LEAST[1])
    return [x1, y1, x2, y2]


def size_of(box):
    return box[2] - box[0], box[3] - box[1]


def assert_legal(box):
    assert all(0 <= v <= 1 for v in box)
    assert all(s >= least - 1e-12 for s, least in zip(size_of(box), LEAST, strict=True))


@pytest.mark.parametrize(
    ("boxes", "at", "expected"),
    [
        ([], (0.5, 0.5), None),
        ([BIG], (0.1, 0.5), None),
        ([BIG], (0.5, 0.5), (0, "move")),
        ([BIG], (0.2, 0.5), (0, "w")),
        ([BIG], (0.81, 0.5), (0, "e")),
        ([BIG], (0.83, 0.5), None),  # beyond the tolerance of 0.02
        ([BIG], (0.5, 0.175), (0, "n")),  # within the tolerance of 0.03
        ([BIG], (0.5, 0.82), (0, "s")),
        ([BIG], (0.19, 0.21), (0, "nw")),
        ([BIG], (0.81, 0.19), (0, "ne")),
        ([BIG], (0.21, 0.79), (0, "sw")),
        ([BIG], (0.79, 0.81), (0, "se")),
        ([BIG, SMALL], (0.5, 0.5), (1, "move")),  # the smallest under the pointer
        ([SMALL, BIG], (0.5, 0.5), (0, "move")),
        ([BIG, BIG, SMALL], (0.3, 0.3), (1, "move")),  # the last of equals
        ([BIG, BIG, SMALL], (0.2, 0.5), (1, "w")),
        ([BIG, [0.1, 0.3, 0.4, 0.6]], (0.2, 0.5), (0, "w")),  # an edge wins over the smaller box's inside
        ([BIG, [0.215, 0.3, 0.4, 0.6]], (0.205, 0.5), (0, "w")),  # the nearer edge
        ([[0.215, 0.3, 0.4, 0.6], BIG], (0.212, 0.5), (0, "w")),
        ([[0, 0, 1, 1]], (0, 0), (0, "nw")),
        ([[0.5, 0.5, 0.52, 0.52]], (0.51, 0.51), (0, "move")),  # a tiny box can still be moved
        ([[0.5, 0.5, 0.52, 0.52]], (0.49, 0.51), (0, "w")),
        ([[0.5, 0.5, 0.5, 0.5]], (0.51, 0.51), (0, "se")),  # and one without area pulled open
    ],
)
def test_what_the_pointer_hits(tmp_path, boxes, at, expected):
    (hit,) = call(tmp_path, "hitBox", [[boxes, *at, *TOLERANCE]])
    assert hit == (expected and {"index": expected[0], "handle": expected[1]})


def slow_hits(box, x, y):
    """Is (x, y) within tolerance of the box's outline, is it inside: of a box that is not small."""
    (tx, ty), (x1, y1, x2, y2) = TOLERANCE, box
    around = x1 - tx <= x <= x2 + tx and y1 - ty <= y <= y2 + ty
    core = x1 + tx < x < x2 - tx and y1 + ty < y < y2 - ty
    return around and not core, core


def test_hits_against_a_loop(tmp_path):
    rng = random.Random(0)
    rows = []
    for _ in range(600):
        boxes = [b for b in (random_box(rng) for _ in range(4)) if min(size_of(b)) > 0.13]
        x, y = rng.random(), rng.random()
        if boxes and rng.random() < 0.5:
            x, y = rng.choice(boxes[0][::2]) + 0.01, rng.choice(boxes[0][1::2]) + 0.01
        rows.append([boxes, x, y, *TOLERANCE])
    seen = set()
    for row, hit in zip(rows, call(tmp_path, "hitBox", rows), strict=True):
        told = [slow_hits(box, *row[1:3]) for box in row[0]]
        seen.add(hit and hit["handle"])
        if any(edge for edge, _ in told):
            assert hit["handle"] != "move"
            assert told[hit["index"]][0]
        elif any(inside for _, inside in told):
            area = {i: size_of(b)[0] * size_of(b)[1] for i, b in enumerate(row[0]) if told[i][1]}
            smallest = max(i for i in area if area[i] == min(area.values()))
            assert hit == {"index": smallest, "handle": "move"}
        else:
            assert hit is None
    assert seen == {None, *HANDLES}


def test_without_tolerance_only_the_line_itself_is_a_handle(tmp_path):
    rows = [[[BIG], x, 0.5, 0, 0] for x in (0.2, 0.2001, 0.1999, 0.8)]
    hits = call(tmp_path, "hitBox", rows)
    assert [h and h["handle"] for h in hits] == ["w", "move", None, "e"]


def test_cursors(tmp_path):
    cursors = call(tmp_path, "cursorOf", [[h] for h in (*HANDLES, None)])
    assert cursors == [
        "move",
        *("ns-resize", "ns-resize", "ew-resize", "ew-resize"),
        *("nwse-resize", "nesw-resize", "nesw-resize", "nwse-resize"),
        "default",
    ]


@pytest.mark.parametrize(
    ("handle", "by", "expected"),
    [
        ("move", (0.1, -0.1), [0.3, 0.1, 0.9, 0.7]),
        ("move", (0.5, -0.5), [0.4, 0, 1, 0.6]),  # stopped by the border, its size kept
        ("w", (0.1, 0.4), [0.3, 0.2, 0.8, 0.8]),  # an edge hears one direction only
        ("e", (-0.1, 0.4), [0.2, 0.2, 0.7, 0.8]),
        ("n", (0.4, 0.1), [0.2, 0.3, 0.8, 0.8]),
        ("s", (0.4, 0.1), [0.2, 0.2, 0.8, 0.9]),
        ("nw", (0.1, 0.1), [0.3, 0.3, 0.8, 0.8]),
        ("se", (0.9, 0.1), [0.2, 0.2, 1, 0.9]),
        ("ne", (-0.9, 0.9), [0.2, 0.75, 0.24, 0.8]),  # not inside out: the least size is left
        ("sw", (0.9, -0.9), [0.76, 0.2, 0.8, 0.25]),
    ],
)
def test_drags_by_hand(tmp_path, handle, by, expected):
    (box,) = call(tmp_path, "dragBox", [[BIG, handle, *by, *LEAST]])
    assert box == pytest.approx(expected)


def test_random_drags_stay_legal(tmp_path):
    rng = random.Random(1)
    rows = [
        [random_box(rng), handle, rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5), *LEAST]
        for handle, _ in itertools.product(HANDLES, range(200))
    ]
    for (box, handle, *_), dragged in zip(rows, call(tmp_path, "dragBox", rows), strict=True):
        assert_legal(dragged)
        if handle == "move":
            assert size_of(dragged) == pytest.approx(size_of(box), abs=1e-12)
        held = {side for side in "wnes" if side not in handle}
        if handle != "move":
            kept = [i for i, side in enumerate("wnes") if side in held]
            assert [dragged[i] for i in kept] == [box[i] for i in kept]


def test_a_box_too_small_at_first_is_mended_by_resizing(tmp_path):
    rows = [[[0.0, 0.0, 0.001, 0.001], h, 0.0, 0.0, *LEAST] for h in ("nw", "se")]
    for box in call(tmp_path, "dragBox", rows):
        assert box == pytest.approx([0, 0, *LEAST])


def test_arrow_keys_move_and_with_shift_resize(tmp_path):
    rng = random.Random(2)
    rows = [
        [random_box(rng), key, 0.01, 0.02, resize, *LEAST]
        for key, resize, _ in itertools.product(ARROWS, (False, True), range(50))
    ]
    for (box, key, _, _, resize, *_), nudged in zip(rows, call(tmp_path, "nudgeBox", rows), strict=True):
        assert_legal(nudged)
        dx, dy = ARROWS[key][0] * 0.01, ARROWS[key][1] * 0.02
        if resize:
            assert nudged[:2] == box[:2]
            x2, y2 = max(box[2] + dx, box[0] + LEAST[0]), max(box[3] + dy, box[1] + LEAST[1])
            assert nudged[2:] == pytest.approx([min(1, x2), min(1, y2)])
        else:
            w, h = size_of(box)
            x, y = min(max(0, box[0] + dx), 1 - w), min(max(0, box[1] + dy), 1 - h)
            assert nudged == pytest.approx([x, y, x + w, y + h])


def test_other_keys_are_not_heard(tmp_path):
    rows = [[BIG, key, 0.01, 0.01, False, *LEAST] for key in ("Enter", "a", "Tab", "constructor")]
    assert call(tmp_path, "nudgeBox", rows) == [None] * 4


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((0.2, 0.3, 0.6, 0.7), [0.2, 0.3, 0.6, 0.7]),
        ((0.6, 0.7, 0.2, 0.3), [0.2, 0.3, 0.6, 0.7]),
        ((0.6, 0.3, 0.2, 0.7), [0.2, 0.3, 0.6, 0.7]),
        ((-0.5, 0.5, 1.5, 2), [0, 0.5, 1, 1]),
        ((0.5, 0.5, 0.5, 0.5), [0.5, 0.5, 0.54, 0.55]),  # a click
        ((0.5, 0.5, 0.49, 0.49), [0.46, 0.45, 0.5, 0.5]),
        ((1, 1, 1, 1), [0.96, 0.95, 1, 1]),
        ((0, 0, -1, -1), [0, 0, 0.04, 0.05]),
    ],
)
def test_new_boxes_by_hand(tmp_path, corners, expected):
    (box,) = call(tmp_path, "newBox", [[*corners, *LEAST]])
    assert box == pytest.approx(expected)


def test_random_new_boxes_are_legal(tmp_path):
    rng = random.Random(3)
    rows = [[*(rng.uniform(-0.2, 1.2) for _ in range(4)), *LEAST] for _ in range(500)]
    for (x0, y0, x1, y1, *_), box in zip(rows, call(tmp_path, "newBox", rows), strict=True):
        assert_legal(box)
        for low, high, a, b, least in (
            (box[0], box[2], x0, x1, LEAST[0]),
            (box[1], box[3], y0, y1, LEAST[1]),
        ):
            a, b = (min(1, max(0, v)) for v in sorted((a, b)))
            if b - a >= least:
                assert [low, high] == pytest.approx([a, b])
            else:
                assert high - low == pytest.approx(least)


def test_no_function_changes_what_it_is_given(tmp_path):
    expression = """(() => {
      const box = Object.freeze([...data]);
      m.dragBox(box, "se", 0.1, 0.1, 0, 0), m.dragBox(box, "move", 0.1, 0.1, 0, 0);
      m.nudgeBox(box, "ArrowUp", 0.1, 0.1, true, 0, 0);
      return box;
    })()"""
    assert run_node(tmp_path, "box_editor.js", expression, BIG) == BIG


STEPS_BACK = """(() => {
  const h = new m.History(3), seen = [[h.canUndo, h.canRedo, h.undo(), h.redo()]];
  const note = (value) => seen.push(JSON.parse(JSON.stringify([h.canUndo, h.canRedo, value])));
  const state = { boxes: [[0, 0, 1, 1]] };
  h.push(state), note("start");
  state.boxes[0][0] = 0.5;
  h.push(state), h.push({ boxes: [[0.5, 0, 1, 1]] }), note("one step");
  const back = h.undo();
  note(back);
  back.boxes.push("changed by the caller");
  note(h.redo()), note(h.undo());
  h.push("other"), note(h.redo());
  for (const v of [1, 2, 3, 4]) h.push(v);
  for (let i = 0; i < 4; i++) note(h.undo());
  return seen;
})()"""


def test_steps_back_and_forth(tmp_path):
    first, second = {"boxes": [[0, 0, 1, 1]]}, {"boxes": [[0.5, 0, 1, 1]]}
    assert run_node(tmp_path, "box_editor.js", STEPS_BACK) == [
        [False, False, None, None],
        [False, False, "start"],
        [True, False, "one step"],  # pushed twice, equal: one step
        [False, True, first],
        [True, False, second],
        [False, True, first],  # the caller's change did not reach it
        [True, False, None],  # a new step forgets those that were undone
        *([True, True, 3], [True, True, 2], [False, True, 1], [False, True, None]),  # three steps kept
    ]


def test_a_hundred_steps_by_default(tmp_path):
    expression = """(() => {
      const h = new m.History();
      for (let i = 0; i < 150; i++) h.push(i);
      let steps = 0, last = null;
      while (h.canUndo) (last = h.undo()), (steps += 1);
      return [steps, last];
    })()"""
    assert run_node(tmp_path, "box_editor.js", expression) == [100, 49]


def test_random_steps_against_two_stacks(tmp_path):
    rng = random.Random(4)
    doing = [rng.choice(["undo", "redo", rng.randrange(3), rng.randrange(3)]) for _ in range(400)]
    expression = """(() => {
      const h = new m.History(), values = [];
      for (const d of data) values.push(typeof d === "string" ? h[d]() : (h.push(d), d));
      return values;
    })()"""
    done, undone, expected = [], [], []
    for step in doing:
        if step == "undo":
            if len(done) > 1:
                undone.append(done.pop())
                expected.append(done[-1])
            else:
                expected.append(None)
        elif step == "redo":
            expected.append(undone[-1] if undone else None)
            done.extend([undone.pop()] if undone else [])
        else:
            expected.append(step)
            if not done or done[-1] != step:
                done, undone = [*done, step], []
    assert run_node(tmp_path, "box_editor.js", expression, doing) == expected


def test_the_module_stands_alone():
    assert "import" not in bundle("box_editor.js")
