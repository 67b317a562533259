"""Files that appear whole or not at all, and what a full disk or a killed program leaves of them."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

__all__ = ["DiskFullError", "remove_leftovers", "write_atomically"]

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class DiskFullError(OSError):
    """A file did not fit; the message names it, the bytes that it needs and those that are free."""


def write_atomically(
    path: str | os.PathLike[str],
    content: bytes | Callable[[IO[bytes]], object],
    previous: str | None = None,
) -> None:
    """Puts a new file at `path` in one step: bytes, or what a function writes into the file it is given.

    Missing folders are made, and the file's mode is that of any new file. The content is on the disk before it
    takes the name, so even a power cut leaves the old file or the new one. previous: a name in the same folder
    under which the old file stays; at each instant one of the two names, and with hard links `path` itself, has a
    whole file. On failure `path` stays as it was, nothing is left beside it, and the error (DiskFullError where
    there is no room, another OSError, or the function's own) is passed on.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _written_by(content) if callable(content) else memoryview(content)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None:
            _keep(path, path.with_name(previous))
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _disk_full(path, len(data), error) from error
        raise


def _written_by(write: Callable[[IO[bytes]], object]) -> memoryview:
    """What it writes, in memory: PNG and zip writers hide the disk's own error behind others of theirs."""
    file = io.BytesIO()
    write(file)
    return file.getbuffer()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _keep(path: Path, previous: Path) -> None:
    """Give the file at `path`, if there is one, a second name; where no hard links are, that instead of its own."""
    if not path.exists():
        return
    link = _temporary(previous)
    try:
        os.link(path, link)
    except (OSError, NotImplementedError):
        os.replace(path, previous)
        return
    try:
        os.replace(link, previous)
    finally:  # replace leaves both names where both are one file already
        link.unlink(missing_ok=True)


def _disk_full(path: Path, needed: int, error: OSError) -> DiskFullError:
    free = shutil.disk_usage(path.parent).free
    full = DiskFullError(
        f"{path}: cannot be written ({os.strerror(error.errno or 0)}): it needs {needed:,} bytes, and the disk has "
        f"{free:,} free; what was there before is as it was"
    )
    full.errno = error.errno
    return full


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Removes what killed writers left in a folder, files such as `.last.pt.0a1b2c3d.tmp`; returns their names."""
    names = sorted(p.name for p in Path(folder).glob(".*.tmp") if _LEFTOVER.fullmatch(p.name))
    for name in names:
        with suppress(FileNotFoundError):
            (Path(folder) / name).unlink()
    return names
