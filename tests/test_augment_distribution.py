"""`Augment` beside the original's pipeline written out: other random numbers, floats, a page, one try after another."""

import math
from functools import cache

import cv2
import numpy as np
import pytest
from cases import sample_of, smooth
from test_crops import caffe_crop

from ssdedu.augment import Augment

RUNS = 800
WIDTH, HEIGHT, SIZE = 100, 75, 48
OUTER, INNER = [0.15, 0.2, 0.75, 0.9], [0.6, 0.1, 0.8, 0.35]
FILL = np.array((123, 117, 104))
PIXELS = smooth(WIDTH, HEIGHT, 30, 225)
# where a pixel lies in the photo is seen from its colour in a second, undistorted picture
PLACES = np.stack(
    [
        np.broadcast_to(np.linspace(20, 220, WIDTH), (HEIGHT, WIDTH)),
        np.broadcast_to(np.linspace(20, 220, HEIGHT)[:, None], (HEIGHT, WIDTH)),
        np.full((HEIGHT, WIDTH), 255),
    ],
    axis=-1,
)


def caffe_distort(image, rng):
    """ApplyDistort on float colours: brightness, then contrast before or after saturation and hue."""

    def brightness(image):
        return image + rng.uniform(-32, 32)

    def contrast(image):
        return image * rng.uniform(0.5, 1.5)

    def saturation(image):
        hsv = cv2.cvtColor(np.float32(image / 255), cv2.COLOR_RGB2HSV)
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.5), 0, 1)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255.0

    def hue(image):
        hsv = cv2.cvtColor(np.float32(image / 255), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 2 * rng.uniform(-18, 18)) % 360
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255.0

    first = (brightness, contrast, saturation, hue)
    for act in first if rng.random() < 0.5 else (brightness, saturation, hue, contrast):
        if rng.random() < 0.5:
            image = np.clip(act(image), 0, 255)
    return image


def caffe_expand(image, boxes_px, rng):
    height, width = image.shape[:2]
    if rng.random() >= 0.5:
        return image, boxes_px
    ratio = rng.uniform(1, 4)
    page_height, page_width = int(height * ratio), int(width * ratio)
    left, top = int(rng.uniform(0, page_width - width)), int(rng.uniform(0, page_height - height))
    page = np.tile(FILL.astype(float), (page_height, page_width, 1))
    page[top : top + height, left : left + width] = image
    return page, [(b[0] + left, b[1] + top, b[2] + left, b[3] + top) for b in boxes_px]


def caffe(image, boxes, rng, distorted=True, expanded=True):
    """Distort, expand, sampled crop, resize, mirror, each done; the image as floats, and (index, box) of what stays."""
    image = caffe_distort(image.astype(float), rng) if distorted else image.astype(float)
    boxes_px = [(b[0] * WIDTH, b[1] * HEIGHT, b[2] * WIDTH, b[3] * HEIGHT) for b in boxes]
    if expanded:
        image, boxes_px = caffe_expand(image, boxes_px, rng)
    height, width = image.shape[:2]
    sides = (width, height, width, height)
    crop = caffe_crop([[v / s for v, s in zip(b, sides, strict=True)] for b in boxes_px], rng)
    left, top, right, bottom = (round(v * s) for v, s in zip(crop, sides, strict=True))
    image = image[top:bottom, left:right]
    kept = []
    for index, (xmin, ymin, xmax, ymax) in enumerate(boxes_px):
        if left <= (xmin + xmax) / 2 <= right and top <= (ymin + ymax) / 2 <= bottom:
            x = [min(max((v - left) / (right - left), 0), 1) for v in (xmin, xmax)]
            y = [min(max((v - top) / (bottom - top), 0), 1) for v in (ymin, ymax)]
            kept.append((index, (x[0], y[0], x[1], y[1])))
    ways = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
    image = cv2.resize(image, (SIZE, SIZE), interpolation=ways[rng.integers(5)])
    if rng.random() < 0.5:
        image = image[:, ::-1]
        kept = [(index, (1 - b[2], b[1], 1 - b[0], b[3])) for index, b in kept]
    return np.clip(image, 0, 255), kept


