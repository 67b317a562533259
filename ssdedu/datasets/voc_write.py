"""Write images and their objects as a VOC folder that `VOCFolder` reads back equal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import cv2
import numpy as np

from ssdedu.datasets.voc_folder import check_classes, file_key
from ssdedu.files import write_atomically
from ssdedu.sample import Dataset, Sample

__all__ = ["write_voc"]

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')


def write_voc(
    folder: str | PathLike[str],
    samples: Iterable[Sample] | Dataset,
    classes: Sequence[str],
    split: str | None = None,
    overwrite: bool = False,
) -> int:
    """Writes samples as PNG and XML files of a VOC folder and returns how many there were.

    Names become file stems; samples without a name are numbered. With `split` their ids go to
    ImageSets/Main/<split>.txt, last of all. Each file appears whole or not at all. Boxes are written so
    that they read back bit for bit. Raises ValueError for names and samples that a VOC folder cannot hold,
    and, unless `overwrite`, for names that the folder holds already.
    """
    root, classes = Path(folder), check_classes(classes)
    _check_file_name("split" if split is None else split, "split")
    for part in ("Annotations", "JPEGImages"):
        (root / part).mkdir(parents=True, exist_ok=True)
    present = {file_key(path.stem) for path in (root / "Annotations").iterdir()} if not overwrite else set()
    ids: list[str] = []
    for index, sample in enumerate(_each(samples)):
        ids.append(sample.name or f"{split + '_' if split else ''}{index:06d}")
        _check_name(ids[-1], present, root)
        _check_sample(sample, ids[-1], len(classes))
        _write_sample(root, ids[-1], sample, classes)
    if split is not None:
        listing = "".join(f"{name}\n" for name in ids)
        write_atomically(root / "ImageSets" / "Main" / f"{split}.txt", listing.encode())
    return len(ids)


def _each(samples: Iterable[Sample] | Dataset) -> Iterator[Sample]:
    if isinstance(samples, Iterable):
        yield from samples
    else:
        yield from (samples[index] for index in range(len(samples)))


def _check_file_name(name: str, what: str) -> None:
    if (
        _FORBIDDEN.search(name)
        or not name.isprintable()
        or name != name.strip(" .")
        or len(name.encode()) > 200
    ):
        raise ValueError(f"{what} name {name!r} cannot be a file name on every system; choose another one")


def _check_name(name: str, present: set[str], root: Path) -> None:
    _check_file_name(name, "sample")
    if file_key(name) in present:
        raise ValueError(
            f"{root} already holds {name!r} (or a name that differs only in case); give the sample another "
            "name, write to another folder, or pass overwrite=True to replace what an earlier run wrote"
        )
    present.add(file_key(name))


def _check_sample(sample: Sample, name: str, num_classes: int) -> None:
    image, labels = sample.image, sample.labels
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"{name}: image is {image.dtype} {image.shape}; it must be uint8 (H, W, 3), not empty"
        )
    if len(labels) and not (labels.min() >= 1 and labels.max() <= num_classes):
        raise ValueError(f"{name}: labels must lie in 1 .. {num_classes} (the classes given), not {labels}")
    boxes_xyxy = sample.boxes_xyxy
    if boxes_xyxy.shape != (len(labels), 4) or len(sample.difficult) != len(labels):
        raise ValueError(f"{name}: boxes_xyxy, labels and difficult must describe the same objects")
    inside = (boxes_xyxy >= 0).all() and (boxes_xyxy <= 1).all()
    if not inside or not (boxes_xyxy[:, :2] < boxes_xyxy[:, 2:]).all():
        raise ValueError(f"{name}: boxes must have an area and lie in 0 .. 1, not {boxes_xyxy.tolist()}")


def _write_sample(root: Path, name: str, sample: Sample, classes: Sequence[str]) -> None:
    write_atomically(root / "JPEGImages" / f"{name}.png", _png(name, sample.image))
    annotation = _annotation_xml(root.name, name, sample, classes)
    write_atomically(root / "Annotations" / f"{name}.xml", annotation)


def _png(name: str, image: np.ndarray) -> bytes:
    try:
        written, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:  # OpenCV 4.10 raises, 5.0 returns False
        written = False
    if not written:
        raise ValueError(f"{name}: the image of {image.shape} cannot be written as PNG")
    return encoded.tobytes()


def _annotation_xml(folder: str, name: str, sample: Sample, classes: Sequence[str]) -> bytes:
    height_px, width_px, depth = sample.image.shape
    boxes_xyxy = np.asarray(sample.boxes_xyxy, np.float32)
    sides_px = (width_px, height_px, width_px, height_px)
    root = Element("annotation")
    _fill(root, folder=folder, filename=f"{name}.png")
    _fill(SubElement(root, "size"), width=width_px, height=height_px, depth=depth)
    _fill(root, segmented=0)
    for box_xyxy, label, difficult in zip(boxes_xyxy, sample.labels, sample.difficult, strict=True):
        item = SubElement(root, "object")
        _fill(item, name=classes[label - 1], pose="Unspecified", truncated=0, difficult=int(difficult))
        texts = [_pixels(*pair) for pair in zip(box_xyxy, sides_px, strict=True)]
        _fill(SubElement(item, "bndbox"), **dict(zip(("xmin", "ymin", "xmax", "ymax"), texts, strict=True)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode").encode() + b"\n"


def _fill(element: Element, **texts: str | int) -> None:
    for tag, text in texts.items():
        SubElement(element, tag).text = str(text)


def _pixels(fraction: np.float32, size_px: int) -> str:
    """The shortest decimal number of pixels that reads back as exactly this fraction."""
    pixels = float(fraction) * size_px
    short = (f"{pixels:.{digits}f}" for digits in range(7))
    return next((text for text in short if np.float32(float(text) / size_px) == fraction), repr(pixels))
