import {
  button, canvasOf, checkbox, element, follow, freshId, inkOf, loadImage, onDrag, redrawOnChange, rootOf, select, send, slider,
} from "./base.js";
import { History, cursorOf, dragBox, hitBox, newBox, nudgeBox } from "./box_editor.js";
import { problem, withScales } from "./priors.js";
import { cellAt, cellBoxes, detectorOf, positiveAt, sceneSentence, solve } from "./prior_box_scene.js";
import { MARGIN, canvasSize, paintScene } from "./prior_box_draw.js";
import { cellTable, mapTable, objectTable } from "./prior_box_tables.js";
import { asPython } from "./priors_text.js";
import { fitPanel } from "./fit_panel.js";

const REST_MS = 40; // the hand rests: Python is asked
const SHARED = ["objects", "description", "threshold", "rule", "knobs", "map_index", "cell", "selected", "preset"];
const UNDONE = ["objects", "description", "threshold", "rule", "knobs", "preset", "selected"];
const COMPUTED = ["objects", "description", "threshold", "rule"];
const RULES = [["ssd", "SSD: pairs, then threshold"], ["multibox", "MultiBox: pairs alone"], ["threshold", "threshold alone"]];
const KEYS = "Keys on the picture: arrows move the selected object (with Shift: its right and bottom edge), or the cell when no "
  + "object is selected; O next object, Escape none, N new object, Delete removes it, M next feature map, Ctrl+Z undo, Ctrl+Y redo.";

const pick = (from, names) => Object.fromEntries(names.map((name) => [name, from[name]]));
const differing = (a, b) => Object.keys(a).filter((name) => JSON.stringify(a[name]) !== JSON.stringify(b[name]));

