"""Data sets and weights by name: fetched, verified, unpacked and put where `ssdedu train` looks for them."""

from __future__ import annotations

import difflib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ssdedu.catalogue import CATALOGUE, Item, Remote, check_address
from ssdedu.extract import extract, install, is_unpacked, staging
from ssdedu.fetch import NoMirrorError, fetch, verify
from ssdedu.files import write_atomically
from ssdedu.transfer import part_path

__all__ = ["MIRROR", "download", "listing"]

MIRROR = "SSDEDU_MIRROR"
"""The environment variable that names a mirror of one's own, which is tried first."""

_NOTES = ".ssdedu-download"  # locked while a download is at work; names the archives that it fetched
_ROOM = 1.1  # small files take more room on a disk than they have bytes


@dataclass(frozen=True)
class _Order:
    """Where to put things, which mirror to try first, whether to keep archives, whom to tell."""

    to: Path
    mirror: str
    keep: bool
    say: Callable[[str], object]


def download(
    names: Iterable[str],
    to: str | os.PathLike[str] = "data",
    *,
    mirror: str | None = None,
    catalogue: Mapping[str, Item] = CATALOGUE,
    keep: bool = False,
    say: Callable[[str], object] = print,
) -> dict[str, list[Path]]:
    """Fetch the named items of a catalogue into a folder; what is there already is only verified.

    mirror: an address below which files lie by their names, tried before the published ones; default: that in
    SSDEDU_MIRROR. keep: archives are not deleted when they are unpacked. Returns the files or the folder of each
    item. Raises ValueError (`FetchError`, `ExtractError`) or OSError; the same call then goes on from what is there.
    """
    mirror = os.environ.get(MIRROR, "") if mirror is None else mirror
    order = _Order(Path(to), check_address(mirror).rstrip("/") + "/" if mirror else "", keep, say)
    items = [_named(name, catalogue) for name in dict.fromkeys(names)]
    if not items:
        raise ValueError(f"name what to download: {', '.join(catalogue)}")
    _check_room(items, order)
    with _alone(order.to):
        return {item.name: _obtain(item, order, catalogue) for item in items}


def listing(to: str | os.PathLike[str] = "data", catalogue: Mapping[str, Item] = CATALOGUE) -> str:
    """What can be downloaded, as text: name, size, how it is verified, what of it is in the folder already."""
    width = max(map(len, catalogue))
    lines = []
    for item in catalogue.values():
        facts = f"{_human(item.space)}, {_certainty(item)}, {_state(item, Path(to))}"
        lines.append(f"{item.name:{width}}  {item.about} ({facts})")
    return "\n".join(lines)


def _named(name: str, catalogue: Mapping[str, Item]) -> Item:
    if name in catalogue:
        return catalogue[name]
    near = difflib.get_close_matches(name.lower(), catalogue, 1)
    meant = f"; is it {near[0]!r}?" if near else ""
    raise ValueError(f"{name!r} is not among {', '.join(catalogue)}{meant}")


def _obtain(item: Item, order: _Order, catalogue: Mapping[str, Item]) -> list[Path]:
    """The item itself, or what may stand for it where no mirror has it."""
    other = catalogue.get(item.instead)
    if other and not _missing(other, order.to) and _missing(item, order.to):
        order.say(f"{item.name}: {other.name} ({other.about}) is there instead")
        return _places(other, order)
    try:
        return _places(item, order)
    except NoMirrorError as error:
        if other is None:
            raise
        order.say(f"{item.name}: no mirror has it; trying {other.name} instead: {other.about}")
        try:
            return _places(other, order)
        except NoMirrorError as second:
            raise NoMirrorError(f"{error}\n{second}") from second


def _places(item: Item, order: _Order) -> list[Path]:
    """The files of an item, or its folder, as they lie there in the end."""
    places = [_folder(item, order)] if item.folder else [_file(file, order) for file in item.files]
    if item.terms:
        order.say(f"{item.name}: {item.terms}")
    return places


def _file(file: Remote, order: _Order, ours: bool = False) -> Path:
    """One file, verified; a checksum that is not published in full is kept beside it. ours: noted for `_tidy`."""
    path = order.to / file.name
    if path.is_file():
        digest = verify(path, file.size, file.sha256)
        order.say(f"{path}: there already; {_verified(file, digest)}")
        return path
    if ours:
        _note_ours(order.to, _ours(order.to) | {file.name})
    addresses = [order.mirror + quote(file.name)] if order.mirror else []
    digest = fetch(path, [*addresses, *file.mirrors], file.size, file.sha256, say=order.say)
    order.say(f"{path}: {_human(path.stat().st_size)}; {_verified(file, digest)}")
    if len(file.sha256) < 64:
        write_atomically(f"{path}.sha256", f"{digest}  {path.name}\n".encode())
    return path


def _verified(file: Remote, digest: str) -> str:
    """What was checked, said of a file that passed."""
    if len(file.sha256) == 64:
        return "its sha256 is the published one"
    known = f"the first {len(file.sha256)} digits of its sha256" if file.sha256 else ""
    known = known or ("its length alone" if file.size else "nothing")
    return f"{known} could be verified, no more is published; in full it is {digest}"


