"""What all benchmarks share: the machine and the versions, CPU time, and the file of results."""

from __future__ import annotations

import json
import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any

from ssdedu.files import write_atomically


def machine() -> dict[str, Any]:
    """Processor, its cores and the system."""
    about = {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()}
    return {**about, "architecture": platform.machine()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def versions(*modules: str) -> dict[str, str]:
    """Python's version and those of modules."""
    return {
        "python": platform.python_version(),
        **{name: import_module(name).__version__ for name in modules},
    }


def cpu_seconds() -> float:
    """CPU time so far of this process and of its child processes that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def save(path: str | Path, result: dict[str, Any]) -> None:
    """Writes the result as JSON."""
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())
