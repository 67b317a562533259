"""SSD300 as amdegroot/ssd.pytorch and torchvision do it, from what they document: slow, and without our modules.

For each: random tensors in its layout, its preprocessing, forward pass, default boxes and post-processing.
"""

import itertools
import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F

CHANNELS, BOXES = (512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)
CELLS, STEPS = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
RATIOS = ([2], [2, 3], [2, 3], [2, 3], [2], [2])
VGG = [
    *[(0, 64, 3), (2, 64, 64), (5, 128, 64), (7, 128, 128), (10, 256, 128), (12, 256, 256), (14, 256, 256)],
    *[(17, 512, 256), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512)],
]
EXTRAS = [
    *[(256, 1024, 1), (512, 256, 3), (128, 512, 1), (256, 128, 3)],
    *[(128, 256, 1), (256, 128, 3), (128, 256, 1), (256, 128, 3)],
]


class Amdegroot:
    """`build_ssd("test", 300, C)` of amdegroot/ssd.pytorch, its eval.py and data/config.py."""

    name = "amdegroot"

    @staticmethod
    def shapes(classes):
        """(key of a layer, outputs, inputs, kernel) of every convolution, and the key of the L2 normalisation."""
        yield from ((f"vgg.{i}", o, n, 3) for i, o, n in VGG)
        yield from (("vgg.31", 1024, 512, 3), ("vgg.33", 1024, 1024, 1))
        yield from ((f"extras.{i}", *shape) for i, shape in enumerate(EXTRAS))
        for i, (depth, k) in enumerate(zip(CHANNELS, BOXES, strict=True)):
            yield f"loc.{i}", k * 4, depth, 3
            yield f"conf.{i}", k * classes, depth, 3

    scale_key = "L2Norm.weight"

    @staticmethod
    def input(image):
        """BGR bytes, resized to bytes, minus the mean, and only then RGB."""
        small = cv2.resize(image[:, :, ::-1].copy(), (300, 300)).astype(np.float32)
        small -= np.array([104, 117, 123], np.float32)
        return torch.from_numpy(small[:, :, ::-1].copy()).permute(2, 0, 1)[None]

    @classmethod
    def forward(cls, state, x):
        def conv(key, x, **how):
            return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], **how)

        sources = []
        for i in range(35):
            if i == 23:
                norm = (x * x).sum(1, keepdim=True).sqrt() + 1e-10
                sources.append(x / norm * state["L2Norm.weight"].view(1, -1, 1, 1))
            if i in (4, 9, 16, 23):
                x = F.max_pool2d(x, 2, 2, ceil_mode=i == 16)
            elif i == 30:
                x = F.max_pool2d(x, 3, 1, 1)
            elif f"vgg.{i}.weight" in state:
                x = conv(f"vgg.{i}", x, **{31: {"padding": 6, "dilation": 6}, 33: {}}.get(i, {"padding": 1}))
            else:
                x = F.relu(x)
        sources.append(x)
        for i in range(8):
            how = {1: {"stride": 2, "padding": 1}, 3: {"stride": 2, "padding": 1}}.get(i, {})
            x = F.relu(conv(f"extras.{i}", x, **how))
            if i % 2:
                sources.append(x)
        heads = [
            [conv(f"{head}.{i}", s, padding=1).permute(0, 2, 3, 1).reshape(-1) for i, s in enumerate(sources)]
            for head in ("loc", "conf")
        ]
        offsets, logits = (torch.cat(parts) for parts in heads)
        return offsets.view(-1, 4), logits.view(8732, -1)

    @staticmethod
    def priors():
        """All four numbers clamped; the sizes are VOC's."""
        sizes, rows = (30, 60, 111, 162, 213, 264, 315), []
        for k, cells in enumerate(CELLS):
            for i, j in itertools.product(range(cells), repeat=2):
                cx, cy = ((v + 0.5) / (300 / STEPS[k]) for v in (j, i))
                s, other = sizes[k] / 300, math.sqrt(sizes[k] / 300 * (sizes[k + 1] / 300))
                rows += [[cx, cy, s, s], [cx, cy, other, other]]
                for ratio in RATIOS[k]:
                    w, h = s * math.sqrt(ratio), s / math.sqrt(ratio)
                    rows += [[cx, cy, w, h], [cx, cy, h, w]]
        return [[min(1.0, max(0.0, v)) for v in row] for row in rows]

    @classmethod
    def detect(cls, offsets, logits, priors):
        """Per class the best 200 above .01, suppressed at .45; no limit over classes. (label, score, box) each."""
        found, near = [], []
        scores = logits.double().softmax(-1)
        decoded = [_decode(o, p) for o, p in zip(offsets.tolist(), priors, strict=True)]
        for label in range(1, logits.shape[1]):
            chosen = _best(scores[:, label].tolist(), 200, near)
            kept = _suppress([(s, decoded[i]) for s, i in chosen], near)
            found += [(label, score, box) for score, box in kept]
        return found, min(near)


