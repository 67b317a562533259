"""Detections of 8 images from the outputs of an SSD300, by ssdedu and by its peers: softmax, decoding, suppression.

Everybody gets the same offsets (8, 8732, 4) and logits (8, 8732, 21) at the same default boxes. "Trained": what the
detector that ships makes of pieces of the two photos in data/photos; as many of their scores pass as of those of
VOC2007's test photos. "Surer": the same with the background's logits 2 higher, so that few pass. "Untrained": random
outputs near zero; every score passes. Scores above 0.01, suppression at IoU 0.45, the best 200 of an image.

ssdedu: `detect`, with torchvision's habits (boxes clipped before the suppression, sizes limited), so that both do the
same work; the facts say how many detections of an image, in order, are the same.
torchvision: `SSD.postprocess_detections` with its C++ suppression; the best 400 of a class, as ssdedu.
amdegroot/ssd.pytorch: softmax and `Detect`, as its SSD does. The best 200 of a class, and no limit over classes (its
line for that has no effect). Called by its forward, since today's torch refuses a function of that kind otherwise.
lufficc/SSD: softmax, decoding and `PostProcessor`, as its SSDBoxHead does. No limit of candidates. Mended from outside:
it takes torchvision 0.28 for older than 0.3, so the suppression of its extension is torchvision's, as it wants there.
sgrvinod/a-PyTorch-Tutorial-to-Object-Detection: `detect_objects`. No limit of candidates.
The last two need minutes for 8 images of which every score passes; they have a contest of one image.
limit: softmax and decoding alone.

Where ssdedu's time goes: "trained": half of it is suppression (of the 730 best candidates of an image, until 200 stay),
a sixth finds the best 400 of each class, an eighth is softmax. "Untrained": a tenth is suppression, since hardly more
than the 200 best candidates are looked at, and half finds the best 400 of each class.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import torch
from bench import Contest, Goal, main
from peers import AMDEGROOT, LUFFICC, SGRVINOD, Absent, Peers
from torch import Tensor

from ssdedu import boxes, inference, weights
from ssdedu.detect import Detections, detect
from ssdedu.shipped import find

NAME = "detect"
TORCHVISION = "torchvision"
SCORE, IOU, CANDIDATES, MOST = 0.01, 0.45, 400, 200
CLASSES, SIZE_PX, BATCH, SEED = 21, 300, 8, 0
PHOTOS = ("data/photos/astronaut.jpg", "data/photos/cat.jpg")
LATER = "more than 10 s an image; see the contest of one image"
_SAME = 1e-5  # of the image's side: boxes that are equal but for rounding


class Outputs(NamedTuple):
    """What a network says of some images: offsets (B, P, 4) and logits (B, P, C) at default boxes (P, 4)."""

    offsets: Tensor
    logits: Tensor
    priors: Tensor

    def first(self, number: int) -> Outputs:
        """Those of the first images alone."""
        return Outputs(self.offsets[:number], self.logits[:number], self.priors)


Detector = Callable[[Outputs], object]


def make(peers: Peers, tiny: bool) -> list[Contest]:
    """Outputs of a trained net, of a surer one, and of an untrained one, the last also of one image."""
    for text in ("An output with one or more elements", "indexing with dtype torch.uint8"):
        warnings.filterwarnings("ignore", text)
    batch = 2 if tiny else BATCH
    outputs = trained(batch)
    quick: dict[str, Detector | Absent] = {TORCHVISION: torchvision(peers), AMDEGROOT: amdegroot(peers)}
    slow = {LUFFICC: lufficc(peers), SGRVINOD: sgrvinod(peers)}
    later = {n: d if isinstance(d, Absent) else Absent(LATER) for n, d in slow.items()}
    name, random = "decode + per-class NMS", untrained(batch, outputs.priors)
    return [
        _contest(f"{name}, batch {batch}, trained", outputs, quick | slow, 0.55),
        _contest(f"{name}, batch {batch}, surer", surer(outputs), quick | slow),
        _contest(f"{name}, batch {batch}, untrained", random, quick | later, 0.2),
        _contest(f"{name}, one image, untrained", random.first(1), quick | slow),
    ]


def _contest(
    name: str, outputs: Outputs, others: Mapping[str, Detector | Absent], at_most: float | None = None
) -> Contest:
    works = {n: d if isinstance(d, Absent) else partial(d, outputs) for n, d in others.items()}
    goal = Goal(at_most, TORCHVISION) if at_most else None
    peer = others[TORCHVISION]
    return Contest(
        name,
        partial(ours, outputs),
        works,
        goal,
        partial(softmax_and_decode, outputs),
        facts=partial(facts, None if isinstance(peer, Absent) else peer, outputs),
    )


def trained(batch: int) -> Outputs:
    """What the shipped detector says of so many pieces of the photos."""
    network = weights.shipped("voc").model.eval()
    with torch.inference_mode():
        offsets, logits = network(inference._stack(network, pieces(batch)))
    return Outputs(offsets.float().clone(), logits.float().clone(), network.priors_cxcywh)


def pieces(number: int) -> list[np.ndarray]:
    """Pieces (H, W, 3) of the photos in turn, half to all of a side."""
    photos = [cv2.cvtColor(cv2.imread(str(find(name))), cv2.COLOR_BGR2RGB) for name in PHOTOS]
    rng = np.random.default_rng(SEED)
    return [_piece(photos[i % len(photos)], rng) for i in range(number)]


def _piece(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = rng.uniform(0.5, 1)
    height, width = (int(scale * side) for side in photo.shape[:2])
    top, left = (
        rng.integers(0, side - part + 1) for side, part in zip(photo.shape, (height, width), strict=False)
    )
    return photo[top : top + height, left : left + width]


def surer(outputs: Outputs) -> Outputs:
    """The same with higher logits of the background."""
    more = torch.zeros(outputs.logits.shape[-1])
    more[0] = 2
    return outputs._replace(logits=outputs.logits + more)


def untrained(batch: int, priors: Tensor) -> Outputs:
    """Small random numbers."""
    generator = torch.Generator().manual_seed(SEED)
    offsets, logits = (torch.randn(batch, len(priors), n, generator=generator) for n in (4, CLASSES))
    return Outputs(0.1 * offsets, 0.05 * logits, priors)


def ours(outputs: Outputs) -> list[Detections]:
    """Detections by ssdedu, with torchvision's habits."""
    return detect(
        *outputs,
        score_threshold=SCORE,
        candidates_per_class=CANDIDATES,
        iou_threshold=IOU,
        max_detections=MOST,
        clip_first=True,
        max_log_size=math.log(1000 / 16),
    )


