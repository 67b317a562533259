"""The prior-box explorer on pages without a kernel, opened from a file: by mouse, finger and keys, with data too."""

import base64
import io
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from lab_page import ROOT, Explorer, Watch, changed, contrast, until
from PIL import Image

from ssdedu import matching, priors
from ssdedu.course import pages
from ssdedu.datasets.shapes import Shapes, draw_scene
from ssdedu.datasets.voc import VOCFolder
from ssdedu.widgets import PriorBoxExplorer
from ssdedu.widgets.page import page as page_of
from ssdedu.widgets.prior_box_data import positives_per_map, summary

pytest_plugins = ["lab"]
pytestmark = pytest.mark.browser
NOTEBOOK = ROOT / "notebooks" / "02_default_boxes.ipynb"
MARGIN, SIDE = 44, 440
PHONE = {"viewport": {"width": 420, "height": 800}}
SCREENS = {
    "sharp": {"device_scale_factor": 1.5},
    "narrow": PHONE,
    "narrow and sharp": {**PHONE, "device_scale_factor": 1.5},
}
FINGER = {**PHONE, "has_touch": True, "is_mobile": True}
CONTROLS = "button|checkbox|combobox|radio|slider|spinbutton|textbox"
# Of an explorer as a whole the page's own scrolling is no excuse.
_WIDER_THAN_THE_PAGE = """() => {
  const isFree = (e) => !e || e.matches(".ssdedu-explorer");
  const scrolls = (e) => !isFree(e) && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const width = document.documentElement.clientWidth;
  const out = (r) => r.width && (r.right > width + 0.5 || r.left < -0.5);
  return [...document.body.querySelectorAll("*")]
    .filter((e) => out(e.getBoundingClientRect()) && !scrolls(e.parentElement)).map((e) => e.outerHTML.slice(0, 90));
}"""
_FOCUS = """(root) => {
  const e = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(e);
  return [root.contains(e), outlineStyle !== "none" && parseFloat(outlineWidth) >= 2, e.outerHTML.slice(0, 90)];
}"""


class OnPage(Explorer):
    """An explorer on a page without a kernel; its traits are those of the page."""

    def __init__(self, page, number=0):
        self.page, self.host = page, page.locator(".ssdedu-static").nth(number)
        self.root = self.host.locator(".ssdedu-explorer")
        until(lambda: self.root.count() and self.drawn(), bool)

    def value(self, trait):
        return self.host.evaluate("(el, name) => el.model.get(name)", trait)

    def boxes(self):
        return [o["box"] for o in self.value("objects")]

    def config(self):
        return priors.Config.from_dict(self.value("description"))

    def status(self):
        return self.root.locator(".status").inner_text()


