"""The prior-box explorer in JupyterLab: what hands and keys do to the page, to the picture and to the kernel."""

import json
import re

import pytest
from lab_page import ROOT, changed, number, until

from ssdedu import boxes, priors

pytest_plugins = ["lab"]
pytestmark = pytest.mark.browser
MARGIN, SIDE = 44, 440
COLORS = json.loads(
    re.search(r"COLORS = (\[.*\]);", (ROOT / "ssdedu" / "widgets" / "base.js").read_text())[1]
)


@pytest.fixture(scope="module", params=["02_default_boxes", "03_matching"])
def name(request):
    """The notebook; of module scope, so that each is opened once."""
    return request.param


@pytest.fixture
def explorer(name, notebooks):
    """The explorer as its notebook shows it, put back as it was after the test."""
    made = notebooks.open(name).explorer("PriorBoxExplorer")
    names = (
        "objects",
        "description",
        "preset",
        "knobs",
        "threshold",
        "rule",
        "selected",
        "map_index",
        "cell",
    )
    before = {name: made.value(name) for name in names}
    yield made
    made.restore(before)
    until(lambda: {name: made.value(name) for name in names}, before)
    agreed(made)


def agreed(explorer):
    """Python has answered to what is shown, and says the same as the page."""
    return until(lambda: explorer.drawn(), lambda d: d["source"] == "python")


def at(x, y):
    """A point of the image, in fractions, on the canvas."""
    return MARGIN + x * SIDE, MARGIN + y * SIDE


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def boxes_of(explorer):
    return [o["box"] for o in explorer.value("objects")]


def positives_in_python(explorer):
    """What `match` of the kernel's explorer says, as [default box, object]."""
    index = explorer.value("match().object_index.tolist()")
    return [[p, g] for p, g in enumerate(index) if g >= 0]


def check_drawn(explorer):
    drawn = agreed(explorer)
    assert [[p, g] for p, g, _ in drawn["positives"]] == positives_in_python(explorer)
    return drawn


def alike(a, b):
    """Whether two colours "#RRGGBB" differ little: the edge of a line is blended with what lies under it."""
    return all(abs(int(a[i : i + 2], 16) - int(b[i : i + 2], 16)) < 50 for i in (1, 3, 5))


def test_it_draws_the_positives_that_python_matches(explorer):
    drawn = check_drawn(explorer)
    config = priors.PRESETS[explorer.value("preset")]
    assert f"{config.num_boxes:,} default boxes; {len(drawn['positives'])} positives" in explorer.said()
    corners = boxes.cxcywh_to_xyxy(priors.default_boxes(config))
    ends = [sum(m.num_boxes for m in config.maps[: k + 1]) for k in range(len(config.maps))]
    seen, stars = 0, 0
    for p in drawn["own"]:
        color = COLORS[next(k for k, end in enumerate(ends) if p < end)]
        x1, y1, x2, y2 = corners[p].tolist()
        edges = [at(x, y1 + (y2 - y1) * i / 40) for i in range(41) for x in (x1, x2)]
        edges += [at(x1 + (x2 - x1) * i / 40, y) for i in range(41) for y in (y1, y2)]
        seen += sum(alike(color, pixel) for pixel in explorer.pixels(edges)) > 15
        (x, y), around = at(*center([x1, y1, x2, y2])), (-3, 0, 3)
        pixels = explorer.pixels([(x + dx, y + dy) for dx in around for dy in around])
        stars += any(alike(color, pixel) for pixel in pixels)
    assert seen == len(drawn["own"]) == 3
    assert stars >= 2  # an outline may cross the middle of one


def test_a_drag_moves_an_object_and_who_is_matched(explorer):
    star = boxes_of(explorer)[0]
    x, y = center(star)
    before = check_drawn(explorer)["positives"]
    explorer.drag(at(x, y), at(x - 0.2, y - 0.1))
    wanted = pytest.approx([star[0] - 0.2, star[1] - 0.1, star[2] - 0.2, star[3] - 0.1], abs=0.01)
    moved = until(lambda: boxes_of(explorer)[0], lambda b: b == wanted)
    assert moved[2] - moved[0] == pytest.approx(star[2] - star[0])
    assert check_drawn(explorer)["positives"] != before
    explorer.canvas().press("Control+z")
    until(lambda: boxes_of(explorer)[0], star)
    assert check_drawn(explorer)["positives"] == before
    explorer.canvas().press("Control+y")
    until(lambda: boxes_of(explorer)[0], moved)


