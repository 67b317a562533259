"""The course as pages: whole, offline, linked, and with explorers that answer to the keyboard."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from lab_page import Watch, contrast, until
from nbclient.exceptions import CellExecutionError

from ssdedu.course import pages

pytest_plugins = ["lab"]
ROOT = Path(__file__).parents[1]
LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}

FIRST = """# 01 First & foremost

**What is it?** Next: [02 Second](02_second.ipynb), [its end](02_second.ipynb#Its-end), [03 Third](03_third.ipynb),
[boxes](../ssdedu/boxes.py), [the paper](https://arxiv.org/abs/1512.02325), [below](#A-figure).

The side $s < 1$, as the paper has it; `$HOME` and `$x$` are code.

$$s_k = \\frac{1}{2}$$

\\begin{align}a &= b\\end{align}"""
PREPARE = """import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm.auto import tqdm
from ssdedu.course import show
from ssdedu.detect import Detections
from ssdedu.sample import Sample
from ssdedu.widgets import ScoreExplorer

box = [[0, 0, 0.5, 0.5]]
scene = Sample(np.zeros((20, 30, 3), np.uint8), np.float32(box), np.array([1]), np.array([False]), "a")
found = Detections(torch.tensor([*box, [0.5, 0.5, 1, 1]]), torch.tensor([0.9, 0.55]), torch.tensor([1, 1]))
first, second = (ScoreExplorer(scene, found, ["cat"], t) for t in (0.5, 0.2))"""
FIGURE = """show(plt.figure(figsize=(2, 1)), alt="An <empty> figure.", facts={"lines": 0})
print("printed", flush=True)
print("after it <b>")"""
CODE = (PREPARE, FIGURE, "first", "for _ in tqdm(range(2)): pass\nsecond", "second.threshold = 0.7")


def write(path, *cells):
    """A notebook of Markdown cells (they begin with #) and code cells."""
    make = {True: nbformat.v4.new_markdown_cell, False: nbformat.v4.new_code_cell}
    nbformat.write(nbformat.v4.new_notebook(cells=[make[c.startswith("#")](c) for c in cells]), path)
    return path


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Three notebooks."""
    folder = tmp_path_factory.mktemp("notebooks")
    write(folder / "01_first.ipynb", FIRST, "## A figure", *CODE)
    write(folder / "02_second.ipynb", "# 02 Second\n\n[back](01_first.ipynb)", "x = 1\nx", "## Its end")
    write(folder / "03_third.ipynb", "# 03 Third\n\n**Why?**", "1 / 0")
    return folder


@pytest.fixture(scope="module")
def site(course, tmp_path_factory):
    """Pages of the first two."""
    before = {path: path.read_bytes() for path in course.iterdir()}
    folder = tmp_path_factory.mktemp("site")
    made = pages.build([course / "01_first.ipynb", course / "02_second.ipynb"], folder)
    assert made == [folder / f"{stem}.html" for stem in ("01_first", "02_second", "index")]
    assert sorted(folder.iterdir()) == sorted(made)
    assert {path: path.read_bytes() for path in course.iterdir()} == before
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Pages of the notebooks as they are committed, not run."""
    folder = tmp_path_factory.mktemp("stored")
    pages.build(sorted((ROOT / "notebooks").glob("*.ipynb")), folder, execute=False)
    return folder


class Read(HTMLParser):
    """A page's tags with their attributes, and its text by the tag that it stands in."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text.append((tuple(self.open), data))

    def values(self, tag, name):
        return [attrs[name] for t, attrs in self.tags if t == tag and name in attrs]

    def blocks(self):
        """What cells put out as text."""
        return [d for opened, d in self.text if opened[-1:] == ("pre",) and d.strip()]

    def words(self, *inside, outside=()):
        chosen = [d for o, d in self.text if set(inside) <= set(o) and not set(outside) & set(o)]
        return " ".join("".join(chosen).split())


def loaded_from_elsewhere(path):
    """Addresses that a page loads and that are not in it."""
    page = Read(path)
    asked = [attrs.get(LOADING[tag], "data:") for tag, attrs in page.tags if tag in LOADING]
    asked += re.findall(r"@import[^;]*|url\((?!data:)[^)]*", page.words("style"))
    return [address for address in asked if not address.startswith("data:")]


def dead_links(folder):
    """Links of all pages in a folder that lead to no page or to no place in it."""
    read = {path.name: Read(path) for path in folder.glob("*.html")}
    places = {n: {"", *(a["id"] for _, a in page.tags if "id" in a)} for n, page in read.items()}
    for name, page in read.items():
        for link in page.values("a", "href"):
            parts = urlsplit(link)
            tried = {parts.fragment, unquote(parts.fragment)}  # as a browser does
            if not parts.scheme and not tried & places.get(parts.path or name, set()):
                yield f"{name}: {link}"


# One page


def test_a_page_holds_all_that_it_loads(site, stored):
    assert {p: loaded_from_elsewhere(p) for f in (site, stored) for p in f.iterdir()} == {
        p: [] for f in (site, stored) for p in f.iterdir()
    }


def test_what_would_be_loaded_is_seen(tmp_path):
    page = tmp_path / "a.html"
    page.write_text(
        '<style>@import "b.css"; p { background: url(c.png) }</style><script src="https://d"></script>'
        '<link rel="icon" href="data:,"><img src="e.png"><img src="data:f">'
    )
    assert loaded_from_elsewhere(page) == ["https://d", "e.png", '@import "b.css"', "url(c.png"]


def test_language_title_headings_and_their_anchors(site):
    page = Read(site / "01_first.html")
    assert page.values("html", "lang") == ["en"]
    assert page.words("title") == "01 First & foremost"
    assert [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)] == ["h1", "h2"]
    assert page.values("h2", "id") == ["A-figure"]
    assert "#A-figure" in page.values("a", "href")
    assert "In [" not in page.words()


def test_formulas_become_mathml_and_code_stays(site):
    page = Read(site / "01_first.html")
    assert [attrs["display"] for tag, attrs in page.tags if tag == "math"] == ["inline", "block", "block"]
    assert page.words("math", "mfrac") == "12"
    assert page.words("math").startswith("s<1")
    assert "$HOME$x$" in page.words("p", "code")
    assert not re.search(r"[$\\]", page.words(outside=("code", "script", "style")))


def test_links_lead_to_pages_and_else_are_text(site):
    page = Read(site / "01_first.html")
    assert Counter(page.values("a", "href")) == {
        "index.html": 2,
        "02_second.html": 2,  # in the text and below it
        "02_second.html#Its-end": 1,
        "https://arxiv.org/abs/1512.02325": 1,
        "#A-figure": 2,
        "#01-First-&-foremost": 1,
    }
    assert "its end, 03 Third, boxes, the paper" in page.words("p")
    assert list(dead_links(site)) == []


def test_dead_links_are_seen(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h2 id="b">b</h2><a href="#b">b</a><a href="#c">c</a><a href="d.html">d</a>'
    )
    (tmp_path / "e.html").write_text(
        '<a href="a.html#b">b</a><a href="a.html#f">f</a><a href="https://x.y">x</a>'
    )
    assert sorted(dead_links(tmp_path)) == ["a.html: #c", "a.html: d.html", "e.html: a.html#f"]


@pytest.mark.parametrize(
    ("url", "address"),
    {
        "02_b.ipynb": "02_b.html",
        "./02_b.ipynb#Place": "02_b.html#Place",
        "#Place": "#Place",
        "http://a.org/02_b.ipynb": "http://a.org/02_b.ipynb",
        "mailto:a@b.org": "mailto:a@b.org",
        "03_c.ipynb": "",
        "../02_b.ipynb": "",
        "../ssdedu/boxes.py": "",
        "README.md#Start": "",
        "javascript:alert(1)": "",
    }.items(),
)
def test_where_a_link_leads(url, address):
    assert pages._address(url, frozenset({"02_b.html"})) == address


def test_figures_and_prints_come_as_they_are_and_progress_does_not(site):
    page = Read(site / "01_first.html")
    assert page.values("img", "alt") == ["An <empty> figure."]
    assert page.values("img", "src")[0].startswith("data:image/png;base64,")
    assert [d for d in page.blocks() if "printed" in d] == [
        "lines: 0\nprinted\nafter it <b>\n"
    ]  # several writes are one block
    assert "%|" not in (site / "01_first.html").read_text()
    assert Read(site / "02_second.html").blocks() == ["1"]


def test_each_explorer_stands_there_once_with_its_last_state(site):
    page = Read(site / "01_first.html")
    assert [a["class"] for t, a in page.tags if t == "div" and "aria-busy" in a] == ["ssdedu-static"] * 2
    assert len([t for t, a in page.tags if t == "script"]) == 2
    assert page.words("noscript").count("ScoreExplorer: 2 detections, 1 objects") == 2
    assert "aria-busy" not in (site / "02_second.html").read_text()


# Several pages


def test_the_index_has_every_notebook_and_links_those_with_a_page(site):
    page = Read(site / "index.html")
    assert page.words("td") == "01 First & foremostWhat is it?02 Second03 ThirdWhy?"
    assert page.values("a", "href") == ["01_first.html", "02_second.html"]
    assert page.words("nav") == ""


def test_neighbours_are_the_pages_there_are(site):
    assert Read(site / "01_first.html").words("nav") == "The course next: 02 Second"
    assert Read(site / "02_second.html").words("nav") == "previous: 01 First & foremost The course"


def test_a_later_page_is_linked_with_those_from_before(course, tmp_path):
    pages.build([course / "01_first.ipynb"], tmp_path, execute=False)
    assert "02_second.html" not in Read(tmp_path / "01_first.html").values("a", "href")
    pages.build([course / "02_second.ipynb"], tmp_path, execute=False)
    assert Read(tmp_path / "02_second.html").values("a", "href").count("01_first.html") == 2
    assert Read(tmp_path / "index.html").values("a", "href") == ["01_first.html", "02_second.html"]
    assert list(dead_links(tmp_path)) == []


def test_a_cell_that_fails_names_the_notebook_and_leaves_the_page(course, tmp_path):
    (tmp_path / "03_third.html").write_text("old")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError") as failed:
        pages.build([course / "03_third.ipynb"], tmp_path)
    assert failed.value.__notes__ == [f"in {course / '03_third.ipynb'}"]
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_the_command(course, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pages, "_executed", lambda path: pytest.fail("was run"))
    folder = tmp_path / "new" / "site"
    assert pages.main([str(course / "02_second.ipynb"), "--no-execute", "--out", str(folder)]) == 0
    assert capsys.readouterr().out == f"open {folder / 'index.html'}\n"
    assert sorted(p.name for p in folder.iterdir()) == ["02_second.html", "index.html"]
    with pytest.raises(SystemExit) as stop:
        pages.main([str(course / "04_fourth.ipynb")])
    assert stop.value.code == 2
    assert "04_fourth.ipynb" in capsys.readouterr().err


# The course as it is committed


def test_every_notebook_has_its_page_and_no_link_is_dead(stored):
    stems = [p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert sorted(p.stem for p in stored.iterdir()) == [*stems, "index"]
    index = Read(stored / "index.html")
    assert index.values("a", "href") == [f"{stem}.html" for stem in stems]
    assert list(dead_links(stored)) == []
    for stem in stems:
        ids = [attrs["id"] for _, attrs in Read(stored / f"{stem}.html").tags if "id" in attrs]
        assert len(ids) == len(set(ids)), stem


def test_every_formula_of_the_course_is_mathml(stored):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(re.sub(r"`[^`]*`", "", c.source) for c in cells if c.cell_type == "markdown")
        written = re.findall(r"\$\$.+?\$\$|\$.+?\$", prose, re.DOTALL)
        page = Read(stored / f"{path.stem}.html")
        assert len([tag for tag, _ in page.tags if tag == "math"]) == len(written)
        assert "$" not in page.words("p", outside=("code",))


def test_a_page_of_stored_outputs_names_its_explorers(stored):
    notebook = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    data = [o.get("data", {}) for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    named = [d["text/plain"] for d in data if pages._VIEW in d]
    page = Read(stored / "00_start_here.html")
    assert named
    assert all(text in page.words("p", "code") for text in named)
    assert page.words("p").count("there is an explorer here") == len(named)
    assert "%|" not in Read(stored / "11_training.html").words("main", outside=("script",))


# To look at


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_ink_is_legible_on_every_ground(theme):
    palette = pages._STYLE.split("@media (prefers-color-scheme: dark)")[theme]
    colors = {n: bytes.fromhex(v) for n, v in re.findall(r"--(\w+): #(\w{6})", palette)}
    grounds = [colors.pop("ground"), colors.pop("soft")]
    del colors["line"]
    assert len(colors) == 7
    assert {n: v for n, v in colors.items() for g in grounds if contrast(v, g) < 4.5} == {}


def explorers_of(browser, path, **settings):
    """The page of a file, opened, with its explorers and a watch over it."""
    context = browser.new_context(**settings)
    watch, page = Watch(context), context.new_page()
    page.goto(path.as_uri())
    explorers = page.locator(".ssdedu-explorer")
    until(explorers.count, 2)
    return page, explorers, watch


@pytest.mark.browser
def test_explorers_of_a_file_answer_to_keys_without_a_network(site, chromium):
    page, explorers, watch = explorers_of(chromium, site / "01_first.html", offline=True)
    said = [explorers.nth(i).locator("output") for i in (0, 1)]
    until(
        lambda: [s.inner_text() for s in said],
        [
            "Above 0.50: 2 boxes, 1 correct, 1 wrong; 0 objects missed.",
            "Above 0.70: 1 boxes, 1 correct, 0 wrong; 0 objects missed.",
        ],
    )
    slider = explorers.nth(0).get_by_role("slider")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    until(said[0].inner_text, "Above 0.60: 1 boxes, 1 correct, 0 wrong; 0 objects missed.")
    assert said[1].inner_text().startswith("Above 0.70")
    assert {urlsplit(a).scheme for a in watch.addresses} <= {"file", "blob", "data"}
    assert watch.errors == []
    page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_narrow_screen_scrolls_down_only(site, chromium, theme):
    settings = {"viewport": {"width": 400, "height": 800}, "color_scheme": theme}
    page, explorers, _ = explorers_of(chromium, site / "01_first.html", **settings)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    ground = "(e) => getComputedStyle(e).backgroundColor"
    colors = [page.locator("body").evaluate(ground), explorers.nth(0).evaluate(ground)]
    assert colors == [{"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[theme]] * 2
    page.context.close()