@pytest.fixture(scope="module")
def lesson(tmp_path_factory, chromium):
    """The page of notebook 02, which has been run for it, where there is a browser to open it."""
    return pages.build([NOTEBOOK], tmp_path_factory.mktemp("site"))[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn scenes in VOC layout, more than those of which positives are counted."""
    path = tmp_path_factory.mktemp("data") / "scenes"
    Shapes(60, seed=5).write_voc(path)
    return path


@pytest.fixture
def opened(chromium):
    """Opens a file in a browser context of its own; nothing that was opened complains or asks for more than files."""
    contexts = []

    def open_file(path, **settings):
        context = chromium.new_context(**{"viewport": {"width": 1100, "height": 1200}, **settings})
        contexts.append((context, Watch(context)))
        page = context.new_page()
        page.goto(Path(path).as_uri())
        return page

    yield open_file
    seen = [(watch.errors, {urlsplit(a).scheme for a in watch.addresses}) for _, watch in contexts]
    for context, _ in contexts:
        context.close()
    for errors, schemes in seen:
        assert errors == []
        assert schemes <= {"file", "blob", "data"}


@pytest.fixture
def explorer(lesson, opened):
    """The explorer of notebook 02, fresh from the file."""
    return OnPage(opened(lesson))


def write_page(path, *explorers):
    path.write_text(page_of("explorers", [e.get_state() for e in explorers]), encoding="utf-8")
    return path


# Oracles: the package, asked about what the page holds


def matched(explorer):
    """`matching.match` of the page's objects: [default box, object], and the maps' numbers of them."""
    config, found = explorer.config(), explorer.boxes()
    boxes = torch.tensor(found, dtype=torch.float32).reshape(-1, 4)
    rules = explorer.value("threshold"), explorer.value("rule")
    index = matching.match(
        boxes, torch.ones(len(found)).long(), priors.default_boxes(config), *rules
    ).object_index
    ends = np.cumsum([m.num_boxes for m in config.maps])
    pairs = [[p, g] for p, g in enumerate(index.tolist()) if g >= 0]
    maps = np.searchsorted(ends, [p for p, _ in pairs], side="right")
    return pairs, np.bincount(maps.astype(int), minlength=len(ends)).tolist()


def sentence(explorer, pairs):
    """What there is to say about them."""
    names = [o["name"] for o in explorer.value("objects")]
    rule = {"ssd": "SSD's rule", "multibox": "MultiBox's rule", "threshold": "the threshold alone"}
    text = f"{explorer.config().num_boxes:,} default boxes; {len(pairs)} positives for {len(names)} objects"
    without = [name for g, name in enumerate(names) if g not in {g for _, g in pairs}]
    lost = f" Without a positive: {', '.join(without)}." if without else ""
    return f"{text} by {rule[explorer.value('rule')]}.{lost}"


def check_drawn(explorer):
    """Picture, sentence and table of maps say what the package says; returns the positives."""

    def both():
        pairs, per_map = matched(explorer)
        rows = explorer.root.locator("td.positives").all_inner_texts()
        shown = [[p, g] for p, g, _ in explorer.drawn()["positives"]], explorer.said(), [int(n) for n in rows]
        return shown, (pairs, sentence(explorer, pairs), per_map)

    shown, _ = until(both, lambda told: told[0] == told[1])
    return shown[0]


def fit_sentence(explorer, preset, threshold=0.5):
    """What `summary` has to say of the page's data, with the description as it is and as it was."""
    boxes = np.concatenate([np.float32(b).reshape(-1, 4) for b in explorer.value("data")])
    now, was = (summary(boxes, c, threshold) for c in (explorer.config(), preset))
    return (
        f"{100 * now['covered'] / len(boxes):.1f} % of {len(boxes):,} objects have a default box with IoU of "
        f"{threshold:.2f} or more; with {preset.name} as it is, {100 * was['covered'] / len(boxes):.1f} %. "
        f"Mean best IoU {now['mean_iou']:.3f}, was {was['mean_iou']:.3f}."
    )


def carriers(explorer):
    """Rows of the fit panel's table: map, share of objects, positives and their share."""
    images, config = explorer.value("data"), explorer.config()
    boxes = np.concatenate([np.float32(b).reshape(-1, 4) for b in images])
    counts = summary(boxes, config, explorer.value("threshold"))["objects_per_map"]
    found = positives_per_map(images, config, explorer.value("threshold"), explorer.value("rule"))
    return [
        [m.name, f"{100 * n / len(boxes):.1f} %", f"{p} ({100 * p / sum(found):.0f} %)"]
        for m, n, p in zip(config.maps, counts, found, strict=True)
    ]


def at(x, y):
    """A point of the image, in fractions, on the canvas."""
    return MARGIN + x * SIDE, MARGIN + y * SIDE


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def shifted(box, dx, dy):
    return pytest.approx([box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy], abs=0.002)


def dark_points(explorer, box):
    """How many of 30 points on the left edge of a box are as dark as an object's outline."""
    x1, y1, _, y2 = box
    edge = [at(x1, y1 + (y2 - y1) * (0.1 + i / 100)) for i in range(30)]
    return sum(all(int(c[i : i + 2], 16) < 60 for i in (1, 3, 5)) for c in explorer.pixels(edge))


# The page of a notebook


def test_it_opens_with_what_the_package_matches(explorer):
    assert explorer.config() == priors.SSD300_VOC
    assert len(check_drawn(explorer)) > 3
    assert [dark_points(explorer, box) > 10 for box in explorer.boxes()] == [True] * 3


def test_a_drag_moves_an_object_and_who_is_matched(explorer):
    (star, *others), before = explorer.boxes(), check_drawn(explorer)
    x, y = center(star)
    with changed(explorer.said):
        explorer.drag(at(x, y), at(x - 0.2, y - 0.1))
    moved, *left = until(explorer.boxes, lambda boxes: boxes[0] == shifted(star, -0.2, -0.1))
    assert left == others
    assert check_drawn(explorer) != before
    assert dark_points(explorer, moved) > 20  # selected: the line is solid
    assert dark_points(explorer, star) < 10


def test_the_picture_follows_before_the_hand_lets_go(explorer):
    box, before, mouse = explorer.boxes()[0], check_drawn(explorer), explorer.page.mouse
    x, y = center(box)
    mouse.move(*explorer.on_page(*at(x, y)))
    mouse.down()
    mouse.move(*explorer.on_page(*at(x - 0.2, y - 0.1)), steps=3)
    until(lambda: explorer.boxes()[0], shifted(box, -0.2, -0.1))
    assert check_drawn(explorer) != before
    mouse.up()


def test_a_corner_resizes(explorer):
    star, before = explorer.boxes()[0], check_drawn(explorer)
    explorer.drag(at(*star[2:]), at(star[2] + 0.1, star[3] - 0.15))
    wanted = pytest.approx([*star[:2], star[2] + 0.1, star[3] - 0.15], abs=0.002)
    until(lambda: explorer.boxes()[0], wanted)
    assert check_drawn(explorer) != before


def test_objects_come_go_and_come_back(explorer):
    three, before = explorer.value("objects"), check_drawn(explorer)
    explorer.drag(at(0.02, 0.92), at(0.2, 0.98))
    until(lambda: explorer.boxes()[3:], [pytest.approx([0.02, 0.92, 0.2, 0.98], abs=0.002)])
    four = check_drawn(explorer)
    explorer.control("button", "Remove it").click()
    until(lambda: explorer.value("objects"), three)
    assert check_drawn(explorer) == before
    explorer.control("button", "Undo").click()
    until(lambda: len(explorer.boxes()), 4)
    assert check_drawn(explorer) == four
    explorer.control("button", "Undo").click()
    until(lambda: explorer.value("objects"), three)
    assert explorer.control("button", "Undo").is_disabled()
    explorer.control("button", "Redo").click()
    explorer.control("button", "Add an object").click()
    until(lambda: len(explorer.boxes()), 5)
    check_drawn(explorer)


def test_scales_follow_their_slider(explorer):
    before = check_drawn(explorer)
    explorer.slider("s_min").fill("0.3")
    until(lambda: explorer.config().name, "MY_SSD300_VOC")
    sizes = [(m.min_px, m.max_px) for m in explorer.config().maps]
    assert sizes == priors.percent_sizes(300, 6, 10, 30, 90)
    assert check_drawn(explorer) != before


@pytest.mark.parametrize("name", ["SSD512_COCO", "SSD300_PAPER", "SHAPES128"])
def test_another_preset(explorer, name):
    explorer.control("combobox", "Detector").select_option(name)
    until(explorer.config, priors.PRESETS[name])
    check_drawn(explorer)


@pytest.mark.parametrize("rule", ["multibox", "threshold"])
def test_another_rule_and_threshold(explorer, rule):
    explorer.control("combobox", "Matching rule").select_option(rule)
    explorer.slider("Matching threshold").fill("0.35")
    until(lambda: (explorer.value("rule"), explorer.value("threshold")), (rule, 0.35))
    check_drawn(explorer)


def test_the_copy_is_python_that_builds_the_same(explorer):
    explorer.slider("s_max").fill("0.8")
    ratios = explorer.root.get_by_label("conv4_3: aspect ratios")
    ratios.fill("2, 1.6")
    ratios.press("Tab")
    until(lambda: explorer.config().maps[0].aspect_ratios, (2, 1.6))
    explorer.control("button", "Copy as Python").click()
    space = {}
    exec(explorer.root.get_by_label("The description in Python").input_value(), space)
    assert space["config"] == explorer.config() != priors.SSD300_VOC
    until(explorer.status, lambda text: re.match(r"Copied\.|Press Ctrl\+C to copy\.", text))


def test_keys_do_what_hands_do(explorer):
    canvas, (star, square, frame) = explorer.canvas(), explorer.boxes()
    tab_to(explorer, canvas)
    keys, pixel = explorer.page.keyboard, 1 / 300
    for key in ("o", "ArrowLeft", "ArrowLeft", "Shift+ArrowDown"):
        keys.press(key)
    wanted = [star[0] - 2 * pixel, star[1], star[2] - 2 * pixel, star[3] + pixel]
    moved = until(lambda: explorer.boxes()[0], pytest.approx(wanted))
    check_drawn(explorer)
    keys.press("n")
    until(lambda: len(explorer.boxes()), 4)
    keys.press("Delete")
    until(explorer.boxes, [moved, square, frame])
    for key, wanted in (("Control+z", star), ("Control+y", moved)):
        for _ in range(8):  # more often than there are steps
            keys.press(key)
        until(explorer.boxes, [wanted, square, frame])
    keys.press("o")
    map_index = explorer.value("map_index")
    for key in ("Escape", "m", "ArrowRight", "ArrowDown"):
        keys.press(key)
    until(lambda: explorer.value("cell"), [1, 1])
    assert explorer.value("map_index") == map_index + 1
    tab_to(explorer, explorer.slider("s_min"))
    keys.press("ArrowRight")
    until(lambda: explorer.value("knobs")["low"], pytest.approx(0.205))
    check_drawn(explorer)


def tab_to(explorer, part):
    """Press Tab until the keys go to a part of the page."""
    for _ in range(300):
        if part.evaluate("(e) => e === document.activeElement"):
            return
        explorer.page.keyboard.press("Tab")
    raise AssertionError("Tab does not lead there")


def test_tab_leads_through_every_control_and_out_again(explorer):
    tab_to(explorer, explorer.control("combobox", "Detector"))
    stops = []
    while (focus := explorer.root.evaluate(_FOCUS))[0]:
        stops.append(focus[1:])
        assert len(stops) < 100
        explorer.page.keyboard.press("Tab")
    assert [what for visible, what in stops if not visible] == []
    enabled = ":is(input, select, button, textarea, summary, canvas[tabindex]):not(:disabled, [hidden])"
    maps = explorer.root.locator("input[type=radio]").count()  # one stop together: arrows go on
    assert len(stops) == explorer.root.locator(enabled).count() - maps + 1
    assert maps == 6


def test_every_control_has_a_name(explorer):
    tree = explorer.root.aria_snapshot()
    assert len(re.findall(rf"- '?({CONTROLS}) \"", tree)) > 40
    assert re.findall(rf"- '?(?:{CONTROLS})(?! \").*", tree) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_legible_in_the_readers_scheme(lesson, opened, theme):
    explorer = OnPage(opened(lesson, color_scheme=theme))
    texts = explorer.texts()
    assert {text: colors for text, *colors in texts if contrast(*colors) < 4.5} == {}
    ink, ground = next(colors for text, *colors in texts if text == "Matching threshold")
    assert (sum(ground[:3]) < sum(ink[:3])) == (theme == "dark")
    explorer.screenshot(f"static_{theme}")


def test_the_picture_follows_the_readers_scheme(explorer):
    frame = [(MARGIN - 0.5, MARGIN + i) for i in range(100, 340)]
    for theme, ink in (("light", "#1F2328"), ("dark", "#DDE1E6"), ("light", "#1F2328")):
        explorer.page.emulate_media(color_scheme=theme)
        until(lambda ink=ink: explorer.pixels(frame).count(ink) > 100, True)


# Screens and fingers


@pytest.mark.parametrize("screen", SCREENS)
def test_a_drag_lands_where_the_hand_is(lesson, opened, screen):
    explorer = OnPage(opened(lesson, **SCREENS[screen]))
    star = explorer.boxes()[0]
    (x, y), canvas = explorer.on_page(*at(*center(star))), explorer.canvas()
    side_px = canvas.bounding_box()["width"] * SIDE / (SIDE + 2 * MARGIN)
    mouse = explorer.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x - 60, y - 30, steps=4)
    mouse.up()
    moved = until(lambda: explorer.boxes()[0], shifted(star, -60 / side_px, -30 / side_px))
    check_drawn(explorer)
    assert dark_points(explorer, moved) > 20


