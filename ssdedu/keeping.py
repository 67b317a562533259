"""What a training run keeps in its folder to go on after anything: its two last checkpoints and the log.

At each instant one whole checkpoint, with a log that knows no less, is there: last.pt or, after damage, previous.pt.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ssdedu import checkpoints
from ssdedu.checkpoints import CheckpointError, UnreadableError
from ssdedu.files import DiskFullError, remove_leftovers, write_atomically

__all__ = [
    "CHECKPOINT",
    "LOG",
    "PREVIOUS",
    "check_room",
    "checkpoint_bytes",
    "has_checkpoint",
    "newest",
    "read_log",
    "save",
    "saying_how_to_go_on",
    "tidy",
    "write_log",
]

CHECKPOINT, PREVIOUS, LOG = "last.pt", "previous.pt", "log.jsonl"
_DAMAGED = "last.pt.damaged"
_BYTES_A_PART = 300  # of a checkpoint's zip file: two headers, padding, and the name in the pickle

Record = dict[str, float]
_Say = Callable[[str], object]


def has_checkpoint(folder: str | os.PathLike[str]) -> bool:
    """Whether a run with something to go on from lies in the folder."""
    return any((Path(folder) / name).is_file() for name in (CHECKPOINT, PREVIOUS))


def save(
    folder: Path,
    records: Sequence[Record],
    saved_step: int | None,
    write: Callable[[Path, str | None], object],
) -> None:
    """Write the log, then last.pt by `write(path, previous)`; the checkpoint before stays as previous.pt.

    saved_step: the step of this run's checkpoint that is there, None before its first, which keeps nothing of an
    earlier run. Raises DiskFullError that says how to go on.
    """
    if saved_step is None:
        (folder / PREVIOUS).unlink(missing_ok=True)
    with saying_how_to_go_on(saved_step):
        write_log(folder, records)
        write(folder / CHECKPOINT, None if saved_step is None else PREVIOUS)


@contextmanager
def saying_how_to_go_on(saved_step: int | None) -> Iterator[None]:
    """Adds to a DiskFullError that passes through it what to do with a run whose last checkpoint has that step."""
    if saved_step is None:
        remedy = "This run has no checkpoint yet: make room and start it again"
    else:
        remedy = f"Make room; then the same command with --resume goes on from step {saved_step:,}"
    try:
        yield
    except DiskFullError as error:
        raise DiskFullError(f"{error}. {remedy}") from error


def newest(folder: Path, say: _Say = print) -> tuple[Path, dict[str, Any]]:
    """Path and content of a run's newest checkpoint that is whole; says so where that is not last.pt.

    Raises CheckpointError where there is none, or where the newest is whole but of another version or no run's.
    """
    last, previous = folder / CHECKPOINT, folder / PREVIOUS
    try:
        return last, _load(last)
    except UnreadableError as error:
        trouble = error
    try:
        content = _load(previous)
    except UnreadableError as error:
        raise CheckpointError(_nothing_whole(folder, trouble, error)) from error
    say(f"{trouble}. Going on from the checkpoint before it, {previous}, at step {content['step']}.")
    return previous, content


def _load(path: Path) -> dict[str, Any]:
    content = checkpoints.load_checkpoint(path)
    if content["optimizer"] is None:
        raise CheckpointError(
            f"{path}: a detector without the state of its training, from which nothing can go on: start without "
            "--resume, in another folder"
        )
    return content


def _nothing_whole(folder: Path, *troubles: UnreadableError) -> str:
    if has_checkpoint(folder):
        return (
            f"{'; '.join(map(str, troubles))}: nothing whole to resume from. Bring back a copy of one of them, or "
            "start anew, without --resume, in another folder"
        )
    there = f"{LOG} is there, but " if (folder / LOG).is_file() else ""
    return (
        f"{folder / CHECKPOINT}: no such checkpoint file to resume from ({there}the run was cut before its first "
        "checkpoint, or this is another folder): start without --resume, or name the run's folder"
    )


def tidy(folder: Path, resumed: Path, records: Sequence[Record], say: _Say = print) -> None:
    """Leave in the folder what the run resumed from that checkpoint needs, and of the log the records given.

    Removed are the temporary files of killed writers; a last.pt that could not be read becomes last.pt.damaged, so
    that it never takes the place of the one before.
    """
    for name in remove_leftovers(folder):
        say(f"{folder / name}: removed; a run that was killed left it.")
    damaged = folder / CHECKPOINT
    if resumed != damaged and damaged.is_file():
        os.replace(damaged, folder / _DAMAGED)
        say(f"{damaged} is {_DAMAGED} now; it may be deleted.")
    write_log(folder, records)


def read_log(path: Path, say: _Say = print) -> list[Record]:
    """The records of a run's log, oldest first; none where there is no log; says which lines are no records."""
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    records = [_record(line) for line in lines]
    torn = [str(number) for number, r in enumerate(records, 1) if r is None]
    if torn:
        say(f"{path}: line {', '.join(torn)} is torn and left out.")
    return [r for r in records if r is not None]


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
        return record if record["step"] >= 0 else None
    except (ValueError, TypeError, KeyError):
        return None


def write_log(folder: Path, records: Sequence[Record]) -> None:
    """Write log.jsonl, unless it is so already; where there is none and no record yet, none is made."""
    path = folder / LOG
    content = "".join(json.dumps(r) + "\n" for r in records).encode()
    if content != (path.read_bytes() if path.is_file() else b""):
        write_atomically(path, content)


def checkpoint_bytes(model: nn.Module, optimizer: Optimizer) -> int:
    """The size of a run's checkpoint, to one per cent: the weights, and what the optimizer keeps of each that learns.

    SGD with momentum keeps one number, AdamW two.
    """
    states = len(optimizer.defaults.get("betas", ())) or bool(optimizer.defaults.get("momentum"))
    weights = model.state_dict().values()
    learned = [p for p in model.parameters() if p.requires_grad]
    parts = len(weights) + states * len(learned)
    return sum(w.nbytes for w in weights) + states * sum(p.nbytes for p in learned) + _BYTES_A_PART * parts


def check_room(folder: Path, needed: int, say: _Say = print) -> None:
    """Raises DiskFullError where a checkpoint of that size does not fit, and says so where only the first ones do.

    Three are there while the newest is written beside last.pt and previous.pt.
    """
    there = sum(p.stat().st_size for p in (folder / CHECKPOINT, folder / PREVIOUS) if p.is_file())
    free = shutil.disk_usage(_existing(folder)).free
    sizes = f"checkpoints take {needed:,} bytes each, and the disk has {free:,} free"
    if free < needed:
        raise DiskFullError(
            f"{folder}: no room for this run: its {sizes}; make room, or choose another --out"
        )
    if free + there < 3 * needed:
        say(f"{folder}: warning: little room: {sizes}; up to three are there at once.")


def _existing(folder: Path) -> Path:
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())
