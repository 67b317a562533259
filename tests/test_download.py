"""`ssdedu download` from a server on this machine. Oracle: drawn scenes in VOC's layout, packed by the test."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace

import pytest
from test_extract import files_of, tar_bytes, tree
from web import good, page, serve, stalling, status, whole

from ssdedu import download as module
from ssdedu import extract, fetch
from ssdedu.__main__ import main
from ssdedu.catalogue import CATALOGUE, Item, Remote
from ssdedu.datasets.shapes import Shapes
from ssdedu.download import MIRROR, download, listing
from ssdedu.extract import ExtractError
from ssdedu.fetch import FetchError, NoMirrorError
from ssdedu.splits import names_of, open_splits

WEIGHTS = bytes(range(256)) * 20


@pytest.fixture(scope="module")
def web():
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def _calm(monkeypatch, web):
    monkeypatch.setattr(fetch, "_PAUSES", (0, 0, 0))
    monkeypatch.delenv(MIRROR, raising=False)
    web.asked.clear()
    web.contents.clear()


def packed(folder, year, split, number, seed):
    """Scenes as one of VOC's archives."""
    root = folder / "VOCdevkit" / f"VOC{year}"
    Shapes(number, seed).write_voc(root, split)
    with tarfile.open(folder / "voc.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(folder / "VOCdevkit", "VOCdevkit")
    return (folder / "voc.tar").read_bytes()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Small archives in place of VOC's."""
    make = tmp_path_factory.mktemp
    return {
        "trainval07.tar": packed(make("a"), 2007, "trainval", 4, 1),
        "test07.tar": packed(make("b"), 2007, "test", 2, 2),
        "trainval12.tar": packed(make("c"), 2012, "trainval", 3, 3),
    }


def remote(web, name, content, **fields):
    sha256 = hashlib.sha256(content).hexdigest()
    return Remote(name, (web.put(name, content),), **{"size": len(content), "sha256": sha256, **fields})


@pytest.fixture
def catalogue(web, archives):
    tv07, te07, tv12 = (
        remote(web, name, content, splits=splits)
        for (name, content), splits in zip(
            archives.items(), ({"trainval": 4}, {"test": 2}, {"trainval": 3}), strict=True
        )
    )
    items = (
        Item("voc07", "scenes", (tv07, te07), "VOCdevkit/VOC2007", "draw your own"),
        Item("voc12", "more", (tv12,), "VOCdevkit/VOC2012"),
        Item("vgg", "weights", (remote(web, "vgg.pth", WEIGHTS),), instead="features"),
        Item("features", "a part of them", (remote(web, "part.pth", WEIGHTS[:999]),)),
    )
    return {item.name: item for item in items}


def get(catalogue, to, *names, **more):
    said = []
    places = download(names, to, catalogue=catalogue, say=said.append, **more)
    return places, "\n".join(said)


def test_what_comes_is_what_train_opens(catalogue, tmp_path):
    places, said = get(catalogue, tmp_path, "voc07", "voc12")
    folders = [tmp_path / "VOCdevkit" / name for name in ("VOC2007", "VOC2012")]
    assert places == {"voc07": [folders[0]], "voc12": [folders[1]]}
    opened = open_splits(folders)
    assert (opened.split, opened.test_split) == ("trainval", "test")
    drawn = [[s.truth(i).name for i in range(len(s))] for s in (Shapes(4, 1), Shapes(2, 2), Shapes(3, 3))]
    assert sorted(names_of(opened.training)) == sorted(drawn[0] + drawn[2])
    assert sorted(names_of(opened.test)) == sorted(drawn[1])
    assert sorted(os.listdir(tmp_path)) == [module._NOTES, "VOCdevkit"]
    assert sorted(os.listdir(tmp_path / "VOCdevkit")) == ["VOC2007", "VOC2012"]
    assert "its sha256 is the published one" in said
    assert "draw your own" in said


def test_the_second_time_nothing_is_done_and_that_is_said(catalogue, tmp_path, web):
    get(catalogue, tmp_path, "voc07", "vgg")
    before, number = tree(tmp_path), len(web.asked)
    places, said = get(catalogue, tmp_path, "voc07", "vgg", "vgg")
    assert tree(tmp_path) == before
    assert len(web.asked) == number == 3
    assert "VOC2007: there already, and complete" in said
    assert "vgg.pth: there already; its sha256 is the published one" in said
    assert places == {"voc07": [tmp_path / "VOCdevkit/VOC2007"], "vgg": [tmp_path / "vgg.pth"]}


def test_only_the_missing_archive_is_fetched(catalogue, tmp_path, web):
    """As for one who has trainval already, unpacked by hand."""
    trainval = replace(catalogue["voc07"], files=catalogue["voc07"].files[:1])
    get({"voc07": trainval}, tmp_path, "voc07")
    extra = tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "mine.txt"
    extra.write_text("mine")
    web.asked.clear()
    get(catalogue, tmp_path, "voc07")
    assert [path for path, _ in web.asked] == ["test07.tar"]
    assert extra.read_text() == "mine"
    assert len(open_splits(tmp_path / "VOCdevkit" / "VOC2007").test) == 2


@pytest.mark.parametrize("half", ["images", "an empty image", "a short list", "nothing but the folder"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_half_extracted_folder_is_noticed_and_completed(catalogue, archives, tmp_path, half, by_hand):
    """Ours by its records, and one that somebody else unpacked by its lists of images."""
    get(catalogue, tmp_path, "voc07")
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    whole_folder = files_of(folder)
    if by_hand:
        for record in (folder / ".unpacked").iterdir():
            record.unlink()
    images = sorted((folder / "JPEGImages").iterdir())
    if half == "an empty image":
        images[1].write_bytes(b"")
    elif half == "a short list":
        listed = folder / "ImageSets" / "Main" / "trainval.txt"
        listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:2]) if by_hand else "")
    else:
        for path in folder.rglob("*") if half.startswith("nothing") else images:
            if path.is_file():
                path.unlink()
    _, said = get(catalogue, tmp_path, "voc07")
    assert "files are new" in said
    assert {k: v for k, v in files_of(folder).items() if not k.startswith(".")} == {
        k: v for k, v in whole_folder.items() if not k.startswith(".")
    }


