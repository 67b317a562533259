import {
  COLORS, canvasOf, element, follow, inkOf, onDrag, redrawOnChange, rootOf, select, send, slider,
} from "./base.js";
import { chartOf } from "./chart.js";
import { averagePrecision, cuts, interpolated, keptAbove, pointAt, thresholdOf, walk } from "./evaluate.js";

const [WIDE, HIGH] = [430, 390];
const GRID = { left: 50, top: 36, width: WIDE - 58, height: HIGH - 78 };
const PLOT = { left: 50, top: 36, width: WIDE - 62, height: HIGH - 88 };
const VERDICTS = { T: ["true positive", COLORS[0]], F: ["false positive", COLORS[1]], I: ["ignored", "#808080"] };
const STAIRS = COLORS[2];

export function pointsOf({ recall, precision }) {
  return recall.map((r, i) => [r, precision[i]]);
}

// Corners of the stairs [recall, precision] over the curve, down to 0 beyond the last recall.
export function stairs({ recall, best }) {
  const corners = best.flatMap((height, i) => [[recall[i - 1] ?? 0, height], [recall[i], height]]);
  return [...corners, [recall.at(-1) ?? 0, 0], [1, 0]];
}

// The largest cells, in columns, with which so many detections fit into the width and height.
export function gridOf(number, { width, height }) {
  let cell = 30;
  while (cell > 1 && Math.ceil(number / Math.floor(width / cell)) * cell > height) cell -= 0.5;
  return { cell, columns: Math.floor(width / cell) };
}

// The detection in whose cell a point of the list lies; in the margins the one nearest to it.
export function detectionAt(x, y, number, area) {
  const { cell, columns } = gridOf(number, area);
  const column = Math.max(0, Math.min(columns - 1, Math.floor((x - area.left) / cell)));
  const row = Math.max(0, Math.floor((y - area.top) / cell));
  return Math.min(number - 1, row * columns + column);
}

export function nearestPoint(points, [x, y]) {
  const away = points.map(([px, py]) => Math.hypot(px - x, py - y));
  return away.indexOf(Math.min(...away));
}

const number3 = (v) => (Number.isNaN(v) ? "not defined" : v.toFixed(3));
const several = (n, name) => `${n} ${name}${n === 1 ? "" : "s"}`;

export function sentence(point, threshold, { detections, objects, iou, ap }) {
  const kept = point.kept ? `Score at least ${threshold.toFixed(3)}` : "No score is so high";
  return (
    `${kept}: ${point.kept} of ${detections} detections kept. ` +
    `${several(point.truePositive, "true positive")}, ${several(point.falsePositive, "false positive")}, ` +
    `${point.ignored} ignored; ${point.missed} of ${several(objects, "object")} missed (false negatives). ` +
    `Precision ${number3(point.precision)}, recall ${number3(point.recall)}. ` +
    `AP of the whole list at IoU ${iou.toFixed(2)}: ${number3(ap.voc07)} by 11 points, ${number3(ap.area)} by area.`
  );
}

function stateOf(model) {
  const { name, scores, num_objects: objects, marks: all } = model
    .get("curves")
    .find((c) => c.name === model.get("kind"));
  const [threshold, iou, metric] = ["threshold", "iou_threshold", "metric"].map((trait) => model.get(trait));
  const away = model.get("iou_thresholds").map((t) => Math.abs(t - iou));
  const level = away.indexOf(Math.min(...away));
  const marks = all[level];
  const ap = { voc07: averagePrecision(marks, objects, "voc07"), area: averagePrecision(marks, objects, "area") };
  const point = pointAt(marks, objects, keptAbove(scores, threshold));
  return { name, scores, objects, marks, level, threshold, iou, metric, ap, point, detections: scores.length };
}

function drawVerdict(ctx, mark, x, y, size) {
  const r = Math.max(1, size * 0.36);
  Object.assign(ctx, { fillStyle: VERDICTS[mark][1], strokeStyle: VERDICTS[mark][1] });
  ctx.lineWidth = Math.max(1, r * (mark === "F" ? 0.6 : 0.4));
  ctx.beginPath();
  if (mark === "T") ctx.arc(x, y, r, 0, 2 * Math.PI);
  if (mark === "F") for (const s of [-r, r]) ctx.moveTo(x - r, y - s), ctx.lineTo(x + r, y + s);
  if (mark === "I") ctx.rect(x - r * 0.8, y - r * 0.8, r * 1.6, r * 1.6);
  mark === "T" ? ctx.fill() : ctx.stroke();
}

