"""Oracles: what lies in the folder before and after, a file that `open` makes, calls in their order.

A killed program is played by file-system calls that from the n-th on all fail; a full disk by the limit that the
system itself sets to a file's length.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import subprocess
import sys

import pytest

from ssdedu import checkpoints, files
from ssdedu.files import DiskFullError, remove_leftovers, write_atomically


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
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, None])
def test_a_full_or_broken_disk_changes_nothing(tmp_path, monkeypatch, step, number):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(number, "words of the system")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError) as stop:  # noqa: PT011
        write_atomically(path, b"new", "before.bin")
    assert stop.value.errno == number
    assert isinstance(stop.value, DiskFullError) == (number == errno.ENOSPC)
    assert path.read_bytes() == b"old"
    assert {p.name for p in tmp_path.iterdir()} <= {"x.bin", "before.bin"}


@contextlib.contextmanager
def longest_file(size):
    """No file of this process can grow beyond so many bytes: write() itself fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="the system sets no limit to files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 8_191, 8_192, 8_193, 99_999])
def test_a_disk_that_is_full_after_some_bytes_changes_nothing(tmp_path, capsys, room):
    path, old = tmp_path / "x.bin", os.urandom(100_000)
    path.write_bytes(old)
    for content in (bytes(100_000), lambda file: [file.write(bytes(1000)) for _ in range(100)]):
        with longest_file(room), pytest.raises(DiskFullError, match=r"x\.bin: .* it needs 100,000 bytes"):
            write_atomically(path, content, "before.bin")
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == old
    with longest_file(100_000):
        write_atomically(path, content, "before.bin")
    assert (path.read_bytes(), (tmp_path / "before.bin").read_bytes()) == (bytes(100_000), old)


class Killed(BaseException):
    """The program is no more."""


class Mortal:
    """os whose link, replace, unlink and fsync work `calls` times and never again, as in a program that is killed."""

    def __init__(self, monkeypatch, calls, links=True):
        self.left, self.links = calls, links
        for name in ("link", "replace", "unlink", "fsync"):
            monkeypatch.setattr(os, name, self.counted(name, getattr(os, name)))

    def counted(self, name, original):
        def call(*args, **options):
            if self.left == 0:
                raise Killed
            self.left -= 1
            if name == "link" and not self.links:
                raise PermissionError(errno.EPERM, "no hard links here")
            return None if name == "fsync" else original(*args, **options)

        return call


def rotate(folder, number):
    write_atomically(folder / "last", b"%d" % number, "previous")


def contents(folder):
    """What `last` and `previous` hold, None for no such file."""
    paths = folder / "last", folder / "previous"
    return tuple(int(p.read_bytes()) if p.exists() else None for p in paths)


def killed_after(folder, calls, number, links):
    """Rotate with that many file-system calls; True when they were not enough."""
    with pytest.MonkeyPatch.context() as patch:
        Mortal(patch, calls, links)
        try:
            rotate(folder, number)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("links", [True, False])
def test_killed_between_any_two_calls_one_of_two_files_is_whole(tmp_path, links):
    """Twice in a row: killed after `first` calls of one rotation and, started again, after `second` of the next."""
    states, deaths = set(), 0
    for first, second in itertools.product(range(9), repeat=2):
        folder = tmp_path / f"{first}-{second}"
        rotate(folder, 1)
        rotate(folder, 2)
        newest = 2
        for number, calls in ((3, first), (4, second)):
            deaths += killed_after(folder, calls, number, links)
            last, previous = contents(folder)
            states.add((newest, last, previous))
            assert newest in (last, previous) or number == last
            assert last is not None or not links
            remove_leftovers(folder)
            assert {p.name for p in folder.iterdir()} <= {"last", "previous"}
            newest = max(filter(None, (last, previous)))
        rotate(folder, 5)
        assert contents(folder) == (5, last or previous)
    step = {(2, 2, 1), (2, 2, 2), (2, 3, 2)} if links else {(2, 2, 1), (2, None, 2), (2, 3, 2)}
    assert {s for s in states if s[0] == 2 and 4 not in s} == step
    assert deaths > 20


def test_the_first_file_has_none_before_it(tmp_path):
    rotate(tmp_path, 1)
    assert contents(tmp_path) == (1, None)
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_leftovers_are_those_of_this_writer_alone(tmp_path):
    ours = [".last.pt.0a1b2c3d.tmp", ".x.ffffffff.tmp"]
    others = [
        ".last.pt.tmp",
        "last.pt.0a1b2c3d.tmp",
        ".last.pt.0a1b2c3g.tmp",
        ".a.0a1b2c3d.tmp.gz",
        ".0a1b2c3d.tmp",
    ]
    for name in ours + others:
        (tmp_path / name).touch()
    assert remove_leftovers(tmp_path) == ours
    assert {p.name for p in tmp_path.iterdir()} == set(others)
    assert remove_leftovers(tmp_path / "nowhere") == []


def test_a_kill_leaves_a_name_that_is_known_as_a_leftover(tmp_path):
    rotate(tmp_path, 1)
    for calls in range(5):
        assert killed_after(tmp_path, calls, 2, True)
        hidden = sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("."))
        assert remove_leftovers(tmp_path) == hidden
        assert len(hidden) == (2 if calls == 2 else 1)


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
