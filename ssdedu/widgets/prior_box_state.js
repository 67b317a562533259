// What the explorer holds, without a page: the traits that a reader changes, the steps back, who is matched, and
// what the kernel and this page tell each other.

import { send } from "./base.js";
import { History } from "./box_editor.js";
import { problem, withScales } from "./priors.js";
import { detectorOf, solve } from "./prior_box_scene.js";

const REST_MS = 40; // the hand rests: Python is asked
const GESTURE_MS = 1000; // later than this the same slider is a new step to undo
export const SHARED = [
  "objects", "description", "threshold", "rule", "knobs", "map_index", "cell", "selected", "preset",
];
const UNDONE = ["objects", "description", "threshold", "rule", "knobs", "preset", "selected"];
const COMPUTED = ["objects", "description", "threshold", "rule"];

const pick = (from, names) => Object.fromEntries(names.map((name) => [name, from[name]]));
const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const differing = (a, b) => Object.keys(a).filter((name) => !isSame(a[name], b[name]));
const pairsOf = (result) => result.positives.map(([p, g]) => [p, g]);

function nameOfOwn(description, { config }) {
  const plain = isSame({ ...description, name: "" }, { ...config, name: "" });
  return plain ? config.name : `MY_${config.name}`;
}

export class Store {
  // page: redraw() after every change, solved() when there is a new result, say(text) what was refused;
  // dataRevision() goes along with what the kernel is told.
  constructor(model, page) {
    Object.assign(this, { model, page, history: new History(), hasNewPicture: false, hasHeard: false });
    Object.assign(this, { state: structuredClone(this.read()), revision: model.get("revision") });
    Object.assign(this, { mine: new Set(), timer: 0, isSending: false, since: 0 });
    Object.assign(this, { detector: null, result: null, source: "", hover: null, isPinned: false });
    Object.assign(this, { gesture: "", moved: 0 });
  }

  start() {
    this.solve();
    this.remember();
    this.answered();
    this.tell();
    this.page.redraw();
  }

  get presets() {
    return this.model.get("presets");
  }

  get preset() {
    return this.presets.find((p) => p.config.name === this.state.preset);
  }

  // What was done to the objects of another picture cannot be undone on this one.
  pictureChanged() {
    this.hasNewPicture = true;
  }

  read() {
    return Object.fromEntries(SHARED.map((name) => [name, this.model.get(name)]));
  }

  stop() {
    clearTimeout(this.timer);
  }

  // gesture: what a slider or a held key does many times and one Undo takes back.
  remember(gesture = "") {
    if (this.hasNewPicture) this.history = new History();
    this.hasNewPicture = false;
    const goesOn = gesture && gesture === this.gesture && performance.now() - this.moved < GESTURE_MS;
    this.history[goesOn && this.history.canUndo ? "replace" : "push"](pick(this.state, UNDONE));
    Object.assign(this, { gesture, moved: performance.now() });
  }

  // Every change by hand comes through here. final: a step to undo; otherwise the hand is still moving.
  update(changes, final = true, gesture = "") {
    this.takeMine(changes);
    if (final) this.remember(gesture);
    this.tellIn(final ? 0 : REST_MS);
  }

  takeMine(changes) {
    this.page.say("");
    Object.keys(changes).forEach((name) => this.mine.add(name));
    this.take(changes);
  }

  // And every change at all comes through here.
  take(changes) {
    Object.assign(this.state, changes);
    this.since ||= performance.now();
    if (["description", "objects", "map_index", "cell", "selected"].some((name) => name in changes)) this.settle();
    if (COMPUTED.some((name) => name in changes)) this.compute();
    this.page.redraw();
  }

  // Indices stay inside what they point into.
  settle() {
    const { description, objects, cell, map_index, selected } = this.state;
    const within = (v, most) => Math.max(0, Math.min(v, most));
    const last = within(map_index, description.maps.length - 1), map = description.maps[last];
    const inside = [within(cell[0], map.height - 1), within(cell[1], map.width - 1)];
    const settled = { map_index: last, cell: inside, selected: Math.min(selected, objects.length - 1) };
    for (const name of differing(settled, this.state)) this.mine.add(name);
    Object.assign(this.state, settled);
  }

  compute() {
    this.revision += 1;
    this.hover = null;
    this.solve();
  }

  solve() {
    const { objects, description, threshold, rule } = this.state;
    this.detector = detectorOf(description);
    this.result = solve(objects, this.detector, threshold, rule);
    this.source = "browser";
    this.page.solved();
  }

