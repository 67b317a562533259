// ssdedu.evaluate in JavaScript. marks: a letter for each detection, best score first: T true, F false, I ignored.

// Number of detections with a score of at least the threshold.
export function keptAbove(scores, threshold) {
  return scores.filter((score) => score >= threshold).length;
}

// The lengths that a score threshold can give the list: none, or down to the last of equal scores.
export function cuts(scores) {
  return [0, ...scores.map((_, i) => i + 1).filter((n) => scores[n] !== scores[n - 1])];
}

// A threshold that keeps this many detections.
export function thresholdOf(scores, kept) {
  return kept ? scores[kept - 1] : Math.max(1, scores[0] ?? 1) + 0.01;
}

// True positives, false positives, recall, precision down to each detection, and the best precision from there on.
export function walk(marks, numObjects) {
  const found = [], wrong = [];
  for (const mark of marks) {
    found.push((found.at(-1) ?? 0) + (mark === "T"));
    wrong.push((wrong.at(-1) ?? 0) + (mark === "F"));
  }
  const recall = found.map((n) => (numObjects ? n / numObjects : NaN));
  const precision = found.map((n, i) => n / Math.max(n + wrong[i], 1));
  const best = [...precision];
  for (let i = best.length - 2; i >= 0; i -= 1) best[i] = Math.max(best[i], best[i + 1]);
  return { found, wrong, recall, precision, best };
}

export function pointAt(marks, numObjects, kept) {
  const { found, wrong, recall, precision } = walk(marks.slice(0, kept), numObjects);
  const [truePositive, falsePositive] = [found.at(-1) ?? 0, wrong.at(-1) ?? 0];
  return {
    kept,
    truePositive,
    falsePositive,
    ignored: kept - truePositive - falsePositive,
    missed: numObjects - truePositive,
    precision: precision.at(-1) ?? 0,
    recall: recall.at(-1) ?? (numObjects ? 0 : NaN),
  };
}

// The best precision at recall j / 10 or a higher one, j = 0 .. 10, compared in whole numbers.
export function interpolated(marks, numObjects) {
  const { found, best } = walk(marks, numObjects);
  const at = (j) => best[found.findIndex((n) => 10 * n >= j * numObjects)] ?? 0;
  return Array.from({ length: 11 }, (_, j) => (numObjects ? at(j) : NaN));
}

export function averagePrecision(marks, numObjects, metric) {
  if (!numObjects) return NaN;
  const total = (values) => values.reduce((sum, v) => sum + v, 0);
  if (metric === "voc07") return total(interpolated(marks, numObjects)) / 11;
  return total(walk(marks, numObjects).best.filter((_, i) => marks[i] === "T")) / numObjects;
}
