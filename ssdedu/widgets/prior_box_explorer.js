import { canvasOf, element, follow, inkOf, loadImage, redrawOnChange, rootOf } from "./base.js";
import { SHARED, Store } from "./prior_box_state.js";
import { cellBoxes, sceneSentence } from "./prior_box_scene.js";
import { MARGIN, canvasSize, paintScene } from "./prior_box_draw.js";
import { cellTable, mapTable, objectTable } from "./prior_box_tables.js";
import { detectorControls, matchingControls, objectControls, sizeControls, statusLine } from "./prior_box_controls.js";
import { pictureControls } from "./prior_box_picture.js";
import { handsOn, keysHelp } from "./prior_box_hands.js";
import { fitPanel } from "./fit_panel.js";

const HINT = "Drag an object, its edges or corners, or draw a new one. Point at a cell for its boxes; a click keeps it.";

function render({ model, el }) {
  const root = rootOf(el, "Default boxes and what they match");
  const fit = fitPanel(model, root), status = statusLine();
  const show = { grid: true, cell: true, positives: true, field: false };
  const store = new Store(model, {
    redraw: () => screen.redraw(),
    solved: () => fit.update(store.state, store.preset),
    say: status.say,
    dataRevision: fit.asked,
  });
  const screen = new SceneView(root, store, show, status);
  const add = () => {
    store.addObject();
    screen.view.canvas.focus();
  };
  const controls = controlsOf(store, show, add, status.say);
  screen.groups = [controls.detector, controls.sizes, controls.matching, controls.objects];
  layOut(root, screen, controls, fit.panel);
  handsOn(screen.view, store, show, add);
  store.start();
  const stops = [...followed(model, store, screen, fit), controls.picture.stop, fit.stop, () => store.stop()];
  return () => stops.forEach((stop) => stop());
}

function controlsOf(store, show, add, say) {
  return {
    detector: detectorControls(store, say),
    sizes: sizeControls(store),
    matching: matchingControls(store),
    objects: objectControls(store, add),
    picture: pictureControls(store, show, say),
  };
}

function followed(model, store, screen, fit) {
  return [
    follow(model, SHARED, () => store.heard()),
    follow(model, ["answer"], () => store.answered()),
    follow(model, ["data_answer"], () => fit.answered(model.get("data_answer"))),
    follow(model, ["presets"], () => store.heard()),
    follow(model, ["image"], () => {
      store.pictureChanged();
      screen.load();
    }),
    redrawOnChange(() => screen.redraw()),
  ];
}

const bar = (...parts) => element("div", { className: "bar" }, ...parts);
const split = (left, right) => {
  return element("div", { className: "split" }, element("div", {}, ...left), element("div", {}, ...right));
};
const group = (title, parts) => element("fieldset", {}, element("legend", {}, title), ...parts);

function layOut(root, { view, out, status, things, maps, cells }, controls, fit) {
  const { detector, sizes, matching, objects, picture } = controls;
  const hint = element("p", { className: "caption" }, HINT);
  const picked = [things.table, bar(...objects.parts), keysHelp()];
  root.append(
    bar(...detector.parts), detector.code,
    split([view.canvas, hint, out, status.line], [group("Sizes (Eq. 4)", sizes.parts), group("Centres and matching", matching.parts)]),
    fit,
    split(picked, [cells.caption, cells.table]),
    maps.table,
    group("Picture", [bar(...picture.parts)]),
  );
}

// Shows what the store holds, at most once a frame: the picture, the sentence below it, tables, groups of controls.
class SceneView {
  constructor(root, store, show, status) {
    Object.assign(this, { root, store, show, status, groups: [], frame: 0, cellBoxes: [] });
    this.view = canvasOf(...canvasSize(store.state.description), "", (ctx) => this.paint(ctx));
    this.out = element("output");
    this.maps = mapTable({
      choose: (map_index) => store.update({ map_index }, false),
      change: (k, changes) => store.changeMap(k, changes),
    });
    [this.cells, this.things] = [cellTable(), objectTable()];
    this.load();
  }

  load() {
    this.picture = loadImage(this.store.model.get("image"), () => this.redraw());
  }

  redraw() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    const { view, store } = this, { description, map_index, cell, objects } = store.state;
    this.frame = 0;
    const size = canvasSize(description);
    if (String(size) !== String([view.width, view.height])) view.resize(...size);
    this.cellBoxes = cellBoxes(store.detector, map_index, cell, objects, store.result);
    view.draw();
    this.describe();
    view.canvas.drawn.ms = performance.now() - (store.since || performance.now());
    store.since = 0;
  }

  get field() {
    return this.store.preset.fields?.[this.store.state.map_index];
  }

  paint(ctx) {
    const { view, store, show, picture, field } = this, { detector, result, hover, source } = store;
    const { objects, selected, cell, map_index: map, description: config } = store.state;
    const shown = { config, detector, result, objects, selected, map, cell, cellBoxes: this.cellBoxes, field, hover };
    paintScene(ctx, [view.width, view.height], { ...shown, show, picture }, inkOf(this.root));
    const { positives, own } = result, frames = (view.canvas.drawn?.frames ?? 0) + 1;
    view.canvas.drawn = { positives, own, hover, cell, map, source, frames, margin: MARGIN, ms: 0 };
  }

  describe() {
    const { store } = this, { description, objects, map_index, rule } = store.state;
    const text = sceneSentence(description, objects, store.result, rule);
    if (this.out.textContent !== text) this.out.textContent = text;
    this.view.canvas.setAttribute("aria-label", `Picture with objects and default boxes. ${text}`);
    this.status.update(store.source);
    this.maps.update(description, store, map_index);
    this.cells.update(this.cellBoxes, description.maps[map_index], store, this.field);
    this.things.update(objects, description, store, store.state.selected);
    this.groups.forEach((one) => one.update());
  }
}

export default { render };
