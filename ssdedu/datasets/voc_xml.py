"""One VOC annotation file: what it says, and exactly what is wrong with it."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import numpy as np

from ssdedu.datasets.voc_report import BACKGROUND, Defect, Problem, check_option, raise_first

__all__ = [
    "SLACK_PX",
    "Annotation",
    "VocObject",
    "decode_text",
    "parse",
    "read_annotation",
    "size_mismatch",
    "within",
]

# an overhang up to this is rounding (0-based or exclusive corners): cut without a note
SLACK_PX = 2.0

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DIFFICULT = {"": False, "0": False, "0.0": False, "false": False, "no": False}
_DIFFICULT |= {"1": True, "1.0": True, "true": True, "yes": True}
_OBJECT_TAGS = frozenset({"object", "bndbox", "robndbox", "polygon", "xmin"})


class VocObject(NamedTuple):
    """One <object>: its number in the file from 1, class, corners in pixels as written, difficult flag."""

    number: int
    name: str
    box_px: tuple[float, float, float, float]
    difficult: bool

    @property
    def where(self) -> str:
        """Its place for messages, like "object 3 (dog)"."""
        return _where(self.number, self.name)


@dataclass(frozen=True)
class Annotation:
    """What one file says: usable objects, <size> as (width, height) or None, all class names, findings."""

    file: str
    objects: tuple[VocObject, ...] = ()
    size_px: tuple[int, int] | None = None
    names: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the file as a whole could be read, whatever its single objects are like."""
        return all(problem.scope != "image" for problem in self.problems)

    def boxes_xyxy(self, width_px: int, height_px: int) -> np.ndarray:
        """Boxes (G, 4) float32, fractions of the image: xmin / width and so on, as the original Caffe reader
        (`ReadXMLToAnnotatedDatum`) divides, without taking 1 from VOC's 1-based corners."""
        boxes_px = np.array([item.box_px for item in self.objects], np.float64).reshape(-1, 4)
        return (boxes_px / [width_px, height_px, width_px, height_px]).astype(np.float32)

    @property
    def difficult(self) -> np.ndarray:
        """Difficult flags (G,) bool."""
        return np.array([item.difficult for item in self.objects], bool)


def read_annotation(
    path: str | PathLike[str], size_px: tuple[int, int] | None = None, on_error: str = "raise"
) -> Annotation:
    """Reads one VOC XML file and checks its boxes against the image's (width, height) in pixels.

    Boxes stay in pixels as written, cut at the border where they hang over it; `Annotation.boxes_xyxy` gives
    fractions. Without `size_px` the file's own <size> is taken, and without that the border is not checked.
    Raises `AnnotationError` at the first broken or ambiguous thing; with on_error="skip" what cannot be used
    is left out and listed in `problems`.
    """
    check_option("on_error", on_error, ("raise", "skip"))
    annotation = parse(path)
    if size_px and annotation.size_px not in (None, size_px):
        problem = size_mismatch(annotation.size_px, size_px).at(path)
        annotation = replace(annotation, objects=(), problems=(problem, *annotation.problems))
    known_px = size_px or annotation.size_px
    if known_px:
        annotation = within(annotation, *known_px)
    if on_error == "raise":
        raise_first(annotation.problems)
    return annotation


def parse(path: str | PathLike[str]) -> Annotation:
    """Reads one file as far as this goes without knowing the image; what is broken goes into `problems`."""
    try:
        root = _root(path)
        size_px = _size(root)
    except Defect as defect:
        return Annotation(str(path), problems=(defect.at(path),))
    objects: list[VocObject] = []
    problems: list[Problem] = []
    names: set[str] = set()
    for number, element in enumerate(root.findall("object"), 1):
        name = ""
        try:
            name = _name(element)
            names.add(name)
            objects.append(VocObject(number, name, _box(element), _difficult(element)))
        except Defect as defect:
            problems.append(defect.at(path, _where(number, name)))
    return Annotation(str(path), tuple(objects), size_px, frozenset(names), tuple(problems))


def within(annotation: Annotation, width_px: int, height_px: int) -> Annotation:
    """Cuts the boxes at the border of the image; boxes that lie outside are taken out and listed."""
    objects: list[VocObject] = []
    problems = list(annotation.problems)
    for item in annotation.objects:
        try:
            box_px, overhang_px = _clip(item.box_px, width_px, height_px)
        except Defect as defect:
            problems.append(defect.at(annotation.file, item.where))
            continue
        objects.append(item._replace(box_px=box_px))
        if overhang_px > SLACK_PX:
            what = (
                f"the box hangs {overhang_px:.10g} px over the border of the {width_px} x {height_px} image"
            )
            problems.append(Problem("clipped box", annotation.file, what, item.where))
    return replace(annotation, objects=tuple(objects), problems=tuple(problems))


