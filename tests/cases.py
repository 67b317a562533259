"""What several test files build their cases from."""

import numpy as np
from hypothesis import strategies as st

from ssdedu.evaluate import DetectionArrays
from ssdedu.sample import Sample, Truth

CLASSES = ("cat", "dog", "cow")
SIZE = np.array([64, 32, 64, 32])  # width and height: powers of two, so that fractions of them are exact
THREE = [[0.1, 0.2, 0.5, 0.9], [0.45, 0.05, 0.98, 0.6], [0.0, 0.7, 0.2, 1.0]]


def truth(boxes_px=(), labels=None, difficult=None, name="a", size=SIZE):
    number = len(boxes_px)
    return Truth(
        (np.reshape(np.asarray(boxes_px, np.float32), (-1, 4)) / size).astype(np.float32),
        np.asarray([1] * number if labels is None else labels, np.int64),
        np.asarray([False] * number if difficult is None else difficult, bool),
        int(size[0]),
        int(size[1]),
        name,
    )


def detections(boxes_px=(), scores=(), labels=None, size=SIZE):
    labels = [1] * len(boxes_px) if labels is None else labels
    boxes = np.reshape(np.asarray(boxes_px, np.float32), (-1, 4)) / size
    return DetectionArrays(
        boxes.astype(np.float32), np.asarray(scores, np.float32), np.asarray(labels, np.int64)
    )


def noise(width_px=50, height_px=38, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def smooth(width_px=500, height_px=375, low=80.0, high=170.0):
    y, x = np.mgrid[:height_px, :width_px]
    waves = [np.sin(x / 60 + phase) * np.cos(y / 45 - phase) for phase in (0, 1, 2)]
    return np.rint(low + (high - low) * (np.stack(waves, -1) + 1) / 2).astype(np.uint8)


def sample_of(image, boxes, labels=None, difficult=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(1, len(boxes) + 1) if labels is None else labels
    difficult = np.zeros(len(boxes), bool) if difficult is None else difficult
    return Sample(image, boxes, np.array(labels, np.int64), np.array(difficult, bool), "a photo")


def random_boxes(rng, count):
    low = rng.uniform(0, 0.9, (count, 2))
    return np.hstack([low, np.minimum(low + rng.uniform(0.02, 0.7, (count, 2)), 1)]).astype(np.float32)


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def same(a, b):
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.difficult, b.difficult)
    assert a.name == b.name


@st.composite
def boxes(draw, number):
    """Whole pixels in a small corner, where they often meet; some without width or height."""
    corners = draw(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=number, max_size=number))
    return [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]


@st.composite
def an_image(draw):
    objects, found = draw(st.integers(0, 4)), draw(st.integers(0, 7))

    def several(strategy, number):
        return draw(st.lists(strategy, min_size=number, max_size=number))

    labels = st.sampled_from([1, 1, 1, 2])
    scores = several(st.sampled_from([0.1, 0.5, 0.7, 0.9]), found)
    return (
        truth(draw(boxes(objects)), several(labels, objects), several(st.booleans(), objects)),
        detections(draw(boxes(found)), scores, several(labels, found)),
    )


def texts(ax):
    return [t.get_text() for t in ax.texts]
