// Editing boxes [xmin, ymin, xmax, ymax] in fractions of the image, without a page: what is under the pointer,
// what a drag or a key makes of a box, and the steps back. Everything returns new boxes.

const CURSORS = { move: "move", n: "ns", s: "ns", e: "ew", w: "ew", nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw" };
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const TINY_GAP = 1e-9; // rounding, no gap that anybody sees

// The box and its handle at (x, y), or null. An edge within tolerance wins over any inside, the nearest edge over
// others, the smallest box over larger ones for "move", the last drawn over its equals.
export function hitBox(boxes, x, y, tolX, tolY) {
  let best = null;
  boxes.forEach((box, index) => {
    const hit = handleAt(box, x, y, tolX, tolY);
    if (hit && (!best || !isBehind(hit, best))) best = { ...hit, index };
  });
  return best && { index: best.index, handle: best.handle };
}

// Inside a small box the tolerance shrinks, so that half of it is left to move it by.
function handleAt(box, x, y, tolX, tolY) {
  const across = sideAt(x, box[0], box[2], tolX), down = sideAt(y, box[1], box[3], tolY);
  if (!across || !down) return null;
  const handle = ["n", "", "s"][down.side + 1] + ["w", "", "e"][across.side + 1];
  if (!handle) return { handle: "move", rank: 1, far: (box[2] - box[0]) * (box[3] - box[1]) };
  return { handle, rank: 0, far: Math.max(across.far, down.far) };
}

// side: -1 the low edge, 1 the high edge, 0 between them; far: from that edge in tolerances.
function sideAt(v, low, high, tol) {
  const inner = Math.min(tol, (high - low) / 4);
  if (v < low - tol || v > high + tol) return null;
  const far = Math.min(Math.abs(v - low), Math.abs(v - high)) / (tol || 1);
  if (v <= low + inner) return { side: -1, far };
  return v >= high - inner ? { side: 1, far } : { side: 0, far: 0 };
}

function isBehind(hit, best) {
  return hit.rank > best.rank || (hit.rank === best.rank && hit.far > best.far);
}

// The CSS cursor of a handle; null is the ground.
export function cursorOf(handle) {
  if (!handle) return "default";
  return handle === "move" ? "move" : `${CURSORS[handle]}-resize`;
}

// The box after its handle went by (dx, dy) from where the drag began.
export function dragBox(box, handle, dx, dy, minW, minH) {
  const [x, y] = [[box[0], box[2]], [box[1], box[3]]];
  if (handle === "move") return cornersOf(movedSpan(x, dx), movedSpan(y, dy));
  return cornersOf(
    resizedSpan(x, dx, handle.includes("w"), handle.includes("e"), minW),
    resizedSpan(y, dy, handle.includes("n"), handle.includes("s"), minH),
  );
}

function cornersOf([x1, x2], [y1, y2]) {
  return [x1, y1, x2, y2];
}

function movedSpan([low, high], d) {
  const by = Math.max(-low, Math.min(1 - high, d));
  return [low + by, high + by];
}

// The edge that is held stays exactly where it is, unless the box was too small before.
function resizedSpan([low, high], d, isLow, isHigh, least) {
  if (isLow) {
    const moved = Math.max(0, Math.min(low + d, high - least));
    return [moved, high - moved < least - TINY_GAP ? moved + least : high];
  }
  if (!isHigh) return [low, high];
  const moved = Math.min(1, Math.max(high + d, low + least));
  return [moved - low < least - TINY_GAP ? moved - least : low, moved];
}

// The box after an arrow key: it moves, or (resize: with Shift) its right or bottom edge does. Other keys: null.
export function nudgeBox(box, key, stepX, stepY, resize, minW, minH) {
  if (!Object.hasOwn(STEPS, key)) return null;
  const [x, y] = STEPS[key];
  const handle = !resize ? "move" : x ? "e" : "s";
  return dragBox(box, handle, x * stepX, y * stepY, minW, minH);
}

// The box between two corners, in any order; too small a one grows from (x0, y0) towards (x1, y1).
export function newBox(x0, y0, x1, y1, minW, minH) {
  return cornersOf(drawnSpan(x0, x1, minW), drawnSpan(y0, y1, minH));
}

function drawnSpan(from, to, least) {
  const [a, b] = [from, to].map((v) => Math.max(0, Math.min(1, v)));
  if (b >= a) return resizedSpan([a, a], b - a, false, true, least);
  return resizedSpan([a, a], b - a, true, false, least);
}

// States to go back to and forth, each a copy. The first push is the start; undo and redo return the state then
// reached, or null at the end of the way.
export class History {
  constructor(limit = 100) {
    Object.assign(this, { limit, states: [], at: -1 });
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.states.length - 1;
  }

  push(state) {
    const packed = JSON.stringify(state);
    if (packed === this.states[this.at]) return;
    this.states = [...this.states.slice(0, this.at + 1), packed].slice(-this.limit - 1);
    this.at = this.states.length - 1;
  }

  // The newest state becomes this one: the same gesture goes on.
  replace(state) {
    this.states = this.states.slice(0, this.at);
    this.at -= 1;
    this.push(state);
  }

  undo() {
    return this.canUndo ? this.goTo(this.at - 1) : null;
  }

  redo() {
    return this.canRedo ? this.goTo(this.at + 1) : null;
  }

  goTo(at) {
    this.at = at;
    return JSON.parse(this.states[at]);
  }
}
