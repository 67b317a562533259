"""Other people's SSD300 against slow programs of their own: layout, default boxes, outputs, detections, both ways."""

import math
import re

import cv2
import numpy as np
import pytest
import torch
from cases import random_boxes, smooth
from other_ssds import OTHERS, Amdegroot, Torchvision, random_state
from safetensors.torch import load_file

from ssdedu import boxes, layouts, priors, weights
from ssdedu.__main__ import main
from ssdedu.best_box import best_default_box
from ssdedu.checkpoints import CheckpointError, Detector, load_detector, save_checkpoint
from ssdedu.datasets.voc import VOC_CLASSES, VOCFolder
from ssdedu.detect import detect
from ssdedu.evaluate import evaluate_voc
from ssdedu.inference import _warp, detect_images
from ssdedu.layouts import LAYOUTS, LayoutError
from ssdedu.model import SSD
from ssdedu.processing import Processing
from ssdedu.train import build
from ssdedu.workshop import evaluate_on_folder

each = pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.name)


def photo(width_px, height_px, seed=0):
    noise = np.random.default_rng(seed).integers(-40, 41, (height_px, width_px, 3))
    return np.clip(smooth(width_px, height_px) + noise, 0, 255).astype(np.uint8)


def small_state(layout, classes=3):
    """One number for each key of a layout, and shapes to go with them, so that mapping can be tried for nothing."""
    state = {theirs: torch.tensor([float(i)]) for i, theirs in enumerate(layout.keys.values())}
    return state, dict.fromkeys(layout.keys, (1,))


@each
def test_the_keys_are_theirs(other):
    layout = LAYOUTS[other.name]
    theirs = {f"{key}.{p}" for key, *_ in other.shapes(4) for p in ("weight", "bias")} | {other.scale_key}
    assert set(layout.keys.values()) == theirs
    assert len(layout.keys) == len(theirs)
    with torch.device("meta"):
        ours = SSD(layout.config, 4).state_dict()
    assert set(layout.keys) | {"mean", "std"} == set(ours)
    for key, outputs, inputs, kernel in other.shapes(4):
        (mine,) = (o for o, t in layout.keys.items() if t == f"{key}.weight")
        assert tuple(ours[mine].shape) == (outputs, inputs, kernel, kernel), key


@each
def test_the_mapping_goes_both_ways_bit_by_bit(other):
    layout = LAYOUTS[other.name]
    state, shapes = small_state(layout)
    there_and_back = layouts.to_theirs(layouts.rename(state, layout.keys, shapes), layout.keys)
    assert there_and_back == state


@each
def test_each_missing_key_each_surplus_one_and_each_wrong_shape_is_named(other):
    layout = LAYOUTS[other.name]
    state, shapes = small_state(layout)
    for key in state:
        with pytest.raises(LayoutError, match=rf"^missing: {re.escape(key)}$"):
            layouts.rename({k: v for k, v in state.items() if k != key}, layout.keys, shapes)
        wrong = {**state, key: torch.zeros(2, 3)}
        with pytest.raises(
            LayoutError, match=rf"^of another shape: {re.escape(key)} \(2, 3\) instead of \(1,\)$"
        ):
            layouts.rename(wrong, layout.keys, shapes)
    with pytest.raises(LayoutError, match=r"^unexpected: fc8\.weight$"):
        layouts.rename({**state, "fc8.weight": torch.zeros(1)}, layout.keys, shapes)
    with pytest.raises(LayoutError, match="and 5 more"):
        layouts.check({}, {str(i): (1,) for i in range(13)})


