"""What every notebook must have, and proofs that these checks and the nbval run bite."""

import ast
import functools
import importlib
import json
import os
import pkgutil
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nbformat
import pytest

import ssdedu
from ssdedu.course.execute import execute
from ssdedu.course.exercises import registry

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PRINTING = re.compile(r"^\s*(print|show|predict|reveal|check|hint|display)\(", re.MULTILINE)
IMAGE = re.compile(r"<img\b[^>]*>")
ALT = re.compile(r'\balt="([^"]+)"')
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
HERE = re.compile(r"/(?:home|root|tmp|work|Users|usr|opt|content)/|site-packages|[A-Z]:\\\\")
PROSE_NUMBER = re.compile(r"(?<![\w./])(?:\d{1,3}(?:,\d{3})+|\d*\.?\d+)(?![\w.]*\w)")
CITED = re.compile(
    r"\b(?:Sec|Eq|Fig|Table|notebook|notebooks)\.? \d[\d.]*(?:(?:, | and )\d[\d.]*)*", re.IGNORECASE
)
HEADINGS = ("The result first", "What goes wrong in practice", "In the paper", "Where next")


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def lines(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


def python(cell):
    """The cell as plain Python, its magics transformed."""
    from IPython.core.inputtransformer2 import TransformerManager

    return ast.parse(TransformerManager().transform_cell(cell.source))


def calls(notebook, function):
    """First argument of every call of a course function, in order."""
    nodes = [n for c in code_cells(notebook) for n in ast.walk(python(c)) if isinstance(n, ast.Call)]
    found = [n.args[0] for n in nodes if isinstance(n.func, ast.Name) and n.func.id == function and n.args]
    return [a.value for a in found if isinstance(a, ast.Constant)]


def printed(notebook):
    return "\n".join(o.text for c in code_cells(notebook) for o in c.outputs if o.output_type == "stream")


def images(notebook):
    outputs = [o for c in code_cells(notebook) for o in c.outputs if "data" in o]
    return [tag for o in outputs for tag in IMAGE.findall(o.data.get("text/html", ""))]


# The checks: each takes a notebook and its path and returns what is wrong.


def size_problems(notebook, path):
    cells = code_cells(notebook)
    words, kilobytes = len(prose(notebook).split()), path.stat().st_size / 1000
    counts = [len(lines(c)) for c in cells]
    yield from (f"cell {c.id} has {n} lines" for c, n in zip(cells, counts, strict=True) if n > 25)
    if statistics.median(counts) >= 7:
        yield f"median cell has {statistics.median(counts)} lines"
    if sum("Explorer(" not in c.source for c in cells) > 25:
        yield f"{len(cells)} code cells"
    if words > 1500:
        yield f"{words} words"
    if kilobytes > 200:
        yield f"{kilobytes:.0f} KB"


def output_problems(notebook, path):
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != number:
            yield f"cell {cell.id} was not run in order in a fresh kernel"
        if PRINTING.search(cell.source) and not cell.outputs:
            yield f"cell {cell.id} prints, but has no output"
        for out in cell.outputs:
            if out.output_type == "error" or out.get("name") == "stderr":
                yield f"cell {cell.id} has an error or warning in its output"
            if HERE.search(json.dumps(out)):
                yield f"cell {cell.id} shows a path of the machine it ran on"
        if re.search(r"NBVAL_|raises-exception|nbval-", json.dumps([cell.source, cell.metadata])):
            yield f"cell {cell.id} is marked to escape nbval"
    if "widgets" in notebook.metadata:
        yield "widget state is stored"
    if re.search(r"^\w+: (passed|wrong)", printed(notebook), re.MULTILINE):
        yield "an exercise is solved in the notebook"


def image_problems(notebook, path):
    raw = [
        m
        for c in code_cells(notebook)
        for o in c.outputs
        for m in o.get("data", {})
        if m.startswith("image/")
    ]
    if raw:
        yield f"an image without alternative text: {raw[0]}; use show"
    yield from (f"an <img> without alt: {tag[:60]}" for tag in images(notebook) if not ALT.search(tag))
    yield from (
        f"no alt text: {target}" for bang, alt, target in LINK.findall(prose(notebook)) if bang and not alt
    )


def link_problems(notebook, path):
    titles = re.findall(r"^#+ (.+)$", prose(notebook), re.MULTILINE)
    anchors = {t.strip().replace(" ", "-") for t in titles}
    for _, _, target in LINK.findall(prose(notebook)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        if file and not (path.parent / file).exists():
            yield f"dead link {target}"
        if not file and anchor not in anchors:
            yield f"no heading for {target}"


def anatomy_problems(notebook, path):
    first = notebook.cells[0].source
    if not first.startswith(f"# {path.stem[:2]} ") or not re.search(r"\*\*.+\?\*\*", first):
        yield "the first cell needs the title with its number, and the question in bold"
    yield from (
        f"the first cell does not say: {w}" for w in ("You need", "You will predict", "CPU") if w not in first
    )
    headings = re.findall(r"^## (.+)$", prose(notebook), re.MULTILINE)
    yield from (f"section missing: {h}" for h in HEADINGS if h not in headings)
    if not any("<img" in json.dumps(c.outputs) for c in code_cells(notebook)[:3]):
        yield "no picture of the result at the start"
    if not re.search(r"\bSec\. \d", prose(notebook)):
        yield "no section of the paper is named"


def course_problems(notebook, path):
    predicted, revealed, checked = (calls(notebook, f) for f in ("predict", "reveal", "check"))
    if len(revealed) < 3 or predicted != revealed:
        yield f"three predictions, each revealed before the next, are wanted: {predicted} and {revealed}"
    exercises = [e.name for e in registry().values() if e.notebook == path.stem]
    if sorted(checked) != sorted(exercises) or not 2 <= len(checked) <= 4:
        yield f"two to four exercises, all in the register, are wanted: {checked} and {exercises}"


@functools.cache
def public_names():
    modules = [m.name for m in pkgutil.walk_packages(ssdedu.__path__, "ssdedu.") if "__main__" not in m.name]
    loaded = [importlib.import_module(name) for name in modules]
    return {name for module in loaded for name in getattr(module, "__all__", ())}


def definition_problems(notebook, path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {n.name for c in code_cells(notebook) for n in ast.walk(python(c)) if isinstance(n, kinds)}
    yield from (f"{name} is defined in the package already" for name in sorted(defined & public_names()))


def numbers_computed(notebook):
    """Every number that a cell prints or that is written in its code."""
    nodes = [n for c in code_cells(notebook) for n in ast.walk(python(c)) if isinstance(n, ast.Constant)]
    literals = {float(n.value) for n in nodes if isinstance(n.value, (int, float))}
    shown = re.findall(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+", printed(notebook))
    return literals | {float(text.replace(",", "")) for text in shown}


def prose_number_problems(notebook, path):
    """Numbers of the text and of the figures' alternative text that no cell computes; 0 to 9 are free."""
    text = CITED.sub("", re.sub(r"`[^`]*`|\]\([^)]*\)|\*\*\d+\*\*", "", prose(notebook)))
    text = re.sub(r"^#+ \d+ |^\d+\. |(?<=\[)\d\d (?=[A-Z])", "", text, flags=re.MULTILINE)
    text += "\n".join(alt for tag in images(notebook) for alt in ALT.findall(tag))
    known = numbers_computed(notebook)
    for written in PROSE_NUMBER.findall(text):
        value, decimals = float(written.replace(",", "")), len(written.partition(".")[2])
        free = "." not in written and value < 10
        if not free and not any(abs(value - k) <= 0.501 * 10**-decimals * (decimals > 0) for k in known):
            yield f"{written} in the text is computed by no cell"


CHECKS = (
    size_problems,
    output_problems,
    image_problems,
    link_problems,
    anatomy_problems,
    course_problems,
    definition_problems,
    prose_number_problems,
)


ORDER = (
    "00_start_here",
    "01_receptive_fields",
    "02_default_boxes",
    "03_matching",
    "04_encoding",
    "05_network",
    "06_loss",
    "07_hard_negative_mining",
    "08_augmentation",
    "09_detection",
    "10_evaluation",
    "11_training",
    "12_ablations",
    "13_error_analysis",
    "14_voc",
)
WITH_SOURCES = (
    "02_default_boxes",
    "03_matching",
    "07_hard_negative_mining",
    "08_augmentation",
    "10_evaluation",
)


def test_the_course_is_whole():
    assert tuple(p.stem for p in NOTEBOOKS) == ORDER
    exercises = registry().values()
    assert len(exercises) >= 40
    assert {e.notebook for e in exercises} == set(ORDER)
    assert sum(len(e.mutants) for e in exercises) >= 3 * len(exercises)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_first_cell_leads_to_the_neighbours(path):
    before, here, after = ("", *ORDER, "")[(i := ORDER.index(path.stem)) : i + 3]
    first = read(path).cells[0].source
    assert f"/blob/main/notebooks/{here}.ipynb" in first
    for word, name in (("previous", before), ("next", after)):
        assert bool(re.search(rf"{word}: \[{name[:2]} [^]]+\]\({name}\.ipynb\)", first)) == bool(name), word


@pytest.mark.parametrize("name", WITH_SOURCES)
def test_paper_original_code_ports_and_ours_stand_side_by_side(name):
    """One cell computes a row for each of them."""
    kinds = ("paper|kit's rules", "caffe|original", "port|ssd.pytorch|torchvision", "ours")
    outputs = [
        "".join(o.get("text", "") for o in c.outputs).lower()
        for c in code_cells(read(FOLDER / f"{name}.ipynb"))
    ]
    assert any(all(re.search(kind, text) for kind in kinds) for text in outputs)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, check):
    assert list(check(read(path), path)) == []


# The checks bite: each change of a copy is noticed


def text_changed(old, new, kind="markdown"):
    """A change of the first cell of a kind that holds `old`."""

    def change(notebook):
        cell = next(c for c in notebook.cells if c.cell_type == kind and old in c.source)
        cell.source = cell.source.replace(old, new)

    return change


def added(source, kind="code"):
    def change(notebook):
        make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}[kind]
        notebook.cells.append(make(source))

    return change


def outputs_stripped(notebook):
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None


def one_output_stripped(notebook):
    next(c for c in code_cells(notebook) if "reveal(" in c.source).outputs = []


def output_added(**fields):
    def change(notebook):
        code_cells(notebook)[0].outputs.append(nbformat.v4.new_output(**fields))

    return change


def alt_removed(notebook):
    output = next(o for c in code_cells(notebook) for o in c.outputs if "<img" in str(o.get("data")))
    output.data["text/html"] = ALT.sub('alt=""', output.data["text/html"])


def cells_doubled(notebook):
    notebook.cells += [nbformat.v4.new_code_cell(c.source) for c in code_cells(notebook)]


def blown_up(notebook):
    notebook.metadata["ballast"] = "x" * 200_000


BITES = {
    "a wrong number in the text": (prose_number_problems, text_changed("30, 60, 111", "30, 60, 113")),
    "a wrong decimal in the text": (prose_number_problems, text_changed("17.5", "17.6")),
    "all outputs stripped": (output_problems, outputs_stripped),
    "one output stripped": (output_problems, one_output_stripped),
    "an error": (output_problems, output_added(output_type="error", ename="E", evalue="e", traceback=[])),
    "a warning": (output_problems, output_added(output_type="stream", name="stderr", text="Warning")),
    "a path": (output_problems, output_added(output_type="stream", name="stdout", text="/home/me/x.py")),
    "nbval told to look away": (
        output_problems,
        text_changed("guess = None", "# NBVAL_SKIP\nguess = None", "code"),
    ),
    "a solved exercise": (
        output_problems,
        output_added(output_type="stream", name="stdout", text="reach: passed"),
    ),
    "no alt text": (image_problems, alt_removed),
    "a bare figure": (image_problems, output_added(output_type="display_data", data={"image/png": "iVBOR"})),
    "a dead link": (link_problems, added("[next](03_no_such_notebook.ipynb)", "markdown")),
    "a dead anchor": (link_problems, added("[up](#No-such-heading)", "markdown")),
    "a long cell": (size_problems, added("x = 1\n" * 26)),
    "many cells": (size_problems, cells_doubled),
    "many words": (size_problems, added("word " * 1500, "markdown")),
    "a large file": (size_problems, blown_up),
    "a section less": (anatomy_problems, text_changed("## In the paper", "## Elsewhere")),
    "no question": (anatomy_problems, text_changed("?**", "**")),
    "a prediction less": (course_problems, text_changed("predict(", "print(", "code")),
    "an exercise unknown": (course_problems, added('check("nothing", None)')),
    "a copied definition": (definition_problems, added("def scales(num_maps):\n    return []")),
}


@pytest.mark.parametrize("name", BITES)
def test_the_check_bites(name, tmp_path):
    check, change = BITES[name]
    source = FOLDER / "02_default_boxes.ipynb"
    notebook, path = read(source), tmp_path / source.name
    assert list(check(notebook, source)) == []
    change(notebook)
    nbformat.write(notebook, path)
    assert list(check(notebook, path)) != []


# nbval bites: one small notebook, each of its cells changed in one place after it was run

PREPARE = """import dataclasses
import numpy as np
from ssdedu import priors
from ssdedu.course import check, exercises, predict, reveal, show
from ssdedu.course.figures import default_boxes as figures
predict("total", "How many boxes?", None)"""
REVEAL = 'reveal("total", priors.SSD300_VOC.num_boxes)\nprint(f"share {5776 / 8732:.4f}")'
SHOW = """fig = figures.reach_map([10, 30], np.eye(2))
show(fig, "Two sizes are reached.", {"mean": np.eye(2).mean(), "sizes": 2})"""
CHECK = """def my_count(maps):
    return sum(r * c * (2 + 2 * len(a)) for r, c, a in maps)

check("count_boxes", my_count)"""
BREAK_CHECK = """known = exercises.registry()
known["count_boxes"] = dataclasses.replace(known["count_boxes"], check=lambda answer: "no")
"""


def stored(old, new):
    """A change of the stored outputs of a cell."""

    def change(cell):
        found = 0
        for output in cell.outputs:
            texts = output.get("data", output)
            for key in set(texts) & {"text", "text/plain", "text/html"}:
                found += old in texts[key]
                texts[key] = texts[key].replace(old, new)
        assert found, old

    return change


def cell_stripped(cell):
    cell.outputs, cell.execution_count = [], None


def check_broken(cell):
    cell.source = BREAK_CHECK + cell.source


RUNS = {
    "a float within the tolerance": (REVEAL, stored("0.6615", "0.6616"), True),
    "a float outside": (REVEAL, stored("0.6615", "0.6635"), False),
    "a whole number": (REVEAL, stored("8,732", "8,733"), False),
    "other pixels, the same facts": (SHOW, stored("base64,", "base64,AAAA"), True),
    "a figure's fact": (SHOW, stored("mean: 0.5", "mean: 0.6"), False),
    "a figure's alt text": (SHOW, stored("Two sizes", "No sizes"), False),
    "a word": (CHECK, stored("well done", "bad luck"), False),
    "no output stored": (CHECK, cell_stripped, False),
    "a broken check": (CHECK, check_broken, False),
}


@pytest.fixture(scope="module")
def nbval_results(tmp_path_factory):
    """Whether each cell of the small notebook, as it was run and changed, passes nbval under our conftest."""
    folder = tmp_path_factory.mktemp("nbval")
    sources = [PREPARE, *(source for source, _, _ in RUNS.values())]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, folder / "unchanged.ipynb")
    execute(folder / "unchanged.ipynb")
    notebook = read(folder / "unchanged.ipynb")
    for cell, (_, change, _) in zip(notebook.cells[1:], RUNS.values(), strict=True):
        change(cell)
    nbformat.write(notebook, folder / "changed.ipynb")
    return run_nbval(folder)


def run_nbval(folder, seconds=120.0):
    """Passed or not, by notebook and cell."""
    conftest = (FOLDER / "conftest.py").read_text().replace("SECONDS = 120.0", f"SECONDS = {seconds}")
    (folder / "conftest.py").write_text(conftest)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    options = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=60", "-p", "no:cacheprovider", "-q"]
    command = [sys.executable, "-m", "pytest", *options, "--junit-xml=result.xml", "."]
    subprocess.run(command, cwd=folder, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True)
    results = {}
    for case in ElementTree.parse(folder / "result.xml").iter("testcase"):
        where = re.search(r"(changed|unchanged)\.ipynb", str(case.attrib))[1]
        results[where, int(case.get("name").split()[-1])] = len(case) == 0
    return results


def test_nbval_passes_what_was_not_changed(nbval_results):
    untouched = [passed for (notebook, _), passed in nbval_results.items() if notebook == "unchanged"]
    assert untouched == [True] * (1 + len(RUNS))


@pytest.mark.parametrize("number", range(1, 1 + len(RUNS)), ids=list(RUNS))
def test_nbval_sees_a_change(number, nbval_results):
    *_, passes = list(RUNS.values())[number - 1]
    assert nbval_results["changed", number] == passes


def test_nbval_sees_a_notebook_that_takes_too_long(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("x = 1", "import time; time.sleep(1.5)", "x")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "unchanged.ipynb")
    execute(tmp_path / "unchanged.ipynb")
    assert list(run_nbval(tmp_path, seconds=60.0).values()) == [True, True, True]
    assert run_nbval(tmp_path, seconds=1.0)["unchanged", 1] is False


def test_execute_stores_outputs_without_times_or_machine(tmp_path):
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1 + 1)")]), path)
    execute(path)
    (cell,) = read(path).cells
    assert cell.outputs[0].text == "2\n"
    assert cell.metadata == {}
    assert set(read(path).metadata) == {"kernelspec", "language_info"}
