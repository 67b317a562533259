// The photo shaded by weight, and on it field, effective field and cells of one map.

import { COLORS, DASHES, element, outline } from "./base.js";
import { centreOf } from "./receptive_field.js";

export const [FIELD, EFFECTIVE, CHOSEN] = [COLORS[0], COLORS[2], COLORS[1]];
const COUNTS = [230, 159, 0, 255];

// Pixels [r, g, b, a, ...] pale grey where their weight is small; rows, columns: weights along each axis.
export function paled(pixels, rows, columns) {
  const out = new Uint8ClampedArray(pixels.length);
  const peak = Math.max(...rows) * Math.max(...columns) || 1;
  for (let i = 0; i < pixels.length; i += 4) {
    const share = (rows[Math.floor(i / 4 / columns.length)] * columns[(i / 4) % columns.length]) / peak;
    const pale = 200 + (0.2 * (pixels[i] + pixels[i + 1] + pixels[i + 2])) / 3;
    for (let c = 0; c < 3; c++) out[i + c] = pixels[i + c] * share + pale * (1 - share);
    out[i + 3] = 255;
  }
  return out;
}

// Draws in image pixels: window = { left, top, scale } in px of the image and canvas units a pixel.
export function drawScene(ctx, shaded, s, { left, top, scale }, ink) {
  const toX = (px) => (px - left) * scale, toY = (px) => (px - top) * scale;
  const field = [toX(s.columns[0]), toY(s.rows[0]), toX(s.columns[1] + 1), toY(s.rows[1] + 1)];
  const image = [toX(0), toY(0), shaded.width * scale, shaded.height * scale];
  ctx.imageSmoothingEnabled = scale < 1;
  ctx.drawImage(shaded, ...image);
  tintOutside(ctx, image, field);
  Object.assign(ctx, { strokeStyle: ink, lineWidth: 1 });
  ctx.strokeRect(...image);
  if (s.field.jump * scale >= 5) drawCells(ctx, s.field, toX, toY);
  const [x, y] = [centreOf(s.field, s.column), centreOf(s.field, s.row)];
  const half = s.effective_px / 2;
  const effective = [toX(x - half), toY(y - half), toX(x + half), toY(y + half)];
  outline(ctx, field, [1, 1], FIELD);
  const halo = s.effective_px < s.field.receptive_field ? "white" : null; // on the field's frame: leave it visible
  outline(ctx, effective, [1, 1], EFFECTIVE, DASHES[1], { halo });
  disc(ctx, toX(x), toY(y), 4.5, CHOSEN, "white");
  return { field, effective };
}

// What of the field is not image: padding.
function tintOutside(ctx, image, [x1, y1, x2, y2]) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x1, y1, x2 - x1, y2 - y1);
  ctx.clip();
  ctx.beginPath();
  ctx.rect(x1, y1, x2 - x1, y2 - y1);
  ctx.rect(...image);
  ctx.globalAlpha = 0.3;
  ctx.fillStyle = FIELD;
  ctx.fill("evenodd");
  ctx.restore();
}

function drawCells(ctx, field, toX, toY) {
  const at = Array.from({ length: field.size }, (_, index) => centreOf(field, index));
  const radius = Math.min(1.5, (toX(field.jump) - toX(0)) / 10);
  for (const y of at) for (const x of at) disc(ctx, toX(x), toY(y), radius, "black", "white");
}

function disc(ctx, x, y, radius, color, halo) {
  for (const [fill, r] of [[halo, 1.6 * radius + 0.3], [color, radius]]) {
    ctx.fillStyle = fill;
    ctx.beginPath();
    ctx.arc(x, y, r, 0, 2 * Math.PI);
    ctx.fill();
  }
}

// A canvas that shows the photo, or a plain ground, shaded for a cell.
export function shaderOf(picture, size) {
  const canvas = element("canvas", { width: size, height: size });
  const ctx = canvas.getContext("2d", { willReadFrequently: true });
  ctx.drawImage(picture, 0, 0, size, size);
  const { data } = ctx.getImageData(0, 0, size, size);
  const plain = data.map((_, i) => COUNTS[i % 4]);
  const shade = (weights, onPhoto) =>
    ctx.putImageData(new ImageData(paled(onPhoto ? data : plain, ...weights), size, size), 0, 0);
  return { canvas, shade };
}
