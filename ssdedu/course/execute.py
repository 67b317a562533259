"""Run notebooks in place the way the course commits them: ``python -m ssdedu.course.execute NOTEBOOK...``.

A fresh kernel in the notebook's own folder, one thread, outputs stored, no widget state, no times, no paths.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["execute", "main", "run"]

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute(path: Path, timeout: int = 300) -> None:
    """Run a notebook in a fresh kernel and write it back with its outputs; an error in a cell is raised."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    run(notebook, path.resolve().parent, timeout)
    notebook.metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)


def run(notebook: Any, folder: Path, timeout: int, widget_state: bool = False) -> Any:
    """The notebook with the outputs that a fresh kernel in the folder gives; an error in a cell is raised.

    timeout: seconds of one cell; widget_state: keep the state of its widgets in the metadata.
    """
    from nbclient import NotebookClient

    options: dict[str, Any] = {"timeout": timeout, "store_widget_state": widget_state, "record_timing": False}
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, resources=resources, **options).execute()


def main(paths: list[str]) -> int:
    """Run every notebook named; returns the exit status."""
    if not paths:
        print("usage: python -m ssdedu.course.execute NOTEBOOK...")
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for path in paths:
        execute(Path(path))
        print(f"{path}: {Path(path).stat().st_size / 1000:.0f} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
