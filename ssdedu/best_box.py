"""The best default box of each of many objects, and the best that an object of some size can hope for.

Both are exact and fast because the cells of a feature map form a grid: the overlap of an object with a default
box is its overlap along x times its overlap along y, and either falls with the distance of the centres. So of
all the cells of a map only the nearest column and the nearest row matter, for each shape (Sec. 2.2). Everything
here is reckoned in float64; matching works in float32 and may differ in the seventh digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from ssdedu import boxes as box_ops
from ssdedu import priors
from ssdedu.priors import Config, FeatureMap

__all__ = [
    "BestBox",
    "best_default_box",
    "cell_shapes",
    "checked_boxes",
    "nearest_cells",
    "reachable",
    "shape_iou",
]

_TIE = 1e-12  # IoUs this close are equal: far above float64's rounding, far below what a reader sees
_BLOCK = 2_000_000  # numbers in one array


class BestBox(NamedTuple):
    """The default box that fits each object best: arrays (N,).

    iou float64; map_index, place of its feature map in `config.maps`; box_index, its place among all P default
    boxes, the earlier of equals, 0 for an object that overlaps none.
    """

    iou: np.ndarray
    map_index: np.ndarray
    box_index: np.ndarray


def best_default_box(boxes_xyxy: Any, config: Config) -> BestBox:
    """The best default box of each object, boxes (N, 4) as fractions of the image: argmax of `boxes.iou` over P.

    Takes N x maps x shapes steps instead of N x P; with `config.clip`, where the boxes at the border have other
    areas, all P are tried in blocks. Raises ValueError for degenerate boxes.
    """
    boxes = checked_boxes(boxes_xyxy)
    search = _try_all if config.clip else _search_map
    found = [search(boxes, feature_map, config) for feature_map in config.maps]
    iou = np.stack([values for values, _ in found])  # (maps, N)
    map_index = _first_best(iou.T)
    rows = np.arange(len(boxes))
    first = np.cumsum([0, *(m.num_boxes for m in config.maps)])
    index = np.stack([index for _, index in found])[map_index, rows] + first[map_index]
    return BestBox(iou[map_index, rows], map_index, index)


def checked_boxes(boxes_xyxy: Any) -> np.ndarray:
    """Boxes as an array (N, 4) of float64; raises ValueError for degenerate ones and other shapes."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes_xyxy must be (N, 4), got {boxes.shape}")
    box_ops.check_boxes(torch.from_numpy(boxes))
    return boxes


