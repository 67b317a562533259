"""Oracles: what lies in the folder before and after, a file that `open` makes, calls in their order."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from ssdedu import checkpoints, files
from ssdedu.files import write_atomically


def test_bytes_and_functions_write_the_same(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "x.bin", b"\r\n\0")
    write_atomically(str(tmp_path / "y.bin"), lambda file: file.write(b"\r\n\0"))
    assert (tmp_path / "a" / "b" / "x.bin").read_bytes() == (tmp_path / "y.bin").read_bytes() == b"\r\n\0"
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b", "x.bin", "y.bin"}


def test_the_old_file_is_replaced(tmp_path):
    path = tmp_path / "x.bin"
    for content in (b"long content", b"", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def half(file):
    file.write(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("there", [True, False])
def test_a_cut_write_changes_nothing(tmp_path, there):
    path = tmp_path / "x.bin"
    if there:
        path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, b"old")] * there


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_changes_nothing(tmp_path, monkeypatch, step):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    calls = []

    def spy(name):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args: (calls.append(name), original(*args))[1])

    spy("fsync")
    spy("replace")
    write_atomically(tmp_path / "x.bin", b"new")
    assert calls == ["fsync", "replace"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_is_that_of_any_new_file(tmp_path, mask):
    old = os.umask(mask)
    try:
        write_atomically(tmp_path / "x", b"")
        (tmp_path / "y").write_bytes(b"")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xy"]
    assert modes == [0o666 & ~mask] * 2


def test_checkpoints_offer_the_same_function():
    assert checkpoints.write_atomically is files.write_atomically


def test_needs_no_torch():
    code = "import sys, ssdedu.files, ssdedu.box_table; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