def test_a_folder_unpacked_by_hand_is_left_alone(catalogue, archives, tmp_path, web):
    for name in ("trainval07.tar", "test07.tar"):
        (tmp_path / name).write_bytes(archives[name])
        with tarfile.open(tmp_path / name) as tar:
            tar.extractall(tmp_path, filter="data")
        (tmp_path / name).unlink()
    _, said = get(catalogue, tmp_path, "voc07")
    assert "there already, and complete" in said
    assert web.asked == []


def test_corrections_by_the_reader_stay(catalogue, tmp_path, web):
    get(catalogue, tmp_path, "voc07")
    xml = next((tmp_path / "VOCdevkit" / "VOC2007" / "Annotations").iterdir())
    xml.write_text("corrected")
    _, said = get(catalogue, tmp_path, "voc07")
    assert "complete" in said
    assert xml.read_text() == "corrected"


@pytest.mark.parametrize("keep", [False, True])
def test_archives_are_kept_on_request_or_when_they_were_there_before(catalogue, archives, tmp_path, keep):
    (tmp_path / "test07.tar").write_bytes(archives["test07.tar"])
    _, said = get(catalogue, tmp_path, "voc07", keep=keep)
    kept = {"test07.tar", "trainval07.tar"} if keep else {"test07.tar"}
    assert {name for name in os.listdir(tmp_path) if name.endswith(".tar")} == kept
    assert "test07.tar: there already" in said


