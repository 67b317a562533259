"""Mixed precision: where the processor has units for bfloat16, the network's forward pass runs in it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

__all__ = ["autocast", "use_bfloat16"]


def use_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for bfloat16: GPUs since Ampere, CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, p, lambda: False)() for p in probes)


def autocast(device: torch.device, bfloat16: bool | None = None) -> AbstractContextManager:
    """Mixed precision for the network's forward pass; None asks `use_bfloat16`."""
    enabled = use_bfloat16(device) if bfloat16 is None else bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
