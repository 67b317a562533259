"""The store of the prior-box explorer in Node: what hands and kernel change, who is told, and the steps back."""

import pytest
import torch
from cases import noise, sample_of
from node import needs_node, run_node

from ssdedu import matching, priors
from ssdedu.widgets import PriorBoxExplorer
from ssdedu.widgets.base import bundle

pytestmark = needs_node
TWO = [[0.1, 0.2, 0.5, 0.6], [0.55, 0.5, 0.95, 0.98]]
FAR = [0.6, 0.1, 0.9, 0.4]
SETTING = """
const { staticModel } = await import("./static.mjs");
const model = staticModel(structuredClone(data.traits));
const told = [], said = [];
let listening = true;
const { set } = model;
model.set = (name, value) => {
  if (listening) told.push([name, structuredClone(value)]);
  set(name, value);
};
const page = { redraw() {}, solved() {}, say: (text) => said.push(text), dataRevision: () => 3 };
const store = new m.Store(model, page);
for (const name of m.SHARED) model.on(`change:${name}`, () => store.heard());
model.on("change:answer", () => store.answered());
const kernel = (changes) => {
  listening = false;
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  listening = true;
};
const rest = (ms = 60) => new Promise((done) => setTimeout(done, ms));
const shift = (by) => ({ objects: store.state.objects.map((o) => ({ ...o, box: o.box.map((v) => v + by) })) });
const news = () => Object.fromEntries(told.splice(0));
const positives = () => store.result.positives.map(([p, g]) => [p, g]);
const answer = (revision, extra = {}) => ({ ...store.result, revision, ...extra });
store.start();
await rest();
"""


@pytest.fixture
def explorer():
    scene = sample_of(noise(), TWO)
    return PriorBoxExplorer(scene, priors.SHAPES128, classes=("cat", "dog"), base="small")


@pytest.fixture
def drive(explorer, tmp_path):
    """Runs a script beside a store: `kernel` changes traits, `news` are those that the store has told since."""

    def run(script, **data):
        (tmp_path / "static.mjs").write_text(bundle("static.js"))
        data["traits"] = explorer.get_state(set(explorer.keys) - {"_esm", "_css", "layout"})
        expression = f"(await (async () => {{ {SETTING} {script} }})())"
        return run_node(tmp_path, "prior_box_state.js", expression, data)

    return run


def objects(*boxes):
    return [{"box": list(box), "name": "cat"} for box in boxes]


def positives_of(config, boxes, threshold=0.5, rule="ssd"):
    labels = torch.ones(len(boxes), dtype=torch.int64)
    index = matching.match(
        torch.tensor(boxes).reshape(-1, 4), labels, priors.default_boxes(config), threshold, rule
    ).object_index
    return [[p, g] for p, g in enumerate(index.tolist()) if g >= 0]


def test_at_the_start_only_revisions_are_told_and_python_has_answered(drive, explorer):
    told, source, undo = drive("return [news(), store.source, store.history.canUndo];")
    assert told == {"revision": explorer.revision, "data_revision": 3}
    assert (source, undo) == ("python", False)


def test_a_hand_tells_what_it_changed_and_only_that(drive):
    script = "news(); store.update({ threshold: 0.4 }); await rest(); return [news(), positives()];"
    told, positives = drive(script)
    assert told == {"threshold": 0.4, "revision": 1, "data_revision": 3}
    assert positives == positives_of(priors.SHAPES128, TWO, 0.4)
    assert positives != positives_of(priors.SHAPES128, TWO)


def test_a_moving_hand_is_told_once_where_it_rests(drive):
    script = """
    news();
    for (let i = 0; i < 5; i++) store.update(shift(0.01), false);
    const during = [...told];
    await rest();
    return [during, told.filter(([name]) => name === "revision").length, news(), store.history.canUndo];
    """
    during, times, told, undo = drive(script)
    assert during == []
    assert times == 1
    assert set(told) == {"objects", "revision", "data_revision"}
    assert told["objects"][0]["box"] == pytest.approx([v + 0.05 for v in TWO[0]])
    assert told["revision"] == 5
    assert not undo  # the hand still holds it