@pytest.mark.parametrize("step", ["extract", "_has_splits", "_tidy"])
def test_archives_of_an_earlier_run_are_deleted_too(catalogue, tmp_path, monkeypatch, step):
    """Cut after the transfer, while unpacking, or when all but that was done."""
    done = getattr(module, step)

    def stop(*arguments):
        if step == "_has_splits" and not arguments[0].exists():
            return done(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, stop)
    with pytest.raises(KeyboardInterrupt):
        get(catalogue, tmp_path, "voc12")
    assert (tmp_path / "trainval12.tar").exists()
    monkeypatch.setattr(module, step, done)
    get(catalogue, tmp_path, "voc12")
    assert sorted(files_of(tmp_path / "VOCdevkit" / "VOC2012"))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [module._NOTES]
    assert (tmp_path / module._NOTES).read_text() == ""


@pytest.mark.parametrize("link", ["VOCdevkit", "VOCdevkit/VOC2012"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_the_place_of_the_folder_is_followed(catalogue, tmp_path, link, dangling):
    """The data lie, or are to lie, on another disk, and data/... points there."""
    big, data = tmp_path / "big" / link, tmp_path / "data" / link
    data.parent.mkdir(parents=True)
    data.symlink_to(big)
    (big.parent if dangling else big).mkdir(parents=True)
    get(catalogue, tmp_path / "data", "voc12")
    assert len(list((tmp_path / "big" / "VOCdevkit" / "VOC2012" / "Annotations").iterdir())) == 3
    assert data.is_symlink()
    assert len(open_splits(tmp_path / "data" / "VOCdevkit" / "VOC2012", ("trainval", "trainval")).test) == 3


HOSTILE = {
    "link": lambda data: tar_bytes([(link_to("../../../x"), b"")]),
    "cut": lambda data: data[: len(data) // 2],
    "short of a split": lambda data: tar_bytes([(tarfile.TarInfo("VOCdevkit/VOC2012/x"), b"")]),
    "no tar": lambda data: b"\x80" * 5000,
}


def link_to(target):
    info = tarfile.TarInfo("VOCdevkit/VOC2012/l")
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_of_a_bad_archive_is_put_in_place(catalogue, archives, tmp_path, web, kind):
    """Its checksum is right, or not known: a catalogue of somebody else's."""
    data = HOSTILE[kind](archives["trainval12.tar"])
    bad = remote(web, "trainval12.tar", data, splits={"trainval": 3}, sha256="")
    with pytest.raises(ValueError, match=r"trainval12\.tar.*nothing of it was put in place"):
        get({"voc12": replace(catalogue["voc12"], files=(bad,))}, tmp_path, "voc12")
    assert files_of(tmp_path).keys() == {module._NOTES, "trainval12.tar", "trainval12.tar.sha256"}
    assert [p.name for p in (tmp_path / "VOCdevkit").iterdir()] == []


def test_one_bad_archive_leaves_the_folder_as_it_was(catalogue, tmp_path, web):
    get({"voc07": replace(catalogue["voc07"], files=catalogue["voc07"].files[:1])}, tmp_path, "voc07")
    before = files_of(tmp_path)
    bad = remote(web, "test07.tar", b"\x80" * 5000, splits={"test": 2})
    files = (catalogue["voc07"].files[0], bad)
    with pytest.raises(ExtractError):
        get({"voc07": replace(catalogue["voc07"], files=files)}, tmp_path, "voc07")
    changed = {k for k, v in files_of(tmp_path).items() if before.get(k) != v}
    assert changed == {"test07.tar", module._NOTES}


def test_a_wrong_file_by_hand_is_named_and_not_touched(catalogue, tmp_path, web):
    (tmp_path / "vgg.pth").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"vgg\.pth is another file.*move it away"):
        get(catalogue, tmp_path, "vgg")
    assert (tmp_path / "vgg.pth").read_bytes() == b"mine"
    assert web.asked == []


def test_a_file_put_there_by_hand_is_enough(catalogue, tmp_path, web):
    (tmp_path / "vgg.pth").write_bytes(WEIGHTS)
    places, said = get(catalogue, tmp_path, "vgg")
    assert places["vgg"] == [tmp_path / "vgg.pth"]
    assert "there already" in said
    assert web.asked == []


@pytest.mark.parametrize(("known", "words"), [
    ({"sha256": hashlib.sha256(WEIGHTS).hexdigest()[:8]}, "the first 8 digits of its sha256 could be verified"),
    ({"sha256": ""}, "its length alone could be verified"),
    ({"sha256": "", "size": None}, "nothing could be verified"),
])  # fmt: skip
def test_what_was_not_verified_is_said_and_the_checksum_kept(tmp_path, web, known, words):
    item = Item("w", "weights", (remote(web, "w.pth", WEIGHTS, **known),))
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    for _ in range(2):
        _, said = get({"w": item}, tmp_path, "w")
        assert f"{words}, no more is published; in full it is {digest}" in said
    assert (tmp_path / "w.pth.sha256").read_text() == f"{digest}  w.pth\n"


def test_a_published_checksum_needs_no_file_beside(catalogue, tmp_path):
    get(catalogue, tmp_path, "vgg")
    assert sorted(os.listdir(tmp_path)) == [module._NOTES, "vgg.pth"]


def test_ones_own_mirror_comes_first(catalogue, tmp_path, web, monkeypatch):
    web.put("room/vgg.pth", WEIGHTS)
    get(catalogue, tmp_path / "a", "vgg", mirror=f"{web.address}/room")
    monkeypatch.setenv(MIRROR, f"{web.address}/room/")
    get(catalogue, tmp_path / "b", "vgg")
    get(catalogue, tmp_path / "c", "vgg", mirror="")
    assert [path for path, _ in web.asked] == ["room/vgg.pth", "room/vgg.pth", "vgg.pth"]
    web.put("room/vgg.pth", WEIGHTS[::-1])
    get(catalogue, tmp_path / "d", "vgg")
    assert (tmp_path / "d" / "vgg.pth").read_bytes() == WEIGHTS
    for wrong in ("room", "file:///mnt", "ftp://a/b"):
        with pytest.raises(ValueError, match="http://"):
            get(catalogue, tmp_path, "vgg", mirror=wrong)


def test_what_cannot_be_had_is_stood_in_for(catalogue, tmp_path, web):
    web.put("vgg.pth", WEIGHTS, status(403))
    places, said = get(catalogue, tmp_path, "vgg")
    assert places["vgg"] == [tmp_path / "part.pth"]
    assert "no mirror has it; trying features instead: a part of them" in said
    web.asked.clear()
    places, said = get(catalogue, tmp_path, "vgg")
    assert places["vgg"] == [tmp_path / "part.pth"]
    assert "features (a part of them) is there instead" in said
    assert web.asked == []


def test_when_neither_can_be_had_both_are_told(catalogue, tmp_path, web):
    for name in ("vgg.pth", "part.pth"):
        web.put(name, b"", page())
    with pytest.raises(NoMirrorError) as caught:
        get(catalogue, tmp_path, "vgg")
    for words in ("vgg.pth could not", "part.pth could not", str(tmp_path / "vgg.pth"), "a web page"):
        assert words in str(caught.value)


def test_names_that_are_not_there(catalogue, tmp_path):
    with pytest.raises(ValueError, match=r"'voc7' is not among voc07, voc12, vgg, features; is it 'voc07'\?"):
        get(catalogue, tmp_path, "vgg", "voc7")
    with pytest.raises(ValueError, match="name what to download: voc07, voc12"):
        get(catalogue, tmp_path)
    assert list(tmp_path.iterdir()) == []


def room_needed(monkeypatch, catalogue, to, *names, **more):
    """The least room with which a download begins, found by halves."""
    low, high = 0, 10_000_000
    while low < high:
        middle = (low + high) // 2
        monkeypatch.setattr(
            module.shutil, "disk_usage", lambda _, free=middle: type("Usage", (), {"free": free})
        )
        try:
            module._check_room(
                [catalogue[n] for n in names], module._Order(to, "", more.get("keep", False), print)
            )
            high = middle
        except ValueError:
            low = middle + 1
    return low


def test_the_room_is_checked_first(catalogue, archives, tmp_path, monkeypatch, web):
    """Archives and what they hold lie there together; archives go before the next item comes."""
    a, b, c = map(len, archives.values())
    need = lambda *names, **more: room_needed(monkeypatch, catalogue, tmp_path, *names, **more)  # noqa: E731
    assert need("vgg") == len(WEIGHTS)
    assert need("voc07") == a + b + int((a + b) * 1.1)
    assert need("voc07", "vgg") == max(need("voc07"), int((a + b) * 1.1) + len(WEIGHTS))
    assert need("voc07", "voc12") == max(need("voc07"), int((a + b) * 1.1) + c + int(c * 1.1))
    assert need("voc07", "voc12", keep=True) == need("voc07") + c + int(c * 1.1)
    (tmp_path / "vgg.pth.part").write_bytes(WEIGHTS[:1000])
    assert need("vgg") == len(WEIGHTS) - 1000
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1234}))
    with pytest.raises(
        ValueError, match=r"kB are needed to download and unpack voc07 vgg, 1\.2 kB are free.*--to"
    ):
        get(catalogue, tmp_path, "voc07", "vgg")
    assert web.asked == []


