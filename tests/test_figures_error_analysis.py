"""What the figures of the error analysis draw equals what they were given."""

import numpy as np
import pytest
from cases import detections

from ssdedu.course.display import _check_readable
from ssdedu.course.figures import error_analysis as figures
from ssdedu.datasets.shapes import Shapes
from ssdedu.errors import KINDS, diagnose
from ssdedu.evaluate import evaluate_voc

SCENES = Shapes(3, seed=5)
SIZE = np.full(4, 128)
TRUTHS = [SCENES.truth(i) for i in range(3)]


def found_in(image, places, label_shift=0):
    """Detections of some objects of one scene, and nothing in the others."""
    chosen = SCENES[image]
    labels = (chosen.labels[places] - 1 + label_shift) % 8 + 1
    scores = np.linspace(0.9, 0.6, len(places))
    hits = detections(chosen.boxes_xyxy[places] * 128, scores, labels, SIZE)
    return [hits if i == image else detections(size=SIZE) for i in range(3)]


def test_the_surest_of_a_kind_is_shown_with_its_object():
    found = found_in(1, [2, 0])
    shown = figures.surest("correct", diagnose(found, TRUTHS, SCENES.classes), found, SCENES)
    name = SCENES.classes[SCENES[1].labels[2] - 1]
    assert shown.sample is SCENES[1]
    assert shown.title == f"correct: {name}"
    assert shown.fact == f"score 0.900, IoU 1.000 with a {name}"
    assert np.allclose(shown.object_px, SCENES[1].boxes_xyxy[2] * 128)
    assert np.allclose(shown.detection_px, shown.object_px)
    with pytest.raises(ValueError, match="no detection is of the kind 'background'"):
        figures.surest("background", diagnose(found, TRUTHS, SCENES.classes), found, SCENES)


def test_a_detection_on_nothing_has_no_object():
    found = [detections([(0, 0, 0.25, 0.25)], [0.7], [4], SIZE), *found_in(1, [])[1:]]
    shown = figures.surest("background", diagnose(found, TRUTHS, SCENES.classes), found, SCENES)
    assert (shown.title, shown.fact, shown.object_px) == (
        "background: frame",
        "score 0.700, on nothing",
        None,
    )


@pytest.mark.parametrize("image", [0, 2])
def test_the_largest_missed_object(image):
    number = len(SCENES[image])
    side = (SCENES[image].boxes_xyxy[:, 2:] - SCENES[image].boxes_xyxy[:, :2]).prod(1) ** 0.5 * 128
    largest = int(side.argmax())
    only = [t if i == image else Shapes(1, 9).truth(0) for i, t in enumerate(TRUTHS)]
    others = [detections(t.boxes_xyxy * 128, [0.9] * len(t), t.labels, SIZE) for t in only]
    others[image] = found_in(image, [k for k in range(number) if k != largest])[image]
    shown = figures.largest_missed(evaluate_voc(others, only, SCENES.classes), SCENES)
    assert shown.sample is SCENES[image]
    assert shown.fact == f"side {side[largest]:.1f} px"
    assert np.allclose(shown.object_px, SCENES[image].boxes_xyxy[largest] * 128)
    assert shown.detection_px is None
    whole = [detections(t.boxes_xyxy * 128, [0.9] * len(t), t.labels, SIZE) for t in TRUTHS]
    with pytest.raises(ValueError, match="no object was missed"):
        figures.largest_missed(evaluate_voc(whole, TRUTHS, SCENES.classes), SCENES)


def test_examples_frame_what_they_were_given():
    frames = [((10, 20, 30, 50), (12, 20, 33, 52)), ((100, 0, 127, 90), None), (None, (0, 0, 128, 128))]
    fig = figures.examples(
        [figures.Example(SCENES[0], f"no. {i}", *pair) for i, pair in enumerate(frames)], 2
    )
    assert [ax.get_title() for ax in fig.axes] == ["no. 0", "no. 1", "no. 2", ""]
    for ax, (thing, found) in zip(fig.axes, frames, strict=False):
        colored = [p for p in ax.patches if p.get_label()]
        drawn = [p.get_bbox().extents.tolist() for p in colored]
        assert drawn == [list(map(float, box)) for box in (found, thing) if box is not None]
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert right - left == pytest.approx(bottom - top)
        assert all(left <= x1 < x2 <= right and top <= y1 < y2 <= bottom for x1, y1, x2, y2 in drawn)
    _check_readable(fig)


def test_cumulative_shares_and_recalls():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 5, 400)
    shares = np.cumsum(kinds[:, None] == np.arange(5), 0) / np.arange(1, 401)[:, None]
    recall = np.linspace(0.1, 0.8, 400)
    fig = figures.cumulative(shares, {"strong": recall, "weak": recall + 0.1}, 100)
    (ax,) = fig.axes
    strong, weak = ax.lines
    rank = np.round(strong.get_xdata() * 100).astype(int)
    assert rank[-1] == 400
    assert np.allclose(strong.get_ydata(), recall[rank - 1])
    assert np.allclose(weak.get_ydata(), recall[rank - 1] + 0.1)
    assert [band.get_label() for band in ax.collections] == list(KINDS[:5])
    heights = [band.get_paths()[0].vertices[1:, 1].max() for band in ax.collections]
    tops = np.cumsum(shares[rank - 1], 1).max(0)
    assert np.allclose(heights, tops)
    _check_readable(fig)


def test_the_confusion_matrix_shows_every_number():
    matrix = np.array([[0, 3, 0], [1, 1200, 2], [0, 4, 50]])
    fig = figures.confusion(matrix, ("cat", "dog"))
    (ax,) = fig.axes
    written = {tuple(int(v) for v in t.get_position()): t.get_text() for t in ax.texts}
    assert written == {(c, r): f"{n:,}" for (r, c), n in np.ndenumerate(matrix) if n}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["nothing", "cat", "dog"]
    shade = ax.images[0].get_array()
    assert shade.diagonal().tolist() == [0, 0, 0]
    assert shade[2, 1] == 4
    _check_readable(fig)


def test_paired_bars():
    panels = {
        "size": {"reached": [0.1, 0.5], "found": [0.2, 0.4]},
        "ratio": {"reached": [1.0], "found": [0.0]},
    }
    fig = figures.paired_bars(panels, [("small", "large"), ("all",)])
    for ax, series in zip(fig.axes, panels.values(), strict=True):
        for bars, values in zip(ax.containers, series.values(), strict=True):
            assert [bar.get_height() for bar in bars] == values
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["small", "large"]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["reached", "found"]
    _check_readable(fig)
