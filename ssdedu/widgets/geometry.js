// ssdedu.boxes in JavaScript, for boxes as arrays [xmin, ymin, xmax, ymax] in fractions of the image.

const TINY = 1.1754943508222875e-38; // float32's smallest, as in Python: two boxes of zero area have IoU 0

export function area(box) {
  return Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1]);
}

export function iou(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const inter = width * height;
  return inter / Math.max(TINY, area(a) + area(b) - inter);
}