@pytest.mark.parametrize("screen", SCREENS)
def test_the_canvas_has_as_many_pixels_as_the_screen_draws(lesson, opened, screen):
    ratio = SCREENS[screen].get("device_scale_factor", 1)
    explorer = OnPage(opened(lesson, **SCREENS[screen]))
    size = explorer.canvas().evaluate("(canvas) => [canvas.width, canvas.height]")
    assert size == [round((SIDE + 2 * MARGIN) * ratio)] * 2


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_is_wider_than_the_page(lesson, opened, screen):
    explorer = OnPage(opened(lesson, **SCREENS[screen]))
    width = explorer.page.viewport_size["width"]
    assert explorer.page.evaluate("document.documentElement.scrollWidth") == width
    assert explorer.page.evaluate(_WIDER_THAN_THE_PAGE) == []
    explorer.screenshot(f"static_{screen.replace(' ', '_')}")


def test_what_is_wider_than_the_page_is_seen(chromium):
    page = chromium.new_page(**PHONE)
    wide = "<p style='width: 500px'>a</p>"
    scrolling = "<div style='overflow-x: auto'>{}</div>"
    explorer = scrolling.format(f"<div class='ssdedu-explorer'>{wide}{scrolling.format(wide)}</div>")
    page.set_content(wide + scrolling.format(wide) + explorer)
    assert page.evaluate(_WIDER_THAN_THE_PAGE) == ['<p style="width: 500px">a</p>'] * 2
    page.close()