@pytest.mark.parametrize(
    "change", [{"threshold": 0.3}, {"rule": "multibox"}, {"objects": objects(FAR)}, {"cell": [1, 2]}]
)
def test_what_the_kernel_changes_is_taken_and_does_not_come_back(drive, change):
    script = """
    news(); kernel(data.change); await rest();
    return [store.state, news(), positives(), store.history.canUndo];
    """
    state, told, positives, undo = drive(script, change=change)
    assert {name: state[name] for name in change} == change
    computed = set(change) != {"cell"}
    assert told == {
        "revision": 0,
        "data_revision": 3,
    }  # the kernel answers to its own change by what it knows
    boxes = [o["box"] for o in state["objects"]]
    assert positives == positives_of(priors.SHAPES128, boxes, state["threshold"], state["rule"])
    assert undo == computed


def test_what_the_kernel_changes_stays_the_kernels(drive):
    """The state is a copy: a hand that moves what the kernel gave does not write into the trait."""
    script = """
    const edges = [], look = () => {
      store.state.objects[0].box[0] = 0;
      edges.push(model.get("objects")[0].box[0]);
    };
    look(); kernel({ objects: data.objects }); look();
    return edges;
    """
    assert drive(script, objects=objects(FAR)) == [pytest.approx(TWO[0][0]), FAR[0]]


def test_the_kernel_does_not_undo_what_the_hand_holds(drive):
    script = """
    news();
    store.update(shift(0.02), false);
    kernel({ objects: data.objects, threshold: 0.3 });
    await null;
    const during = structuredClone(store.state);
    await rest();
    return [during, news(), model.get("objects"), model.get("threshold")];
    """
    during, told, known, threshold = drive(script, objects=objects(FAR))
    moved = [pytest.approx([v + 0.02 for v in box]) for box in TWO]
    assert [o["box"] for o in during["objects"]] == moved
    assert during["threshold"] == threshold == 0.3
    assert [o["box"] for o in told["objects"]] == moved == [o["box"] for o in known]
    assert "threshold" not in told


def test_an_echo_of_what_a_moving_hand_did_is_no_step_to_undo(drive):
    script = """
    store.update(shift(0.02), false);
    kernel({ objects: store.state.objects });
    return store.history.canUndo;
    """
    assert not drive(script)


def test_once_told_the_kernel_may_change_it_again(drive):
    script = """
    store.update({ threshold: 0.4 }); await rest();
    kernel({ threshold: 0.6 }); await rest();
    return [store.state.threshold, model.get("threshold")];
    """
    assert drive(script) == [0.6, 0.6]


def test_undo_and_redo_step_through_hands_and_kernel(drive):
    script = """
    store.update({ threshold: 0.4 });
    store.update(shift(0.02), false);
    store.update(shift(0.02));
    kernel({ rule: "threshold" });
    await rest(); news();
    const now = () => [store.state.threshold, store.state.objects[0].box[0], store.state.rule];
    const steps = [now()];
    for (const step of ["undo", "undo", "undo", "undo", "redo", "redo", "redo", "redo"]) {
      store[step](); steps.push(now());
    }
    store.undo(); await rest();
    return [steps, news(), positives(), store.history.canRedo];
    """
    steps, told, positives, redo = drive(script)
    low = TWO[0][0]
    start, turned, moved = (0.5, low, "ssd"), (0.4, low, "ssd"), (0.4, low + 0.04, "ssd")
    ruled = (0.4, low + 0.04, "threshold")
    wanted = [ruled, moved, turned, start, start, turned, moved, ruled, ruled]
    assert [(t, pytest.approx(x), r) for t, x, r in steps] == wanted
    assert (told["rule"], told["threshold"]) == ("ssd", 0.4)
    assert positives == positives_of(priors.SHAPES128, [[v + 0.04 for v in box] for box in TWO], 0.4)
    assert redo


def test_a_change_after_undo_ends_redo(drive):
    script = """
    store.update({ threshold: 0.4 }); store.undo(); store.update({ threshold: 0.7 }); store.redo();
    return [store.state.threshold, store.history.canRedo, (store.undo(), store.state.threshold)];
    """
    assert drive(script) == [0.7, False, 0.5]


