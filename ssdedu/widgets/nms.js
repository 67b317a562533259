// Greedy suppression as ssdedu.boxes.nms does it, on typed arrays: boxes (4 numbers each), scores and labels of
// candidates, best score first. A candidate is its place in these arrays.

const FOUND_IOU = 0.5;
const SMALLEST = 1.1754943508222875e-38; // float32's: two boxes of zero area have IoU 0
const float32 = Math.fround;

function numbersOf(base64, Kind) {
  return new Kind(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
}

// What the kernel packed: boxes (4 numbers each), scores and labels, best score first. To these come the boxes
// cut at the border, and the areas.
export function unpack({ boxes, scores, labels }) {
  return withAreas({
    boxes: numbersOf(boxes, Float32Array),
    scores: numbersOf(scores, Float32Array),
    labels: numbersOf(labels, Uint16Array),
  });
}

function withAreas(table) {
  const areas = table.scores.map((_, i) => areaAt(table.boxes, i));
  return { ...table, areas, inside: table.boxes.map((v) => Math.min(1, Math.max(0, v))) };
}

function areaAt(boxes, i) {
  const p = 4 * i;
  const w = Math.max(0, boxes[p + 2] - boxes[p]), h = Math.max(0, boxes[p + 3] - boxes[p + 1]);
  return float32(float32(w) * float32(h));
}

// IoU of box i of a and box j of b, rounded at every step as ssdedu.boxes.iou rounds it: the results are equal
// to the last bit, so that both agree on boxes whose IoU lies at the threshold.
export function iouFloat32(a, i, b, j) {
  const p = 4 * i, q = 4 * j;
  const w = Math.min(a[p + 2], b[q + 2]) - Math.max(a[p], b[q]);
  const h = Math.min(a[p + 3], b[q + 3]) - Math.max(a[p + 1], b[q + 1]);
  if (w <= 0 || h <= 0) return 0;
  const inter = float32(float32(w) * float32(h));
  const union = float32(float32(areaAt(a, i) + areaAt(b, j)) - inter);
  return float32(inter / Math.max(union, SMALLEST));
}

// Greedy suppression, as NmsExplorer.suppression: kept candidates, and for each candidate the kept one that
// suppressed it, itself where it is kept, -1 where it takes no part.
export function suppress(table, { score_threshold, iou_threshold, kind, agnostic }) {
  const { scores, labels } = table;
  const [by, kept, groups] = [new Int32Array(scores.length).fill(-1), [], new Map()];
  const [lowest, limit] = [float32(score_threshold), float32(iou_threshold)];
  for (let i = 0; i < scores.length && scores[i] > lowest; i += 1) {
    if (kind && labels[i] !== kind) continue;
    const group = agnostic ? 0 : labels[i];
    if (!groups.has(group)) groups.set(group, []);
    by[i] = winner(table, groups.get(group), i, limit);
    if (by[i] === i) groups.get(group).push(i), kept.push(i);
  }
  return { kept, by };
}

// The best of the better boxes that suppresses box i, or i. An IoU is at most the ratio of the two areas, which
// spares most pairs the rest; the margin is wider than any rounding.
function winner({ boxes, areas }, better, i, limit) {
  const low = areas[i] * limit * 0.99999, high = areas[i] / (limit * 0.99999);
  for (const j of better) {
    if (areas[j] >= low && areas[j] <= high && iouFloat32(boxes, j, boxes, i) > limit) return j;
  }
  return i;
}

// For each object whether a kept box of its class, cut at the border, covers it.
export function foundObjects({ inside, labels }, objects, kept) {
  return objects.map(({ box, label }) => {
    const truth = Float32Array.from(box);
    return kept.some((i) => labels[i] === label && iouFloat32(truth, 0, inside, i) >= FOUND_IOU);
  });
}

export function counts({ labels }, objects, { kept, by, found }, kind) {
  const mine = (label) => !kind || label === kind;
  const above = by.filter((i) => i >= 0).length;
  return {
    candidates: labels.filter(mine).length,
    above,
    suppressed: above - kept.length,
    kept: kept.length,
    found: found.filter(Boolean).length,
    objects: objects.filter((o) => mine(o.label)).length,
  };
}

// The suppression after `step` boxes are kept, null for all: who is kept, who is dropped, who still waits, and
// which box was kept last. In a replay only the victims of the last box are listed as dropped.
export function stageOf({ kept, by }, step) {
  if (step === null || step >= kept.length) {
    return { kept, dropped: victims(by, (i) => i >= 0), waiting: [], last: null };
  }
  const last = step ? kept[step - 1] : -1;
  const waiting = [...by.keys()].filter((i) => by[i] > last);
  return { kept: kept.slice(0, step), dropped: victims(by, (i) => i === last), waiting, last: step ? last : null };
}

// Candidates that take part and are suppressed by one that passes the test.
export function victims(by, test) {
  return [...by.keys()].filter((i) => by[i] >= 0 && by[i] !== i && test(by[i]));
}

// The candidates that waited when a kept box had its turn, with their IoU: its victims and the others.
export function rivalsOf({ boxes, scores, labels }, { by }, best, agnostic) {
  const competes = (i) => i !== best && by[i] >= best && (agnostic || labels[i] === labels[best]);
  const rivals = [...by.keys()].filter(competes);
  return rivals.map((i) => ({
    i, iou: iouFloat32(boxes, best, boxes, i), score: scores[i], dropped: by[i] === best,
  }));
}

export function boxOf({ inside }, i) {
  return inside.subarray(4 * i, 4 * i + 4);
}

// The smallest box of a list that holds the point, as far as the picture shows it, or null.
export function boxAt({ inside }, list, x, y) {
  const hits = list.filter((i) => {
    const [x1, y1, x2, y2] = boxOf({ inside }, i);
    return x1 <= x && x <= x2 && y1 <= y && y <= y2;
  });
  return hits.length ? hits.reduce((a, b) => (areaAt(inside, b) < areaAt(inside, a) ? b : a)) : null;
}