def _folder(item: Item, order: _Order) -> Path:
    """The folder of a data set, with the archives unpacked that were missing in it."""
    target = (order.to / item.folder).resolve()
    missing = [file for file in item.files if not _holds(target, file)]
    place = order.to / item.folder
    if not missing:
        order.say(f"{place}: there already, and complete")
        _tidy(item, order)
        return place
    archives = [_file(file, order, ours=True) for file in missing]
    number = _unpack(item, missing, archives, target)
    order.say(f"{place}: {number:,} files are new")
    _tidy(item, order)
    return place


def _tidy(item: Item, order: _Order) -> None:
    """Delete the archives of an unpacked item, unless they are to be kept or were put there by hand."""
    ours = _ours(order.to)
    for file in item.files:
        if file.name in ours and not order.keep:
            (order.to / file.name).unlink(missing_ok=True)
            (order.to / f"{file.name}.sha256").unlink(missing_ok=True)
    _note_ours(order.to, ours - {file.name for file in item.files})


def _ours(folder: Path) -> set[str]:
    """The archives in a folder that a download put there."""
    return set((folder / _NOTES).read_text("utf-8").split())


def _note_ours(folder: Path, names: set[str]) -> None:
    """In place, since the file is locked."""
    (folder / _NOTES).write_text("".join(f"{name}\n" for name in sorted(names)), "utf-8")


def _unpack(item: Item, files: Sequence[Remote], archives: Sequence[Path], target: Path) -> int:
    """Unpack all beside the target first, so that a folder of that name is never half full."""
    with staging(target) as beside:
        try:
            for file, archive in zip(files, archives, strict=True):
                extract(archive, beside, item.folder, file.max_members)
                if not _has_splits(beside / item.folder, file):
                    splits = ", ".join(f"{n:,} images in {name}" for name, n in file.splits.items())
                    raise ValueError(f"{archive} does not hold {splits}; nothing of it was put in place")
            return install(beside / item.folder, target)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            free = _human(shutil.disk_usage(beside).free)
            text = (
                f"{target}: the disk is full ({free} are free); the archives are kept: make room, then go on"
            )
            raise ValueError(text) from error


def _holds(folder: Path, archive: Remote) -> bool:
    """Whether a folder holds an archive: by the record of its unpacking, else by its lists of images."""
    return is_unpacked(folder, archive.name) or (bool(archive.splits) and _has_splits(folder, archive))


def _has_splits(folder: Path, archive: Remote) -> bool:
    """Whether the lists of images are there, as long as they should be, each image and annotation with content."""
    from ssdedu.datasets.voc_folder import find_sources
    from ssdedu.datasets.voc_report import Defect

    try:
        for split, number in archive.splits.items():
            source = find_sources(folder, split)[0]
            found = [
                path for i in source.ids for path in (source.folder.annotations[i], source.folder.image(i))
            ]
            if len(source.ids) != number or not all(path.stat().st_size for path in found):
                return False
    except (ValueError, KeyError, OSError, Defect):
        return False
    return True


def _missing(item: Item, to: Path) -> list[Remote]:
    """The files of an item that are still to be fetched or unpacked, without a look at checksums."""
    if item.folder:
        return [file for file in item.files if not _holds(to / item.folder, file)]
    return [file for file in item.files if not (to / file.name).is_file()]


def _state(item: Item, to: Path) -> str:
    missing = _missing(item, to)
    if not missing:
        return "there"
    began = sum(_size(part_path(to / file.name)) + _size(to / file.name) for file in missing)
    began += sum(file.space for file in item.files if file not in missing)
    return f"{_human(began)} of it there" if began else "not there"


def _certainty(item: Item) -> str:
    digits = min(len(file.sha256) for file in item.files)
    return "sha256" if digits == 64 else f"{digits} digits of sha256" if digits else "no checksum"


def _check_room(items: Sequence[Item], order: _Order) -> None:
    """Before the first byte is transferred: the most room that is in use at any time must be free."""
    used = peak = 0
    for item in items:
        missing = _missing(item, order.to)
        total = sum(file.space for file in missing)
        there = sum(_size(order.to / f.name) or _size(part_path(order.to / f.name)) for f in missing)
        content = int(total * _ROOM) if item.folder else 0
        peak = max(peak, used + total - there + content)
        used += content if item.folder and not order.keep else total - there + content
    there_is = shutil.disk_usage(
        next(p for p in (order.to.absolute(), *order.to.absolute().parents) if p.exists())
    )
    if peak > there_is.free:
        names = " ".join(item.name for item in items)
        raise ValueError(
            f"{order.to}: {_human(peak)} are needed to download and unpack {names}, {_human(there_is.free)} are free; "
            "make room, or name another folder with --to"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second command out of the folder while one is at work there; the system undoes it when that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _NOTES).open("a") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            fcntl = None  # type: ignore[assignment]
        if fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{folder}: another `ssdedu download` is at work there; wait for it"
                ) from None
            except OSError:  # a file system without locks
                pass
        yield


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _human(number: int) -> str:
    """1234567 as 1.2 MB."""
    for unit, name in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} bytes"
