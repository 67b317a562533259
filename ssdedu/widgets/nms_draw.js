// What the suppression explorer draws, from `look`: the candidates (table), what the suppression did with them
// (outcome), the stage of the replay, and how a kept box is called and looks (nameOf, colorOf, dashOf).

import { outline, plate } from "./base.js";
import { chartOf } from "./chart.js";
import { boxOf, victims } from "./nms.js";

export const MOST_DRAWN = 100;
const MOST_NAMED = 30;
const BLACK = "#000000"; // true objects
const GREY = "#444444"; // candidates that wait, and numbers

// focus: the kept box whose victims are shown alone, with their IoU, or null; rivals: its own (see rivalsOf).
export function drawPicture(ctx, scale, picture, look, { focus, rivals, objects }) {
  drawGround(ctx, picture, scale);
  drawLosers(ctx, look, scale, focus);
  drawObjects(ctx, objects, scale);
  drawKept(ctx, look, scale, focus);
  drawTexts(ctx, look, { focus, rivals, objects }, scale);
}

function drawGround(ctx, picture, scale) {
  Object.assign(ctx, { fillStyle: "white", imageSmoothingEnabled: false });
  ctx.fillRect(0, 0, ...scale);
  ctx.globalAlpha = 0.5;
  ctx.drawImage(picture, 0, 0, ...scale);
  ctx.globalAlpha = 1;
}

function losersOf({ outcome, stage }, focus) {
  const shown = focus === null ? stage.dropped : victims(outcome.by, (i) => i === focus);
  return shown.slice(0, MOST_DRAWN);
}

function drawLosers(ctx, look, scale, focus) {
  const { table, outcome, stage } = look;
  for (const i of stage.waiting.slice(0, MOST_DRAWN)) {
    outline(ctx, boxOf(table, i), scale, GREY, [], { width: 1, halo: null });
  }
  for (const i of losersOf(look, focus)) {
    const by = outcome.by[i];
    outline(ctx, boxOf(table, i), scale, look.colorOf(by), look.dashOf(by), { width: 2, halo: null });
  }
}

function drawKept(ctx, { table, stage, colorOf }, scale, focus) {
  const shown = stage.kept.slice(0, MOST_DRAWN).filter((i) => i !== focus).reverse();
  for (const i of focus === null ? shown : [...shown, focus]) {
    outline(ctx, boxOf(table, i), scale, colorOf(i), [], { width: i === focus ? 5 : 3 });
  }
}

// Texts as far as there is room: the box in focus, the IoU of its victims, missed objects, the other kept boxes.
function drawTexts(ctx, look, { focus, rivals, objects }, scale) {
  const { table, stage, nameOf, colorOf } = look;
  const named = (i) => ({ box: boxOf(table, i), text: nameOf(i), color: colorOf(i) });
  const iouOf = ({ i, iou }) => ({ box: boxOf(table, i), text: iou.toFixed(2), color: GREY });
  const kept = stage.kept.slice(0, MOST_NAMED).filter((i) => i !== focus).map(named);
  const own = focus === null ? [] : rivals.filter((r) => r.dropped).slice(0, MOST_NAMED).map(iouOf);
  const lost = objects.missed.map(({ box }) => ({ box, text: "missed", color: BLACK }));
  drawPlates(ctx, [...(focus === null ? [] : [named(focus)]), ...lost, ...own, ...kept], scale);
}

function drawPlates(ctx, texts, scale) {
  const taken = [];
  for (const { box, text, color } of texts) {
    const wide = 8 + 8 * text.length;
    const spot = freeSpot([...box].map((v, k) => v * scale[k % 2]), wide, taken, scale);
    if (!spot) continue;
    taken.push([...spot, wide]);
    plate(ctx, text, ...spot, color, scale);
  }
}

// Where a plate of that width meets no other: at a corner of the box, outside or else inside; null if nowhere.
export function freeSpot([x1, y1, x2, y2], wide, taken, [width, height]) {
  const corners = [[x1, y1 - 17], [x2 - wide, y1 - 17], [x1, y2], [x2 - wide, y2], [x1, y2 - 17], [x1, y1]];
  const inside = corners.map(([x, y]) => [
    Math.max(0, Math.min(x, width - wide)), Math.max(0, Math.min(y, height - 17)),
  ]);
  const free = ([x, y]) => taken.every(([a, b, w]) => x + wide <= a || a + w <= x || Math.abs(y - b) >= 17);
  return inside.find(free) ?? null;
}

// The true objects of the chosen class: lines for those found, dots for those missed.
function drawObjects(ctx, { found, missed }, scale) {
  for (const { box } of found) outline(ctx, box, scale, BLACK, [], { width: 2 });
  for (const { box } of missed) outline(ctx, box, scale, BLACK, [2, 3], { width: 2 });
}

// Score over IoU for the rivals of a box, and the threshold: what lies right of it is suppressed.
export function drawRivals(ctx, view, rivals, { title, limit, floor, color, ink }) {
  const area = { left: 46, top: 44, width: view.width - 62, height: view.height - 90 };
  const x = { range: [0, 1], ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], name: "IoU with that box" };
  const ticks = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1].filter((v) => v >= floor);
  const chart = chartOf(ctx, area, x, { range: [floor, 1], ticks, name: "score", log: true }, ink);
  write(ctx, title, ink);
  drawLimit(ctx, chart.toX(limit), area);
  for (const fate of [false, true]) {
    const points = rivals.filter((r) => r.dropped === fate).slice(0, MOST_DRAWN);
    dots(ctx, points.map((r) => [chart.toX(r.iou), chart.toY(r.score)]), fate ? color : ink, fate);
  }
}

// One line at the top.
export function write(ctx, text, ink) {
  Object.assign(ctx, { font: "13px system-ui, sans-serif", fillStyle: ink });
  ctx.fillText(text, 0, 14);
}

function dots(ctx, points, color, filled) {
  Object.assign(ctx, { fillStyle: color, strokeStyle: color, lineWidth: 1.5 });
  ctx.beginPath();
  for (const [x, y] of points) {
    ctx.moveTo(x + 5, y);
    ctx.arc(x, y, 5, 0, 2 * Math.PI);
  }
  if (filled) ctx.fill();
  ctx.stroke();
}

function drawLimit(ctx, x, { top, height }) {
  ctx.setLineDash([6, 4]);
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, top + height);
  ctx.stroke();
  ctx.setLineDash([]);
}
