"""Archives, honest and hostile. Oracle: the files that the test put in, and a folder around that must not change."""

import io
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdedu.extract import ExtractError, extract, install, is_unpacked, staging

ROOT = "VOCdevkit/VOC2007"
FILES = {
    "Annotations/000001.xml": b"<annotation/>",
    "JPEGImages/000001.jpg": bytes(range(256)) * 5,
    "ImageSets/Main/trainval.txt": b"000001\n",
    "ImageSets/Main/empty.txt": b"",
    "SegmentationClass/000001.png": b"png",
}


def member(name, content=b"", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def folders(*names):
    return [member(name, kind=tarfile.DIRTYPE) for name in names]


def voc(files=FILES):
    return [
        *folders("VOCdevkit", ROOT),
        *(member(f"{ROOT}/{name}", content) for name, content in files.items()),
    ]


def tar_bytes(members, form=tarfile.GNU_FORMAT, mode="w"):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def tree(folder):
    """All below a folder: contents of files, targets of links, None for folders."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in Path(folder).rglob("*")
    }


def files_of(folder):
    return {name: content for name, content in tree(folder).items() if content is not None}


@pytest.fixture
def place(tmp_path):
    """An archive beside a folder to unpack into, and things around it that must stay as they are."""
    (tmp_path / "precious.txt").write_bytes(b"precious")
    (tmp_path / "into").mkdir()
    return tmp_path


def unpack(place, data, max_members=100, name="a.tar"):
    (place / name).write_bytes(data)
    around = {k: v for k, v in tree(place).items() if not k.startswith("into")}
    try:
        extract(place / name, place / "into", ROOT, max_members)
    finally:
        assert {k: v for k, v in tree(place).items() if not k.startswith("into")} == around
    return place / "into" / ROOT


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_an_archive_is_unpacked_and_known_to_be(place, form):
    folder = unpack(place, tar_bytes(voc(), form))
    found = files_of(folder)
    assert {name: found[name] for name in FILES} == FILES
    assert set(found) - set(FILES) == {".unpacked/a.tar.txt"}
    assert is_unpacked(folder, "a.tar")
    assert not is_unpacked(folder, "b.tar")
    assert not is_unpacked(place / "nowhere", "a.tar")


def test_names_may_begin_with_a_dot_and_files_come_twice(place):
    twice = [member(f"./{ROOT}/x/a.txt", b"old"), member(f"{ROOT}/x/a.txt", b"newer")]
    folder = unpack(place, tar_bytes([*folders("."), *twice]))
    assert (folder / "x" / "a.txt").read_bytes() == b"newer"
    assert is_unpacked(folder, "a.tar")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_modes_and_owners_are_not_taken_over(place):
    odd = [
        member(f"{ROOT}/x/a", b"a", mode=0o6777, uid=12345, gid=12345),
        member(f"{ROOT}/x/b", b"b", mode=0),
    ]
    folder = unpack(place, tar_bytes(odd))
    for name in ("a", "b"):
        found = (folder / "x" / name).stat()
        assert not stat.S_IMODE(found.st_mode) & 0o7022
        assert stat.S_IMODE(found.st_mode) & 0o600 == 0o600
        assert found.st_uid == os.getuid()


@pytest.mark.parametrize(("harm", "holds"), [
    (lambda f: (f / "JPEGImages/000001.jpg").unlink(), False),
    (lambda f: (f / "Annotations/000001.xml").write_bytes(b""), False),
    (lambda f: (f / "ImageSets/Main/trainval.txt").unlink(), False),
    (lambda f: (f / ".unpacked/a.tar.txt").write_text("no record"), False),
    (lambda f: (f / ".unpacked/a.tar.txt").unlink(), False),
    (lambda f: (f / "SegmentationClass/000001.png").unlink(), True),
    (lambda f: (f / "Annotations/000001.xml").write_bytes(b"corrected by hand"), True),
    (lambda f: (f / "Annotations/mine.xml").write_bytes(b"mine"), True),
])  # fmt: skip
def test_what_is_gone_is_noticed_and_what_is_the_readers_is_not_blamed(place, harm, holds):
    folder = unpack(place, tar_bytes(voc()))
    harm(folder)
    assert is_unpacked(folder, "a.tar") == holds


def bomb(name, size):
    """A member that claims a size beyond the archive's."""
    info, _ = member(f"{ROOT}/{name}")
    info.size = size
    return info.tobuf() + bytes(4096)


def sparse():
    """A GNU sparse file of 1 TB in 1 kB: tarfile itself would write it."""
    info, _ = member(f"{ROOT}/x.bin")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 0)  # one piece of data, of no length
    block[483:495] = b"\x80\0\0\0" + (10**12).to_bytes(8, "big")
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:512]))
    return bytes(block) + bytes(2048)