  tellIn(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tell(), ms);
  }

  // The kernel is told what was changed here, and only that: it may have changed the rest meanwhile.
  tell() {
    const mine = pick(this.state, [...this.mine]);
    this.mine.clear();
    this.timer = 0;
    this.isSending = true;
    send(this.model, structuredClone({ ...mine, revision: this.revision, data_revision: this.page.dataRevision() }));
    this.isSending = false;
  }

  // Traits that change together are taken together.
  heard() {
    if (this.isSending || this.hasHeard) return;
    this.hasHeard = true;
    queueMicrotask(() => this.hear());
  }

  // What the kernel or another view has changed. Python answers to that by the revision that the model has.
  hear() {
    this.hasHeard = false;
    const told = this.read();
    const theirs = differing(pick(told, SHARED.filter((name) => !this.mine.has(name))), this.state);
    if (!theirs.length) return;
    this.take(structuredClone(pick(told, theirs)));
    this.revision = this.model.get("revision");
    this.remember();
    this.tellIn(REST_MS);
  }

  // Python's answer takes the place of the page's own numbers, if it answers to what is shown now.
  answered() {
    const answer = this.model.get("answer");
    if (answer.revision !== this.revision || this.model.get("alone")) return;
    if (answer.error) this.page.say(answer.error);
    else this.accept(answer);
    this.page.redraw();
  }

  accept(answer) {
    this.source = isSame(pairsOf(answer), pairsOf(this.result)) ? "python" : "differs";
    this.result = answer;
  }

  undo() {
    this.back(this.history.undo());
  }

  redo() {
    this.back(this.history.redo());
  }

  back(before) {
    if (!before) return;
    this.takeMine(before);
    this.tellIn(0);
  }

  usePreset(name) {
    const { config, knobs } = this.presets.find((p) => p.config.name === name);
    this.update({ preset: name, description: structuredClone(config), knobs: { ...knobs } });
  }

  reset() {
    this.usePreset(this.state.preset);
  }

  // Whether the sides are those that the knobs give.
  get followsKnobs() {
    const { description, knobs } = this.state;
    const sides = ({ maps }) => maps.map((map) => [map.min_px, map.max_px].map((v) => v?.toFixed(3)));
    return isSame(sides(description), sides(withScales(description, knobs)));
  }

  // Whether the description can be so; otherwise it stays, and the page says why. more: what changes with it.
  changeConfig(changes, more = {}, gesture = "") {
    const description = { ...this.state.description, ...changes };
    description.name = nameOfOwn(description, this.preset);
    const wrong = problem(description);
    this.page.say(wrong);
    if (!wrong) this.update({ description, ...more }, true, gesture);
    return !wrong;
  }

  changeMaps(change) {
    return this.changeConfig({ maps: this.state.description.maps.map(change) });
  }

  changeMap(k, changes) {
    return this.changeMaps((map, i) => (i === k ? { ...map, ...changes } : map));
  }

  // The steps between centres: evenly spread as in the paper, or the preset's own.
  spreadCenters(evenly) {
    const { steps_px } = this.preset;
    return this.changeMaps((map, k) => ({ ...map, step_px: evenly ? null : steps_px[k] }));
  }

  turn(changes) {
    const knobs = { ...this.state.knobs, ...changes };
    knobs.high = Math.max(knobs.high, knobs.low);
    this.changeConfig(withScales(this.state.description, knobs), { knobs }, `knob ${Object.keys(changes)}`);
  }

  // The first m maps as they are. Maps that come back do so as the knobs have it, if these were turned.
  useMaps(m) {
    const { description, knobs } = this.state, { config, knobs: plain } = this.preset;
    const kept = description.maps.slice(0, m);
    const maps = [...kept, ...structuredClone(config.maps.slice(kept.length, m))];
    const isPlain = kept.length === m || isSame(knobs, plain);
    this.changeConfig(isPlain ? { maps } : withScales({ ...description, maps }, knobs), {}, "maps");
  }

  choose(index) {
    this.update({ selected: index }, false);
  }

  changeObject(changes, final = true, gesture = "") {
    const { objects, selected } = this.state;
    this.update({ objects: objects.map((o, g) => (g === selected ? { ...o, ...changes } : o)) }, final, gesture);
  }

  addObject() {
    const at = 0.3 + 0.04 * (this.state.objects.length % 5);
    this.placeObject([at, at, at + 0.3, at + 0.3]);
  }

  placeObject(box, final = true) {
    const objects = [...this.state.objects, { box, name: this.model.get("names")[0] ?? "object" }];
    this.update({ objects, selected: objects.length - 1 }, final);
  }

  removeObject() {
    const { selected } = this.state;
    if (selected < 0) return;
    const objects = this.state.objects.filter((_, g) => g !== selected);
    this.update({ objects, selected: Math.min(selected, objects.length - 1) });
  }
}
