// ssdedu.crops and augment.crop in JavaScript, and what they say in words. Patches and boxes are corners in
// fractions of the image.

import { area, iou } from "./geometry.js";

const ROUNDING = 1e-9;

// crops.pass_crops, for the IoU of one patch with each object.
export function passesSampler(ious, sampler) {
  const { min_iou: low, max_iou: high } = sampler;
  if (low === null && high === null) return true;
  return ious.some((v) => v >= (low ?? -Infinity) && v <= (high ?? Infinity));
}

export function shapeOf(patch) {
  const [width, height] = [patch[2] - patch[0], patch[3] - patch[1]];
  return { scale: Math.sqrt(width * height), aspect: width / height };
}

// verdict of crop_explorer.py: may the sampler propose this patch, and does it have the IoU asked for?
export function verdictOf(patch, boxes, sampler) {
  const { scale, aspect } = shapeOf(patch);
  const within = (v) => Math.max(scale ** 2, Math.min(scale ** -2, v));
  const [narrowest, widest] = [within(sampler.min_aspect), within(sampler.max_aspect)];
  return {
    scale: sampler.min_scale - ROUNDING <= scale && scale <= sampler.max_scale + ROUNDING,
    aspect: narrowest * (1 - ROUNDING) <= aspect && aspect <= widest * (1 + ROUNDING),
    overlap: passesSampler(boxes.map((box) => iou(patch, box)), sampler),
  };
}

// numpy's rint: to the nearest, halves to the even neighbour.
function rint(v) {
  const low = Math.floor(v), part = v - low;
  return low + (part > 0.5 || (part === 0.5 && low % 2 !== 0) ? 1 : 0);
}

// The whole pixels of a patch: left, top, right, bottom.
export function pixelsOf(patch, [width, height]) {
  const [x1, y1, x2, y2] = patch.map((v, i) => rint(v * (i % 2 ? height : width)));
  const [left, top] = [Math.min(x1, width - 1), Math.min(y1, height - 1)];
  return [left, top, Math.max(x2, left + 1), Math.max(y2, top + 1)];
}

// augment.crop for one object: its box in fractions of the view, or null where its centre is outside.
export function boxInView(box, rectangle, size) {
  const px = box.map((v, i) => v * size[i % 2]);
  const inside = [0, 1].every((i) => {
    const centre = (px[i] + px[i + 2]) / 2;
    return centre >= rectangle[i] && centre <= rectangle[i + 2];
  });
  const moved = px.map((v, i) => (v - rectangle[i % 2]) / (rectangle[2 + (i % 2)] - rectangle[i % 2]));
  const cut = moved.map((v) => Math.fround(Math.max(0, Math.min(1, v))));
  return inside && cut[2] > cut[0] && cut[3] > cut[1] ? cut : null;
}

// What becomes of each object: box in the view (null: gone), IoU with the patch, share of its area left.
export function objectsInPatch(patch, objects, size) {
  const rectangle = pixelsOf(patch, size);
  const pixels = (rectangle[2] - rectangle[0]) * (rectangle[3] - rectangle[1]);
  return objects.map(({ box, name }) => {
    const seen = boxInView(box, rectangle, size);
    const left = seen ? (area(seen) * pixels) / (area(box) * size[0] * size[1]) : 0;
    return { name, box: seen, iou: iou(patch, box), left };
  });
}

export function magnificationOf(patch, size) {
  const [left, top, right, bottom] = pixelsOf(patch, size);
  return Math.sqrt((size[0] * size[1]) / ((right - left) * (bottom - top)));
}

// The patch on the page: the reader's own, or that of the trial.
export function shownPatch({ patch, sampler, trial, trials }) {
  return trial ? trials[sampler].slice(0, trial).at(-1).patch : patch;
}

// ---- words

// Three digits that never reach a limit which the number itself does not reach.
export const below = (v) => (Math.floor(v * 1000 + 1e-6) / 1000).toFixed(3);
export const above = (v) => (Math.ceil(v * 1000 - 1e-6) / 1000).toFixed(3);
const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function misfit(name, v, low, high) {
  return v < low ? `${name} ${below(v)} < ${+low.toFixed(3)}` : `${name} ${above(v)} > ${+high.toFixed(3)}`;
}

// "takes it", or the first reason why not.
export function answerOf(patch, boxes, sampler) {
  const { scale, aspect } = shapeOf(patch), said = verdictOf(patch, boxes, sampler);
  if (!said.scale) return misfit("scale", scale, sampler.min_scale, sampler.max_scale);
  if (!said.aspect) return misfit("aspect", aspect, sampler.min_aspect, sampler.max_aspect);
  if (said.overlap) return "takes it";
  if (!boxes.length) return "needs an object";
  const best = Math.max(...boxes.map((box) => iou(patch, box)));
  return best < sampler.min_iou ? `best IoU ${below(best)} < ${sampler.min_iou}` : "no IoU in its range";
}

export function fateOf({ left }) {
  if (!left) return "gone: centre outside";
  return left > 1 - 1e-5 ? "stays" : `stays, cut to ${Math.min(99, Math.max(1, Math.round(100 * left)))}\u00a0%`;
}

export function trialSentence({ sampler, trial, trials, samplers }) {
  const drawn = trials[sampler], number = Math.min(trial, drawn.length);
  const passing = drawn.flatMap((t, i) => (t.passes ? [i + 1] : []));
  const found = passing.length
    ? `${passing.length} of ${many(drawn.length, "trial")} ${passing.length === 1 ? "passes" : "pass"}; ` +
      `SSD takes the first, trial ${passing[0]}.`
    : `None of its ${many(drawn.length, "trial")} passes: no crop from it.`;
  const verdict = drawn[number - 1].passes ? "passes" : "is refused";
  const name = samplers[sampler].name;
  return `${name[0].toUpperCase()}${name.slice(1)}: trial ${number} ${verdict}. ${found} `;
}

export function cropSentence(state) {
  const patch = shownPatch(state), { objects, samplers, size_px: size } = state;
  const fates = objectsInPatch(patch, objects, size), kept = fates.filter((f) => f.left);
  const best = fates.reduce((a, b) => (a && a.iou >= b.iou ? a : b), null);
  const taking = samplers.filter((s) => answerOf(patch, objects.map((o) => o.box), s) === "takes it");
  const names = taking.length ? `: ${taking.map((s) => s.name).join(", ")}` : "";
  const { scale, aspect } = shapeOf(patch), times = magnificationOf(patch, size).toFixed(2);
  const overlap = best ? `; best IoU ${below(best.iou)} (${best.name})` : "";
  return (
    (state.trial ? trialSentence(state) : "") +
    `Patch of scale ${below(scale)} and aspect ${aspect.toFixed(2)}${overlap}. ` +
    `${taking.length} of ${many(samplers.length, "sampler")} would take it${names}. ` +
    `${kept.length} of ${many(objects.length, "object")} ${kept.length === 1 ? "stays" : "stay"}. ` +
    `The view magnifies ${times} times (side of an object, compared with no crop).`
  );
}
