import {
  canvasOf, checkbox, element, follow, inkOf, loadImage, plate, redrawOnChange, rootOf, send, slider,
} from "./base.js";
import { centreOf, chain, effectiveExtent, nearestCell, paths, pixelsOf, ssd300Layers } from "./receptive_field.js";
import { EFFECTIVE, FIELD, drawScene, shaderOf } from "./receptive_field_draw.js";

const [SIZE, WIDTH] = [300, 520];
const TRAITS = ["layer", "row", "column", "atrous", "dilation"];
const LEGEND =
  "Point at the image; a click or the arrow keys keep a cell. Solid frame: receptive field, tinted where it is " +
  "padding. Dashed: effective field, the middle with 95\u00a0% of the weight along each axis. The paler a pixel, the " +
  "less it counts. Dots: centres of cells.";
const MARGINS = [50, 125, 240, 300]; // px around the image: few, so that the scale seldom changes
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// The settings as they can be drawn, whatever the kernel has sent so far: an unknown layer is the last, a cell
// beyond the map its last. layers: all, upto: those as far as the chosen one, field: its map.
export function stateOf(chains, now) {
  const layers = ssd300Layers(chains, now.atrous, now.dilation);
  const found = layers.findIndex((layer) => layer.name === now.layer);
  const level = found < 0 ? layers.length - 1 : found;
  const upto = layers.slice(0, level + 1);
  const field = chain(upto, SIZE).at(-1);
  const [row, column] = [now.row, now.column].map((index) => Math.min(index, field.size - 1));
  return { ...now, layer: field.name, row, column, layers, level, upto, field };
}

// What the cell of the last layer sees; weights: of each row and of each column of the image.
export function sight(layers, row, column) {
  const fields = chain(layers, SIZE);
  const [field, before] = [fields.at(-1), fields.at(-2)];
  const ways = [row, column].map((index) => paths(layers, SIZE, index));
  const seen = ways.map((counts) => counts.filter((count) => count > 0).length);
  return {
    layer: layers.at(-1),
    field,
    row,
    column,
    rows: pixelsOf(field, row),
    columns: pixelsOf(field, column),
    effective_px: effectiveExtent(layers),
    in_image: (seen[0] * seen[1]) / field.receptive_field ** 2,
    growth: field.receptive_field - (before ? before.receptive_field : 1),
    weights: ways.map((counts) => counts.map(Math.sqrt)),
  };
}

// Room around the image in which every field of the map lies.
export function marginOf(field) {
  const needed = Math.max(-pixelsOf(field, 0)[0], pixelsOf(field, field.size - 1)[1] + 1 - SIZE);
  return MARGINS.find((margin) => margin >= needed) ?? needed;
}

// What is seen, in words.
export function sentence(s) {
  const inside = Math.floor(s.in_image * 100);
  return (
    `${s.field.name}, cell (${s.row}, ${s.column}): its field spans rows ${s.rows.join(" to ")} and columns ` +
    `${s.columns.join(" to ")}. ${inside} % of it is image${inside < 100 ? ", the rest padding" : ""}.`
  );
}

export function numbers(s) {
  const { kernel, stride, padding, dilation } = s.layer;
  const taps = dilation > 1 ? `, dilation ${dilation}` : "";
  return [
    ["layer", `${kernel} × ${kernel}, stride ${stride}, padding ${padding}${taps}`],
    ["size", `${s.field.size} × ${s.field.size} cells`],
    ["jump", `${s.field.jump} px`],
    ["start", `${s.field.start} px`],
    ["receptive field", `${s.field.receptive_field} px${s.growth ? ` (${s.growth} by this layer)` : ""}`],
    ["effective field", `${s.effective_px} px`],
  ];
}

const CELL_STYLE =
  "text-align: left; vertical-align: top; font-weight: normal; white-space: normal; border: 0; padding: 1px 14px 1px 0";

function tableOf() {
  const body = element("tbody");
  const show = (rows) => body.replaceChildren(...rows.map(([name, value]) => {
    const head = element("th", { scope: "row", style: CELL_STYLE }, name);
    return element("tr", {}, head, element("td", { style: CELL_STYLE }, value));
  }));
  return { table: element("table", { label: "Numbers of this map" }, body), show };
}

// The main canvas is as wide as its place, so that its text keeps its size on a narrow page.
function fit(view, widest) {
  const width = Math.min(widest, view.canvas.parentElement.clientWidth) || widest;
  if (width !== view.width) view.resize(width, width);
}

function layoutOf(main, lens, table) {
  const left = element("div", { style: `flex: 1 1 320px; max-width: ${WIDTH}px` }, main.canvas);
  const right = element("div", { style: "flex: 1 1 260px; max-width: 360px" }, lens.canvas, table);
  const style = "display: flex; flex-wrap: wrap; gap: 8px 16px; margin-bottom: 10px";
  return element("div", { style }, left, right);
}