def swipe(explorer, start, end, steps=5):
    """A finger goes from one point of the canvas to another."""
    (x1, y1), (x2, y2) = (explorer.on_page(*point) for point in (start, end))
    session = explorer.page.context.new_cdp_session(explorer.page)
    ways = [(x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps) for i in range(steps + 1)]
    for i, (x, y) in enumerate(ways):
        kind = "touchMove" if i else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def scrolled(explorer):
    return explorer.page.evaluate("scrollY")


def test_a_finger_moves_an_object_and_not_the_page(lesson, opened):
    explorer = OnPage(opened(lesson, **FINGER))
    star, before = explorer.boxes()[0], check_drawn(explorer)
    x, y = center(star)
    explorer.on_page(0, 0)  # scrolls there
    place = scrolled(explorer)
    swipe(explorer, at(x, y), at(x - 0.2, y - 0.1))
    until(lambda: explorer.boxes()[0], shifted(star, -0.2, -0.1))
    assert len(explorer.boxes()) == 3
    assert check_drawn(explorer) != before
    assert scrolled(explorer) == place > 0


def test_a_finger_on_the_ground_moves_the_page_and_no_object(lesson, opened):
    explorer = OnPage(opened(lesson, **FINGER))
    three = explorer.value("objects")
    explorer.on_page(0, 0)
    with changed(lambda: scrolled(explorer)):
        swipe(explorer, at(0.05, 0.95), at(0.05, 0.4), steps=20)
    assert explorer.value("objects") == three