function render({ model, el }) {
  const root = rootOf(el, "Default boxes and what they match");
  const read = () => Object.fromEntries(SHARED.map((name) => [name, model.get(name)]));
  const state = structuredClone(read());
  const show = { grid: true, cell: true, positives: true, field: false };
  const history = new History();
  const local = { mine: new Set(), hover: null, result: null, source: "", sending: false, timer: 0, frame: 0, since: 0, revision: model.get("revision") };
  const presets = model.get("presets");
  const presetOf = () => presets.find((p) => p.config.name === state.preset);
  const view = canvasOf(...canvasSize(state.description), "", paint);
  let picture = loadImage(model.get("image"), () => redraw());

  // Every change by hand comes through here. final: a step to undo; otherwise the hand is still moving.
  function update(changes, final = true) {
    Object.keys(changes).forEach((name) => local.mine.add(name));
    take(changes);
    if (final) history.push(pick(state, UNDONE));
    clearTimeout(local.timer);
    local.timer = setTimeout(tell, final ? 0 : REST_MS);
  }
  // And every change at all comes through here.
  function take(changes) {
    Object.assign(state, changes);
    local.since ||= performance.now();
    if ("description" in changes || "objects" in changes) settle();
    if (COMPUTED.some((n) => n in changes)) compute();
    redraw();
  }

  // Indices stay inside what they point into.
  function settle() {
    const { maps } = state.description, map_index = Math.min(state.map_index, maps.length - 1), map = maps[map_index];
    const cell = [Math.min(state.cell[0], map.height - 1), Math.min(state.cell[1], map.width - 1)];
    const settled = { map_index, cell, selected: Math.min(state.selected, state.objects.length - 1) };
    for (const name of differing(settled, state)) local.mine.add(name);
    Object.assign(state, settled);
  }

  function compute() {
    local.revision += 1;
    local.hover = null;
    local.detector = detectorOf(state.description);
    local.result = solve(state.objects, local.detector, state.threshold, state.rule);
    local.source = "browser";
    fit.update(state, presetOf());
  }

  // The kernel is told what was changed here, and only that: it may have changed the rest meanwhile.
  function tell() {
    const mine = pick(state, [...local.mine]);
    local.mine.clear();
    local.timer = 0;
    local.sending = true;
    send(model, structuredClone({ ...mine, revision: local.revision, data_revision: fit.asked() }));
    local.sending = false;
  }

  function heard() {
    if (local.sending) return;
    const theirs = differing(pick({ ...state, ...read() }, SHARED.filter((n) => !local.mine.has(n))), state);
    if (!theirs.length) return;
    take(structuredClone(pick(read(), theirs)));
    history.push(pick(state, UNDONE));
    clearTimeout(local.timer);
    local.timer = setTimeout(tell, REST_MS);
  }

  // Python's answer takes the place of the page's own numbers, if it answers to what is shown now.
  function answered() {
    const answer = model.get("answer");
    if (answer.revision !== local.revision) return;
    if (answer.error) return redraw((status.textContent = answer.error));
    const same = JSON.stringify(answer.positives.map((q) => q.slice(0, 2))) === JSON.stringify(local.result.positives.map((q) => q.slice(0, 2)));
    local.result = answer;
    local.source = same ? "python" : "differs";
    redraw();
  }

  // Controls
  const undo = button("Undo", () => back(history.undo()));
  const redo = button("Redo", () => back(history.redo()));
  const presetChoice = select("Detector", presets.map((p) => [p.config.name, p.config.name]), state.preset, (name) => {
    const chosen = presets.find((p) => p.config.name === name);
    update({ preset: name, description: structuredClone(chosen.config), knobs: { ...chosen.knobs } });
  });
  const steps = select("Centres", [["original", "in steps, as the original code"], ["paper", "spread evenly, as the paper"]], "original", (kind) => {
    const { steps_px } = presetOf();
    changeMaps((map, k) => ({ ...map, step_px: kind === "paper" ? null : steps_px[k] }));
  });
  const clip = checkbox("clip at the border", state.description.clip, (on) => changeConfig({ clip: on }));
  const count = slider("Number of maps", { min: 1, max: 7, step: 1, value: 6 }, (m) => useMaps(m));
  const percent = (v) => `${(100 * v).toFixed(1)} %`;
  const knob = (text, name) => slider(text, { min: 0.02, max: 1.1, step: 0.005, value: 0.2, show: percent }, (v) => turn({ [name]: v }));
  const [first, low, high] = [knob("Scale of the first map", "first"), knob("s_min", "low"), knob("s_max", "high")];
  const outside = checkbox("first map stands outside the formula", true, (on) => turn({ first: on ? Number(first.input.value) : null }));
  const whole = checkbox("whole percents and pixels, as the original code", true, (on) => turn({ whole: on }));
  const limit = slider("Matching threshold", { min: 0.05, max: 0.95, step: 0.01, value: state.threshold, show: (v) => v.toFixed(2) },
    (threshold) => update({ threshold }));
  const rule = select("Matching rule", RULES, state.rule, (chosen) => update({ rule: chosen }));
  const layers = Object.entries({ positives: "positives of all maps", cell: "boxes of the cell", grid: "centres of the map", field: "receptive field" })
    .map(([name, text]) => checkbox(`show ${text}`, show[name], (on) => redraw((show[name] = on))));
  const picked = select("Selected object", [], "-1", (g) => update({ selected: Number(g) }, false));
  const nameList = element("datalist", { id: freshId("names") }, ...model.get("names").map((n) => element("option", { value: n })));
  const name = element("input", { type: "text" });
  name.setAttribute("list", nameList.id);
  name.addEventListener("change", () => changeObject({ name: name.value }));
  const nameLabel = element("label", {}, element("span", { className: "name" }, "Its label"), name, nameList);
  const add = button("Add an object", addObject);
  const remove = button("Remove it", removeObject);
  const file = element("input", { type: "file", accept: "image/*" });
  file.addEventListener("change", openFile);
  const fileLabel = element("label", {}, element("span", { className: "name" }, "A picture of yours (stays on this page and in this kernel)"), file);
  const index = slider("Image of the data set", { min: 0, max: Math.max(0, model.get("num_images") - 1), step: 1, value: model.get("index") }, (i) => {
    model.set("index", i);
    model.save_changes();
  });
  const copy = button("Copy as Python", copyPython);
  const code = element("textarea", { readOnly: true, rows: 6, spellcheck: false, label: "The description in Python", hidden: true });
  const status = element("span", { className: "status" });
  const out = element("output");
  const maps = mapTable({ choose: (k) => update({ map_index: k }, false), change: changeMap });
  const cells = cellTable(), things = objectTable();
  const fit = fitPanel(model, root);
  const keys = element("details", {}, element("summary", {}, "Keys"), KEYS);

  root.append(
    element("div", { className: "bar" }, presetChoice.label, undo, redo, copy),
    code,
    element("div", { className: "split" },
      element("div", {}, view.canvas, out, status, things.table, element("div", { className: "bar" }, picked.label, nameLabel, add, remove), keys),
      element("div", {},
        maps.table, cells.caption, cells.table,
        element("fieldset", {}, element("legend", {}, "Sizes (Eq. 4)"), count.label, first.label, outside.label, low.label, high.label, whole.label),
        element("fieldset", {}, element("legend", {}, "Centres and matching"), steps.label, clip.label, limit.label, rule.label),
        element("fieldset", {}, element("legend", {}, "Picture"), ...layers.map((l) => l.label), ...(model.get("num_images") > 1 ? [index.label] : []), fileLabel),
      ),
    ),
    fit.panel,
  );
  view.canvas.tabIndex = 0;
  view.canvas.classList.add("drag");

  // Changes
  function changeConfig(changes) {
    const description = { ...state.description, ...changes };
    const { config } = presetOf();
    const plain = JSON.stringify({ ...description, name: "" }) === JSON.stringify({ ...config, name: "" });
    description.name = plain ? config.name : `MY_${config.name}`;
    const wrong = problem(description);
    status.textContent = wrong;
    if (wrong) return false;
    update({ description });
    return true;
  }
  function changeMaps(change) {
    return changeConfig({ maps: state.description.maps.map(change) });
  }
  function changeMap(k, changes) {
    return changeMaps((map, i) => (i === k ? { ...map, ...changes } : map));
  }
  function turn(changes) {
    const knobs = { ...state.knobs, ...changes };
    knobs.high = Math.max(knobs.high, knobs.low);
    if (changeConfig(withScales(state.description, knobs))) update({ knobs });
  }
  // The first m maps of the detector, with the changes made to those that stay.
  function useMaps(m) {
    const kept = state.description.maps.slice(0, m);
    const maps_ = [...kept, ...structuredClone(presetOf().config.maps.slice(kept.length, m))];
    const description = { ...state.description, maps: maps_ };
    const untouched = JSON.stringify(state.knobs) === JSON.stringify(presetOf().knobs);
    changeConfig(untouched ? { maps: maps_ } : withScales(description, state.knobs));
  }
  function changeObject(changes) {
    const objects = state.objects.map((o, g) => (g === state.selected ? { ...o, ...changes } : o));
    update({ objects });
  }
  function addObject() {
    const taken = state.objects.length % 5;
    const at = 0.3 + 0.04 * taken;
    placeObject([at, at, at + 0.3, at + 0.3]);
    view.canvas.focus();
  }
  function placeObject(box, final = true) {
    const objects = [...state.objects, { box, name: model.get("names")[0] ?? "object" }];
    update({ objects, selected: objects.length - 1 }, final);
  }
  function removeObject() {
    if (state.selected < 0) return;
    const objects = state.objects.filter((_, g) => g !== state.selected);
    update({ objects, selected: Math.min(state.selected, objects.length - 1) });
  }
  function back(before) {
    if (!before) return;
    Object.keys(before).forEach((name) => local.mine.add(name));
    take(before);
    clearTimeout(local.timer);
    local.timer = setTimeout(tell, 0);
  }
  async function openFile() {
    if (!file.files.length) return;
    const data = await shrunk(file.files[0]).catch(() => null);
    if (!data) return redraw((status.textContent = `${file.files[0].name}: not a picture that the browser can read; try PNG or JPEG.`));
    model.set("image", data);
    model.save_changes();
    update({ objects: [], selected: -1 });
  }
  function copyPython() {
    code.value = asPython(state.description);
    code.hidden = false;
    code.focus();
    code.select();
    navigator.clipboard?.writeText(code.value).then(() => (status.textContent = "Copied."), () => (status.textContent = "Press Ctrl+C to copy."));
  }

  // Pointer and keys
  const smallest = () => [4 / state.description.width_px, 4 / state.description.height_px];
  const inImage = (x, y) => [(x - MARGIN) / (view.width - 2 * MARGIN), (y - MARGIN) / (view.height - 2 * MARGIN)];
  const reach = (event) => (event.pointerType === "touch" ? 16 : 8) / (view.width - 2 * MARGIN);
  let held = null;
  const drag = {
    start(px, py, event) {
      const [x, y] = inImage(px, py);
      const hit = hitBox(state.objects.map((o) => o.box), x, y, reach(event), reach(event));
      held = { x, y, hit, box: hit && state.objects[hit.index].box, moved: false };
      if (hit) update({ selected: hit.index }, false);
      else point(x, y);
      return true;
    },
    move(px, py) {
      const [x, y] = inImage(px, py);
      if (!held.moved && Math.hypot(x - held.x, y - held.y) < 0.006) return;
      if (!held.moved && !held.hit) placeObject(newBox(held.x, held.y, x, y, ...smallest()), false);
      held.moved = true;
      const box = held.hit
        ? dragBox(held.box, held.hit.handle, x - held.x, y - held.y, ...smallest())
        : newBox(held.x, held.y, x, y, ...smallest());
      const objects = state.objects.map((o, g) => (g === state.selected ? { ...o, box } : o));
      update({ objects }, false);
    },
    end(px, py) {
      drag.move(px, py);
      if (held.moved) update({ objects: state.objects });
      held = null;
    },
  };
  onDrag(view, drag);
  view.canvas.addEventListener("pointermove", (e) => {
    if (held) return;
    const [x, y] = inImage(...view.at(e));
    const hit = hitBox(state.objects.map((o) => o.box), x, y, reach(e), reach(e));
    view.canvas.style.cursor = hit ? cursorOf(hit.handle) : "crosshair";
    point(x, y);
  });
  view.canvas.addEventListener("pointerleave", () => redraw((local.hover = null)));

  function point(x, y) {
    const tol = 6 / (view.width - 2 * MARGIN);
    const found = show.positives && positiveAt(local.result, local.detector.corners, x, y, tol, tol);
    local.hover = found ? { ...found, x, y } : null;
    const within = x >= -0.05 && x <= 1.05 && y >= -0.05 && y <= 1.05;
    const cell = cellAt(state.description, state.map_index, x, y);
    if (within && String(cell) !== String(state.cell)) update({ cell }, false);
    else redraw();
  }

  view.canvas.addEventListener("keydown", (e) => {
    const key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
    if ((e.ctrlKey || e.metaKey) && (key === "z" || key === "y")) {
      back(key === "y" || e.shiftKey ? history.redo() : history.undo());
    } else if (e.ctrlKey || e.metaKey || e.altKey || !pressed(key, e.shiftKey)) return;
    e.preventDefault();
    e.stopPropagation();
  });
  function pressed(key, shift) {
    const { objects, selected, description, map_index } = state;
    if (key.startsWith("Arrow")) return selected >= 0 ? nudge(key, shift) : moveCell(key);
    if (key === "n") return addObject(), true;
    if (key === "o" && objects.length) return update({ selected: (selected + 1) % objects.length }, false), true;
    if (key === "m") return update({ map_index: (map_index + 1) % description.maps.length, cell: [0, 0] }, false), true;
    if (key === "Delete" || key === "Backspace") return removeObject(), true;
    if (key === "Escape" && selected >= 0) return update({ selected: -1 }, false), true;
    return false;
  }
  function nudge(key, shift) {
    const { width_px, height_px } = state.description;
    const box = nudgeBox(state.objects[state.selected].box, key, 1 / width_px, 1 / height_px, shift, ...smallest());
    changeObject({ box });
    return true;
  }
  function moveCell(key) {
    const map = state.description.maps[state.map_index];
    const [dr, dc] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    const inside = (v, n) => Math.min(n - 1, Math.max(0, v));
    update({ cell: [inside(state.cell[0] + dr, map.height), inside(state.cell[1] + dc, map.width)] }, false);
    return true;
  }

  // Drawing
  function redraw() {
    if (!local.frame) local.frame = requestAnimationFrame(drawNow);
  }
  function drawNow() {
    local.frame = 0;
    const size = canvasSize(state.description);
    if (String(size) !== String([view.width, view.height])) view.resize(...size);
    local.cellBoxes = cellBoxes(local.detector, state.map_index, state.cell, state.objects, local.result);
    view.draw();
    describe();
    view.canvas.drawn.ms = performance.now() - (local.since || performance.now());
    local.since = 0;
  }
  function paint(ctx) {
    const { map_index: map, description: config } = state;
    const field = presetOf().fields?.[map] ?? null;
    const scene = { ...local, ...state, config, map, field, show, picture };
    paintScene(ctx, [view.width, view.height], scene, inkOf(root));
    const drawn = { positives: local.result.positives, own: local.result.own, hover: local.hover, cell: state.cell, map, source: local.source };
    view.canvas.drawn = { ...drawn, frames: (view.canvas.drawn?.frames ?? 0) + 1, margin: MARGIN, ms: 0 };
  }
  function describe() {
    const { description: config, objects, map_index, selected } = state;
    const text = sceneSentence(config, objects, local.result, state.rule);
    if (out.textContent !== text) out.textContent = text;
    view.canvas.setAttribute("aria-label", `Picture with objects and default boxes. ${text}`);
    const sources = { browser: "Computed in the browser.", python: "Computed in the browser and by Python: the same.",
      differs: "The browser and Python disagree: please report this." };
    if (!problemShown()) status.textContent = sources[local.source];
    maps.update(config, local, map_index);
    cells.update(local.cellBoxes, config.maps[map_index], state, presetOf().fields?.[map_index]);
    things.update(objects, config, local, selected);
    updateControls();
  }
  const problemShown = () => /^Map |Copied|Ctrl|not a picture/.test(status.textContent) && local.source === "browser";
  function updateControls() {
    const { description, knobs, objects, selected } = state, preset = presetOf();
    presetChoice.set(state.preset);
    undo.disabled = !history.canUndo, redo.disabled = !history.canRedo;
    Object.assign(count.input, { min: preset.min_maps, max: preset.config.maps.length });
    count.set(description.maps.length);
    first.input.disabled = knobs.first === null;
    if (knobs.first !== null) first.set(knobs.first);
    outside.set(knobs.first !== null), low.set(knobs.low), high.set(knobs.high), whole.set(knobs.whole);
    clip.set(description.clip), limit.set(state.threshold), rule.set(state.rule);
    steps.set(description.maps.every((m) => m.step_px === null) ? "paper" : "original");
    steps.input.disabled = preset.steps_px.every((s) => s === null);
    remove.disabled = name.disabled = selected < 0;
    const texts = ["none: arrows move the cell", ...objects.map((o, g) => `${g + 1} ${o.name}`)];
    if (picked.input.dataset.texts !== String(texts)) {
      picked.input.replaceChildren(...texts.map((t, i) => element("option", { value: i - 1 }, t)));
      picked.input.dataset.texts = String(texts);
    }
    picked.set(selected);
    if (document.activeElement !== name) name.value = objects[selected]?.name ?? "";
  }

  local.detector = detectorOf(state.description);
  local.result = solve(state.objects, local.detector, state.threshold, state.rule);
  local.source = "browser";
  fit.update(state, presetOf());
  history.push(pick(state, UNDONE));
  answered();
  tell();
  redraw();
  const stops = [
    follow(model, SHARED, heard), follow(model, ["answer"], answered), redrawOnChange(redraw), fit.stop,
    follow(model, ["data_answer"], () => fit.answered(model.get("data_answer"))),
    follow(model, ["image"], () => (picture = loadImage(model.get("image"), () => redraw()))),
    follow(model, ["index"], () => index.set(model.get("index"))),
  ];
  return () => stops.forEach((stop) => stop());
}

// A picture from the reader's disk as a data address, at most 800 px wide or high.
async function shrunk(picked) {
  const bitmap = await createImageBitmap(picked);
  const ratio = Math.min(1, 800 / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas", { width: Math.round(bitmap.width * ratio), height: Math.round(bitmap.height * ratio) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.9);
}

export default { render };
