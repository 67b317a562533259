"""What the explorers share: the bundle, colours that can be read, pages without a kernel."""

import re
import subprocess

import pytest
from lab_page import contrast
from node import needs_node, run_node

from ssdedu import widgets
from ssdedu.widgets import base
from ssdedu.widgets.page import fragment, page

MODULES = sorted(p.name for p in base._HERE.glob("*.js"))


@needs_node
@pytest.mark.parametrize("name", MODULES)
def test_every_bundle_is_one_module_that_runs(name, tmp_path):
    """No import is left, no top-level name occurs twice, and everything used is defined."""
    text = base.bundle(name)
    assert not re.search(r"^import\b", text, re.MULTILINE)
    (tmp_path / "bundle.mjs").write_text(text)
    done = subprocess.run(["node", tmp_path / "bundle.mjs"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_neighbour_comes_once_and_before_its_user(tmp_path, monkeypatch):
    (tmp_path / "a.js").write_text("export const one = 1;\n")
    (tmp_path / "b.js").write_text('import { one } from "./a.js";\nexport const two = one + one;\n')
    (tmp_path / "c.js").write_text(
        'import {\n  one,\n} from "./a.js";\nimport { two } from "./b.js";\nexport const three = one + two;\n'
    )
    (tmp_path / "d.js").write_text('import thing from "elsewhere";\n')
    monkeypatch.setattr(base, "_HERE", tmp_path)
    assert base.bundle("c.js").split("\n\n") == [
        "const one = 1;",
        "const two = one + one;",
        "export const three = one + two;\n",
    ]
    with pytest.raises(ValueError, match=r"d\.js: only imports"):
        base.bundle("d.js")


@needs_node
def test_text_on_a_plate_can_be_read(tmp_path):
    inks = run_node(tmp_path, "base.js", "m.COLORS.map((c) => [c, m.inkOn(c)])")
    assert len(inks) >= 7
    for color, ink in inks:
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        chosen, other = (contrast(rgb, [v] * 3) for v in ((0, 255) if ink == "black" else (255, 0)))
        assert chosen >= max(4.5, other)
    assert run_node(tmp_path, "base.js", 'm.inkOn("white")') == "black"


def test_every_explorer_is_exported_and_has_a_docstring():
    for name in widgets.__all__:
        explorer = getattr(widgets, name)
        assert issubclass(explorer, base.Explorer)
        assert explorer.__doc__
    with pytest.raises(AttributeError, match="Nothing"):
        widgets.Nothing  # noqa: B018


def test_a_page_holds_its_state_and_asks_for_nothing():
    state = {
        "_esm": "export default {}",
        "_css": "p { color: red; }",
        "x": "</script><b>",
        "_model_name": "m",
    }
    text = page("a < b", [state, state])
    assert text.count('<div class="ssdedu-static"') == 2
    assert "<title>a &lt; b</title>" in text
    assert "</script><b>" not in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "_model_name" not in fragment(state)