def test_what_is_there_needs_no_room(catalogue, tmp_path, monkeypatch):
    get(catalogue, tmp_path, "voc07", "vgg")
    assert room_needed(monkeypatch, catalogue, tmp_path, "voc07", "vgg") == 0


def test_a_disk_that_is_full_while_unpacking(catalogue, tmp_path, monkeypatch, web):
    """The archives stay, the folder does not appear, and with room the same call goes on without a transfer."""
    extract_one = tarfile.TarFile.extract
    calls = []

    def full(self, member, *args, **more):
        calls.append(member.name)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        extract_one(self, member, *args, **more)

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(ValueError, match=r"VOC2012: the disk is full .*archives are kept"):
        get(catalogue, tmp_path, "voc12")
    assert sorted(files_of(tmp_path)) == [module._NOTES, "trainval12.tar"]
    monkeypatch.setattr(tarfile.TarFile, "extract", extract_one)
    get(catalogue, tmp_path, "voc12")
    assert [path for path, _ in web.asked] == ["trainval12.tar"]
    assert len(open_splits(tmp_path / "VOCdevkit" / "VOC2012", ("trainval", "trainval")).training) == 3


@pytest.mark.skipif(os.name == "nt", reason="no such locks on Windows")
def test_two_at_once_do_not_meet(catalogue, tmp_path, web):
    gate, entered = threading.Event(), threading.Event()

    def slow(request, content):
        entered.set()
        gate.wait(20)
        whole(request, content)

    web.put("vgg.pth", WEIGHTS, slow)
    first = threading.Thread(target=get, args=(catalogue, tmp_path, "vgg"))
    first.start()
    assert entered.wait(20)
    with pytest.raises(ValueError, match="another `ssdedu download` is at work"):
        get(catalogue, tmp_path, "features")
    gate.set()
    first.join()
    get(catalogue, tmp_path, "features")
    assert {"vgg.pth", "part.pth"} <= set(os.listdir(tmp_path))


