"""The explorers in JupyterLab and Chromium: drawn, in step with the kernel, usable by keyboard, legible."""

import json
import re
from typing import NamedTuple

import pytest
from lab_page import DARK, LIGHT, ROOT, Watch, changed, contrast, number, until

pytest_plugins = ["lab"]
pytestmark = pytest.mark.browser


class Case(NamedTuple):
    """An explorer, its notebook, and one slider of it that is a trait."""

    explorer: str
    notebook: str
    slider: str
    trait: str


CASES = [
    Case("ScoreExplorer", "00_start_here", "Show detections with a score above", "threshold"),
    Case("ReceptiveFieldExplorer", "01_receptive_fields", "Dilation of fc6", "dilation"),
    Case("PriorBoxExplorer", "02_default_boxes", "Matching threshold", "threshold"),
    Case("PriorBoxExplorer", "03_matching", "Matching threshold", "threshold"),
    Case("CropExplorer", "08_augmentation", "Trial", "trial"),
    Case("NmsExplorer", "09_detection", "IoU threshold", "iou_threshold"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case.explorer}-{case.notebook[:2]}")
def case(request):
    return request.param


@pytest.fixture
def explorer(case, notebooks):
    """The explorer of a case as its notebook shows it; the slider is put back after the test."""
    made = notebooks.open(case.notebook).explorer(case.explorer)
    slider = made.slider(case.slider)
    value, position = made.value(case.trait), number(slider)
    yield made
    made.assign(case.trait, value)
    until(lambda: number(slider), position)


@pytest.fixture
def slider(explorer, case):
    return explorer.slider(case.slider)


def step_of(slider):
    return float(slider.get_attribute("step"))


# One explorer: notebook 00, as the first of the cases, so that it is run once


def colors():
    """The colours of the page's side, as its source has them."""
    line = re.search(r"COLORS = (\[.*\]);", (ROOT / "ssdedu" / "widgets" / "base.js").read_text())
    return json.loads(line[1])


def left_edge(box, size):
    """Points along the left edge of a box in fractions, on a canvas of this size."""
    (x1, y1, _, y2), (width, height) = box, size
    return [(x1 * width, (y1 + (y2 - y1) * i / 50) * height) for i in range(5, 46)]


def test_the_score_explorer_draws_boxes_above_the_threshold_only(notebooks):
    explorer = notebooks.open("00_start_here").explorer("ScoreExplorer")
    best, second = explorer.value("detections")[:2]
    points, color = left_edge(best["box"], (480, 480)), colors()[best["kind"]]
    assert second["score"] < 0.95 < best["score"]
    for threshold, shown in (("0.95", 1), ("1", 0)):
        explorer.slider("Show detections").fill(threshold)
        assert f": {shown} boxes, {shown} correct, 0 wrong" in explorer.said()
        assert (explorer.pixels(points).count(color) > 20) == bool(shown)


def test_the_score_explorer_says_what_the_kernel_counts(notebooks):
    explorer = notebooks.open("00_start_here").explorer("ScoreExplorer")
    for threshold in (0.1, 0.3, 0.62):
        explorer.assign("threshold", threshold)
        shown, correct, wrong, missed = explorer.value("counts()")
        words = f"{shown} boxes, {correct} correct, {wrong} wrong; {missed} objects missed."
        until(explorer.said, f"Above {threshold:.2f}: {words}")


# The harness sees what it is to see


def test_the_same_keys_delete_a_cell_from_a_control_that_lets_them_pass(notebooks):
    notebook = notebooks.open("00_start_here")
    cells = notebook.cells()
    notebook.page.evaluate(
        """() => {
          const button = document.createElement("button");
          jupyterapp.shell.currentWidget.content.widgets[0].node.append(button);
          button.focus();
        }"""
    )
    notebook.page.keyboard.type("dd")
    until(notebook.cells, cells - 1)
    notebook.command("notebook:undo-cell-action")
    until(notebook.cells, cells)


def test_errors_and_addresses_outside_are_seen(chromium, lab):
    context = chromium.new_context()
    watch, page = Watch(context), context.new_page()
    page.goto(f"{lab}/api/status")
    assert (watch.addresses, watch.outside(), watch.errors) == ([f"{lab}/api/status"], [], [])
    page.goto("about:blank")
    page.evaluate("fetch('https://cdn.invalid/a.js').catch(() => console.error('not there'))")
    page.evaluate(
        "new Promise((end) => (new WebSocket('ws://socket.invalid/').onclose = end)).then(() => null)"
    )
    page.evaluate("new Promise((end) => { setTimeout(end, 1); queueMicrotask(() => missing()); })")
    assert watch.outside() == ["https://cdn.invalid/a.js", "ws://socket.invalid/"]
    for error in ("ERR_NAME_NOT_RESOLVED", "not there", "missing is not defined"):
        assert any(error in text for text in watch.errors)
    context.close()


def test_python_gives_what_is_printed_or_the_exception(notebooks):
    notebook = notebooks.open("00_start_here")
    assert notebook.python("print(6 * 7)") == "42\n"
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebook.python("1 / 0")


@pytest.mark.parametrize(("gray", "ratio"), [(0, 21), (118, 4.54), (119, 4.48), (255, 1)])
def test_contrast_with_white_as_published(gray, ratio):
    assert contrast([gray] * 3, [255] * 3) == pytest.approx(ratio, abs=0.005)


# Every explorer


def test_the_slider_changes_drawing_sentence_and_trait(explorer, slider, case):
    slider.press("Home")
    low = until(lambda: explorer.value(case.trait), number(slider))
    with changed(explorer.drawing), changed(explorer.said):
        slider.press("End")
    assert number(slider) > low
    until(lambda: explorer.value(case.trait), number(slider))


def test_arrow_keys_move_by_one_step(explorer, slider, case):
    for key, sign in {"ArrowRight": 1, "ArrowLeft": -1, "ArrowUp": 1, "ArrowDown": -1}.items():
        before = number(slider)
        slider.press(key)
        assert number(slider) == pytest.approx(before + sign * step_of(slider))
        until(lambda: explorer.value(case.trait), number(slider))


def test_the_kernel_moves_the_slider(explorer, slider, case):
    value, by = explorer.value(case.trait), 3 * step_of(slider)
    new = type(value)(value + by if value + by <= float(slider.get_attribute("max")) else value - by)
    with changed(explorer.said), changed(lambda: number(slider)):
        explorer.assign(case.trait, new)
    assert number(slider) == pytest.approx(new)
    assert explorer.value(case.trait) == new


def test_shortcuts_of_the_notebook_leave_the_slider_alone(explorer, slider, case):
    cells = explorer.notebook.cells()
    for key in ("d", "d", "x", "a", "b", "ArrowRight"):
        slider.press(key)
    until(lambda: explorer.value(case.trait), number(slider))
    assert explorer.notebook.cells() == cells


def test_text_is_legible_in_both_themes(explorer, case):
    inks = []
    for theme in (DARK, LIGHT):
        explorer.notebook.theme(theme)
        texts = explorer.texts()
        explorer.screenshot(f"{case.explorer}_{case.notebook[:2]}_{theme.split()[-1].lower()}")
        assert {text: colors for text, *colors in texts if contrast(*colors) < 4.5} == {}
        inks += [ink for text, ink, _ in texts if text == case.slider]
    dark, light = inks
    assert sum(dark[:3]) > sum(light[:3])


def test_no_error_and_nothing_asked_of_another_machine(explorer):
    watch = explorer.notebook.watch
    assert {a.partition(":")[0] for a in watch.addresses} >= {"http", "ws"}
    assert watch.outside() == []
    assert watch.errors == []
