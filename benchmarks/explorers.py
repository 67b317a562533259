"""How the prior-box explorer follows a hand, and how soon Python answers: notebook 02 in JupyterLab in a browser.

Usage: python benchmarks/explorers.py [--drags 30] [--positions 120] [--out benchmarks/results/explorers.json]
Needs playwright, and Chromium or Chrome in PATH, which draws without a graphics card. Hand and clocks are in the page:
60 times a second an object goes to its next place on a circle, or to the place that is due where the page is late.
ms: from a move to the picture that shows it. answer_ms: from letting go to the picture with Python's numbers;
python_ms: the package's part of that.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, save, versions

from ssdedu import priors

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from lab import browsing, chromium_path, serving
from lab_page import Explorer, Notebook, until

DETECTORS = (priors.SSD300_VOC, priors.SSD512_VOC)
GOALS = {"frames_a_second": 30, "answer_ms": 150}
MOVES_A_SECOND, SCREEN = 60, {"width": 1280, "height": 800}
MARGIN, SIDE, RADIUS = 44, 440, 0.15  # of the canvas, of the image on it, of the circle in sides of the image
# The hand lets go at `rest`. A picture is there (`at`) when the browser is through with its frame.
_DRAG = """async (canvas, { points, every }) => {
  const { left, top, width } = canvas.getBoundingClientRect(), scale = width / parseFloat(canvas.style.maxWidth);
  const hand = (kind, i) => {
    const [clientX, clientY] = [left + points[i][0] * scale, top + points[i][1] * scale];
    const held = { pointerId: 1, pointerType: "mouse", button: kind === "pointermove" ? -1 : 0, bubbles: true };
    canvas.dispatchEvent(new PointerEvent(kind, { ...held, cancelable: true, clientX, clientY }));
  };
  const pictures = [], done = new MessageChannel(), waiting = [];
  let drawn = canvas.drawn;
  const set = (value) => (waiting.push((drawn = value)), done.port2.postMessage(null));
  Object.defineProperty(canvas, "drawn", { configurable: true, get: () => drawn, set });
  let answered = () => {}, rest = Infinity;
  done.port1.onmessage = () => {
    const at = performance.now(), { ms, source } = waiting.shift();
    pictures.push({ at, ms, source });
    if (at > rest && source === "python") answered(at - rest);
  };
  hand("pointerdown", 0);
  const start = performance.now(), last = points.length - 1;
  let i = 0;
  while (i < last) {
    await new Promise((end) => setTimeout(end, start + (i + 1) * every - performance.now()));
    i = Math.min(last, Math.floor((performance.now() - start) / every));
    hand("pointermove", i);
  }
  const during = pictures.slice(1);
  rest = performance.now();
  const answer = new Promise((end) => (answered = end));
  hand("pointerup", last);
  const answer_ms = await answer;
  Object.defineProperty(canvas, "drawn", { configurable: true, writable: true, value: drawn });
  return { answer_ms, during };
}"""
# Every answer that the kernel computes is timed there.
_TIME_PYTHON = """
import json, time
from ssdedu.widgets import PriorBoxExplorer
answer, python_ms = PriorBoxExplorer._scene_answer, []
def timed(self):
    start = time.perf_counter()
    try:
        return answer(self)
    finally:
        python_ms.append(1000 * (time.perf_counter() - start))
PriorBoxExplorer._scene_answer = timed
"""


def circle(box: list[float], positions: int) -> list[tuple[float, float]]:
    """Points of the canvas, from the middle of a box around and back to it."""
    x, y = (box[0] + box[2]) / 2 - RADIUS, (box[1] + box[3]) / 2
    angles = [2 * math.pi * i / positions for i in range(positions + 1)]
    around = [(x + RADIUS * math.cos(a), y - RADIUS * math.sin(a)) for a in angles]
    return [(MARGIN + SIDE * x, MARGIN + SIDE * y) for x, y in around]


def drag(explorer: Explorer, positions: int) -> dict[str, Any]:
    """One drag along the circle: when each picture was there, and the answer."""
    box = explorer.value("objects")[0]["box"]
    around = {"points": circle(box, positions), "every": 1000 / MOVES_A_SECOND}
    taken = explorer.canvas().evaluate(_DRAG, around)
    until(lambda: explorer.value("objects")[0]["box"], lambda b: np.allclose(b, box, atol=1e-3))
    return taken


def measure(explorer: Explorer, config: priors.Config, drags: int, positions: int) -> dict[str, Any]:
    """All drags under one detector, after one that does not count."""
    explorer.control("combobox", "Detector").select_option(config.name)
    until(lambda: explorer.value("config.name"), config.name)
    until(lambda: explorer.drawn()["source"], "python")
    drag(explorer, positions)
    explorer.notebook.python("python_ms.clear()")
    taken = [drag(explorer, positions) for _ in range(drags)]
    spans = [t["during"][-1]["at"] - t["during"][0]["at"] for t in taken]
    rates = [1000 * (len(t["during"]) - 1) / span for t, span in zip(taken, spans, strict=True)]
    return {
        "default_boxes": config.num_boxes,
        "pictures_a_drag": float(np.median([len(t["during"]) for t in taken])),
        "ms": summary([p["ms"] for t in taken for p in t["during"]]),
        "frames_a_second": {"median": round(float(np.median(rates)), 1), "lowest": round(min(rates), 1)},
        "answer_ms": summary([t["answer_ms"] for t in taken]),
        "python_ms": summary(json.loads(explorer.notebook.python("print(json.dumps(python_ms))"))),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median, 90th percentile and highest."""
    median, high = np.percentile(values, [50, 90])
    return {
        name: round(float(v), 1) for name, v in (("median", median), ("p90", high), ("highest", max(values)))
    }


def main() -> None:
    """Measure under each detector and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drags", type=int, default=30)
    parser.add_argument("--positions", type=int, default=120, help="places in a drag")
    parser.add_argument("--out", default="benchmarks/results/explorers.json")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as address,
        browsing(chromium_path()) as browser,
    ):
        notebook = Notebook(browser, address, "02_default_boxes")
        notebook.page.set_viewport_size(SCREEN)
        notebook.run_all()
        notebook.python(_TIME_PYTHON)
        explorer = notebook.explorer("PriorBoxExplorer")
        found = {c.name: measure(explorer, c, options.drags, options.positions) for c in DETECTORS}
        about = {**versions("ssdedu", "torch", "jupyterlab"), "chromium": browser.version}
        notebook.close()
    about |= {name: metadata.version(name) for name in ("anywidget", "playwright")}
    settings = {
        "drags": options.drags,
        "positions_a_drag": options.positions,
        "screen_px": SCREEN,
        "goals": GOALS,
    }
    save(options.out, {"detectors": found, **settings, "machine": machine(), "versions": about})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
