"""A detector as ONNX: onnxruntime gives PyTorch's numbers and `detect.detect`'s detections, or no file is kept."""

import dataclasses
import json
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detect import random_outputs
from torch import nn

from ssdedu import (
    bases,
    boxes,
    inference,
    model,
    onnx_detect,
    onnx_export,
    onnx_verify,
    priors,
    shipped,
    weights,
)
from ssdedu.__main__ import main
from ssdedu.bases import Base, L2Norm, SameConv2d
from ssdedu.checkpoints import Detector
from ssdedu.datasets.shapes import Shapes
from ssdedu.detect import Detections, detect
from ssdedu.model import SSD
from ssdedu.onnx_detect import suppression
from ssdedu.onnx_export import ExportError, export
from ssdedu.onnx_verify import verify
from ssdedu.priors import Config, FeatureMap
from ssdedu.processing import Processing
from ssdedu.train import build

ROOT = Path(__file__).parents[1]
NETWORK = ["offsets", "logits", "priors_cxcywh", "boxes_xyxy", "scores"]
COMPLETE = ["detected_boxes_xyxy", "detected_scores", "detected_labels", "num_detections"]
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def session_of(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(session, **inputs):
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: np.asarray(value) for name, value in inputs.items()})
    return dict(zip(names, values, strict=True))


def reference(net, images):
    """What the file is to say, from the package's parts."""
    with torch.no_grad():
        offsets, logits = net(images)
    decoded = boxes.decode(offsets, net.priors_cxcywh, net.config.variances)
    return dict(zip(NETWORK, (offsets, logits, net.priors_cxcywh, decoded, logits.softmax(-1)), strict=True))