def described(image, kept):
    """What a result is compared by: of its colours, and of the boxes that stayed (nan for one that did not)."""
    inside = np.abs(image - FILL).max(-1) > 3
    off_the_rim = cv2.erode(np.uint8(inside), np.ones((3, 3))) == 1
    outer = dict(kept).get(0, [math.nan] * 4)
    inner = dict(kept).get(1, [math.nan] * 4)
    return {
        "objects": len(kept),
        "outer kept": float(not math.isnan(outer[0])),
        "inner kept": float(not math.isnan(inner[0])),
        "outer left": outer[0],
        "outer top": outer[1],
        "outer width": outer[2] - outer[0],
        "outer height": outer[3] - outer[1],
        "inner area": (inner[2] - inner[0]) * (inner[3] - inner[1]),
        "page": 1 - inside.mean(),
        **{f"mean {c}": image[..., i].mean() for i, c in enumerate("rgb")},
        **{f"deviation {c}": image[..., i].std() for i, c in enumerate("rgb")},
        "colourful": np.ptp(image, axis=-1)[off_the_rim].mean() if off_the_rim.any() else math.nan,
    }


def cut_out(image):
    """The patch of the photo that an undistorted PLACES shows; nan where little is seen."""
    x, y = ((image[..., i] - 20) / 200 for i in (0, 1))
    seen = image[..., 2] > 250
    if seen.mean() < 0.05:
        return dict.fromkeys(("crop left", "crop top", "crop width", "crop height", "aspect"), math.nan)
    low, high = np.array([v[seen].min() for v in (x, y)]), np.array([v[seen].max() for v in (x, y)])
    width, height = (high - low).tolist()
    return {
        "crop left": low[0], "crop top": low[1], "crop width": width, "crop height": height,
        "aspect": width / max(height, 0.01),
    }  # fmt: skip


def ours(image, rng, **options):
    out = Augment(SIZE, SIZE, **options)(sample_of(image, [OUTER, INNER]), rng)
    return out.image.astype(float), list(zip((out.labels - 1).tolist(), out.boxes_xyxy.tolist(), strict=True))


def columns(rows):
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@cache
def results():
    """Of both pipelines, over many runs: {name: numbers}."""
    places = np.rint(PLACES).astype(np.uint8)
    mine, theirs = np.random.default_rng(0), np.random.default_rng(1)
    boxes = np.array([OUTER, INNER], np.float32).tolist()
    a, b = [], []
    for _ in range(RUNS):
        a.append(
            described(*ours(PIXELS, mine))
            | cut_out(ours(places, mine, distort_probability=0, expand_probability=0)[0])
        )
        b.append(
            described(*caffe(PIXELS, boxes, theirs)) | cut_out(caffe(places, boxes, theirs, False, False)[0])
        )
    return columns(a), columns(b)


def kolmogorov_smirnov(a, b):
    """The largest gap of two empirical distributions, over what it exceeds with a probability of .001 where they agree.

    Some hundredths of the spread are added at random: a value that many results have may differ by its rounding.
    """
    rng, blur = np.random.default_rng(0), 0.05 * np.nanstd(b)
    a, b = (np.sort(v[~np.isnan(v)]) for v in (a, b))
    a, b = (np.sort(v + rng.uniform(-blur, blur, len(v))) for v in (a, b))
    grid = np.concatenate([a, b])
    gap = np.abs(
        np.searchsorted(a, grid, "right") / len(a) - np.searchsorted(b, grid, "right") / len(b)
    ).max()
    return gap / (1.95 * math.sqrt(1 / len(a) + 1 / len(b)))


NAMES = sorted(described(np.zeros((2, 2, 3)), []) | cut_out(np.zeros((2, 2, 3))))


@pytest.mark.parametrize("name", NAMES)
def test_results_are_distributed_as_those_of_the_original(name):
    a, b = (found[name] for found in results())
    assert abs(np.isnan(a).mean() - np.isnan(b).mean()) < 3.3 * math.sqrt(0.5 / RUNS)
    assert kolmogorov_smirnov(a, b) < 1