def softmax_and_decode(outputs: Outputs) -> None:
    """What nobody can skip."""
    outputs.logits.softmax(-1)
    boxes.decode(outputs.offsets, outputs.priors)


def torchvision(peers: Peers) -> Detector | Absent:
    """The second half of its SSD, without the network."""
    ssd = peers.package("torchvision.models.detection.ssd", version_of="torchvision")
    return ssd if isinstance(ssd, Absent) else partial(_torchvision, ssd)


@torch.no_grad()
def _torchvision(ssd: ModuleType, outputs: Outputs) -> list[dict[str, Tensor]]:
    settings = {
        "score_thresh": SCORE,
        "nms_thresh": IOU,
        "detections_per_img": MOST,
        "topk_candidates": CANDIDATES,
    }
    detector = SimpleNamespace(box_coder=ssd.det_utils.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)), **settings)
    heads = {"bbox_regression": outputs.offsets, "cls_logits": outputs.logits}
    anchors_px, number = boxes.cxcywh_to_xyxy(outputs.priors) * SIZE_PX, len(outputs.logits)
    sizes_px = [(SIZE_PX, SIZE_PX)] * number
    return ssd.SSD.postprocess_detections(detector, heads, [anchors_px] * number, sizes_px)


def amdegroot(peers: Peers) -> Detector | Absent:
    """Its Detect as its SSD makes it."""
    found = peers.port(AMDEGROOT, "layers.functions.detection")
    if isinstance(found, Absent):
        return found
    return partial(_amdegroot, found[0].Detect(CLASSES, 0, MOST, SCORE, IOU))


