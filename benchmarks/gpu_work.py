"""What `gpu.py` measures: photos, a network that learns from them, the loader that feeds it, and one that detects."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from ssdedu.augment import Resize
from ssdedu.batches import Batch, collate, on_device, training_batches
from ssdedu.datasets.cached import Cached
from ssdedu.datasets.shapes import Shapes
from ssdedu.datasets.voc import VOCFolder
from ssdedu.detect import Detections
from ssdedu.inference import detect_tensor
from ssdedu.loss import multibox_loss
from ssdedu.matching import encode_targets
from ssdedu.optimization import Stepper
from ssdedu.precision import Precision, autocast, forward_dtype
from ssdedu.recipes import Recipe
from ssdedu.sample import Dataset, Sample, Truth
from ssdedu.train import batch_loss

DRAWN_PX = (500, 375)  # what most photos of VOC measure
CLASSES_OF_VOC = 21


class Part:
    """The first images of a data set."""

    def __init__(self, dataset: Dataset, images: int) -> None:
        self.dataset, self.images, self.classes = dataset, min(images, len(dataset)), dataset.classes

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[index]

    def truth(self, index: int) -> Truth:
        """The objects of image `index`."""
        return self.dataset.truth(index)


class DrawnPhotos:
    """Drawn scenes of the size of VOC's photos, kept as JPEG and decoded each time they are asked for."""

    def __init__(self, images: int) -> None:
        scenes = Shapes(images)
        self.classes = scenes.classes
        self._scenes = [scenes[i] for i in range(images)]
        large = (cv2.resize(s.image, DRAWN_PX, interpolation=cv2.INTER_CUBIC) for s in self._scenes)
        self._files = [cv2.imencode(".jpg", image)[1] for image in large]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        image = cv2.imdecode(self._files[index], cv2.IMREAD_COLOR)
        return replace(self._scenes[index], image=image)

    def truth(self, index: int) -> Truth:
        """The objects of image `index`."""
        truth = self._scenes[index].truth
        return replace(truth, width_px=DRAWN_PX[0], height_px=DRAWN_PX[1])


def photos(folder: str | Path | None, images: int) -> Dataset:
    """The first images of a VOC-layout folder, of its split trainval where it has one, or drawn ones."""
    if folder is None:
        return DrawnPhotos(images)
    split = "trainval" if Path(folder, "ImageSets/Main/trainval.txt").exists() else None
    return Part(VOCFolder(folder, split, on_error="skip"), images)


def in_memory(dataset: Dataset, threads: int) -> Cached:
    """The data set with all its images decoded."""
    bytes_at_most = sum(3 * t.width_px * t.height_px for t in map(dataset.truth, range(len(dataset))))
    cached = Cached(dataset, megabytes=bytes_at_most / 1e6 + 1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(cached.__getitem__, range(len(dataset))))
    return cached


class Learner:
    """A recipe's network with one batch, whole or piece by piece; compiled by that backend, if any."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        device: torch.device,
        batch_size: int,
        precision: Precision,
        backend: str | None = None,
    ) -> None:
        self.recipe, self.dataset, self.device = recipe, dataset, device
        self.settings = replace(recipe.settings, batch_size=batch_size, precision=precision)
        self.model = recipe.model(max(CLASSES_OF_VOC, len(dataset.classes) + 1), 0).to(device).train()
        self.model.base.freeze(self.settings.frozen_layers)
        self.stepper = Stepper(self.model, self.settings, device)
        self.network = torch.compile(self.model, backend=backend) if backend else self.model
        self.batch = self._first_batch()
        self._outputs = [t.detach().requires_grad_() for t in self._forward()]

    @property
    def dtype(self) -> str:
        """The type in which convolutions run."""
        return str(forward_dtype(self.device, self.settings.precision)).removeprefix("torch.")

    def _first_batch(self) -> Batch:
        one_step = training_batches(
            self.dataset, self.recipe.augmentation(), self.settings.batch_size, 0, 0, 1
        )
        return next(iter(one_step)).to(self.device)

    def _forward(self) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.settings.precision):
            return self.network(self.batch.images)

    def forward_backward(self) -> None:
        """The network alone, forward and backward."""
        self.model.zero_grad(set_to_none=True)
        offsets, logits = self._forward()
        (offsets.float().sum() + logits.float().sum()).backward()

    def criterion(self) -> None:
        """Matching, mining and loss alone, forward and backward to the network's outputs."""
        offsets, logits = self._outputs
        offsets.grad = logits.grad = None
        targets = encode_targets(self.batch.boxes_xyxy, self.batch.labels, self.model.priors_cxcywh)
        multibox_loss(offsets, logits, *targets).total.backward()

    def loss_backward(self) -> None:
        """Network, matching, mining and loss, forward and backward."""
        self.model.zero_grad(set_to_none=True)
        batch_loss(self.network, self.batch, self.settings).total.backward()

    def update(self, batch: Batch | None = None) -> None:
        """A whole step of training, with the optimizer's."""
        self.stepper.start(0)
        loss = batch_loss(self.network, batch or self.batch, self.settings)
        self.stepper.step(loss.total, 0, [])