def assert_close(outputs, expected):
    for name in NETWORK:
        assert outputs[name].shape == tuple(expected[name].shape), name
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-3, atol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The small detector that ships, by the command in a process of its own: the file, and what was printed."""
    path = tmp_path_factory.mktemp("onnx") / "shapes.onnx"
    checkpoint = str(shipped.find(weights.SHIPPED["shapes"]))
    command = [sys.executable, "-m", "ssdedu", "export", checkpoint, str(path), "--nms"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return path, done


@pytest.fixture(scope="module")
def session(written):
    return session_of(written[0].read_bytes())


def test_the_command_says_what_it_wrote_and_the_exporters_remarks_stay_unseen(written):
    path, done = written
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path}: ONNX opset 18, {path.stat().st_size / 1e6:.1f} MB"
    assert lines[1] == "input: images (B, 3, 128, 128), tensor(uint8), RGB in 0 .. 255"
    assert lines[2] == f"outputs: {', '.join(NETWORK + COMPLETE)}"
    numbers = dict(part.rsplit(" ", 1) for part in lines[-1].strip().split(", "))
    assert list(numbers) == [*NETWORK, "detections"]
    assert all(0 <= float(value) <= onnx_verify.TOLERANCE for value in numbers.values())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_number_of_images_gives_pytorchs_numbers(session, batch):
    net = weights.shipped("shapes").model
    images = torch.stack([torch.from_numpy(Shapes(batch, seed=3)[i].image) for i in range(batch)])
    images = images.permute(0, 3, 1, 2).contiguous()
    images[-1] = torch.randint(0, 256, images.shape[1:], generator=torch.Generator().manual_seed(batch))
    assert_close(run(session, images=images), reference(net, images))


def test_the_detections_are_those_of_the_package(session):
    """Without PyTorch: numpy and OpenCV prepare the pictures; above the noise nothing depends on rounding."""
    net = weights.shipped("shapes").model
    pictures = [Shapes(4, seed=8)[i].image for i in range(4)]
    pictures.append(cv2.resize(pictures[0], (200, 90)))
    warped = np.stack([cv2.resize(p, (128, 128), interpolation=cv2.INTER_LINEAR) for p in pictures])
    outputs = run(session, images=warped.transpose(0, 3, 1, 2))
    assert outputs["detected_boxes_xyxy"].shape == (5, 200, 4)
    number = 0
    for i, ours in enumerate(inference.detect_images(net, pictures, bfloat16=False)):
        theirs = Detections(*(torch.from_numpy(outputs[name][i]) for name in COMPLETE[:3])).above(0.3)
        ours = ours.above(0.3)
        assert theirs.labels.tolist() == ours.labels.tolist()
        np.testing.assert_allclose(theirs.boxes_xyxy, ours.boxes_xyxy, atol=1e-4)
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-4)
        number += len(ours)
    assert number > 10


def test_the_file_says_what_it_is(written, session):
    path, _ = written
    detector, fields = weights.shipped("shapes"), session.get_modelmeta().custom_metadata_map
    said = {name: json.loads(text) for name, text in fields.items() if name not in ("input", "base")}
    assert tuple(said["classes"]) == detector.classes
    assert (said["width_px"], said["height_px"]) == (128, 128)
    assert said["variances"] == [0.1, 0.1, 0.2, 0.2]
    assert Config.from_dict(said["config"]) == detector.model.config
    assert Processing.from_dict(said["processing"]) == Processing()
    assert fields["base"] == "small"
    assert "RGB" in fields["input"]
    assert said["card"] == weights.about(shipped.find(weights.SHIPPED["shapes"]))
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    assert outputs["detected_labels"] == ("tensor(int64)", ["B", 200])
    assert outputs["logits"] == ("tensor(float)", ["B", 2032, 9])
    assert all(value.doc_string for value in onnx.load(path).graph.output)


def test_the_file_holds_standard_operators_folded_norms_and_no_path_of_this_machine(written):
    path, _ = written
    proto = onnx.load(path)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    content = path.read_bytes()
    for trace in (str(ROOT), "site-packages", "stack_trace", "lib/python"):
        assert trace.encode() not in content


@cache
def suppressor(num_boxes, num_classes, options=()):
    return session_of(suppression(num_boxes, num_classes, **dict(options)).SerializeToString())


def assert_detect_equals_onnx(offsets, logits, p, **options):
    """Same boxes and scores in: same detections, to the bit and in the same order, and zeros behind them."""
    onnx_session = suppressor(len(p), logits.shape[2], tuple(sorted(options.items())))
    outputs = run(onnx_session, boxes_xyxy=boxes.decode(offsets, p), scores=logits.softmax(-1))
    found = detect(offsets, logits, p, **options)
    assert outputs["num_detections"].tolist() == [len(d) for d in found]
    for i, d in enumerate(found):
        expected = d.boxes_xyxy, d.scores, d.labels
        for name, values in zip(COMPLETE[:3], expected, strict=True):
            np.testing.assert_array_equal(outputs[name][i, : len(d)], values, err_msg=name)
            assert not outputs[name][i, len(d) :].any()
    return found


@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from([2, 5]),
    st.sampled_from([0.1, 3.0]),
    st.booleans(),
    st.sampled_from([5, 400]),
    st.sampled_from([0.05, 0.45]),
    st.sampled_from([3, 200, None]),
)
@settings(deadline=None, max_examples=60)
def test_suppression_equals_detect(seed, batch, classes, sharpness, ties, candidates, iou_threshold, most):
    offsets, logits, p = random_outputs(seed, batch, classes, sharpness)
    logits = logits.round() if ties else logits
    options = {"score_threshold": 0.15, "candidates_per_class": candidates, "iou_threshold": iou_threshold}
    assert_detect_equals_onnx(offsets, logits, p, max_detections=most, **options)


@pytest.mark.parametrize("sharpness", [0.05, 1.0, 4.0])
def test_crowds_of_ssd300_equal_detect(sharpness):
    """At .05 all 8,732 x 20 scores pass; whole logits are full of equal scores."""
    generator = torch.Generator().manual_seed(0)
    p = priors.default_boxes(priors.SSD300_VOC)
    offsets = 0.5 * torch.randn(2, len(p), 4, generator=generator)
    logits = sharpness * torch.randn(2, len(p), 21, generator=generator)
    logits[1] = logits[1].round()
    found = assert_detect_equals_onnx(offsets, logits, p)
    assert [len(d) for d in found] == [200, 200]


def test_images_without_detections_and_with_one():
    offsets, logits, p = random_outputs(0, 3, 3, 1.0)
    logits[..., 0] = 50
    logits[1, 4] = torch.tensor([0.0, 9.0, 0.0])
    found = assert_detect_equals_onnx(offsets, logits, p)
    assert [len(d) for d in found] == [0, 1, 0]
    assert_detect_equals_onnx(offsets[:1], logits[:1], p)


def test_one_object_by_hand():
    p = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4], [0.1, 0.1, 0.4, 0.4]])
    scores = np.float32([[[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5]]])
    corners = boxes.cxcywh_to_xyxy(p)[None].numpy()
    outputs = run(suppressor(3, 3, (("score_threshold", 0.3),)), boxes_xyxy=corners, scores=scores)
    assert outputs["num_detections"].tolist() == [2]
    assert outputs["detected_labels"].tolist() == [[1, 2, 0, 0, 0, 0]]
    np.testing.assert_allclose(outputs["detected_scores"], [[0.8, 0.5, 0, 0, 0, 0]])
    expected = [[0.3, 0.3, 0.7, 0.7], [0.0, 0.0, 0.3, 0.3]]
    np.testing.assert_allclose(outputs["detected_boxes_xyxy"][0, :2], expected, atol=1e-6)


def test_an_iou_or_a_score_equal_to_the_threshold_does_not_exceed_it():
    """Exact in binary: 16 and 13 wide, 9 shared, IoU 9 / 20; and a score of 1 / 4."""
    p = torch.tensor([[8.0, 16.0, 16.0, 32.0], [13.5, 16.0, 13.0, 32.0]]) / 32
    logits = torch.tensor([[[0.0, 2.0], [0.0, 1.0]]])
    assert boxes.iou(*boxes.cxcywh_to_xyxy(p)[:, None])[0, 0] == np.float32(0.45)
    (both,) = assert_detect_equals_onnx(torch.zeros(1, 2, 4), logits, p)
    (first,) = assert_detect_equals_onnx(torch.zeros(1, 2, 4), logits, p, iou_threshold=0.4499)
    even = torch.zeros(1, 2, 4)
    (none,) = assert_detect_equals_onnx(torch.zeros(1, 2, 4), even, p, score_threshold=0.25)
    assert [len(both), len(first), len(none)] == [2, 1, 0]


def test_boxes_without_area_and_without_end():
    """exp gives 0 and inf: neither suppresses nor is suppressed, in both."""
    p = torch.tensor([[0.5, 0.5, 0.4, 0.4]]).repeat(6, 1)
    offsets = torch.zeros(1, 6, 4)
    offsets[0, :3, 2:] = -1000.0
    offsets[0, 3:5, 2:] = 1000.0
    logits = torch.tensor([0.0, 2.0]) + torch.arange(6.0)[None, :, None] * torch.tensor([0.0, 0.1])
    (found,) = assert_detect_equals_onnx(offsets, logits, p)
    assert len(found) == 6


class ThinBase(Base):
    """What is hard to translate: TensorFlow's padding, a pool that rounds up, ReLU6 and the L2 norm of zeros."""

    channels, tapped, mean, std = (6, 8), ("first", "second"), (100.0, 120.0, 140.0), (50.0, 60.0, 70.0)

    def __init__(self):
        super().__init__()
        pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.first = nn.Sequential(SameConv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU6(), pool)
        self.l2_norm = L2Norm(6)
        self.second = nn.Sequential(SameConv2d(6, 8, 3, 2), nn.ReLU())

    def forward(self, x):
        first = self.first(x)
        return [self.l2_norm(first), self.second(first)]