function paintList(ctx, state, ink) {
  const { cell, columns } = gridOf(state.detections, GRID);
  Object.assign(ctx, { font: "13px system-ui, sans-serif", fillStyle: ink, textAlign: "left" });
  ctx.fillText("score", 4, PLOT.top - 8);
  ctx.fillText(`${several(state.detections, "detection")}: ${state.name}, best first`, GRID.left, PLOT.top - 8);
  [...state.marks].forEach((mark, i) => {
    const [x, y] = [(i % columns) + 0.5, Math.floor(i / columns) + 0.5].map((v) => v * cell);
    ctx.globalAlpha = i < state.point.kept ? 1 : 0.35;
    drawVerdict(ctx, mark, GRID.left + x, GRID.top + y, cell);
  });
  ctx.globalAlpha = 1;
  paintScores(ctx, state.scores, cell, columns, ink);
  if (state.detections) paintCut(ctx, state.point.kept, cell, columns, ink);
  paintLegend(ctx, state.point, ink);
}

// The score of the first detection of every row, or of as many rows as there is room for.
function paintScores(ctx, scores, cell, columns, ink) {
  const every = Math.ceil(16 / cell);
  Object.assign(ctx, { fillStyle: ink, textAlign: "right" });
  for (let row = 0; row * columns < scores.length; row += every) {
    ctx.fillText(scores[row * columns].toFixed(3), GRID.left - 8, GRID.top + (row + 0.5) * cell + 4);
  }
}

// The line between what is kept and what is not.
function paintCut(ctx, kept, cell, columns, ink) {
  const [x, y] = [GRID.left + (kept % columns) * cell, GRID.top + Math.floor(kept / columns) * cell];
  const corners = [[GRID.left + columns * cell, y], [x, y]];
  if (kept % columns) corners.push([x, y + cell], [GRID.left, y + cell]);
  Object.assign(ctx, { strokeStyle: ink, lineWidth: 2 });
  ctx.beginPath();
  for (const corner of corners) ctx.lineTo(...corner);
  ctx.stroke();
}

function paintLegend(ctx, point, ink) {
  const numbers = { T: point.truePositive, F: point.falsePositive, I: point.ignored };
  ctx.textAlign = "left";
  Object.entries(VERDICTS).forEach(([mark, [name]], i) => {
    const x = 8 + i * 145;
    drawVerdict(ctx, mark, x, HIGH - 18, 18);
    ctx.fillStyle = ink;
    ctx.fillText(`${name} ${numbers[mark]}`, x + 12, HIGH - 13);
  });
}

function paintCurve(ctx, state, { ink, ground }) {
  const axis = { ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], show: (v) => v.toFixed(1) };
  const x = { ...axis, name: "recall", range: [0, 1.02] }, y = { ...axis, name: "precision", range: [0, 1.04] };
  const chart = chartOf(ctx, PLOT, x, y, ink);
  ctx.textAlign = "right";
  const name = { voc07: "11 points", area: "area" }[state.metric];
  ctx.fillText(`IoU ${state.iou.toFixed(2)}: AP ${number3(state.ap[state.metric])} (${name})`, WIDE - 8, PLOT.top - 8);
  ctx.textAlign = "left";
  if (state.objects) paintSteps(ctx, chart, state, ink, ground);
  else ctx.fillText("no object of this class: no recall", PLOT.left + 70, HIGH / 2);
  return chart;
}

function paintSteps(ctx, chart, state, ink, ground) {
  const steps = walk(state.marks, state.objects);
  paintAverage(ctx, chart, state, stairs(steps));
  const points = pointsOf(steps);
  trace(ctx, chart, points, ink, 1, 0.6);
  trace(ctx, chart, points.slice(0, state.point.kept), ink, 2.5);
  if (state.point.kept) paintMarker(ctx, chart, points[state.point.kept - 1], ink, ground);
}

function trace(ctx, chart, points, color, width, alpha = 1) {
  Object.assign(ctx, { strokeStyle: color, lineWidth: width, globalAlpha: alpha, lineJoin: "round" });
  ctx.beginPath();
  for (const [x, y] of points) ctx.lineTo(chart.toX(x), chart.toY(y));
  ctx.stroke();
  ctx.globalAlpha = 1;
}

// The stairs, and what is averaged: the ground below them, or their heights at the eleven recalls.
function paintAverage(ctx, chart, state, corners) {
  trace(ctx, chart, corners, STAIRS, 2.5);
  ctx.fillStyle = STAIRS;
  if (state.metric === "area") {
    ctx.globalAlpha = 0.25;
    ctx.beginPath();
    for (const [x, y] of [...corners, [0, 0]]) ctx.lineTo(chart.toX(x), chart.toY(y));
    ctx.fill();
    ctx.globalAlpha = 1;
    return;
  }
  interpolated(state.marks, state.objects).forEach((height, j) => {
    trace(ctx, chart, [[j / 10, 0], [j / 10, height]], STAIRS, 1.5);
    ctx.beginPath();
    ctx.arc(chart.toX(j / 10), chart.toY(height), 5, 0, 2 * Math.PI);
    ctx.fill();
  });
}

