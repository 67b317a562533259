import {
  COLORS, DASHES, canvasOf, checkbox, element, follow, inkOf, loadImage, redrawOnChange, rootOf, select, send, slider,
} from "./base.js";
import { boxAt, counts, foundObjects, rivalsOf, stageOf, suppress, unpack } from "./nms.js";
import { MOST_DRAWN, drawPicture, drawRivals, write } from "./nms_draw.js";

const SETTING = ["score_threshold", "iou_threshold", "kind", "agnostic"];
const HUES = [0, 1, 2, 7, 3, 4, 5].map((k) => COLORS[k]); // dark ones first; black is for the true objects

export function sentence(n, { score_threshold, iou_threshold }) {
  return (
    `Of ${n.candidates} candidates ${n.above} have a score above ${score_threshold.toFixed(2)}: ${n.suppressed} ` +
    `suppressed by an IoU above ${iou_threshold.toFixed(2)}, ${n.kept} kept. ${n.found} of ${n.objects} objects found.`
  );
}

function replaySentence({ outcome, stage }) {
  const [now, all] = [stage.kept.length, outcome.kept.length];
  return now < all ? `Replay: ${now} of ${all} boxes kept so far, ${stage.waiting.length} candidates wait.` : "";
}

export function boxSentence(name, rivals) {
  const ious = rivals.filter((r) => r.dropped).map((r) => r.iou).sort((a, b) => b - a);
  if (!ious.length) return `Box ${name} suppresses no other.`;
  const some = ious.slice(0, 8).map((v) => v.toFixed(2)).join(", ");
  return `Box ${name} suppresses ${ious.length}, IoU ${some}${ious.length > 8 ? " and less" : ""}.`;
}

function cutSentence({ stage }) {
  const most = Math.max(stage.kept.length, stage.dropped.length, stage.waiting.length);
  return most > MOST_DRAWN ? `The picture shows the ${MOST_DRAWN} best of each kind.` : "";
}

// The suppression for the traits of a setting, or the one of before when none of them has changed.
function outcomeOf(model, table, before) {
  const setting = Object.fromEntries(SETTING.map((name) => [name, model.get(name)]));
  if (before && SETTING.every((name) => setting[name] === before.setting[name])) return before;
  const objects = model.get("objects");
  const outcome = suppress(table, setting);
  outcome.found = foundObjects(table, objects, outcome.kept);
  return { ...outcome, setting, counts: counts(table, objects, outcome, setting.kind) };
}

// What the page shows: computed once for each change, not for each redraw.
function lookAt(model, table, before) {
  const outcome = outcomeOf(model, table, before?.outcome);
  const rank = new Map(outcome.kept.map((i, k) => [i, k]));
  const names = model.get("classes");
  return {
    table, outcome,
    stage: stageOf(outcome, model.get("step")),
    nameOf: (i) => `${rank.get(i) + 1} ${names[table.labels[i] - 1]} ${table.scores[i].toFixed(2)}`,
    colorOf: (i) => HUES[rank.get(i) % HUES.length],
    dashOf: (i) => DASHES[1 + (rank.get(i) % (DASHES.length - 1))],
  };
}

// The box whose victims are shown alone: pointed at, selected, or the last one of a replay.
function focusOf({ stage }, selected, pointed) {
  return [pointed, selected].find((i) => stage.kept.includes(i)) ?? stage.last;
}

// The box of the chart: the same, or else the best one of the class with the most candidates.
function subjectOf({ table: { labels }, stage, outcome }, focus) {
  if (focus !== null) return focus;
  const many = new Map();
  outcome.by.forEach((by, i) => by >= 0 && many.set(labels[i], 1 + (many.get(labels[i]) ?? 0)));
  const most = Math.max(0, ...many.values());
  return stage.kept.find((i) => many.get(labels[i]) === most) ?? null;
}

// The objects of the chosen class that are found, and those that are missed.
function objectsOf(objects, { found, setting: { kind } }) {
  const shown = (wanted) => objects.filter((o, k) => found[k] === wanted && (!kind || o.label === kind));
  return { found: shown(true), missed: shown(false) };
}

function slidersOf(model) {
  const two = (v) => v.toFixed(2);
  const score = slider(
    "Score threshold",
    { min: model.get("floor"), max: 1, step: 0.01, value: model.get("score_threshold"), show: two },
    (score_threshold) => send(model, { score_threshold }),
  );
  const limit = slider(
    "IoU threshold",
    { min: 0, max: 1, step: 0.01, value: model.get("iou_threshold"), show: two },
    (iou_threshold) => send(model, { iou_threshold }),
  );
  return { score, limit, replay: replayOf(model) };
}

