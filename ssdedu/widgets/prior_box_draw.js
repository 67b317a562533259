// The explorer's canvas: image, grid, fields, default boxes, positives, objects. All boxes in fractions of the image.

import { COLORS, DASHES, outline, plate } from "./base.js";
import { cellCenters } from "./priors.js";
import { cellCenter, mapOf } from "./prior_box_scene.js";

export const MARGIN = 44;
const SIDE = 440;

// Size of the canvas for a network input: the image as the network sees it, with a margin for what leaves it.
export function canvasSize(config) {
  const scale = SIDE / Math.max(config.width_px, config.height_px);
  return [config.width_px * scale + 2 * MARGIN, config.height_px * scale + 2 * MARGIN];
}

export function mapColor(mapIndex) {
  return COLORS[mapIndex % COLORS.length];
}

// scene: { config, detector, result, objects, selected, map, cell, cellBoxes, field, hover, show, picture }.
export function paintScene(ctx, [width, height], scene, { ink, ground }) {
  const scale = [width - 2 * MARGIN, height - 2 * MARGIN];
  ctx.save();
  ctx.translate(MARGIN, MARGIN);
  ctx.imageSmoothingEnabled = scene.picture.naturalWidth >= scale[0] / 2;
  if (scene.picture.complete && scene.picture.naturalWidth) ctx.drawImage(scene.picture, 0, 0, ...scale);
  ctx.strokeStyle = ink;
  ctx.lineWidth = 1;
  ctx.strokeRect(-0.5, -0.5, scale[0] + 1, scale[1] + 1);
  if (scene.show.grid) paintGrid(ctx, scale, scene);
  if (scene.show.field && scene.field) paintField(ctx, scale, scene);
  if (scene.show.cell) paintCell(ctx, scale, scene);
  if (scene.show.positives) paintPositives(ctx, scale, scene);
  paintObjects(ctx, scale, scene);
  if (scene.hover) paintHover(ctx, scale, scene, ground);
  ctx.restore();
}

function paintGrid(ctx, scale, { config, map: k }) {
  const map = config.maps[k];
  const dot = Math.max(1, Math.min(3, (scale[0] / map.width) * 0.12));
  const x = cellCenters(map.width, map.step_px, config.width_px), y = cellCenters(map.height, map.step_px, config.height_px);
  ctx.fillStyle = "white";
  for (const cy of y) for (const cx of x) ctx.fillRect(cx * scale[0] - dot - 0.7, cy * scale[1] - dot - 0.7, 2 * dot + 1.4, 2 * dot + 1.4);
  ctx.fillStyle = mapColor(k);
  for (const cy of y) for (const cx of x) ctx.fillRect(cx * scale[0] - dot, cy * scale[1] - dot, 2 * dot, 2 * dot);
}

function paintField(ctx, scale, { config, map, cell, field }) {
  const center = [field.start + cell[1] * field.jump, field.start_y + cell[0] * field.jump];
  const frames = [[field.field_px, [2, 4], "theoretical field"], [field.middle_px, [10, 5], "its middle, 95 %"]];
  for (const [i, [size, dash, text]] of frames.entries()) {
    const [cx, cy] = [center[0] / config.width_px, center[1] / config.height_px];
    const [w, h] = [size / 2 / config.width_px, size / 2 / config.height_px];
    outline(ctx, [cx - w, cy - h, cx + w, cy + h], scale, "#000000", dash, { width: 2 });
    plate(ctx, text, (cx - w) * scale[0] + 4, Math.max(0, (cy - h) * scale[1] + 4) + 20 * i, "#000000", scale);
  }
  ctx.setLineDash([]);
}

function paintCell(ctx, scale, { config, map, cell, cellBoxes }) {
  const [cx, cy] = cellCenter(config, map, cell);
  cellBoxes.forEach(({ box }, i) => {
    outline(ctx, box, scale, mapColor(map), DASHES[i % DASHES.length], { width: 1.7 });
  });
  cross(ctx, cx * scale[0], cy * scale[1], mapColor(map));
}

