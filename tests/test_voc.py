"""Oracles: boxes by hand, a table of outcomes for real odd files, Pillow, a plain XML loop, round trips."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageOps

from ssdedu.datasets import voc
from ssdedu.datasets.voc import (
    VOC_CLASSES,
    AnnotationError,
    VOCFolder,
    check_folder,
    read_annotation,
    write_voc,
)
from ssdedu.datasets.voc_damage import find_damage
from ssdedu.datasets.voc_image import ImageError, is_complete, read_header, read_image, turn_upright
from ssdedu.datasets.voc_report import KINDS
from ssdedu.datasets.voc_xml import decode_text
from ssdedu.sample import Sample, Truth

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SHARED = Path(__file__).parents[2] / "shared"


def shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {name} beside the repository")
    return SHARED / name


def box(*corners, tags=CORNERS):
    values = dict(zip(CORNERS, corners, strict=True))
    return "<bndbox>" + "".join(f"<{tag}>{values[tag]}</{tag}>" for tag in tags) + "</bndbox>"


def obj(name="dog", corners=(10, 5, 60, 45), extra="<difficult>0</difficult>"):
    return f"<object><name>{name}</name>{extra}{box(*corners)}</object>"


def document(*objects, size="<size><width>100</width><height>50</height><depth>3</depth></size>"):
    return f"<annotation><filename>x.jpg</filename>{size}{''.join(objects)}</annotation>"


def saved(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def picture(width=100, height=50, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encoded(image, form="JPEG", **options) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def with_exif(image, orientation) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, exif=exif, quality=95)


def make_folder(
    root: Path, annotations: dict, images: dict | None = None, splits: dict | None = None
) -> Path:
    """Every annotation gets a 100 x 50 JPEG unless `images` (file name -> bytes) is given."""
    (root / "Annotations").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for stem, content in annotations.items():
        saved(root / "Annotations" / f"{stem}.xml", content)
    images = {f"{stem}.jpg": encoded(picture()) for stem in annotations} if images is None else images
    for name, content in images.items():
        saved(root / "JPEGImages" / name, content)
    for name, content in (splits or {}).items():
        saved(root / "ImageSets" / "Main" / f"{name}.txt", content)
    return root


def kinds(problems) -> dict[str, int]:
    return dict(Counter(problem.kind for problem in problems))


def quiet(*args, **kwargs) -> VOCFolder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VOCFolder(*args, **kwargs)


# --- one annotation --------------------------------------------------------------------------------------


def test_the_fraction_is_the_coordinate_over_the_size_without_minus_one(tmp_path):
    annotation = read_annotation(saved(tmp_path / "a.xml", document(obj(corners=(1, 5, 100, 50)))))
    np.testing.assert_array_equal(annotation.boxes_xyxy(100, 50), np.float32([[0.01, 0.1, 1.0, 1.0]]))


PART = "<part><name>head</name>" + box(20, 10, 30, 20) + "</part>"
READABLE = {
    "plain": document(obj()),
    "parts before and after": document(
        f"<object>{PART}<name>dog</name>{box(10, 5, 60, 45)}{PART}<actions><x>1</x></actions></object>"
    ),
    "order": document(f"<object>{box(10, 5, 60, 45, tags=CORNERS[::-1])}<name>dog</name></object>"),
    "floats": document(obj(corners=("10.0", "5.", "6e1", " 45.00 "))),
    "blanks in name": document(obj(name=" \n\tdog ")),
    "no difficult": document(obj(extra="")),
    "empty difficult": document(obj(extra="<difficult/><truncated/><pose/>")),
    "false difficult": document(obj(extra="<difficult>False</difficult>")),
    "no size": document(obj(), size=""),
    "zero size": document(obj(), size="<size><width>0</width><height>0</height></size>"),
    "empty size": document(obj(), size="<size><width/><height/></size>"),
    "size reordered": document(obj(), size="<size><depth/><height>50</height><width>100.0</width></size>"),
    "extras": document(
        obj(extra="<attributes><attribute><name>a</name></attribute></attributes><occluded/>")
    ),
    "blank lines before the declaration": '\n\n<?xml version="1.0" encoding="utf-8"?>' + document(obj()),
    "comment": "<!-- a -->" + document("<!-- <object> -->", obj()),
    "CRLF": document(obj()).replace("><", ">\r\n<"),
}


@pytest.mark.parametrize("name", READABLE)
def test_what_can_be_read_safely_is_read(name, tmp_path):
    annotation = read_annotation(saved(tmp_path / "a.xml", READABLE[name]), size_px=(100, 50))
    assert annotation.objects == ((1, "dog", (10, 5, 60, 45), False),)
    assert not annotation.problems


@pytest.mark.parametrize("text", ["1", " 1 ", "1.0", "true", "True", "yes"])
def test_difficult_is_seen(text, tmp_path):
    xml = document(obj(extra=f"<difficult>{text}</difficult>"))
    assert read_annotation(saved(tmp_path / "a.xml", xml)).difficult.tolist() == [True]


CHINESE = "<path>C:\\桌面\\x.jpg</path>"
ENCODED = {
    "UTF-8 without declaration": document(CHINESE, obj("naïve")).encode(),
    "UTF-8 with mark": b"\xef\xbb\xbf" + document(CHINESE, obj("naïve")).encode(),
    "mark and declaration": (
        '\ufeff<?xml version="1.0" encoding="utf-8"?>' + document(obj("naïve"))
    ).encode(),
    "UTF-16 with mark": document(CHINESE, obj("naïve")).encode("utf-16"),
    "UTF-16 big-endian": ('<?xml version="1.0" encoding="UTF-16"?>' + document(obj("naïve"))).encode(
        "utf-16-be"
    ),
    "UTF-16 little-endian": document(obj("naïve")).encode("utf-16-le"),
    "UTF-32": document(obj("naïve")).encode("utf-32"),
    "says UTF-16, is UTF-8": ('<?xml version="1.0" encoding="utf-16"?>' + document(obj("naïve"))).encode(),
    "Latin-1": ('<?xml version="1.0" encoding="iso-8859-1"?>' + document(obj("naïve"))).encode("latin-1"),
    "cp1252": ("<?xml version='1.0' encoding='windows-1252'?>" + document(obj("naïve"))).encode("cp1252"),
    "gb18030": ('<?xml version="1.0" encoding="GB18030"?>' + document(CHINESE, obj("naïve"))).encode(
        "gb18030"
    ),
    "unknown declaration": ('<?xml version="1.0" encoding="nonsense"?>' + document(obj("naïve"))).encode(),
}


@pytest.mark.parametrize("name", ENCODED)
def test_encodings(name, tmp_path):
    (item,) = read_annotation(saved(tmp_path / "a.xml", ENCODED[name])).objects
    assert item == (1, "naïve", (10, 5, 60, 45), False)


def test_undeclared_encoding_matters_only_for_names(tmp_path):
    harmless = saved(tmp_path / "a.xml", document(CHINESE, obj()).encode("gbk"))
    assert len(read_annotation(harmless).objects) == 1
    guess = saved(tmp_path / "b.xml", document(obj("naïve")).encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"b\.xml.*class name.*Save the file as UTF-8"):
        read_annotation(guess)


LAUGHS = '<!DOCTYPE a [<!ENTITY l "ha"><!ENTITY m "&l;&l;&l;">]>' + document(obj("&m;"))
REFUSED = {
    "billion laughs": (LAUGHS, "DTD or entity", "DOCTYPE"),
    "external entity": (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "secret.txt">]>' + document(obj("&x;")),
        "DTD",
        "<!",
    ),
    "external DTD": ('<!DOCTYPE annotation SYSTEM "a.dtd">' + document(obj()), "DTD or entity", "Delete"),
    "undefined entity": (document(obj("&nbsp;dog")), "unreadable XML", "undefined entity"),
    "cut off": (document(obj())[:-30], "unreadable XML", "Repair"),
    "empty file": ("", "unreadable XML", "Repair"),
    "lone surrogate": (
        b'<?xml version="1.0" encoding="utf-7"?><annotation>+2AA-</annotation>',
        "unreadable",
        "Rep",
    ),
    "broken UTF-16": (b"\xff\xfe" + b"<\0a", "unreadable XML", "truncated"),
    "other root": ("<catalog><object/></catalog>", "not an annotation", "<catalog>"),
    "nested objects": (document(f"<objects>{obj()}</objects>"), "not an annotation", "<objects>"),
    "objects in object": (document(f"<object>{obj()}</object>"), "not an annotation", "<object>"),
    "capital Object": (document(obj().replace("object>", "Object>")), "not an annotation", "<Object>"),
    "bare boxes": (document(box(1, 2, 3, 4)), "not an annotation", "<bndbox>"),
    "size text": (document(size="<size><width>wide</width><height>5</height></size>"), "bad size", "'wide'"),
    "size nan": (document(size="<size><width>nan</width><height>5</height></size>"), "bad size", "'nan'"),
    "size negative": (document(size="<size><width>-9</width><height>5</height></size>"), "bad size", "-9"),
    "size broken": (document(size="<size><width>9.5</width><height>5</height></size>"), "bad size", "9.5"),
    "two sizes": (document(size="<size/><size/>"), "bad size", "2 <size>"),
    "inverted x": (document(obj(corners=(60, 5, 10, 45))), "inverted box", "xmin 60 is larger than xmax 10"),
    "inverted y": (document(obj(corners=(10, 45, 60, 5))), "inverted box", "ymin 45 is larger"),
    "no width": (document(obj(corners=(10, 5, 10, 45))), "zero-area box", "xmin and xmax are both 10"),
    "no height": (document(obj(corners=(10, 5, 60, 5))), "zero-area box", "ymin and ymax"),
    "hair": (document(obj(corners=(10, 5, "10.0000000001", 45))), "zero-area box", "single precision"),
    "right of it": (document(obj(corners=(100, 5, 130, 45))), "box outside", "100 x 50"),
    "below": (document(obj(corners=(10, 51, 60, 90))), "box outside", "10 51 60 90"),
    "left of it": (document(obj(corners=(-30, 5, -1, 45))), "box outside", "-30 5 -1 45"),
    "nan": (document(obj(corners=("nan", 5, 60, 45))), "bad number", "<xmin> is 'nan'"),
    "inf": (document(obj(corners=(10, 5, "inf", 45))), "bad number", "<xmax> is 'inf'"),
    "overflow": (document(obj(corners=(10, 5, "1e999", 45))), "bad number", "1e999"),
    "comma": (document(obj(corners=("10,5", 5, 60, 45))), "bad number", "'10,5'"),
    "underscore": (document(obj(corners=("1_0", 5, 60, 45))), "bad number", "'1_0'"),
    "empty number": (document(obj(corners=("", 5, 60, 45))), "bad number", "<xmin> is missing"),
    "missing corner": (
        document(f"<object><name>dog</name>{box(10, 5, 60, 45, tags=CORNERS[:3])}</object>"),
        "bad number",
        "<ymax> is missing",
    ),
    "two xmin": (document(obj().replace("<xmin>", "<xmin>1</xmin><xmin>")), "bad number", "2 <xmin>"),
    "no box": (document("<object><name>dog</name><robndbox/></object>"), "no box", "<robndbox>"),
    "only a part's box": (document(f"<object><name>dog</name>{PART}</object>"), "no box", "<part>"),
    "two boxes": (document(obj(extra=box(1, 2, 3, 4))), "no box", "2 <bndbox>"),
    "no name": (document(f"<object>{box(1, 2, 3, 4)}</object>"), "no name", "object 1:"),
    "blank name": (document(obj("  ")), "no name", "class name"),
    "invisible name": (document(obj("do\u200bg")), "no name", "invisible"),
    "two names": (document(obj(extra="<name>cat</name>")), "no name", "2 <name>"),
    "background": (document(obj("background")), "background object", "label 0"),
    "difficult text": (document(obj(extra="<difficult>maybe</difficult>")), "bad difficult", "'maybe'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_broken_is_an_error_that_names_file_and_remedy(name, tmp_path):
    content, kind, text = REFUSED[name]
    path = saved(tmp_path / "a.xml", content)
    with pytest.raises(AnnotationError) as caught:
        read_annotation(path)
    message, problem = str(caught.value), caught.value.problem
    assert str(path) in message
    assert text in message
    assert problem.kind.startswith(kind)
    assert KINDS[problem.kind][1] in message
    skipped = read_annotation(path, on_error="skip")
    assert kinds(skipped.problems) == {problem.kind: 1}
    assert skipped.objects == ()
    assert skipped.readable == (problem.scope == "object")


def test_a_broken_object_does_not_take_the_good_ones_along(tmp_path):
    path = saved(tmp_path / "a.xml", document(obj("cat"), obj(corners=(9, 9, 9, 9)), obj()))
    annotation = read_annotation(path, on_error="skip")
    assert [(item.number, item.name) for item in annotation.objects] == [(1, "cat"), (3, "dog")]
    assert annotation.problems[0].where == "object 2 (dog)"
    assert annotation.names == {"cat", "dog"}


@pytest.mark.parametrize(
    ("corners", "inside", "noted"),
    [
        ((0, 0, 100, 50), (0, 0, 100, 50), False),  # 0-based or exclusive corners
        ((-1, -2, 101, 52), (0, 0, 100, 50), False),
        ((-2.5, 5, 60, 45), (0, 5, 60, 45), True),
        ((10, 5, 103, 45), (10, 5, 100, 45), True),
        ((99, 5, 200, 45), (99, 5, 100, 45), True),
        ((10, -40, 60, 1), (10, 0, 60, 1), True),
    ],
)
def test_boxes_are_cut_at_the_border_and_large_overhangs_noted(corners, inside, noted, tmp_path):
    annotation = read_annotation(saved(tmp_path / "a.xml", document(obj(corners=corners))))
    assert annotation.objects[0].box_px == inside
    assert kinds(annotation.problems) == ({"clipped box": 1} if noted else {})


def test_size_is_checked_against_a_size_that_is_given(tmp_path):
    path = saved(tmp_path / "a.xml", document(obj()))
    with pytest.raises(AnnotationError, match=r"<size> says 100 x 50, the image has 99 x 50"):
        read_annotation(path, size_px=(99, 50))
    skipped = read_annotation(path, size_px=(99, 50), on_error="skip")
    assert (skipped.objects, kinds(skipped.problems)) == ((), {"size mismatch": 1})
    no_size = saved(tmp_path / "b.xml", document(obj(corners=(500, 500, 600, 600)), size=""))
    assert len(read_annotation(no_size).objects) == 1  # nothing to check it with
    with pytest.raises(AnnotationError, match="outside the 100 x 50 image"):
        read_annotation(no_size, size_px=(100, 50))


def test_options_and_missing_files_have_clear_errors(tmp_path):
    path = saved(tmp_path / "a.xml", document())
    with pytest.raises(ValueError, match="on_error is 'ignore'; it must be one of 'raise', 'skip'"):
        read_annotation(path, on_error="ignore")
    with pytest.raises(AnnotationError, match="No such file"):
        read_annotation(tmp_path / "none.xml")


@given(st.binary(max_size=60), st.integers(0, 2000), st.integers(0, 40))
@settings(deadline=None, max_examples=150)
def test_a_damaged_file_is_read_or_is_an_annotation_error(tmp_path_factory, noise, start, length):
    whole = document(obj(), obj("cat", (1, 2, 30.5, 40)), PART).encode()
    start %= len(whole)
    path = saved(tmp_path_factory.getbasetemp() / "fuzz.xml", whole[:start] + noise + whole[start + length :])
    skipped = read_annotation(path, on_error="skip")
    boxes_xyxy = skipped.boxes_xyxy(*(skipped.size_px or (100, 50)))
    assert (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all()
    errors = [problem for problem in skipped.problems if problem.scope != "note"]
    if errors:
        with pytest.raises(AnnotationError) as caught:
            read_annotation(path)
        assert caught.value.problem == errors[0]
    else:
        assert read_annotation(path) == skipped


# --- the 39 files found in public repositories -----------------------------------------------------------

ODD = {  # file: (objects that are read, findings)
    "bndbox_y_first": (1, {}),
    "bool_attributes_cvat": (6, {}),
    "comment_at_name": (0, {}),
    "filename_no_ext": (11, {}),
    "filename_txt": (13, {}),
    "float_minimal": (0, {"background object": 1}),
    "fod_cvat": (1, {}),
    "folder_mismatch_imagenet": (4, {}),
    "gray": (1, {}),
    "inverted": (31, {"inverted box": 1}),
    "inverted2": (31, {"inverted box": 1}),
    "kitti_float": (10, {}),
    "labelme_empty_difficult": (2, {}),
    "labelme_polygons": (0, {"no box": 7}),
    "missing_difficult_crlf": (3, {}),
    "name_whitespace": (1, {}),
    "negative_coords": (2, {"clipped box": 1}),
    "negative_unit_test": (2, {"clipped box": 1}),
    "no_name_no_box": (0, {"no box": 1, "no name": 1}),
    "no_object": (0, {}),
    "no_size": (1, {}),
    "not_voc_books": (0, {"not an annotation": 1}),
    "only_objects": (8, {}),
    "outside_fsm": (5, {"box outside": 9}),
    "part_and_actions": (2, {}),
    "relaxed_minimal": (2, {}),
    "roboflow_order": (2, {}),
    "rotated_boxes": (2, {"no box": 2}),
    "shuffled_tags": (1, {}),
    "single_zero_area": (0, {"zero-area box": 1}),
    "size_zero": (2, {}),
    "size_zero2": (3, {}),
    "smoke_outside": (1, {"box outside": 1}),
    "utf8_path_chinese": (1, {}),
    "voc07_person_parts": (4, {}),
    "voc07_person_parts2": (4, {}),
    "zero_area": (13, {"zero-area box": 1}),
    "zero_area2": (11, {"zero-area box": 1}),
    "zero_area_outside": (1, {"zero-area box": 1}),
}


def test_the_table_knows_every_odd_file():
    assert {path.stem for path in shared("odd-xml").glob("*.xml")} == set(ODD)


@pytest.mark.parametrize("stem", ODD)
def test_odd_files_of_real_projects(stem):
    path = shared("odd-xml") / f"{stem}.xml"
    count, expected = ODD[stem]
    annotation = read_annotation(path, on_error="skip")
    assert (len(annotation.objects), kinds(annotation.problems)) == (count, expected)
    if set(expected) <= {"clipped box"}:
        assert read_annotation(path) == annotation
    else:
        with pytest.raises(AnnotationError, match=rf"{stem}\.xml"):
            read_annotation(path)


def test_odd_files_read_as_a_folder_with_images(tmp_path):
    source = shared("odd-xml")
    images = {}
    for path in source.glob("*.xml"):
        width_px, height_px = read_annotation(path, on_error="skip").size_px or (1000, 900)
        images[f"{path.stem}.png"] = encoded(Image.new("L", (width_px, height_px)), "PNG")
    folder = make_folder(
        tmp_path / "odd", {path.stem: path.read_bytes() for path in source.glob("*.xml")}, images
    )
    data = quiet(folder, on_error="skip")
    read = {name: len(data.truth(index)) for index, name in enumerate(data.ids)}
    assert read == {stem: count for stem, (count, _) in ODD.items() if stem != "not_voc_books"}
    assert kinds(data.report.problems) == dict(sum((Counter(found) for _, found in ODD.values()), Counter()))
    assert "slippery road" in data.classes
    assert {"head", "hand", "foot", "background"}.isdisjoint(data.classes)


# --- folders, splits, classes ----------------------------------------------------------------------------


def test_a_folder_gives_samples(tmp_path):
    images = {"b.png": encoded(picture(seed=1), "PNG"), "a.JPG": encoded(picture())}
    xml = {"b": document(obj("cat", (10, 5, 60, 45)), obj("dog", (1, 1, 2, 2), "<difficult>1</difficult>"))}
    data = VOCFolder(make_folder(tmp_path / "own", xml | {"a": document()}, images))
    assert (len(data), data.ids, data.classes) == (2, ["a", "b"], VOC_CLASSES)
    empty, sample = data[0], data[1]
    assert empty.boxes_xyxy.shape == (0, 4)
    assert [array.dtype for array in (empty.boxes_xyxy, empty.labels, empty.difficult)] == ["f4", "i8", "?"]
    np.testing.assert_array_equal(sample.image, picture(seed=1))
    np.testing.assert_array_equal(
        sample.boxes_xyxy, np.float32([[0.1, 0.1, 0.6, 0.9], [0.01, 0.02, 0.02, 0.04]])
    )
    assert [data.classes[label - 1] for label in sample.labels] == ["cat", "dog"]
    assert sample.difficult.tolist() == [False, True]
    assert (sample.name, data.truth(1).width_px, data.truth(1).height_px) == ("b", 100, 50)
    same_truth(data.truth(1), sample.truth)
    assert len(VOCFolder(tmp_path / "own", keep_difficult=False).truth(1)) == 1
    assert "own" in repr(data)


def same_truth(left: Truth, right: Truth):
    np.testing.assert_array_equal(left.boxes_xyxy, right.boxes_xyxy)
    np.testing.assert_array_equal(left.labels, right.labels)
    np.testing.assert_array_equal(left.difficult, right.difficult)
    assert (left.width_px, left.height_px, left.name) == (right.width_px, right.height_px, right.name)


def test_it_travels_to_workers_and_cannot_be_changed_from_outside(tmp_path):
    data = pickle.loads(pickle.dumps(VOCFolder(make_folder(tmp_path / "own", {"a": document(obj())}))))
    data[0].boxes_xyxy[:] = 7
    data.truth(0).labels[:] = 7
    assert data.truth(0).boxes_xyxy.max() < 1
    assert data[0].labels.tolist() == [VOC_CLASSES.index("dog") + 1]
    error = AnnotationError(
        read_annotation(saved(tmp_path / "a.xml", ""), on_error="skip").problems[0], "hint"
    )
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problem) == (str(error), error.problem)
    assert str(AnnotationError(str(error))) == str(error)  # as torch's DataLoader makes it anew


SPLITS = {
    "train": "b\r\na\r\n\r\n",
    "val": b"\xff\xfe" + "c\n".encode("utf-16-le"),
    "dog_train": "a  1\nb -1\nc  0\n",
    "names": "c.jpg\na.xml\n",
    "twice": "a\nb\na\n",
    "gone": "a\nzz\n",
    "blank": "\n",
}


def test_splits(tmp_path):
    xml = {stem: document(obj()) for stem in ("a", "b", "c", "d 1")}
    folder = make_folder(tmp_path / "own", xml, splits=SPLITS | {"space": "d 1\n"})
    expected = {
        "train": ["b", "a"],
        "val": ["c"],
        "dog_train": ["a", "b", "c"],
        "names": ["c", "a"],
        "space": ["d 1"],
    }
    assert {split: VOCFolder(folder, split).ids for split in expected} == expected
    with pytest.warns(UserWarning, match=r"repeated id \(1\)"):
        assert VOCFolder(folder, "twice").ids == ["a", "b"]
    with pytest.raises(AnnotationError, match=r"zz\.xml: there is no such file.*out of the split"):
        VOCFolder(folder, "gone")
    assert quiet(folder, "gone", on_error="skip").ids == ["a"]
    with pytest.raises(ValueError, match="no image that can be used"):
        VOCFolder(folder, "blank")
    with pytest.raises(
        ValueError, match=r"no split 'test'.*are blank, gone, names, space, train, twice, val$"
    ):
        VOCFolder(folder, "test")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        VOCFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no Annotations"):
        VOCFolder(tmp_path)
    (tmp_path / "half" / "Annotations").mkdir(parents=True)
    with pytest.raises(ValueError, match="no JPEGImages"):
        VOCFolder(tmp_path / "half")
    folder = make_folder(tmp_path / "own", {})
    with pytest.raises(ValueError, match="no image that can be used"):
        VOCFolder(folder)
    with pytest.raises(ValueError, match="the folder has no splits"):
        VOCFolder(folder, "train")
    with pytest.raises(ValueError, match="exif is 'yes'"):
        VOCFolder(folder, exif="yes")
    assert check_folder(folder).num_images == 0


def test_07_and_12_together(tmp_path):
    devkit = tmp_path / "VOCdevkit"
    make_folder(devkit / "VOC2007", {"000001": document(obj())}, splits={"trainval": "000001\n"})
    assert VOCFolder(devkit, "trainval").ids == ["000001"]
    xml = {"2008_000002": document(obj("cat")), "2008_000003": document(obj("person"))}
    make_folder(devkit / "VOC2012", xml, splits={"trainval": "2008_000003\n", "train": "2008_000002\n"})
    with pytest.raises(
        ValueError, match=r"several VOC folders: VOC2007, VOC2012.*\(.*VOC2012', 'trainval'\)"
    ):
        VOCFolder(devkit, "trainval")
    both = VOCFolder([(devkit / "VOC2007", "trainval"), (str(devkit / "VOC2012"), "trainval")])
    assert both.ids == ["000001", "2008_000003"]
    assert both[1].labels.tolist() == [VOC_CLASSES.index("person") + 1]
    assert VOCFolder([devkit / "VOC2007", devkit / "VOC2012"], "trainval").ids == both.ids
    assert VOCFolder([devkit / "VOC2007", (devkit / "VOC2012", "train")], "trainval").ids == [
        "000001",
        "2008_000002",
    ]
    with pytest.raises(ValueError, match="listed twice"):
        VOCFolder([(devkit / "VOC2012", "train"), (devkit / "VOC2012", None)])


def test_equal_stems_of_several_folders_stay_apart(tmp_path):
    for place in ("x/one", "x/two", "y/one"):
        make_folder(tmp_path / place, {"0": document(obj())})
    assert VOCFolder([tmp_path / "x/one", tmp_path / "x/two"]).ids == ["one/0", "two/0"]
    assert len(set(VOCFolder([tmp_path / "x/one", tmp_path / "y/one"]).ids)) == 2


def test_classes(tmp_path):
    xml = {"a": document(obj("zebra")), "b": document(obj("ant  hill"), obj("dog")), "c": document()}
    folder = make_folder(tmp_path / "own", xml, splits={"train": "a\nc"})
    assert VOCFolder(folder, "train").classes == ("ant hill", "dog", "zebra")  # the same for every split
    own = VOCFolder(folder, "train", classes=["zebra", "ant hill"])
    assert (own.classes, own.truth(0).labels.tolist()) == (("zebra", "ant hill"), [1])
    with pytest.raises(
        AnnotationError, match=r"b\.xml: object 2 \(dog\): class 'dog' is not among zebra, ant hill"
    ):
        VOCFolder(folder, classes=["zebra", "ant hill"])
    with pytest.raises(AnnotationError, match="is it 'Zebra'"):
        VOCFolder(folder, classes=["Zebra", "ant hill", "dog"])
    skipped = quiet(folder, classes=["zebra", "ant hill"], on_error="skip")
    assert skipped.truth(1).labels.tolist() == [2]
    assert kinds(skipped.report.problems) == {"unknown class": 1}
    for wrong in ("dog", [], ["dog", "dog "], ["background", "dog"], [""]):
        with pytest.raises(ValueError, match="class"):
            VOCFolder(folder, classes=wrong)


def test_class_names_that_differ_only_in_case_are_noted(tmp_path):
    folder = make_folder(tmp_path / "own", {"a": document(obj("Cat")), "b": document(obj("cat"))})
    with pytest.warns(UserWarning, match="similar class names"):
        assert VOCFolder(folder).classes == ("Cat", "cat")


def test_unreadable_files_of_other_splits_matter_for_the_class_list(tmp_path):
    folder = make_folder(tmp_path / "own", {"a": document(obj()), "b": "junk"}, splits={"train": "a"})
    with pytest.raises(AnnotationError, match=r"b\.xml"):
        VOCFolder(folder, "train")
    assert VOCFolder(folder, "train", classes=["dog"]).ids == ["a"]


def test_images_are_found_by_stem(tmp_path):
    xml = {stem: document() for stem in ("a", "Ünïcödé 图", "x.rf.1", "UPPER")}
    images = {f"{stem}.jpg": encoded(picture()) for stem in ("Ünïcödé 图", "x.rf.1", "upper")}
    folder = make_folder(
        tmp_path / "ö", xml, images | {"a.PnG": encoded(picture(), "PNG"), "a.txt": b"", "._a.jpg": b""}
    )
    saved(folder / "Annotations" / "._a.xml", b"\0\5\26\7")
    data = VOCFolder(folder)
    assert data.ids == sorted(xml)
    assert all(data[index].image.shape == (50, 100, 3) for index in range(4))


def test_stems_that_differ_in_case_find_their_own_image(tmp_path):
    images = {"a.png": encoded(picture(seed=1), "PNG"), "A.png": encoded(picture(seed=2), "PNG")}
    folder = make_folder(tmp_path / "own", {"a": document(), "A": document()}, images)
    if len(list((folder / "JPEGImages").iterdir())) < 2:
        pytest.skip("this file system does not tell a from A")
    data = VOCFolder(folder)
    assert data.ids == ["A", "a"]
    np.testing.assert_array_equal(data[0].image, picture(seed=2))
    np.testing.assert_array_equal(data[1].image, picture(seed=1))


def test_missing_several_and_unannotated_images(tmp_path):
    pixels = encoded(picture())
    images = {"b.jpg": pixels, "b.jpeg": pixels, "c.jpg": pixels, "d.jpg": pixels}
    folder = make_folder(tmp_path / "own", {stem: document(obj()) for stem in "abc"}, images)
    with pytest.raises(
        AnnotationError, match=r"a\.xml: there is no image .*JPEGImages.a\.jpg.*stem must be the same"
    ):
        VOCFolder(folder)
    data = quiet(folder, on_error="skip")
    assert data.ids == ["c"]
    assert kinds(data.report.problems) == {
        "missing image": 1,
        "several images": 1,
        "image without annotation": 1,
    }
    assert [problem.kind for problem in data.report.notes] == ["image without annotation"]


# --- images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "form"),
    [(mode, form) for form in ("PNG", "TIFF") for mode in ("L", "LA", "P", "1", "RGBA", "RGB")]
    + [(mode, form) for form in ("BMP", "PPM") for mode in ("L", "RGB")],
)
def test_every_kind_of_pixel_becomes_rgb(mode, form, tmp_path):
    image = Image.fromarray(picture()).convert(mode)
    path = saved(tmp_path / f"a.{form}", encoded(image, form))
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))
    assert read_header(path) == (100, 50, 1)


def test_16_bits_become_the_upper_8(tmp_path):
    deep = np.arange(5000, dtype=np.uint16).reshape(50, 100) * 13
    path = saved(tmp_path / "a.png", cv2.imencode(".png", deep)[1].tobytes())
    np.testing.assert_array_equal(read_image(path), np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turning_is_pillows(orientation, tmp_path):
    path = saved(tmp_path / "a.jpg", with_exif(picture(), orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    stored = np.asarray(Image.open(path))
    np.testing.assert_array_equal(turn_upright(stored, orientation), expected)
    assert np.abs(read_image(path, orientation).astype(int) - expected).mean() < 1
    header = read_header(path)
    assert header == (100, 50, orientation)
    assert header.size_px(upright=True) == (expected.shape[1], expected.shape[0])


def test_tags_that_mean_nothing_and_tiff_files_which_decoders_turn(tmp_path):
    for tag in (0, 9, 77):
        assert read_header(saved(tmp_path / "a.jpg", with_exif(picture(), tag))).orientation == 1
    path = saved(tmp_path / "a.tiff", encoded(picture(), "TIFF", tiffinfo={0x0112: 6}))
    header = read_header(path)
    assert header.orientation == 1
    assert read_image(path).shape == (header.height_px, header.width_px, 3)


def exif_folder(root: Path, orientation: int, size: str, image=None, objects=None) -> Path:
    image = picture() if image is None else image
    objects = [obj()] if objects is None else objects
    return make_folder(root, {"a": document(*objects, size=size)}, {"a.jpg": with_exif(image, orientation)})


STORED = "<size><width>100</width><height>50</height></size>"
TURNED = "<size><width>50</width><height>100</height></size>"


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_belong_to_the_orientation_whose_size_agrees(orientation, tmp_path):
    stored = VOCFolder(exif_folder(tmp_path / "s", orientation, STORED))[0]
    turned = VOCFolder(
        exif_folder(tmp_path / "t", orientation, TURNED, objects=(obj(corners=(5, 10, 45, 60)),))
    )[0]
    assert (stored.image.shape, turned.image.shape) == ((50, 100, 3), (100, 50, 3))
    np.testing.assert_array_equal(turn_upright(stored.image, orientation), turned.image)
    np.testing.assert_array_equal(stored.boxes_xyxy, np.float32([[0.1, 0.1, 0.6, 0.9]]))
    np.testing.assert_array_equal(turned.boxes_xyxy, np.float32([[0.1, 0.1, 0.9, 0.6]]))


SQUARE = "<size><width>60</width><height>60</height></size>"
AMBIGUOUS = {
    "no size": (6, "", (100, 50)),
    "square": (8, SQUARE, (60, 60)),
    "half a turn": (3, STORED, (100, 50)),
    "mirrored": (2, STORED, (100, 50)),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_rotations_are_errors_until_the_user_decides(name, tmp_path):
    orientation, size, (width, height) = AMBIGUOUS[name]
    small = (obj(corners=(10, 5, 40, 45)),)
    folder = exif_folder(tmp_path / "own", orientation, size, picture(width, height), small)
    with pytest.raises(AnnotationError, match=r"a\.jpg: EXIF orientation .*exif=\"ignore\".*exif=\"apply\""):
        VOCFolder(folder)
    assert kinds(check_folder(folder).problems) == {"ambiguous EXIF": 1}
    stored, turned = VOCFolder(folder, exif="ignore")[0].image, VOCFolder(folder, exif="apply")[0].image
    assert stored.shape == (height, width, 3)
    np.testing.assert_array_equal(turn_upright(stored, orientation), turned)
    empty = exif_folder(tmp_path / "empty", orientation, size, picture(width, height), ())
    assert VOCFolder(empty)[0].image.shape == turned.shape  # without boxes nothing is ambiguous


def test_exif_that_agrees_with_nothing_is_a_size_mismatch(tmp_path):
    for orientation in (1, 6, 0, 77):
        folder = exif_folder(tmp_path / str(orientation), orientation, SQUARE)
        with pytest.raises(AnnotationError, match=r"<size> says 60 x 60, the image has 100 x 50"):
            VOCFolder(folder)
    folder = exif_folder(tmp_path / "turned", 6, TURNED)
    with pytest.raises(AnnotationError, match="size"):
        VOCFolder(folder, exif="ignore")


def thumbnail_exif() -> bytes:
    """An EXIF segment that holds a whole JPEG of its own."""
    return b"\xff\xe1" + (len(inner := b"Exif\0\0" + encoded(picture(8, 8))) + 2).to_bytes(2, "big") + inner


def huge_png() -> bytes:
    """A small file that claims 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + tag + data for tag, data in chunks)
    checked = (chunk + struct.pack(">I", zlib.crc32(chunk[4:])) for chunk in packed)
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


