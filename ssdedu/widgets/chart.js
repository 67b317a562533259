// Line charts on a canvas: axes with named ticks, lines told apart by colour, dash and name.

import { COLORS, DASHES } from "./base.js";

const FONT = "13px system-ui, sans-serif";

// area: { left, top, width, height }; x, y: { range: [low, high], ticks, name, log = false, show = String }.
export function chartOf(ctx, area, x, y, ink) {
  const warp = (axis, v) => (axis.log ? Math.log(v) : v);
  const part = (axis, v) =>
    (warp(axis, v) - warp(axis, axis.range[0])) / (warp(axis, axis.range[1]) - warp(axis, axis.range[0]));
  const toX = (v) => area.left + part(x, v) * area.width;
  const toY = (v) => area.top + (1 - part(y, v)) * area.height;
  const fromX = (px) => {
    const [low, high] = x.range.map((v) => warp(x, v));
    const v = low + ((px - area.left) / area.width) * (high - low);
    return x.log ? Math.exp(v) : v;
  };
  drawAxes(ctx, area, x, y, { toX, toY, ink });
  return { toX, toY, fromX };
}

function drawAxes(ctx, area, x, y, { toX, toY, ink }) {
  const bottom = area.top + area.height;
  Object.assign(ctx, { font: FONT, fillStyle: ink, strokeStyle: ink, lineWidth: 1 });
  ctx.setLineDash([]);
  ctx.beginPath();
  ctx.moveTo(area.left, area.top);
  ctx.lineTo(area.left, bottom);
  ctx.lineTo(area.left + area.width, bottom);
  for (const v of x.ticks) ctx.moveTo(toX(v), bottom), ctx.lineTo(toX(v), bottom + 4);
  for (const v of y.ticks) ctx.moveTo(area.left - 4, toY(v)), ctx.lineTo(area.left, toY(v));
  ctx.stroke();
  const [showX, showY] = [x.show ?? String, y.show ?? String];
  ctx.textAlign = "center";
  for (const v of x.ticks) ctx.fillText(showX(v), toX(v), bottom + 18);
  ctx.fillText(x.name, area.left + area.width / 2, bottom + 36);
  ctx.textAlign = "right";
  for (const v of y.ticks) ctx.fillText(showY(v), area.left - 7, toY(v) + 4);
  ctx.textAlign = "left";
  ctx.fillText(y.name, Math.max(0, area.left - 40), area.top - 8);
}

// points: [x, y] pairs; null breaks the line.
export function line(ctx, chart, points, kind, width = 2.5) {
  ctx.strokeStyle = COLORS[kind % COLORS.length];
  ctx.lineWidth = width;
  ctx.setLineDash(DASHES[kind % DASHES.length]);
  ctx.beginPath();
  let broken = true;
  for (const point of points) {
    if (point) ctx[broken ? "moveTo" : "lineTo"](chart.toX(point[0]), chart.toY(point[1]));
    broken = !point;
  }
  ctx.stroke();
  ctx.setLineDash([]);
}
