"""The receptive field explorer: what a cell sees, in Python and on the page."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import traitlets
from cases import noise
from node import needs_node, run_node

from ssdedu.course.figures.receptive_fields import _paled
from ssdedu.datasets.shapes import draw_scene
from ssdedu.map_fields import effective_extent
from ssdedu.receptive_field import Layer, chain, paths, vgg16_ssd_layers
from ssdedu.widgets.receptive_field_explorer import Cell, ReceptiveFieldExplorer, ssd300_layers

NAMES = {atrous: [layer.name for layer in vgg16_ssd_layers(atrous=atrous)] for atrous in (True, False)}


@pytest.fixture
def explorer():
    return ReceptiveFieldExplorer(noise(40, 60))


def slow_ways(layers, cell):
    """Number of paths to a cell by pixel, padding included: one walk down from the cell."""
    ways = {cell: 1}
    for layer in reversed(layers):
        below = {}
        for at, count in ways.items():
            for tap in range(layer.kernel):
                pixel = at * layer.stride - layer.padding + tap * layer.dilation
                below[pixel] = below.get(pixel, 0) + count
        ways = below
    return ways


def slow_extent(layers, share):
    """The shortest interval about the middle, tried from one pixel or two upwards."""
    ways = slow_ways(layers, 0)
    first, last = min(ways), max(ways)
    weights = [ways.get(pixel, 0) ** 0.5 for pixel in range(first, last + 1)]
    for cut in range((len(weights) - 1) // 2, -1, -1):
        if sum(weights[cut : len(weights) - cut]) >= share * sum(weights):
            return len(weights) - 2 * cut
    return None


def cells_of(layer, atrous, dilation, rng, number=3):
    """The corner, the last and random cells of a layer."""
    size = chain(Cell(layer, 0, 0, atrous, dilation).layers(), 300)[-1].size
    found = [(0, 0), (size - 1, size - 1), *rng.integers(0, size, (number, 2)).tolist()]
    return [Cell(layer, row, column, atrous, dilation) for row, column in found]


def all_cells(seed=0):
    rng = np.random.default_rng(seed)
    kinds = [(True, 6), (False, 6), (True, int(rng.integers(1, 6))), (True, 7)]
    return [
        cell
        for atrous, dilation in kinds
        for name in NAMES[atrous]
        for cell in cells_of(name, atrous, dilation, rng)
    ]


def test_layers_are_vgg16_ssd_but_for_the_dilation():
    assert ssd300_layers() == vgg16_ssd_layers()
    assert ssd300_layers(False, 3) == vgg16_ssd_layers(atrous=False)
    for dilation in range(1, 8):
        changed = ssd300_layers(dilation=dilation)
        different = [a.name for a, b in zip(changed, vgg16_ssd_layers(), strict=True) if a != b]
        assert different == ([] if dilation == 6 else ["fc6"])
        fields = {f.name: f for f in chain(changed, 300)}
        assert fields["fc7"].size == 19
        assert fields["fc7"].receptive_field == 228 + 2 * 16 * dilation
    for wrong in (0, 8, 1.5):
        with pytest.raises(ValueError, match=r"dilation must be 1 \.\. 7, not"):
            ssd300_layers(dilation=wrong)


def test_effective_extent_by_hand():
    assert effective_extent([Layer(3)]) == 3  # 1, 1, 1: the middle one holds a third
    assert effective_extent([Layer(3)], share=0.3) == 1
    assert effective_extent([Layer(3, padding=1)] * 2, share=0.66) == 3  # roots of 1 2 3 2 1: 4.56 of 6.56
    assert effective_extent([Layer(3, padding=1)] * 2, share=0.70) == 5
    assert effective_extent([Layer(2, 2)]) == 2
    assert effective_extent([Layer(1)]) == 1


@pytest.mark.parametrize(
    ("name", "dilation", "extent"),
    [
        ("conv4_3", 6, 66),
        ("fc7", 6, 312),
        ("fc7", 1, 166),
        ("conv8_2", 6, 326),
        ("conv9_2", 6, 364),
        ("conv10_2", 6, 456),
        ("conv11_2", 6, 542),
    ],
)
def test_effective_extent_is_that_of_the_notebook(name, dilation, extent):
    assert effective_extent(Cell(name, 0, 0, dilation=dilation).layers()) == extent


def test_effective_extent_against_a_loop():
    for dilation in (2, 7):
        for number in (1, 4, 13, 20, 28):
            layers = ssd300_layers(dilation=dilation)[:number]
            assert effective_extent(layers) == slow_extent(layers, 0.95)


def test_a_cell_sees_what_a_walk_down_reaches():
    for cell in all_cells(1)[::3]:
        layers, seen = cell.layers(), cell.sight()
        share = 1.0
        for index, extent in ((cell.row, seen.rows), (cell.column, seen.columns)):
            reached = slow_ways(layers, index)
            assert extent == (min(reached), max(reached))
            share *= len([p for p in reached if 0 <= p < 300]) / len(reached)
        assert seen.in_image == pytest.approx(share)
        assert seen.field == chain(layers, 300)[-1]
        assert seen.effective_px <= seen.field.receptive_field


def test_weights_are_roots_of_paths_within_the_image():
    cell = Cell("conv3_1", 3, 70)
    weights = cell.weights()
    rows, columns = slow_ways(cell.layers(), 3), slow_ways(cell.layers(), 70)
    assert weights.shape == (300, 300)
    for row, column in ((2, 281), (14, 279), (0, 290), (25, 282), (26, 282), (10, 268)):
        expected = (rows.get(row, 0) * columns.get(column, 0)) ** 0.5
        assert weights[row, column] == pytest.approx(expected)
    assert (weights > 0).sum() == 24 * 24


def test_cells_that_are_not_there():
    with pytest.raises(ValueError, match="no layer 'conv12_2'; there are conv1_1, "):
        Cell("conv12_2", 0, 0).sight()
    with pytest.raises(ValueError, match="no layer 'conv11_2'"):
        Cell("conv11_2", 0, 0, atrous=False).layers()
    for wrong in ((19, 0), (0, -1)):
        with pytest.raises(ValueError, match="19 cells"):
            Cell("fc7", *wrong).sight()
        with pytest.raises(ValueError, match="19 cells"):
            ReceptiveFieldExplorer(noise(), "fc7", *wrong)
    with pytest.raises(ValueError, match="no layer 'fc8'"):
        ReceptiveFieldExplorer(noise(), "fc8")


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)]
)
def test_images_of_another_kind(image):
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        ReceptiveFieldExplorer(image)


def test_the_explorer_starts_in_the_middle_and_keeps_its_cell_inside(explorer):
    assert explorer.cell() == Cell("conv4_3", 19, 19)
    assert repr(explorer) == "ReceptiveFieldExplorer: conv4_3, cell (19, 19), of VGG16-SSD300"
    explorer.layer = "fc7"
    assert explorer.cell() == Cell("fc7", 18, 18)
    explorer.row, explorer.layer = 99, "conv11_2"
    assert explorer.cell() == Cell("conv11_2", 0, 0)
    explorer.atrous = False
    assert explorer.cell() == Cell("conv10_2", 0, 0, atrous=False)
    assert explorer.cell(layer="fc6", column=3) == Cell("fc6", 0, 3, atrous=False)
    with pytest.raises(traitlets.TraitError, match="no layer 'fc8'"):
        explorer.layer = "fc8"
    with pytest.raises(traitlets.TraitError):
        explorer.dilation = 8


def test_the_page_sends_a_whole_state(explorer):
    """All at once, as the page does: no order in which its parts would be wrong."""
    for state in ({"layer": "fc7", "row": 3, "column": 18}, {"layer": "conv1_1", "row": 299, "column": 5}):
        explorer.set_state(state)
        assert explorer.cell() == Cell(state["layer"], state["row"], state["column"])
    explorer.set_state({"layer": "conv10_2", "row": 0, "column": 0, "atrous": False})
    assert explorer.cell() == Cell("conv10_2", 0, 0, atrous=False)


def test_the_picture_is_stretched_and_the_state_small(explorer):
    import base64

    scene = ReceptiveFieldExplorer(draw_scene(3).image)
    own = {name: scene.get_state()[name] for name in ("image", "layers")}
    assert len(json.dumps(own)) < 40_000
    packed = np.frombuffer(base64.b64decode(explorer.image.partition(",")[2]), np.uint8)
    decoded = cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB)
    assert decoded.shape == (300, 300, 3)
    expected = cv2.resize(noise(40, 60), (300, 300), interpolation=cv2.INTER_LINEAR)
    assert np.abs(decoded.astype(int) - expected).mean() < 12  # a JPEG of noise


# The page's side


def described(layers):
    return [dataclasses.asdict(layer) for layer in layers]


def random_chains(seed=0, number=300):
    """Chains with strides, dilations and rounding up, an input size that fits and a cell of the last map."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < number:
        layers = [
            Layer(int(k), int(s), int(rng.integers(0, k)), int(d), bool(c), f"l{k}")
            for k, s, d, c in rng.integers((1, 1, 1, 0), (5, 4, 4, 2), (rng.integers(1, 6), 4))
        ]
        size = int(rng.integers(1, 60))
        try:
            last = chain(layers, size)[-1].size
        except ValueError:
            continue
        found.append((layers, size, int(rng.integers(0, last))))
    return found


