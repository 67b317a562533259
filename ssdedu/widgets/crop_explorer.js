import {
  COLORS, DASHES, canvasOf, element, follow, inkOf, loadImage, onDrag, outline, redrawOnChange, rootOf,
  select, send, slider,
} from "./base.js";
import { chartOf } from "./chart.js";
import { cursorOf, dragBox, hitBox, nudgeBox } from "./box_editor.js";
import {
  answerOf, below, cropSentence, fateOf, objectsInPatch, pixelsOf, shownPatch, trialSentence,
} from "./crop_rules.js";

const LARGEST = 420, VIEW = 300, STEP = 0.01, LEAST = 0.05, REACH = 14;
const PASSES = COLORS[2], REFUSED = COLORS[1];

const NAMES = ["image", "size_px", "objects", "samplers", "trials", "patch", "sampler", "trial"];
const stateOf = (model) => Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));
const tidy = (patch) => patch.map((v) => Math.round(v * 1000) / 1000);

function paintImage(ctx, picture, state, scale) {
  const patch = shownPatch(state), [x1, y1, x2, y2] = patch.map((v, i) => v * scale[i % 2]);
  ctx.drawImage(picture, 0, 0, ...scale);
  ctx.fillStyle = "rgba(0, 0, 0, 0.5)";
  ctx.fillRect(0, 0, scale[0], y1);
  ctx.fillRect(0, y2, scale[0], scale[1] - y2);
  ctx.fillRect(0, y1, x1, y2 - y1);
  ctx.fillRect(x2, y1, scale[0] - x2, y2 - y1);
  objectsInPatch(patch, state.objects, state.size_px).forEach((fate, i) => {
    const { box, name } = state.objects[i];
    outline(ctx, box, scale, COLORS[i % COLORS.length], DASHES[i % DASHES.length], { text: name });
    centreDot(ctx, box, scale, COLORS[i % COLORS.length], fate.left > 0);
  });
  outline(ctx, patch, scale, "black", [], { width: 3 });
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const places = [[x1, y1], [x, y1], [x2, y1], [x1, y], [x2, y], [x1, y2], [x, y2], [x2, y2]];
  for (const place of places) handle(ctx, ...place);
}

function centreDot(ctx, box, scale, color, isInside) {
  ctx.beginPath();
  ctx.arc(((box[0] + box[2]) / 2) * scale[0], ((box[1] + box[3]) / 2) * scale[1], 6, 0, 2 * Math.PI);
  const [fillStyle, strokeStyle] = isInside ? [color, "white"] : ["white", color];
  Object.assign(ctx, { fillStyle, strokeStyle, lineWidth: 2.5 });
  ctx.fill();
  ctx.stroke();
}

function handle(ctx, x, y) {
  Object.assign(ctx, { fillStyle: "white", strokeStyle: "black", lineWidth: 1.5 });
  ctx.fillRect(x - 4, y - 4, 8, 8);
  ctx.strokeRect(x - 4, y - 4, 8, 8);
}

function paintView(ctx, picture, state) {
  const patch = shownPatch(state), [left, top, right, bottom] = pixelsOf(patch, state.size_px);
  ctx.drawImage(picture, left, top, right - left, bottom - top, 0, 0, VIEW, VIEW);
  objectsInPatch(patch, state.objects, state.size_px).forEach(({ box, name }, i) => {
    if (box) outline(ctx, box, [VIEW, VIEW], COLORS[i % COLORS.length], DASHES[i % DASHES.length], { text: name });
  });
}

function paintTrials(ctx, { width, height }, { trials, sampler, trial, samplers }, ink) {
  const drawn = trials[sampler], { min_iou: low } = samplers[sampler];
  const last = Math.max(2, drawn.length), xticks = [1, ...[10, 20, 30, 40, 50, 100].filter((n) => n <= last)];
  const chart = chartOf(
    ctx,
    { left: 45, top: 26, width: width - 60, height: height - 70 },
    { range: [0, last + 1], ticks: xticks, name: "trial" },
    { range: [0, 1], ticks: [0, 0.5, 1], name: "best IoU (● passes, × is refused)" },
    ink,
  );
  ctx.strokeStyle = ink;
  if (low !== null) stroke(ctx, [[0, low], [last + 1, low]].map(([x, y]) => [chart.toX(x), chart.toY(y)]), [6, 4]);
  const now = chart.toX(Math.min(trial, drawn.length));
  if (trial) stroke(ctx, [[now, chart.toY(0)], [now, chart.toY(1)]]);
  drawn.forEach((t, i) => mark(ctx, chart.toX(i + 1), chart.toY(t.iou ?? 0), t.passes));
}

function stroke(ctx, points, dash = []) {
  ctx.setLineDash(dash);
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  points.forEach((point) => ctx.lineTo(...point));
  ctx.stroke();
  ctx.setLineDash([]);
}

function mark(ctx, x, y, isPass) {
  Object.assign(ctx, { fillStyle: PASSES, strokeStyle: REFUSED, lineWidth: 2 });
  ctx.beginPath();
  if (isPass) return ctx.arc(x, y, 4.5, 0, 2 * Math.PI), ctx.fill();
  for (const slope of [-1, 1]) ctx.moveTo(x - 3.5, y - 3.5 * slope), ctx.lineTo(x + 3.5, y + 3.5 * slope);
  ctx.stroke();
}

