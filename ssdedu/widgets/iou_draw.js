// What the IoU explorer draws: two boxes on a square ground, and a bar for their IoU.

import { COLORS, DASHES, outline, plate } from "./base.js";
import { area } from "./geometry.js";

export const SIDE = 420;
export const THRESHOLD = 0.5;
const GROUND = "#EEEEEE";

// The corners of what two boxes share; of boxes apart, a box turned inside out.
export function shared(a, b) {
  return [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
}

// Boxes A and B in fractions of the drawing, what they share hatched, their union outlined; handles on the chosen.
export function drawBoxes(ctx, boxes, chosen, picture) {
  const scale = [SIDE, SIDE], common = shared(...boxes);
  drawGround(ctx, picture);
  if (area(common) > 0) drawShared(ctx, common);
  drawUnion(ctx, boxes);
  for (const i of [1 - chosen, chosen]) outline(ctx, boxes[i], scale, COLORS[i], DASHES[i]);
  drawHandles(ctx, boxes[chosen], COLORS[chosen]);
  const [a, b] = boxes.map((box) => box.map((v) => v * SIDE));
  plate(ctx, "A", a[0] + 7, a[1] + 7, COLORS[0], scale);
  plate(ctx, "B", b[2] - 23, b[3] - 24, COLORS[1], scale);
}

function drawGround(ctx, picture) {
  ctx.fillStyle = GROUND;
  ctx.fillRect(0, 0, SIDE, SIDE);
  if (picture) return ctx.drawImage(picture, 0, 0, SIDE, SIDE);
  ctx.strokeStyle = "#D0D0D0";
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let v = SIDE / 10; v < SIDE - 1; v += SIDE / 10) {
    ctx.moveTo(v, 0), ctx.lineTo(v, SIDE);
    ctx.moveTo(0, v), ctx.lineTo(SIDE, v);
  }
  return ctx.stroke();
}

function drawShared(ctx, box) {
  const [x1, y1, x2, y2] = box.map((v) => v * SIDE);
  ctx.save();
  ctx.beginPath();
  ctx.rect(x1, y1, x2 - x1, y2 - y1);
  ctx.clip();
  ctx.fillStyle = "rgba(120, 120, 120, 0.6)";
  ctx.fill();
  ctx.strokeStyle = "rgba(255, 255, 255, 0.8)";
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  for (let x = -SIDE; x < SIDE; x += 9) ctx.moveTo(x, SIDE), ctx.lineTo(x + SIDE, 0);
  ctx.stroke();
  ctx.restore();
}

// Both boxes stroked broadly where neither is: what remains runs around their union.
function drawUnion(ctx, boxes) {
  const rects = boxes.map((box) => {
    const [x1, y1, x2, y2] = box.map((v) => v * SIDE);
    return [x1, y1, x2 - x1, y2 - y1];
  });
  ctx.save();
  for (const rect of rects) {
    ctx.beginPath();
    ctx.rect(0, 0, SIDE, SIDE);
    ctx.rect(...rect);
    ctx.clip("evenodd");
  }
  Object.assign(ctx, { strokeStyle: "#222222", lineWidth: 14, lineJoin: "round" });
  for (const rect of rects) ctx.strokeRect(...rect);
  ctx.restore();
}

function drawHandles(ctx, box, color) {
  const [x1, y1, x2, y2] = box.map((v) => v * SIDE);
  Object.assign(ctx, { fillStyle: "white", strokeStyle: color, lineWidth: 2 });
  for (const x of [x1, (x1 + x2) / 2, x2]) {
    for (const y of [y1, (y1 + y2) / 2, y2]) {
      if (x === (x1 + x2) / 2 && y === (y1 + y2) / 2) continue;
      ctx.fillRect(x - 4, y - 4, 8, 8);
      ctx.strokeRect(x - 4, y - 4, 8, 8);
    }
  }
}

// A number and a bar from 0 to 1 with SSD's threshold on it.
export function drawGauge(ctx, value, { ink, ground }) {
  const left = 1, long = SIDE - 2, at = (v) => left + v * long;
  Object.assign(ctx, { fillStyle: ink, strokeStyle: ink, textAlign: "left", lineWidth: 1.5 });
  ctx.font = "bold 30px system-ui, sans-serif";
  ctx.fillText(`IoU ${value.toFixed(4)}`, left, 30);
  ctx.fillStyle = value < THRESHOLD ? COLORS[1] : COLORS[0];
  ctx.fillRect(left, 44, value * long, 18);
  ctx.strokeRect(left, 44, long, 18);
  for (const [w, color] of [[6, ground], [3, ink]]) {
    ctx.fillStyle = color;
    ctx.fillRect(at(THRESHOLD) - w / 2, 38, w, 30);
  }
  ctx.font = "13px system-ui, sans-serif";
  for (const [v, text, align] of [[0, "0", "left"], [THRESHOLD, "SSD's threshold 0.5", "center"], [1, "1", "right"]]) {
    ctx.textAlign = align;
    ctx.fillText(text, at(v), 84);
  }
}
