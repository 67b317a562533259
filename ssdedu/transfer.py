"""One HTTP transfer into a file that is not whole yet: ranges, tags, and answers that cannot be the file."""

from __future__ import annotations

import errno
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ssdedu import __version__
from ssdedu.files import write_atomically

__all__ = ["CutError", "Part", "RefusedError", "part_path", "transfer"]

_CHUNK = 1 << 20
_LIMIT = 4_000_000_000  # bytes, where no length is known
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_HEADERS = {"User-Agent": f"ssdedu/{__version__}", "Accept-Encoding": "identity"}
_PAGES = (b"<!doctype html", b"<html")


class RefusedError(Exception):
    """This server will not do, and why."""


class CutError(Exception):
    """This transfer ended early, and why; another attempt may go on."""


def part_path(path: str | os.PathLike[str]) -> Path:
    """Where the bytes of a file lie that has not come whole."""
    return Path(path).with_name(Path(path).name + ".part")


class Part:
    """NAME.part: what has come of a file, from where, and the tag that its content has there.

    origin: the address that all of it is known to come from, None where it may be mixed.
    """

    def __init__(self, path: Path) -> None:
        self.path = part_path(path)
        self.tag_path = self.path.with_name(self.path.name + ".tag")
        self.origin: str | None = None

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def tag(self, url: str) -> str | None:
        """The content's tag at this address, if the last bytes came from there and it gave one."""
        with suppress(OSError, UnicodeError):
            origin, _, tag = self.tag_path.read_text("utf-8").partition("\n")
            return tag if origin == url and tag else None
        return None

    def note_source(self, url: str, tag: str | None) -> None:
        """Bytes are about to come from `url`, where the content has this tag; weak tags (W/) prove nothing."""
        self.origin = url if self.size == 0 or self.origin == url else None
        strong = tag if tag and not tag.startswith("W/") else ""
        write_atomically(self.tag_path, f"{url}\n{strong}".encode())

    def discard(self) -> None:
        """Throw away what has come."""
        self.path.unlink(missing_ok=True)
        self.tag_path.unlink(missing_ok=True)
        self.origin = None

    def open(self) -> IO[bytes]:
        """For reading and writing, at the beginning; as it is."""
        self.path.touch()
        return self.path.open("r+b")

    def take_name(self, path: Path) -> None:
        """It is whole: give it the file's name in one step."""
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(self.path, path)
        self.discard()


def transfer(
    part: Part, url: str, size: int | None, timeout: float, progress: Callable[[int], object]
) -> None:
    """One request for what the part lacks of a file of `size` bytes (None: as many as the server says).

    Goes on at the end of the part; where the server begins at the beginning, the part is compared and kept as far
    as it is the same. progress is told the position. Raises CutError, RefusedError, and OSError for the disk.
    """
    response = _request(part, url, timeout)
    if response is None:
        return
    with response:
        start, end = _extent(response, part.size, size)
        _check_room(part, end)
        part.note_source(url, response.headers.get("ETag"))
        with part.open() as file:
            file.seek(start)
            for data in _chunks(response, start, end):
                _put(file, data)
                progress(file.tell())
            if end is not None and file.tell() < end:
                raise CutError(f"cut the transfer after {file.tell():,} of {end:,} bytes")
            if not file.tell():
                raise RefusedError("sends an empty file")
            file.truncate()
    if start == 0:
        part.origin = url  # compared from the first byte to the last


def _put(file: IO[bytes], data: bytes) -> None:
    """Write at the file's position; what is there already and the same stays, and so does what follows it."""
    position = file.tell()
    if file.read(len(data)) != data:
        file.seek(position)
        file.truncate()
        file.write(data)


def _request(part: Part, url: str, timeout: float) -> http.client.HTTPResponse | None:
    """The open answer; None where the server says that the part is all that there is."""
    offset, tag = part.size, part.tag(url)
    headers = {**_HEADERS, **({"Range": f"bytes={offset}-"} if offset else {})}
    headers |= {"If-Range": tag} if offset and tag else {}
    try:
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and offset:
                _check_all_came(part, offset, error.headers.get("Content-Range", ""))
                return None
            kind = CutError if error.code in _TRANSIENT else RefusedError
            raise kind(f"answers {error.code} {_reason(error.reason)}") from error
    except urllib.error.URLError as error:
        raise RefusedError(f"cannot be reached: {_reason(error.reason)}") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise CutError(f"broke off: {_reason(error)}") from error


def _check_all_came(part: Part, offset: int, content_range: str) -> None:
    """What 416 means: all has come, or what has come is of another file."""
    if content_range.strip() != f"bytes */{offset}":
        part.discard()
        raise CutError(f"has no bytes from {offset:,} on")


def _extent(response: http.client.HTTPResponse, offset: int, size: int | None) -> tuple[int, int | None]:
    """Where in the file the answer begins, and where the file ends; refuses what cannot be the file."""
    start, total = 0, response.length  # None where none is given
    if response.status == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not found or int(found[1]) > offset:
            raise RefusedError("answers with other bytes than those asked for")
        start = int(found[1])
        total = int(found[2]) if found[2] != "*" else None if total is None else start + total
    elif response.status != 200:
        raise RefusedError(f"answers {response.status} {response.reason}")
    _check_kind(response)
    if size is not None and total not in (None, size):
        raise RefusedError(f"offers {total:,} bytes instead of {size:,}")
    return start, total if size is None else size


def _check_kind(response: http.client.HTTPResponse) -> None:
    if response.headers.get_content_type() == "text/html":
        raise RefusedError("answers with a web page instead of the file")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RefusedError("answers in an encoding that was not asked for")


def _chunks(response: http.client.HTTPResponse, start: int, end: int | None) -> Iterator[bytes]:
    """The body piece by piece; refuses a page, and more bytes than the file has."""
    position, limit = start, _LIMIT if end is None else end
    while data := _read(response):
        if position == 0 and data.lstrip()[:14].lower().startswith(_PAGES):
            raise RefusedError("answers with a web page instead of the file")
        position += len(data)
        if position > limit:
            raise RefusedError(f"sends more than {limit:,} bytes")
        yield data


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise CutError(f"broke off: {_reason(error)}") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within http and https, never from https back to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise RefusedError(f"redirects from {req.type} to {newurl!r}, which is not safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """urllib's proxies, http and https, and none of its other protocols."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _check_room(part: Part, end: int | None) -> None:
    if end is not None and end - part.size > shutil.disk_usage(part.path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _reason(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