function tableOf(title, heads) {
  const body = element("tbody");
  const head = element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text))));
  const table = element("table", { className: "words" }, element("caption", {}, title), head, body);
  const fill = (rows) => body.replaceChildren(...rows.map(({ cells, isMarked }) => rowOf(cells, isMarked)));
  return { table, fill };
}

function rowOf([first, ...others], isMarked) {
  const name = element("th", { scope: "row" }, first);
  const cells = others.map((text) => element("td", {}, text));
  return element("tr", { className: isMarked ? "chosen" : "" }, name, ...cells);
}

function fillTables(state, objectTable, samplerTable) {
  const patch = shownPatch(state), boxes = state.objects.map((o) => o.box);
  const fates = objectsInPatch(patch, state.objects, state.size_px);
  objectTable.fill(fates.map((f) => ({ cells: [f.name, below(f.iou), fateOf(f)] })));
  samplerTable.fill(
    state.samplers.map((s, i) => {
      const answer = answerOf(patch, boxes, s);
      return { cells: [s.name, `${answer === "takes it" ? "✓" : "✗"} ${answer}`], isMarked: i === state.sampler };
    }),
  );
}

// Drag and arrow keys make the patch shown the reader's own.
function editPatch(view, model) {
  const set = (patch) => send(model, { patch: tidy(patch), trial: 0 });
  const shown = () => shownPatch(stateOf(model));
  const hit = (x, y) => hitBox([shown()], x / view.width, y / view.height, REACH / view.width, REACH / view.height);
  let from = null;
  onDrag(view, {
    start: (x, y) => {
      const found = hit(x, y);
      from = found && { x, y, patch: shown(), handle: found.handle };
      return Boolean(from);
    },
    move: (x, y) =>
      set(dragBox(from.patch, from.handle, (x - from.x) / view.width, (y - from.y) / view.height, LEAST, LEAST)),
  });
  view.canvas.addEventListener("pointermove", (e) => {
    if (!e.buttons) view.canvas.style.cursor = cursorOf(hit(...view.at(e))?.handle);
  });
  view.canvas.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const patch = nudgeBox(shown(), e.key, STEP, STEP, e.shiftKey, LEAST, LEAST);
    if (patch) e.preventDefault(), set(patch);
  });
}

function render({ model, el }) {
  const root = rootOf(el, "A crop and SSD's samplers");
  const [width, height] = model.get("size_px"), factor = LARGEST / Math.max(width, height);
  const now = () => stateOf(model);
  const view = canvasOf(factor * width, factor * height, "", (ctx) => {
    paintImage(ctx, picture, now(), [view.width, view.height]);
  });
  const preview = canvasOf(VIEW, VIEW, "", (ctx) => paintView(ctx, picture, now()));
  const chart = canvasOf(430, 200, "", (ctx) => paintTrials(ctx, chart, now(), inkOf(root).ink));
  const objectTable = tableOf("Objects", ["object", "IoU with the patch", "in the view"]);
  const samplerTable = tableOf("Samplers", ["sampler", "answer to this patch"]);
  const choice = select("Sampler", model.get("samplers").map((s, i) => [i, s.name]), model.get("sampler"), (v) => {
    const drawn = model.get("trials")[v].length;
    send(model, { sampler: Number(v), trial: Math.min(model.get("trial"), drawn) });
  });
  const trials = slider("Trial", { min: 0, max: 1, step: 1, value: 0, show: trialText }, (trial) => {
    send(model, { trial });
  });
  const out = element("output");
  const beside = (...parts) => element("div", { className: "beside" }, ...parts);
  const column = (...parts) => element("div", {}, ...parts);
  root.append(
    beside(column(view.canvas, hint()), column(preview.canvas, objectTable.table)),
    out,
    beside(column(choice.label, trials.label, chart.canvas), samplerTable.table),
  );
  view.canvas.classList.add("drag");
  view.canvas.tabIndex = 0;
  view.canvas.setAttribute("role", "application");
  view.canvas.setAttribute("role", "application");
  editPatch(view, model);

  function trialText(v) {
    return v ? `${v} of ${model.get("trials")[model.get("sampler")].length}` : "0: your own patch";
  }
  function draw() {
    for (const canvas of [view, preview, chart]) canvas.draw();
  }
  function update() {
    const state = now(), text = cropSentence(state), drawn = state.trials[state.sampler];
    out.textContent = text;
    choice.set(state.sampler);
    trials.input.max = drawn.length;
    trials.set(Math.min(state.trial, drawn.length));
    fillTables(state, objectTable, samplerTable);
    label(view.canvas, `Image with a patch. Arrow keys move it, Shift and arrow keys resize it. ${text}`);
    label(preview.canvas, `The view: the patch stretched to a square, with the objects that stay.`);
    const first = trialSentence({ ...state, trial: state.trial || 1 });
    label(chart.canvas, `Best IoU of each trial of the sampler. ${first}`);
    draw();
  }
  const picture = loadImage(model.get("image"), update);
  const stops = [follow(model, NAMES, update), redrawOnChange(draw)];
  return () => stops.forEach((stop) => stop());
}

function hint() {
  const keys = "Drag the patch or its edges; arrow keys move it, Shift + arrow keys resize it.";
  const dots = "Dots are the objects' centres, filled where the object stays.";
  return element("div", { className: "caption" }, `${keys} ${dots}`);
}

function label(canvas, text) {
  canvas.setAttribute("aria-label", text);
}

export default { render };
