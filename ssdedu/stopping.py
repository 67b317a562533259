"""Ctrl+C and the signal by which clusters end programs let a step end and be saved."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Stopping", "outlive_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEAT = 1.0  # seconds within which a second signal is the first one, passed on by torchrun or a shell
_PATIENCE = 30  # seconds that a worker process outlives a SIGTERM, so that the step it feeds can end


class Stopping:
    """Within `with`, a first SIGINT or SIGTERM only sets `asked`; one more, a second later, does what it did before.

    Signals that are ignored stay so (a program in the background, nohup), and outside the main thread, where Python
    handles none, nothing changes.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            self._before = {n: h for n, h in before.items() if h not in (None, signal.SIG_IGN)}
            for number in self._before:
                signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker just forked
            return
        if self.asked is None:
            self.asked, self._since = signal.Signals(number), time.monotonic()
            with suppress(RuntimeError, OSError):  # in the middle of another print, on a closed terminal
                print(f"\n{self.asked.name}: saving after this step; once more ends at once", file=sys.stderr)
        elif time.monotonic() - self._since > _REPEAT:
            self._restore()
            signal.raise_signal(number)


def outlive_signals() -> None:
    """For a worker process: leave it to the program, which a signal reaches as well, to end after its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_PATIENCE))