@pytest.mark.parametrize("hand", ["finger", "mouse"])
def test_a_finger_beside_a_corner_still_holds_it(lesson, opened, hand):
    """12 units outside: near enough for a finger, too far for the mouse, which draws a new object there."""
    explorer = OnPage(opened(lesson, **(FINGER if hand == "finger" else {})))
    (x1, y1, x2, y2), *_ = explorer.boxes()
    x, y = x2 + 12 / SIDE, y2 + 12 / SIDE
    drag = {"finger": swipe, "mouse": OnPage.drag}[hand]
    drag(explorer, at(x, y), at(x - 0.1, y - 0.1))
    number, wanted = {"finger": (3, [x1, y1, x2 - 0.1, y2 - 0.1]), "mouse": (4, [x1, y1, x2, y2])}[hand]
    until(lambda: len(explorer.boxes()), number)
    until(lambda: explorer.boxes()[0], pytest.approx(wanted, abs=0.002))


# Data


@pytest.fixture
def fitted(folder, tmp_path, opened):
    """An explorer of the objects of a folder."""
    return OnPage(opened(write_page(tmp_path / "fit.html", PriorBoxExplorer(data=folder))))


def fit_said(explorer):
    return explorer.root.locator("output.fit").inner_text()


def fit_rows(explorer):
    rows = explorer.root.locator("section.fit tbody tr").all()
    return [row.locator("td").all_inner_texts() for row in rows]