def decode_text(data: bytes) -> tuple[str, bool]:
    """The text of a file, and whether its encoding is certain (mark, declaration, valid UTF-8) or a guess.

    A guess is Latin-1: right for ASCII, so for the numbers, but not for other letters.
    Raises UnicodeError when the file contradicts its own byte order mark.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding), True
    for encoding in _encodings(data):
        try:
            return data.decode(encoding), True
        except (UnicodeError, LookupError):
            continue
    return data.decode("latin-1"), False


def _encodings(data: bytes) -> Iterator[str]:
    if 0 in data[:2]:
        yield "utf-16-be" if data[0] == 0 else "utf-16-le"
    declared = _DECLARED.match(data)
    if declared and not declared[1].lower().startswith((b"utf-16", b"utf-32", b"ucs")):
        yield declared[1].decode()
    yield "utf-8"


def _root(path: str | PathLike[str]) -> Element:
    try:
        text, certain = decode_text(Path(path).read_bytes())
        root = defusedxml.ElementTree.fromstring(text.lstrip("\ufeff \t\r\n"), forbid_dtd=True)
    except defusedxml.DefusedXmlException:
        raise Defect("DTD or entity", "the file declares a document type or entities") from None
    except (OSError, UnicodeError, ElementTree.ParseError) as error:
        raise Defect("unreadable XML", f"the XML cannot be read: {error}") from None
    _check_form(root)
    if not certain:
        _check_names(root)
    return root


def _check_form(root: Element) -> None:
    if root.tag != "annotation":
        raise Defect("not an annotation", f"the root element is <{root.tag}>, not <annotation>")
    for child in root:
        depth_tags = {element.tag.lower() for element in child.iter()} if child.tag != "object" else set()
        if depth_tags & _OBJECT_TAGS or (child.tag == "object" and child.find(".//object") is not None):
            raise Defect(
                "not an annotation", f"<{child.tag}> holds objects or boxes in a form that VOC has not"
            )


def _check_names(root: Element) -> None:
    for element in root.findall("object/name"):
        if not (element.text or "").isascii():
            raise Defect("unknown encoding", "a class name is neither UTF-8 nor in the declared encoding")


def _only(element: Element, tag: str, kind: str) -> Element | None:
    found = element.findall(tag)
    if len(found) > 1:
        raise Defect(kind, f"there are {len(found)} <{tag}> elements")
    return found[0] if found else None


def _text(element: Element, tag: str, kind: str) -> str:
    child = _only(element, tag, kind)
    return " ".join((child.text or "").split()) if child is not None else ""


def _number(element: Element, tag: str, kind: str) -> float:
    text = _text(element, tag, kind)
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise Defect(kind, f"<{tag}> is {text!r}, not a number" if text else f"<{tag}> is missing or empty")
    return number


def _size(root: Element) -> tuple[int, int] | None:
    size = _only(root, "size", "bad size")
    if size is None or not all(_text(size, tag, "bad size") for tag in ("width", "height")):
        return None
    width, height = (_number(size, tag, "bad size") for tag in ("width", "height"))
    if width < 0 or height < 0 or not width.is_integer() or not height.is_integer():
        raise Defect("bad size", f"<size> is {width:g} x {height:g}")
    return (int(width), int(height)) if width and height else None


def _name(element: Element) -> str:
    name = _text(element, "name", "no name")
    if not name:
        raise Defect("no name", "there is no class name")
    if not name.isprintable():
        raise Defect("no name", f"the class name {name!r} has invisible characters")
    if name.casefold() in BACKGROUND:
        raise Defect("background object", "the class is called as the background, label 0")
    return name


def _difficult(element: Element) -> bool:
    text = _text(element, "difficult", "bad difficult")
    if text.lower() not in _DIFFICULT:
        raise Defect("bad difficult", f"<difficult> is {text!r}")
    return _DIFFICULT[text.lower()]


def _box(element: Element) -> tuple[float, float, float, float]:
    bndbox = _only(element, "bndbox", "no box")
    if bndbox is None:
        raise Defect(
            "no box", f"there is no <bndbox>, only {', '.join(f'<{child.tag}>' for child in element)}"
        )
    xmin, ymin, xmax, ymax = (_number(bndbox, tag, "bad number") for tag in _CORNERS)
    for axis, low, high in (("x", xmin, xmax), ("y", ymin, ymax)):
        if high < low:
            raise Defect("inverted box", f"{axis}min {low:.10g} is larger than {axis}max {high:.10g}")
    for axis, low, high in (("x", xmin, xmax), ("y", ymin, ymax)):
        if high == low:
            raise Defect("zero-area box", f"{axis}min and {axis}max are both {low:.10g}")
    return xmin, ymin, xmax, ymax


def _clip(
    box_px: tuple[float, float, float, float], width_px: int, height_px: int
) -> tuple[tuple[float, float, float, float], float]:
    xmin, ymin, xmax, ymax = box_px
    overhang_px = max(-xmin, -ymin, xmax - width_px, ymax - height_px, 0.0)
    inside = max(xmin, 0.0), max(ymin, 0.0), min(xmax, width_px), min(ymax, height_px)
    corners = " ".join(f"{value:.10g}" for value in box_px)
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise Defect("box outside", f"the box {corners} lies outside the {width_px} x {height_px} image")
    corners_xyxy = (np.array(inside) / [width_px, height_px, width_px, height_px]).astype(np.float32)
    if not (corners_xyxy[2:] > corners_xyxy[:2]).all():
        raise Defect("zero-area box", f"the box {corners} has no area in single precision")
    return inside, overhang_px


def size_mismatch(said_px: tuple[int, int] | None, size_px: tuple[int, int]) -> Defect:
    """The finding that <size> and the image disagree."""
    said = f"{said_px[0]} x {said_px[1]}" if said_px else "nothing"
    return Defect("size mismatch", f"<size> says {said}, the image has {size_px[0]} x {size_px[1]} pixels")


def _where(number: int, name: str) -> str:
    return f"object {number} ({name})" if name else f"object {number}"
