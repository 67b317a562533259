"""Where things lie in a VOC folder: the root, annotations and images by stem, the ids of a split."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ssdedu.datasets.voc_report import BACKGROUND, Defect, Problem
from ssdedu.datasets.voc_xml import decode_text

__all__ = [
    "VOC_CLASSES",
    "Folder",
    "FolderLike",
    "Folders",
    "Source",
    "check_classes",
    "choose_classes",
    "file_key",
    "find_sources",
    "unknown_class",
]

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})

FolderLike = str | PathLike[str]
Folders = FolderLike | Iterable[FolderLike | tuple[FolderLike, str | None]]


@dataclass(frozen=True)
class Folder:
    """The files of one VOC folder: XML files by stem, images by `file_key` of their stem."""

    root: Path
    annotations: dict[str, Path]
    images: dict[str, list[Path]]

    def image(self, stem: str) -> Path:
        """The image of an annotation: the same stem, any usual extension, upper or lower case."""
        found = self.images.get(file_key(stem), [])
        found = [path for path in found if path.stem == stem] or found
        if not found:
            raise Defect(
                "missing image", f"there is no image {self.root / 'JPEGImages' / stem}.jpg (or .png ...)"
            )
        if len(found) > 1:
            raise Defect("several images", f"{', '.join(path.name for path in found)} all have this stem")
        return found[0]


@dataclass(frozen=True)
class Source:
    """A folder and the ids to read from it, with what was noticed about them."""

    folder: Folder
    split: str | None
    ids: tuple[str, ...]
    notes: tuple[Problem, ...]

    @property
    def title(self) -> str:
        """Folder and split, for messages."""
        return f"{self.folder.root}" + (f" ({self.split})" if self.split else "")


def find_sources(folder: Folders, split: str | None) -> list[Source]:
    """One `Source` per folder or (folder, split) pair; ValueError when a folder or split is not there."""
    entries = [folder] if isinstance(folder, str | PathLike) else list(folder)
    pairs = [entry if isinstance(entry, tuple) else (entry, split) for entry in entries]
    roots = [(_find_root(Path(path)), own_split) for path, own_split in pairs]
    indexed = {root: _index(root) for root in dict(roots)}
    return [_source(indexed[root], own_split) for root, own_split in roots]


def file_key(stem: str) -> str:
    """What two file stems share when some file system cannot keep them apart."""
    return unicodedata.normalize("NFC", stem).casefold()


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The class names with blanks trimmed; ValueError for repeated, empty or background names."""
    if isinstance(classes, str):
        raise ValueError(f"classes is the string {classes!r}; it must be a list of names")
    names = tuple(" ".join(name.split()) for name in classes)
    if not names:
        raise ValueError("classes is empty; name at least one class")
    for name in names:
        if not name or not name.isprintable() or names.count(name) > 1:
            raise ValueError(f"class name {name!r} is empty, repeated or not printable; each needs its own")
        if name.casefold() in BACKGROUND:
            raise ValueError(f"classes holds {name!r}; leave it out, label 0 is always the background")
    return names


def choose_classes(names: Iterable[str]) -> tuple[str, ...]:
    """VOC's 20 classes in their usual order if there are no others among `names`, else `names` sorted."""
    found = set(names)
    return VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))


def unknown_class(name: str, classes: Sequence[str]) -> Defect:
    """The finding that an object has a class which is not among `classes`."""
    near = difflib.get_close_matches(name.casefold(), [known.casefold() for known in classes], 1)
    meant = [f"; is it {known!r}?" for known in classes if [known.casefold()] == near]
    listed = ", ".join(classes[:25]) + (" ..." if len(classes) > 25 else "")
    return Defect("unknown class", f"class {name!r} is not among {listed}{meant[0] if meant else ''}")


def _find_root(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the one that holds Annotations and JPEGImages")
    if not (folder / "Annotations").is_dir():
        folder = _only_below(folder)
    if not (folder / "JPEGImages").is_dir():
        raise ValueError(
            f"{folder} has Annotations but no JPEGImages; put the images into {folder / 'JPEGImages'}"
        )
    return folder


def _only_below(folder: Path) -> Path:
    below = sorted(path for path in folder.iterdir() if (path / "Annotations").is_dir())
    if not below:
        raise ValueError(f"{folder} has no Annotations; a VOC folder holds Annotations and JPEGImages")
    if len(below) > 1:
        pairs = ", ".join(f"({str(path)!r}, 'trainval')" for path in below)
        raise ValueError(
            f"{folder} holds several VOC folders: {', '.join(path.name for path in below)}; "
            f"name one of them, or read them together as a list of (folder, split): [{pairs}]"
        )
    return below[0]


def _index(root: Path) -> Folder:
    annotations = {path.stem: path for path in _visible(root / "Annotations", {".xml"})}
    images: dict[str, list[Path]] = defaultdict(list)
    for path in _visible(root / "JPEGImages", _SUFFIXES):
        images[file_key(path.stem)].append(path)
    return Folder(root, annotations, dict(images))


def _visible(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files with these extensions; dot files are left out (macOS writes ._name.xml beside name.xml)."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    return sorted(path for path in files if not path.name.startswith("."))


def _source(folder: Folder, split: str | None) -> Source:
    if split is None:
        ids = tuple(sorted(folder.annotations))
        return Source(folder, None, ids, tuple(_unannotated(folder)))
    path = _split_file(folder.root, split)
    listed = [
        _split_id(line, folder) for line in decode_text(path.read_bytes())[0].splitlines() if line.strip()
    ]
    ids = tuple(dict.fromkeys(listed))
    repeated = [name for name in ids if listed.count(name) > 1] if len(ids) < len(listed) else []
    notes = [Problem("repeated id", str(path), f"{name} stands there more than once") for name in repeated]
    return Source(folder, split, ids, tuple(notes))


def _unannotated(folder: Folder) -> list[Problem]:
    annotated = {file_key(stem) for stem in folder.annotations}
    images = [path for key, paths in folder.images.items() if key not in annotated for path in paths]
    return [Problem("image without annotation", str(path), "there is no XML file for it") for path in images]


def _split_file(root: Path, split: str) -> Path:
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        names = sorted(found.stem for found in path.parent.glob("*.txt"))
        general = [name for name in names if not name.endswith(tuple(f"_{other}" for other in names))]
        there = f"there are {', '.join(general)}" if general else "the folder has no splits; use split=None"
        raise ValueError(f"{root} has no split {split!r} (no file {path}); {there}")
    return path


def _split_id(line: str, folder: Folder) -> str:
    """The id in one line of a split file, which may go on with a class flag (1, 0 or -1) or an extension."""
    line = line.strip()
    unflagged = re.sub(r"\s+[+-]?[01]$", "", line)
    bare = re.sub(r"\.(xml|jpe?g|png|bmp)$", "", unflagged, flags=re.IGNORECASE)
    return next((name for name in (line, unflagged, bare) if name in folder.annotations), unflagged)
