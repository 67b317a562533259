"""How other people's programs name the numbers of the same network, as pure mappings of keys, both ways.

SSD300 on VGG16 by amdegroot/ssd.pytorch and by torchvision, with what each does around the network; VGG16 with
fc6 and fc7 decimated, and MobileNetV1, as bases. In all of them a head's channels are box * classes + class, as ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ssdedu import priors
from ssdedu.datasets.voc_folder import VOC_CLASSES
from ssdedu.priors import Config
from ssdedu.processing import Processing

__all__ = [
    "CLASSIFIER_CONVS",
    "COCO_CLASSES",
    "LAYOUTS",
    "MOBILENET",
    "VGG16_REDUCED",
    "Keys",
    "Layout",
    "LayoutError",
    "find",
    "rename",
    "to_theirs",
]

Keys = dict[str, str]  # our key: theirs
Shape = tuple[int, ...]

_LISTED = 8  # keys of one kind that an error lists


class LayoutError(ValueError):
    """Keys are missing, unexpected or of another shape; the message lists them."""


def _parameters(names: Iterable[tuple[str, str]]) -> Keys:
    return {f"{ours}.{p}": f"{theirs}.{p}" for ours, theirs in names for p in ("weight", "bias")}


_CONV4_3 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)
_AFTER = (24, 26, 28, 31, 33)  # conv5_1 .. conv5_3, fc6, fc7 in one row of layers
_OUR_FIRST = [f"to_conv4_3.{i}" for i in _CONV4_3]
_OUR_CONV5 = [f"to_conv5_3.{i}" for i in (1, 3, 5)]
_OUR_FC = ["to_fc7.1", "to_fc7.3"]
_OUR_BASE = [*_OUR_FIRST, *_OUR_CONV5, *_OUR_FC]

VGG16_REDUCED = _parameters((ours, str(i)) for ours, i in zip(_OUR_BASE, (*_CONV4_3, *_AFTER), strict=True))
"""`vgg16_reducedfc.pth` of amdegroot/ssd.pytorch: the base up to fc7, without conv4_3's L2 normalisation."""

