"""Which images train a detector and which measure it: no image does both unless the reader asks for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from ssdedu.datasets.voc import AnnotationError, VOCFolder
from ssdedu.datasets.voc_folder import FolderLike, find_sources
from ssdedu.datasets.voc_report import Problem, summarize
from ssdedu.sample import Dataset, Sample, Truth

__all__ = ["Part", "Splits", "names_of", "open_splits", "open_unseen", "read_folder", "reduced"]

_HELD_OUT_SHARE = 5
_Pairs = Sequence[tuple[FolderLike, str | None]]
_Say = Callable[[str], object]


class Part:
    """Some images of a data set, by index."""

    def __init__(self, dataset: Dataset, indices: Iterable[int]) -> None:
        self.dataset, self.indices, self.classes = dataset, list(indices), dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def truth(self, index: int) -> Truth:
        """The objects of image `index`."""
        return self.dataset.truth(self.indices[index])


def reduced(dataset: Dataset, width_px: int, height_px: int) -> Dataset:
    """The data set with large photos decoded at a part of their size; see `VOCFolder.reduced`."""
    if isinstance(dataset, Part):
        return Part(reduced(dataset.dataset, width_px, height_px), dataset.indices)
    return dataset.reduced(width_px, height_px) if isinstance(dataset, VOCFolder) else dataset


class Splits(NamedTuple):
    """The part that trains, the part that measures, and the names of the splits they come from, if they do."""

    training: Dataset
    test: Dataset
    split: str | None
    test_split: str | None

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that `open_unseen` finds the held-out images again: names of splits, ids."""
        trained_on, held_out = names_of(self.training), names_of(self.test)
        splits = {"split": self.split, "test_split": self.test_split}
        return {**splits, "trained_on": trained_on, "held_out": held_out}


class _Plan(NamedTuple):
    """The splits to take from one folder; without a test split it gives none of its images to the test."""

    root: Path
    training: str | None
    test: str | None


def names_of(dataset: Dataset) -> list[str]:
    """The stems of a data set's images, in its order."""
    return [dataset.truth(i).name.rsplit("/", 1)[-1] for i in range(len(dataset))]


