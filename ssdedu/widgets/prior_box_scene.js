// What the explorer shows of one scene, as numbers: who matches whom, what a cell holds, what the pointer is on.

import { iou } from "./geometry.js";
import { boxesPerCell, cellCenters, cellShapesPx, defaultBoxes, firstBoxes, numBoxes, shapeNames } from "./priors.js";
import { bestOverlap, cornersAndAreas, match } from "./matching.js";
import { fitTable, reachTable, reachable } from "./coverage.js";

const KEPT = 3;
const known = new Map();

// All that follows from a description alone; the last few are kept.
export function detectorOf(config) {
  const key = JSON.stringify(config);
  if (!known.has(key)) {
    const priors = defaultBoxes(config);
    known.set(key, {
      config, corners: cornersAndAreas(priors), first: firstBoxes(config), reach: reachTable(config), fit: fitTable(config),
    });
    if (known.size > KEPT) known.delete(known.keys().next().value);
  }
  return known.get(key);
}

// positives: [default box, object, IoU]; own: each object's own default box or -1; best: [default box, IoU] of the
// closest one of each object; reachable: the best IoU of an object of this size. Python's answer has the same form.
export function solve(objects, detector, threshold, rule) {
  const boxes = objects.map((o) => o.box);
  const found = match(boxes, detector.corners, threshold, rule);
  const positives = [];
  found.objectIndex.forEach((g, p) => {
    if (g >= 0) positives.push([p, g, found.iou[p]]);
  });
  const best = bestOverlap(found.overlaps, boxes.length).map(({ p, iou: v }) => [p, v]);
  const reach = boxes.map(([x1, y1, x2, y2]) => reachable(x2 - x1, y2 - y1, detector.reach));
  return { positives, own: found.own, best, reachable: reach };
}

export function mapOf(p, first) {
  return first.findIndex((start) => start > p) - 1;
}

// Positives of each object on each map: G rows of as many numbers as there are maps.
export function countsPerObject(result, first, G) {
  const counts = Array.from({ length: G }, () => new Array(first.length - 1).fill(0));
  for (const [p, g] of result.positives) counts[g][mapOf(p, first)] += 1;
  return counts;
}

// The cell whose centre is nearest to (x, y): [row, column].
export function cellAt(config, mapIndex, x, y) {
  const map = config.maps[mapIndex];
  const near = (cells, size, v) => {
    const step = (map.step_px ?? size / cells) / size;
    return Math.min(cells - 1, Math.max(0, Math.floor(v / step)));
  };
  return [near(map.height, config.height_px, y), near(map.width, config.width_px, x)];
}

export function cellCenter(config, mapIndex, [row, column]) {
  const map = config.maps[mapIndex];
  const center = (cells, size, j) => cellCenters(cells, map.step_px, size)[j];
  return [center(map.width, config.width_px, column), center(map.height, config.height_px, row)];
}

// A cell's default boxes: name, size, corners, offset of the centre and IoU with the object that each fits best,
// and the object for which it is a positive (-1: none).
export function cellBoxes(detector, mapIndex, [row, column], objects, result) {
  const { config, first, corners } = detector, map = config.maps[mapIndex], k = boxesPerCell(map);
  const start = first[mapIndex] + (row * map.width + column) * k;
  const taken = new Map(result.positives.map(([p, g]) => [p, g]));
  const shapes = cellShapesPx(map, config.whole_px);
  return shapeNames(map).map((name, i) => {
    const box = Array.from(corners.subarray(5 * (start + i), 5 * (start + i) + 4));
    const overlaps = objects.map((o) => iou(o.box, box));
    const object = overlaps.indexOf(Math.max(...overlaps));
    return {
      p: start + i, name, sizePx: shapes[i], box, object, iou: overlaps[object] ?? 0,
      offset: object < 0 ? null : centerOffset(box, objects[object].box), positive: taken.get(start + i) ?? -1,
    };
  });
}

// From the default box's centre to the object's, in widths and heights of the default box (Eq. 2 before variances).
function centerOffset(box, objectBox) {
  const along = (lo, hi) => (objectBox[lo] + objectBox[hi] - box[lo] - box[hi]) / 2 / (box[hi] - box[lo]);
  return [along(0, 2), along(1, 3)];
}

// The positive whose outline passes nearest to (x, y), within tolerance; ties go to the smaller box. Or null.
export function positiveAt(result, corners, x, y, tolX, tolY) {
  let best = null;
  for (const [p, g, v] of result.positives) {
    const [x1, y1, x2, y2] = corners.subarray(5 * p, 5 * p + 4);
    const far = distanceToOutline(x1, y1, x2, y2, x, y, tolX, tolY), size = (x2 - x1) * (y2 - y1);
    if (far > 1 || (best && (far > best.far || (far === best.far && size >= best.size)))) continue;
    best = { p, g, iou: v, far, size };
  }
  return best;
}

// In units of the tolerances; more than 1 is too far.
function distanceToOutline(x1, y1, x2, y2, x, y, tolX, tolY) {
  const withinX = x >= x1 - tolX && x <= x2 + tolX, withinY = y >= y1 - tolY && y <= y2 + tolY;
  if (!withinX || !withinY) return Infinity;
  return Math.min(Math.abs(x - x1) / tolX, Math.abs(x - x2) / tolX, Math.abs(y - y1) / tolY, Math.abs(y - y2) / tolY);
}

export function sceneSentence(config, objects, result, rule) {
  const without = objects.filter((_, g) => !result.positives.some((q) => q[1] === g));
  const boxes = numBoxes(config).toLocaleString("en");
  const lost = without.length ? ` Without a positive: ${without.map((o) => o.name || "object").join(", ")}.` : "";
  const by = { ssd: "SSD's rule", multibox: "MultiBox's rule", threshold: "the threshold alone" }[rule];
  return `${boxes} default boxes; ${result.positives.length} positives for ${objects.length} objects by ${by}.${lost}`;
}
