"""Damage inside JPEG files that decode nevertheless, as far as libjpeg notices it.

A JPEG has no checksum, and libjpeg goes on with wrong pixels: all it does is to print a line on the standard
error stream, which OpenCV and Pillow do not pass on. So a process of its own decodes the files, where nobody
else writes to that stream: this file, run as a script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

__all__ = ["find_damage"]

_MARK = "ssdedu decodes file"
_COMPLAINTS = ("Corrupt JPEG data", "Premature end of JPEG")


def find_damage(paths: Sequence[Path]) -> dict[Path, str]:
    """What libjpeg complains of in the compressed data of JPEG files, by path; good files are not in it.

    Complaints follow from data that run out before the last pixel or are left over behind it, and from codes
    that do not exist. Damage that happens to keep to all that goes unnoticed; files of other formats and files
    that cannot be read at all are passed over. Warns when no process can be started for it.
    """
    jpegs = [path for path in paths if _is_jpeg(path)]
    if not jpegs:
        return {}
    command = [sys.executable, "-P", __file__]
    names = json.dumps([str(path.absolute()) for path in jpegs])
    try:
        run = subprocess.run(
            command, input=names.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(f"damage inside JPEG files was not looked for: {error}", stacklevel=2)
        return {}
    complaints = _complaints(run.stderr.decode(errors="replace"))
    text = "the JPEG data are damaged, and with them the pixels (libjpeg: {})"
    return {jpegs[number]: text.format(what) for number, what in complaints.items()}


def _is_jpeg(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\xff\xd8"
    except OSError:
        return False


def _complaints(printed: str) -> dict[int, str]:
    """The first complaint after each mark, by the mark's number."""
    number = -1
    found: dict[int, str] = {}
    for line in printed.splitlines():
        if line.startswith(_MARK):
            number = int(line.removeprefix(_MARK))
        elif line.startswith(_COMPLAINTS):
            found.setdefault(number, line.removeprefix("Corrupt JPEG data: "))
    return found


def _decode_all(names: Sequence[str]) -> None:
    """Decodes files, each after a mark on the standard error stream."""
    for number, name in enumerate(names):
        os.write(2, f"\n{_MARK} {number}\n".encode())
        try:
            cv2.imdecode(np.fromfile(name, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error):
            continue  # found and reported by whoever reads the file's pixels


if __name__ == "__main__":
    _decode_all(json.load(sys.stdin))