def read_folder(
    pairs: _Pairs, classes: Sequence[str] | None = None, skip_bad: bool = False, say: _Say = print
) -> Dataset:
    """Images of (folder, split) pairs, the findings about them said once.

    skip_bad decodes every image and leaves the broken ones out. Raises ValueError as `VOCFolder` does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = VOCFolder(pairs, classes=classes, on_error="skip" if skip_bad else "raise")
    if not skip_bad:
        if dataset.report.notes:
            kinds = dict.fromkeys(problem.kind for problem in dataset.report.notes)
            say(f"{dataset.name}: {', '.join(kinds)}; `ssdedu check-data` lists them")
        return dataset
    kept, damaged = _decoded(dataset)
    problems = (*dataset.report.problems, *damaged)
    if problems:
        truths = [dataset.truth(i) for i in kept]
        say(f"{summarize(dataset.name, dataset.classes, truths, problems)}\n")
    if not kept:
        raise ValueError(f"{dataset.name}: none of the images can be decoded")
    return Part(dataset, kept) if damaged else dataset


def _decoded(dataset: Dataset) -> tuple[list[int], list[Problem]]:
    """The images that can be decoded, and the findings about the others."""
    kept, damaged = [], []
    for i in tqdm(range(len(dataset)), desc="checking images", unit="image", leave=False):
        try:
            dataset[i]
            kept.append(i)
        except AnnotationError as error:
            damaged += [error.problem] if error.problem else []
    return kept, damaged


def _root(folder: FolderLike) -> Path:
    return find_sources(folder, None)[0].folder.root


def _present(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "ImageSets" / "Main").glob("*.txt"))


def _ids(root: Path, split: str | None) -> set[str]:
    return set(find_sources(root, split)[0].ids)


def _first(present: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in present), None)


def _plan(root: Path, splits: tuple[str | None, str | None], alone: bool) -> _Plan:
    """The splits of one folder, each None of `splits` chosen; alone: it is the only folder."""
    present = _present(root)
    training, test = splits
    if test is not None and (alone or test in present):
        return _Plan(root, training or _apart(root, present, test), test)
    training = training or _first(present, ("trainval", "train"))
    if test is None:
        wanted = ("test", "val") if training in ("train", None) else ("test",)
        test = _first([name for name in present if name != training], wanted)
        return _Plan(root, training, test)
    return _Plan(root, training, None)


def _apart(root: Path, present: Sequence[str], test: str) -> str | None:
    """The training split that shares no image with the test split, else the first there is."""
    usual = [name for name in ("trainval", "train") if name in present and name != test]
    held_out = _ids(root, test)
    disjoint = [name for name in usual if held_out.isdisjoint(_ids(root, name))]
    return next(iter([*disjoint, *usual]), None)


def open_splits(
    folder: FolderLike | Sequence[FolderLike],
    splits: tuple[str | None, str | None] = (None, None),
    skip_bad: bool = False,
    say: _Say = print,
) -> Splits:
    """Training and test part of one or several VOC-layout folders; each None of `splits` is chosen.

    Training: trainval, else train, else all images; of those, the ones that are not in the test split. Test: test,
    else val unless trainval trains; of several folders, of those that have it. Without a test split every fifth
    image is held out. Of several folders, one with a test split alone is only measured on. Raises ValueError as
    `VOCFolder` does, and where nothing is left.
    """
    folders = [folder] if isinstance(folder, str | PathLike) else list(folder)
    roots = [_root(path) for path in folders]
    plans = [_plan(root, splits, len(roots) == 1) for root in roots]
    if splits[1] is not None and not any(plan.test for plan in plans):
        plans[0] = plans[0]._replace(test=splits[1])  # for VOCFolder to say what there is
    tested = [(plan.root, plan.test) for plan in plans if plan.test]
    if len(plans) > 1:
        plans = [plan for plan in plans if plan.training or not plan.test]
    if not plans:
        raise ValueError(f"{roots[0]}: none of the folders has a split to train on; give --split")
    training = read_folder([(plan.root, plan.training) for plan in plans], None, skip_bad, say)
    names = plans[0].training, tested[0][1] if tested else None
    if not tested:
        return Splits(*_every_fifth(training, plans[0].root), *names)
    test = read_folder(tested, training.classes, skip_bad, say)
    return Splits(_keep_apart(training, plans, None not in splits, say), test, *names)


def _every_fifth(everything: Dataset, root: Path) -> tuple[Dataset, Dataset]:
    held_out = range(_HELD_OUT_SHARE - 1, len(everything), _HELD_OUT_SHARE)
    if not held_out:
        raise ValueError(f"{root}: {len(everything)} images are too few to hold some out; give --test-split")
    kept = [i for i in range(len(everything)) if i not in held_out]
    return Part(everything, kept), Part(everything, held_out)


def _keep_apart(training: Dataset, plans: Sequence[_Plan], asked_for: bool, say: _Say) -> Dataset:
    """The training part without images of the test part, unless the reader has named both splits."""
    shared = {p.root: _ids(p.root, p.training) & _ids(p.root, p.test) for p in plans if p.test}
    number = sum(map(len, shared.values()))
    if not number:
        return training
    root = next(root for root, ids in shared.items() if ids)
    if asked_for:
        say(f"warning: {number} images are trained on and measured; the mAP will be too good")
        return training
    if len(plans) > 1:
        raise ValueError(f"{root}: {number} images to measure on are in the training split too; give --split")
    kept = [i for i, name in enumerate(names_of(training)) if name not in shared[root]]
    if not kept:
        raise ValueError(f"{root}: all images are in the test split, none is left to train on")
    say(f"{len(training) - len(kept)} images are left out of training, since they are measured on")
    return Part(training, kept)


def open_unseen(
    folder: FolderLike,
    split: str | None,
    classes: Sequence[str],
    record: dict[str, Any],
    skip_bad: bool = False,
    say: _Say = print,
) -> Dataset:
    """Images to measure a detector on that it was not trained on; says which, and warns where it was.

    record: `Splits.record` of its training, {} where nothing is known. Without `split`: the images held out then,
    if the folder has them; else test, else val, else all, in each without the images trained on. Images are told
    by their names. Raises ValueError as `VOCFolder` does.
    """
    root, trained_on = _root(folder), set(record.get("trained_on", ()))
    chosen, keep, what = _choose(root, split, record)
    dataset = read_folder([(root, chosen)], classes, skip_bad, say)
    names = names_of(dataset)
    dataset = Part(dataset, [i for i, name in enumerate(names) if name in keep])
    if not len(dataset):
        raise ValueError(f"{root}: none of the images to measure on ({what}) can be used")
    say(f"measuring {len(dataset)} images: {what}")
    seen = len(trained_on & set(names_of(dataset)))
    if seen:
        say(f"warning: {seen} of them, by their names, were trained on; the mAP is too good")
    return dataset


def _choose(root: Path, split: str | None, record: dict[str, Any]) -> tuple[str | None, set[str], str]:
    """Split to read, ids to keep of it, and what to call them."""
    if split is not None:
        return split, _ids(root, split), f"split {split}"
    trained_on, held_out = set(record.get("trained_on", ())), set(record.get("held_out", ()))
    present = _present(root)
    likely = [record.get(key) for key in ("test_split", "split")]
    for name in (*(n for n in likely if n in present), None):
        if held_out and held_out <= _ids(root, name):
            return name, held_out, "those held out when it was trained"
    chosen = _first(present, ("test", "val"))
    ids = _ids(root, chosen)
    what = f"split {chosen}" if chosen else "all in the folder"
    unseen = ids - trained_on
    if unseen and unseen != ids:
        what += f", without {len(ids) - len(unseen)} that were trained on"
    return chosen, unseen or ids, what