def test_a_state_dict_of_someone_elses_network_is_refused_with_its_keys():
    with pytest.raises(
        CheckpointError, match=r"none of amdegroot, torchvision \(layer1.0.weight, a, b, ...\)"
    ):
        weights.load({"layer1.0.weight": torch.zeros(1), "a": torch.zeros(1), "b": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not a state dict"):
        weights.load({})
    state, _ = small_state(LAYOUTS["torchvision"])
    with pytest.raises(CheckpointError, match=r"of another shape: .*and \d+ more"):
        weights.load(state)
    assert layouts.find(["vgg.0.weight", *map(str, range(9))]) is None


@each
def test_default_boxes_equal_their_loops(other):
    found = priors.default_boxes(LAYOUTS[other.name].config)
    np.testing.assert_allclose(found, np.array(other.priors()), atol=1e-7)


def test_clamping_changes_the_boxes_that_the_facts_name():
    """134 boxes where all four numbers are clamped; widths and heights above 1 alone in the other."""
    plain = priors.default_boxes(priors.SSD300_VOC)
    clamped = priors.default_boxes(LAYOUTS["amdegroot"].config)
    assert int((plain != clamped).any(1).sum()) == 134
    coco, limited = (
        priors.default_boxes(priors.SSD300_COCO),
        priors.default_boxes(LAYOUTS["torchvision"].config),
    )
    assert torch.equal(coco[:, :2], limited[:, :2])
    assert int((coco != limited).any(1).sum()) == int((coco[:, 2:] > 1).any(1).sum()) > 0


@each
def test_measuring_how_they_fit_sees_the_clamped_boxes(other):
    objects = random_boxes(np.random.default_rng(0), 60)
    config = LAYOUTS[other.name].config
    corners = boxes.cxcywh_to_xyxy(torch.tensor(other.priors()))
    wanted = boxes.iou(torch.from_numpy(objects), corners).amax(1)
    np.testing.assert_allclose(best_default_box(objects, config).iou, wanted, atol=1e-6)


@pytest.mark.parametrize("clip", ["border", 2, None, "wh "])
def test_a_description_with_another_clip_is_refused(clip):
    with pytest.raises(ValueError, match="SSD300_VOC: clip must be True, False or one of wh, cxcywh"):
        priors.SSD300_VOC.replace(clip=clip)


@pytest.mark.parametrize("clip", [False, True, "wh", "cxcywh"])
def test_a_description_keeps_its_clip_in_json_and_as_source(clip):
    config = priors.SSD300_VOC.replace(clip=clip)
    assert priors.Config.from_dict(config.to_dict()) == config
    names = {}
    exec(priors.as_python(config), names)
    assert names["config"] == config


def outputs(seed, classes, count):
    """Random offsets and logits; every ninth box is far outside, and wider than torchvision lets a box be."""
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 1.5, (count, 4))
    offsets[::9, 0] = rng.choice([-1, 1], len(offsets[::9])) * rng.uniform(200, 2000, len(offsets[::9]))
    offsets[::9, 2] = rng.uniform(15, 40, len(offsets[::9]))
    logits = rng.normal(0, 2, (count, classes))
    return torch.tensor(offsets, dtype=torch.float32), torch.tensor(logits, dtype=torch.float32)


def assert_same(found, expected, size_px=(1, 1), atol=1e-5):
    """The same labels, scores and boxes (fractions; theirs not clipped); equals in score may change places."""
    scale = torch.tensor([*size_px, *size_px])
    assert len(found) == len(expected)
    order = np.lexsort((found.scores, found.labels))
    expected = sorted(expected, key=lambda f: (f[0], f[1]))
    assert found.labels[order].tolist() == [label for label, _, _ in expected]
    np.testing.assert_allclose(found.scores[order], [score for _, score, _ in expected], rtol=1e-3)
    theirs = torch.tensor([box for _, _, box in expected]).clamp(0, 1)
    np.testing.assert_allclose(found.boxes_xyxy[order] * scale, theirs * scale, atol=atol)
    assert (found.scores.diff() <= 0).all()


@each
@pytest.mark.parametrize("seed", [0, 1])
def test_post_processing_equals_their_loops(other, seed):
    """More candidates than each takes, boxes across the border, without width, and without end."""
    layout = LAYOUTS[other.name]
    offsets, logits = outputs(seed, 3, 8732)
    p = priors.default_boxes(layout.config)
    expected, near = other.detect(offsets, logits, p.tolist())
    assert near > 1e-7, "a decision is too close to call for this seed"
    (found,) = detect(offsets[None], logits[None], p, **layout.processing.options)
    assert_same(found, expected)
    assert (len(found) == 200) == (other is Torchvision)


def test_each_habit_matters():
    """With any option left out, the detections are others: the comparison above can fail."""
    for other in OTHERS:
        layout = LAYOUTS[other.name]
        offsets, logits = outputs(0, 3, 8732)
        p = priors.default_boxes(layout.config)
        options = dict(layout.processing.options)
        (right,) = detect(offsets[None], logits[None], p, **options)
        for name in options:
            left = {k: v for k, v in options.items() if k != name}
            (wrong,) = detect(offsets[None], logits[None], p, **left)
            same = len(wrong) == len(right) and torch.equal(wrong.boxes_xyxy, right.boxes_xyxy)
            assert not same, name


def test_no_box_and_no_class_above_the_threshold_gives_nothing():
    for layout in LAYOUTS.values():
        logits = torch.tensor([[[9.0, 0.0, 0.0]]])
        p = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
        (found,) = detect(torch.zeros(1, 1, 4), logits, p, **layout.processing.options)
        assert len(found) == 0


def test_the_limit_of_sizes_by_hand():
    p = torch.tensor([[0.5, 0.5, 0.01, 0.01]])
    offsets, logits = torch.tensor([[[0.0, 0.0, 30.0, 0.0]]]), torch.tensor([[[0.0, 9.0]]])
    (found,) = detect(offsets, logits, p, max_log_size=math.log(4))
    np.testing.assert_allclose(found.boxes_xyxy, [[0.48, 0.495, 0.52, 0.505]], atol=1e-6)


@each
@pytest.mark.parametrize("size_px", [(500, 333), (211, 640), (300, 300), (600, 600)])
def test_the_input_is_theirs(other, size_px):
    """Resized in bytes or in fractions: what enters the network after the mean, to float's precision."""
    layout = LAYOUTS[other.name]
    net = SSD(priors.SHAPES128, 2, "small")  # of which its size and processing alone are asked for
    net.config, net.processing = layout.config, layout.processing
    image = photo(*size_px)
    warped = torch.from_numpy(_warp(net, image).copy()).permute(2, 0, 1).float()
    ours = (warped - torch.tensor(layout.mean)[:, None, None]) / torch.tensor(layout.std)[:, None, None]
    np.testing.assert_allclose(ours, other.input(image)[0], atol=1e-3)
    assert _warp(net, image).dtype == (np.float32 if other is Torchvision else np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("other", "classes", "seed"), [(Amdegroot, 21, 0), (Torchvision, 91, 0)])
def test_the_published_layouts_give_what_their_programs_give(other, classes, seed, tmp_path):
    """Logits, offsets and detections of a photo that is not square; the file by one call; and back again."""
    state = random_state(other, classes, seed, background=9.5)
    torch.save(state, tmp_path / "theirs.pth", _use_new_zipfile_serialization=other is Torchvision)
    detector = weights.load(tmp_path / "theirs.pth")
    model = detector.model
    assert len(detector.classes) + 1 == model.num_classes == classes
    image = photo(500, 333)
    with torch.no_grad():
        offsets, logits = other.forward(state, other.input(image))
        expected, near = other.detect(offsets, logits, other.priors())
        assert near > 1e-5, "a decision is too close to call for these tensors"
        mine = model(torch.from_numpy(_warp(model, image)).permute(2, 0, 1)[None])
    for ours, theirs in zip(mine, (offsets, logits), strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-3)
    (found,) = detect_images(model, [image], bfloat16=False)
    assert len(found) > 100
    assert_same(found, expected, (500, 333), atol=0.1)
    assert weights.export(detector, tmp_path / "again.pth", other.name) == []
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert set(again) == set(state)
    assert all(torch.equal(again[key], value) and again[key].is_contiguous() for key, value in state.items())


@pytest.fixture(scope="module")
def three_classes():
    """SSD300 as ours, for two classes besides background."""
    return Detector(build(lambda: SSD(priors.SSD300_VOC, 3), seed=1).eval(), ("cat", "dog"))


def test_ours_goes_to_torchvision_and_back(three_classes, tmp_path):
    """A state dict says no names and no default boxes, so that the reader is told; a safetensors file says both."""
    told = weights.export(three_classes, tmp_path / "out.safetensors", "torchvision")
    state = load_file(tmp_path / "out.safetensors")
    shapes = {f"{key}.weight": (o, i, k, k) for key, o, i, k in Torchvision.shapes(3)}
    assert {key: tuple(value.shape) for key, value in state.items() if value.ndim == 4} == shapes
    assert [line.partition(":")[0] for line in told] == [
        "classes",
        "default boxes",
        "resize",
        "post-processing",
    ]
    assert told[0] == (
        "classes: 2, cat, dog; torchvision's own: 90, person, bicycle, car, motorcycle, airplane, ..."
    )
    assert "sizes 30 to 60 px, 60 to 111 px" in told[1]
    assert "torchvision's own: sizes 21 to 45 px" in told[1]
    again = weights.load(tmp_path / "out.safetensors")
    assert again.classes == ("cat", "dog")
    assert again.model.config == three_classes.model.config
    assert again.model.processing == three_classes.model.processing
    own = three_classes.model.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in again.model.state_dict().items())
    alone = weights.load(state)
    assert alone.classes == ("class 1", "class 2")
    assert alone.model.config == LAYOUTS["torchvision"].config
    given = weights.load(state, classes=("cat", "dog"), config=priors.SSD300_VOC)
    assert given.classes == ("cat", "dog")
    assert torch.equal(given.model.priors_cxcywh, three_classes.model.priors_cxcywh)
    with pytest.raises(
        CheckpointError, match="classes has 3 names, the network 2 classes besides background"
    ):
        weights.load(state, classes=("cat", "dog", "cow"))
    half = weights.load({key: value.half() for key, value in state.items()})
    assert all(value.dtype == torch.float32 for value in half.model.state_dict().values())


