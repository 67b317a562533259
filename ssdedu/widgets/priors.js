// ssdedu.priors in JavaScript. A description is the object that Config.to_dict() gives; nothing here changes one.

export function boxesPerCell(map) {
  return 1 + (map.max_px !== null ? 1 : 0) + 2 * map.aspect_ratios.length;
}

export function numBoxes(config) {
  return config.maps.reduce((sum, m) => sum + m.height * m.width * boxesPerCell(m), 0);
}

// Index of each map's first default box, and at the end P.
export function firstBoxes(config) {
  const first = [0];
  for (const m of config.maps) first.push(first.at(-1) + m.height * m.width * boxesPerCell(m));
  return first;
}

// Widths and heights of one cell's default boxes in input pixels: 1, 1', then r, 1/r for each ratio.
export function cellShapesPx(map, wholePx) {
  const cut = wholePx ? Math.floor : (v) => v;
  const low = cut(map.min_px);
  const shapes = [[low, low]];
  if (map.max_px !== null) {
    const side = Math.sqrt(low * cut(map.max_px));
    shapes.push([side, side]);
  }
  for (const ratio of map.aspect_ratios) {
    const root = Math.sqrt(ratio);
    shapes.push([low * root, low / root], [low / root, low * root]);
  }
  return shapes;
}

export function shapeNames(map) {
  const short = (v) => String(Math.round(v * 1000) / 1000);
  const square = map.max_px === null ? ["1"] : ["1", "1′"];
  return [...square, ...map.aspect_ratios.flatMap((r) => [short(r), `1/${short(r)}`])];
}

// Centres of the columns or rows along one axis, fractions of the image.
export function cellCenters(cells, stepPx, sizePx) {
  const step = stepPx ?? sizePx / cells;
  return Array.from({ length: cells }, (_, j) => ((j + 0.5) * step) / sizePx);
}

function clipped(center, size) {
  const [low, high] = [center - size / 2, center + size / 2].map((v) => Math.min(1, Math.max(0, v)));
  return [(low + high) / 2, high - low];
}

// All default boxes as a Float32Array of P x (cx, cy, w, h), in the order map, row, column, box.
export function defaultBoxes(config) {
  const boxes = new Float32Array(4 * numBoxes(config));
  let at = 0;
  for (const map of config.maps) {
    const x = cellCenters(map.width, map.step_px, config.width_px);
    const y = cellCenters(map.height, map.step_px, config.height_px);
    const shapes = cellShapesPx(map, config.whole_px).map(([w, h]) => [w / config.width_px, h / config.height_px]);
    for (const cy of y) {
      for (const cx of x) {
        for (const [w, h] of shapes) {
          const [ax, aw] = config.clip ? clipped(cx, w) : [cx, w];
          const [ay, ah] = config.clip ? clipped(cy, h) : [cy, h];
          boxes[at] = ax, boxes[at + 1] = ay, boxes[at + 2] = aw, boxes[at + 3] = ah;
          at += 4;
        }
      }
    }
  }
  return boxes;
}

// s_k of Eq. 4, k = 1 .. m.
export function scales(m, low, high) {
  if (m === 1) return [low];
  return Array.from({ length: m }, (_, k) => low + ((high - low) * k) / (m - 1));
}

const pairs = (levels) => levels.slice(1).map((high, i) => [levels[i], high]);

// [min_px, max_px] of each map by Eq. 4; first: scale of a map before the formula, or null.
export function formulaSizes(sizePx, m, first, low, high) {
  const outside = first === null ? [] : [first];
  const inside = scales(m - outside.length, low, high);
  const step = inside.length > 1 ? inside.at(-1) - inside.at(-2) : high - low;
  return pairs([...outside, ...inside, inside.at(-1) + step].map((s) => sizePx * s));
}

// The same by the original code's rule in whole percents.
export function percentSizes(sizePx, m, first, low, high) {
  const step = Math.floor((high - low) / (m - 2));
  const percents = [first, ...Array.from({ length: m }, (_, k) => low + step * k)];
  return pairs(percents).map(([a, b]) => [(sizePx * a) / 100, (sizePx * b) / 100]);
}

// knobs: { first: scale or null, low, high, whole }. The description with sizes by Eq. 4, or in whole percents.
export function withScales(config, knobs) {
  const side = Math.min(config.width_px, config.height_px), m = config.maps.length;
  const percent = (v) => Math.round(v * 100);
  const byCode = knobs.whole && knobs.first !== null && m >= 3;
  const sizes = byCode
    ? percentSizes(side, m, percent(knobs.first), percent(knobs.low), percent(knobs.high))
    : formulaSizes(side, m, m > 1 ? knobs.first : null, knobs.low, knobs.high);
  const maps = config.maps.map((map, k) => ({
    ...map, min_px: sizes[k][0], max_px: map.max_px === null ? null : Math.max(...sizes[k]),
  }));
  return { ...config, maps, whole_px: knobs.whole };
}

// What priors.Config would refuse, as a sentence; an empty string where nothing is wrong.
export function problem(config) {
  for (const [i, map] of config.maps.entries()) {
    const text = sizeProblem(map, config.whole_px) || ratioProblem(map.aspect_ratios);
    if (text) return `Map ${i + 1} (${map.name}): ${text}.`;
  }
  return "";
}

function sizeProblem(map, wholePx) {
  const positive = (v) => Number.isFinite(v) && v > 0;
  if (!positive(map.min_px)) return "the side must be above 0";
  if (wholePx && map.min_px < 1) return "the side must be 1 px or more";
  if (map.max_px !== null && !(positive(map.max_px) && map.max_px >= map.min_px)) {
    return "the next side must be at least the side";
  }
  return "";
}

function ratioProblem(ratios) {
  if (!ratios.every((r) => Number.isFinite(r) && r > 0)) return "ratios must be numbers above 0";
  const folded = ratios.map((r) => Math.max(r, 1 / r).toFixed(9));
  const fresh = !folded.includes("1.000000000") && new Set(folded).size === folded.length;
  return fresh ? "" : "no ratio 1 and none twice (r brings 1/r with it)";
}

// "2, 3" or "2 1/3" as numbers; null where something is no number.
export function readRatios(text) {
  const words = text.split(/[\s,;]+/).filter(Boolean);
  const numbers = words.map((w) => (/^\d+(\.\d+)?\/\d+(\.\d+)?$/.test(w) ? w.split("/").reduce((a, b) => a / b) : Number(w)));
  return numbers.every((n) => Number.isFinite(n)) ? numbers : null;
}