function paintMarker(ctx, chart, [recall, precision], ink, ground) {
  ctx.setLineDash([4, 4]);
  trace(ctx, chart, [[recall, 0], [recall, precision], [0, precision]], ink, 1);
  ctx.setLineDash([]);
  Object.assign(ctx, { fillStyle: ground, strokeStyle: ink, lineWidth: 3 });
  ctx.beginPath();
  ctx.arc(chart.toX(recall), chart.toY(precision), 7, 0, 2 * Math.PI);
  ctx.fill();
  ctx.stroke();
}

// Clicks of every pointer, drags of those that do not scroll the page.
function onPoint(view, pick) {
  view.canvas.addEventListener("click", (e) => pick(...view.at(e)));
  onDrag(view, { start: (x, y, e) => e.pointerType !== "touch", move: pick });
}

function controlsOf(model) {
  const ious = model.get("iou_thresholds");
  const ranks = () => cuts(stateOf(model).scores);
  const keep = (kept) => send(model, { threshold: thresholdOf(stateOf(model).scores, kept) });
  const shownScore = (i) => {
    const { scores, detections, threshold, point } = stateOf(model);
    const kept = cuts(scores)[i];
    const score = kept === point.kept ? threshold : scores[kept - 1];
    return kept ? `${kept} of ${detections}: scores of at least ${score.toFixed(3)}` : `none of ${detections}`;
  };
  const limit = slider("Keep the best", { min: 0, max: 1, step: 1, value: 0, show: shownScore }, (i) =>
    keep(ranks()[i]),
  );
  const iou = slider(
    "IoU that a hit needs",
    { min: 0, max: ious.length - 1, step: 1, value: 0, show: (i) => ious[i].toFixed(2) },
    (i) => send(model, { iou_threshold: ious[i] }),
  );
  const names = model.get("curves").map((c) => [c.name, c.name]);
  const kind = select("Class", names, model.get("kind"), (name) => send(model, { kind: name }));
  const metrics = [["voc07", "11 points (VOC2007)"], ["area", "area (VOC2010 and later)"]];
  const metric = select("AP as", metrics, model.get("metric"), (name) => send(model, { metric: name }));
  const set = (state) => {
    limit.input.max = ranks().length - 1;
    limit.set(ranks().indexOf(state.point.kept));
    iou.set(state.level);
    kind.set(state.name);
    metric.set(state.metric);
  };
  const choices = element("div", { className: "bar" }, kind.label, metric.label);
  return { all: [limit.label, iou.label, choices], keep, set };
}

function render({ model, el }) {
  const root = rootOf(el, "Ranked detections and the precision-recall curve");
  const list = canvasOf(WIDE, HIGH, "", (ctx) => paintList(ctx, stateOf(model), inkOf(root).ink));
  let chart;
  const plot = canvasOf(WIDE, HIGH, "", (ctx) => (chart = paintCurve(ctx, stateOf(model), inkOf(root))));
  const panels = element("div", { className: "beside" }, list.canvas, plot.canvas);
  const controls = controlsOf(model);
  const out = element("output");
  root.append(panels, ...controls.all, out);

  const keepThrough = (i) => {
    const { scores } = stateOf(model);
    if (scores.length) controls.keep(keptAbove(scores, scores[i]));
  };
  onPoint(list, (x, y) => keepThrough(detectionAt(x, y, stateOf(model).detections, GRID)));
  onPoint(plot, (x, y) => {
    const { marks, objects } = stateOf(model);
    const shown = pointsOf(walk(marks, objects)).map(([r, p]) => [chart.toX(r), chart.toY(p)]);
    if (objects) keepThrough(nearestPoint(shown, [x, y]));
  });

  function update() {
    const state = stateOf(model);
    out.textContent = sentence(state.point, state.threshold, state);
    list.canvas.setAttribute("aria-label", `Detections of class ${state.name}, best first. ${out.textContent}`);
    plot.canvas.setAttribute("aria-label", `Precision over recall of class ${state.name}, the threshold marked.`);
    controls.set(state);
    list.draw();
    plot.draw();
  }
  const draw = () => [list, plot].forEach((view) => view.draw());
  const traits = ["kind", "threshold", "iou_threshold", "metric"];
  const stops = [follow(model, traits, update), redrawOnChange(draw)];
  update();
  return () => stops.forEach((stop) => stop());
}

export default { render };
