"""One step of the optimizer after another: rates, loss scale, clipping, and the check that all numbers are finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssdedu import distributed
from ssdedu.model import parameter_groups
from ssdedu.precision import forward_dtype
from ssdedu.settings import Settings, learning_rate

__all__ = ["NotFiniteError", "Stepper", "waits"]


class NotFiniteError(RuntimeError):
    """A loss or its gradient is nan or infinite; the message says at which step and on which files."""


class _Seen(NamedTuple):
    """A step not yet checked: loss and norm of the gradient (2,), and the files of its batch."""

    step: int
    values: Tensor
    names: Sequence[str]


def waits(device: torch.device) -> bool:
    """Whether reading a number on the device at each step would keep it waiting, so that checks come later."""
    return device.type == "cuda"


class Stepper:
    """Makes the steps of a training: `step` for each batch, `check` before its results are used.

    No step is made with a gradient that is not finite: on a CPU `step` raises NotFiniteError instead; a GPU leaves
    the step out by itself, and `check` raises for the first such step since the check before. With float16 such a
    gradient only means that the loss scale is too large (Micikevicius et al., arXiv 1710.03740, Sec. 3.2): the step
    is left out and the scale halved, and NotFiniteError comes when it falls below 1. What happens on a GPU has been
    tested on a CPU, by `waits`.
    """

    def __init__(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        self.settings, self._model, self._later = settings, model, waits(device)
        self._float16 = forward_dtype(device, settings.precision) == torch.float16
        self.optimizer = _optimizer(model, settings, fused=self._later or None)
        self._fused = [group["fused"] for group in self.optimizer.param_groups]
        scale = 2.0**16 if self._float16 else 1.0
        self._scaler = torch.amp.GradScaler(device.type, scale, enabled=self._float16 or self._later)
        self._unchecked: list[_Seen] = []

    def start(self, step: int) -> None:
        """Set the rates of iteration `step` (from 0) and forget the gradient."""
        rate = learning_rate(step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * rate
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, loss: Tensor, step: int, names: Sequence[str]) -> None:
        """Move the weights by the gradient of this process's part of the loss, a scalar, averaged over processes."""
        whole = loss * distributed.size() if distributed.size() > 1 else loss
        self._scaler.scale(whole).backward()
        self._scaler.unscale_(self.optimizer)
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), limit)
        self._unchecked.append(_Seen(step, torch.stack([loss.detach().float(), norm.float()]), names))
        if not self._later:
            self.check()
        self._scaler.step(self.optimizer)
        self._scaler.update(None if self._float16 else 1.0)

    def check(self) -> None:
        """Raises NotFiniteError for the first step since the last check whose loss or gradient was not finite.

        In every process for the same step, as their losses are added.
        """
        seen, self._unchecked = self._unchecked, []
        if not seen:
            return
        values = distributed.all_sum(torch.stack([s.values for s in seen])).tolist()
        for one, (loss, norm) in zip(seen, values, strict=True):
            if not math.isfinite(loss):
                raise NotFiniteError(_message("loss", loss, one))
            if not math.isfinite(norm) and not self._float16:
                raise NotFiniteError(_message("norm of the gradient", norm, one))
        if self._float16 and self._scaler.get_scale() < 1:
            raise NotFiniteError(
                _message("norm of the gradient, even at a loss scale of 1,", math.nan, seen[-1])
            )

    def to_save(self) -> torch.optim.Optimizer:
        """The optimizer, with float16's loss scale among its groups, so that `load` finds all in its state."""
        if self._float16:
            self.optimizer.param_groups[0]["loss_scale"] = self._scaler.state_dict()
        return self.optimizer

    def load(self, state: dict[str, Any]) -> None:
        """Go on from the state of `to_save`, on a device of any kind."""
        self.optimizer.load_state_dict(state)
        for group, fused in zip(self.optimizer.param_groups, self._fused, strict=True):
            group["fused"] = fused
        scale = self.optimizer.param_groups[0].pop("loss_scale", None)
        if scale and self._float16:
            self._scaler.load_state_dict(scale)


def _optimizer(model: nn.Module, settings: Settings, fused: bool | None) -> torch.optim.Optimizer:
    """fused: SGD in one kernel too, which can leave a step out without being asked by the CPU."""
    groups = parameter_groups(model, settings.lr, settings.weight_decay, settings.bias_factor)
    for group in groups:
        group["full_lr"] = group["lr"]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    sgd = torch.optim.SGD(groups, momentum=settings.momentum, fused=fused)
    if fused and settings.momentum:
        for parameter in (p for group in groups for p in group["params"]):
            # a first step that is left out would leave torch's own buffer uninitialised
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _message(what: str, value: float, seen: _Seen) -> str:
    """To be called in every process: the files named are those of the processes whose own loss is not finite."""
    guilty = not math.isfinite(seen.values[0])
    names = distributed.gathered(seen.names if guilty else []) or distributed.gathered(seen.names)
    return (
        f"the {what} is {value} at step {seen.step + 1}. Files of this batch: {', '.join(names)}. Usual reasons: a "
        "rate too high (try a tenth, or --warmup), or broken boxes (`ssdedu check-data FOLDER`)."
    )