@pytest.fixture
def thin(monkeypatch):
    """75 x 50 pixels to 19 x 13 and 10 x 7 cells, with torchvision's habits around the network."""
    monkeypatch.setitem(bases.BASES, "thin", ThinBase)
    maps = FeatureMap("first", 13, 19, 8, 16, (2.0,)), FeatureMap("second", 7, 10, 16, 30, (2.0, 3.0))
    net = build(lambda: SSD(Config("THIN", 75, 50, maps, (0.1, 0.2, 0.3, 0.4)), 4, "thin"), seed=0).eval()
    with torch.no_grad():
        net.base.first[1].bias.copy_(torch.linspace(-2.0, -0.5, 6))
        for head in (*net.offset_heads, *net.class_heads):
            head.weight.mul_(8)
    options = {"candidates_per_class": 50, "max_detections": None, "clip_first": True, "max_log_size": 0.7}
    net.processing = Processing("float", options)
    return Detector(net, ("cat", "dog", "cow"))


def test_every_kind_of_layer_float_images_and_other_peoples_processing(thin, tmp_path, capsys):
    weights.save(tmp_path / "thin.safetensors", thin)
    net = weights.load(tmp_path / "thin.safetensors").model  # kernels in half precision
    path = tmp_path / "thin.onnx"
    photo = str(shipped.find("data/photos/astronaut.jpg"))
    assert main(["export", str(tmp_path / "thin.safetensors"), str(path), "--nms", "--photo", photo]) == 0
    captured = capsys.readouterr()
    assert "images (B, 3, 50, 75), tensor(float)" in captured.out
    assert photo in captured.out
    assert captured.err == ""
    images = 255 * torch.rand(5, 3, 50, 75, generator=torch.Generator().manual_seed(0))
    images[1] = 100.0
    with torch.no_grad():
        zeros = (net.features(images)[0] == 0).all(1)
    assert zeros.any()
    assert not zeros.all()
    outputs = run(session_of(path.read_bytes()), images=images)
    expected = reference(net, images)
    limited = expected["offsets"].clone()
    limited[..., 2:] = limited[..., 2:].minimum(torch.tensor([0.7 / 0.3, 0.7 / 0.4]))
    assert (limited < expected["offsets"]).any()
    decoded = boxes.decode(limited, net.priors_cxcywh, net.config.variances)
    assert_close(outputs, {**expected, "boxes_xyxy": decoded.clamp(0, 1)})
    assert outputs["detected_scores"].shape == (5, 3 * 50)
    wanted = inference.detect_tensor(net, images, bfloat16=False)
    assert outputs["num_detections"].tolist() == [len(d) for d in wanted]
    assert outputs["num_detections"].max() > 100