def test_an_answer_counts_only_for_the_revision_that_is_shown(drive):
    script = """
    const sources = [];
    const hear = (given) => { kernel({ answer: given }); sources.push([store.source, store.result.mark ?? ""]); };
    store.update({ threshold: 0.4 });
    sources.push([store.source, ""]);
    hear(answer(0, { mark: "old" }));
    hear(answer(2, { mark: "early" }));
    hear(answer(1, { mark: "right" }));
    store.update(shift(0.01), false);
    sources.push([store.source, store.result.mark ?? ""]);
    hear(answer(1, { mark: "late" }));
    hear(answer(2, { mark: "wrong", positives: store.result.positives.slice(1) }));
    return sources;
    """
    browser = ["browser", ""]
    expected = [browser, browser, browser, ["python", "right"], browser, browser, ["differs", "wrong"]]
    assert drive(script) == expected


def test_an_answer_that_is_an_error_is_said_and_not_shown(drive):
    script = """
    const before = positives();
    kernel({ answer: { revision: store.revision, error: "ValueError: thin" } });
    return [said, String(before) === String(positives())];
    """
    assert drive(script) == [["ValueError: thin"], True]


def test_indices_are_settled_when_maps_vanish_or_shrink(drive):
    script = """
    store.update({ map_index: 3 }, false); await rest(); news();
    const seen = [], look = () => seen.push([store.state.map_index, store.state.cell, news()]);
    const { maps } = store.state.description, put = (maps) => ({ ...store.state.description, maps });
    kernel({ description: put(maps.slice(0, 2)), cell: [3, 5] }); await rest(); look();
    kernel({ description: put([maps[0], { ...maps[1], height: 2, width: 4 }]) }); await rest(); look();
    return seen;
    """
    (first, cell, told), (same, inside, told_next) = drive(script)
    assert (first, cell, told["map_index"]) == (1, [3, 5], 1)
    assert (same, inside, told_next["cell"]) == (1, [1, 3], [1, 3])
    assert "description" not in {**told, **told_next}


def test_indices_are_settled_when_objects_vanish(drive):
    script = """
    store.choose(1); await rest(); news();
    const seen = [];
    for (const objects of [data.one, []]) {
      kernel({ objects }); await rest();
      seen.push([store.state.selected, model.get("selected"), positives(), Object.keys(news()).sort()]);
    }
    return seen;
    """
    names = ["data_revision", "revision", "selected"]
    first = [0, 0, positives_of(priors.SHAPES128, [FAR]), names]
    assert drive(script, one=objects(FAR)) == [first, [-1, -1, [], names]]


def test_the_number_of_maps(drive):
    script = """
    const seen = [], look = () => seen.push([store.state.description, positives()]);
    store.useMaps(2); look();
    store.changeMap(0, { aspect_ratios: [3] });
    store.useMaps(4); look();
    store.changeMap(0, { aspect_ratios: data.ratios }); look();
    return seen;
    """
    whole, ratios = priors.SHAPES128, list(priors.SHAPES128.maps[0].aspect_ratios)
    two, four, again = ((priors.Config.from_dict(c), found) for c, found in drive(script, ratios=ratios))
    assert two[0] == whole.replace(name="MY_SHAPES128", maps=whole.maps[:2])
    assert (four[0].name, four[0].maps[1:]) == ("MY_SHAPES128", whole.maps[1:4])
    assert four[0].maps[0].aspect_ratios == (3,)
    assert again[0] == whole.replace(name=again[0].name, maps=whole.maps[:4])
    assert again[0].name == ("SHAPES128" if len(whole.maps) == 4 else "MY_SHAPES128")
    for config, found in (two, four, again):
        assert found == positives_of(config, TWO)


def test_turned_knobs_change_the_sizes_and_the_sizes_of_maps_to_come(drive, explorer):
    script = """
    store.turn({ low: 0.3, first: 0.12, whole: false });
    const sizes = () => store.state.description.maps.map((map) => [map.min_px, map.max_px]);
    const all = sizes();
    store.useMaps(3);
    const three = sizes();
    store.useMaps(data.count);
    await rest();
    return [all, three, sizes(), news().knobs];
    """
    count = len(priors.SHAPES128.maps)
    found, three, again, knobs = drive(script, count=count)
    high = explorer.knobs["high"]
    wanted = priors.formula_sizes(128, count, 0.12, 0.3, high)
    assert found == [pytest.approx(list(pair)) for pair in wanted]
    assert three == found[:3]  # maps that stay are left as they are
    assert again == found
    assert knobs == {"first": 0.12, "low": 0.3, "high": high, "whole": False}


