// How a description fits the objects of a data set, by the page's twins of coverage and matching.

import { bestIous, summarize } from "./coverage.js";
import { bestOverlap, match, overlapsOf } from "./matching.js";
import { detectorOf, mapOf } from "./prior_box_scene.js";

// The summary of ssdedu.widgets.prior_box_data for all boxes of a data set.
export function fitOf(boxes, config, threshold) {
  return summarize(boxes, bestsOf(boxes, detectorOf(config)), config, threshold);
}

// Best default box of each object; with clipped boxes all of them are tried.
function bestsOf(boxes, detector) {
  if (!detector.config.clip) return bestIous(boxes, detector.fit);
  const overlaps = boxes.flatMap((box) => bestOverlap(overlapsOf([box], detector.corners), 1));
  return overlaps.map(({ p, iou }) => ({ iou, map: mapOf(p, detector.first) }));
}

// Positives on each map, summed over images: lists of boxes.
export function positivesPerMap(images, config, threshold, rule) {
  const detector = detectorOf(config), sums = new Array(config.maps.length).fill(0);
  for (const boxes of images) {
    if (!boxes.length) continue;
    match(boxes, detector.corners, threshold, rule).objectIndex.forEach((g, p) => {
      if (g >= 0) sums[mapOf(p, detector.first)] += 1;
    });
  }
  return sums;
}
