// What the picture shows, and which picture: its layers, an image of the data set, or one from the reader's disk.

import { checkbox, element, follow, send, slider } from "./base.js";

const MOST_PX = 800; // of a reader's picture, wide or high
const LAYERS = {
  positives: "positives of all maps", cell: "boxes of the cell", grid: "centres of the map", field: "receptive field",
};

// show: which layers are drawn; the checkboxes change it.
export function pictureControls(store, show, say) {
  const layers = Object.entries(LAYERS).map(([name, text]) => layer(name, text, show, store.page.redraw).label);
  const index = indexSlider(store.model);
  const canLeaf = store.model.get("num_images") > 1 && !store.model.get("alone"); // the kernel has the images
  const leafed = canLeaf ? [index.label] : [];
  return { parts: [...layers, ...leafed, fileField(store, say)], stop: index.stop };
}

function layer(name, text, show, redraw) {
  return checkbox(`show ${text}`, show[name], (on) => {
    show[name] = on;
    redraw();
  });
}

function indexSlider(model) {
  const range = { min: 0, max: Math.max(0, model.get("num_images") - 1), step: 1, value: model.get("index") };
  const { label, set } = slider("Image of the data set", range, (index) => send(model, { index }));
  return { label, stop: follow(model, ["index"], () => set(model.get("index"))) };
}

function fileField(store, say) {
  const file = element("input", { type: "file", accept: "image/*" });
  file.addEventListener("change", () => file.files.length && openPicture(file.files[0], store, say));
  const text = "A picture of yours (stays on this page and in this kernel)";
  return element("label", {}, element("span", { className: "name" }, text), file);
}

async function openPicture(file, store, say) {
  const image = await shrunk(file).catch(() => null);
  if (!image) {
    say(`${file.name}: not a picture that the browser can read; try PNG or JPEG.`);
    return store.page.redraw();
  }
  send(store.model, { image });
  store.update({ objects: [], selected: -1 });
}

// The picture as a data address.
async function shrunk(file) {
  const bitmap = await createImageBitmap(file);
  const ratio = Math.min(1, MOST_PX / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((v) => Math.round(v * ratio));
  const canvas = element("canvas", { width, height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, width, height);
  return canvas.toDataURL("image/jpeg", 0.9);
}