def _search_map(
    boxes_xyxy: np.ndarray, feature_map: FeatureMap, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU (N,) of objects (N, 4) with one map's default boxes, not clipped, and the box's place in the map."""
    m, sizes = feature_map, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    shapes = cell_shapes(m, config)
    cells, distance = nearest_cells(boxes_xyxy, m, config)
    iou = shape_iou(sizes, distance, shapes)
    column, row = _first_equal(boxes_xyxy, cells, shapes, _axes(m, config))
    index = (row * m.width + column) * m.boxes_per_cell + np.arange(m.boxes_per_cell)
    best = iou.max(1)
    earliest = np.where(iou >= best[:, None] - _TIE, index, m.num_boxes).min(1)
    return best, np.where(best > 0, earliest, 0)


def cell_shapes(feature_map: FeatureMap, config: Config) -> np.ndarray:
    """Widths and heights (k, 2) of one cell's default boxes as fractions of the image."""
    return priors.cell_shapes_px(feature_map, config.whole_px) / (config.width_px, config.height_px)


def _axes(feature_map: FeatureMap, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Centres x (width,) of the columns and y (height,) of the rows."""
    centers = priors.cell_centers(feature_map, config.width_px, config.height_px)
    return centers[0, :, 0], centers[:, 0, 1]


def nearest_cells(
    boxes_xyxy: np.ndarray, feature_map: FeatureMap, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Column and row (N, 2) of the cell whose centre is nearest to each object's, and the distances (N, 2)."""
    middle = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    cells, distance = np.empty(middle.shape, np.int64), np.empty(middle.shape)
    for axis, centers in enumerate(_axes(feature_map, config)):
        halfway = (centers[1:] + centers[:-1]) / 2
        cells[:, axis] = np.searchsorted(halfway, middle[:, axis] - _TIE)
        distance[:, axis] = np.abs(middle[:, axis] - centers[cells[:, axis]])
    return cells, distance


def shape_iou(sizes: np.ndarray, distance: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """IoU (N, k) of objects of sizes (N, 2) with shapes (k, 2) whose centres lie at distances (N, 2) from theirs.

    Along either axis, sizes a and b at a distance d share min(a, b, (a + b) / 2 - d), or nothing.
    """
    inter = np.ones((len(sizes), len(shapes)))
    for axis in range(2):
        a, b, d = sizes[:, axis, None], shapes[:, axis], distance[:, axis, None]
        inter *= np.minimum(np.minimum(a, b), (a + b) / 2 - d).clip(min=0)
    return inter / (sizes.prod(1)[:, None] + shapes.prod(1) - inter)


def _first_equal(
    boxes_xyxy: np.ndarray, cells: np.ndarray, shapes: np.ndarray, axes: tuple[np.ndarray, np.ndarray]
) -> list[np.ndarray]:
    """First column and row, (N, k) each, that share as much with an object as the nearest: d <= |a - b| / 2."""
    first = []
    for axis, centers in enumerate(axes):
        low, high = boxes_xyxy[:, axis, None], boxes_xyxy[:, axis + 2, None]
        reach = np.abs(high - low - shapes[:, axis]) / 2
        place = np.searchsorted(centers, (low + high) / 2 - reach - _TIE)
        first.append(np.minimum(cells[:, axis, None], place))
    return first


def _first_best(values: np.ndarray) -> np.ndarray:
    """Place (N,) of the largest of each row (N, M), the first of equals."""
    return (values >= values.max(1, keepdims=True) - _TIE).argmax(1)


def _try_all(boxes_xyxy: np.ndarray, feature_map: FeatureMap, config: Config) -> tuple[np.ndarray, ...]:
    """As `_search_map`, by the IoU with every default box of the map."""
    cells = torch.from_numpy(priors.cell_boxes(feature_map, config).reshape(-1, 4))
    corners = box_ops.cxcywh_to_xyxy(cells)

    def best(block: np.ndarray) -> np.ndarray:
        iou = box_ops.iou(torch.from_numpy(block), corners).numpy()
        index = _first_best(iou)
        return np.stack([iou[np.arange(len(iou)), index], index], axis=1)

    found = _blockwise(best, boxes_xyxy, len(cells), 2)
    return found[:, 0], found[:, 1].astype(np.int64)


def _blockwise(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, width: int, columns: int
) -> np.ndarray:
    """function of the rows in blocks, so that no array of `width` numbers a row grows large."""
    step = max(1, _BLOCK // width)
    blocks = [function(rows[i : i + step]) for i in range(0, len(rows), step)]
    return np.concatenate([np.empty((0, columns)), *blocks])


def reachable(sizes: Any, config: Config) -> np.ndarray:
    """Best IoU (N,) that objects of these sizes (N, 2) reach at the luckiest place inside the image.

    sizes: width and height as fractions of the image. A default box that leaves the image can share only its part
    inside with an object. Raises ValueError unless all sizes are above 0 and finite.
    """
    wanted = np.asarray(sizes, dtype=np.float64)
    if wanted.ndim != 2 or wanted.shape[1] != 2:
        raise ValueError(f"sizes must be (N, 2), got {wanted.shape}")
    if not ((wanted > 0) & np.isfinite(wanted)).all():
        raise ValueError("sizes must be above 0 and finite")
    inside = np.concatenate([_inside(priors.cell_boxes(m, config).reshape(-1, 4)) for m in config.maps])
    first = np.unique(inside.round(12), axis=0, return_index=True)[1]
    kinds = inside[first]  # (K, 3): few, since most boxes of a map differ in place alone

    def best(block: np.ndarray) -> np.ndarray:
        inter = np.minimum(block[:, None], kinds[:, :2]).prod(2)  # (n, K)
        union = block.prod(1)[:, None] + kinds[:, 2] - inter
        return (inter / union).max(1, keepdims=True)

    return _blockwise(best, wanted, 2 * len(kinds), 1)[:, 0]


def _inside(boxes_cxcywh: np.ndarray) -> np.ndarray:
    """Width and height of the part of each box (P, 4) inside the image, and the whole box's area: (P, 3)."""
    center, size = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:]
    part = (center + size / 2).clip(0, 1) - (center - size / 2).clip(0, 1)
    return np.column_stack([part, size.prod(1)])
