"""A notebook in a browser as a reader uses it: run it, move an explorer, read what it shows.

Everything waits by polling, nothing by sleeping. The fixture that opens notebooks is in lab.py.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
SCREENSHOTS = Path(os.environ.get("SSDEDU_SCREENSHOTS", ROOT / "runs" / "screenshots"))
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
HERE = {"127.0.0.1", "localhost"}
_READY = "() => jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
_EXECUTE = """async ([code, seconds]) => {
  const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({ code, store_history: false });
  let text = "";
  future.onIOPub = ({ header, content }) => { if (header.msg_type === "stream") text += content.text; };
  const late = new Promise((_, fail) => setTimeout(() => fail(new Error(`no answer to ${code}`)), 1000 * seconds));
  const { content } = await Promise.race([future.done, late]);
  if (content.status !== "ok") throw new Error(`${content.ename}: ${content.evalue} in ${code}`);
  return text;
}"""
_RUN_ALL = """() => {
  globalThis.ran = "running";
  jupyterapp.commands.execute("notebook:run-all-cells").then(() => (ran = "done"), (e) => (ran = String(e)));
}"""
_FAILED_CELLS = """() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells
  .flatMap((cell) => cell.toJSON().outputs ?? []).filter((o) => o.output_type === "error")
  .map((o) => `${o.ename}: ${o.evalue}`)"""
# The cell whose output is an explorer of this class gets a mark; the answer is the explorer's id in the kernel.
_FIND = """(name) => {
  for (const cell of jupyterapp.shell.currentWidget.content.widgets) {
    for (const { data } of cell.model.toJSON().outputs ?? []) {
      const view = data?.["application/vnd.jupyter.widget-view+json"];
      if (!view || ![data["text/plain"]].flat().join("").startsWith(name)) continue;
      cell.node.dataset.explorer = name;
      return view.model_id;
    }
  }
}"""
_LAID_OUT = "(root) => root.checkVisibility({ contentVisibilityAuto: true })"
_PIXELS = """(canvas, points) => {
  const ratio = canvas.width / parseFloat(canvas.style.maxWidth);
  const [ctx, hex] = [canvas.getContext("2d"), (v) => v.toString(16).padStart(2, "0")];
  const read = ([x, y]) => ctx.getImageData(Math.floor(x * ratio), Math.floor(y * ratio), 1, 1).data;
  return points.map((p) => "#" + [...read(p)].slice(0, 3).map(hex).join("").toUpperCase());
}"""
# Each piece of text that is seen, with its colour and that of the nearest ground that is not transparent.
_TEXTS = """(root) => {
  const ctx = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    ctx.clearRect(0, 0, 1, 1);
    ctx.fillStyle = color;
    ctx.fillRect(0, 0, 1, 1);
    return [...ctx.getImageData(0, 0, 1, 1).data];
  };
  const ground = (node) => {
    const color = rgba(getComputedStyle(node).backgroundColor);
    return color[3] || !node.parentElement ? color : ground(node.parentElement);
  };
  const own = (e) => [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
  return [root, ...root.querySelectorAll("*")].filter((e) => own(e) && e.getClientRects().length)
    .map((e) => [own(e), rgba(getComputedStyle(e).color), ground(e)]);
}"""


def until(read, wanted, seconds=15.0):
    """What read() gives as soon as it is `wanted`, a value or a condition on it; fails with what came last."""
    holds = wanted if callable(wanted) else lambda value: value == wanted
    end = time.monotonic() + seconds
    while not holds(value := read()):
        assert time.monotonic() < end, f"still {value!r} after {seconds} s"
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def changed(read):
    """What is done inside changes what read() gives."""
    before = read()
    yield
    until(read, lambda now: now != before)


def contrast(ink, ground):
    """The ratio of luminances of two colours (0 .. 255), 1 to 21, as WCAG 2 defines it."""

    def luminance(rgb):
        parts = [v / 255 for v in rgb[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(ink), luminance(ground)])
    return (high + 0.05) / (low + 0.05)


class Watch:
    """Errors of the console, and addresses asked for, by all pages of a browser context."""

    def __init__(self, context):
        self.errors, self.addresses = [], []
        context.on("request", lambda r: self.addresses.append(r.url))
        context.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        context.on("weberror", lambda e: self.errors.append(str(e.error)))
        context.on("page", lambda p: p.on("websocket", lambda s: self.addresses.append(s.url)))

    def outside(self):
        """Addresses that are not on this machine."""
        parts = ((a, urlsplit(a)) for a in self.addresses)
        return [a for a, p in parts if p.scheme not in ("data", "blob") and p.hostname not in HERE]


class Notebook:
    """A notebook in JupyterLab (one document, no tabs), with a fresh kernel."""

    def __init__(self, browser, address, name):
        self.name, self.has_run = name, False
        self.context = browser.new_context(viewport={"width": 1100, "height": 2200})
        self.watch = Watch(self.context)
        self.page = self.context.new_page()
        self.page.goto(f"{address}/doc/tree/{name}.ipynb?reset")
        self.wait_until_idle()

    def wait_until_idle(self, seconds=60):
        """Wait for a kernel that is there and has nothing to do."""
        self.page.wait_for_function(_READY, timeout=1000 * seconds)

    def run_all(self, seconds=240):
        """Run all cells; fails if one does."""
        self.page.evaluate(_RUN_ALL)
        assert until(lambda: self.page.evaluate("ran"), lambda now: now != "running", seconds) == "done"
        self.wait_until_idle()
        assert self.page.evaluate(_FAILED_CELLS) == []
        self.has_run = True

    def python(self, code, seconds=30):
        """What code prints, run in the notebook's kernel; an exception there is one here."""
        return self.page.evaluate(_EXECUTE, [code, seconds])

    def command(self, name, **arguments):
        """Run a command of JupyterLab and wait for it."""
        run = "([name, args]) => jupyterapp.commands.execute(name, args).then(() => null)"
        self.page.evaluate(run, [name, arguments])

    def cells(self):
        """How many cells there are."""
        return self.page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length")

    def explorer(self, name):
        """The explorer of this class (the first, if there are several), scrolled to and drawn."""
        model = until(lambda: self.page.evaluate(_FIND, name), bool)
        root = self.page.locator(f"[data-explorer={name}] .ssdedu-explorer").first
        explorer = Explorer(self, root, model)
        until(explorer.is_seen, True)
        return explorer

    def theme(self, name):
        """Change JupyterLab's theme, `LIGHT` or `DARK`, and wait until it is there."""
        self.command("apputils:change-theme", theme=name)
        until(lambda: self.page.evaluate("document.body.dataset.jpThemeName"), name)
        until(lambda: self.page.locator("#jupyterlab-splash").count(), 0)

    def screenshot(self, name):
        """Keep what is seen now as `SCREENSHOTS`/name.png."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def close(self):
        """Stop the kernel and leave; a page that has died is left to JupyterLab, which stops its kernels."""
        with contextlib.suppress(Exception):
            self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
            self.context.close()


class Explorer:
    """An explorer on the page (`root`) and in the kernel."""

    def __init__(self, notebook, root, model):
        self.notebook, self.page, self.root = notebook, notebook.page, root
        self._object = f"__import__('ipywidgets').widgets.widget._instances[{model!r}]"

    def is_seen(self):
        """Scroll to it, and tell whether it is there, with its sentence: JupyterLab lays out only cells in view."""
        if not self.root.evaluate(_LAID_OUT):
            self.root.evaluate("(root) => root.closest('.jp-Cell').scrollIntoView()")
        self.root.scroll_into_view_if_needed()
        return self.root.evaluate(_LAID_OUT) and self.said() != ""

    def value(self, expression):
        """A trait of the kernel's side, or a call such as "counts()", as JSON brings it."""
        return json.loads(
            self.notebook.python(f"print(__import__('json').dumps({self._object}.{expression}))")
        )

    def assign(self, trait, value):
        """Set a trait in the kernel."""
        self.notebook.python(f"{self._object}.{trait} = {value!r}")

    def restore(self, traits):
        """Set several traits in the kernel at once."""
        self.notebook.python(
            f"for name, value in {traits!r}.items():\n    setattr({self._object}, name, value)"
        )

    def control(self, role, name):
        """A control by its role (slider, checkbox, button, combobox) and the words on it."""
        return self.root.get_by_role(role, name=name)

    def slider(self, name):
        """A slider by the words on it; number() reads it, press() and fill() move it."""
        return self.control("slider", name)

    def said(self):
        """The sentence that says what is seen."""
        return self.root.locator("output").first.text_content()

    def canvas(self, number=0):
        """The canvas, or one of several."""
        return self.root.locator("canvas").nth(number)

    def drawing(self, number=0):
        """A short text that changes with any pixel of the canvas."""
        data = self.canvas(number).evaluate("(canvas) => canvas.toDataURL()")
        return hashlib.sha256(data.encode()).hexdigest()[:16]

    def pixels(self, points, number=0):
        """Colours "#RRGGBB" at points (x, y) in the canvas's own units."""
        return self.canvas(number).evaluate(_PIXELS, [[float(v) for v in point] for point in points])

    def on_page(self, x, y, number=0):
        """The place on the page of a point in the canvas's own units, for the mouse."""
        canvas = self.canvas(number)
        box = self._settled(canvas)
        scale = box["width"] / canvas.evaluate("(canvas) => parseFloat(canvas.style.maxWidth)")
        return box["x"] + x * scale, box["y"] + y * scale

    def _settled(self, part):
        """Where a part lies once it is in view and nothing above pushes it any more."""
        box = None
        while box != (box := (part.scroll_into_view_if_needed(), part.bounding_box())[1]):
            self.page.evaluate("new Promise(requestAnimationFrame)")
        return box

    def drag(self, start, end, number=0):
        """Drag with the mouse from one point of the canvas to another."""
        mouse = self.page.mouse
        start, end = self.on_page(*start, number), self.on_page(*end, number)
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=5)
        mouse.up()

    def drawn(self, number=0):
        """What the page says it has drawn last, where an explorer says so."""
        return self.canvas(number).evaluate("(canvas) => canvas.drawn")

    def screenshot(self, name):
        """Keep the whole explorer as `SCREENSHOTS`/name.png."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.root.screenshot(path=SCREENSHOTS / f"{name}.png")

    def texts(self):
        """Each piece of text with its colour and its ground's, (r, g, b, a) up to 255."""
        return self.root.evaluate(_TEXTS)


def number(slider):
    """Where a slider stands."""
    return float(slider.input_value())
