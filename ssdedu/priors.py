"""Default boxes: the scale formula s_k, one frozen description of a detector's feature maps, its P boxes.

The description (`Config`) is the only place that knows how many maps, cells and boxes a detector has: the
default boxes here and the predictors in `ssdedu.model` are both built from it. Where the original Caffe code
and the paper differ, the SSD300_* and SSD512_* descriptions follow the code and SSD300_PAPER the paper.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdedu.priors_text import as_python, table

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRESETS",
    "SHAPES128",
    "SHAPES128_COARSE_MAP",
    "SHAPES128_ONE_MAP",
    "SSD300_COCO",
    "SSD300_FULL_VGG",
    "SSD300_MOBILENET",
    "SSD300_PAPER",
    "SSD300_VOC",
    "SSD512_COCO",
    "SSD512_VOC",
    "Config",
    "Extra",
    "FeatureMap",
    "as_python",
    "cell_boxes",
    "cell_centers",
    "cell_shapes_px",
    "default_boxes",
    "formula_sizes",
    "percent_sizes",
    "scales",
    "table",
]


_LIMITED: dict[Any, int] = {"wh": 2, "cxcywh": 0}  # the first number of a box that is limited


@dataclass(frozen=True)
class Extra:
    """One extra block behind the base: 1x1 to `mid` channels, then kernel x kernel to `out` (Sec. 2.1)."""

    mid: int
    out: int
    kernel: int = 3
    stride: int = 2
    padding: int = 1


@dataclass(frozen=True)
class FeatureMap:
    """One map that predicts: its cells, the sizes and ratios of its default boxes, and where it comes from.

    height, width: cells. min_px, max_px: side of the square box of ratio 1 and the next level's side, in
    input pixels; the extra box of ratio 1 has the side sqrt(min_px * max_px), and None leaves it out.
    aspect_ratios: besides 1, each r also gives 1/r. step_px: distance of neighbouring centres in input pixels
    (Caffe); None spreads the cells over the whole image, (j + .5) / f_k, as the paper does. extra: the block
    that makes this map from the one before; None for a map tapped from the base network.
    """

    name: str
    height: int
    width: int
    min_px: float
    max_px: float | None
    aspect_ratios: tuple[float, ...] = (2.0,)
    step_px: float | None = None
    extra: Extra | None = None

    @property
    def boxes_per_cell(self) -> int:
        """k of Sec. 2.1: one for ratio 1, one for 1', two for every further ratio."""
        return 1 + (self.max_px is not None) + 2 * len(self.aspect_ratios)

    @property
    def num_boxes(self) -> int:
        """Default boxes of the whole map."""
        return self.height * self.width * self.boxes_per_cell


