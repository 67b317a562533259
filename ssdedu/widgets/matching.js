// ssdedu.matching in JavaScript, rounded to float32 after each operation as torch does: the same numbers, bit by bit.

const round = Math.fround;
const MIN_OVERLAP = round(1e-6);
const SMALLEST = 1.1754943508222875e-38;

// cx, cy, w, h of P default boxes to x1, y1, x2, y2 and, fifth, their areas: Float32Array of 5 P.
export function cornersAndAreas(priors) {
  const count = priors.length / 4, out = new Float32Array(5 * count);
  for (let p = 0; p < count; p++) {
    const halfW = priors[4 * p + 2] / 2, halfH = priors[4 * p + 3] / 2;
    const x1 = round(priors[4 * p] - halfW), y1 = round(priors[4 * p + 1] - halfH);
    const x2 = round(priors[4 * p] + halfW), y2 = round(priors[4 * p + 1] + halfH);
    out[5 * p] = x1, out[5 * p + 1] = y1, out[5 * p + 2] = x2, out[5 * p + 3] = y2;
    out[5 * p + 4] = round(Math.max(0, round(x2 - x1)) * Math.max(0, round(y2 - y1)));
  }
  return out;
}

// IoU of one box with all default boxes, written into a Float32Array from `at` on.
export function iouRow(box, corners, out, at = 0) {
  const [x1, y1, x2, y2] = box.map(round);
  const own = round(Math.max(0, round(x2 - x1)) * Math.max(0, round(y2 - y1)));
  const count = corners.length / 5;
  for (let p = 0, c = 0; p < count; p++, c += 5) {
    const w = round(Math.min(x2, corners[c + 2]) - Math.max(x1, corners[c]));
    const h = round(Math.min(y2, corners[c + 3]) - Math.max(y1, corners[c + 1]));
    const inter = w > 0 && h > 0 ? round(w * h) : 0;
    const union = Math.max(SMALLEST, round(round(own + corners[c + 4]) - inter));
    out[at + p] = inter / union;
  }
}

export function overlapsOf(boxes, corners) {
  const count = corners.length / 5, out = new Float32Array(boxes.length * count);
  boxes.forEach((box, g) => iouRow(box, corners, out, g * count));
  return out;
}

// Each object's own default box by greedy choice, -1 for none: overlaps is G x P. Ties as in Python.
export function bipartite(overlaps, G) {
  const P = G ? overlaps.length / G : 0, taken = new Uint8Array(P), own = new Array(G).fill(-1);
  const favourite = Array.from({ length: G }, (_, g) => bestFree(overlaps, g, P, taken));
  let open = favourite.map((f, g) => g).filter((g) => favourite[g].iou > MIN_OVERLAP);
  while (open.length) {
    const free = own.map((p) => p < 0);
    const pairs = open.filter((g) => winnerOf(overlaps, P, favourite[g].p, free) === g);
    for (const g of pairs) own[g] = favourite[g].p;
    for (const g of pairs) taken[favourite[g].p] = 1;
    open = open.filter((g) => own[g] < 0);
    for (const g of open) if (taken[favourite[g].p]) favourite[g] = bestFree(overlaps, g, P, taken);
    open = open.filter((g) => favourite[g].iou > MIN_OVERLAP);
  }
  return own;
}

function bestFree(overlaps, g, P, taken) {
  let [p, iou] = [0, -1];
  for (let i = 0; i < P; i++) {
    const v = taken[i] ? -1 : overlaps[g * P + i];
    if (v > iou) [p, iou] = [i, v];
  }
  return { p, iou };
}

// The free object that fits default box p best, the earlier one where two are equal.
function winnerOf(overlaps, P, p, free) {
  let [winner, most] = [-1, -1];
  free.forEach((isFree, g) => {
    const v = isFree ? overlaps[g * P + p] : -1;
    if (v > most) [winner, most] = [g, v];
  });
  return winner;
}

// objectIndex (P), -1 for background; iou (P) with that object, or the largest with any; own (G), -1 for none.
export function match(boxes, corners, threshold = 0.5, rule = "ssd") {
  const G = boxes.length, P = corners.length / 5, overlaps = overlapsOf(boxes, corners);
  const objectIndex = new Int32Array(P).fill(-1), iou = new Float32Array(P);
  for (let g = 0; g < G; g++) {
    for (let p = 0; p < P; p++) {
      const v = overlaps[g * P + p];
      if (v > iou[p] || (g === 0 && v >= iou[p])) iou[p] = v, objectIndex[p] = g;
    }
  }
  const limit = round(threshold);
  for (let p = 0; p < P; p++) if (rule === "multibox" || !(iou[p] >= limit)) objectIndex[p] = -1;
  const own = rule === "threshold" ? new Array(G).fill(-1) : bipartite(overlaps, G);
  own.forEach((p, g) => {
    if (p >= 0) objectIndex[p] = g, iou[p] = overlaps[g * P + p];
  });
  return { objectIndex, iou, own, overlaps };
}

// The largest IoU of each object with any default box.
export function bestOverlap(overlaps, G) {
  const P = G ? overlaps.length / G : 0;
  return Array.from({ length: G }, (_, g) => bestFree(overlaps, g, P, new Uint8Array(P)));
}
