// The explorer's tables: the maps of the description, one cell's default boxes, the objects and who matches them.

import { DASHES, element, freshId } from "./base.js";
import { boxesPerCell, readRatios } from "./priors.js";
import { countsPerObject, mapOf } from "./prior_box_scene.js";
import { mapColor } from "./prior_box_draw.js";

const number = (v, digits = 1) => String(Math.round(v * 10 ** digits) / 10 ** digits);

function tableOf(caption, heads) {
  const body = element("tbody");
  const row = element("tr", {}, ...heads.map((h) => element("th", { scope: "col" }, h)));
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, row), body);
  return { table, body };
}

// Rewrites a body only when what it says has changed, so that a screen reader and a click are not disturbed.
function fill(body, rows) {
  const key = JSON.stringify(rows);
  if (body.dataset.key === key) return;
  body.dataset.key = key;
  body.replaceChildren(...rows.map((cells) => element("tr", {}, ...cells.map(cellOf))));
}

function cellOf(content) {
  if (typeof content === "string" || typeof content === "number") return element("td", {}, String(content));
  const key = content.map === undefined ? [] : [swatch(content.map, content.dash)];
  return element("td", { className: content.strong ? "strong" : "" }, ...key, content.text);
}

function swatch(map, dash = map) {
  const canvas = element("canvas", { width: 26, height: 12, className: "swatch" });
  canvas.setAttribute("aria-hidden", "true");
  const ctx = canvas.getContext("2d");
  for (const [ink, width, pattern] of [["white", 6, []], [mapColor(map), 3, DASHES[dash % DASHES.length]]]) {
    Object.assign(ctx, { strokeStyle: ink, lineWidth: width });
    ctx.setLineDash(pattern);
    ctx.beginPath(), ctx.moveTo(0, 6), ctx.lineTo(26, 6), ctx.stroke();
  }
  return canvas;
}

export function mapTable({ choose, change }) {
  const { table, body } = tableOf("Feature maps", ["map", "cells", "side px", "next px", "1′", "ratios", "boxes", "positives"]);
  let rows = [];
  function build(config) {
    const group = freshId("map");
    rows = config.maps.map((map, k) => mapRow(map, k, group, choose, change));
    body.replaceChildren(...rows.map((r) => r.row));
  }
  function update(config, { result, detector }, chosen) {
    const names = config.maps.map((m) => `${m.name} ${m.height}`).join();
    if (body.dataset.names !== names) build(config), (body.dataset.names = names);
    const positives = new Array(config.maps.length).fill(0);
    for (const [p] of result.positives) positives[mapOf(p, detector.first)] += 1;
    rows.forEach((row, k) => row.update(config.maps[k], k === chosen, positives[k]));
  }
  return { table, update };
}

function field(type, label, onChange) {
  const input = element("input", { type, label });
  input.addEventListener("change", () => {
    input.setAttribute("aria-invalid", String(onChange(input) === false));
  });
  const set = (value) => {
    const isRefused = input.getAttribute("aria-invalid") === "true" && input.dataset.value === String(value);
    if (input.getRootNode().activeElement === input || isRefused) return;
    [input.value, input.dataset.value] = [value, value];
    input.removeAttribute("aria-invalid");
  };
  return { input, set };
}

function mapRow(map, k, group, choose, change) {
  const radio = element("input", { type: "radio", name: group, label: `show ${map.name}` });
  radio.addEventListener("change", () => choose(k));
  const low = field("number", `${map.name}: side in pixels`, (i) => change(k, { min_px: Number(i.value) }));
  const high = field("number", `${map.name}: next side in pixels`, (i) => change(k, { max_px: Number(i.value) }));
  for (const { input } of [low, high]) Object.assign(input, { min: 1, step: "any" });
  const ratios = field("text", `${map.name}: aspect ratios`, (i) => {
    const read = readRatios(i.value);
    return change(k, { aspect_ratios: read ?? [NaN] });
  });
  let spare = map.max_px ?? map.min_px * 1.5;
  const extra = element("input", { type: "checkbox", label: `${map.name}: extra box 1′` });
  extra.addEventListener("change", () => change(k, { max_px: extra.checked ? Math.max(spare, Number(low.input.value)) : null }));
  const cells = ["cells", "boxes", "positives"].map((className) => element("td", { className }));
  const name = element("td", {}, element("label", {}, radio, swatch(k), map.name));
  const holders = [low.input, high.input, extra, ratios.input].map((input) => element("td", {}, input));
  const row = element("tr", {}, name, cells[0], ...holders, cells[1], cells[2]);
  function update(now, isChosen, positives) {
    radio.checked = isChosen;
    row.classList.toggle("chosen", isChosen);
    low.set(number(now.min_px, 2)), high.set(now.max_px === null ? "" : number(now.max_px, 2));
    high.input.disabled = now.max_px === null;
    if (now.max_px !== null) spare = now.max_px;
    extra.checked = now.max_px !== null;
    ratios.set(now.aspect_ratios.map((r) => number(r, 3)).join(", "));
    const texts = [`${now.height} × ${now.width}`, (now.height * now.width * boxesPerCell(now)).toLocaleString("en"), positives];
    cells.forEach((cell, i) => (cell.textContent = texts[i]));
  }
  return { row, update };
}

export function cellTable() {
  const caption = element("p", { className: "caption" });
  const { table, body } = tableOf("Default boxes of the cell; offset of the centre of the object that each fits best, in its own widths and heights", ["ratio", "w × h, px", "offset", "IoU", "matched to"]);
  function update(boxes, map, { state: { cell, objects, map_index }, isPinned }, field) {
    const sees = field ? ` sees ${field.field_px} px, mostly the ${field.middle_px} px in the middle;` : "";
    caption.textContent = `Cell (${cell.join(", ")})${isPinned ? ", kept," : ""} of ${map.name}${sees} scale ${number(map.min_px)} px.`;
    const nameOf = (g) => objects[g].name || `object ${g + 1}`;
    fill(body, boxes.map((b, i) => [
      { text: b.name, map: map_index, dash: i }, `${number(b.sizePx[0])} × ${number(b.sizePx[1])}`,
      b.offset ? `${b.offset.map((v) => v.toFixed(2)).join(", ")}` : "–", b.iou.toFixed(3),
      { text: b.positive >= 0 ? nameOf(b.positive) : "background", strong: b.positive >= 0 },
    ]));
  }
  return { caption, table, update };
}

export function objectTable() {
  const { table, body } = tableOf("Objects: positives in all and map by map, IoU of the best box, and at the best place for this size", ["object", "px", "positives", "own ★", "best", "at best"]);
  function update(objects, config, { result, detector }, selected) {
    const counts = countsPerObject(result, detector.first, objects.length);
    fill(body, objects.map(({ box, name }, g) => {
      const size = [0, 1].map((i) => (box[i + 2] - box[i]) * [config.width_px, config.height_px][i]);
      const own = result.own[g], [, best] = result.best[g], total = counts[g].reduce((a, b) => a + b, 0);
      const where = total ? counts[g].map((n) => n || "·").join(" ") : "none";
      return [
        { text: `${g + 1} ${name}`, strong: g === selected }, size.map((v) => number(v, 0)).join(" × "), `${total}: ${where}`,
        own >= 0 ? { text: config.maps[mapOf(own, detector.first)].name, map: mapOf(own, detector.first) } : "–",
        best.toFixed(3), result.reachable[g].toFixed(3),
      ];
    }));
  }
  return { table, update };
}
