"""Archives that are unpacked safely, put in place in one step, and known later to be there whole."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ssdedu.files import write_atomically

__all__ = ["ExtractError", "extract", "install", "is_unpacked", "staging"]

_RECORDS = ".unpacked"
# what tarfile raises for damaged archives, and for a name that is a file and a folder
_DAMAGE = (tarfile.TarError, ValueError, ArithmeticError, RecursionError, NotADirectoryError, FileExistsError)


class ExtractError(ValueError):
    """An archive is damaged or does what none should; the message names it, the member and the remedy."""


def extract(archive: str | os.PathLike[str], into: Path, folder: str, max_members: int) -> None:
    """Unpack a plain tar below `into`, and record in `folder` what it holds there.

    All members must be plain files or folders of `folder` (as "VOCdevkit/VOC2007"), at most `max_members` and
    with no more bytes than the archive itself. Raises ExtractError; what is below `into` then is worth nothing.
    """
    archive = Path(archive)
    if not hasattr(tarfile, "data_filter"):
        raise ExtractError(f"{archive} is not unpacked: Python 3.11.4 or later is needed to do so safely")
    sizes: dict[str, int] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in _members(tar, archive, PurePosixPath(folder), max_members):
                tar.extract(member, into, filter="data")
                if member.isreg():
                    sizes[PurePosixPath(member.name).relative_to(folder).as_posix()] = member.size
            _check_end(tar, archive)
    except ExtractError:
        raise
    except _DAMAGE as error:
        raise _refusal(archive, f"cannot be unpacked, or is cut short ({error})") from error
    lines = [f"{size} {name}\n" for name, size in sorted(sizes.items())]
    write_atomically(_record(into / folder, archive.name), "".join(lines).encode())


def is_unpacked(folder: Path, archive_name: str) -> bool:
    """Whether all that an archive held lies in the folder that it was put into, by its record; no file is empty.

    Pictures of segmentations are not asked for: no detector needs them, and they may be deleted.
    """
    try:
        lines = _record(folder, archive_name).read_text("utf-8").splitlines()
        entries = [line.split(" ", 1) for line in lines]
        return all(
            (folder / name).stat().st_size > 0 or size == "0"
            for size, name in entries
            if not name.startswith("Segmentation")
        )
    except (OSError, ValueError):
        return False


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, on the same disk, which is gone afterwards; so is what a killed run left."""
    beside = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def install(staged: Path, target: Path) -> int:
    """Give a folder its place in one step; returns the number of files that are new there.

    Where there is such a folder already, files are moved one by one: those that are missing there or shorter, as
    after a cut; all others stay as they are. The lists of images come after the images, the records last.
    """
    files = sorted((path for path in staged.rglob("*") if path.is_file()), key=lambda p: _turn(p, staged))
    if not target.exists():
        os.rename(staged, target)
        return len(files)
    pairs = [(path, target / path.relative_to(staged)) for path in files]
    new = [(path, place) for path, place in pairs if not place.is_file() or _size(place) < _size(path)]
    for path, place in new:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
    return len(new)


def _turn(path: Path, staged: Path) -> tuple[int, str]:
    first = path.relative_to(staged).parts[0]
    return {"ImageSets": 1, _RECORDS: 2}.get(first, 0), str(path)


def _size(path: Path) -> int:
    return path.stat().st_size


def _record(folder: Path, archive_name: str) -> Path:
    return folder / _RECORDS / f"{archive_name}.txt"


def _members(
    tar: tarfile.TarFile, archive: Path, folder: PurePosixPath, max_members: int
) -> Iterator[tarfile.TarInfo]:
    """The members one after the other, each checked before it is unpacked."""
    from tqdm.auto import tqdm

    total = _size(archive)
    left = total
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"unpacking {archive.name}", leave=False) as bar:
        for number, member in enumerate(tar, 1):
            if number > max_members:
                raise _refusal(archive, f"has more than {max_members:,} members")
            _check_member(member, archive, folder)
            left -= member.size
            if left < 0:
                raise _refusal(archive, f"would unpack to more than its own {total:,} bytes")
            yield member
            bar.n = member.offset_data + member.size
            bar.update(0)


def _check_member(member: tarfile.TarInfo, archive: Path, folder: PurePosixPath) -> None:
    name = member.name.removeprefix("./")
    if not (member.isreg() or member.isdir()) or member.issparse() or member.size < 0:
        raise _refusal(archive, f"has {member.name!r}, which is a link, a device or the like, no plain file")
    unsafe = not name.isprintable() or any(sign in name for sign in '\\:*?"<>|') or name.startswith("/")
    if unsafe or ".." in name.split("/"):
        raise _refusal(archive, f"has {member.name!r}, a name that is not safe")
    path = PurePosixPath(name)
    if not (path.is_relative_to(folder) or (member.isdir() and folder.is_relative_to(path))):
        raise _refusal(archive, f"has {member.name!r}, which is not in {folder}")
    if path.is_relative_to(folder / _RECORDS) or (member.isreg() and path == folder):
        raise _refusal(archive, f"has {member.name!r}, a name that is not safe")


def _check_end(tar: tarfile.TarFile, archive: Path) -> None:
    """tarfile takes a damaged header and a missing end for the end: a real one is a block of zeros."""
    with archive.open("rb") as file:
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise _refusal(archive, f"is damaged or cut short at byte {tar.offset:,}")


def _refusal(archive: Path, why: str) -> ExtractError:
    return ExtractError(f"{archive} {why}; nothing of it was put in place. Delete it to download it anew")
