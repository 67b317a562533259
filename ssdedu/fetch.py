"""One file from the web, whole and verified or not at all: mirrors, resume, checksum.

What has come so far is kept as NAME.part and is gone on with, in this run or a later one, from any mirror.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ssdedu.catalogue import check_address
from ssdedu.transfer import CutError, Part, RefusedError, part_path, transfer

__all__ = ["FetchError", "NoMirrorError", "fetch", "sha256_of", "verify"]

_ATTEMPTS = 1000
_PAUSES = (0.2, 1.0, 3.0)  # seconds before another attempt, after none, one, two that brought nothing


class FetchError(ValueError):
    """A file could not be fetched or is not the published one; the message names it and the remedy."""


class NoMirrorError(FetchError):
    """None of the mirrors has the file; the message names each with its reason."""


def fetch(
    path: str | os.PathLike[str],
    mirrors: Sequence[str],
    size: int | None = None,
    sha256: str = "",
    timeout: float = 30.0,
    say: Callable[[str], object] = print,
) -> str:
    """Fetch a file over http(s) from the first mirror that has it to `path`; returns its SHA-256 in full.

    size in bytes and sha256 (all digits, the first ones, or none) are what it must have; what comes with others
    never takes the name. A cut transfer goes on where it ended. Raises FetchError; what has come by then is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Part(path)
    failures: dict[str, str] = {}
    for url in map(check_address, mirrors):
        try:
            digest = _from_mirror(part, url, size, sha256, timeout, say)
        except RefusedError as reason:
            failures[url] = str(reason)
            say(f"{path.name}: {urlsplit(url).hostname} {reason}")
            continue
        except OSError as error:
            raise _disk_error(part, size, error) from error
        part.take_name(path)
        return digest
    raise NoMirrorError(_failure(path, failures, size, sha256))


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: str | os.PathLike[str], size: int | None = None, sha256: str = "") -> str:
    """The SHA-256 of a file that has the size and the (beginning of the) checksum given; FetchError otherwise."""
    path = Path(path)
    digest, found = sha256_of(path), path.stat().st_size
    if size not in (None, found) or not digest.startswith(sha256):
        raise FetchError(
            f"{path} is another file than the published one: {found:,} bytes, sha256 {digest}, instead of "
            f"{_identity(size, sha256)}; move it away to download that one (or rename it to {part_path(path).name} "
            "if it is the beginning of it), and run the same command again"
        )
    return digest


def _from_mirror(
    part: Part, url: str, size: int | None, sha256: str, timeout: float, say: Callable[[str], object]
) -> str:
    """Complete the part from one mirror and return its SHA-256; what turns out to be mixed is begun anew, once."""
    while True:
        _complete(part, url, size, sha256, timeout)
        digest, came = sha256_of(part.path), part.size
        if digest.startswith(sha256) and size in (None, came):
            return digest
        pure = part.origin == url
        part.discard()
        if pure:
            raise RefusedError(f"sends another file: {came:,} bytes, sha256 {digest}")
        say(f"{part.path.name}: what had come earlier was of another file; it is thrown away and begun anew")


def _complete(part: Part, url: str, size: int | None, sha256: str, timeout: float) -> None:
    """Transfer until the part has all its bytes; gives up on a mirror that brings no more."""
    from tqdm.auto import tqdm

    most, fruitless = part.size, 0
    look = {"unit": "B", "unit_scale": True, "desc": part.path.stem, "leave": False}
    with tqdm(total=size, initial=most, **look) as bar:
        for _ in range(_ATTEMPTS):
            if not (sha256 or part.tag(url)) or (size is not None and part.size > size):
                part.discard()  # nothing could tell whether what follows belongs to it
            if part.size == size:
                return None
            try:
                return transfer(part, url, size, timeout, lambda position: bar.update(position - bar.n))
            except CutError as cut:
                fruitless = 0 if part.size > most else fruitless + 1
                most = max(most, part.size)
                if fruitless == len(_PAUSES):
                    raise RefusedError(str(cut)) from cut
                time.sleep(_PAUSES[fruitless])
    raise RefusedError(f"has cut the transfer {_ATTEMPTS} times; the same command goes on")


def _disk_error(part: Part, size: int | None, error: OSError) -> FetchError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(f"{part.path}: cannot be written ({error})")
    free = shutil.disk_usage(part.path.parent).free
    missing = "" if size is None else f", {size - part.size:,} more are needed"
    return FetchError(
        f"{part.path}: the disk is full: {free:,} bytes are free{missing}; what has come is kept: "
        "make room and run the same command again"
    )


def _identity(size: int | None, sha256: str) -> str:
    length = "" if size is None else f"{size:,} bytes"
    checksum = f"sha256 {sha256}{'...' if len(sha256) < 64 else ''}" if sha256 else ""
    return ", ".join(filter(None, (length, checksum))) or "unknown length and checksum"


def _failure(path: Path, failures: dict[str, str], size: int | None, sha256: str) -> str:
    tried = [f"  {url}\n    {reason}" for url, reason in failures.items()]
    offline = all("cannot be reached" in reason for reason in failures.values())
    return "\n".join(
        [
            f"{path.name} could not be downloaded" + (" (is this machine offline?):" if offline else ":"),
            *tried,
            f"  To put it there by hand: get it from one of these addresses by other means ({_identity(size, sha256)})",
            f"  as {path}, and run the same command again.",
        ]
    )