@needs_node
def test_the_page_computes_any_chain_the_same(tmp_path):
    cases = random_chains()
    script = """data.map(([layers, size, index]) => {
        const fields = m.chain(layers, size);
        return [fields, m.paths(layers, size, index), m.effectiveExtent(layers), m.pixelsOf(fields.at(-1), index)];
    })"""
    data = [(described(layers), size, index) for layers, size, index in cases]
    for (layers, size, index), found in zip(
        cases, run_node(tmp_path, "receptive_field.js", script, data), strict=True
    ):
        fields = chain(layers, size)
        assert found[0] == described(fields)
        assert found[1] == paths(layers, size, index).tolist()
        assert found[2] == effective_extent(layers)
        assert found[3] == list(fields[-1].pixels(index))


@needs_node
def test_the_page_sees_the_same_from_every_layer(explorer, tmp_path):
    cells = all_cells()
    script = """data[1].map((cell) => {
        const s = m.sight(m.stateOf(data[0], cell).upto, cell.row, cell.column);
        return { ...s, weights: s.weights.map((w) => [w[0], w[150], w[299], w.reduce((a, b) => a + b)]) };
    })"""
    data = [explorer.layers, [cell._asdict() for cell in cells]]
    for cell, found in zip(
        cells, run_node(tmp_path, "receptive_field_explorer.js", script, data), strict=True
    ):
        seen = cell.sight()
        layers = cell.layers()
        assert found["layer"] == dataclasses.asdict(layers[-1])
        assert found["field"] == dataclasses.asdict(seen.field)
        assert (tuple(found["rows"]), tuple(found["columns"])) == (seen.rows, seen.columns)
        assert found["effective_px"] == seen.effective_px
        assert found["in_image"] == pytest.approx(seen.in_image, rel=1e-12)
        before = chain(layers[:-1])[-1].receptive_field if len(layers) > 1 else 1
        assert found["growth"] == seen.field.receptive_field - before
        for index, sample in zip((cell.row, cell.column), found["weights"], strict=True):
            weights = np.sqrt(paths(layers, 300, index))
            assert sample == pytest.approx([weights[0], weights[150], weights[299], weights.sum()])


