// ssdedu.coverage in JavaScript: how well default boxes fit objects of any size, and the objects of a data set.

import { cellCenters, cellShapesPx } from "./priors.js";

const inside = (low, high) => Math.max(0, Math.min(1, high) - Math.max(0, low));

// Distinct [length, length inside the image] along one axis, of all default boxes of one shape.
function extents(centers, size, clip) {
  const found = new Map();
  for (const c of centers) {
    const within = inside(c - size / 2, c + size / 2);
    const length = clip ? within : size;
    found.set(`${length.toFixed(9)} ${within.toFixed(9)}`, [length, within]);
  }
  return [...found.values()];
}

// Each shape of each map with its distinct extents: what reachable() needs to know of a description.
export function reachTable(config) {
  return config.maps.flatMap((map) => {
    const x = cellCenters(map.width, map.step_px, config.width_px);
    const y = cellCenters(map.height, map.step_px, config.height_px);
    return cellShapesPx(map, config.whole_px).map(([w, h]) => ({
      across: extents(x, w / config.width_px, config.clip), down: extents(y, h / config.height_px, config.clip),
    }));
  });
}

// The best IoU that an object of this size (fractions of the image) reaches anywhere inside the image.
export function reachable(width, height, table) {
  let best = 0;
  for (const { across, down } of table) {
    for (const [w, w_in] of across) {
      for (const [h, h_in] of down) {
        const inter = Math.min(width, w_in) * Math.min(height, h_in);
        best = Math.max(best, inter / (width * height + w * h - inter));
      }
    }
  }
  return best;
}

// What bestIous() needs: per map its grid and the shapes of a cell, in fractions of the image.
export function fitTable(config) {
  return config.maps.map((map) => {
    const axis = (cells, size) => {
      const step = (map.step_px ?? size / cells) / size;
      return { cells, step };
    };
    const shapes = cellShapesPx(map, config.whole_px).map(([w, h]) => [w / config.width_px, h / config.height_px]);
    return { x: axis(map.width, config.width_px), y: axis(map.height, config.height_px), shapes };
  });
}

const nearest = ({ cells, step }, v) => Math.min(cells - 1, Math.max(0, Math.round(v / step - 0.5)));
const overlap = (a, b, halfA, halfB) => Math.min(a + halfA, b + halfB) - Math.max(a - halfA, b - halfB);

// Best IoU of each object with any default box, and the map of that box, without a look at all P of them: for
// one shape the overlap falls with the distance of the centres, along x and along y, so that the nearest cell has
// the best. Not for clipped default boxes.
export function bestIous(boxes, table) {
  return boxes.map(([x1, y1, x2, y2]) => {
    const [cx, cy, w, h] = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1];
    let best = { iou: 0, map: 0 };
    table.forEach(({ x, y, shapes }, map) => {
      const px = (nearest(x, cx) + 0.5) * x.step, py = (nearest(y, cy) + 0.5) * y.step;
      for (const [pw, ph] of shapes) {
        const across = overlap(cx, px, w / 2, pw / 2), down = overlap(cy, py, h / 2, ph / 2);
        const inter = across > 0 && down > 0 ? across * down : 0;
        const iou = inter / (w * h + pw * ph - inter);
        if (iou > best.iou) best = { iou, map };
      }
    });
    return best;
  });
}

// Sums over objects: covered (IoU >= threshold), mean best IoU, objects per map, and bins [low, high, objects,
// covered] over size (square root of the area in input px) and aspect ratio, two to each doubling as in Python.
export function summarize(boxes, bests, config, threshold) {
  const covered = bests.map(({ iou }) => iou >= threshold);
  const perMap = new Array(config.maps.length).fill(0);
  for (const { map } of bests) perMap[map] += 1;
  const sides = boxes.map(([x1, y1, x2, y2]) => [(x2 - x1) * config.width_px, (y2 - y1) * config.height_px]);
  const sum = bests.reduce((total, { iou }) => total + iou, 0);
  return {
    num: boxes.length, covered: covered.filter(Boolean).length, mean_iou: sum / Math.max(1, boxes.length),
    objects_per_map: perMap, by_size: bins(sides.map(([w, h]) => Math.sqrt(w * h)), covered, 0),
    by_ratio: bins(sides.map(([w, h]) => w / h), covered, 0.5),
  };
}

export function bins(values, covered, shift) {
  if (!values.length) return [];
  const places = values.map((v) => Math.floor(2 * Math.log2(v) + shift));
  const first = Math.min(...places), count = Math.max(...places) - first + 1;
  const edge = (i) => 2 ** ((first + i - shift) / 2);
  const rows = Array.from({ length: count }, (_, i) => [edge(i), edge(i + 1), 0, 0]);
  places.forEach((place, i) => {
    rows[place - first][2] += 1;
    rows[place - first][3] += covered[i] ? 1 : 0;
  });
  return rows;
}