def test_detectors_without_such_a_layout_are_told_why(three_classes, tmp_path):
    def made(config, base):
        with torch.device("meta"):
            return Detector(SSD(config, 3, base), ("cat", "dog"))

    cases = [
        (made(priors.SSD300_VOC, "vgg16_bn"), "is for the base vgg16, not for vgg16_bn"),
        (made(priors.SSD300_MOBILENET, "mobilenet"), "is for the base vgg16, not for mobilenet"),
        (made(priors.SSD512_VOC, "vgg16"), "SSD512_VOC's map 5 is another"),
        (
            made(priors.SSD300_VOC.replace(maps=priors.SSD300_VOC.maps[:5]), "vgg16"),
            "SSD300_VOC's map 6 is another",
        ),
    ]
    for detector, reason in cases:
        with pytest.raises(ValueError, match=reason):
            weights.export(detector, tmp_path / "never.pth", "amdegroot")
    with pytest.raises(ValueError, match="layout must be one of amdegroot, torchvision, got 'keras'"):
        weights.export(three_classes, tmp_path / "never.pth", "keras")
    assert not list(tmp_path.iterdir())


def test_names_of_the_published_classes():
    assert LAYOUTS["amdegroot"].classes == VOC_CLASSES
    coco = LAYOUTS["torchvision"].classes
    assert len(set(coco)) == 90
    assert [n for n, name in enumerate(coco, 1) if name.startswith("unused")] == [
        *[12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    ]
    known = {
        1: "person",
        3: "car",
        13: "stop sign",
        18: "dog",
        44: "bottle",
        62: "chair",
        72: "tv",
        90: "toothbrush",
    }
    assert {number: coco[number - 1] for number in known} == known


def test_processing_is_kept_in_every_file_of_ours(tmp_path):
    model = build(lambda: SSD(priors.SHAPES128, 3, "small"), 0)
    assert model.processing == Processing()
    model.processing = LAYOUTS["torchvision"].processing
    weights.save(tmp_path / "a.safetensors", Detector(model, ("cat", "dog")))
    save_checkpoint(tmp_path / "a.pt", model, ("cat", "dog"))
    for again in (
        weights.load(tmp_path / "a.safetensors"),
        weights.load(tmp_path / "a.pt"),
        load_detector(tmp_path / "a.pt"),
    ):
        assert again.model.processing == LAYOUTS["torchvision"].processing
    image = photo(97, 150)
    (found,), (as_caffe,) = (
        detect_images(model, [image], **o) for o in ({}, {"clip_first": False, "max_log_size": None})
    )
    assert len(found) > 0
    assert not torch.equal(found.boxes_xyxy, as_caffe.boxes_xyxy)
    with pytest.raises(ValueError, match="resize must be one of uint8, float, got 'cubic'"):
        Processing("cubic")
    with pytest.raises(ValueError, match="not a description of a detector's processing"):
        Processing.from_dict({"colour": "BGR"})


VOC_XML = """<annotation><filename>a.png</filename><size><width>{}</width><height>{}</height><depth>3</depth></size>
<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>
</annotation>"""


@pytest.mark.slow
def test_the_commands_take_their_files(tmp_path, capsys):
    """detect and evaluate on amdegroot's file: its own way of looking at photos, without being asked for it."""
    path, out, folder = tmp_path / "theirs.pth", tmp_path / "out", tmp_path / "voc"
    torch.save(random_state(Amdegroot, 21, 0, background=5.5), path)
    image = photo(200, 140)
    (folder / "JPEGImages").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    cv2.imwrite(str(folder / "JPEGImages" / "a.png"), image[:, :, ::-1])
    arguments = ["--checkpoint", str(path), "--score", "0.2", "--out", str(out)]
    assert main(["detect", str(folder / "JPEGImages" / "a.png"), *arguments]) == 0
    detector = weights.load(path)
    (found,) = detect_images(detector.model, [image])
    listed = [float(score) for score in re.findall(r"[a-z]+ (0\.\d\d)", capsys.readouterr().out)]
    assert listed == pytest.approx(found.above(0.2).scores.tolist(), abs=0.006)
    assert len(found) > 200 > len(listed) > 0
    box_px = (found.boxes_xyxy[0] * torch.tensor([200, 140, 200, 140])).round().int().tolist()
    name = detector.classes[found.labels[0] - 1]
    (folder / "Annotations" / "a.xml").write_text(VOC_XML.format(200, 140, name, *box_px))
    evaluation = evaluate_on_folder(path, folder)
    truth = VOCFolder(folder, classes=VOC_CLASSES).truth(0)
    expected = evaluate_voc([found], [truth], VOC_CLASSES)
    np.testing.assert_allclose(evaluation.ap, expected.ap)
    assert evaluation.mean_ap > 0.5
