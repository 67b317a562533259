import {
  COLORS, button, canvasOf, element, follow, inkOf, inkOn, loadImage, onDrag, redrawOnChange, rootOf, send, slider,
} from "./base.js";
import { History, cursorOf, dragBox, hitBox, nudgeBox } from "./box_editor.js";
import { area, iou } from "./geometry.js";
import { SIDE, THRESHOLD, drawBoxes, drawGauge, shared } from "./iou_draw.js";

const SIZE_PX = 100;
const LEAST = 5 / SIZE_PX;
const STEP = 1 / SIZE_PX;
const NAMES = ["A", "B"];
const ROW = "display: flex; flex-wrap: wrap; align-items: center; gap: 6px; margin: 8px 0";
const HINT = "Drag a box, an edge or a corner; or use the arrow keys on the picture: with Shift they resize the box.";

// Boxes are in pixels here; areas in square pixels.
export function overlap(a, b) {
  const intersection = area(shared(a, b));
  return { a: area(a), b: area(b), intersection, union: area(a) + area(b) - intersection, iou: iou(a, b) };
}

// How far B's left edge stands to the right of A's, and the farthest that the slider takes it: until B's own width.
export function shiftOf(a, b) {
  const width = b[2] - b[0];
  return { px: tidy(b[0] - a[0]), most: Math.max(0, Math.min(width, SIZE_PX - width - a[0])) };
}

// (1 - t) / (1 + t) for two equal boxes side by side, t of a width apart; null for others.
export function lawOf(a, b) {
  const equal = [0, 1].every((i) => tidy(a[i + 2] - a[i]) === tidy(b[i + 2] - b[i]));
  const t = Math.abs(b[0] - a[0]) / (b[2] - b[0]);
  return equal && a[1] === b[1] && t <= 1 ? { t, iou: (1 - t) / (1 + t) } : null;
}

export function sentence(a, b) {
  const n = overlap(a, b), [A, B, I, U] = [n.a, n.b, n.intersection, n.union].map((v) => tidy(v, 100));
  const law = lawOf(a, b);
  return [
    `Intersection ${I} px², union ${A} + ${B} − ${I} = ${U} px².`,
    `IoU = ${I} / ${U} = ${n.iou.toFixed(4)}, ${verdict(n.iou)}.`,
    law ? `Equal boxes, shifted t = ${law.t.toFixed(4)} of a width: (1 − t) / (1 + t) = ${law.iou.toFixed(4)}.` : "",
  ].join(" ").trim();
}

function verdict(value) {
  if (value === 0) return "nothing is shared";
  return value < THRESHOLD ? "below SSD's threshold 0.5" : "enough for SSD's threshold 0.5";
}

function tidy(v, digits = 1e6) {
  return Math.round(v * digits) / digits;
}

// An edit by box_editor.js, which knows fractions, of a box in whole-pixel steps.
export function edited(boxPx, edit) {
  const box = edit(inFractions(boxPx));
  return box && box.map((v) => tidy(v * SIZE_PX));
}

export function dragged(boxPx, handle, dxPx, dyPx) {
  const [dx, dy] = [dxPx, dyPx].map((v) => Math.round(v) / SIZE_PX);
  return edited(boxPx, (box) => dragBox(box, handle, dx, dy, LEAST, LEAST));
}

// B moved until its left edge is px to the right of A's, as far as the image goes.
export function shifted(a, b, px) {
  return dragged(b, "move", a[0] + px - b[0], 0);
}

export function shiftText(px, a, b) {
  return lawOf(a, b) ? `${px} px, t = ${(px / (b[2] - b[0])).toFixed(3)}` : `${px} px`;
}

function inFractions(boxPx) {
  return boxPx.map((v) => v / SIZE_PX);
}

// The box and handle under (x, y), all in pixels; the chosen box lies on top.
export function hitOf(boxesPx, chosen, x, y, tolerance) {
  const hit = hitBox([boxesPx[1 - chosen], boxesPx[chosen]], x, y, tolerance, tolerance);
  return hit && { index: hit.index ? chosen : 1 - chosen, handle: hit.handle };
}

// A button that takes the arrow keys for its box as soon as it has the focus.
function chooser(text, onChoose) {
  const made = button(text, () => made.focus());
  made.addEventListener("focus", onChoose);
  return made;
}

function press(made, index, isPressed) {
  made.setAttribute("aria-pressed", isPressed);
  const [background, color] = isPressed ? [COLORS[index], inkOn(COLORS[index])] : ["", ""];
  Object.assign(made.style, { background, color, border: `2px ${index ? "dashed" : "solid"} ${COLORS[index]}` });
}

// Ctrl + Z and Ctrl + Shift + Z or Ctrl + Y; the notebook does not hear them.
function onUndoKeys(root, { undo, redo }) {
  root.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || !["y", "z"].includes(key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (key === "y" || event.shiftKey) redo();
    else undo();
  });
}

function row(label, ...children) {
  return element("div", { style: ROW, role: "group", label }, ...children);
}

