"""SSD's augmentation of 500 x 375 photos with three objects to 300 x 300, by ssdedu and by its peers, on one core.

A call makes a batch of 32 different photos; random numbers go on from call to call, from one seed. 600 images a second
are 53 ms a call. Half of the photos are pieces of the two in data/photos, the others drawn scenes, all as JPEG of
quality 92. Each contestant does the whole way as its own loader does it:

ssdedu: photos from `Cached`, or read from their files; `AugmentedView` with `Augment`; `collate`. That gives uint8 RGB,
channels last; "float" adds what the network does with it: a float32 tensor (32, 3, 300, 300) minus the mean.
amdegroot/ssd.pytorch: cv2.imread, SSDAugmentation, channels from BGR to RGB, torch.stack; float32 minus the mean. It
does less: bilinear only, and its test of the overlap never fails, so that the first try is taken which has an object's
centre inside. Mended from outside: its crop options become an array that today's numpy draws from. It also swaps
channels at random, as torchvision does, which the original does not.
torchvision: the preset "ssd" of references/detection in four forms, on photos that PIL reads, then the transform inside
its SSD300, which resizes (bilinear, on floats), normalises and makes the batch; float32.
albumentations: it has no recipe for SSD. The closest: ColorJitter, CropAndPad as zoom-out, RandomSizedBBoxSafeCrop
(which keeps all objects and asks for no overlap; bilinear only), HorizontalFlip, and Normalize for floats.
limit: the bilinear resize of each photo alone, for files also its decoding.

The last contest is about photos of 4000 x 3000, read at half their size each way, which `VOCFolder.reduced` does since
every crop then still has 300 pixels, beside the same without it. For 500 x 375 photos that never applies. To choose
the reduction by each crop instead, as 1/4 for a zoomed-out view, was tried: libjpeg spends most of its time on the bits
of the file, not on the pixels left out (.9 ms for 500 x 375, .7 ms at 1/2 as at 1/4), and four of five views need all
pixels, so that 2 % would be won.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from bench import Contest, Goal, main
from peers import AMDEGROOT, Absent, Peers
from PIL import Image
from timing import Work
from torch import Tensor

from ssdedu.augment import MEAN, Augment
from ssdedu.batches import AugmentedView, Batch, collate
from ssdedu.datasets.cached import Cached
from ssdedu.datasets.shapes import Shapes
from ssdedu.datasets.voc import VOCFolder
from ssdedu.datasets.voc_write import write_voc
from ssdedu.sample import Dataset, Sample
from ssdedu.shipped import find

NAME = "augment"
PHOTO_PX, LARGE_PX, OUTPUT_PX = (500, 375), (4000, 3000), (300, 300)
IMAGES, OBJECTS, SEED = 32, 3, 0
REAL = ("data/photos/astronaut.jpg", "data/photos/cat.jpg")
VISION, DETECTION = "pytorch/vision", "references/detection"


@dataclass(frozen=True)
class Recipe:
    """How a peer reads a photo, augments it with its boxes_xyxy_px (G, 4) and labels (G,), and makes a batch."""

    read: Callable[[Path], Any]
    augment: Callable[[Any, np.ndarray, np.ndarray], Any]
    batch: Callable[[list[Any]], object]


class Photos:
    """Photos of one size as files of a temporary VOC folder, with their objects."""

    def __init__(self, number: int, size_px: tuple[int, int] = PHOTO_PX) -> None:
        self._home = tempfile.TemporaryDirectory()
        root = Path(self._home.name)
        write_voc(root, draw_photos(number, size_px), ("thing",))
        for png in sorted((root / "JPEGImages").iterdir()):
            cv2.imwrite(str(png.with_suffix(".jpg")), cv2.imread(str(png)), [cv2.IMWRITE_JPEG_QUALITY, 92])
            png.unlink()
        self.folder = VOCFolder(root)
        self.paths = sorted((root / "JPEGImages").iterdir())

    def about(self) -> dict[str, float]:
        """How many they are, and how large their files."""
        sizes = [path.stat().st_size for path in self.paths]
        return {"images a call": len(sizes), "kB a file": round(sum(sizes) / len(sizes) / 1000, 1)}


def draw_photos(number: int, size_px: tuple[int, int]) -> list[Sample]:
    """Pieces of real photos and drawn scenes in turn, slightly noisy, with boxes at random."""
    rng, scenes = np.random.default_rng(SEED), Shapes(number, seed=SEED)
    real = [cv2.cvtColor(cv2.imread(str(find(name))), cv2.COLOR_BGR2RGB) for name in REAL]
    images = [scenes[i].image if i % 2 else _piece(real[i // 2 % 2], rng) for i in range(number)]
    labels, difficult = np.ones(OBJECTS, np.int64), np.zeros(OBJECTS, bool)
    return [
        Sample(_enlarged(image, size_px), _boxes(rng), labels, difficult, f"{i:03d}")
        for i, image in enumerate(images)
    ]


def _enlarged(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """The image at that size, with the noise of a camera, without which its file would be too small."""
    cv2.setRNGSeed(SEED)
    large = cv2.resize(image, size_px, interpolation=cv2.INTER_CUBIC)
    noise = cv2.randn(np.empty(large.shape, np.int16), (0.0,) * 3, (2.0,) * 3)
    return cv2.add(large, noise, dtype=cv2.CV_8U)


def _piece(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    piece_height = int(0.75 * rng.uniform(0.6, 1) * min(width, height))
    piece_width = piece_height * PHOTO_PX[0] // PHOTO_PX[1]
    top, left = rng.integers(0, height - piece_height + 1), rng.integers(0, width - piece_width + 1)
    return image[top : top + piece_height, left : left + piece_width]


def _boxes(rng: np.random.Generator) -> np.ndarray:
    low = rng.uniform(0, 0.6, (OBJECTS, 2))
    return np.hstack([low, np.minimum(low + rng.uniform(0.1, 0.6, (OBJECTS, 2)), 1)]).astype(np.float32)


def our_work(
    dataset: Dataset, finish: Callable[[Batch], object], size_px: tuple[int, int] = OUTPUT_PX
) -> Work:
    """A batch of all images of a data set, each time with the next random numbers."""
    view, positions = AugmentedView(dataset, Augment(*size_px), SEED), count()
    return lambda: finish(collate([view[next(positions), i] for i in range(len(dataset))]))


def as_loaded(batch: Batch) -> Tensor:
    """The batch as the loader gives it, uint8."""
    return batch.images


def as_floats(batch: Batch) -> Tensor:
    """The batch as the network computes with it: float32, the mean subtracted."""
    return batch.images.contiguous().float().sub_(torch.tensor(MEAN)[:, None, None])


def peer_work(recipe: Recipe | Absent, photos: Photos, decoded: bool) -> Work | Absent:
    """A batch of all photos by a peer's recipe, from the decoded photos or from the files."""
    if isinstance(recipe, Absent):
        return recipe
    corners_px = np.array((*PHOTO_PX, *PHOTO_PX), np.float32)
    truths = [photos.folder.truth(i) for i in range(len(photos.folder))]
    objects = [(t.boxes_xyxy * corners_px, t.labels) for t in truths]
    if decoded:
        images = [recipe.read(path) for path in photos.paths]
        pairs = list(zip(images, objects, strict=True))
        return lambda: recipe.batch([recipe.augment(image, *truth) for image, truth in pairs])
    files = list(zip(photos.paths, objects, strict=True))
    return lambda: recipe.batch([recipe.augment(recipe.read(path), *truth) for path, truth in files])