CLASSIFIER_CONVS = {
    False: (*_CONV4_3, *_AFTER[:3]),
    True: (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
}
"""Where torchvision's VGG16 has its convolutions in `features`, without and with batch normalisation behind each."""


def _mobilenet_names() -> Iterable[tuple[str, str]]:
    """Ours and theirs: one row of layers, split behind blocks 5 and 11, six layers a block and three before."""
    rows = (("to_stride8", 3, range(5)), ("to_stride16", 0, range(5, 11)), ("to_stride32", 0, range(11, 12)))
    yield from (("to_stride8.0", "conv1"), ("to_stride8.1", "bn1"))
    for row, before, blocks in rows:
        for block in blocks:
            start = before + 6 * (block - blocks[0])
            for offset, part in ((0, "dw"), (1, "n1"), (3, "pw"), (4, "n2")):
                yield f"{row}.{start + offset}", f"b.{block}.{part}"


_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
MOBILENET = {
    f"{ours}.{p}": f"{theirs}.{p}"
    for ours, theirs in _mobilenet_names()
    for p in (_NORM if theirs.endswith(("bn1", "n1", "n2")) else ("weight",))
}
"""MobileNetV1 up to its twelfth block: conv1, bn1, b.0 .. b.11 with dw, n1, pw, n2."""


def _amdegroot_keys() -> Keys:
    base = {f"base.{ours}": f"vgg.{theirs}" for ours, theirs in VGG16_REDUCED.items()}
    extras = [(f"extras.{i // 2}.{i % 2 * 2}", f"extras.{i}") for i in range(8)]
    heads = [(f"offset_heads.{i}", f"loc.{i}") for i in range(6)]
    heads += [(f"class_heads.{i}", f"conf.{i}") for i in range(6)]
    return {**base, "base.l2_norm.weight": "L2Norm.weight", **_parameters([*extras, *heads])}


def _torchvision_keys() -> Keys:
    first = [(f"base.{ours}", f"backbone.features.{i}") for ours, i in zip(_OUR_FIRST, _CONV4_3, strict=True)]
    theirs = [f"backbone.extra.0.{i}" for i in ("1", "3", "5", "7.1", "7.3")]
    rest = [(f"base.{ours}", name) for ours, name in zip([*_OUR_CONV5, *_OUR_FC], theirs, strict=True)]
    extras = [(f"extras.{i}.{j}", f"backbone.extra.{i + 1}.{j}") for i in range(4) for j in (0, 2)]
    heads = [(f"offset_heads.{i}", f"head.regression_head.module_list.{i}") for i in range(6)]
    heads += [(f"class_heads.{i}", f"head.classification_head.module_list.{i}") for i in range(6)]
    keys = _parameters([*first, *rest, *extras, *heads])
    return {**keys, "base.l2_norm.weight": "backbone.scale_weight"}


_COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, -,
stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, -, backpack,
umbrella, -, -, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
skateboard, surfboard, tennis racket, bottle, -, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich,
orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, -, dining table, -, -, toilet,
-, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, -, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush"""
COCO_CLASSES = tuple(
    f"unused {number}" if name == "-" else name
    for number, name in enumerate(" ".join(_COCO.split()).split(", "), start=1)
)
"""Labels 1 .. 90 of COCO's annotations; the ten without objects, torchvision's "N/A", carry their number."""


@dataclass(frozen=True)
class Layout:
    """SSD300 as one program names it, and all that its network does not say about itself.

    keys: ours to theirs. mean and std normalise RGB in 0 .. 255. classes: names of the published file's labels
    1, 2, ...
    """

    name: str
    keys: Keys
    config: Config
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    processing: Processing
    classes: tuple[str, ...]

    @property
    def num_classes_key(self) -> tuple[str, int]:
        """Their key of a tensor whose first axis has k entries for each class, background included, and that k."""
        return self.keys["class_heads.0.bias"], self.config.maps[0].boxes_per_cell


_AMDEGROOT = Layout(
    "amdegroot",
    _amdegroot_keys(),
    priors.SSD300_VOC.replace(name="SSD300_AMDEGROOT", whole_px=False, clip="cxcywh"),
    (123.0, 117.0, 104.0),
    (1.0, 1.0, 1.0),
    Processing("uint8", {"candidates_per_class": 200, "max_detections": None}),
    VOC_CLASSES,
)
_TORCHVISION = Layout(
    "torchvision",
    _torchvision_keys(),
    priors.SSD300_COCO.replace(name="SSD300_TORCHVISION", whole_px=False, clip="wh"),
    (0.48235 * 255, 0.45882 * 255, 0.40784 * 255),
    (1.0, 1.0, 1.0),
    Processing("float", {"clip_first": True, "max_log_size": math.log(1000 / 16)}),
    COCO_CLASSES,
)
LAYOUTS = {layout.name: layout for layout in (_AMDEGROOT, _TORCHVISION)}
"""By name: amdegroot (`ssd300_mAP_77.43_v2.pth`) and torchvision (`ssd300_vgg16_coco-b556d3b4.pth`)."""


def find(keys: Collection[str]) -> Layout | None:
    """The layout to which most of the keys belong, None where fewer than half of them belong to any."""
    shared = {name: len(set(layout.keys.values()) & set(keys)) for name, layout in LAYOUTS.items()}
    best = max(shared, key=lambda name: shared[name])
    return LAYOUTS[best] if 2 * shared[best] > len(keys) else None


def rename(
    state: Mapping[str, Tensor], keys: Keys, shapes: Mapping[str, Shape], ignored: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Their state under our keys, where it has all of them in the shapes that ours have, and no others.

    ignored: their keys that may be there and are not wanted. Raises LayoutError that lists what is wrong.
    """
    check(state, {theirs: tuple(shapes[ours]) for ours, theirs in keys.items()}, ignored)
    return {ours: state[theirs] for ours, theirs in keys.items()}


def check(state: Mapping[str, Tensor], shapes: Mapping[str, Shape], ignored: Sequence[str] = ()) -> None:
    """Raises LayoutError that lists the keys that are missing, unexpected or of another shape."""
    found = {key: tuple(value.shape) for key, value in state.items()}
    misfits = [k for k in shapes if k in found and found[k] != tuple(shapes[k])]
    problems = {
        "missing": [key for key in shapes if key not in found],
        "unexpected": [key for key in found if key not in shapes and key not in ignored],
        "of another shape": [f"{key} {found[key]} instead of {tuple(shapes[key])}" for key in misfits],
    }
    if any(problems.values()):
        raise LayoutError("; ".join(f"{kind}: {_some(keys)}" for kind, keys in problems.items() if keys))


def _some(keys: Sequence[str]) -> str:
    more = len(keys) - _LISTED
    return ", ".join([*keys[:_LISTED], *([f"and {more} more"] if more > 0 else [])])


def to_theirs(state: Mapping[str, Tensor], keys: Keys) -> dict[str, Tensor]:
    """Our state under their keys, without what their layout has no key for: the inverse of `rename`."""
    return {theirs: state[ours] for ours, theirs in keys.items()}
