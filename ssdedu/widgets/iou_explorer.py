"""Two boxes to move and resize by hand, with what they share and their IoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets

from ssdedu import boxes
from ssdedu.widgets.base import Explorer, bundle, data_url

__all__ = ["IouExplorer", "Overlap"]

SIZE_PX = 100
Pair = tuple[Sequence[float], Sequence[float]]
_HALF_A_SIDE: Pair = ((14, 32, 50, 68), (32, 32, 68, 68))


class Overlap(NamedTuple):
    """Areas of box A, box B, their intersection and their union in square pixels, and their IoU."""

    a: float
    b: float
    intersection: float
    union: float
    iou: float


class IouExplorer(Explorer):
    """Boxes A and B on an image of 100 x 100 px: drag them, and see intersection, union and IoU (Sec. 2.2).

    pairs_px: named pairs of boxes (xmin, ymin, xmax, ymax), a button for each; the first is shown at the start.
    image (H, W, 3) uint8 lies under the boxes, squeezed into a square as SSD squeezes it. `a_px`, `b_px` are in
    step with the page. Raises ValueError for no pair and for a box without area or not inside the image.
    """

    _esm = bundle("iou_explorer.js")
    a_px = traitlets.List(traitlets.Float()).tag(sync=True)
    b_px = traitlets.List(traitlets.Float()).tag(sync=True)
    pairs = traitlets.List(traitlets.Dict()).tag(sync=True)
    image = traitlets.Unicode().tag(sync=True)

    def __init__(self, pairs_px: Mapping[str, Pair] | None = None, image: np.ndarray | None = None) -> None:
        pairs = {"half a side": _HALF_A_SIDE} if pairs_px is None else pairs_px
        if not pairs:
            raise ValueError("pairs_px needs at least one pair of boxes to start with")
        known = [{"name": name, "a": _checked(a), "b": _checked(b)} for name, (a, b) in pairs.items()]
        url = "" if image is None else data_url(image)
        super().__init__(a_px=known[0]["a"], b_px=known[0]["b"], pairs=known, image=url)

    @traitlets.validate("a_px", "b_px")
    def _inside(self, proposal: Any) -> list[float]:
        return _checked(proposal["value"], proposal["trait"].name)

    def iou(self, a_px: Sequence[float] | None = None, b_px: Sequence[float] | None = None) -> float:
        """The IoU of two boxes, the page's by default, by `ssdedu.boxes`."""
        return self.overlap(a_px, b_px).iou

    def overlap(self, a_px: Sequence[float] | None = None, b_px: Sequence[float] | None = None) -> Overlap:
        """The numbers that the page shows for two boxes, its own by default."""
        pair = [self.a_px if a_px is None else _checked(a_px), self.b_px if b_px is None else _checked(b_px)]
        a, b = torch.tensor(pair, dtype=torch.float64)
        shared = torch.cat([torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])])
        area_a, area_b, inter = boxes.area(torch.stack([a, b, shared])).tolist()
        return Overlap(area_a, area_b, inter, area_a + area_b - inter, boxes.iou(a[None], b[None]).item())

    def __repr__(self) -> str:
        return f"IouExplorer: A {_named(self.a_px)}, B {_named(self.b_px)}, IoU {self.iou():.4f}"


def _checked(box_px: Sequence[float], what: str = "box") -> list[float]:
    """Four floats. Raises ValueError for a box without area or not inside the image."""
    box = [float(v) for v in box_px]
    if len(box) != 4:
        raise ValueError(f"{what}: a box has four numbers xmin, ymin, xmax, ymax, got {box}")
    boxes.check_boxes(torch.tensor([box]), what)
    if min(box) < 0 or max(box) > SIZE_PX:
        raise ValueError(f"{what}: box {box} is not inside the image of {SIZE_PX} x {SIZE_PX} px")
    return box


def _named(box_px: Sequence[float]) -> str:
    return f"({', '.join(f'{v:g}' for v in box_px)})"
