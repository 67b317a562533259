"""The explorers of notebooks 03, 08 and 10 in JupyterLab: what a hand does, the kernel knows and the page says."""

import pytest
from lab_page import DARK, LIGHT, changed, contrast, number, until

pytest_plugins = ["lab"]
pytestmark = pytest.mark.browser


def legible(explorer, name):
    """No text of less contrast than 4.5 in either theme; keeps a screenshot of each."""
    for theme in (DARK, LIGHT):
        explorer.notebook.theme(theme)
        explorer.screenshot(f"{name}_{theme.split()[-1].lower()}")
        assert {text: colors for text, *colors in explorer.texts() if contrast(*colors) < 4.5} == {}
    watch = explorer.notebook.watch
    assert (watch.outside(), watch.errors) == ([], [])


@pytest.fixture
def iou(notebooks):
    made = notebooks.open("03_matching").explorer("IouExplorer")
    before = {name: made.value(name) for name in ("a_px", "b_px")}
    yield made
    made.restore(before)
    until(lambda: {name: made.value(name) for name in before}, before)


def test_the_iou_explorer_says_what_the_kernel_computes(iou):
    a, cells = iou.value("a_px"), iou.notebook.cells()
    slider = iou.slider("Shift B right by")
    for shift in ("6", "12", "30"):
        with changed(iou.drawing):
            slider.fill(shift)
        b = until(lambda: iou.value("b_px"), lambda b, s=float(shift): b[0] - a[0] == pytest.approx(s))
        side = a[2] - a[0]
        assert iou.value("iou()") == pytest.approx((side - b[0] + a[0]) / (side + b[0] - a[0]))
        until(iou.said, lambda text: f"= {iou.value('iou()'):.4f}" in text)
    for key in ("d", "d", "x", "b"):
        slider.press(key)
    assert iou.notebook.cells() == cells


def test_the_iou_explorer_follows_hand_and_keys(iou):
    iou.control("button", "half a side").click()
    a, b = until(lambda: (iou.value("a_px"), iou.value("b_px")), lambda ab: ab[1][0] - ab[0][0] == 18)
    box, scale = iou.canvas().bounding_box(), iou.canvas().evaluate("(c) => parseFloat(c.style.maxWidth)")
    assert box["width"] > 100
    unit = scale / 100
    right = ((b[2] - 5) * unit, (b[1] + b[3]) / 2 * unit)
    iou.drag(right, (right[0], right[1] + 10 * unit))
    moved = until(lambda: iou.value("b_px"), lambda now: now[1] == pytest.approx(b[1] + 10, abs=1))
    assert moved[3] - moved[1] == pytest.approx(b[3] - b[1], abs=0.01)
    assert iou.value("a_px") == a
    iou.canvas().press("ArrowLeft")
    until(lambda: iou.value("b_px")[0], pytest.approx(moved[0] - 1))
    iou.canvas().press("Control+z")
    until(lambda: iou.value("b_px"), moved)
    legible(iou, "IouExplorer_03")


def test_the_crop_explorer_judges_the_patch_under_the_hand(notebooks):
    crop = notebooks.open("08_augmentation").explorer("CropExplorer")
    before = crop.value("patch")
    crop.canvas().focus()
    with changed(crop.drawing), changed(lambda: crop.value("patch")):
        crop.canvas().press("ArrowRight")
        crop.canvas().press("Shift+ArrowUp")
    after = crop.value("patch")
    assert after[0] > before[0] or after[2] < before[2]
    crop.assign("patch", before)
    until(lambda: crop.value("patch"), before)


def test_the_precision_recall_explorer_says_what_the_kernel_counts(notebooks):
    curve = notebooks.open("10_evaluation").explorer("PrecisionRecallExplorer")
    before = {name: curve.value(name) for name in ("kind", "threshold", "iou_threshold", "metric")}
    slider = curve.slider("Keep the best")
    for key in ("Home", "ArrowRight", "ArrowRight", "End"):
        slider.press(key)
        until(lambda: curve.value("point().kept"), lambda kept: f": {kept} of " in curve.said())
        _, true, false, ignored, missed, precision, recall = curve.value("point()")
        said = curve.said()
        assert f"{true} true positive" in said
        assert f"{false} false positive" in said
        assert f"{ignored} ignored; {missed} of " in said
        if precision == precision and recall == recall:
            assert f"Precision {precision:.3f}, recall {recall:.3f}." in said
    strict = curve.slider("IoU that a hit needs")
    ap = curve.value("average_precision('voc07')")
    with changed(curve.drawing):
        strict.press("End")
    until(lambda: curve.value("iou_threshold"), 0.95)
    stricter = curve.value("average_precision('voc07')")
    assert stricter < ap
    until(curve.said, lambda text: f"{stricter:.3f} by 11 points" in text)
    assert number(strict) > 0
    curve.restore(before)
    legible(curve, "PrecisionRecallExplorer_10")