@dataclass(frozen=True)
class Config:
    """A detector's feature maps, from which default boxes and predictors are built; validated on creation.

    width_px, height_px: the network's input. variances: divisors of the four offsets (Caffe's
    prior_variance). whole_px: truncate min_px and max_px to whole pixels, as Caffe's prior layer does (no
    change at 300, up to .0033 at 512). clip: False leaves the boxes as they are (the original); True cuts them at
    the image border; "wh" limits widths and heights to the image (torchvision), "cxcywh" all four numbers
    (amdegroot/ssd.pytorch). Raises ValueError that names the field.
    """

    name: str
    width_px: int
    height_px: int
    maps: tuple[FeatureMap, ...]
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    whole_px: bool = True
    clip: bool | str = False

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def num_boxes(self) -> int:
        """P, the number of default boxes."""
        return sum(m.num_boxes for m in self.maps)

    def replace(self, **changes: Any) -> Config:
        """A copy with other fields, validated again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON and checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Config:
        """The inverse of `to_dict`; raises ValueError on a missing or unknown field."""
        try:
            maps = tuple(_map_from_dict(m) for m in fields["maps"])
            rest = {**fields, "maps": maps, "variances": tuple(fields["variances"])}
            return cls(**rest)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a detector description: {error}") from error


def _map_from_dict(fields: dict[str, Any]) -> FeatureMap:
    extra = Extra(**fields["extra"]) if fields.get("extra") else None
    return FeatureMap(**{**fields, "extra": extra, "aspect_ratios": tuple(fields["aspect_ratios"])})


def _require(holds: bool, field: str, wanted: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{field} must be {wanted}, got {got!r}")


def _is_positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _is_count(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value > 0)


def _validate(config: Config) -> None:
    for field in ("width_px", "height_px"):
        value = getattr(config, field)
        _require(_is_count(value), f"{config.name}: {field}", "a whole number of pixels above 0", value)
    maps = config.maps
    good = isinstance(maps, tuple) and len(maps) > 0 and all(isinstance(m, FeatureMap) for m in maps)
    _require(good, f"{config.name}: maps", "a tuple of at least one FeatureMap", maps)
    variances = config.variances
    good = isinstance(variances, tuple | list) and len(variances) == 4 and all(map(_is_positive, variances))
    _require(good, f"{config.name}: variances", "four numbers above 0", variances)
    clip = config.clip
    good = isinstance(clip, bool) or clip in _LIMITED
    _require(good, f"{config.name}: clip", f"True, False or one of {', '.join(_LIMITED)}", clip)
    for i, feature_map in enumerate(config.maps):
        behind_extra = i > 0 and config.maps[i - 1].extra is not None
        _validate_map(feature_map, f"{config.name}: maps[{i}]", behind_extra)
        if config.whole_px:
            size = feature_map.min_px
            _require(size >= 1, f"{config.name}: maps[{i}].min_px", "1 or more where whole_px is set", size)


def _validate_map(m: FeatureMap, where: str, behind_extra: bool) -> None:
    _require(_is_count(m.height), f"{where}.height", "a whole number of cells above 0", m.height)
    _require(_is_count(m.width), f"{where}.width", "a whole number of cells above 0", m.width)
    _require(_is_positive(m.min_px), f"{where}.min_px", "a number of pixels above 0", m.min_px)
    if m.max_px is not None:
        good = _is_positive(m.max_px) and m.max_px >= m.min_px
        _require(good, f"{where}.max_px", f"None or at least min_px ({m.min_px})", m.max_px)
    _require(m.step_px is None or _is_positive(m.step_px), f"{where}.step_px", "None or above 0", m.step_px)
    _validate_ratios(m.aspect_ratios, f"{where}.aspect_ratios")
    _validate_extra(m.extra, f"{where}.extra")
    good = not (behind_extra and m.extra is None)
    _require(good, f"{where}.extra", "given behind a map that has one (base maps come first)", m.extra)


def _validate_extra(extra: object, where: str) -> None:
    _require(extra is None or isinstance(extra, Extra), where, "None or an Extra", extra)
    if isinstance(extra, Extra):
        for field in ("mid", "out", "kernel", "stride"):
            value = getattr(extra, field)
            _require(_is_count(value), f"{where}.{field}", "a whole number above 0", value)
        good = extra.padding == 0 or _is_count(extra.padding)
        _require(good, f"{where}.padding", "a whole number of 0 or more", extra.padding)


def _validate_ratios(ratios: Sequence[float], where: str) -> None:
    positive = isinstance(ratios, tuple | list) and all(map(_is_positive, ratios))
    _require(positive, where, "a tuple of numbers above 0", ratios)
    folded = [round(max(r, 1 / r), 9) for r in ratios]
    fresh = 1 not in folded and len(set(folded)) == len(folded)
    _require(fresh, where, "without 1 and without repeats (r brings 1/r with it)", ratios)


def scales(num_maps: int, s_min: float = 0.2, s_max: float = 0.9) -> list[float]:
    """s_k = s_min + (s_max - s_min) (k - 1) / (m - 1), k = 1 .. m, as fractions of the image (Eq. 4).

    Raises ValueError for fewer than one map or scales that are not 0 < s_min <= s_max.
    """
    _require(_is_count(num_maps), "num_maps", "1 or more", num_maps)
    _require(0 < s_min <= s_max, "s_min, s_max", "0 < s_min <= s_max", (s_min, s_max))
    if num_maps == 1:
        return [s_min]
    return [s_min + (s_max - s_min) * k / (num_maps - 1) for k in range(num_maps)]


def percent_sizes(
    size_px: float, num_maps: int, first: int, lowest: int, highest: int
) -> list[tuple[float, float]]:
    """(min_px, max_px) of each map by the original code's rule in whole percents (ssd_pascal.py).

    size_px: side of the input; first: percent of the first map; lowest .. highest: percents of the others, in
    steps of floor((highest - lowest) / (m - 2)). Raises ValueError for fewer than three maps.
    """
    _require(_is_count(num_maps) and num_maps >= 3, "num_maps", "3 or more", num_maps)
    step = (highest - lowest) // (num_maps - 2)
    percents = [first, *(lowest + step * k for k in range(num_maps))]
    return [(size_px * low / 100, size_px * high / 100) for low, high in pairwise(percents)]


def formula_sizes(
    size_px: float, num_maps: int, first: float | None = None, s_min: float = 0.2, s_max: float = 0.9
) -> list[tuple[float, float]]:
    """(min_px, max_px) of each map by Eq. 4; the level behind the last map continues the steps.

    size_px: side of the input; first: scale of a first map that stands outside the formula (Sec. 3.1: conv4_3 at
    0.1), which then runs over the others. Raises ValueError as `scales` does.
    """
    outside = [] if first is None else [first]
    inside = scales(num_maps - len(outside), s_min, s_max)
    step = inside[-1] - inside[-2] if len(inside) > 1 else s_max - s_min
    return list(pairwise(size_px * s for s in (*outside, *inside, inside[-1] + step)))


def cell_shapes_px(feature_map: FeatureMap, whole_px: bool = True) -> np.ndarray:
    """Widths and heights (k, 2) of one cell's default boxes in input pixels: 1, 1', then r, 1/r per ratio.

    Sec. 2.2 (w = s sqrt(a), h = s / sqrt(a)) in the order of Caffe's PriorBoxLayer; whole_px truncates as it
    does.
    """
    low, high = feature_map.min_px, feature_map.max_px
    if whole_px:
        low, high = math.floor(low), None if high is None else math.floor(high)
    shapes = [(low, low)]
    if high is not None:
        shapes.append((math.sqrt(low * high),) * 2)
    for ratio in feature_map.aspect_ratios:
        root = math.sqrt(ratio)
        shapes += [(low * root, low / root), (low / root, low * root)]
    return np.array(shapes, dtype=np.float64)


def cell_centers(feature_map: FeatureMap, width_px: int, height_px: int) -> np.ndarray:
    """Centres (height, width, 2) of a map's cells as (x, y) fractions of the image, row by row.

    (j + .5) * step_px / image as in Caffe, or (j + .5) / f_k as in Sec. 2.2 where step_px is None.
    """
    m = feature_map
    step_x = width_px / m.width if m.step_px is None else m.step_px
    step_y = height_px / m.height if m.step_px is None else m.step_px
    x = (np.arange(m.width) + 0.5) * step_x / width_px
    y = (np.arange(m.height) + 0.5) * step_y / height_px
    return np.stack(np.meshgrid(x, y), axis=-1)


def cell_boxes(feature_map: FeatureMap, config: Config) -> np.ndarray:
    """Default boxes (height, width, k, 4) of one map, cxcywh as fractions of the image, float64."""
    centers = cell_centers(feature_map, config.width_px, config.height_px)
    shapes = cell_shapes_px(feature_map, config.whole_px) / (config.width_px, config.height_px)
    boxes = np.empty((*centers.shape[:2], len(shapes), 4))
    boxes[..., :2] = centers[:, :, None]
    boxes[..., 2:] = shapes
    if config.clip in _LIMITED:
        first = _LIMITED[config.clip]
        boxes[..., first:] = boxes[..., first:].clip(0, 1)
        return boxes
    return _cut_at_border(boxes) if config.clip else boxes


def _cut_at_border(boxes_cxcywh: np.ndarray) -> np.ndarray:
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    low, high = np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def default_boxes(config: Config) -> torch.Tensor:
    """All default boxes (P, 4) of a detector, cxcywh as fractions of the image, float32.

    Order: feature map, row, column, box, as the predictors emit them and Caffe's PriorBoxLayer writes them.
    """
    import torch

    boxes = [cell_boxes(m, config).reshape(-1, 4) for m in config.maps]
    return torch.from_numpy(np.concatenate(boxes)).float()


_NARROW, _WIDE = (2.0,), (2.0, 3.0)
_EXTRAS300 = (None, None, Extra(256, 512), Extra(128, 256), *(Extra(128, 256, 3, 1, 0),) * 2)
_EXTRAS512 = (None, None, Extra(256, 512), *(Extra(128, 256),) * 3, Extra(128, 256, 4, 1, 1))
_NAMES = ("conv4_3", "fc7", "conv8_2", "conv9_2", "conv10_2", "conv11_2", "conv12_2")
_CELLS300, _STEPS300 = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
_CELLS512, _STEPS512 = (64, 32, 16, 8, 4, 2, 1), (8, 16, 32, 64, 128, 256, 512)
_RATIOS300 = (_NARROW, _WIDE, _WIDE, _WIDE, _NARROW, _NARROW)
_RATIOS512 = (_NARROW, _WIDE, _WIDE, _WIDE, _WIDE, _NARROW, _NARROW)


def _square(
    name: str,
    size_px: int,
    cells: Sequence[int],
    sizes_px: Sequence[tuple[float, float]],
    ratios: Sequence[tuple[float, ...]],
    steps: Sequence[float | None],
    extras: Sequence[Extra | None],
    names: Sequence[str] = _NAMES,
    whole_px: bool = True,
) -> Config:
    rows = zip(names, cells, sizes_px, ratios, steps, extras, strict=False)
    maps = tuple(FeatureMap(n, c, c, low, high, r, s, e) for n, c, (low, high), r, s, e in rows)
    return Config(name, size_px, size_px, maps, whole_px=whole_px)


def _ssd300(name: str, first: int, lowest: int) -> Config:
    sizes = percent_sizes(300, 6, first, lowest, 90)
    return _square(name, 300, _CELLS300, sizes, _RATIOS300, _STEPS300, _EXTRAS300)


def _ssd512(name: str, first: int, lowest: int) -> Config:
    sizes = percent_sizes(512, 7, first, lowest, 90)
    return _square(name, 512, _CELLS512, sizes, _RATIOS512, _STEPS512, _EXTRAS512)


def _ssd300_paper() -> Config:
    """Sec. 3.1: conv4_3 at .1, the other five by Eq. 4."""
    sizes, steps = formula_sizes(300, 6, first=0.1), (None,) * 6
    return _square("SSD300_PAPER", 300, _CELLS300, sizes, _RATIOS300, steps, _EXTRAS300, whole_px=False)


def _ssd300_full_vgg() -> Config:
    """Sec. 3.2, "full VGG16": pool5 halves, fc7 is the 10 x 10 map, conv5_3 predicts in its former place."""
    names = ("conv4_3", "conv5_3", "fc7", "conv8_2", "conv9_2", "conv10_2")
    sizes = percent_sizes(300, 6, 10, 20, 90)
    extras = (None, None, *_EXTRAS300[:1], *_EXTRAS300[3:])
    return _square("SSD300_FULL_VGG", 300, _CELLS300, sizes, _RATIOS300, _STEPS300, extras, names)


def _ssd300_mobilenet() -> Config:
    """SSD300_VOC's default boxes on MobileNetV1: its strides 8, 16 and 32, then three extra blocks."""
    names = ("conv5", "conv11", "conv12", "extra1", "extra2", "extra3")
    sizes = percent_sizes(300, 6, 10, 20, 90)
    extras = (None, None, None, Extra(256, 512), Extra(128, 256, 3, 1, 0), Extra(128, 256, 3, 1, 0))
    return _square("SSD300_MOBILENET", 300, _CELLS300, sizes, _RATIOS300, _STEPS300, extras, names)


