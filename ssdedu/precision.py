"""Mixed precision: the network's forward pass runs in bfloat16 or float16 where the processor has units for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

import torch

from ssdedu.winograd import FastConvolutions

__all__ = ["Precision", "autocast", "forward_dtype", "use_bfloat16"]

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def use_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for bfloat16: GPUs since Ampere, CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, p, lambda: False)() for p in probes)


def forward_dtype(device: torch.device, precision: Precision | bool | None = None) -> torch.dtype:
    """The type in which convolutions run; float16 needs a loss scale in training (`optimization.Stepper`).

    "auto": bfloat16 where the device has units for it, else float16 on a GPU, float32 on a CPU. True and False stand
    for bfloat16 and float32; None is "auto" without float16. Raises ValueError for another name.
    """
    if isinstance(precision, bool):
        return torch.bfloat16 if precision else torch.float32
    if precision not in (*get_args(Precision), None):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    if precision not in ("auto", None):
        return getattr(torch, precision)
    if use_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" and precision == "auto" else torch.float32


@contextmanager
def autocast(device: torch.device, precision: Precision | bool | None = None) -> Iterator[None]:
    """The network's forward pass in `forward_dtype`; in float32 on a CPU with `winograd.FastConvolutions`."""
    dtype = forward_dtype(device, precision)
    lower = dtype != torch.float32
    with ExitStack() as contexts:
        if lower or torch.amp.is_autocast_available(device.type):
            given = dtype if lower else torch.bfloat16
            contexts.enter_context(torch.autocast(device.type, given, enabled=lower))
        if not lower and device.type == "cpu":
            contexts.enter_context(FastConvolutions())
        yield