class Torchvision:
    """`torchvision.models.detection.ssd300_vgg16`."""

    name = "torchvision"
    CONV4_3 = VGG[:10]

    @classmethod
    def shapes(cls, classes):
        yield from ((f"backbone.features.{i}", o, n, 3) for i, o, n in cls.CONV4_3)
        yield from ((f"backbone.extra.0.{i}", 512, 512, 3) for i in (1, 3, 5))
        yield from (("backbone.extra.0.7.1", 1024, 512, 3), ("backbone.extra.0.7.3", 1024, 1024, 1))
        yield from ((f"backbone.extra.{1 + i // 2}.{i % 2 * 2}", *shape) for i, shape in enumerate(EXTRAS))
        for i, (depth, k) in enumerate(zip(CHANNELS, BOXES, strict=True)):
            yield f"head.regression_head.module_list.{i}", k * 4, depth, 3
            yield f"head.classification_head.module_list.{i}", k * classes, depth, 3

    scale_key = "backbone.scale_weight"

    @staticmethod
    def input(image):
        """0 .. 1, normalised, and only then resized, in floating point."""
        x = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(3, 1, 1)
        std = torch.tensor([1 / 255.0] * 3).view(3, 1, 1)
        return F.interpolate(((x - mean) / std)[None], size=(300, 300), mode="bilinear", align_corners=False)

    @classmethod
    def forward(cls, state, x):
        def conv(key, x, **how):
            return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], **how)

        for i, _, _ in cls.CONV4_3:
            if i in (5, 10, 17):
                x = F.max_pool2d(x, 2, 2, ceil_mode=i == 17)
            x = F.relu(conv(f"backbone.features.{i}", x, padding=1))
        sources = [state["backbone.scale_weight"].view(1, -1, 1, 1) * F.normalize(x)]
        x = F.max_pool2d(x, 2, 2)
        for i in (1, 3, 5):
            x = F.relu(conv(f"backbone.extra.0.{i}", x, padding=1))
        x = F.max_pool2d(x, 3, 1, 1)
        x = F.relu(conv("backbone.extra.0.7.1", x, padding=6, dilation=6))
        sources.append(F.relu(conv("backbone.extra.0.7.3", x)))
        for i in (1, 2, 3, 4):
            how = {"stride": 2, "padding": 1} if i < 3 else {}
            x = F.relu(conv(f"backbone.extra.{i}.0", sources[-1]))
            sources.append(F.relu(conv(f"backbone.extra.{i}.2", x, **how)))
        outputs = []
        for head, columns in (("regression", 4), ("classification", None)):
            rows = []
            for i, source in enumerate(sources):
                y = conv(f"head.{head}_head.module_list.{i}", source, padding=1)
                numbers = columns or y.shape[1] // BOXES[i]
                y = y.view(1, -1, numbers, *y.shape[-2:])  # N, A, K, H, W
                rows.append(y.permute(0, 3, 4, 1, 2).reshape(-1, numbers))
            outputs.append(torch.cat(rows))
        return outputs

    @staticmethod
    def priors():
        """COCO's sizes; widths and heights clamped."""
        scales, rows = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), []
        for k, cells in enumerate(CELLS):
            pairs = [(scales[k], scales[k]), (math.sqrt(scales[k] * scales[k + 1]),) * 2]
            for ratio in RATIOS[k]:
                w, h = scales[k] * math.sqrt(ratio), scales[k] / math.sqrt(ratio)
                pairs += [(w, h), (h, w)]
            for i, j in itertools.product(range(cells), repeat=2):
                cx, cy = ((v + 0.5) / (300 / STEPS[k]) for v in (j, i))
                rows += [[cx, cy, min(1.0, w), min(1.0, h)] for w, h in pairs]
        return rows

    @classmethod
    def detect(cls, offsets, logits, priors):
        """ln of sizes at most ln(1000 / 16), clipped, 400 per class above .01, suppressed at .45, 200 over classes."""
        found, near = [], []
        scores = logits.double().softmax(-1)
        limit = math.log(1000 / 16)
        decoded = [_decode(o, p, limit) for o, p in zip(offsets.tolist(), priors, strict=True)]
        clipped = [[min(1.0, max(0.0, v)) for v in box] for box in decoded]
        for label in range(1, logits.shape[1]):
            chosen = _best(scores[:, label].tolist(), 400, near)
            kept = _suppress([(s, clipped[i]) for s, i in chosen], near)
            found += [(label, score, box) for score, box in kept]
        found.sort(key=lambda f: -f[1])
        near += [_apart(found[199][1], found[200][1])] if len(found) > 200 else []
        return found[:200], min(near)


