"""The suppression explorer: against `detect`, `boxes.nms` and slow loops, and the page's side number by number."""

import base64
import json

import numpy as np
import pytest
import torch
from cases import noise, sample_of, slow_iou
from node import needs_node, run_node

from ssdedu import boxes
from ssdedu.detect import detect
from ssdedu.widgets import NmsExplorer

CLASSES = ("cat", "dog", "cow")
LIMITS = (0.0, 0.1, 1 / 3, 0.45, 0.5, 0.6, 0.9, 1.0)


def explorer_of(boxes_xyxy, scores, objects=(), labels=(), classes=CLASSES, **options):
    """Offsets of 0 at the given boxes; scores (P, C - 1) of the classes, the rest is background."""
    scores = torch.as_tensor(scores, dtype=torch.float64).reshape(-1, len(classes))
    logits = torch.cat([1 - scores.sum(1, keepdim=True), scores], 1).clamp(min=1e-9).log().float()
    priors = boxes.xyxy_to_cxcywh(torch.as_tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4))
    sample = sample_of(noise(64, 32), objects, labels)
    return NmsExplorer(sample, torch.zeros_like(priors), logits, priors, classes, **options)


def outputs(seed, number=60, grid=False):
    """Offsets, logits and default boxes; on a grid boxes and scores are often equal."""
    g = torch.Generator().manual_seed(seed)
    centers, sizes = torch.rand(number, 2, generator=g), torch.rand(number, 2, generator=g) * 0.6 + 0.02
    logits = torch.randn(number, 4, generator=g) * 2
    offsets = torch.randn(number, 4, generator=g)
    if grid:
        centers, sizes = (centers * 4).round() / 4, ((sizes * 4).round() / 4).clamp(min=0.25)
        logits, offsets = logits.round(), torch.zeros(number, 4)
    return offsets, logits, torch.cat([centers, sizes], 1)


def random_explorer(seed, grid=False, number=60, **options):
    offsets, logits, priors = outputs(seed, number, grid)
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 4, (5, 2))
    objects = np.hstack([low, low + rng.integers(1, 4, (5, 2))]).clip(0, 4) / 4
    objects = objects[(objects[:, 2:] > objects[:, :2]).all(1)]
    sample = sample_of(noise(64, 32), objects, rng.integers(1, 4, len(objects)))
    return NmsExplorer(sample, offsets, logits, priors, CLASSES, **options)


def settings():
    for limit in LIMITS:
        for score in (0.01, 0.2, 0.5):
            for kind, agnostic in ((0, False), (0, True), (2, False)):
                yield {
                    "score_threshold": score,
                    "iou_threshold": limit,
                    "kind": kind,
                    "agnostic": agnostic,
                }


