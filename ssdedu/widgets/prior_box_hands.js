// Pointer and keys on the picture: they hold objects, choose cells and maps, and ask what is under the pointer.

import { element, onDrag } from "./base.js";
import { cursorOf, dragBox, hitBox, newBox, nudgeBox } from "./box_editor.js";
import { cellAt, positiveAt } from "./prior_box_scene.js";
import { MARGIN } from "./prior_box_draw.js";

const LEAST_PX = 4; // sides of an object, in pixels of the network's input
const STILL = 0.006; // of the image: a hand that moved less has only clicked
const CELL_STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const KEYS = "Keys on the picture: arrows move the selected object (with Shift: its right and bottom edge), or the "
  + "cell when no object is selected; O next object, Escape none, N new object, Delete removes it, "
  + "M next feature map, Ctrl+Z undo, Ctrl+Y redo.";

export function keysHelp() {
  return element("details", {}, element("summary", {}, "Keys"), KEYS);
}

// add(): a new object, and the picture has the focus.
export function handsOn(view, store, show, add) {
  const hands = new Hands(view, store, show, add);
  view.canvas.tabIndex = 0;
  view.canvas.setAttribute("role", "application");
  view.canvas.classList.add("drag");
  onDrag(view, {
    start: (x, y, event) => hands.start(x, y, event),
    move: (x, y) => hands.move(x, y),
    end: (x, y) => hands.end(x, y),
  });
  view.canvas.addEventListener("pointermove", (event) => hands.hover(event));
  view.canvas.addEventListener("pointerleave", () => hands.leave());
  view.canvas.addEventListener("keydown", (event) => hands.key(event));
}

class Hands {
  constructor(view, store, show, add) {
    Object.assign(this, { view, store, show, add, held: null });
  }

  // Pixels of the canvas as fractions of the image.
  inImage(x, y) {
    return [(x - MARGIN) / (this.view.width - 2 * MARGIN), (y - MARGIN) / (this.view.height - 2 * MARGIN)];
  }

  tolerance(px) {
    return px / (this.view.width - 2 * MARGIN);
  }

  smallest() {
    const { width_px, height_px } = this.store.state.description;
    return [LEAST_PX / width_px, LEAST_PX / height_px];
  }

  hitAt(x, y, event) {
    const near = this.tolerance(event.pointerType === "touch" ? 16 : 8);
    return hitBox(this.store.state.objects.map((o) => o.box), x, y, near, near);
  }

  start(px, py, event) {
    const [x, y] = this.inImage(px, py), hit = this.hitAt(x, y, event);
    if (!hit && event.pointerType === "touch") return this.point(x, y), false; // the finger may scroll the page
    this.held = { x, y, hit, box: hit && this.store.state.objects[hit.index].box, moved: false };
    if (hit) this.store.choose(hit.index);
    return true;
  }

  move(px, py) {
    const { held } = this, [x, y] = this.inImage(px, py);
    if (!held.moved && Math.hypot(x - held.x, y - held.y) < STILL) return;
    const box = this.heldBox(x, y);
    if (!held.moved && !held.hit) this.store.placeObject(box, false);
    held.moved = true;
    this.store.changeObject({ box }, false);
  }

  heldBox(x, y) {
    const { held } = this, least = this.smallest();
    if (!held.hit) return newBox(held.x, held.y, x, y, ...least);
    return dragBox(held.box, held.hit.handle, x - held.x, y - held.y, ...least);
  }

  end(px, py) {
    this.move(px, py);
    if (this.held.moved) this.store.update({ objects: this.store.state.objects });
    else if (!this.held.hit) this.keepCell(this.held.x, this.held.y);
    this.held = null;
  }

  // A click keeps a cell; another on the same one lets it go.
  keepCell(x, y) {
    const { store } = this, { description, map_index, cell } = store.state;
    const clicked = cellAt(description, map_index, x, y);
    store.isPinned = !(store.isPinned && String(clicked) === String(cell));
    store.update({ cell: clicked }, false);
  }

  hover(event) {
    if (this.held) return;
    const [x, y] = this.inImage(...this.view.at(event)), hit = this.hitAt(x, y, event);
    this.view.canvas.style.cursor = hit ? cursorOf(hit.handle) : "crosshair";
    this.point(x, y);
  }

  leave() {
    this.store.hover = null;
    this.store.page.redraw();
  }

  point(x, y) {
    const { store } = this, { description, map_index, cell } = store.state, tol = this.tolerance(6);
    const found = this.show.positives && positiveAt(store.result, store.detector.corners, x, y, tol, tol);
    store.hover = found ? { ...found, x, y } : null;
    if (store.isPinned) return store.page.redraw();
    const within = [x, y].every((v) => v >= -0.05 && v <= 1.05);
    const pointed = cellAt(description, map_index, x, y);
    if (within && String(pointed) !== String(cell)) store.update({ cell: pointed }, false);
    else store.page.redraw();
  }

  key(event) {
    if (this.held) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!this.perform(key, event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Does what the key says; returns whether it means anything here, as the next ones do.
  perform(key, { ctrlKey, metaKey, altKey, shiftKey }) {
    if (ctrlKey || metaKey) return this.commanded(key, shiftKey);
    return !altKey && this.pressed(key, shiftKey);
  }

  commanded(key, shift) {
    if (key !== "z" && key !== "y") return false;
    if (key === "y" || shift) this.store.redo();
    else this.store.undo();
    return true;
  }

  pressed(key, shift) {
    const { objects, selected, description, map_index } = this.store.state;
    if (key.startsWith("Arrow")) return selected >= 0 ? this.nudge(key, shift) : this.moveCell(key);
    if (key === "n") return this.add(), true;
    if (key === "o" && objects.length) return this.store.choose((selected + 1) % objects.length), true;
    if (key === "m") return this.showMap((map_index + 1) % description.maps.length), true;
    if (key === "Delete" || key === "Backspace") return this.store.removeObject(), true;
    if (key === "Escape" && selected >= 0) return this.store.choose(-1), true;
    return false;
  }

  showMap(map_index) {
    this.store.update({ map_index, cell: [0, 0] }, false);
  }

  nudge(key, shift) {
    const { objects, selected, description } = this.store.state;
    const steps = [1 / description.width_px, 1 / description.height_px];
    const box = nudgeBox(objects[selected].box, key, ...steps, shift, ...this.smallest());
    this.store.changeObject({ box }, true, `nudge ${selected}`);
    return true;
  }

  moveCell(key) {
    const { description, map_index, cell } = this.store.state, map = description.maps[map_index];
    const inside = (v, n) => Math.min(n - 1, Math.max(0, v)), [down, right] = CELL_STEPS[key];
    this.store.isPinned = true;
    this.store.update({ cell: [inside(cell[0] + down, map.height), inside(cell[1] + right, map.width)] }, false);
    return true;
  }
}
