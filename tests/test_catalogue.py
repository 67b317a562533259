"""What can be downloaded. Oracles: torchvision's file names, which hold checksums; parameter counts; voc's splits."""

import json
import re
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from ssdedu.catalogue import CATALOGUE, Item, Remote, read_catalogue
from ssdedu.datasets.voc_folder import VOC_CLASSES

FILES = [file for item in CATALOGUE.values() for file in item.files]
BY_NAME = {file.name: file for file in FILES}


def test_every_name_is_its_item_and_every_file_is_one():
    assert all(item.name == name for name, item in CATALOGUE.items())
    assert len(BY_NAME) == len(FILES)
    assert {"voc2007", "voc2012", "vgg16", "ssd300-amdegroot", "ssd300-torchvision"} <= set(CATALOGUE)
    assert all(item.instead in CATALOGUE for item in CATALOGUE.values() if item.instead)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_mirror_has_the_file_by_its_name(file):
    assert len(set(file.mirrors)) == len(file.mirrors) >= 1
    for mirror in file.mirrors:
        assert urlsplit(mirror).path.endswith(f"/{file.name}")
    assert file.mirrors[0].startswith("https://")
    assert len({urlsplit(mirror).hostname for mirror in file.mirrors}) == len(file.mirrors)


@pytest.mark.parametrize("name", [name for name in BY_NAME if re.search(r"-[0-9a-f]{8}\.pth$", name)])
def test_torchvisions_names_hold_the_first_digits_of_the_checksum(name):
    assert BY_NAME[name].sha256[:8] == re.search(r"-([0-9a-f]{8})\.pth$", name)[1]


def test_two_files_lack_a_whole_checksum_one_of_them_its_length_too():
    without = [file.name for file in FILES if file.size is None or len(file.sha256) < 64]
    assert without == ["vgg16_features-amdegroot-88682ab5.pth", "mobilenet_1_0_224_tf_no_top.h5"]
    assert BY_NAME[without[0]].space == pytest.approx(527.802 * 2**20, rel=1e-5)


def vgg(fc6, fc7, norm=False, classes=None):
    """Numbers in VGG16's layers: kernels, biases, four for each channel of a batch normalisation."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    numbers = sum(9 * a * b + b for a, b in pairwise(widths))
    numbers += 4 * sum(widths[1:]) if norm else 0
    numbers += fc6 * (512 * (49 if classes else 9) + 1) + fc7 * (fc6 + 1)
    return numbers + (classes * (fc7 + 1) if classes else 0)


@pytest.mark.parametrize(("name", "numbers"), [
    ("vgg16_reducedfc.pth", vgg(1024, 1024)),
    ("vgg16-397923af.pth", vgg(4096, 4096, classes=1000)),
    ("vgg16_bn-6c64b313.pth", vgg(4096, 4096, True, classes=1000)),
    ("ssd300_mAP_77.43_v2.pth", 26_285_486),
    ("ssd300_vgg16_coco-b556d3b4.pth", 35_641_826),
])  # fmt: skip
def test_the_lengths_are_four_bytes_a_number_and_a_little(name, numbers):
    assert 0 < BY_NAME[name].size - 4 * numbers < 30_000


def test_the_counts_of_the_layers_are_the_published_ones():
    """138,357,544 is torchvision's num_params of VGG16; 20 classes are VOC's."""
    assert vgg(4096, 4096, classes=1000) == 138_357_544
    assert len(VOC_CLASSES) == 20


def test_voc_is_two_archives_and_one():
    trainval, test = CATALOGUE["voc2007"].files
    assert trainval.splits["trainval"] + test.splits["test"] == 9963
    assert CATALOGUE["voc2007"].space == trainval.size + test.size
    assert [CATALOGUE[f"voc{year}"].folder for year in (2007, 2012)] == [
        "VOCdevkit/VOC2007",
        "VOCdevkit/VOC2012",
    ]
    assert all(file.size % 512 == 0 for file in FILES if file.splits)  # a tar consists of blocks


@pytest.mark.parametrize(("fields", "words"), [
    ({"name": "../a"}, "name '../a'"),
    ({"name": "a/b"}, "name 'a/b'"),
    ({"name": ".hidden"}, "name '.hidden'"),
    ({"name": ""}, "name ''"),
    ({"name": "a\n"}, "name 'a"),
    ({"sha256": "1234"}, "sha256 '1234'"),
    ({"sha256": "A" * 64}, "sha256 'A"),
    ({"sha256": "a" * 65}, "sha256 'a"),
    ({"size": 0}, "size must be 1"),
    ({"splits": {"trainval": "3"}}, "splits holds"),
    ({"max_members": "many"}, "max_members"),
    ({"mirrors": ("file:///etc/passwd",)}, "http://"),
    ({"mirrors": ("https://",)}, "http://"),
])  # fmt: skip
def test_a_remote_file_is_refused_for_what_is_wrong(fields, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Remote(**{"name": "a", "mirrors": (), **fields})


@pytest.mark.parametrize("folder", ["/tmp/x", "../x", "a/../b", "a b", "~/x", "C:/x", ".git/hooks"])
def test_an_item_stays_in_the_folder_of_downloads(folder):
    with pytest.raises(ValueError, match="folder"):
        Item("a", "", (Remote("a", ()),), folder)
    with pytest.raises(ValueError, match="files is empty"):
        Item("a", "", ())


def test_a_catalogue_of_ones_own(tmp_path):
    """Only name and mirrors of the files are required."""
    content = {
        "ours": {
            "about": "our course's data",
            "folder": "VOCdevkit/OURS",
            "files": [{
                "name": "ours.tar",
                "mirrors": ["https://example.org/ours.tar"],
                "size": 10,
                "sha256": "0" * 64,
                "splits": {"trainval": 3},
                "max_members": 9,
            }],
        },
        "weights": {"files": [{"name": "w.pth", "mirrors": []}]},
    }  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(content))
    found = read_catalogue(tmp_path / "c.json")
    mirrors = ("https://example.org/ours.tar",)
    file = Remote("ours.tar", mirrors, 10, "0" * 64, splits={"trainval": 3}, max_members=9)
    assert found["ours"] == Item("ours", "our course's data", (file,), "VOCdevkit/OURS")
    assert found["weights"] == Item("weights", "", (Remote("w.pth", ()),))


@pytest.mark.parametrize("text", [
    "", "[]", "3", "{", '{"a": 3}', '{"a": {}}', '{"a": {"files": []}}', '{"a": {"files": [{}]}}',
    '{"a": {"files": [{"name": "x", "mirrors": [3]}]}}', '{"a": {"files": [{"name": "x", "mirrors": ["ftp://a/b"]}]}}',
    '{"a": {"files": [{"name": "x", "mirrors": [], "colour": 1}]}}',
    '{"a": {"files": [{"name": "x", "mirrors": [], "splits": ["trainval"]}]}}',
    '{"a": {"colour": 1, "files": [{"name": "x", "mirrors": []}]}}',
    '{"a": {"folder": "/x", "files": [{"name": "x", "mirrors": []}]}}',
])  # fmt: skip
def test_a_broken_catalogue_is_named(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json: not a catalogue of downloads"):
        read_catalogue(tmp_path / "c.json")


def test_no_catalogue(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: not a catalogue of downloads \(FileNotFoundError"):
        read_catalogue(tmp_path / "none.json")
