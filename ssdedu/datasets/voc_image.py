"""One image file: its size and EXIF tag without decoding, its pixels, and whether the file is whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

__all__ = [
    "REDUCTIONS",
    "Header",
    "ImageError",
    "is_complete",
    "read_header",
    "read_image",
    "reduced_px",
    "turn_upright",
]

_EXIF_ORIENTATION = 0x0112
_JPEG = b"\xff\xd8"
_END_MARKS = {_JPEG: b"\xff\xd9", b"\x89P": b"IEND"}  # JPEG and PNG, by how the file begins

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
REDUCTIONS = tuple(_REDUCED)  # of width and height, which libjpeg makes while it decodes, at less cost


class ImageError(ValueError):
    """An image file that cannot be read, or not to its end."""


class Header(NamedTuple):
    """Width and height in pixels as stored, and the EXIF orientation 1 .. 8 (1: upright as stored)."""

    width_px: int
    height_px: int
    orientation: int

    def size_px(self, upright: bool) -> tuple[int, int]:
        """(width, height) as stored, or after turning the image as its EXIF tag says."""
        swap = upright and self.orientation >= 5
        return (self.height_px, self.width_px) if swap else (self.width_px, self.height_px)


def read_header(path: Path) -> Header:
    """Reads size and orientation of an image file without decoding it; `ImageError` for broken files.

    A JPEG or PNG file must also end as such a file ends: most interrupted downloads are found here.
    """
    try:
        with path.open("rb") as file:
            whole = _ends_well(file) or is_complete(path.read_bytes())
            with Image.open(file) as image:
                # decoders turn TIFF files upright by themselves
                tag = 1 if image.format == "TIFF" else image.getexif().get(_EXIF_ORIENTATION, 1)
                width_px, height_px = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"this is no image that can be read ({error})") from None
    if not whole:
        raise ImageError("the image file is truncated: its end is missing")
    return Header(width_px, height_px, tag if isinstance(tag, int) and 1 <= tag <= 8 else 1)


def read_image(path: Path, orientation: int = 1, reduction: int = 1) -> np.ndarray:
    """Decodes an image file to (H, W, 3) uint8 RGB, then turns it by an EXIF orientation (1: as stored).

    Grey and palette images become RGB, an alpha channel is dropped, 16 bits become the upper 8. reduction: one of
    REDUCTIONS; the image then has `reduced_px` of its pixels each way, which are means of those of the file.
    Raises `ImageError` for files that cannot be decoded or lack their end mark. A JPEG that is damaged inside
    its data decodes to wrong pixels without an error; `voc_damage.find_damage` finds most of these.
    """
    data = path.read_bytes()
    if not is_complete(data):
        raise ImageError("the image file is truncated: its end is missing")
    image_bgr = _decode(data, reduction)
    if image_bgr is None:
        raise ImageError("the image cannot be decoded: it is damaged or of an unknown format")
    return turn_upright(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), orientation)


def _decode(data: bytes, reduction: int) -> np.ndarray | None:
    is_jpeg = data.startswith(_JPEG)
    flags = (_REDUCED[reduction] if is_jpeg else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ImageError(f"the image cannot be decoded ({error.err})") from None
    if image is None or is_jpeg or reduction == 1:
        return image
    height_px, width_px = image.shape[:2]
    size = reduced_px(width_px, reduction), reduced_px(height_px, reduction)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def reduced_px(length_px: int, reduction: int) -> int:
    """The pixels that a side of length_px has after a reduction."""
    return -(-length_px // reduction)


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors an image (H, W, 3) as EXIF orientation 1 .. 8 says; 5 .. 8 exchange H and W."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def is_complete(data: bytes) -> bool:
    """Whether a JPEG or PNG file has its end mark; files of other formats are left to their decoder."""
    mark = _END_MARKS.get(data[:2])
    return mark is None or data.find(mark, _scan_start(data)) >= 0


def _ends_well(file: BinaryIO) -> bool:
    """`is_complete` from the last bytes, which suffices unless something was appended to the file."""
    mark = _END_MARKS.get(file.read(2))
    tail = min(64, file.seek(0, os.SEEK_END))
    file.seek(-tail, os.SEEK_END)
    complete = mark is None or mark in file.read()
    file.seek(0)
    return complete


def _scan_start(data: bytes) -> int:
    """Where a JPEG's pixels start: behind its segments, where a thumbnail may have an end mark too."""
    position = 2
    while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] != b"\xda":
        fill = data[position + 1 : position + 2] == b"\xff"
        position += 1 if fill else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position