// What the hand does to the boxes, with the steps back. onChoose(index) hears which box it holds.
function handsOn(model, onChoose) {
  const steps = new History();
  const hands = { chosen: 1, boxesPx: () => [model.get("a_px"), model.get("b_px")] };
  const putBoth = (both) => both && send(model, { a_px: both[0], b_px: both[1] });
  hands.put = (index, box) => send(model, { [index ? "b_px" : "a_px"]: box });
  hands.remember = () => steps.push(hands.boxesPx());
  hands.undo = () => (hands.remember(), putBoth(steps.undo()));
  hands.redo = () => (hands.remember(), putBoth(steps.redo()));
  hands.take = ({ a, b }) => (hands.remember(), putBoth([a, b]), hands.remember());
  hands.choose = (index) => onChoose((hands.chosen = index));
  return hands;
}

function onArrows(target, hands) {
  target.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const nudge = (box) => nudgeBox(box, event.key, STEP, STEP, event.shiftKey, LEAST, LEAST);
    const box = edited(hands.boxesPx()[hands.chosen], nudge);
    if (!box) return;
    event.preventDefault();
    if (!event.repeat) hands.remember();
    hands.put(hands.chosen, box);
  });
  target.addEventListener("keyup", hands.remember);
}

function onPointer(view, hands) {
  let grab = null;
  const toPx = (v) => (v * SIZE_PX) / SIDE;
  const under = (x, y, { pointerType }) =>
    hitOf(hands.boxesPx(), hands.chosen, toPx(x), toPx(y), pointerType === "touch" ? 5 : 2.5);
  const start = (x, y, event) => {
    const hit = under(x, y, event);
    if (!hit) return false;
    hands.choose(hit.index);
    hands.remember();
    grab = { x, y, handle: hit.handle, box: hands.boxesPx()[hit.index] };
    return true;
  };
  const move = (x, y) =>
    hands.put(hands.chosen, dragged(grab.box, grab.handle, toPx(x - grab.x), toPx(y - grab.y)));
  onDrag(view, { start, move, end: () => (hands.remember(), (grab = null)) });
  view.canvas.addEventListener("pointermove", (e) => {
    if (!grab) view.canvas.style.cursor = cursorOf(under(...view.at(e), e)?.handle);
  });
}

function render({ model, el }) {
  const root = rootOf(el, "Two boxes and their IoU");
  const hands = handsOn(model, (index) => {
    choices.forEach((made, i) => press(made, i, i === index));
    view.draw();
  });
  const { boxesPx } = hands;
  const view = canvasOf(SIDE, SIDE, "", (ctx) => drawBoxes(ctx, boxesPx().map(inFractions), hands.chosen, picture));
  const gauge = canvasOf(SIDE, 90, "", (ctx) => drawGauge(ctx, iou(...boxesPx()), inkOf(root)));
  const shift = slider(
    "Shift B right by",
    { min: 0, max: SIZE_PX, step: 1, value: 0, show: (px) => shiftText(px, ...boxesPx()) },
    (px) => (hands.choose(1), hands.put(1, shifted(...boxesPx(), px))),
  );
  const pairs = model.get("pairs").map((pair) => button(pair.name, () => hands.take(pair)));
  const choices = NAMES.map((name, i) => chooser(`Box ${name}`, () => hands.choose(i)));
  const out = element("output");
  const controls = [
    row("Pairs of boxes", ...pairs),
    row("Box that the arrow keys move", "Arrow keys move", ...choices),
    row("Steps", button("Undo", hands.undo), button("Redo", hands.redo)),
  ];
  const side = element("div", {}, gauge.canvas, out, shift.label, ...controls, element("div", {}, HINT));
  root.append(element("div", { className: "beside" }, element("div", {}, view.canvas), side));

  function update() {
    const [a, b] = boxesPx(), { px, most } = shiftOf(a, b), text = sentence(a, b);
    out.textContent = text;
    view.canvas.setAttribute("aria-label", `Boxes A (${a.join(", ")}) and B (${b.join(", ")}) px. ${text}`);
    gauge.canvas.setAttribute("aria-label", `IoU ${iou(a, b).toFixed(4)} on a bar from 0 to 1, threshold at 0.5`);
    shift.input.max = most;
    shift.set(px);
    view.draw();
    gauge.draw();
  }
  Object.assign(view.canvas, { tabIndex: 0, className: "drag" }).setAttribute("role", "application");
  for (const target of [view.canvas, ...choices]) onArrows(target, hands);
  onPointer(view, hands);
  onUndoKeys(root, hands);
  shift.input.addEventListener("change", hands.remember);
  const picture = model.get("image") ? loadImage(model.get("image"), () => view.draw()) : null;
  const stops = [follow(model, ["a_px", "b_px"], update), redrawOnChange(() => (view.draw(), gauge.draw()))];
  hands.choose(1);
  hands.remember();
  update();
  return () => stops.forEach((stop) => stop());
}

export default { render };