// Layer and fc6; change takes the traits that a control sets.
function controlsOf(state, change) {
  const depth = slider(
    "Layer",
    { min: 0, max: state().layers.length - 1, step: 1, value: 0, show: (i) => state().layers[i]?.name },
    (i) => change({ layer: state().layers[i].name }),
  );
  const text = "SSD's pool5 and fc6 (off: those of the full VGG16)";
  const atrous = checkbox(text, true, (on) => change({ atrous: on }));
  const dilation = slider("Dilation of fc6", { min: 1, max: 7, step: 1, value: 6 }, (v) => change({ dilation: v }));
  const set = (now) => {
    depth.input.max = now.layers.length - 1;
    depth.set(now.level);
    atrous.set(now.atrous);
    dilation.set(now.dilation);
    dilation.input.disabled = !now.atrous;
  };
  return { labels: [depth, atrous, dilation].map((control) => control.label), set };
}

// pick(point, keep): [y, x] in px of the image, or null when the pointer leaves; step(rows, columns) by key.
function listen(view, windowOf, pick, step) {
  const pointOf = (e) => {
    const { left, top, scale } = windowOf();
    const [x, y] = view.at(e);
    return [y / scale + top, x / scale + left];
  };
  view.canvas.addEventListener("pointermove", (e) => e.pointerType !== "touch" && pick(pointOf(e), false));
  view.canvas.addEventListener("pointerleave", () => pick(null, false));
  view.canvas.addEventListener("click", (e) => pick(pointOf(e), true));
  view.canvas.addEventListener("keydown", (e) => {
    if (!Object.hasOwn(ARROWS, e.key)) return;
    e.preventDefault();
    step(...ARROWS[e.key]);
  });
}

function render({ model, el }) {
  const root = rootOf(el, "Receptive field of a cell");
  const state = (changes = {}) => {
    const now = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
    return stateOf(model.get("layers"), { ...now, ...changes });
  };
  const main = canvasOf(WIDTH, WIDTH, "", paintMain);
  const lens = canvasOf(280, 280, "The field of this cell, enlarged", paintLens);
  const controls = controlsOf(state, change);
  const { table, show } = tableOf();
  const out = element("output");
  const photo = checkbox("photo (off: the more orange, the more a pixel counts)", true, draw);
  const legend = element("div", { style: "max-width: 760px; font-size: 14px" }, LEGEND);
  root.append(...controls.labels, photo.label, layoutOf(main, lens, table), out, legend);
  main.canvas.tabIndex = 0;
  main.canvas.setAttribute("role", "application");
  listen(main, windowOf, pick, step);

  let place = null; // [y, x] px that the reader chose: another layer shows the cell nearest to it
  let hover = null, seen = null, shader = null, busy = false;

  function commit({ layer, row, column, atrous, dilation }) {
    [busy, hover] = [true, null];
    send(model, { layer, row, column, atrous, dilation });
    busy = false;
    update();
  }
  function change(changes) {
    const now = state(changes);
    const [row, column] = place.map((at) => nearestCell(now.field, at));
    commit({ ...now, row, column });
  }
  function pick(point, keep) {
    const now = state(), cell = point && point.map((at) => nearestCell(now.field, at));
    if (keep) {
      place = point;
      commit({ ...now, row: cell[0], column: cell[1] });
    } else if (String(cell) !== String(hover)) {
      hover = cell;
      update();
    }
  }
  function step(rows, columns) {
    const now = state();
    const next = state({ row: Math.max(0, now.row + rows), column: Math.max(0, now.column + columns) });
    place = [next.row, next.column].map((index) => centreOf(next.field, index));
    commit(next);
  }
  function windowOf() {
    const margin = marginOf(seen.field);
    return { left: -margin, top: -margin, scale: main.width / (SIZE + 2 * margin) };
  }
  function paintMain(ctx) {
    const { field, effective } = drawScene(ctx, shader.canvas, seen, windowOf(), inkOf(root).ink);
    const scale = [main.width, main.height];
    plate(ctx, `field ${seen.field.receptive_field} px`, field[0], field[1] - 19, FIELD, scale);
    plate(ctx, `effective ${seen.effective_px} px`, effective[0], effective[3] + 3, EFFECTIVE, scale);
  }
  function paintLens(ctx) {
    const extent = seen.field.receptive_field, margin = 0.04 * extent + 0.5;
    const window = { left: seen.columns[0] - margin, top: seen.rows[0] - margin };
    drawScene(ctx, shader.canvas, seen, { ...window, scale: lens.width / (extent + 2 * margin) }, inkOf(root).ink);
  }
  function update() {
    const now = state(), kept = [now.row, now.column];
    if (String(kept) !== String(place?.map((at) => nearestCell(now.field, at)))) {
      place = kept.map((index) => centreOf(now.field, index));
    }
    seen = sight(now.upto, ...(hover ?? kept));
    controls.set(now);
    show(numbers(seen));
    out.textContent = sentence(seen);
    main.canvas.setAttribute("aria-label", `Photo and field of a cell; arrow keys choose it. ${sentence(seen)}`);
    draw();
  }
  function draw() {
    if (!shader) return;
    shader.shade(seen.weights, photo.input.checked);
    fit(main, WIDTH);
    main.draw();
    lens.draw();
  }

  const picture = loadImage(model.get("image"), () => {
    shader = shaderOf(picture, SIZE);
    draw();
  });
  update();
  const stops = [follow(model, TRAITS, () => busy || update()), redrawOnChange(draw)];
  return () => stops.forEach((stop) => stop());
}

export default { render };
