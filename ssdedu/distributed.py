"""Several processes train one detector: what torchrun starts, on the GPUs of one machine or of many.

`torchrun --nproc-per-node 4 -m ssdedu train FOLDER` is four processes with a GPU each, or on CPUs. Each takes its part
of every batch (`batches.Order`); DistributedDataParallel averages their gradients, and the loss is divided by the
positives of all (`all_sum`), so that together they make the step that one process would make with the whole batch.
Batch normalisation sees the whole batch on GPUs alone (`synchronize_norms`). Process 0 writes and speaks for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "DataParallel",
    "LostProcessError",
    "all_sum",
    "check_alike",
    "data_parallel",
    "from_first",
    "gathered",
    "is_first",
    "local_size",
    "lost_process",
    "own_device",
    "part",
    "process_group",
    "rank",
    "share_buffers",
    "size",
    "synchronize_norms",
]

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others: longer than a checkpoint or torch.compile takes one of them."""
_TRANSPORTS = ("gloo/transport", "NCCL", "ProcessGroup", "Connection closed by peer")


class LostProcessError(RuntimeError):
    """Another of the processes has ended, or cannot be reached."""


def size() -> int:
    """How many processes train together; 1 without `process_group`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first() -> bool:
    """Whether this process writes and speaks for all."""
    return rank() == 0


def local_size() -> int:
    """How many of the processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if size() > 1 else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Within `with`, the processes that torchrun started work together: nccl between GPUs, gloo between CPUs.

    All but the first print nothing. Does nothing in a process that is alone or in a group already. Raises
    LostProcessError when another one has ended. After an error the connections are left to the end of the program,
    since closing them waits for the others.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        with open(os.devnull, "w") as nowhere, nullcontext() if is_first() else redirect_stdout(nowhere):
            yield
    except RuntimeError as error:
        lost = lost_process(error)
        if lost is None:
            raise
        raise lost from error
    dist.destroy_process_group()


def lost_process(error: BaseException) -> LostProcessError | None:
    """A plain account of an error that comes from another process's end; None for other errors."""
    if isinstance(error, LostProcessError) or size() == 1:
        return None
    if not isinstance(error, dist.DistError) and not any(name in str(error) for name in _TRANSPORTS):
        return None
    return LostProcessError(
        f"another of the {size()} processes of this run has ended or does not answer; its own message, or torchrun's "
        "table of exit codes, says why."
    )


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process, a different one for each on a machine, or the CPU for all; ValueError if too few."""
    if device.type != "cuda" or size() == 1:
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device.index is not None:
        raise ValueError(
            f"--device {device}: of several processes each takes a GPU of its own; use --device cuda"
        )
    if number >= there:
        raise ValueError(
            f"{local_size()} processes, but {there} GPUs here: torchrun --nproc-per-node {there}"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def part(number: int) -> range:
    """This process's part of `number` things in order: joined by rank, the parts are all of them."""
    return range(number * rank() // size(), number * (rank() + 1) // size())


def all_sum(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes, elementwise, without gradient; nan where one of them has nan."""
    if size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def gathered(items: Sequence[T]) -> list[T]:
    """The items of all processes in the order of their ranks, in every process."""
    if size() == 1:
        return list(items)
    everywhere: list[Any] = [None] * size()
    dist.all_gather_object(everywhere, list(items))
    return [item for items in everywhere for item in items]


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives or raises in the first process, in all: files need to be on its machine alone."""
    if size() == 1:
        return make()
    outcome: list[Any] = [_attempt(make) if is_first() else None]
    dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def _attempt(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, error


def check_alike(what: str, value: Any) -> None:
    """Raises ValueError in every process unless all have an equal value, such as the images they train on."""
    if len(values := gathered([value])) > 1:
        others = [str(i) for i, other in enumerate(values) if other != values[0]]
        if others:
            raise ValueError(
                f"{what}: process {', '.join(others)} has others than process 0; give each machine the same files "
                "and options"
            )


class DataParallel(DistributedDataParallel):
    """DistributedDataParallel with the attributes of the network within, such as `priors_cxcywh`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def data_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """A network whose gradients become the mean over the processes, all of them starting as in the first.

    On CPUs, where batch normalisation is not synchronised, its running statistics are always the first's.
    """
    if size() == 1:
        return network
    one = [device] if device.type == "cuda" else None
    return DataParallel(network, device_ids=one, gradient_as_bucket_view=True)


def synchronize_norms(model: nn.Module, device: torch.device) -> None:
    """Let batch normalisation on GPUs take mean and variance over all processes (nn.SyncBatchNorm), in place.

    There is none for CPUs: there each process normalises by its part of the batch, so that the result differs from
    one process's as that of a smaller batch does.
    """
    if size() > 1 and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers: the running statistics of batch normalisation."""
    if size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
