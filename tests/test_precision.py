"""The detections do not depend on how the forward pass is computed, but for rounding."""

import cv2
import pytest
import torch

from ssdedu import shipped, weights
from ssdedu.boxes import iou
from ssdedu.inference import _stack, detect_tensor


@pytest.fixture(scope="module")
def images():
    """Both photos that ship, mirrored ones, and parts of them."""
    photos = [cv2.imread(str(shipped.find(f"data/photos/{n}.jpg")))[..., ::-1] for n in ("cat", "astronaut")]
    views = []
    for photo in photos:
        top, left = photo.shape[0] // 4, photo.shape[1] // 4
        views += [photo, photo[:, ::-1], photo[:-top, :-left], photo[top:, left:]]
    return _stack(weights.shipped("voc").model, [v.copy() for v in views])


@pytest.fixture(scope="module")
def exact(images):
    """In single precision, channels first, by torch's own convolutions."""
    net = weights.shipped("voc").model.to(memory_format=torch.contiguous_format)
    with torch.inference_mode():
        return detect_tensor(net, images.contiguous(), "float32")


def partners(found, others, score, iou_at_least, score_within):
    """For each detection above the score the number of others of its label that lie and score nearly the same."""
    found = found.above(score)
    near = iou(found.boxes_xyxy, others.boxes_xyxy) >= iou_at_least
    near &= found.labels[:, None] == others.labels
    near &= (found.scores[:, None] - others.scores).abs() <= score_within
    return near.sum(1)


@pytest.mark.parametrize(("precision", "score", "iou_at_least", "score_within"), [
    ("float32", 0.02, 0.999, 1e-5), ("bfloat16", 0.3, 0.95, 0.05), ("auto", 0.3, 0.95, 0.05),
])  # fmt: skip
def test_the_detections_are_the_same(images, exact, precision, score, iou_at_least, score_within):
    found = detect_tensor(weights.shipped("voc").model, images, precision)
    limits = score, iou_at_least, score_within
    assert sum(len(d.above(score)) for d in exact) >= len(images)
    for ours, truth in zip(found, exact, strict=True):
        assert (partners(ours, truth, *limits) == 1).all()
        assert (partners(truth, ours, *limits) == 1).all()