def test_a_corner_resizes(explorer):
    star = boxes_of(explorer)[0]
    explorer.drag(at(*star[2:]), at(star[2] + 0.1, star[3] - 0.15))
    wanted = [*star[:2], star[2] + 0.1, star[3] - 0.15]
    until(lambda: boxes_of(explorer)[0], lambda b: b == pytest.approx(wanted, abs=0.01))
    check_drawn(explorer)


def test_objects_come_and_go_by_hand(explorer):
    explorer.drag(at(0.02, 0.92), at(0.2, 0.98))
    until(lambda: boxes_of(explorer)[3:], lambda b: b == [pytest.approx([0.02, 0.92, 0.2, 0.98], abs=0.01)])
    label = explorer.root.get_by_label("Its label")
    label.fill("bird")
    label.press("Tab")
    until(lambda: explorer.value("objects")[3]["name"], "bird")
    assert "bird" in explorer.root.locator("table").first.inner_text()
    check_drawn(explorer)
    explorer.control("button", "Remove it").click()
    until(lambda: len(boxes_of(explorer)), 3)
    explorer.control("button", "Add an object").click()
    until(lambda: len(boxes_of(explorer)), 4)
    explorer.control("button", "Undo").click()
    until(lambda: len(boxes_of(explorer)), 3)
    check_drawn(explorer)


def test_everything_by_keyboard(explorer):
    canvas, (star, square, frame) = explorer.canvas(), boxes_of(explorer)
    width, cells = explorer.value("config.width_px"), explorer.notebook.cells()
    canvas.press("o")
    until(lambda: explorer.value("selected"), 0)
    canvas.press("ArrowRight")
    until(lambda: boxes_of(explorer)[0][0], pytest.approx(star[0] + 1 / width))
    canvas.press("Shift+ArrowDown")
    until(lambda: boxes_of(explorer)[0][3], pytest.approx(star[3] + 1 / width))
    canvas.press("n")
    until(lambda: len(boxes_of(explorer)), 4)
    for key in ("d", "d", "x", "a", "b", "c", "v"):
        canvas.press(key)
    canvas.press("Delete")
    until(lambda: boxes_of(explorer)[1:], [square, frame])
    canvas.press("Escape")
    until(lambda: explorer.value("selected"), -1)
    canvas.press("m")
    until(lambda: explorer.value("cell"), [0, 0])
    canvas.press("ArrowRight")
    for _ in range(5):
        canvas.press("ArrowDown")
    maps = explorer.value("description")["maps"]
    last = maps[explorer.value("map_index")]["height"] - 1
    until(lambda: explorer.value("cell"), [min(5, last), 1])
    assert explorer.drawn()["cell"] == [min(5, last), 1]
    assert explorer.notebook.cells() == cells


def test_iou_is_told_where_the_pointer_rests(explorer):
    drawn = agreed(explorer)
    corners = boxes.cxcywh_to_xyxy(priors.default_boxes(priors.PRESETS[explorer.value("preset")]))
    ious, own = {p: iou for p, _, iou in drawn["positives"]}, corners[drawn["own"][0]].tolist()
    for i in range(5, 35):
        x, y = own[0], own[1] + (own[3] - own[1]) * i / 40
        explorer.page.mouse.move(*explorer.on_page(*at(x, y)))
        told = until(lambda: explorer.drawn()["hover"], lambda h, y=y: h and abs(h["y"] - y) < 0.002)
        x1, y1, x2, y2 = corners[told["p"]].tolist()
        far = min(abs(x - x1), abs(x - x2), abs(y - y1), abs(y - y2))
        assert far * SIDE <= 6.1
        assert told["iou"] == pytest.approx(ious[told["p"]])


def test_scales_and_number_of_maps_follow_the_sliders(explorer):
    before = explorer.value("config.num_boxes")
    explorer.slider("s_min").fill("0.3")
    config = until(lambda: explorer.value("config.to_dict()"), lambda c: c["name"].startswith("MY_"))
    knobs, side = explorer.value("knobs"), config["width_px"]
    sizes = [m["min_px"] for m in config["maps"]]
    if knobs["whole"]:
        wanted = priors.percent_sizes(side, 6, 10, 30, 90)
    else:
        wanted = priors.formula_sizes(side, len(sizes), knobs["first"], 0.3, knobs["high"])
    assert sizes == pytest.approx([low for low, _ in wanted])
    check_drawn(explorer)
    maps = explorer.slider("Number of maps")
    maps.press("ArrowLeft")
    fewer = until(lambda: explorer.value("config.num_boxes"), lambda n: n != before)
    assert fewer == before - (4 if side == 300 else 16)
    until(explorer.said, lambda text: f"{fewer:,} default boxes" in text)
    check_drawn(explorer)