SSD300_VOC = _ssd300("SSD300_VOC", 10, 20)
SSD300_COCO = _ssd300("SSD300_COCO", 7, 15)
SSD512_VOC = _ssd512("SSD512_VOC", 7, 15)
SSD512_COCO = _ssd512("SSD512_COCO", 4, 10)
SSD300_PAPER = _ssd300_paper()
SSD300_FULL_VGG = _ssd300_full_vgg()
SSD300_MOBILENET = _ssd300_mobilenet()
SHAPES128 = _square(
    "SHAPES128",
    128,
    (16, 8, 4, 2),
    [(12, 24), (24, 44), (44, 68), (68, 92)],
    (_WIDE, _WIDE, _WIDE, _NARROW),
    (None,) * 4,
    (None, None, Extra(64, 128), Extra(64, 128)),
    ("block3", "block4", "extra1", "extra2"),
)
SHAPES128_ONE_MAP = SHAPES128.replace(name="SHAPES128_ONE_MAP", maps=SHAPES128.maps[1:2])
SHAPES128_COARSE_MAP = SHAPES128.replace(name="SHAPES128_COARSE_MAP", maps=SHAPES128.maps[2:3])
PRESETS = {
    c.name: c
    for c in (
        SSD300_VOC,
        SSD300_COCO,
        SSD512_VOC,
        SSD512_COCO,
        SSD300_PAPER,
        SSD300_FULL_VGG,
        SSD300_MOBILENET,
        SHAPES128,
        SHAPES128_ONE_MAP,
        SHAPES128_COARSE_MAP,
    )
}
