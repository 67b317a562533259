"""VOC's mean average precision of a whole test set by ssdedu and its peers: 4,952 images x 200 detections, 20 classes.

Truths and detections come from `map_data.py`. Each contestant begins with lists of one entry an image, as its own
program has them after the last image, and ends with the mAP.

The same measure (VOC development kit, 11 points, difficult objects ignored, +1 pixel):
  lufficc/SSD, chainer/chainercv  `eval_detection_voc`. Both test recall >= j / 10 in floating point, which loses
      recalls reached exactly, so that a few classes differ; the area agrees to rounding where the boxes are doubles.
      Neither sorts stably: with equal scores the result is one of several.
Nearly the same:
  amdegroot/ssd.pytorch  `voc_eval` of eval.py, from text files as its own writer leaves them: scores to three digits
      and boxes to a tenth of a pixel, counted from 1 where its truth is counted from 0; no +1 in the sides; a hit needs
      IoU > 0.5. It reads the text of all classes and its cached annotations within the time; the XML files before.
  sgrvinod/a-PyTorch-Tutorial-to-Object-Detection  `calculate_mAP`: no +1, IoU > 0.5, recalls and precisions in float32.
COCO's average precision at IoU 0.5 alone, another measure: 101 points; a detection takes the best object that is still
free, not its best object; difficult objects are given as crowds, which are ignored, and of which the overlap is that
with the detection's own area; no +1:
  pycocotools, faster-coco-eval  `loadRes`, `evaluate`, `accumulate`; the truth is indexed before.
  torchmetrics  `MeanAveragePrecision`: `update` with all images at once and `compute`; crowds likewise.

chainercv's module is imported without the packages around it, which need a Chainer that no longer installs; of Chainer
it asks for one function, the one that says that its arrays are numpy's. lufficc's is imported in the same way, so that
its configuration's packages need not be there; both need six. amdegroot's eval.py reads its command line as it is
imported and asks for its network and data set, which measuring does not use: it gets empty ones.
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from bench import Contest, Goal, main
from map_data import CLASSES, NUM_IMAGES, Case, draw
from peers import AMDEGROOT, LUFFICC, SGRVINOD, Absent, Peers

from ssdedu.evaluate import DetectionArrays, Evaluation, evaluate_voc
from ssdedu.sample import Truth

CHAINERCV = "chainer/chainercv"
_AGREEMENT_IMAGES = 500

Measure = Callable[[], float]
Prepare = Callable[[Case], Measure]
Function = Callable[..., Any]


def make(peers: Peers, tiny: bool) -> list[Contest]:
    """The one row of this table."""
    case = draw(20 if tiny else NUM_IMAGES, 20 if tiny else 200)
    same = {LUFFICC: lufficc(peers), CHAINERCV: chainercv(peers)}
    others = {
        **{name: then(found, _prepared_voc) for name, found in same.items()},
        AMDEGROOT: then(amdegroot(peers), _prepared_files),
        SGRVINOD: then(sgrvinod(peers), _prepared_tensors),
        "pycocotools": then(pycocotools(peers), _prepared_coco),
        "faster-coco-eval": then(faster_coco_eval(peers), _prepared_coco),
        "torchmetrics": then(torchmetrics(peers), _prepared_metric),
    }
    contest = Contest(
        f"VOC mAP, {len(case.truths)} images",
        partial(_ours, case),
        {name: prepare if isinstance(prepare, Absent) else prepare(case) for name, prepare in others.items()},
        Goal(0.2, LUFFICC),
        facts=partial(_facts, case, present(others), present(same)),
    )
    return [contest]


def then(found: Any, prepare: Callable[[Case, Any], Measure]) -> Prepare | Absent:
    """How a peer's function gets its input, where the peer is there."""
    return found if isinstance(found, Absent) else partial(prepare, peer=found)


