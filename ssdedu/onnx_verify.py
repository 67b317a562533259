"""An ONNX file beside the package: onnxruntime's numbers and detections against PyTorch's and `detect.detect`'s."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ssdedu import boxes
from ssdedu import detect as detection
from ssdedu.detect import Detections, detect
from ssdedu.model import SSD
from ssdedu.onnx_detect import OUTPUTS, ExportError, package, suppression

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["NETWORK", "TOLERANCE", "Network", "open_session", "verify"]

TOLERANCE = 1e-4
NETWORK = {
    "offsets": "(B, P, 4): what `boxes.decode` turns, with the variances, into boxes",
    "logits": "(B, P, C): class 0 is the background",
    "priors_cxcywh": "(P, 4): default boxes, centre and size as fractions of the image",
    "boxes_xyxy": "(B, P, 4): decoded, corners as fractions of the image; clipped only where the detector's "
    "processing clips first",
    "scores": "(B, P, C): softmax of the logits",
}


class Network(nn.Module):
    """The outputs of `NETWORK`, in order, from images (B, 3, H, W)."""

    def __init__(self, model: SSD) -> None:
        super().__init__()
        self.network = copy.deepcopy(model).float().cpu().eval()
        self.options: dict[str, Any] = dict(model.processing.options)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W), uint8 or float in 0 .. 255, to the tensors that `NETWORK` describes."""
        offsets, logits = self.network(images)
        return offsets, logits, self.network.priors_cxcywh, *self.decode(offsets, logits)

    def decode(self, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) and scores (B, P, C) as `detect.detect` hands them to suppression."""
        variances = self.network.config.variances
        offsets = detection._limit_sizes(offsets, variances, self.options.get("max_log_size"))
        boxes_xyxy = boxes.decode(offsets, self.network.priors_cxcywh, variances)
        return boxes.clip(boxes_xyxy) if self.options.get("clip_first") else boxes_xyxy, logits.softmax(-1)

    def detections(self, offsets: Tensor, logits: Tensor) -> list[Detections]:
        """What `inference.detect_tensor` makes of the network's output."""
        config = self.network.config
        return detect(offsets, logits, self.network.priors_cxcywh, config.variances, **self.options)


def verify(content: bytes, model: SSD, images: Tensor) -> dict[str, float]:
    """Largest difference of each output between an ONNX file in onnxruntime and the package, for images (B, 3, H, W).

    Of offsets, logits and priors_cxcywh from PyTorch's; of boxes_xyxy, scores and the detections from what the package
    makes of the file's own offsets and logits, since rounding can turn round which of two equal boxes is kept. As a
    part of the output's largest number where that is above 1. The images, in 0 .. 255, go together, and the first one
    alone. Raises ExportError above TOLERANCE.
    """
    session, network = open_session(content), Network(model)
    rounds = [_differences(session, network, batch) for batch in (images, images[:1])]
    largest = {name: float(np.max([r[name] for r in rounds])) for name in rounds[0]}  # nan where one is
    bad = [f"{name} by {value:.2g}" for name, value in largest.items() if not value <= TOLERANCE]
    if bad:
        raise ExportError(f"onnxruntime's numbers are not PyTorch's: {', '.join(bad)}, above {TOLERANCE:g}")
    return largest


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """An ONNX file at work on the CPU, in as many threads as PyTorch uses; raises ExportError without onnxruntime."""
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, **inputs: Tensor) -> dict[str, Tensor]:
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


@torch.no_grad()
def _differences(session: onnxruntime.InferenceSession, network: Network, images: Tensor) -> dict[str, float]:
    is_float = session.get_inputs()[0].type == "tensor(float)"
    images = images.to(torch.float32 if is_float else torch.uint8)
    theirs = _run(session, images=images)
    ours = dict(zip(NETWORK, network(images), strict=True))
    ours["boxes_xyxy"], ours["scores"] = network.decode(theirs["offsets"], theirs["logits"])
    found = {name: _difference(theirs[name], ours[name]) for name in NETWORK}
    if "num_detections" in theirs:
        found["detections"] = _suppression_difference(theirs, network)
    return found


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return np.inf
    largest = b[b.isfinite()].abs().max() if b.isfinite().any() else b.new_zeros(())
    return float((a - b).abs().masked_fill(a == b, 0).max() / largest.clamp(min=1))


def _suppression_difference(theirs: Mapping[str, Tensor], network: Network) -> float:
    """Of `suppression` from `detect.detect`, on equal boxes and scores, and of the file's detections from it."""
    offsets, logits = theirs["offsets"], theirs["logits"]
    session = open_session(suppression(*logits.shape[1:], **network.options).SerializeToString())
    boxes_xyxy, scores = network.decode(offsets, logits)
    pairs = [
        (_run(session, boxes_xyxy=boxes_xyxy, scores=scores), network.detections(offsets, logits)),
        (_run(session, boxes_xyxy=theirs["boxes_xyxy"], scores=theirs["scores"]), _detections(theirs)),
    ]
    return max(max(map(_apart, _detections(outputs), wanted)) for outputs, wanted in pairs)


def _detections(outputs: Mapping[str, Tensor]) -> list[Detections]:
    """The rows that are detections, image by image."""
    found = zip(*(outputs[name] for name in OUTPUTS), strict=True)
    return [Detections(boxes_xyxy[:n], scores[:n], labels[:n]) for boxes_xyxy, scores, labels, n in found]


def _apart(a: Detections, b: Detections) -> float:
    """The farthest that any detection of either image is from the other's nearest one (Hausdorff distance)."""
    if len(a) != len(b):
        return np.inf
    if len(a) == 0:
        return 0.0
    rows = [torch.cat([d.boxes_xyxy, d.scores[:, None], d.labels[:, None]], dim=1) for d in (a, b)]
    distance = (rows[0][:, None] - rows[1]).abs().amax(-1)  # (N, N)
    return float(max(distance.amin(0).max(), distance.amin(1).max()))
