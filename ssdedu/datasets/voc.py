"""Any folder in the layout of PASCAL VOC as a data set: VOC2007, VOC2012, both together, or one's own."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssdedu.datasets.voc_damage import find_damage
from ssdedu.datasets.voc_folder import (
    VOC_CLASSES,
    Folder,
    Folders,
    Source,
    check_classes,
    choose_classes,
    find_sources,
    unknown_class,
)
from ssdedu.datasets.voc_image import REDUCTIONS, Header, ImageError, read_header, read_image, reduced_px
from ssdedu.datasets.voc_report import (
    AnnotationError,
    Defect,
    Problem,
    Report,
    check_option,
    raise_first,
    summarize,
)
from ssdedu.datasets.voc_write import write_voc
from ssdedu.datasets.voc_xml import Annotation, parse, read_annotation, size_mismatch, within
from ssdedu.sample import Sample, Truth

__all__ = [
    "VOC_CLASSES",
    "AnnotationError",
    "Report",
    "VOCFolder",
    "check_folder",
    "read_annotation",
    "write_voc",
]


class VOCFolder:
    """Images and objects of one or several folders in VOC layout, as `ssdedu.sample.Dataset` asks.

    folder: a folder with Annotations, JPEGImages and perhaps ImageSets/Main, or the folder above a single
    such one; or a list of folders or (folder, split) pairs, like [("VOC2007", "trainval"),
    ("VOC2012", "trainval")]. split: the file ImageSets/Main/<split>.txt; None reads every annotation.
    classes: names of the labels 1, 2, ...; None takes VOC's 20 if no other name stands in any annotation of
    the folders (of all splits), else the sorted names.
    on_error: "raise" stops at what is broken or ambiguous with an `AnnotationError`; "skip" leaves such
    objects and images out, warns once, and lists them in `report`. keep_difficult: False drops these objects.
    exif: "auto" gives an image with an EXIF rotation the orientation whose size agrees with <size>; if both
    agree, that is ambiguous and an error; "ignore" reads all pixels as stored, "apply" turns them upright.

    The file stem names the image; <filename> is not looked at. Fractions are xmin / width without taking 1
    off, as in the original Caffe reader. XML files and image headers are read at construction, pixels later.
    """

    def __init__(
        self,
        folder: Folders,
        split: str | None = None,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
        keep_difficult: bool = True,
        exif: str = "auto",
    ) -> None:
        check_option("on_error", on_error, ("raise", "skip"))
        sources = find_sources(folder, split)
        content = _read(sources, classes, exif, keep_difficult)
        self.name = " + ".join(source.title for source in sources)
        self.classes = content.classes
        self.ids = [item.truth.name for item in content.items]
        self.report = content.report(self.name)
        self._items = content.items
        self._complain(on_error)

    def _complain(self, on_error: str) -> None:
        errors, notes = len(self.report.errors), len(self.report.notes)
        if on_error == "raise" and errors:
            remedy = 'on_error="skip" or --skip-bad leaves them out'
            hint = f"({errors} such findings; `ssdedu check-data` lists them, {remedy})"
            raise_first(self.report.errors, hint)
        if not self._items:
            raise ValueError(f"{self.name}: there is no image that can be used; `ssdedu check-data` says why")
        if errors or notes:
            kinds = Counter(problem.kind for problem in self.report.problems)
            counts = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
            warnings.warn(f"{self.name}: {counts}; print(dataset.report) lists them", stacklevel=3)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"VOCFolder({self.name}: {len(self)} images, {len(self.classes)} classes)"

    def truth(self, index: int) -> Truth:
        """The objects of image `index` and its size, without decoding it."""
        truth = self._items[index].truth
        arrays = (truth.boxes_xyxy.copy(), truth.labels.copy(), truth.difficult.copy())
        return Truth(*arrays, truth.width_px, truth.height_px, truth.name)

    def __getitem__(self, index: int) -> Sample:
        """Image `index`, decoded to RGB, and its objects; `AnnotationError` when the file is damaged."""
        truth = self.truth(index)
        image = _decode(self._items[index])
        return Sample(image, truth.boxes_xyxy, truth.labels, truth.difficult, truth.name)

    def reduced(self, width_px: int, height_px: int) -> VOCFolder:
        """The same images at 1/2, 1/4 or 1/8 of their pixels each way, as far as they keep width_px and height_px.

        Large photos are decoded faster and take less memory so. `truth` gives the size that they have then; the boxes
        are fractions and stay.
        """
        smaller = copy(self)
        smaller._items = [_reduced(item, width_px, height_px) for item in self._items]
        return smaller


def check_folder(
    folder: Folders,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    decode: bool = True,
    exif: str = "auto",
) -> Report:
    """Reads everything in a folder, decodes every image unless decode=False, and reports.

    Arguments are those of `VOCFolder`. Broken files never raise, they are listed; a folder or split that is
    not there raises ValueError.

    Decoding finds images that cannot be decoded and, unlike `VOCFolder`, JPEG files that decode to wrong
    pixels where libjpeg notices it (`voc_damage`). That is a matter of luck, as JPEG has no checksum: data
    that end early are found always, some hundred bytes overwritten in most photos, a single wrong bit in some.
    PNG has checksums; in other formats damage inside the data can go unnoticed.
    """
    sources = find_sources(folder, split)
    content = _read(sources, classes, exif, keep_difficult=True)
    if decode:
        content = _undamaged(content)
    return content.report(" + ".join(source.title for source in sources))


@dataclass(frozen=True)
class _Item:
    image: Path
    orientation: int  # the EXIF orientation to undo, 1: as stored
    truth: Truth
    reduction: int = 1


@dataclass(frozen=True)
class _Rules:
    classes: tuple[str, ...]
    exif: str
    keep_difficult: bool


@dataclass(frozen=True)
class _Content:
    classes: tuple[str, ...]
    items: list[_Item]
    problems: list[Problem]

    def report(self, title: str) -> Report:
        return summarize(title, self.classes, [item.truth for item in self.items], self.problems)


def _read(sources: list[Source], classes: Sequence[str] | None, exif: str, keep_difficult: bool) -> _Content:
    check_option("exif", exif, ("auto", "ignore", "apply"))
    wanted = [(source.folder, stem) for source in sources for stem in source.ids]
    names = _names(wanted)
    annotations = _parse_all(wanted if classes is not None else wanted + _all_stems(sources))
    problems = [note for source in sources for note in source.notes]
    if classes is None:
        classes = choose_classes(name for annotation in annotations.values() for name in annotation.names)
        problems += _doubts(sources, classes, annotations, wanted)
    rules = _Rules(check_classes(classes), exif, keep_difficult)
    items = []
    for (folder, stem), name in zip(_progress(wanted, "image headers"), names, strict=True):
        item, found = _item(folder, annotations[folder.root, stem], stem, name, rules)
        items += [item] if item else []
        problems += found
    return _Content(rules.classes, items, problems)


def _names(wanted: list[tuple[Folder, str]]) -> list[str]:
    """The stems; with the folder before them where several folders have the same ones."""
    if len({(folder.root, stem) for folder, stem in wanted}) < len(wanted):
        raise ValueError("the same image is listed twice; name splits of one folder that do not overlap")
    plain = [stem for _, stem in wanted]
    named = [f"{folder.root.name}/{stem}" for folder, stem in wanted]
    full = [f"{folder.root}/{stem}" for folder, stem in wanted]
    return next((names for names in (plain, named) if len(set(names)) == len(names)), full)


def _all_stems(sources: list[Source]) -> list[tuple[Folder, str]]:
    return [(source.folder, stem) for source in sources for stem in source.folder.annotations]


def _parse_all(wanted: list[tuple[Folder, str]]) -> dict[tuple[Path, str], Annotation]:
    folders = {(folder.root, stem): folder for folder, stem in wanted}
    return {key: _parse(folders[key], key[1]) for key in _progress(folders, "annotations")}


def _parse(folder: Folder, stem: str) -> Annotation:
    if stem in folder.annotations:
        return parse(folder.annotations[stem])
    path = folder.root / "Annotations" / f"{stem}.xml"
    return Annotation(
        str(path), problems=(Problem("missing annotation", str(path), "there is no such file"),)
    )


def _doubts(
    sources: list[Source],
    classes: Sequence[str],
    annotations: dict[tuple[Path, str], Annotation],
    wanted: list[tuple[Folder, str]],
) -> list[Problem]:
    """What makes the list of classes found in the folder doubtful: unreadable files, names alike."""
    listed = {(folder.root, stem) for folder, stem in wanted}
    elsewhere = [annotation for key, annotation in annotations.items() if key not in listed]
    problems = [p for annotation in elsewhere if not annotation.readable for p in annotation.problems]
    alike = Counter(name.casefold() for name in classes)
    twins = [name for name in classes if alike[name.casefold()] > 1]
    place = ", ".join(sorted({str(source.folder.root) for source in sources}))
    return [*problems, Problem("similar class names", place, ", ".join(twins))] if twins else problems


def _item(
    folder: Folder, annotation: Annotation, stem: str, name: str, rules: _Rules
) -> tuple[_Item | None, list[Problem]]:
    if not annotation.readable:
        return None, list(annotation.problems)
    file = annotation.file
    try:
        image = folder.image(stem)
        file = str(image)
        header = _header(image)
        upright = _is_turned(header, annotation, rules.exif)
    except Defect as defect:
        return None, [*annotation.problems, defect.at(file)]
    width_px, height_px = header.size_px(upright)
    annotation = _select(within(annotation, width_px, height_px), rules)
    labels = np.array([rules.classes.index(item.name) + 1 for item in annotation.objects], np.int64)
    boxes_xyxy = annotation.boxes_xyxy(width_px, height_px)
    truth = Truth(boxes_xyxy, labels, annotation.difficult, width_px, height_px, name)
    return _Item(image, header.orientation if upright else 1, truth), list(annotation.problems)


def _header(image: Path) -> Header:
    try:
        return read_header(image)
    except ImageError as error:
        raise Defect("broken image", str(error)) from None


def _is_turned(header: Header, annotation: Annotation, exif: str) -> bool:
    """Whether the boxes belong to the image as turned by its EXIF tag."""
    choices = {"ignore": [False], "apply": [True], "auto": [False, True]}[
        exif if header.orientation > 1 else "ignore"
    ]
    fitting = [turned for turned in choices if annotation.size_px in (None, header.size_px(turned))]
    if not fitting:
        raise size_mismatch(annotation.size_px, header.size_px(choices[0]))
    if len(fitting) > 1 and annotation.objects:
        what = f"EXIF orientation {header.orientation}, and <size> does not tell whether the boxes follow it"
        raise Defect("ambiguous EXIF", what)
    return fitting[-1]


def _select(annotation: Annotation, rules: _Rules) -> Annotation:
    """Takes out objects of unknown classes, which are listed, and difficult ones if these are not wanted."""
    unknown = [item for item in annotation.objects if item.name not in rules.classes]
    found = [unknown_class(item.name, rules.classes).at(annotation.file, item.where) for item in unknown]
    kept = [item for item in annotation.objects if item not in unknown]
    kept = [item for item in kept if rules.keep_difficult or not item.difficult]
    return replace(annotation, objects=tuple(kept), problems=(*annotation.problems, *found))


def _reduced(item: _Item, width_px: int, height_px: int) -> _Item:
    sizes = {r: (reduced_px(item.truth.width_px, r), reduced_px(item.truth.height_px, r)) for r in REDUCTIONS}
    reduction = max((r for r, (w, h) in sizes.items() if w >= width_px and h >= height_px), default=1)
    width_px, height_px = sizes[reduction]
    return replace(
        item, truth=replace(item.truth, width_px=width_px, height_px=height_px), reduction=reduction
    )


def _decode(item: _Item) -> np.ndarray:
    try:
        image = read_image(item.image, item.orientation, item.reduction)
    except (ImageError, OSError) as error:
        raise AnnotationError(Problem("broken image", str(item.image), str(error))) from None
    size_px = (image.shape[1], image.shape[0])
    expected_px = (item.truth.width_px, item.truth.height_px)
    if size_px != expected_px:
        raise AnnotationError(size_mismatch(expected_px, size_px).at(item.image))
    return image


def _undamaged(content: _Content) -> _Content:
    """Leaves out the images that cannot be decoded, or only to wrong pixels, and lists them."""
    with ThreadPoolExecutor(1) as beside:  # the process that looks for damage works beside this one
        search = beside.submit(find_damage, [item.image for item in content.items])
        troubles = [_trouble(item) for item in _progress(content.items, "images")]
    damage = {path: Problem("broken image", str(path), what) for path, what in search.result().items()}
    troubles = [t or damage.get(item.image) for t, item in zip(troubles, content.items, strict=True)]
    items = [item for item, trouble in zip(content.items, troubles, strict=True) if not trouble]
    return replace(content, items=items, problems=content.problems + [t for t in troubles if t])


def _trouble(item: _Item) -> Problem | None:
    try:
        _decode(item)
    except AnnotationError as error:
        return error.problem
    return None


def _progress(work: Collection[Any], what: str) -> Iterable[Any]:
    from tqdm.auto import tqdm

    return tqdm(work, desc=what, disable=len(work) < 2000, leave=False)