def iou32(a, b):
    """IoU of two boxes in numpy's float32, step by step."""
    zero = np.float32(0)
    w, h = (max(zero, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    area = [max(zero, c[2] - c[0]) * max(zero, c[3] - c[1]) for c in (a, b)]
    return (w * h) / max(area[0] + area[1] - w * h, np.finfo(np.float32).tiny)


def slow_suppression(explorer, score_threshold, iou_threshold, kind, agnostic):
    """The algorithm as one writes it: walk down the scores, ask every kept box."""
    boxes_xyxy, scores, labels = (t.numpy() for t in explorer.candidates)
    by, kept = [-1] * len(scores), []
    for i in range(len(scores)):
        if scores[i] <= np.float32(score_threshold) or kind not in (0, labels[i]):
            continue
        rivals = [j for j in kept if agnostic or labels[j] == labels[i]]
        covering = (j for j in rivals if iou32(boxes_xyxy[j], boxes_xyxy[i]) > np.float32(iou_threshold))
        by[i] = next(covering, i)
        if by[i] == i:
            kept.append(i)
    return kept, by


def slow_found(explorer, kept):
    cut, labels = explorer.candidates.boxes_xyxy.clamp(0, 1).tolist(), explorer.candidates.labels.tolist()
    return [
        any(labels[i] == o["label"] and slow_iou(cut[i], o["box"]) >= 0.5 for i in kept)
        for o in explorer.objects
    ]


# Python: against detect, boxes.nms and loops


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("most", [400, 6])
def test_kept_boxes_are_those_of_detect(grid, most):
    for seed in range(6):
        out = outputs(seed, 60, grid)
        explorer = random_explorer(seed, grid, candidates_per_class=most)
        for limit in LIMITS:
            for score in (0.01, 0.2, 0.5):
                options = {"score_threshold": score, "iou_threshold": limit, "candidates_per_class": most}
                (found,) = detect(out[0][None], out[1][None], out[2], max_detections=10**6, **options)
                kept = explorer.suppression(score_threshold=score, iou_threshold=limit).kept
                boxes_xyxy, scores, labels = (t[kept] for t in explorer.candidates)
                assert torch.equal(boxes.clip(boxes_xyxy), found.boxes_xyxy)
                assert torch.equal(scores, found.scores)
                assert torch.equal(labels, found.labels)


@pytest.mark.parametrize("grid", [False, True])
def test_suppression_against_a_loop(grid):
    for seed in range(4):
        explorer = random_explorer(seed, grid, 40)
        for setting in settings():
            kept, by, found = explorer.suppression(**setting)
            assert (kept.tolist(), by.tolist()) == slow_suppression(explorer, **setting)
            assert found.tolist() == slow_found(explorer, kept.tolist())


def test_one_competition_is_nms_of_all():
    for seed in range(4):
        explorer = random_explorer(seed, grid=seed % 2)
        boxes_xyxy, scores, _ = explorer.candidates
        kept = boxes.nms(boxes_xyxy, scores, 0.45)
        assert torch.equal(explorer.suppression(agnostic=True, score_threshold=0.01).kept, kept)


ROW = [[0, 0, 0.5, 0.5], [0.125, 0, 0.625, 0.5], [0.25, 0, 0.75, 0.5]]  # IoU 0.6, 0.6 and 1/3


def test_the_chain_by_hand():
    scores = [[0.9, 0, 0], [0.8, 0, 0], [0.7, 0, 0]]
    explorer = explorer_of(ROW, scores, [ROW[1], [0, 0.5, 1, 1]], [1, 1])
    assert explorer.suppression().by.tolist() == [0, 0, 2]
    assert explorer.suppression(iou_threshold=0.3).by.tolist() == [0, 0, 0]
    assert explorer.suppression(iou_threshold=0.7).by.tolist() == [0, 1, 2]
    assert explorer.counts() == (3, 3, 1, 2, 1, 2)
    assert explorer.counts(score_threshold=0.75) == (3, 2, 1, 1, 1, 2)
    assert explorer.counts(kind=2) == (0, 0, 0, 0, 0, 0)
    explorer.iou_threshold = 0.7
    assert explorer.counts() == explorer.counts(iou_threshold=0.7) == (3, 3, 0, 3, 1, 2)


def test_an_iou_at_the_threshold_is_allowed_and_equal_scores_go_in_order():
    half = [[0, 0, 1, 1], [0, 0, 0.5, 1], [0, 0, 1, 1]]  # IoU exactly 0.5, and equal boxes
    explorer = explorer_of(half, [[0.6, 0, 0]] * 3)
    assert explorer.suppression(iou_threshold=0.5).by.tolist() == [0, 1, 0]
    assert explorer.suppression(iou_threshold=0.49).by.tolist() == [0, 0, 0]
    assert explorer.suppression(iou_threshold=1).by.tolist() == [0, 1, 2]


def test_boxes_that_only_touch_survive_a_threshold_of_zero():
    explorer = explorer_of([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0.25, 0, 0.75, 1]], [[0.6, 0, 0]] * 3)
    assert explorer.suppression(iou_threshold=0).by.tolist() == [0, 1, 0]


def test_classes_compete_apart_or_together():
    explorer = explorer_of([ROW[0]] * 2, [[0.9, 0.05, 0], [0, 0.8, 0]], [ROW[0], ROW[0]], [1, 2])
    assert explorer.candidates.labels.tolist() == [1, 2, 2]
    assert explorer.suppression(score_threshold=0.01).by.tolist() == [0, 1, 1]
    assert explorer.suppression(score_threshold=0.01, agnostic=True).by.tolist() == [0, 0, 0]
    assert explorer.counts(agnostic=True)[-2:] == (1, 2)
    assert explorer.counts(kind=2) == (2, 1, 0, 1, 1, 1)


def test_a_box_over_the_border_competes_whole_and_finds_cut():
    over = [[-1, 0, 1, 1], [0, 0, 1, 1]]
    explorer = explorer_of(over, [[0.9, 0, 0], [0.8, 0, 0]], [[0, 0, 1, 1]], [1], iou_threshold=0.5)
    assert explorer.suppression().by.tolist() == [0, 1]
    assert explorer.suppression(score_threshold=0.85).found.tolist() == [True]


def test_nothing_there():
    empty = explorer_of(ROW, torch.zeros(3, 3))
    assert empty.counts() == (0, 0, 0, 0, 0, 0)
    assert repr(empty) == "NmsExplorer: 3 boxes, 3 classes, 0 objects"
    assert empty.suppression().found.shape == (0,)
    one = explorer_of(ROW[:1], [[0.9, 0, 0]])
    assert one.counts() == (1, 1, 0, 1, 0, 0)


def test_the_page_gets_the_exact_numbers_in_few_bytes():
    g = torch.Generator().manual_seed(0)
    offsets, logits = torch.randn(1000, 4, generator=g), torch.randn(1000, 9, generator=g)
    priors = torch.rand(1000, 4, generator=g)
    names = [f"class {k}" for k in range(8)]
    explorer = NmsExplorer(sample_of(noise(128, 128), [ROW[0]]), offsets, logits, priors, names)
    assert len(explorer.candidates.scores) == 8 * 400
    for name, kind, sent in zip(explorer.packed, ("<f4", "<f4", "<u2"), explorer.candidates, strict=True):
        numbers = np.frombuffer(base64.b64decode(explorer.packed[name]), kind)
        assert np.array_equal(numbers, sent.numpy().ravel())
    state = {k: v for k, v in explorer.get_state().items() if k not in ("_esm", "_css", "image")}
    assert len(json.dumps(state, default=str)) < 100_000
    assert explorer.image.startswith("data:image/png")
    photo = NmsExplorer(sample_of(noise(400, 300), [ROW[0]]), offsets, logits, priors, names)
    assert (photo.image[:15], photo.size_px) == ("data:image/jpeg", [400, 300])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 0.005}, "score_threshold must be 0.01 to 1, got 0.005"),
        ({"iou_threshold": 1.1}, "iou_threshold must be 0 to 1"),
        ({"floor": 0.0}, "floor must be 0.001 to 1"),
        ({"candidates_per_class": 0}, "candidates_per_class must be 1 or more, got 0"),
        ({"classes": ("cat", "dog")}, "expected offsets"),
    ],
)
def test_bad_options_are_refused(options, message):
    given = {"classes": CLASSES, **options}
    with pytest.raises(ValueError, match=message):
        NmsExplorer(sample_of(noise(), []), *outputs(0), **given)