OTHERS = (Amdegroot, Torchvision)


def random_state(other, classes, seed=0, background=0.0):
    """Random tensors in the layout of `other`, of such sizes that scores and boxes vary; background: its head start."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for key, outputs, inputs, kernel in other.shapes(classes):
        head = any(part in key for part in ("loc.", "conf.", "head."))
        gain = 1.5 if head else math.sqrt(2)
        scale = (
            gain
            / math.sqrt(inputs * kernel * kernel)
            / (60 if key.endswith((".0", "s.0")) and inputs == 3 else 1)
        )
        state[f"{key}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=g) * scale
        state[f"{key}.bias"] = torch.randn(outputs, generator=g) * 0.1
        if "conf." in key or "classification" in key:
            state[f"{key}.bias"].view(-1, classes)[:, 0] += background
    state[other.scale_key] = 15 + 10 * torch.rand(512, generator=g)
    return state


def _decode(offsets, prior, limit=math.inf):
    cx, cy, w, h = prior
    x, y = cx + offsets[0] * 0.1 * w, cy + offsets[1] * 0.1 * h
    half_w, half_h = (
        math.exp(min(o * 0.2, limit)) * side / 2 for o, side in ((offsets[2], w), (offsets[3], h))
    )
    return [x - half_w, y - half_h, x + half_w, y + half_h]


def _best(scores, most, near):
    """(score, index) of the best above .01; `near` receives how near a score was to being treated otherwise."""
    near.append(min(_apart(s, 0.01) for s in scores))
    ranked = sorted(((s, i) for i, s in enumerate(scores) if s > 0.01), key=lambda pair: (-pair[0], pair[1]))
    near += [_apart(ranked[most - 1][0], ranked[most][0])] if len(ranked) > most else []
    return ranked[:most]


def _apart(a, b):
    """A difference of scores, a tenth of the relative one, so that one bound serves for IoUs too."""
    return abs(a - b) / b / 10


def _suppress(ranked, near):
    kept = []
    for score, box in ranked:
        overlaps = [_iou(box, other) for _, other in kept]
        near += [abs(v - 0.45) for v in overlaps if not math.isnan(v)]
        if not any(v > 0.45 for v in overlaps):
            kept.append((score, box))
    return kept


def _iou(a, b):
    w, h = max(0.0, min(a[2], b[2]) - max(a[0], b[0])), max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union if union else math.nan