def changed(path, name, change):
    """The file with one of its stored tensors changed."""
    proto = onnx.load(path)
    (tensor,) = (t for t in proto.graph.initializer if t.name == name)
    value = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
    return proto


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("network.class_heads.2.bias", lambda b: b + 1e-2, "logits by"),
        ("network.offset_heads.0.weight", lambda w: w * 1.01, "offsets by"),
        ("network.class_heads.0.bias", lambda b: b * np.nan, "nan|finite"),
        ("priors_cxcywh", lambda p: p + 1e-3, "priors_cxcywh by 0.001"),
        ("iou_threshold", lambda _: 0.1, ": detections by"),
        ("score_threshold", lambda _: 0.5, ": detections by inf"),
    ],
)
def test_a_file_that_differs_is_not_kept(written, tmp_path, monkeypatch, name, change, words):
    proto = changed(written[0], name, change)
    monkeypatch.setattr(onnx_export, "to_onnx", lambda detector, **options: proto)
    path = tmp_path / "a.onnx"
    path.write_bytes(b"the one before")
    with pytest.raises(ValueError, match=words):
        export(path, weights.shipped("shapes"))
    assert path.read_bytes() == b"the one before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_compared_with_this_detector_and_no_other(written):
    other = build(lambda: SSD(priors.SHAPES128, 9, "small"), seed=0).eval()
    images = torch.zeros(1, 3, 128, 128)
    assert verify(written[0].read_bytes(), weights.shipped("shapes").model, images)["logits"] < 1e-4
    with pytest.raises(ExportError, match="logits"):
        verify(written[0].read_bytes(), other, images)


