"""The course as pages for a browser: ``python -m ssdedu.course.pages [NOTEBOOK...] [--out site]``.

Each notebook is run in a fresh kernel and becomes one HTML file that opens from a disk, offline, with explorers
that work; the notebook itself is not changed. An index of the course leads to them.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from latex2mathml.converter import convert
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from tqdm.auto import tqdm

from ssdedu.course.execute import run
from ssdedu.files import write_atomically
from ssdedu.widgets.page import fragment

__all__ = ["Lesson", "build", "index_page", "main", "notebook_page"]

_COURSE = Path(__file__).parents[2] / "notebooks"
_SECONDS_PER_CELL = 600
_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --ground: #ffffff; --soft: #f5f6f8; --line: #cdd2d9; --dim: #57606a; --link: #0a58a8;
  --keyword: #8a2b86; --text: #0b6b46; --number: #9a4a00; --name: #0a58a8;
  --jp-ui-font-color1: var(--ink); --jp-layout-color1: var(--ground);
}
@media (prefers-color-scheme: dark) { :root {
  --ink: #dde1e6; --ground: #16181c; --soft: #22262c; --line: #454b54; --dim: #a3abb5; --link: #7ab8f5;
  --keyword: #d9a0d6; --text: #85d0ad; --number: #eab07a; --name: #7ab8f5;
} }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 0 1rem 3rem; max-width: 63rem; color: var(--ink); background: var(--ground);
  font: 1.0625rem/1.6 system-ui, sans-serif; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
header { padding: .75rem 0; border-bottom: 1px solid var(--line); }
header p { margin: 0; max-width: 44rem; }
.note, header { color: var(--dim); font-size: .9375rem; }
h1, h2, h3, p, ul, ol { max-width: 44rem; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.25; margin: 2.25rem 0 .75rem; }
h1 { font-size: 2rem; } h2 { font-size: 1.5rem; } h3 { font-size: 1.2rem; } h3 code { font-size: 1.1rem; }
li { margin: .25rem 0; }
.anchor-link { margin-left: .4em; color: var(--dim); text-decoration: none; opacity: 0; }
:is(h1, h2, h3):hover .anchor-link, .anchor-link:focus { opacity: 1; }
pre, code { font-family: ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; font-size: .875rem; }
pre { margin: 0; padding: .6rem .8rem; line-height: 1.45; overflow-x: auto; }
:not(pre) > code { padding: .1em .3em; border-radius: 3px; background: var(--soft); overflow-wrap: break-word; }
.code_cell { margin: 1.25rem 0; }
.highlight pre { background: var(--soft); border-left: 3px solid var(--name); border-radius: 3px; }
.output_text pre { border-left: 3px solid var(--line); margin-top: .4rem; }
.output_html { margin: .75rem 0; overflow-x: auto; }
.output_html img { display: block; height: auto; max-width: max(100%, 38rem) !important; border-radius: 3px; }
.formula { display: block; overflow-x: auto; overflow-y: hidden; padding: .25rem 0; }
math { font: 1.15em "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
:is(main, .text_cell_render) > table { border-collapse: collapse; display: block; overflow-x: auto; }
:is(main, .text_cell_render) > table :is(th, td) { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; }
body > nav { display: flex; flex-wrap: wrap; gap: .5rem 2rem; justify-content: space-between; margin-top: 3rem;
  padding-top: 1rem; border-top: 1px solid var(--line); }
.highlight span[class^="k"], .highlight .ow { color: var(--keyword); }
.highlight span[class^="s"] { color: var(--text); }
.highlight span[class^="m"] { color: var(--number); }
.highlight span[class^="c"] { color: var(--dim); font-style: italic; }
.highlight :is(.nb, .nf, .nc, .nd) { color: var(--name); }
@media print { body > nav, .anchor-link { display: none; } pre { white-space: pre-wrap; } }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
_LESSON = """<header><p><a href="index.html">The course</a> · {title}. This page shows what its notebook prints.
To run its cells, to guess and to solve its exercises, open <code>notebooks/{stem}.ipynb</code> in JupyterLab.</p>
</header>
<main>
{cells}
</main>
<nav aria-label="Neighbours in the course">{neighbours}</nav>"""
_INDEX = """<main>
<h1>How SSD really works</h1>
<p>The notebooks of the course as pages to read: one question each, with figures, and with explorers that work without
Python. To run the cells, to guess and to solve the exercises, open the notebooks in JupyterLab.</p>
<table><thead><tr><th scope="col">Notebook</th><th scope="col">Question</th></tr></thead>
<tbody>
{rows}
</tbody></table>
</main>"""
_ABSENT = "<p class=note>In the running notebook there is an explorer here: <code>{text}</code></p>"


class Lesson(NamedTuple):
    """A notebook as the index names it; question is empty where the notebook asks none."""

    path: Path
    title: str
    question: str

    @property
    def address(self) -> str:
        """Its page, seen from the others."""
        return f"{self.path.stem}.html"


class _Renderer(IPythonRenderer):
    """Markdown as HTML that needs nothing beside it: formulas in MathML, links to pages that there are."""

    pages: frozenset[str] = frozenset()

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return f'<span class="formula">{convert(body, display="block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        address = _address(url, self.pages)
        return super().link(text, address, title) if address else text

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        anchored = super().heading(text, level, **attrs)
        return anchored.replace(
            'class="anchor-link"', 'class="anchor-link" aria-label="Link to this heading"'
        )


def _address(url: str, pages: frozenset[str]) -> str:
    """Where a link of a notebook leads on its page: a notebook's page, the web, or "" for a file of the clone."""
    if re.match(r"(https?:|mailto:|#)", url):
        return url
    name, hash_sign, anchor = url.partition("#")
    page = re.sub(r"^(\./)?(\w+)\.ipynb$", r"\2.html", name)
    return page + hash_sign + anchor if page in pages else ""