def link(name, target, kind=tarfile.SYMTYPE):
    return member(f"{ROOT}/{name}", kind=kind, linkname=target)


OUT = "../../../precious.txt"
HOSTILE = {
    "absolute path": (tar_bytes([member("/tmp/evil.txt", b"x")]), "not safe"),
    "absolute path within": (tar_bytes([member(f"/{ROOT}/evil.txt", b"x")]), "not safe"),
    "up and out": (tar_bytes([member("../precious.txt", b"x")]), "not safe"),
    "up within": (tar_bytes([member(f"{ROOT}/../../../precious.txt", b"x")]), "not safe"),
    "up to itself": (tar_bytes([member(f"{ROOT}/a/../b.txt", b"x")]), "not safe"),
    "beside the folder": (tar_bytes([member("VOCdevkit/VOC2012/x.txt", b"x")]), "not in VOCdevkit/VOC2007"),
    "above the folder": (tar_bytes([member("VOCdevkit", b"x")]), "not in VOCdevkit/VOC2007"),
    "the folder as a file": (tar_bytes([member(ROOT, b"x")]), "not safe"),
    "its own record": (tar_bytes([member(f"{ROOT}/.unpacked/a.tar.txt", b"x")]), "not safe"),
    "backslashes": (tar_bytes([member(f"{ROOT}\\..\\..\\..\\precious.txt", b"x")]), "not safe"),
    "a drive": (tar_bytes([member("C:/evil.txt", b"x")]), "not safe"),
    "control signs": (tar_bytes([member(f"{ROOT}/\x1b[2J.txt", b"x")]), "not safe"),
    "no UTF-8": (tar_bytes([member(f"{ROOT}/\udcff.txt", b"x")]), "not safe"),
    "link out": (tar_bytes([link("l", OUT)]), "a link"),
    "link out and a file through it": (
        tar_bytes([link("l", "../../.."), member(f"{ROOT}/l/precious.txt", b"x")]),
        "a link",
    ),
    "link within": (tar_bytes([*voc(), link("l", "ImageSets")]), "a link"),
    "absolute link": (tar_bytes([link("l", "/etc")]), "a link"),
    "hard link out": (tar_bytes([link("l", "../precious.txt", tarfile.LNKTYPE)]), "a link"),
    "hard link within": (
        tar_bytes([*voc(), link("l", f"{ROOT}/JPEGImages/000001.jpg", tarfile.LNKTYPE)]),
        "a link",
    ),
    "character device": (tar_bytes([link("d", "", tarfile.CHRTYPE)]), "device"),
    "block device": (tar_bytes([link("d", "", tarfile.BLKTYPE)]), "device"),
    "pipe": (tar_bytes([link("d", "", tarfile.FIFOTYPE)]), "device"),
    "bomb": (bomb("x.bin", 10**12), "more than its own"),
    "small bomb": (bomb("x.bin", 10_000), "more than its own"),
    "sparse bomb": (sparse(), "no plain file"),
    "file then folder": (
        tar_bytes([member(f"{ROOT}/a", b"x"), member(f"{ROOT}/a/b", b"x")]),
        "cannot be unpacked",
    ),
    "long name": (tar_bytes([member(f"{ROOT}/{'a' * 300}", b"x")]), ""),
    "empty file": (b"", "cannot be unpacked"),
    "no tar": (b"\x80\x02 these are no members" * 100, "cannot be unpacked"),
    "a zip": (b"PK\x03\x04" + bytes(2000), "cannot be unpacked"),
    "compressed": (tar_bytes(voc(), mode="w:gz"), "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused(place, kind):
    data, words = HOSTILE[kind]
    with pytest.raises((ExtractError, OSError)) as caught:
        unpack(place, data)
    if words:
        assert isinstance(caught.value, ExtractError)
        assert words in str(caught.value)
        assert str(place / "a.tar") in str(caught.value)
        assert "Delete it to download it anew" in str(caught.value)
    assert not is_unpacked(place / "into" / ROOT, "a.tar")
    assert sum(path.lstat().st_size for path in (place / "into").rglob("*") if path.is_file()) < 3000


def test_a_million_members_are_not_all_read(place):
    """Empty files, which the limit of bytes does not meet: the other limit is met after 101 of 100,000."""
    header = member(f"{ROOT}/e")[0].tobuf()
    with pytest.raises(ExtractError, match="more than 100 members"):
        unpack(place, header * 100_000 + bytes(1024))
    assert len(list((place / "into").rglob("*"))) < 10
    assert (unpack(place, header * 100 + bytes(1024)) / "e").exists()


def test_every_cut_is_noticed(place):
    """In a header, between members, in a body, within the zeros of the end: nothing shorter passes for the whole."""
    data = tar_bytes(voc())
    end = (len(data.rstrip(b"\0")) + 511) // 512 * 512
    for length in range(0, end + 512, 97):
        with pytest.raises(ExtractError):
            unpack(place, data[:length])
    assert is_unpacked(unpack(place, data[: end + 512]), "a.tar")


def test_a_damaged_header_is_not_taken_for_the_end(place):
    """tarfile stops there without a word."""
    data = bytearray(tar_bytes(voc()))
    second = data.index(b"VOCdevkit/VOC2007/JPEGImages")
    data[second : second + 4] = b"\xff\xff\xff\xff"
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
        assert len(tar.getnames()) == 3
    with pytest.raises(ExtractError, match=f"at byte {second:,}"):
        unpack(place, bytes(data))


def test_an_old_python_is_told(place, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(ExtractError, match=r"Python 3\.11\.4"):
        unpack(place, tar_bytes(voc()))


@settings(max_examples=100, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=8),
    length=st.none() | st.integers(0, 8000),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_no_damage_gets_out_of_the_folder(changes, length, form):
    """Any bytes changed and any length: unpacked within the folder, or refused; never another error."""
    data = bytearray(tar_bytes([*voc(), member(f"{ROOT}/{'d/' * 60}x", b"long name")], form))
    for position, value in changes:
        data[position % len(data)] = value
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "into").mkdir()
        try:
            unpack(place, bytes(data[:length]))
        except (ExtractError, OSError):
            assert not is_unpacked(place / "into" / ROOT, "a.tar")


def staged(tmp_path, files=FILES):
    folder = tmp_path / "staged" / ROOT
    for name, content in {**files, ".unpacked/a.tar.txt": b"1 x"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_new_folder_gets_its_place_in_one_step(tmp_path, monkeypatch):
    calls = []
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda *a: (calls.append(a), rename(*a))[1])
    monkeypatch.setattr(os, "replace", None)
    source = staged(tmp_path)
    before = files_of(source)
    assert install(source, tmp_path / "VOC2007") == len(before)
    assert calls == [(source, tmp_path / "VOC2007")]
    assert files_of(tmp_path / "VOC2007") == before


def test_in_a_folder_that_is_there_only_what_is_missing_or_cut_is_put(tmp_path):
    target = tmp_path / "VOC2007"
    mine = {
        "Annotations/000001.xml": b"<annotation>corrected, and longer</annotation>",
        "JPEGImages/000001.jpg": b"cut",
        "ImageSets/Main/mine.txt": b"000001\n",
    }
    for name, content in mine.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    assert install(staged(tmp_path), target) == len(FILES)  # all but one, and the record
    expected = {**FILES, **mine, "JPEGImages/000001.jpg": FILES["JPEGImages/000001.jpg"]}
    assert files_of(target) == {**expected, ".unpacked/a.tar.txt": b"1 x"}
    assert install(staged(tmp_path), target) == 0


@pytest.mark.parametrize("steps", range(6))
def test_a_kill_among_the_moves_leaves_no_record_and_no_list_too_early(tmp_path, monkeypatch, steps):
    """Images and annotations come before the lists that name them, the record comes last; then it is completed."""
    target, replace, left = tmp_path / "VOC2007", os.replace, [steps]
    target.mkdir()

    def replace_or_die(*paths):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", replace_or_die)
    if steps < len(FILES) + 1:
        with pytest.raises(KeyboardInterrupt):
            install(staged(tmp_path), target)
    found = files_of(target)
    assert len(found) == min(steps, len(FILES) + 1)
    assert ".unpacked/a.tar.txt" not in found or len(found) == len(FILES) + 1
    lists = {name for name in found if name.startswith("ImageSets")}
    assert not lists or {"Annotations/000001.xml", "JPEGImages/000001.jpg"} <= set(found)
    monkeypatch.setattr(os, "replace", replace)
    install(staged(tmp_path), target)
    assert {name: files_of(target)[name] for name in FILES} == FILES


def test_staging_is_beside_the_target_and_leaves_nothing(tmp_path):
    target = tmp_path / "VOCdevkit" / "VOC2007"

    def stop():
        with staging(target) as beside:
            assert beside.parent == target.parent
            assert list(beside.iterdir()) == []
            (beside / "half").write_bytes(b"half")
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            stop()
        assert list(target.parent.iterdir()) == []


def test_what_a_killed_run_left_is_cleared(tmp_path):
    target = tmp_path / "VOC2007"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom ssdedu.extract import staging\n"
        f"with staging(Path({str(target)!r})) as beside:\n"
        "    (beside / 'half').write_bytes(b'half')\n    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert len(list(tmp_path.rglob("half"))) == 1
    with staging(target) as beside:
        assert list(beside.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