def test_presets_rules_centres_and_clipping(explorer):
    for name in ("SSD512_VOC", "SSD300_PAPER", "SHAPES128"):
        explorer.control("combobox", "Detector").select_option(name)
        until(lambda: explorer.value("config.name"), name)
        wanted = f"{priors.PRESETS[name].num_boxes:,} default boxes"
        until(explorer.said, lambda text, wanted=wanted: wanted in text)
        check_drawn(explorer)
    explorer.control("combobox", "Detector").select_option("SSD300_VOC")
    explorer.control("combobox", "Centres").select_option("paper")
    until(lambda: explorer.value("config.maps[2].step_px"), None)
    check_drawn(explorer)
    explorer.control("checkbox", "clip at the border").check()
    until(lambda: explorer.value("config.clip"), True)
    check_drawn(explorer)
    for rule, wanted in {"multibox": 3, "threshold": None}.items():
        explorer.control("combobox", "Matching rule").select_option(rule)
        until(lambda: explorer.value("rule"), rule)
        drawn = check_drawn(explorer)
        assert wanted in (None, len(drawn["positives"]))


def test_ratios_and_extra_box_of_a_map(explorer):
    before = explorer.value("config.num_boxes")
    name = explorer.value("config.maps[0].name")
    ratios = explorer.root.get_by_label(f"{name}: aspect ratios")
    ratios.fill("2, 3, 4")
    ratios.press("Tab")
    until(lambda: explorer.value("config.maps[0].aspect_ratios"), [2, 3, 4])
    check_drawn(explorer)
    ratios.fill("1, 2")
    ratios.press("Tab")
    until(lambda: ratios.get_attribute("aria-invalid"), "true")
    assert "no ratio 1" in explorer.root.locator(".status").inner_text()
    assert explorer.value("config.maps[0].aspect_ratios") == [2, 3, 4]
    extra = explorer.control("checkbox", f"{name}: extra box")
    extra.uncheck()
    until(lambda: explorer.value("config.maps[0].max_px"), None)
    extra.check()
    until(lambda: explorer.value("config.maps[0].max_px"), bool)
    assert explorer.value("config.num_boxes") != before


def test_the_copy_is_python_that_builds_the_same(explorer):
    explorer.slider("s_max").fill("0.8")
    until(lambda: explorer.value("config.name"), lambda name: name.startswith("MY_"))
    explorer.control("button", "Copy as Python").click()
    source = explorer.root.get_by_label("The description in Python").input_value()
    space = {}
    exec(source, space)
    assert space["config"] == priors.Config.from_dict(explorer.value("config.to_dict()"))
    assert len(priors.default_boxes(space["config"])) == explorer.value("config.num_boxes")


def test_the_kernel_changes_the_page(explorer):
    explorer.notebook.python("from ssdedu import priors")
    with changed(explorer.said):
        explorer.assign("objects", [{"box": [0.25, 0.25, 0.75, 0.75], "name": "cat"}])
    assert "for 1 objects" in explorer.said()
    check_drawn(explorer)
    description = priors.SHAPES128_COARSE_MAP.to_dict()
    explorer.assign("description", json.loads(json.dumps(description)))
    until(explorer.said, lambda text: text.startswith(f"{priors.SHAPES128_COARSE_MAP.num_boxes:,} "))
    check_drawn(explorer)


def test_the_field_of_the_cell_is_drawn(explorer):
    with changed(explorer.drawing):
        explorer.control("checkbox", "show receptive field").check()
    explorer.screenshot(f"prior_boxes_{explorer.notebook.name[:2]}")
    with changed(explorer.drawing):
        explorer.control("checkbox", "show receptive field").uncheck()


def test_no_error_and_nothing_asked_of_another_machine(explorer):
    assert number(explorer.slider("Matching threshold")) == explorer.value("threshold")
    assert explorer.notebook.watch.outside() == []
    assert explorer.notebook.watch.errors == []