def test_bad_numbers_and_settings_are_refused():
    offsets, logits, priors = outputs(0)
    with pytest.raises(ValueError, match="finite"):
        NmsExplorer(sample_of(noise(), []), offsets, logits / 0, priors, CLASSES)
    explorer = random_explorer(0)
    for name, value in {"kind": 4, "score_threshold": 0.001, "iou_threshold": -0.1}.items():
        with pytest.raises(ValueError, match=name):
            setattr(explorer, name, value)
        with pytest.raises(ValueError, match=name):
            explorer.counts(**{name: value})
    with pytest.raises(ValueError, match="no such setting: threshold"):
        explorer.counts(threshold=0.5)


# The page's side


COUNTED = """data.map(({ packed, objects, settings }) => {
  const table = m.unpack(packed);
  return settings.map((setting) => {
    const { kept, by } = m.suppress(table, setting);
    const found = m.foundObjects(table, objects, kept);
    return [kept, [...by], found, Object.values(m.counts(table, objects, { kept, by, found }, setting.kind))];
  });
})"""


@needs_node
def test_the_page_suppresses_the_same(tmp_path):
    explorers = [random_explorer(seed, grid=seed % 2 == 1, number=50) for seed in range(20)]
    flat = [[0, 0, 0, 1], [0, 0, 0, 1], [0.25, 0.5, 0.75, 0.5], [0, 0, 1, 1]]  # without area
    explorers += [
        explorer_of(ROW, [[0.9, 0, 0], [0.8, 0, 0], [0.7, 0, 0]], [ROW[1]], [1]),
        explorer_of(ROW, torch.zeros(3, 3), [ROW[1]], [1]),
        explorer_of(ROW[:1], [[0.9, 0, 0]]),
        explorer_of(flat, [[0.5, 0.2, 0]] * 4, [[0, 0, 1, 1]], [1]),
    ]
    cases = [{"packed": e.packed, "objects": e.objects, "settings": list(settings())} for e in explorers]
    for explorer, results in zip(explorers, run_node(tmp_path, "nms.js", COUNTED, cases), strict=True):
        for setting, result in zip(settings(), results, strict=True):
            outcome = [t.tolist() for t in explorer.suppression(**setting)]
            assert result == [*outcome, list(explorer.counts(**setting))]