def amdegroot(peers: Peers) -> Recipe | Absent:
    """SSDAugmentation and what its data set and its collation do around it."""
    found = peers.port(AMDEGROOT, "utils.augmentations")
    if isinstance(found, Absent):
        return found
    (module,) = found
    pipeline = module.SSDAugmentation(OUTPUT_PX[0])
    for step in pipeline.augment.transforms:
        if hasattr(step, "sample_options"):
            options, step.sample_options = step.sample_options, np.empty(len(step.sample_options), object)
            step.sample_options[:] = options
    np.random.seed(SEED)  # noqa: NPY002, its own source of random numbers
    scale = 1 / np.array((*PHOTO_PX, *PHOTO_PX))

    def augment(image: np.ndarray, boxes_px: np.ndarray, labels: np.ndarray) -> tuple[Tensor, np.ndarray]:
        image, boxes, labels = pipeline(image, boxes_px * scale, labels)
        rgb = torch.from_numpy(image[:, :, (2, 1, 0)]).permute(2, 0, 1)
        return rgb, np.hstack((boxes, np.expand_dims(labels, axis=1)))

    def batch(items: list[tuple[Tensor, np.ndarray]]) -> tuple[Tensor, list[Tensor]]:
        return torch.stack([image for image, _ in items], 0), [torch.FloatTensor(t) for _, t in items]

    return Recipe(lambda path: cv2.imread(str(path)), augment, batch)