def test_s_max_is_never_below_s_min(drive):
    assert drive("store.turn({ low: 0.8, high: 0.3 }); return store.state.knobs.high;") == 0.8


def test_a_description_that_cannot_be_is_refused_with_the_reason(drive):
    script = """
    news();
    const isTaken = [store.changeMap(0, { aspect_ratios: [1] })];
    await rest();
    const refused = news();
    isTaken.push(store.changeMap(0, { aspect_ratios: [2.5] }));
    await rest();
    return [isTaken, refused, said, news().description.maps[0].aspect_ratios];
    """
    is_taken, refused, said, ratios = drive(script)
    assert (is_taken, refused) == ([False, True], {})
    (why,) = filter(None, said)
    assert "no ratio 1" in why
    assert (said[-1], ratios) == ("", [2.5])


def test_a_preset_brings_its_description_and_knobs(drive, explorer):
    script = (
        "news(); store.usePreset('SSD300_PAPER'); await rest(); return [news(), store.result.own.length];"
    )
    told, own = drive(script)
    preset = next(p for p in explorer.presets if p["config"]["name"] == "SSD300_PAPER")
    assert (told["preset"], told["knobs"]) == ("SSD300_PAPER", preset["knobs"])
    assert priors.Config.from_dict(told["description"]) == priors.SSD300_PAPER
    assert own == 2


def test_centres_spread_evenly_and_back(drive):
    script = """
    store.usePreset("SSD300_VOC");
    const steps = () => store.state.description.maps.map((map) => map.step_px);
    store.spreadCenters(true);
    const evenly = [steps(), store.state.description.name];
    store.spreadCenters(false);
    return [evenly, [steps(), store.state.description.name]];
    """
    original = [m.step_px for m in priors.SSD300_VOC.maps]
    assert drive(script) == [[[None] * 6, "MY_SSD300_VOC"], [original, "SSD300_VOC"]]


def test_objects_come_change_and_go(drive):
    script = """
    const seen = [], look = () => seen.push([store.state.objects.map((o) => o.name), store.state.selected]);
    news(); store.removeObject(); await rest(); look();
    const nothing = news();
    store.addObject(); look();
    store.changeObject({ name: "bird" }); look();
    store.choose(0); store.removeObject(); look();
    store.removeObject(); store.removeObject(); look();
    await rest();
    return [nothing, seen, news()];
    """
    nothing, seen, told = drive(script)
    assert nothing == {}  # none was selected
    assert seen == [
        [["cat", "dog"], -1],
        [["cat", "dog", "cat"], 2],
        [["cat", "dog", "bird"], 2],
        [["dog", "bird"], 0],
        [[], -1],
    ]
    assert (told["objects"], told["selected"]) == ([], -1)


def test_what_a_slider_does_is_one_step_back(drive, explorer):
    script = """
    for (const threshold of [0.51, 0.52, 0.53]) store.update({ threshold }, true, "threshold");
    for (const low of [0.31, 0.32]) store.turn({ low });
    await rest();
    const before = store.state.knobs.low;
    store.undo();
    const first = [store.state.knobs, store.state.description, store.state.threshold];
    store.undo();
    return [before, ...first, store.state.threshold, store.history.canUndo];
    """
    before, knobs, description, threshold, start, more = drive(script)
    assert (before, knobs) == (0.32, explorer.knobs)
    assert priors.Config.from_dict(description) == priors.SHAPES128
    assert (threshold, start, more) == (0.53, 0.5, False)


def test_a_new_picture_ends_the_way_back(drive):
    script = """
    store.addObject(); await rest();
    store.pictureChanged();
    kernel({ objects: data.objects });
    await rest();
    return [store.history.canUndo, store.state.objects];
    """
    assert drive(script, objects=objects(FAR)) == [False, objects(FAR)]


def test_an_old_answer_is_not_taken_for_what_the_kernel_has_changed(drive):
    script = """
    kernel({ objects: data.objects });
    await rest();
    return [positives(), store.source];
    """
    assert drive(script, objects=objects(FAR)) == [positives_of(priors.SHAPES128, [FAR]), "browser"]
