// The explorer's controls beside the tables, in groups. Each group has its elements and update(), which brings them
// up to date with the store. say(text) shows one line to the reader.

import { button, checkbox, element, freshId, select, slider } from "./base.js";
import { asPython } from "./priors_text.js";

const RULES = [
  ["ssd", "SSD: pairs, then threshold"], ["multibox", "MultiBox: pairs alone"], ["threshold", "threshold alone"],
];
const CENTERS = [["original", "in steps, as the original code"], ["paper", "spread evenly, as the paper"]];
const SOURCES = {
  browser: "Computed in the browser.",
  python: "Computed in the browser and by Python: the same.",
  differs: "The browser and Python disagree: please report this.",
};
const KNOB = { min: 0.02, max: 1.1, step: 0.005, value: 0.2, show: (v) => `${(100 * v).toFixed(1)} %` };

// Says where the numbers come from, and before that what there is to say, which stays until something changes.
export function statusLine() {
  const message = element("strong", { role: "status" }), origin = element("span");
  const say = (text) => {
    if (message.textContent !== text) message.textContent = text;
  };
  const update = (source) => (origin.textContent = ` ${SOURCES[source]}`);
  return { line: element("div", { className: "status" }, message, origin), say, update };
}

export function detectorControls(store, say) {
  const preset = select("Detector", [], "", (name) => store.usePreset(name));
  const undo = button("Undo", () => store.undo()), redo = button("Redo", () => store.redo());
  const reset = button("Reset detector", () => store.reset());
  const code = element("textarea", {
    readOnly: true, rows: 6, spellcheck: false, label: "The description in Python", hidden: true,
  });
  const copy = button("Copy as Python", () => copyPython(code, store.state.description, say));
  const update = () => {
    const names = store.presets.map(({ config }) => config.name);
    updateChoices(preset, names, names);
    preset.set(store.state.preset);
    [undo.disabled, redo.disabled] = [!store.history.canUndo, !store.history.canRedo];
    if (!code.hidden) setText(code, asPython(store.state.description));
  };
  return { parts: [preset.label, reset, undo, redo, copy], code, update };
}

// Rewritten only where it differs, so that what is marked stays marked.
function setText(code, text) {
  if (code.value !== text) code.value = text;
}

// The text also stands in a field, in step with the description, to be copied where the page may not.
function copyPython(code, description, say) {
  setText(code, asPython(description));
  code.hidden = false;
  code.focus();
  code.select();
  const copied = navigator.clipboard?.writeText(code.value);
  copied?.then(() => say("Copied."), () => say("Press Ctrl+C to copy."));
}

export function sizeControls(store) {
  const count = slider("Number of maps", { min: 1, max: 7, step: 1, value: 6 }, (m) => store.useMaps(m));
  const knob = (text, name) => slider(text, KNOB, (v) => store.turn({ [name]: v }));
  const [first, low, high] = [knob("Scale of the first map", "first"), knob("s_min", "low"), knob("s_max", "high")];
  const outside = checkbox("first map stands outside the formula", true,
    (on) => store.turn({ first: on ? Number(first.input.value) : null }));
  const whole = checkbox("whole percents and pixels, as the original code", true, (on) => store.turn({ whole: on }));
  const note = element("p", { className: "caption" }, "The sides were chosen by hand; a slider computes all of them anew.");
  const update = () => {
    updateCount(count, store);
    updateKnobs({ first, low, high, outside, whole }, store.state.knobs);
    note.hidden = store.followsKnobs;
  };
  return { parts: [...[count, first, outside, low, high, whole].map((made) => made.label), note], update };
}

function updateCount(count, { state, preset }) {
  Object.assign(count.input, { min: preset.min_maps, max: preset.config.maps.length });
  count.set(state.description.maps.length);
}

function updateKnobs({ first, low, high, outside, whole }, knobs) {
  first.input.disabled = knobs.first === null;
  if (knobs.first !== null) first.set(knobs.first);
  outside.set(knobs.first !== null);
  low.set(knobs.low);
  high.set(knobs.high);
  whole.set(knobs.whole);
}

export function matchingControls(store) {
  const { description, threshold, rule } = store.state;
  const range = { min: 0.05, max: 0.95, step: 0.01, value: threshold, show: (v) => v.toFixed(2) };
  const limit = slider("Matching threshold", range, (v) => store.update({ threshold: v }, true, "threshold"));
  const rules = select("Matching rule", RULES, rule, (chosen) => store.update({ rule: chosen }));
  const steps = select("Centres", CENTERS, "original", (kind) => store.spreadCenters(kind === "paper"));
  const clip = checkbox("clip at the border", description.clip, (on) => store.changeConfig({ clip: on }));
  const update = () => {
    limit.set(store.state.threshold);
    rules.set(store.state.rule);
    clip.set(store.state.description.clip);
    updateSteps(steps, store);
  };
  return { parts: [steps, clip, limit, rules].map((made) => made.label), update };
}

function updateSteps(steps, { state, preset }) {
  steps.set(state.description.maps.every((map) => map.step_px === null) ? "paper" : "original");
  steps.input.disabled = preset.steps_px.every((step) => step === null);
}

// add(): a new object, and the picture has the focus.
export function objectControls(store, add) {
  const picked = select("Selected object", [], "-1", (g) => store.choose(Number(g)));
  const { label, name } = nameField(store);
  const added = button("Add an object", add), removed = button("Remove it", () => store.removeObject());
  const update = () => {
    const { objects, selected } = store.state;
    removed.disabled = name.disabled = selected < 0;
    const texts = ["none: arrows move the cell", ...objects.map((o, g) => `${g + 1} ${o.name}`)];
    updateChoices(picked, texts, texts.map((_, i) => i - 1));
    picked.set(selected);
    if (document.activeElement !== name) name.value = objects[selected]?.name ?? "";
  };
  return { parts: [picked.label, label, added, removed], update };
}

function nameField(store) {
  const options = store.model.get("names").map((n) => element("option", { value: n }));
  const list = element("datalist", { id: freshId("names") }, ...options);
  const name = element("input", { type: "text" });
  name.setAttribute("list", list.id);
  name.addEventListener("change", () => store.changeObject({ name: name.value }));
  return { label: element("label", {}, element("span", { className: "name" }, "Its label"), name, list), name };
}

// Options are made anew only when they say something else, so that an open list is not disturbed.
function updateChoices(picked, texts, values) {
  if (picked.input.dataset.texts === String(texts)) return;
  picked.input.replaceChildren(...texts.map((text, i) => element("option", { value: values[i] }, text)));
  picked.input.dataset.texts = String(texts);
}