@needs_node
def test_the_page_keeps_the_cell_inside_like_python(explorer, tmp_path):
    asked = [
        {"layer": "conv11_2", "row": 0, "column": 0, "atrous": False, "dilation": 6},
        {"layer": "fc7", "row": 30, "column": 7, "atrous": True, "dilation": 2},
        {"layer": "fc6", "row": 18, "column": 9, "atrous": False, "dilation": 2},
    ]
    script = """data[1].map((asked) => {
        const { layer, row, column, atrous, dilation, level, layers } = m.stateOf(data[0], asked);
        return [{ layer, row, column, atrous, dilation }, level, layers.length];
    })"""
    shown = run_node(tmp_path, "receptive_field_explorer.js", script, [explorer.layers, asked])
    for state, (found, level, number) in zip(asked, shown, strict=True):
        explorer.set_state(state)
        assert found == explorer.cell()._asdict()
        assert NAMES[state["atrous"]][level] == found["layer"]
        assert number == len(NAMES[state["atrous"]])


@needs_node
def test_the_nearest_cell(tmp_path):
    fields = chain(vgg16_ssd_layers(), 300)
    points = [-500, -1, 0, 7.9, 12, 100, 152, 150.3, 299, 300, 800]
    script = "data[0].map((field) => data[1].map((at) => m.nearestCell(field, at)))"
    data = [described(fields), points]
    for field, found in zip(fields, run_node(tmp_path, "receptive_field.js", script, data), strict=True):
        for at, index in zip(points, found, strict=True):
            distances = [abs(field.centre(i) - at) for i in range(field.size)]
            assert distances[index] == pytest.approx(min(distances))


