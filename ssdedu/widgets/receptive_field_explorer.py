"""VGG16-SSD300 layer by layer: what one cell of a map can see, and how much of it counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import traitlets

from ssdedu.map_fields import effective_extent
from ssdedu.receptive_field import Field, Layer, chain, footprint, paths, vgg16_ssd_layers
from ssdedu.widgets.base import Explorer, bundle, data_url

__all__ = ["Cell", "ReceptiveFieldExplorer", "Sight", "ssd300_layers"]

SIZE_PX = 300
MAX_DILATION = 7  # from 8 on fc6's padding would hide pixels of the image that lie in a field


class Sight(NamedTuple):
    """What a cell sees: the geometry of its map, and its own place in the image.

    rows, columns: first and last pixel of the receptive field, padding included; effective_px: the map's
    `effective_extent`; in_image: share (0 .. 1) of the receptive field that is image; the rest is padding.
    """

    field: Field
    rows: tuple[int, int]
    columns: tuple[int, int]
    effective_px: int
    in_image: float


class Cell(NamedTuple):
    """A cell of the map that `layer` makes of 300 x 300 px; atrous, dilation: see `ssd300_layers`."""

    layer: str
    row: int
    column: int
    atrous: bool = True
    dilation: int = 6

    def layers(self) -> tuple[Layer, ...]:
        """All layers from the image to this one. Raises ValueError for a name that is not among them."""
        layers = ssd300_layers(self.atrous, self.dilation)
        names = [layer.name for layer in layers]
        if self.layer not in names:
            raise ValueError(f"no layer {self.layer!r}; there are {', '.join(names)}")
        return layers[: names.index(self.layer) + 1]

    def sight(self) -> Sight:
        """Field, extent and share in the image. Raises ValueError for a cell outside its map."""
        layers = self.layers()
        field = chain(layers, SIZE_PX)[-1]
        seen = [len(footprint(layers, SIZE_PX, index)) for index in (self.row, self.column)]
        in_image = seen[0] * seen[1] / field.receptive_field**2
        extent = effective_extent(layers)
        return Sight(field, field.pixels(self.row), field.pixels(self.column), extent, in_image)

    def weights(self) -> np.ndarray:
        """How much each pixel counts (300, 300): the root of its number of paths to the cell.

        With random weights of mean 0 the typical |gradient| goes with it (`receptive_field.paths`). Raises
        ValueError for a cell outside its map.
        """
        layers = self.layers()
        return np.sqrt(np.outer(paths(layers, SIZE_PX, self.row), paths(layers, SIZE_PX, self.column)))


class ReceptiveFieldExplorer(Explorer):
    """A photo and what one cell sees of it: a slider walks through the layers, the pointer chooses the cell.

    image: (H, W, 3) uint8, stretched to 300 x 300 px as SSD does. layer, row, column: the cell at the start,
    the middle one by default. A click or an arrow key changes it; a pointer that only passes does not.
    The frame is the receptive field, of which padding is part. The effective field is shown as shading,
    `Cell.weights`, and as a square with the side `effective_extent`. Raises ValueError for an image of another
    kind and a cell that is not there. A row or column set beyond the map later becomes its last.
    """

    _esm = bundle("receptive_field_explorer.js")
    image = traitlets.Unicode().tag(sync=True)
    layers = traitlets.Dict().tag(sync=True)
    layer = traitlets.Unicode().tag(sync=True)
    row = traitlets.Int(0, min=0).tag(sync=True)
    column = traitlets.Int(0, min=0).tag(sync=True)
    atrous = traitlets.Bool(True).tag(sync=True)
    dilation = traitlets.Int(6, min=1, max=MAX_DILATION).tag(sync=True)

    def __init__(
        self,
        image: np.ndarray,
        layer: str = "conv4_3",
        row: int | None = None,
        column: int | None = None,
        atrous: bool = True,
        dilation: int = 6,
    ) -> None:
        cell = Cell(layer, 0, 0, atrous, dilation)
        middle = cell.sight().field.size // 2  # type: ignore[operator]
        cell = cell._replace(row=middle if row is None else row, column=middle if column is None else column)
        cell.sight()
        described = {name: _described(ssd300_layers(name == "atrous")) for name in ("atrous", "full")}
        super().__init__(image=data_url(_stretched(image), "JPEG"), layers=described, **cell._asdict())

    def cell(self, **changes: Any) -> Cell:
        """The cell that is shown, or another: cell(layer="fc7", dilation=1)."""
        return Cell(self.layer, self.row, self.column, self.atrous, self.dilation)._replace(**changes)

    @traitlets.validate("layer")
    def _known(self, proposal: Any) -> str:
        if proposal["value"] not in (names := [layer.name for layer in ssd300_layers()]):
            raise traitlets.TraitError(f"no layer {proposal['value']!r}; there are {', '.join(names)}")
        return str(proposal["value"])

    @traitlets.observe("layer", "row", "column", "atrous")
    def _stay_inside(self, change: Any) -> None:
        names = [layer.name for layer in ssd300_layers(self.atrous)]
        if self.layer not in names:  # the full VGG16 has no conv11
            self.layer = names[-1]
        last = (chain(self.cell().layers(), SIZE_PX)[-1].size or 1) - 1
        self.row, self.column = min(self.row, last), min(self.column, last)

    def __repr__(self) -> str:
        return f"ReceptiveFieldExplorer: {self.layer}, cell ({self.row}, {self.column}), of VGG16-SSD300"


def ssd300_layers(atrous: bool = True, dilation: int = 6) -> tuple[Layer, ...]:
    """`vgg16_ssd_layers` for 300 px, with another dilation (1 .. 7) of fc6 and the padding that keeps its size.

    Without atrous it is the full VGG16, whose 7x7 fc6 has no dilation: `dilation` does nothing then.
    Raises ValueError for a dilation out of range.
    """
    if dilation not in range(1, MAX_DILATION + 1):
        raise ValueError(f"dilation must be 1 .. {MAX_DILATION}, not {dilation!r}")
    layers = vgg16_ssd_layers(SIZE_PX, atrous)
    if not atrous:
        return layers
    return tuple(
        dataclasses.replace(layer, dilation=dilation, padding=dilation) if layer.name == "fc6" else layer
        for layer in layers
    )


def _described(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(layer) for layer in layers]


def _stretched(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    return cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR)