JPEG = encoded(picture())
PNG = encoded(picture(), "PNG")
DAMAGED = {
    "JPEG cut in the middle": JPEG[: len(JPEG) // 2],
    "JPEG without end mark": JPEG[:-2],
    "JPEG padded with zeros": JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2),
    "progressive JPEG": encoded(picture(), progressive=True)[:-200],
    "JPEG with whole thumbnail": JPEG[:2] + thumbnail_exif() + JPEG[2 : len(JPEG) // 2],
    "JPEG of two bytes": JPEG[:2],
    "PNG cut in the middle": PNG[: len(PNG) // 2],
    "PNG without end": PNG[:-12],
    "more pixels than memory": huge_png(),
    "empty": b"",
    "text": b"404: Not Found",
}
FOUND_LATE = {  # the header and the end are fine
    "PNG with a flipped bit": PNG[: len(PNG) // 2]
    + bytes([PNG[len(PNG) // 2] ^ 255])
    + PNG[len(PNG) // 2 + 1 :],
    "BMP cut": encoded(picture(), "BMP")[:-3000],
}


@pytest.mark.parametrize("name", [*DAMAGED, *FOUND_LATE])
def test_damaged_images_are_errors(name, tmp_path, capfd):
    content = (DAMAGED | FOUND_LATE)[name]
    folder = make_folder(
        tmp_path / "own", {"a": document(obj()), "b": document()}, {"a.jpg": content, "b.jpg": JPEG}
    )
    with pytest.raises(ImageError):
        read_image(folder / "JPEGImages" / "a.jpg")
    with pytest.raises(AnnotationError, match=r"a\.jpg: .*Get the file again"):
        VOCFolder(folder)[0]
    if name in DAMAGED:  # found at construction, so it can be skipped
        assert quiet(folder, on_error="skip").ids == ["b"]
    report = check_folder(folder)
    assert (report.num_images, kinds(report.problems)) == (1, {"broken image": 1})


def pixel_data(jpeg: bytes) -> tuple[int, int]:
    """Where the compressed data of a JPEG with one scan begin and end."""
    start = jpeg.index(b"\xff\xda")
    return start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big"), len(jpeg) - 2


def zeroed(jpeg: bytes, number: int, rng) -> bytes:
    first, last = pixel_data(jpeg)
    start = int(rng.integers(first, last - number))
    return jpeg[:start] + bytes(number) + jpeg[start + number :]


def cut_and_closed(jpeg: bytes, share: float) -> bytes:
    first, last = pixel_data(jpeg)
    return jpeg[: first + int(share * (last - first))] + b"\xff\xd9"


PHOTO = encoded(picture(400, 300), quality=90)
WRONG_PIXELS = {
    "half, closed by an end mark": cut_and_closed(PHOTO, 0.5),
    "nearly all, closed by an end mark": cut_and_closed(PHOTO, 0.99),
    "400 bytes zeroed": zeroed(PHOTO, 400, np.random.default_rng(0)),
    "a restart mark in the data": PHOTO[:9000] + b"\xff\xd3" + PHOTO[9002:],
}


@pytest.mark.parametrize("name", WRONG_PIXELS)
def test_jpegs_that_decode_to_wrong_pixels_are_found(name, tmp_path):
    xml = document(obj(), size="")
    images = {"a.jpg": WRONG_PIXELS[name], "b.jpg": PHOTO}
    folder = make_folder(tmp_path / "own ü", {"a": xml, "b": xml}, images)
    damaged, good = (read_image(folder / "JPEGImages" / name) for name in images)
    assert (damaged != good).any()
    report = check_folder(folder)
    assert (report.num_images, kinds(report.problems)) == (1, {"broken image": 1})
    assert "a.jpg: the JPEG data are damaged" in str(report.problems[0])
    assert check_folder(folder, decode=False).ok


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_good_jpegs_of_every_kind_raise_no_alarm(mode, options, tmp_path):
    path = saved(tmp_path / "a.jpg", encoded(Image.fromarray(picture(97, 55)).convert(mode), **options))
    assert find_damage([path]) == {}


def test_of_damaged_photos_as_many_are_found_as_is_said():
    """All photos cut short, three of four with 400 bytes zeroed at least, and no good one."""
    photos = sorted((shared("voc-sample") / "JPEGImages").glob("*.jpg"))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        makers = (
            lambda jpeg: cut_and_closed(jpeg, rng.uniform(0.1, 0.99)),
            lambda jpeg: zeroed(jpeg, 400, rng),
        )
        cut, holes = (
            [saved(Path(folder) / f"{k}-{path.name}", make(path.read_bytes())) for path in photos]
            for k, make in enumerate(makers)
        )
        found = find_damage([*cut, *photos, *holes])
    assert set(cut) <= set(found)
    assert not set(photos) & set(found)
    assert len(set(holes) & set(found)) >= 0.75 * len(holes)


def test_no_process_for_the_search_is_a_warning(tmp_path, monkeypatch):
    assert find_damage([tmp_path / "missing.jpg", saved(tmp_path / "a.png", PNG)]) == {}
    path = saved(tmp_path / "a.jpg", WRONG_PIXELS["half, closed by an end mark"])
    assert list(find_damage([path])) == [path]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.warns(UserWarning, match="was not looked for"):
        assert find_damage([path]) == {}


def test_whole_images_with_something_behind_or_before_are_read(tmp_path):
    images = {
        "a.jpg": JPEG + b"trailing bytes of a phone" * 9,
        "b.jpg": JPEG[:2] + thumbnail_exif() + JPEG[2:],
        "c.jpg": JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],
        "d.png": PNG + b"x" * 100,
    }
    data = VOCFolder(make_folder(tmp_path / "own", {name[0]: document() for name in images}, images))
    assert all(data[index].image.shape == (50, 100, 3) for index in range(4))
    assert all(map(is_complete, images.values()))


def test_an_image_exchanged_after_construction_is_noticed(tmp_path):
    folder = make_folder(tmp_path / "own", {"a": document(obj())})
    data = VOCFolder(folder)
    saved(folder / "JPEGImages" / "a.jpg", encoded(picture(60, 60)))
    with pytest.raises(AnnotationError, match="60 x 60"):
        data[0]
    (folder / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(AnnotationError, match="No such file"):
        data[0]


def test_no_size_takes_the_images(tmp_path):
    folder = make_folder(tmp_path / "own", {"a": document(obj(), size="")})
    assert VOCFolder(folder).truth(0).boxes_xyxy.tolist() == np.float32([[0.1, 0.1, 0.6, 0.9]]).tolist()
    outside = make_folder(tmp_path / "out", {"a": document(obj(corners=(300, 5, 400, 45)), size="")})
    with pytest.raises(AnnotationError, match="outside the 100 x 50 image"):
        VOCFolder(outside)


# --- report ----------------------------------------------------------------------------------------------


def test_the_report_counts_and_groups(tmp_path):
    hard = "<difficult>1</difficult>"
    xml = {
        "a": document(obj(), obj("cat", (0, 0, 100, 50), hard), obj(corners=(5, 5, 5, 9))),
        "b": document(obj(corners=(-20, 5, 60, 45))),
        "c": document(),
        "d": LAUGHS,
    }
    report = check_folder(make_folder(tmp_path / "own", xml))
    assert (report.num_images, report.num_empty, report.num_objects, report.num_difficult) == (3, 1, 3, 1)
    rows = zip(report.objects, report.difficult, report.images, strict=True)
    by_class = dict(zip(report.classes, rows, strict=True))
    assert (by_class["dog"], by_class["cat"], by_class["cow"]) == ((2, 0, 2), (1, 1, 1), (0, 0, 0))
    assert report.sides_px_range == (50, 100)
    assert report.box_sides[::2] == pytest.approx((0.4**0.5, 0.48**0.5, 1.0))
    assert not report.ok
    assert kinds(report.errors) == {"zero-area box": 1, "DTD or entity": 1}
    assert kinds(report.notes) == {"clipped box": 1}
    text = str(report)
    assert "3 images (1 without objects), sides 50 to 100 px" in text
    assert "Cannot be used: 1 image, 1 object. To look at: 1 note." in text
    assert "a.xml: object 3 (dog): xmin and xmax are both 5" in text
    assert all(KINDS[kind][1] in text for kind in kinds(report.problems))


def test_a_report_of_a_good_folder_and_of_a_long_list(tmp_path):
    good = check_folder(make_folder(tmp_path / "good", {"a": document(obj(corners=(0, 0, 50, 25)))}))
    assert good.ok
    assert good.box_sides == (0.5,) * 5
    assert "No problems found." in str(good)
    bad = check_folder(make_folder(tmp_path / "bad", {f"{i:02}": document() for i in range(23)}, {}))
    assert (bad.num_images, bad.box_sides) == (0, ())
    assert "missing image (image): 23." in str(bad)
    assert "... and 3 more" in str(bad)
    assert str(bad).count("there is no image") == 20


def test_the_warning_says_what_was_left_out(tmp_path):
    folder = make_folder(tmp_path / "own", {"a": document(obj(), obj(corners=(5, 5, 5, 9)))})
    with pytest.warns(UserWarning, match=r"own: zero-area box \(1\); print\(dataset.report\)"):
        VOCFolder(folder, on_error="skip")
    with pytest.raises(AnnotationError, match=r"on_error=\"skip\" or --skip-bad leaves them out"):
        VOCFolder(folder)


# --- writing ---------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-zäß图_][A-Za-z0-9 ._-]{0,8}[A-Za-z0-9äß图]", fullmatch=True)
FRACTIONS = st.floats(0, 1, width=32, allow_subnormal=False)


@st.composite
def samples(draw, num_classes=3):
    count = draw(st.integers(0, 4))
    corners = draw(npst.arrays(np.float32, (count, 2, 2), elements=FRACTIONS))
    corners.sort(axis=1)
    boxes_xyxy = corners.reshape(count, 4)
    keep = ((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) > 1e-6).all(1)
    labels = draw(npst.arrays(np.int64, count, elements=st.integers(1, num_classes)))[keep]
    difficult = draw(npst.arrays(bool, count))[keep]
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    return Sample(picture(width, height), boxes_xyxy[keep], labels, difficult, draw(NAMES | st.just("")))


@given(
    st.lists(samples(), min_size=1, max_size=3, unique_by=lambda s: s.name.casefold()),
    st.sampled_from([None, "train"]),
)
@settings(deadline=None, max_examples=60)
def test_what_is_written_reads_back_equal(tmp_path_factory, written, split):
    folder = tmp_path_factory.mktemp("voc")
    classes = ("ant & bee", "bear", "dog <3>")
    assert write_voc(folder, iter(written), classes, split) == len(written)
    data = VOCFolder(folder, split, classes)
    assert len(data) == len(written)
    if split:
        assert [name for name, sample in zip(data.ids, written, strict=True) if sample.name] == [
            sample.name for sample in written if sample.name
        ]
    by_name = {sample.name: sample for sample in data}
    for index, sample in enumerate(written):
        read = by_name[sample.name or f"{split + '_' if split else ''}{index:06d}"]
        np.testing.assert_array_equal(read.image, sample.image)
        np.testing.assert_array_equal(read.boxes_xyxy, sample.boxes_xyxy)
        np.testing.assert_array_equal(read.labels, sample.labels)
        np.testing.assert_array_equal(read.difficult, sample.difficult)
    shutil.rmtree(folder)


def one(name="a", **changes) -> Sample:
    whole = {
        "image": picture(),
        "boxes_xyxy": np.float32([[0.01, 0.5, 0.25, 1]]),
        "labels": np.array([1]),
        "difficult": np.array([False]),
    }
    return Sample(**(whole | changes), name=name)


def test_numbers_are_written_as_short_as_they_read_back(tmp_path):
    boxes_xyxy = np.float32([[0.01, 0.5, 0.25, 1], [0.123, 0.02468, 0.4, 0.6]])
    write_voc(
        tmp_path,
        [one(boxes_xyxy=boxes_xyxy, labels=np.array([1, 1]), difficult=np.array([False, True]))],
        ["dog"],
    )
    found = ElementTree.parse(tmp_path / "Annotations" / "a.xml").getroot().findall("object/bndbox")
    assert [child.text for child in found[0]] == ["1", "25", "25", "50"]
    assert [child.text for child in found[1]] == ["12.3", "1.234", "40", "30"]


def test_a_data_set_can_be_written(tmp_path):
    write_voc(tmp_path / "first", [one("a"), one("b")], ["dog"], "train")
    first = VOCFolder(tmp_path / "first", "train")
    write_voc(tmp_path / "second", first, first.classes)
    second = VOCFolder(tmp_path / "second", classes=first.classes)
    for index in range(2):
        same_truth(first.truth(index), second.truth(index))


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a:b", "a\nb", "a ", ".a", "a.", "x" * 300])
def test_names_that_are_no_file_names_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="cannot be a file name"):
        write_voc(tmp_path, [one(name)], ["dog"])
    with pytest.raises(ValueError, match=r"split name .* cannot be a file name"):
        write_voc(tmp_path, [one()], ["dog"], split=name)


BAD_SAMPLES = {
    "image is float32": {"image": picture().astype(np.float32)},
    "not empty": {"image": np.zeros((0, 5, 3), np.uint8)},
    "cannot be written as PNG": {"image": np.zeros((1, 1_000_001, 3), np.uint8)},
    "labels must lie in 1 .. 1": {"labels": np.array([2])},
    "labels must lie in 1": {"labels": np.array([0])},
    "same objects": {"labels": np.array([1, 1])},
    "boxes must have an area": {"boxes_xyxy": np.float32([[0.5, 0.5, 0.5, 1]])},
    "lie in 0 .. 1": {"boxes_xyxy": np.float32([[0.5, 0.5, 1.1, 1]])},
    "boxes must": {"boxes_xyxy": np.float32([[np.nan, 0.5, 1, 1]])},
}


@pytest.mark.parametrize("message", BAD_SAMPLES)
def test_samples_that_would_not_read_back_are_refused(message, tmp_path):
    with pytest.raises(ValueError, match=f"a: .*{message}"):
        write_voc(tmp_path, [one(**BAD_SAMPLES[message])], ["dog"])
    assert not list((tmp_path / "JPEGImages").iterdir())


def test_nothing_is_overwritten_unasked_and_no_scraps_stay(tmp_path):
    write_voc(tmp_path, [one("a")], ["dog"], "train")
    with pytest.raises(ValueError, match=r"already holds 'A'.*overwrite=True"):
        write_voc(tmp_path, [one("b"), one("A")], ["dog"], "test")
    assert not (tmp_path / "ImageSets" / "Main" / "test.txt").exists()
    with pytest.raises(ValueError, match="already holds"):
        write_voc(tmp_path, [one("c"), one("C")], ["dog"], overwrite=True)
    assert write_voc(tmp_path, [one("a", image=picture(seed=5))], ["dog"], "train", overwrite=True) == 1
    np.testing.assert_array_equal(VOCFolder(tmp_path, "train")[0].image, picture(seed=5))
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


# --- real data -------------------------------------------------------------------------------------------


def plain_loop(folder: Path):
    """Boxes in pixels, names and flags of well-formed VOC files, the slow and trusting way."""
    for path in sorted((folder / "Annotations").glob("*.xml")):
        root = ElementTree.parse(path).getroot()
        width, height = (int(root.findtext(f"size/{tag}")) for tag in ("width", "height"))
        objects = []
        for item in root.findall("object"):
            x0, y0, x1, y1 = (
                float(item.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax")
            )
            if x1 > x0 and y1 > y0:
                fractions = (x0 / width, y0 / height, x1 / width, y1 / height)
                objects.append((item.findtext("name"), item.findtext("difficult") == "1", *fractions))
        yield path.stem, (width, height), objects


@pytest.mark.parametrize(
    ("name", "images", "usable", "lost"), [("voc-sample", 36, 143, 0), ("bccd", 364, 4886, 2)]
)
def test_real_folders_agree_with_a_plain_loop(name, images, usable, lost):
    folder = shared(name)
    data = quiet(folder, on_error="skip")
    assert (len(data), data.report.num_objects, len(data.report.errors)) == (images, usable, lost)
    for index, (stem, size_px, objects) in enumerate(plain_loop(folder)):
        truth = data.truth(index)
        assert (truth.name, (truth.width_px, truth.height_px)) == (stem, size_px)
        read = [
            (data.classes[label - 1], bool(hard))
            for label, hard in zip(truth.labels, truth.difficult, strict=True)
        ]
        assert read == [entry[:2] for entry in objects]
        np.testing.assert_allclose(truth.boxes_xyxy, np.array([entry[2:] for entry in objects]), rtol=1e-6)
    assert data[0].image.shape[:2] == (data.truth(0).height_px, data.truth(0).width_px)


def test_voc_sample_splits_and_bccd_zero_boxes():
    folder = shared("voc-sample")
    assert [len(VOCFolder(folder, split)) for split in ("train", "test")] == [24, 12]
    assert check_folder(folder).ok
    bccd = shared("bccd")
    with pytest.raises(
        AnnotationError, match=r"BloodImage_00338\.xml: object 13 \(RBC\): xmin and xmax are both 504"
    ):
        VOCFolder(bccd)
    report = check_folder(bccd)
    assert report.classes == ("Platelets", "RBC", "WBC")
    assert kinds(report.problems) == {"zero-area box": 2}


def test_public_names():
    assert all(hasattr(voc, name) for name in voc.__all__)
    assert decode_text(b"a") == ("a", True)