@needs_node
def test_every_field_of_a_map_lies_in_its_margin(explorer, tmp_path):
    """... and maps share few margins, so that the scale seldom changes."""
    script = """[[true, 6], [true, 7], [false, 6]].flatMap(([atrous, dilation]) => {
        const layers = m.stateOf(data, { layer: "", row: 0, column: 0, atrous, dilation }).layers;
        return layers.map((layer) => {
            const s = m.stateOf(data, { layer: layer.name, row: 0, column: 0, atrous, dilation });
            return [s.field, m.marginOf(s.field)];
        });
    })"""
    found = run_node(tmp_path, "receptive_field_explorer.js", script, explorer.layers)
    for field, margin in found:
        last = field["start"] + (field["size"] - 1) * field["jump"]
        assert field["start"] - field["receptive_field"] / 2 >= -margin
        assert last + field["receptive_field"] / 2 <= 300 + margin
    assert {margin for _, margin in found} == {50, 125, 240, 300}


@needs_node
def test_the_page_pales_like_the_figures(tmp_path):
    photo = noise(12, 9)
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(0, 3, photo.shape[0]), rng.uniform(0, 5, photo.shape[1])
    rows[0] = columns[2] = 0
    pixels = np.concatenate([photo, np.full((*photo.shape[:2], 1), 255)], axis=2)
    data = [pixels.reshape(-1).tolist(), rows.tolist(), columns.tolist()]
    script = "Array.from(m.paled(data[0], data[1], data[2]))"
    found = np.reshape(run_node(tmp_path, "receptive_field_draw.js", script, data), pixels.shape)
    expected = _paled(photo, np.outer(rows, columns))
    assert np.abs(found[..., :3] - expected.astype(int)).max() <= 1
    assert (found[..., :3] == expected).mean() > 0.99
    assert (found[..., 3] == 255).all()


@needs_node
def test_the_page_says_what_is_seen(explorer, tmp_path):
    cells = [Cell("conv4_3", 0, 19), Cell("fc6", 9, 9), Cell("fc7", 4, 4, atrous=False)]
    script = """data[1].map((cell) => {
        const s = m.sight(m.stateOf(data[0], cell).upto, cell.row, cell.column);
        return [m.sentence(s), Object.fromEntries(m.numbers(s))];
    })"""
    data = [explorer.layers, [cell._asdict() for cell in cells]]
    (corner, _), (text, fc6), (_, full) = run_node(tmp_path, "receptive_field_explorer.js", script, data)
    assert corner == (
        "conv4_3, cell (0, 19): its field spans rows -42 to 49 and columns 110 to 201. "
        "54 % of it is image, the rest padding."
    )
    assert text.startswith("fc6, cell (9, 9): its field spans rows -58 to 361 and columns -58 to 361. 51 %")
    assert fc6 == {
        "layer": "3 × 3, stride 1, padding 6, dilation 6",
        "size": "19 × 19 cells",
        "jump": "16 px",
        "start": "8 px",
        "receptive field": "420 px (192 by this layer)",
        "effective field": "312 px",
    }
    assert (full["jump"], full["receptive field"], full["layer"]) == (
        "32 px",
        "404 px",
        "1 × 1, stride 1, padding 0",
    )