def test_it_says_how_the_default_boxes_fit_a_folder(fitted, folder):
    dataset = VOCFolder(folder)
    truths = [dataset.truth(i) for i in range(len(dataset))]
    assert f" of {sum(len(t.boxes_xyxy) for t in truths):,} objects have" in fit_said(fitted)
    assert fit_said(fitted) == fit_sentence(fitted, priors.SSD300_VOC)
    assert "Do these default boxes fit scenes?" in fitted.root.locator("section.fit h4").inner_text()
    assert "positives, 50 images" in fitted.root.locator("section.fit thead").inner_text()
    until(lambda: fit_rows(fitted), carriers(fitted))
    check_drawn(fitted)
    fitted.screenshot("static_fit")


def test_the_fit_follows_a_slider_before_it_is_let_go(fitted):
    slider, mouse = fitted.slider("s_min"), fitted.page.mouse
    slider.scroll_into_view_if_needed()
    place, value = slider.bounding_box(), float(slider.input_value())
    low, high = (float(slider.get_attribute(end)) for end in ("min", "max"))
    x = place["x"] + 8 + (place["width"] - 16) * (value - low) / (high - low)
    mouse.move(x, place["y"] + place["height"] / 2)
    mouse.down()
    said = {fit_said(fitted)}
    for by in (15, 30, 60):
        with changed(lambda: fit_said(fitted)):
            mouse.move(x + by, place["y"] + place["height"] / 2)
        until(lambda: fit_said(fitted), lambda text: text == fit_sentence(fitted, priors.SSD300_VOC))
        said.add(fit_said(fitted))
    assert len(said) == 4
    until(lambda: fit_rows(fitted), lambda rows: rows == carriers(fitted))
    mouse.up()
    assert fitted.config().name == "MY_SSD300_VOC"


def test_the_fit_follows_threshold_ratios_and_preset(fitted):
    ratios = fitted.root.get_by_label("conv4_3: aspect ratios")
    ratios.fill("1.5, 2.5")
    ratios.press("Tab")
    until(lambda: fit_said(fitted), lambda text: text == fit_sentence(fitted, priors.SSD300_VOC))
    fitted.slider("Matching threshold").fill("0.7")
    until(lambda: fit_said(fitted), lambda text: text == fit_sentence(fitted, priors.SSD300_VOC, 0.7))
    until(lambda: fit_rows(fitted), lambda rows: rows == carriers(fitted))
    fitted.control("combobox", "Detector").select_option("SSD512_COCO")
    until(lambda: fit_said(fitted), lambda text: text == fit_sentence(fitted, priors.SSD512_COCO, 0.7))
    until(lambda: fit_rows(fitted), lambda rows: rows == carriers(fitted))


def test_what_only_a_kernel_can_do_is_not_offered(fitted):
    """Other images of the data set are not on the page."""
    slider = fitted.control("slider", "Image of the data set")
    assert slider.count() == 0 or slider.is_disabled()


