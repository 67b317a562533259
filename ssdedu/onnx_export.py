"""A detector as one ONNX file, for runtimes without PyTorch; kept only if onnxruntime gives PyTorch's numbers.

The file takes images (B, 3, H, W), RGB 0 .. 255, for any B; normalisation is inside. torch's exporter writes the
network, and `suppression` adds on request what `detect.detect` does, in standard operators.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ssdedu import __version__, shipped, weights
from ssdedu.augment import Resize
from ssdedu.batches import to_tensor
from ssdedu.checkpoints import CheckpointError, Detector
from ssdedu.datasets.shapes import Shapes
from ssdedu.datasets.voc_image import read_header, read_image
from ssdedu.files import write_atomically
from ssdedu.model import SSD
from ssdedu.onnx_detect import IR_VERSION, OPSET, OUTPUTS, ExportError, package, suppression
from ssdedu.onnx_verify import NETWORK, TOLERANCE, Network, open_session, verify
from ssdedu.sample import Sample

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "TOLERANCE", "ExportError", "export", "export_file", "to_onnx", "verify"]

PHOTO = "data/photos/cat.jpg"


def to_onnx(
    detector: Detector,
    *,
    nms: bool = False,
    float_images: bool = False,
    card: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """The detector as ONNX: input images, outputs offsets, logits, priors_cxcywh, boxes_xyxy and scores.

    nms: also detected_boxes_xyxy (B, N, 4), detected_scores (B, N), detected_labels (B, N) and num_detections (B),
    see `suppression`. float_images: images are float32, as they always are where the detector's processing keeps
    fractions, not uint8; both in 0 .. 255. card: what a reader should know, kept in the file beside classes,
    variances and description. Raises ExportError.
    """
    onnx = package("onnx")
    model = detector.model
    images = torch.zeros(2, 3, model.config.height_px, model.config.width_px, dtype=torch.uint8)
    is_float = float_images or model.processing.resize == "float"
    proto = _translate(model, images.float() if is_float else images)
    if nms:
        last = suppression(model.config.num_boxes, model.num_classes, **model.processing.options).graph
        proto.graph.node.extend(last.node)
        proto.graph.initializer.extend(last.initializer)
        proto.graph.output.extend(last.output)
    _describe(proto, detector, card or {})
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _translate(model: SSD, images: Tensor) -> onnx.ModelProto:
    """The network by torch's exporter; the axis of the batch is open."""
    package("onnxscript")
    with _silenced() as heard:
        try:
            proto = _by_torch(Network(model), images)
        except Exception as error:
            raise ExportError("\n".join(["torch's exporter failed:", str(error), *heard])) from error
    proto.ir_version = IR_VERSION
    _clean(proto)
    return proto


def _by_torch(network: nn.Module, images: Tensor) -> onnx.ModelProto:
    open_axis = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (images,), dynamic_shapes=open_axis)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": list(NETWORK)}
    written: Any = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, **names)
    return written.model_proto


@contextmanager
def _silenced() -> Iterator[list[str]]:
    """Collects what libraries warn and log instead of showing it; what they print is dropped."""
    heard: list[str] = []
    logger: Any = logging.Logger
    handle, nowhere = logger.callHandlers, StringIO()
    logger.callHandlers = lambda _, record: heard.append(record.getMessage())
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_: heard.append(str(message))
            yield heard
    finally:
        logger.callHandlers = handle


def _clean(proto: onnx.ModelProto) -> None:
    """Take out the exporter's notes, which hold paths of this machine, and call the open axis B."""
    graph = proto.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    for part in (proto, graph, *graph.node, *graph.initializer, *values):
        del part.metadata_props[:]
        part.doc_string = ""
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim):
        if dim.dim_param:
            dim.dim_param = "B"


def _describe(proto: onnx.ModelProto, detector: Detector, card: Mapping[str, Any]) -> None:
    model = detector.model
    fields = {
        "input": "images (B, 3, H, W), RGB, 0 .. 255, warped to the size; normalisation is inside",
        "width_px": model.config.width_px,
        "height_px": model.config.height_px,
        "classes": list(detector.classes),
        "variances": list(model.config.variances),
        "processing": model.processing.to_dict(),
        "base": model.base_name,
        "config": model.config.to_dict(),
        "card": dict(card),
    }
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in fields.items()}
    package("onnx").helper.set_model_props(proto, texts)
    proto.producer_name, proto.producer_version = "ssdedu", __version__
    proto.graph.name = model.config.name
    for value in proto.graph.output:
        value.doc_string = {**NETWORK, **OUTPUTS}[value.name]


def export(
    path: str | os.PathLike[str], detector: Detector, photo: np.ndarray | None = None, **options: Any
) -> dict[str, float]:
    """Write the detector to an ONNX file and return `verify`'s differences on a photo, a drawn scene and noise.

    photo (H, W, 3) uint8 RGB of any size; None: one that ships. options: as `to_onnx`'s. The file appears whole and
    verified or not at all; raises ExportError.
    """
    if Path(path).suffix != ".onnx":
        raise ExportError(f"{path}: the name of an ONNX file ends in .onnx")
    package("onnxruntime")
    content = to_onnx(detector, **options).SerializeToString()
    image = _read(shipped.find(PHOTO)) if photo is None else photo
    try:
        differences = verify(content, detector.model, _images(detector.model, image))
    except ValueError as error:
        raise ExportError(f"{path}: not written: {error}") from error
    write_atomically(path, content)
    return differences


def _read(photo: str | os.PathLike[str]) -> np.ndarray:
    return read_image(Path(photo), read_header(Path(photo)).orientation)


def _images(model: SSD, photo: np.ndarray) -> Tensor:
    """The photo, a drawn scene and noise at the network's size: (3, 3, H, W) float32."""
    warp = Resize(model.config.width_px, model.config.height_px)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    pictures = [warp(Sample(image, *nothing)).image for image in (photo, Shapes(1, seed=0)[0].image)]
    noise = np.random.default_rng(0).uniform(0, 255, pictures[0].shape).astype(np.float32)
    return torch.stack([to_tensor(image).float() for image in (*pictures, noise)])


def export_file(
    checkpoint: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    photo: str | os.PathLike[str] | None = None,
    **options: Any,
) -> str:
    """`export` from any file that `weights.load` reads, or None for the detector that ships; returns what to print.

    Raises ExportError, CheckpointError, and ImageError or OSError for a photo that cannot be read.
    """
    source = shipped.find(weights.SHIPPED["voc"]) if checkpoint is None else checkpoint
    image = None if photo is None else _read(photo)
    differences = export(out, weights.load(source), image, card=_card(source), **options)
    return _report(Path(out), differences, PHOTO if photo is None else str(photo))


def _card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The card of a file that has one."""
    try:
        return weights.about(path)
    except CheckpointError:
        return {}


def _report(out: Path, differences: Mapping[str, float], photo: str) -> str:
    session = open_session(out.read_bytes())
    images = session.get_inputs()[0]
    numbers = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    return (
        f"{out}: ONNX opset {OPSET}, {out.stat().st_size / 1e6:.1f} MB\n"
        f"input: {images.name} ({', '.join(map(str, images.shape))}), {images.type}, RGB in 0 .. 255\n"
        f"outputs: {', '.join(output.name for output in session.get_outputs())}\n"
        f"largest difference between onnxruntime and PyTorch, on {photo}, a drawn scene and noise, in batches of 3 "
        f"and 1 (at most {TOLERANCE:g} is accepted):\n  {numbers}"
    )