@torch.no_grad()
def _amdegroot(detector: Any, outputs: Outputs) -> Tensor:
    return detector.forward(outputs.offsets, outputs.logits.softmax(-1), outputs.priors)


def lufficc(peers: Peers) -> Detector | Absent:
    """What its SSDBoxHead does behind its predictor."""
    ops = peers.package("torchvision.ops", version_of="torchvision")
    if isinstance(ops, Absent):
        return ops
    with patch.dict(sys.modules, {"torch_extension": SimpleNamespace(nms=ops.nms)}):
        found = peers.port(LUFFICC, "ssd.modeling.box_head.inference", "ssd.utils.box_utils")
    if isinstance(found, Absent):
        return found
    test = SimpleNamespace(
        CONFIDENCE_THRESHOLD=SCORE, NMS_THRESHOLD=IOU, MAX_PER_IMAGE=MOST, MAX_PER_CLASS=-1
    )
    settings = SimpleNamespace(INPUT=SimpleNamespace(IMAGE_SIZE=SIZE_PX), TEST=test)
    return partial(_lufficc, found[0].PostProcessor(settings), found[1])


@torch.no_grad()
def _lufficc(post_processor: Callable[..., list[Any]], box_utils: ModuleType, outputs: Outputs) -> list[Any]:
    centers = box_utils.convert_locations_to_boxes(outputs.offsets, outputs.priors, *boxes.VARIANCES[1:3])
    return post_processor((outputs.logits.softmax(2), box_utils.center_form_to_corner_form(centers)))


def sgrvinod(peers: Peers) -> Detector | Absent:
    """Its SSD300's method, without the network."""
    found = peers.port(SGRVINOD, "model")
    return found if isinstance(found, Absent) else partial(_sgrvinod, found[0].SSD300.detect_objects)


@torch.no_grad()
def _sgrvinod(
    detect_objects: Callable[..., tuple[list[Tensor], ...]], outputs: Outputs
) -> tuple[list[Tensor], ...]:
    network = SimpleNamespace(priors_cxcy=outputs.priors, n_classes=CLASSES)
    return detect_objects(network, outputs.offsets, outputs.logits, SCORE, IOU, MOST)


def facts(peer: Callable[[Outputs], list[dict[str, Tensor]]] | None, outputs: Outputs) -> dict[str, Any]:
    """What passes, what is found, and how much of it torchvision finds too."""
    passed = (outputs.logits.softmax(-1)[..., 1:] > SCORE).sum(1)
    found = ours(outputs)
    about = {
        "scores above 0.01 an image": round(float(passed.sum()) / len(found), 1),
        "candidates an image": round(float(passed.clamp(max=CANDIDATES).sum()) / len(found), 1),
        "detections an image": round(sum(map(len, found)) / len(found), 1),
    }
    return about if peer is None else about | agreement(found, peer(outputs))


def agreement(found: list[Detections], theirs: list[dict[str, Tensor]]) -> dict[str, Any]:
    """How many detections are torchvision's in the same order: same label, score and box but for rounding."""
    pairs = list(zip(found, theirs, strict=True))
    return {
        "detections": sum(len(a) for a, _ in pairs),
        "torchvision's": sum(len(b["labels"]) for _, b in pairs),
        "the same": sum(int(_same(a, b).sum()) for a, b in pairs),
    }


def _same(a: Detections, b: Mapping[str, Tensor]) -> Tensor:
    number = min(len(a), len(b["labels"]))
    scores = (a.scores[:number] - b["scores"][:number]).abs() < _SAME
    near = (a.boxes_xyxy[:number] - b["boxes"][:number] / SIZE_PX).abs().amax(-1) < _SAME
    return (a.labels[:number] == b["labels"][:number]) & scores & near


if __name__ == "__main__":
    main(__doc__, NAME, make)