@needs_node
def test_the_page_suppresses_the_same_among_many(tmp_path):
    explorer = random_explorer(7, number=900)
    chosen = [
        {"score_threshold": 0.01, "kind": 0, "agnostic": a, "iou_threshold": t}
        for a in (False, True)
        for t in LIMITS
    ]
    data = [{"packed": explorer.packed, "objects": explorer.objects, "settings": chosen}]
    (results,) = run_node(tmp_path, "nms.js", COUNTED, data)
    for setting, (kept, by, *_) in zip(chosen, results, strict=True):
        outcome = explorer.suppression(**setting)
        assert (kept, by) == (outcome.kept.tolist(), outcome.by.tolist())


@needs_node
def test_a_score_at_the_threshold_takes_no_part_on_the_page_either(tmp_path):
    scores = torch.tensor([0.3, 0.1, 0.01])
    arrays = {"boxes": np.zeros((3, 4), "<f4"), "scores": scores.numpy(), "labels": np.ones(3, "<u2")}
    packed = {name: base64.b64encode(a.tobytes()).decode() for name, a in arrays.items()}
    call = """data.limits.map((score_threshold) =>
      m.suppress(m.unpack(data.packed), { score_threshold, iou_threshold: 1, kind: 0, agnostic: false }).kept.length)"""
    limits = [0.3, 0.1, 0.01, 0.2]
    page = run_node(tmp_path, "nms.js", call, {"packed": packed, "limits": limits})
    assert page == [int((scores > limit).sum()) for limit in limits] == [0, 1, 2, 1]


@needs_node
def test_the_page_knows_iou_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    some = rng.uniform(-0.2, 1.2, (60, 4)).astype(np.float32)  # a quarter of them upside down
    some = np.vstack([some, np.round(some * 4) / 4, some[:5] * np.float32(1e-18)]).astype(np.float32)
    call = "data.flatMap((_, i) => data.map((_, j) => m.iouFloat32(data.flat(), i, data.flat(), j)))"
    page = run_node(tmp_path, "nms.js", call, some.tolist())
    ours = boxes.iou(torch.from_numpy(some), torch.from_numpy(some)).flatten()
    assert np.array_equal(np.array(page, np.float32), ours.numpy())


def replay(explorer, setting):
    """Kept, dropped in the step, waiting: after each kept box."""
    boxes_xyxy, scores, labels = explorer.candidates
    waiting, kept = (scores > setting["score_threshold"]).nonzero()[:, 0].tolist(), []
    yield kept, [], waiting
    while waiting:
        best, *rest = waiting
        same = [i for i in rest if setting["agnostic"] or labels[i] == labels[best]]
        ious = boxes.iou(boxes_xyxy[[best]], boxes_xyxy[same])[0]
        dropped = [i for i, iou in zip(same, ious, strict=True) if iou > setting["iou_threshold"]]
        kept, waiting = [*kept, best], [i for i in rest if i not in dropped]
        yield kept, dropped, waiting


@needs_node
def test_the_replay_against_the_loop_of_the_notebook(tmp_path):
    explorer = random_explorer(3, grid=True, number=40)
    for agnostic in (False, True):
        setting = {"score_threshold": 0.2, "iou_threshold": 0.3, "kind": 0, "agnostic": agnostic}
        steps = list(replay(explorer, setting))
        call = """[...Array(data.steps).keys(), null].map((k) => {
          const outcome = m.suppress(m.unpack(data.packed), data.setting);
          const { kept, dropped, waiting, last } = m.stageOf(outcome, k);
          return [kept, dropped, waiting, last];
        })"""
        data = {"packed": explorer.packed, "setting": setting, "steps": len(steps)}
        *stages, end = run_node(tmp_path, "nms.js", call, data)
        for (kept, dropped, waiting), stage in zip(steps[:-1], stages[:-1], strict=True):
            assert stage == [kept, dropped, waiting, kept[-1] if kept else None]
        everyone = sorted(i for _, dropped, _ in steps for i in dropped)
        assert stages[-1] == end == [steps[-1][0], everyone, [], None]