# A picture of the reader's


def test_a_picture_of_the_readers(explorer, tmp_path):
    colors = np.zeros((500, 1000, 3), np.uint8)
    colors[:, :500], colors[:, 500:] = (200, 40, 40), (40, 60, 200)
    Image.fromarray(colors).save(tmp_path / "mine.png")
    with changed(lambda: explorer.value("image")):
        explorer.root.get_by_label("A picture of yours").set_input_files(tmp_path / "mine.png")
    until(explorer.boxes, [])
    assert check_drawn(explorer) == []
    kind, _, packed = explorer.value("image").partition(";base64,")
    stored = Image.open(io.BytesIO(base64.b64decode(packed)))
    assert (kind, stored.size) == ("data:image/jpeg", (800, 400))
    for x, color in ((0.2, (200, 40, 40)), (0.8, (40, 60, 200))):
        assert np.abs(np.subtract(stored.getpixel((800 * x, 200)), color)).max() < 10
        spots = [at(x + i / 100, y / 20) for i in range(-5, 6) for y in range(1, 20)]
        until(lambda spots=spots, color=color: share(explorer.pixels(spots), color), lambda part: part > 0.6)
    explorer.drag(at(0.1, 0.1), at(0.6, 0.6))
    until(explorer.boxes, [pytest.approx([0.1, 0.1, 0.6, 0.6], abs=0.002)])
    assert check_drawn(explorer)


def share(pixels, color):
    """The share of pixels "#RRGGBB" that have about this colour."""
    read = np.array([list(bytes.fromhex(pixel[1:])) for pixel in pixels])
    return (np.abs(read - color).max(1) < 12).mean()


def test_what_is_no_picture_is_named(explorer, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    before = explorer.value("image"), explorer.value("objects")
    told = "notes.txt: not a picture that the browser can read; try PNG or JPEG."
    explorer.root.get_by_label("A picture of yours").set_input_files(tmp_path / "notes.txt")
    until(explorer.status, lambda text: told in text)
    explorer.page.evaluate("new Promise((end) => requestAnimationFrame(() => requestAnimationFrame(end)))")
    assert told in explorer.status()
    assert (explorer.value("image"), explorer.value("objects")) == before
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "mine.png")
    explorer.root.get_by_label("A picture of yours").set_input_files(tmp_path / "mine.png")
    until(explorer.status, lambda text: "notes.txt" not in text)


# Several explorers


def test_two_explorers_of_a_page_do_not_touch_each_other(tmp_path, opened):
    made = [PriorBoxExplorer(), PriorBoxExplorer(config=priors.SHAPES128)]
    page = opened(write_page(tmp_path / "two.html", *made))
    first, second = OnPage(page, 0), OnPage(page, 1)
    assert second.config() == priors.SHAPES128
    traits = ("objects", "description", "selected", "cell", "preset")
    for one, other in ((first, second), (second, first)):
        check_drawn(other)
        kept, drawing = {name: other.value(name) for name in traits}, other.drawing()
        box = one.boxes()[0]
        one.drag(at(*center(box)), at(*np.add(center(box), (-0.1, -0.05))))
        until(lambda one=one: one.boxes()[0], shifted(box, -0.1, -0.05))
        one.slider("s_max").fill("0.8")
        until(lambda one=one: one.config().name, lambda name: name.startswith("MY_"))
        check_drawn(one)
        assert {name: other.value(name) for name in traits} == kept
        assert other.drawing() == drawing


def test_each_explorer_suggests_its_own_labels(tmp_path, opened):
    scene = draw_scene(0, 233)
    made = [PriorBoxExplorer(scene, classes=[f"{kind} {i}" for i in range(8)]) for kind in ("cat", "dog")]
    page = opened(write_page(tmp_path / "two.html", *made))
    for number, kind in enumerate(("cat", "dog")):
        label = OnPage(page, number).root.get_by_label("Its label")
        assert label.evaluate("(e) => e.list.options[7].value") == f"{kind} 7"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids)) >= 2