def present(others: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are there."""
    return {name: found for name, found in others.items() if not isinstance(found, Absent)}


def _ours(case: Case, metric: str = "voc07", plus_one: bool = True) -> Evaluation:
    return evaluate_voc(case.detections, case.truths, CLASSES, metric, plus_one=plus_one)


def _facts(case: Case, others: Mapping[str, Prepare], same: Mapping[str, Function]) -> dict[str, Any]:
    """Everybody's mAP of the first images, and agreement in detail where the measure is the same."""
    few = case.first(_AGREEMENT_IMAGES)
    mean = {"ssdedu": _ours(few).mean_ap, "ssdedu without +1": _ours(few, plus_one=False).mean_ap}
    mean |= {name: prepare(few)() for name, prepare in others.items()}
    return {
        f"mAP of the first {len(few.truths)} images": {name: round(value, 5) for name, value in mean.items()},
        **{f"agreement with {name}": agreement(found, case) for name, found in same.items()},
    }


# --- lufficc and chainercv: lists of arrays, boxes in pixels


def lufficc(peers: Peers) -> Function | Absent:
    """Its `eval_detection_voc`."""
    return _eval_detection_voc(peers, LUFFICC, "ssd.data.datasets.evaluation.voc")


def chainercv(peers: Peers) -> Function | Absent:
    """Its `eval_detection_voc`, from which lufficc's comes."""
    chainer, backends = ModuleType("chainer"), ModuleType("chainer.backends")
    vars(backends)["cuda"] = SimpleNamespace(get_array_module=lambda *arrays: np)
    with _modules({"chainer": chainer, "chainer.backends": backends}):
        return _eval_detection_voc(peers, CHAINERCV, "chainercv.evaluations", "chainercv.utils.bbox")


def _eval_detection_voc(peers: Peers, name: str, *packages: str) -> Function | Absent:
    """From the first of the port's packages, all of them without their own __init__."""
    root = Path(peers.folder or "").resolve() / name
    with _modules(dict(item for package in packages for item in _bare_packages(root, package).items())):
        found = peers.port(name, f"{packages[0]}.eval_detection_voc")
    return found if isinstance(found, Absent) else found[0].eval_detection_voc


def _prepared_voc(case: Case, peer: Function) -> Measure:
    arrays = _arrays(case, np.float32)
    return lambda: float(_quiet(peer, *arrays, use_07_metric=True)["map"])


def _arrays(case: Case, kind: type) -> tuple[list[np.ndarray], ...]:
    """Boxes in pixels, labels and scores of the detections; boxes, labels and flags of the objects."""
    detections, truths = case.detections, case.truths
    return (
        [_pixels(d.boxes_xyxy, t, kind) for d, t in zip(detections, truths, strict=True)],
        [d.labels for d in detections],
        [d.scores for d in detections],
        [_pixels(t.boxes_xyxy, t, kind) for t in truths],
        [t.labels for t in truths],
        [t.difficult for t in truths],
    )


def _pixels(boxes_xyxy: np.ndarray, truth: Truth, kind: type = float) -> np.ndarray:
    return boxes_xyxy.astype(kind) * np.array([truth.width_px, truth.height_px] * 2, kind)


def agreement(evaluate: Function, case: Case) -> dict[str, Any]:
    """How far its AP and ssdedu's are apart, by class at most; its boxes are doubles here, as in ssdedu.

    With ties: scores of two digits, equal ones in the order of the images for ssdedu; as the other one does not sort
    stably, it is told that order by scores that all differ.
    """
    arrays = _arrays(case, float)
    points, area = _ours(case), _ours(case, "area")
    theirs = _quiet(evaluate, *arrays, use_07_metric=True)["ap"][1:]
    lost = np.flatnonzero(abs(theirs - points.ap) > 1e-9)
    tied, ranks = _with_ties(case)
    of_ranks = _quiet(evaluate, *arrays[:2], ranks, *arrays[3:])["ap"][1:]
    return {
        "area, largest difference": _largest(_quiet(evaluate, *arrays)["ap"][1:], area),
        "area with ties, largest difference": _largest(of_ranks, _ours(tied, "area")),
        "11 points, largest difference": _largest(theirs, points),
        "11 points, classes that differ": {
            CLASSES[i]: f"{points.curves[i].num_objects} objects" for i in lost
        },
    }


def _largest(theirs: np.ndarray, ours: Evaluation) -> float:
    return float(f"{np.nanmax(abs(theirs - ours.ap)):.2g}")


def _with_ties(case: Case) -> tuple[Case, list[np.ndarray]]:
    """The case with scores of two digits, and scores without ties in the order that a stable sort gives these."""
    rounded = [np.round(d.scores, 2) for d in case.detections]
    scores = np.concatenate(rounded)
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = -np.arange(len(scores))
    tied = [DetectionArrays(d.boxes_xyxy, s, d.labels) for d, s in zip(case.detections, rounded, strict=True)]
    return Case(case.truths, tied), np.split(ranks, np.cumsum([len(s) for s in rounded])[:-1])


# --- amdegroot: text and XML files


def amdegroot(peers: Peers) -> Function | Absent:
    """`voc_eval` of its eval.py."""
    data, ssd = ModuleType("data"), ModuleType("ssd")
    names = ("VOCAnnotationTransform", "VOCDetection", "BaseTransform")
    vars(data).update({"VOC_ROOT": "", "VOC_CLASSES": CLASSES, **dict.fromkeys(names)})
    vars(ssd)["build_ssd"] = None
    with tempfile.TemporaryDirectory() as folder, _modules({"data": data, "ssd": ssd}):
        arguments, sys.argv = sys.argv, ["eval.py", "--cuda", "no", "--save_folder", folder]
        try:
            found = _quiet(peers.port, AMDEGROOT, "eval")
        finally:
            sys.argv = arguments
    return found if isinstance(found, Absent) else found[0].voc_eval


def _prepared_files(case: Case, peer: Function) -> Measure:
    place = tempfile.TemporaryDirectory()
    _write_files(case, Path(place.name))

    def measure() -> float:
        annotations, images, cache = (str(Path(place.name, name)) for name in ("%s.xml", "test.txt", "cache"))
        texts = {name: str(Path(place.name, f"{name}.txt")) for name in CLASSES}
        return float(np.mean([peer(texts[n], annotations, images, n, cache, 0.5, True)[2] for n in CLASSES]))

    return lambda: _quiet(measure)


def _write_files(case: Case, folder: Path) -> None:
    """Annotations and results, with the digits and the pixel counted from 1 that its own writer gives results."""
    (folder / "test.txt").write_text("".join(f"{t.name}\n" for t in case.truths))
    lines: list[list[str]] = [[] for _ in CLASSES]
    for truth, found in zip(case.truths, case.detections, strict=True):
        (folder / f"{truth.name}.xml").write_text(_annotation(truth))
        boxes_px = _pixels(found.boxes_xyxy, truth) + 1
        for label, score, box in zip(found.labels, found.scores, boxes_px.tolist(), strict=True):
            lines[label - 1].append("{} {:.3f} {:.1f} {:.1f} {:.1f} {:.1f}\n".format(truth.name, score, *box))
    for name, own in zip(CLASSES, lines, strict=True):
        (folder / f"{name}.txt").write_text("".join(own))


def _annotation(truth: Truth) -> str:
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = [
        f"<object><name>{CLASSES[label - 1]}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{int(flag)}</difficult><bndbox>"
        + "".join(f"<{corner}>{value + 1:.0f}</{corner}>" for corner, value in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for label, flag, box in zip(
            truth.labels, truth.difficult, _pixels(truth.boxes_xyxy, truth).tolist(), strict=True
        )
    ]
    return f"<annotation>{''.join(objects)}</annotation>"


# --- sgrvinod and torchmetrics: lists of tensors


def sgrvinod(peers: Peers) -> Function | Absent:
    """`calculate_mAP` of its utils.py."""
    found = _quiet(peers.port, SGRVINOD, "utils")
    return found if isinstance(found, Absent) else found[0].calculate_mAP


def _prepared_tensors(case: Case, peer: Function) -> Measure:
    found = zip(*map(_tensors, case.detections), strict=True)
    boxes, labels, _ = zip(*map(_tensors, case.truths), strict=True)
    difficult = [torch.from_numpy(truth.difficult).byte() for truth in case.truths]
    lists = [list(column) for column in (*found, boxes, labels, difficult)]
    return lambda: peer(*lists)[1]


def _tensors(item: Any) -> tuple[torch.Tensor, ...]:
    """Boxes, labels, and scores where there are any."""
    scores = getattr(item, "scores", np.zeros(0))
    return tuple(map(torch.from_numpy, (item.boxes_xyxy, item.labels, scores)))


def torchmetrics(peers: Peers) -> Function | Absent:
    """Its `MeanAveragePrecision`, as it comes: with pycocotools behind it."""
    behind = peers.package("pycocotools.coco")
    found = peers.package("torchmetrics.detection")
    return next((f for f in (found, behind) if isinstance(f, Absent)), None) or found.MeanAveragePrecision


def _prepared_metric(case: Case, peer: Function) -> Measure:
    found, objects = [], []
    for detections, truth in zip(case.detections, case.truths, strict=True):
        crowd = torch.from_numpy(truth.difficult).int()
        found.append({**_boxes_and_labels(detections, truth), "scores": torch.from_numpy(detections.scores)})
        objects.append({**_boxes_and_labels(truth, truth), "iscrowd": crowd})

    def measure() -> float:
        metric = peer(iou_thresholds=[0.5], max_detection_thresholds=[1, 10, 200])
        metric.update(found, objects)
        return float(metric.compute()["map_50"])

    return lambda: _quiet(measure)


def _boxes_and_labels(item: Any, truth: Truth) -> dict[str, torch.Tensor]:
    boxes_px = torch.from_numpy(_pixels(item.boxes_xyxy, truth))
    return {"boxes": boxes_px, "labels": torch.from_numpy(item.labels)}


# --- pycocotools and faster-coco-eval: a dictionary for the truth, an array for the detections


def pycocotools(peers: Peers) -> tuple[Function, Function] | Absent:
    """Its data set and its evaluation."""
    data, evaluation = peers.package("pycocotools.coco"), peers.package("pycocotools.cocoeval")
    return evaluation if isinstance(evaluation, Absent) else (data.COCO, evaluation.COCOeval)


def faster_coco_eval(peers: Peers) -> tuple[Function, Function] | Absent:
    """Its data set and its evaluation, which are used like pycocotools'."""
    found = peers.package("faster_coco_eval")
    return found if isinstance(found, Absent) else (found.COCO, found.COCOeval_faster)


def _prepared_coco(case: Case, peer: tuple[Function, Function]) -> Measure:
    data, evaluation = peer
    truth = data()
    truth.dataset = _coco_dataset(case)
    _quiet(truth.createIndex)
    rows = np.vstack(
        [_coco_rows(i, *pair) for i, pair in enumerate(zip(case.detections, case.truths, strict=True))]
    )
    return lambda: _quiet(_coco_map, truth, rows, evaluation)


def _coco_map(truth: Any, rows: np.ndarray, evaluation: Function) -> float:
    run = evaluation(truth, truth.loadRes(rows), "bbox")
    run.params.iouThrs, run.params.maxDets = np.array([0.5]), [200]
    run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
    run.evaluate()
    run.accumulate()
    precision = np.asarray(run.eval["precision"])
    return float(precision[precision > -1].mean())


def _coco_dataset(case: Case) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number, truth in enumerate(case.truths):
        for box, label, flag in zip(
            _sides(truth, truth), truth.labels.tolist(), truth.difficult, strict=True
        ):
            head = {"id": len(annotations) + 1, "image_id": number, "category_id": label}
            area = box[2] * box[3]
            annotations.append(
                {**head, "bbox": box.tolist(), "area": area, "iscrowd": int(flag), "segmentation": []}
            )
    return {
        "info": {},
        "images": [{"id": i, "width": t.width_px, "height": t.height_px} for i, t in enumerate(case.truths)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
        "annotations": annotations,
    }


def _sides(item: Any, truth: Truth) -> np.ndarray:
    """Boxes (N, 4) in pixels as left, top, width, height."""
    boxes_px = _pixels(item.boxes_xyxy, truth)
    return np.hstack([boxes_px[:, :2], boxes_px[:, 2:] - boxes_px[:, :2]])


def _coco_rows(number: int, found: DetectionArrays, truth: Truth) -> np.ndarray:
    image = np.full(len(found.labels), number)
    return np.column_stack([image, _sides(found, truth), found.scores, found.labels])


# --- what old code needs


def _bare_packages(root: Path, package: str) -> dict[str, ModuleType]:
    """A package and those around it, without what their __init__ would import."""
    modules = {}
    for name in accumulate(package.split("."), "{}.{}".format):
        modules[name] = ModuleType(name)
        modules[name].__path__ = [str(root.resolve() / name.replace(".", "/"))]
    return modules


@contextmanager
def _modules(stand_ins: Mapping[str, ModuleType]) -> Iterator[None]:
    """These modules instead of what is there, for as long as something is imported."""
    there = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in there.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module


def _quiet(work: Function, *arguments: Any, **options: Any) -> Any:
    """What `work` gives, without what it prints or warns of."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work(*arguments, **options)


if __name__ == "__main__":
    main(__doc__ or "", "map", make)