@needs_node
def test_the_rivals_of_a_box_are_those_that_waited(tmp_path):
    explorer = random_explorer(5, number=40)
    boxes_xyxy, scores, labels = explorer.candidates
    for agnostic in (False, True):
        setting = {"score_threshold": 0.1, "iou_threshold": 0.2, "kind": 0, "agnostic": agnostic}
        call = """(() => {
          const table = m.unpack(data.packed), outcome = m.suppress(table, data.setting);
          return outcome.kept.map((i) => m.rivalsOf(table, outcome, i, data.setting.agnostic));
        })()"""
        page = run_node(tmp_path, "nms.js", call, {"packed": explorer.packed, "setting": setting})
        for rivals, (kept, dropped, waiting) in zip(page, list(replay(explorer, setting))[1:], strict=True):
            best = kept[-1]
            wanted = [i for i in sorted(dropped + waiting) if agnostic or labels[i] == labels[best]]
            assert [r["i"] for r in rivals] == wanted
            assert [r["i"] for r in rivals if r["dropped"]] == dropped
            ious = boxes.iou(boxes_xyxy[[best]], boxes_xyxy[wanted])[0]
            assert [r["iou"] for r in rivals] == ious.tolist()
            assert [r["score"] for r in rivals] == scores[wanted].tolist()


@needs_node
def test_the_smallest_box_under_the_pointer(tmp_path):
    nested = [[-0.5, -0.5, 1, 1], [0, 0, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]]
    explorer = explorer_of(nested, [[0.9, 0, 0], [0.8, 0, 0], [0.7, 0, 0]])
    call = "data.points.map(([list, x, y]) => m.boxAt(m.unpack(data.packed), list, x, y))"
    points = [[[0, 1, 2], 0.3, 0.3], [[0, 1], 0.3, 0.3], [[0, 1, 2], 0.1, 0.1], [[0, 1, 2], 0.9, 0.9]]
    points += [[[1, 2], 0.9, 0.9], [[], 0.3, 0.3], [[2], 0.5, 0.5]]
    page = run_node(tmp_path, "nms.js", call, {"packed": explorer.packed, "points": points})
    assert page == [2, 1, 1, 0, None, None, 2]


@needs_node
def test_texts_stay_in_the_picture_and_apart(tmp_path):
    rng = np.random.default_rng(0)
    corners = (rng.uniform(0, 1, (60, 4)) * [300, 200, 300, 200]).tolist()
    boxes_px = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    call = """data.reduce((taken, box, k) => {
      const wide = 40 + k, spot = m.freeSpot(box, wide, taken, [300, 200]);
      return spot ? [...taken, [...spot, wide]] : taken;
    }, [])"""
    taken = run_node(tmp_path, "nms_draw.js", call, boxes_px)
    assert 10 < len(taken) < 60
    for k, (x, y, wide) in enumerate(taken):
        assert 0 <= x <= x + wide <= 300
        assert 0 <= y <= y + 17 <= 200
        for a, b, w in taken[:k]:
            assert x >= a + w or a >= x + wide or abs(y - b) >= 17


@needs_node
def test_the_walk_with_arrow_keys(tmp_path):
    call = "data.map(([selected, by]) => m.neighbour([4, 7, 9], selected, by))"
    moves = [[None, 1], [4, 1], [9, 1], [None, -1], [4, -1], [5, 1]]
    assert run_node(tmp_path, "nms_explorer.js", call, moves) == [4, 7, None, 9, None, 4]
    assert run_node(tmp_path, "nms_explorer.js", "m.neighbour([], null, 1)") is None


@needs_node
def test_what_the_page_says(tmp_path):
    n = {"candidates": 9, "above": 7, "suppressed": 4, "kept": 3, "found": 2, "objects": 5}
    call = "m.sentence(data, { score_threshold: 0.3, iou_threshold: 0.45 })"
    assert run_node(tmp_path, "nms_explorer.js", call, n) == (
        "Of 9 candidates 7 have a score above 0.30: 4 suppressed by an IoU above 0.45, 3 kept. "
        "2 of 5 objects found."
    )
    call = (
        "data.map((ious) => m.boxSentence('1 cat 0.90', ious.map((iou) => ({ iou, dropped: iou > 0.45 }))))"
    )
    ious = [[0.5, 0.1, 0.75], [0.2], [0.5 + k / 100 for k in range(9)]]
    assert run_node(tmp_path, "nms_explorer.js", call, ious) == [
        "Box 1 cat 0.90 suppresses 2, IoU 0.75, 0.50.",
        "Box 1 cat 0.90 suppresses no other.",
        "Box 1 cat 0.90 suppresses 9, IoU 0.58, 0.57, 0.56, 0.55, 0.54, 0.53, 0.52, 0.51 and less.",
    ]