class Fed:
    """A learner fed by the loader with so many processes, as `train` does it: the whole way from files to weights."""

    def __init__(self, learner: Learner, dataset: Dataset, workers: int, steps: int) -> None:
        self.learner, self.steps, self._ahead = learner, steps, 2 * workers + 1
        made = endless(dataset, learner.recipe, learner.settings.batch_size, workers, learner.device)
        self._batches = on_device(map(self._check, made), learner.device)

    def _check(self, batch: Batch) -> Batch:
        batch.check(self.learner.model.num_classes)
        return batch

    def use_up(self) -> None:
        """Learn from what the loader has prepared meanwhile."""
        for _ in range(self._ahead):
            self.learner.update(next(self._batches))

    def learn(self) -> None:
        """So many steps, and their check."""
        for _ in range(self.steps):
            self.learner.update(next(self._batches))
        self.learner.stepper.check()


def endless(
    dataset: Dataset, recipe: Recipe, batch_size: int, workers: int, device: torch.device
) -> Iterator[Batch]:
    """Augmented batches without end; the processes that make them end with the iterator."""
    pinned = device.type == "cuda"
    transform = recipe.augmentation()
    return iter(training_batches(dataset, transform, batch_size, 0, 0, 10**6, workers, pin_memory=pinned))


def crowd(images: int, objects: int, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes and labels of images with so many objects each."""
    rng = torch.Generator().manual_seed(0)
    low = 0.7 * torch.rand(images, objects, 2, generator=rng)
    high = (low + 0.02 + 0.3 * torch.rand(images, objects, 2, generator=rng)).clamp(max=1)
    labels = torch.randint(1, CLASSES_OF_VOC, (images, objects), generator=rng)
    return list(torch.cat([low, high], -1).to(device)), list(labels.to(device))


class Finder:
    """A recipe's network that detects in batches of photos, kept where they are copied to the device from."""

    def __init__(
        self, recipe: Recipe, dataset: Dataset, device: torch.device, most: int, precision: Precision
    ) -> None:
        self.device, self.precision = device, precision
        self.model = recipe.model(CLASSES_OF_VOC, 0).to(device).eval()
        self.network: nn.Module = self.model
        resize = Resize(recipe.config.width_px, recipe.config.height_px)
        images = collate([resize(dataset[i % len(dataset)]) for i in range(most)]).images
        self.images = images.pin_memory() if device.type == "cuda" else images

    @torch.inference_mode()
    def forward(self, number: int) -> tuple[Tensor, Tensor]:
        """The network alone, the way to the device included."""
        with autocast(self.device, self.precision):
            return self.network(self.images[:number].to(self.device, non_blocking=True))

    def detect(self, number: int) -> list[Detections]:
        """From pixels to boxes in the CPU's memory."""
        return detect_tensor(self.network, self.images[:number], self.precision)

    @torch.no_grad()
    def expect_background(self, share: float) -> None:
        """Raise background's bias until no more than this share of scores exceed .01, as in a trained network."""
        logits = self.forward(min(8, len(self.images)))[1].float()
        low, high = 0.0, 50.0
        for _ in range(30):
            bias = (low + high) / 2
            background = torch.cat([logits[..., :1] + bias, logits[..., 1:]], -1)
            passing = (background.softmax(-1)[..., 1:] > 0.01).float().mean().item()
            low, high = (bias, high) if passing > share else (low, bias)
        for head in self.model.class_heads:
            last = head if isinstance(head, nn.Conv2d) else head[-1]
            last.bias[:: self.model.num_classes] += high


def describe(dataset: Dataset, folder: str | None) -> dict[str, Any]:
    """How many photos and objects there are, and the photos' usual size."""
    truths = [dataset.truth(i) for i in range(len(dataset))]
    sizes = [(t.width_px, t.height_px) for t in truths]
    return {
        "photos": "drawn" if folder is None else "from a VOC-layout folder",
        "number": len(truths),
        "objects_an_image": round(sum(map(len, truths)) / len(truths), 2),
        "usual_size_px": list(max(sizes, key=sizes.count)),
    }