def test_the_list_says_what_is_there(catalogue, tmp_path, web):
    text = listing(tmp_path, catalogue).splitlines()
    assert [line.split()[0] for line in text] == list(catalogue)
    assert all("not there)" in line for line in text)
    assert "(5.1 kB, sha256, not there)" in text[2]
    get(catalogue, tmp_path, "voc12", "features")
    (tmp_path / "vgg.pth.part").write_bytes(WEIGHTS[:1100])
    states = [line.rsplit(", ", 1)[1] for line in listing(tmp_path, catalogue).splitlines()]
    assert states == ["not there)", "there)", "1.1 kB of it there)", "there)"]
    assert "8 digits of sha256" in listing(tmp_path)
    assert len(listing(tmp_path).splitlines()) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999 bytes"), (1000, "1.0 kB"), (1_999_639_040, "2.0 GB")]
)
def test_sizes_for_people(number, text):
    assert module._human(number) == text


def as_json(catalogue, path, *names):
    content = {
        name: {
            "about": item.about,
            "folder": item.folder,
            "files": [
                {
                    "name": f.name,
                    "mirrors": f.mirrors,
                    "size": f.size,
                    "sha256": f.sha256,
                    "splits": dict(f.splits),
                }
                for f in item.files
            ],
        }
        for name, item in catalogue.items()
        if name in names
    }
    path.write_text(json.dumps(content))
    return str(path)