function replayOf(model) {
  let last = 0;
  const show = (v) => `${v} of ${last}`;
  const made = slider("Replay: kept", { min: 0, max: 0, step: 1, value: 0, show }, (v) =>
    send(model, { step: v >= last ? null : v, selected: null }),
  );
  const reach = (step, most) => {
    made.input.max = last = most;
    made.set(Math.min(step ?? most, most));
  };
  return { ...made, reach };
}

function choicesOf(model, draw) {
  const options = [[0, "all"], ...model.get("classes").map((name, k) => [k + 1, name])];
  const kind = select("Class", options, model.get("kind"), (v) => send(model, { kind: Number(v), selected: null }));
  const agnostic = checkbox("one competition for all classes", model.get("agnostic"), (v) =>
    send(model, { agnostic: v }),
  );
  return { kind, agnostic, truth: checkbox("show the true objects (black)", false, draw) };
}

// Point at a kept box with the mouse, tap it, or walk through them with the arrow keys.
function onChoice(view, { at, point, choose, walk }) {
  const { canvas } = view;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.addEventListener("pointermove", (e) => e.pointerType === "mouse" && point(at(...view.at(e))));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("click", (e) => choose(at(...view.at(e))));
  canvas.addEventListener("keydown", (e) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!by || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    walk(by);
  });
}

// The next kept box of a walk that comes by "none" after the last one.
export function neighbour(kept, selected, by) {
  const ring = [null, ...kept];
  return ring.at((Math.max(0, ring.indexOf(selected)) + by) % ring.length);
}

function render({ model, el }) {
  const root = rootOf(el, "Non-maximum suppression");
  const table = unpack(model.get("packed"));
  const [width, height] = model.get("size_px");
  const view = canvasOf(440, Math.round((440 * height) / width), "", paint);
  const chart = canvasOf(400, 330, "", paintChart);
  const sliders = slidersOf(model), choices = choicesOf(model, () => view.draw());
  const canvases = [view, chart].map((v) => element("div", {}, v.canvas));
  const controls = [...Object.values(sliders), ...Object.values(choices)].map((c) => c.label);
  const out = element("output");
  root.append(element("div", { className: "beside" }, ...canvases), ...controls, out);
  let look, focus, subject, rivals, pointed = null;

  function paint(ctx) {
    const objects = objectsOf(choices.truth.input.checked ? model.get("objects") : [], look.outcome);
    drawPicture(ctx, [view.width, view.height], picture, look, { focus, rivals, objects });
  }
  function paintChart(ctx) {
    const ink = inkOf(root).ink;
    if (subject === null) return write(ctx, "No box is kept yet.", ink);
    const title = `Rivals of box ${look.nameOf(subject)}: \u25cf suppressed, \u25cb not`;
    const kind = { title, limit: look.outcome.setting.iou_threshold, floor: model.get("floor"), ink };
    drawRivals(ctx, chart, rivals, { ...kind, color: look.colorOf(subject) });
  }
  function draw() {
    view.draw();
    chart.draw();
  }
  function say() {
    const about = subject === null ? "" : boxSentence(look.nameOf(subject), rivals);
    const total = sentence(look.outcome.counts, look.outcome.setting);
    out.textContent = [total, replaySentence(look), about, cutSentence(look)].filter(Boolean).join(" ");
    view.canvas.setAttribute("aria-label", `Picture with kept boxes; arrow keys choose one. ${total}`);
    chart.canvas.setAttribute("aria-label", `Score over IoU of the rivals of one box. ${about}`);
  }
  function show() {
    focus = focusOf(look, model.get("selected"), pointed);
    subject = subjectOf(look, focus);
    rivals = subject === null ? [] : rivalsOf(table, look.outcome, subject, look.outcome.setting.agnostic);
    say();
    draw();
  }
  function update() {
    look = lookAt(model, table, look);
    const { score_threshold, iou_threshold, kind, agnostic } = look.outcome.setting;
    sliders.score.set(score_threshold);
    sliders.limit.set(iou_threshold);
    sliders.replay.reach(model.get("step"), look.outcome.kept.length);
    choices.kind.set(kind);
    choices.agnostic.set(agnostic);
    choices.agnostic.input.disabled = kind > 0;
    show();
  }
  onChoice(view, {
    at: (x, y) => boxAt(table, look.stage.kept, x / view.width, y / view.height),
    point: (i) => i !== pointed && ((pointed = i), show()),
    choose: (i) => send(model, { selected: i === model.get("selected") ? null : i }),
    walk: (by) => send(model, { selected: neighbour(look.stage.kept, model.get("selected"), by) }),
  });
  const picture = loadImage(model.get("image"), draw);
  update();
  const stops = [follow(model, [...SETTING, "step", "selected"], update), redrawOnChange(draw)];
  return () => stops.forEach((stop) => stop());
}

export default { render };
