"""Run notebooks in place the way the course commits them: ``python -m ssdedu.course.execute NOTEBOOK...``.

A fresh kernel in the notebook's own folder, one thread, outputs stored, no widget state, no times, no paths.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["execute", "main"]

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute(path: Path, timeout: int = 300) -> None:
    """Run a notebook in a fresh kernel and write it back with its outputs; an error in a cell is raised."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    resources = {"metadata": {"path": str(path.resolve().parent)}}
    client = NotebookClient(
        notebook, timeout=timeout, store_widget_state=False, record_timing=False, resources=resources
    )
    client.execute()
    notebook.metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)


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