def command(*arguments):
    return [sys.executable, "-m", "ssdedu", "download", *map(str, arguments)]


def test_the_command_from_a_catalogue_of_ones_own(catalogue, tmp_path, capsys, monkeypatch):
    """As a learner types it, to the folder by default."""
    monkeypatch.chdir(tmp_path)
    own = as_json(catalogue, tmp_path / "c.json", "voc07", "voc12")
    assert main(["download", "--list", "--catalogue", own]) == 0
    listed = capsys.readouterr().out
    assert "voc07" in listed
    assert "voc2007" in listed
    assert main(["download", "voc07", "voc12", "--catalogue", own]) == 0
    out = capsys.readouterr().out
    folders = [os.path.join("data", "VOCdevkit", name) for name in ("VOC2007", "VOC2012")]
    assert out.splitlines()[-1] == f"next: ssdedu train {' '.join(folders)}"
    assert len(open_splits(folders).training) == 7
    assert main(["download", "voc07", "voc12", "--catalogue", own]) == 0
    assert capsys.readouterr().out.count("there already, and complete") == 2


def test_the_command_answers_mistakes(tmp_path, capsys):
    for arguments, words in {
        ("voc2006",): "is it 'voc2007'?",
        (): "name what to download: voc2007",
        ("vgg16", "--mirror", "ftp://x"): "http://",
        ("vgg16", "--catalogue", str(tmp_path / "none.json")): "not a catalogue",
    }.items():
        assert main(["download", *arguments, "--to", str(tmp_path / "data")]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssdedu.download.download", interrupt)
    assert main(["download", "vgg16", "--to", str(tmp_path)]) == 130
    assert "the same command goes on from what is there" in capsys.readouterr().err


def test_kill_9_in_a_transfer_and_while_unpacking(catalogue, archives, tmp_path, web):
    """The command killed twice; the third time it ends as if nothing had been."""
    own, to = as_json(catalogue, tmp_path / "c.json", "voc07"), tmp_path / "data"
    gate = threading.Event()
    web.put("trainval07.tar", archives["trainval07.tar"], stalling(20_000, gate), good())
    process = subprocess.Popen(command("voc07", "--catalogue", own, "--to", to), stderr=subprocess.DEVNULL)
    part = to / "trainval07.tar.part"
    while not (part.exists() and part.stat().st_size >= 20_000):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    gate.set()
    assert not (to / "VOCdevkit").exists()
    code = (
        "import os, tarfile; from ssdedu.__main__ import main; one = tarfile.TarFile.extract; seen = []\n"
        "def die(self, m, *a, **k):\n    seen.append(m); os._exit(9) if len(seen) > 9 else one(self, m, *a, **k)\n"
        f"tarfile.TarFile.extract = die; main(['download', 'voc07', '--catalogue', {own!r}, '--to', {str(to)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 9
    assert not (to / "VOCdevkit" / "VOC2007").exists()
    assert any((to / "VOCdevkit").iterdir())
    assert main(["download", "voc07", "--catalogue", own, "--to", str(to)]) == 0
    assert web.ranges("trainval07.tar") == [None, "bytes=20000-"]
    assert web.ranges("test07.tar") == [None]
    opened = open_splits(to / "VOCdevkit" / "VOC2007")
    assert (len(opened.training), len(opened.test)) == (4, 2)
    assert os.listdir(to / "VOCdevkit") == ["VOC2007"]


def test_the_records_are_not_taken_for_data(catalogue, tmp_path, capsys):
    get(catalogue, tmp_path, "voc07")
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    assert extract.is_unpacked(folder, "test07.tar")
    assert main(["check-data", str(folder)]) == 0
    assert "6 images" in capsys.readouterr().out