function cross(ctx, x, y, color) {
  for (const [ink, width] of [["white", 5], [color, 2]]) {
    ctx.strokeStyle = ink;
    ctx.lineWidth = width;
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.moveTo(x - 7, y), ctx.lineTo(x + 7, y), ctx.moveTo(x, y - 7), ctx.lineTo(x, y + 7);
    ctx.stroke();
  }
}

// Those of the selected object, or of all; each object's own box, the bipartite winner, is bold with a star.
function paintPositives(ctx, scale, { detector, result, hover, selected }) {
  const own = new Set(result.own);
  const faint = result.positives.filter(([, g]) => selected >= 0 && g !== selected);
  const clear = result.positives.filter((q) => !faint.includes(q)).sort((a, b) => own.has(a[0]) - own.has(b[0]));
  for (const [p, g] of [...faint, ...clear]) {
    const map = mapOf(p, detector.first), isOwn = own.has(p), isHeld = hover?.p === p;
    const box = Array.from(detector.corners.subarray(5 * p, 5 * p + 4));
    const width = (isOwn ? 3.5 : 1.4) + 2 * isHeld;
    ctx.globalAlpha = selected >= 0 && g !== selected ? 0.3 : 1;
    outline(ctx, box, scale, mapColor(map), DASHES[map % DASHES.length], { width, halo: isOwn ? "white" : "#ffffff77", around: isOwn ? 2 : 1 });
    if (isOwn) star(ctx, ((box[0] + box[2]) / 2) * scale[0], ((box[1] + box[3]) / 2) * scale[1], mapColor(map));
  }
  ctx.globalAlpha = 1;
}

// Marks the bipartite winner: the default box that is an object's own.
function star(ctx, x, y, color) {
  ctx.beginPath();
  for (let i = 0; i < 10; i++) {
    const r = i % 2 ? 4 : 9, a = (Math.PI * i) / 5 - Math.PI / 2;
    ctx.lineTo(x + r * Math.cos(a), y + r * Math.sin(a));
  }
  ctx.closePath();
  Object.assign(ctx, { fillStyle: color, strokeStyle: "white", lineWidth: 2 });
  ctx.stroke();
  ctx.fill();
}

function paintObjects(ctx, scale, { objects, selected }) {
  objects.forEach(({ box, name }, g) => {
    const text = name || `object ${g + 1}`;
    outline(ctx, box, scale, "#000000", g === selected ? [] : [6, 3], { width: g === selected ? 3 : 2 });
    plate(ctx, text, box[0] * scale[0], box[3] * scale[1] + 2, "#000000", scale);
  });
  if (objects[selected]) paintHandles(ctx, scale, objects[selected].box);
}

function paintHandles(ctx, scale, [x1, y1, x2, y2]) {
  const side = Math.max(4, Math.min(10, ((x2 - x1) * scale[0]) / 4, ((y2 - y1) * scale[1]) / 4));
  for (const x of [x1, (x1 + x2) / 2, x2]) {
    for (const y of [y1, (y1 + y2) / 2, y2]) {
      if (x === (x1 + x2) / 2 && y === (y1 + y2) / 2) continue;
      Object.assign(ctx, { fillStyle: "white", strokeStyle: "black", lineWidth: 1.5 });
      ctx.fillRect(x * scale[0] - side / 2, y * scale[1] - side / 2, side, side);
      ctx.strokeRect(x * scale[0] - side / 2, y * scale[1] - side / 2, side, side);
    }
  }
}

function paintHover(ctx, scale, { detector, config, hover, objects }) {
  const map = mapOf(hover.p, detector.first);
  const text = `IoU ${hover.iou.toFixed(2)} with ${objects[hover.g].name || `object ${hover.g + 1}`}, ${config.maps[map].name}`;
  plate(ctx, text, hover.x * scale[0] + 12, hover.y * scale[1] - 24, mapColor(map), scale);
}