def build(paths: Sequence[Path], folder: Path, execute: bool = True) -> list[Path]:
    """Make the pages of these notebooks in a folder, and the index of all notebooks beside them; returns the files.

    execute=False shows the outputs as they are stored, and names explorers instead of showing them. A link to a
    notebook that has no page, from now or from before, becomes text. Raises what a cell raises, with
    the notebook's name.
    """
    beside = {p for path in paths for p in path.parent.glob("*.ipynb")}
    course = [_lesson(path) for path in sorted(beside, key=lambda p: p.name)]
    made = {path.stem for path in paths}
    pages = frozenset(k.address for k in course if k.path.stem in made or (folder / k.address).exists())
    chosen, written = [k for k in course if k.path.stem in made], []
    for lesson in (bar := tqdm(chosen, desc="pages", unit="notebook")):
        bar.set_postfix_str(lesson.path.stem)
        notebook = _executed(lesson.path) if execute else _read(lesson.path)
        written.append(folder / lesson.address)
        write_atomically(written[-1], notebook_page(notebook, lesson, course, pages).encode())
    write_atomically(folder / "index.html", index_page(course, pages).encode())
    return [*written, folder / "index.html"]


def notebook_page(notebook: Any, lesson: Lesson, course: Sequence[Lesson], pages: frozenset[str]) -> str:
    """HTML of one notebook with its widget state, if it has any; changes it. pages: addresses there are."""
    states = notebook.metadata.pop("widgets", {}).get(_STATE, {}).get("state", {})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for output in cell.outputs for o in _without_kernel(output, states)]
    stem, title = lesson.path.stem, html.escape(lesson.title)
    cells, neighbours = _cells(notebook, lesson.path.parent, pages), _neighbours(lesson, course, pages)
    body = _LESSON.format(title=title, stem=stem, cells=cells, neighbours=neighbours)
    return _PAGE.format(title=title, style=_STYLE, body=body)


def index_page(course: Iterable[Lesson], pages: frozenset[str]) -> str:
    """HTML of the table of the course: title, linked where there is a page, and question."""
    rows = "\n".join(
        f"<tr><td>{_link(lesson, pages)}</td><td>{html.escape(lesson.question)}</td></tr>"
        for lesson in course
    )
    return _PAGE.format(title="How SSD really works", style=_STYLE, body=_INDEX.format(rows=rows))


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def _executed(path: Path) -> Any:
    """The notebook as a fresh kernel in its folder leaves it, with the state of its widgets."""
    try:
        return run(_read(path), path.resolve().parent, _SECONDS_PER_CELL, widget_state=True)
    except CellExecutionError as error:
        error.add_note(f"in {path}")
        raise


def _lesson(path: Path) -> Lesson:
    text = "\n".join(c.source for c in _read(path).cells if c.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    question = re.search(r"\*\*(.+?\?)\*\*", text)
    return Lesson(path, title[1] if title else path.stem, question[1] if question else "")


def _without_kernel(output: Any, states: Mapping[str, Any]) -> list[Any]:
    """What a page shows for an output: an explorer that works by itself, no progress bar, all else unchanged."""
    view = output.get("data", {}).get(_VIEW)
    if view is None:
        return [output]
    text = html.escape(output.data.get("text/plain", "a widget"))
    if re.search(r"\d%\|", text):
        return []
    state = states.get(view["model_id"], {}).get("state", {})
    absent = _ABSENT.format(text=text)
    shown = f"{fragment(state)}\n<noscript>{absent}</noscript>" if "_esm" in state else absent
    return [nbformat.v4.new_output("display_data", {"text/html": shown})]


def _cells(notebook: Any, folder: Path, pages: frozenset[str]) -> str:
    """HTML of the cells: prose, code without prompts, outputs."""

    def prose(source: str) -> str:
        renderer = _Renderer(escape=False, embed_images=True, path=str(folder))
        renderer.pages = pages
        return MarkdownWithMath(renderer=renderer).render(source)

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        filters={"markdown2html": prose},
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],
    )
    return exporter.from_notebook_node(notebook)[0]


def _neighbours(lesson: Lesson, course: Sequence[Lesson], pages: frozenset[str]) -> str:
    """Links to the page before, the index and the page after."""
    there = [k for k in course if k.address in pages]
    at = there.index(lesson)
    before = [f"<span>previous: {_link(k, pages)}</span>" for k in there[max(at - 1, 0) : at]]
    after = [f"<span>next: {_link(k, pages)}</span>" for k in there[at + 1 : at + 2]]
    return "\n".join([*before, '<a href="index.html">The course</a>', *after])


def _link(lesson: Lesson, pages: frozenset[str]) -> str:
    title = html.escape(lesson.title)
    return f'<a href="{lesson.address}">{title}</a>' if lesson.address in pages else title


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ssdedu.course.pages", description="The course as HTML pages."
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: the whole course"
    )
    parser.add_argument("--out", type=Path, default=Path("site"), help="folder of the pages (default: site)")
    parser.add_argument(
        "--no-execute", action="store_true", help="show stored outputs; explorers are only named"
    )
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted(_COURSE.glob("*.ipynb"))
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        parser.error(f"no such notebook: {', '.join(missing) or _COURSE / '*.ipynb'}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"open {build(paths, options.out, execute=not options.no_execute)[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