def test_detections_are_compared_whatever_their_order():
    some = Detections(torch.rand(5, 4), torch.rand(5), torch.arange(1, 6))
    turned = Detections(some.boxes_xyxy.flip(0), some.scores.flip(0), some.labels.flip(0))
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    apart = onnx_verify._apart
    assert apart(some, turned) == apart(none, none) == 0
    assert apart(some, none) == apart(none, some) == np.inf
    moved = dataclasses.replace(turned, boxes_xyxy=turned.boxes_xyxy + torch.eye(5)[:, :4] * 0.03)
    assert apart(some, moved) == pytest.approx(0.03, rel=1e-4)
    assert apart(some, dataclasses.replace(some, labels=some.labels + 10)) >= 6


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_the_remedy(name, tmp_path, monkeypatch, capsys):
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["export", str(tmp_path / "a.onnx"), "--nms"]) == 2
    said = capsys.readouterr().err
    assert f"needs the package {name} (" in said
    assert 'pip install "ssdedu[export]"' in said
    assert list(tmp_path.iterdir()) == []


def test_the_modules_and_the_help_come_without_the_packages(monkeypatch, capsys):
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    for module in (onnx_detect, onnx_verify, onnx_export):
        assert set(module.__all__) <= set(runpy.run_path(module.__file__))
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "OUT.onnx" in capsys.readouterr().out


def test_a_checkpoint_named_last_is_not_overwritten(tmp_path, capsys):
    path = tmp_path / "last.pt"
    path.write_bytes(b"precious")
    assert main(["export", str(path)]) == 2
    assert "ends in .onnx" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"
    assert main(["export", str(tmp_path / "a.onnx"), "--photo", str(tmp_path / "none.jpg")]) == 2
    assert "none.jpg" in capsys.readouterr().err


def test_without_a_checkpoint_it_is_the_detector_that_ships(tmp_path, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(onnx_export, "export", lambda out, detector, photo, **o: given.update(o, d=detector))
    monkeypatch.setattr(onnx_export, "_report", lambda *_: "done")
    assert main(["export", str(tmp_path / "a.onnx"), "--float"]) == 0
    detector = weights.shipped()
    assert given["d"].classes == detector.classes
    assert given["d"].model.config == detector.model.config
    assert given["card"] == weights.about(shipped.find(weights.SHIPPED["voc"]))
    assert (given["float_images"], given["nms"]) == (True, False)
    assert capsys.readouterr().out == "done\n"


def test_what_the_exporter_says_is_shown_when_it_fails(thin, tmp_path, monkeypatch):
    def broken(*_):
        import logging
        import warnings

        logging.getLogger("torch.onnx").warning("a remark")
        warnings.warn("an old name", FutureWarning, stacklevel=1)
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx_export, "_by_torch", broken)
    with pytest.raises(ExportError, match="failed:\nno such operator\na remark\nan old name"):
        export(tmp_path / "a.onnx", thin)


_CUT = priors.SSD300_VOC.replace(maps=priors.SSD300_VOC.maps[:4])
_CUT_FULL = priors.SSD300_FULL_VGG.replace(maps=priors.SSD300_FULL_VGG.maps[:4])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "base", "width_px", "height_px"),
    [
        (priors.SHAPES128, "small", 160, 96),
        (priors.SSD300_MOBILENET, "mobilenet", 301, 270),
        (_CUT, "vgg16", 98, 66),
        (_CUT, "vgg16_bn", 98, 66),
        (_CUT_FULL, "vgg16_full", 98, 66),
    ],
)
def test_every_base_at_another_size(config, base, width_px, height_px, tmp_path):
    config = model.fit_config(config, width_px, height_px, base)
    net = build(lambda: SSD(config, 4, base), seed=0)
    with torch.no_grad():
        for name, value in net.named_buffers():
            if name.endswith("running_var"):
                value.copy_(torch.linspace(0.5, 2.0, len(value)))
    path = tmp_path / "a.onnx"
    assert max(export(path, Detector(net.eval(), ("a", "b", "c"))).values()) < onnx_verify.TOLERANCE
    images = torch.randint(0, 256, (5, 3, height_px, width_px), generator=torch.Generator().manual_seed(0))
    outputs = run(session_of(path.read_bytes()), images=images.to(torch.uint8))
    expected = reference(net, images)
    for name in NETWORK[:3]:  # of an untrained VGG16 the offsets are so large that boxes are infinite
        largest = expected[name].abs().max().clamp(min=1)
        assert abs(outputs[name] - expected[name].numpy()).max() / largest < 1e-4
