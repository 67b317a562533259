"""What `detect.detect` does, as an ONNX graph of standard operators: scores and boxes in, detections out."""

from __future__ import annotations

import inspect
from importlib import import_module
from string import Template
from typing import TYPE_CHECKING, Any

from ssdedu.detect import detect

if TYPE_CHECKING:
    import onnx

__all__ = ["IR_VERSION", "OPSET", "OUTPUTS", "ExportError", "package", "suppression"]

OPSET, IR_VERSION = 18, 10
OUTPUTS = {
    "detected_boxes_xyxy": "(B, N, 4): boxes, best first, clipped to the image; 0 behind the last detection",
    "detected_scores": "(B, N): their scores; 0 behind the last detection",
    "detected_labels": "(B, N): their classes, 1 .. C - 1; 0 behind the last detection",
    "num_detections": "(B): how many of the N rows are detections",
}
_GRAPH = Template("""
<ir_version: $ir, opset_import: ["" : $opset]>
suppression (float[B, $boxes, 4] boxes_xyxy, float[B, $boxes, $classes] scores)
    => (float[B, $most, 4] detected_boxes_xyxy, float[B, $most] detected_scores,
        int64[B, $most] detected_labels, int64[B] num_detections)
<float score_threshold = {$score_threshold}, float iou_threshold = {$iou_threshold},
 int64[1] first_class = {1}, int64[1] end_class = {$classes}, int64[1] last_axis = {-1}, int64[1] axis_1 = {1},
 int64[1] candidates = {$candidates}, int64 per_class = {$candidates}, int64[1] most = {$most},
 int64[3] each_alone = {-1, $entries, 1}, int64[3] rows_of_boxes = {-1, $candidates, 4},
 int64[3] rows_of_scores = {-1, 1, $candidates}, int64[2] all_classes = {-1, $entries}, int64[2] row_and_rank = {0, 2},
 int64 one = {1}, int64 background = {0}, float zero = {0.0}, float whole = {1.0}>
{
    # the best candidates of each class, best first, equal scores in order of the default boxes: (B, C - 1, K)
    by_class = Transpose <perm = [0, 2, 1]> (scores)
    of_objects = Slice (by_class, first_class, end_class, axis_1)
    best, prior = TopK (of_objects, candidates)
    prior_alone = Reshape (prior, each_alone)
    boxes = GatherND <batch_dims = 1> (boxes_xyxy, prior_alone)

    # greedy suppression in each row, a class of an image: kept (n, 3) = row, 0, rank
    row_boxes = Reshape (boxes, rows_of_boxes)
    row_scores = Reshape (best, rows_of_scores)
    kept = NonMaxSuppression (row_boxes, row_scores, per_class, iou_threshold, score_threshold)
    place = Gather <axis = 1> (kept, row_and_rank)
    rows = Squeeze (row_scores, axis_1)
    kept_scores = GatherND (rows, place)
    shape = Shape (rows)
    none_left = ConstantOfShape (shape)
    left = ScatterND (none_left, place, kept_scores)

    # the best of each image over classes, then clipped: N rows, zeros behind the last detection
    image_scores = Reshape (left, all_classes)
    detected_scores, entry = TopK (image_scores, most)
    found = Greater (detected_scores, zero)
    found_as_number = Cast <to = 7> (found)
    num_detections = ReduceSum <keepdims = 0> (found_as_number, last_axis)
    class_index = Div (entry, per_class)
    label = Add (class_index, one)
    detected_labels = Where (found, label, background)
    entry_alone = Unsqueeze (entry, last_axis)
    best_boxes = GatherND <batch_dims = 1> (boxes, entry_alone)
    clipped = Clip (best_boxes, zero, whole)
    found_alone = Unsqueeze (found, last_axis)
    detected_boxes_xyxy = Where (found_alone, clipped, zero)
}
""")


class ExportError(ValueError):
    """A detector could not be exported, or the file does not give PyTorch's numbers; nothing was written."""


def package(name: str) -> Any:
    """The package of that name; ExportError with the remedy where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        missing, remedy = name.partition(".")[0], 'pip install "ssdedu[export]"'
        raise ExportError(f"export to ONNX needs the package {missing} ({error}): {remedy}") from error


def suppression(num_boxes: int, num_classes: int, **options: Any) -> onnx.ModelProto:
    """boxes_xyxy (B, P, 4) and scores (B, P, C), decoded and after softmax, to `OUTPUTS` for any B.

    options: as `detect.detect`'s, with its defaults; those that change boxes before suppression are the caller's. N is
    max_detections, or the number of all candidates where that is smaller. In onnxruntime the same boxes and scores
    give the same detections in the same order, equal scores included. Where they may differ: numbers that are not
    finite are no error. ONNX leaves open whether an IoU equal to the threshold suppresses, and which of two equal
    scores suppresses the other (onnxruntime: it does not, and the first default box, both as here). And a softmax or
    exp rounded otherwise in its last bit decides otherwise what lies that close to a threshold or to another score.
    """
    given = {name: p.default for name, p in inspect.signature(detect).parameters.items()} | options
    candidates = min(given["candidates_per_class"], num_boxes)
    entries = (num_classes - 1) * candidates
    most = min(given["max_detections"] or entries, entries)
    numbers = {"boxes": num_boxes, "classes": num_classes, "candidates": candidates, "entries": entries}
    thresholds = {name: float(given[name]) for name in ("score_threshold", "iou_threshold")}
    text = _GRAPH.substitute(ir=IR_VERSION, opset=OPSET, most=most, **numbers, **thresholds)
    return package("onnx.parser").parse_model(text)