def torchvision(peers: Peers, backend: str, use_v2: bool) -> Recipe | Absent:
    """The preset "ssd" of torchvision's training script, then the transform inside its SSD300."""
    package = peers.package("torchvision.models.detection.transform")
    found = peers.port(VISION, "presets", under=DETECTION)
    if isinstance(package, Absent) or isinstance(found, Absent):
        return package if isinstance(package, Absent) else found
    preset = found[0].DetectionPresetTrain(data_augmentation="ssd", backend=backend, use_v2=use_v2)
    mean, std = [0.48235, 0.45882, 0.40784], [1 / 255] * 3
    resize = package.GeneralizedRCNNTransform(300, 300, mean, std, size_divisible=1, fixed_size=OUTPUT_PX)
    torch.manual_seed(SEED)

    def augment(
        image: Image.Image, boxes_px: np.ndarray, labels: np.ndarray
    ) -> tuple[Tensor, dict[str, Tensor]]:
        boxes = torch.from_numpy(boxes_px.copy())
        if use_v2:
            from torchvision.tv_tensors import BoundingBoxes

            boxes = BoundingBoxes(boxes, format="XYXY", canvas_size=PHOTO_PX[::-1])
        return preset(image, {"boxes": boxes, "labels": torch.from_numpy(labels)})

    def batch(items: list[tuple[Tensor, dict[str, Tensor]]]) -> object:
        return resize([image for image, _ in items], [target for _, target in items])

    return Recipe(_read_pil, augment, batch)


def _read_pil(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def albumentations(peers: Peers, floats: bool) -> Recipe | Absent:
    """The closest to SSD's recipe that the library's own transforms give."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the web for newer versions
    a = peers.package("albumentations")
    if isinstance(a, Absent):
        return a
    steps = [
        a.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05, p=0.5),
        a.CropAndPad(percent=(0.0, 1.5), keep_size=False, fill=MEAN, p=0.5),
        a.RandomSizedBBoxSafeCrop(*OUTPUT_PX),
        a.HorizontalFlip(p=0.5),
        *([a.Normalize([m / 255 for m in MEAN], [1 / 255] * 3)] if floats else []),
        a.ToTensorV2(),
    ]
    pipeline = a.Compose(steps, a.BboxParams("pascal_voc", label_fields=["labels"]), seed=SEED)

    def batch(items: list[dict[str, Any]]) -> tuple[Tensor, list[Any]]:
        return torch.stack([item["image"] for item in items]), [item["bboxes"] for item in items]

    return Recipe(
        lambda path: cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB),
        lambda image, boxes_px, labels: pipeline(image=image, bboxes=boxes_px, labels=labels),
        batch,
    )


def make(peers: Peers, tiny: bool) -> Sequence[Contest]:
    """From decoded photos to floats and to bytes, from files to floats, and from large files."""
    cv2.setNumThreads(0)
    photos = Photos(2 if tiny else IMAGES)
    cached = Cached(photos.folder, megabytes=IMAGES)
    recipes = {
        "amdegroot": amdegroot(peers),
        "torchvision v1 pil": torchvision(peers, "pil", use_v2=False),
        "torchvision v1 tensor": torchvision(peers, "tensor", use_v2=False),
        "torchvision v2 pil": torchvision(peers, "pil", use_v2=True),
        "torchvision v2 tv_tensor": torchvision(peers, "tv_tensor", use_v2=True),
        "albumentations": albumentations(peers, floats=True),
    }
    decoded, read = ({n: peer_work(r, photos, d) for n, r in recipes.items()} for d in (True, False))
    as_bytes = {"albumentations": peer_work(albumentations(peers, floats=False), photos, decoded=True)}
    resize, decode = limits(photos)
    contest = partial(Contest, goal=Goal(1.0), facts=photos.about)
    return [
        contest("500 x 375 to 300 x 300, float", our_work(cached, as_floats), decoded, limit=resize),
        contest("500 x 375 to 300 x 300, uint8", our_work(cached, as_loaded), as_bytes, limit=resize),
        contest("500 x 375 JPEG to 300 x 300, float", our_work(photos.folder, as_floats), read, limit=decode),
        large(tiny),
    ]


def limits(photos: Photos) -> tuple[Work, Work]:
    """The resize alone, and with the decoding before it."""
    images = [photos.folder[i].image for i in range(len(photos.folder))]
    files = [np.fromfile(path, np.uint8) for path in photos.paths]
    resize = partial(cv2.resize, dsize=OUTPUT_PX)
    return (
        lambda: [resize(image) for image in images],
        lambda: [resize(cv2.imdecode(data, cv2.IMREAD_COLOR)) for data in files],
    )


def large(tiny: bool) -> Contest:
    """Photos larger than the network needs, with and without their reduction."""
    size_px = (60, 60) if tiny else OUTPUT_PX
    photos = Photos(2, (800, 600) if tiny else LARGE_PX)
    reduced = photos.folder.reduced(*Augment(*size_px).least_px)
    whole = {"ssdedu, not reduced": our_work(photos.folder, as_loaded, size_px)}
    ours = our_work(reduced, as_loaded, size_px)
    return Contest("4000 x 3000 JPEG to 300 x 300, uint8", ours, whole, Goal(1.0), facts=photos.about)


if __name__ == "__main__":
    main(__doc__ or "", NAME, make)
