"""How long each notebook takes: its CPU seconds on one thread, and what there is to read and to do in it.

Usage: python benchmarks/notebook_times.py [NOTEBOOK ...] [--out benchmarks/results/notebooks.json]
Each is run in a fresh kernel and not written back. Without names, all; entries of other notebooks are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import time
from pathlib import Path

import nbformat
from common import machine, save, versions
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"


def measure(path: Path) -> dict:
    """Title, question, words, predictions, exercises, and the seconds of one run."""
    notebook = nbformat.read(path, as_version=4)
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    about = {
        "title": re.search(r"^# (.+)$", prose, re.MULTILINE)[1],
        "question": re.search(r"^\*\*(.+\?)\*\*", prose, re.MULTILINE)[1],
        "words": len(prose.split()),
        "predictions": len(re.findall(r"^predict\(", code, re.MULTILINE)),
        "exercises": len(re.findall(r"^check\(", code, re.MULTILINE)),
    }
    before, start = _children_cpu(), time.perf_counter()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    wall = time.perf_counter() - start
    return {**about, "seconds": {"wall": round(wall, 1), "cpu": round(_children_cpu() - before, 1)}}


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and write after each notebook."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="*", default=sorted(FOLDER.glob("*.ipynb")))
    parser.add_argument("--out", type=Path, default="benchmarks/results/notebooks.json")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    measured = json.loads(options.out.read_text())["notebooks"] if options.out.exists() else {}
    about = {"machine": {**machine(), "threads": 1}, "versions": versions("ssdedu", "torch", "numpy")}
    for path in options.notebooks:
        measured[path.stem] = measure(path.resolve())
        save(options.out, {"notebooks": dict(sorted(measured.items())), **about})
        print(path.stem, measured[path.stem]["seconds"], flush=True)


if __name__ == "__main__":
    main()
