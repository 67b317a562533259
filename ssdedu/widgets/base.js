// Root element, native controls, a sharp canvas, outlines: what every explorer is made of.

export const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00"];
export const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3], [5, 2], [12, 4], [3, 3, 8, 3], [1, 2]];

export function element(tag, settings = {}, ...children) {
  const { role, label, ...rest } = settings;
  const made = Object.assign(document.createElement(tag), rest);
  if (role) made.setAttribute("role", role);
  if (label) made.setAttribute("aria-label", label);
  made.append(...children);
  return made;
}

// The explorer's outermost element; the notebook's shortcuts (d d deletes a cell, Ctrl+Enter runs it again) do not
// hear its keys.
export function rootOf(el, title) {
  const root = element("div", { className: "ssdedu-explorer", role: "group", label: title });
  root.addEventListener("keydown", (e) => {
    const isPlain = !e.ctrlKey && !e.metaKey && !e.altKey && e.key !== "Escape";
    if (isPlain || e.key === "Enter" || e.key.toLowerCase() === "a") e.stopPropagation();
  });
  el.append(root);
  return root;
}

export function slider(text, { min, max, step, value, show = String }, onInput) {
  const input = element("input", { type: "range", min, max, step, value });
  const out = element("span", { className: "value" }, show(Number(value)));
  const set = (v) => {
    input.value = v;
    out.textContent = show(Number(v));
    input.setAttribute("aria-valuetext", out.textContent);
  };
  set(value);
  input.addEventListener("input", () => {
    set(input.value);
    onInput(Number(input.value));
  });
  return { label: element("label", {}, element("span", { className: "name" }, text), input, out), input, set };
}

export function checkbox(text, checked, onChange) {
  const input = element("input", { type: "checkbox", checked });
  input.addEventListener("change", () => onChange(input.checked));
  return { label: element("label", {}, input, text), input, set: (v) => (input.checked = v) };
}

// options: [value, text] pairs.
export function select(text, options, value, onChange) {
  const input = element("select", {}, ...options.map(([v, t]) => element("option", { value: v }, t)));
  input.value = value;
  input.addEventListener("change", () => onChange(input.value));
  const label = element("label", {}, element("span", { className: "name" }, text), input);
  return { label, input, set: (v) => (input.value = v) };
}

export function button(text, onClick) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", onClick);
  return made;
}

// A canvas that is sharp on every screen and at every zoom. Sizes and pointer positions are in its own units
// (width x height), whatever size the page shows it in. paint(ctx) is called by draw(), and after a zoom.
export function canvasOf(width, height, label, paint) {
  const canvas = element("canvas", { role: "img", label });
  const ctx = canvas.getContext("2d");
  const view = { canvas, ctx, width, height };
  view.draw = () => {
    const ratio = Math.max(1, globalThis.devicePixelRatio || 1);
    const [w, h] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, view.width, view.height);
    paint(ctx);
  };
  view.at = (event) => {
    const r = canvas.getBoundingClientRect();
    return [((event.clientX - r.left) / r.width) * view.width, ((event.clientY - r.top) / r.height) * view.height];
  };
  view.resize = (w, h) => {
    [view.width, view.height] = [w, h];
    canvas.style.maxWidth = `${w}px`;
    canvas.style.aspectRatio = `${w} / ${h}`;
  };
  view.resize(width, height);
  return view;
}

// Follow a drag with mouse, finger or pen: start(x, y, event) returns true to take it, then move and end. A second
// finger is not heard. A finger that is not taken scrolls the page, as anywhere else.
export function onDrag(view, { start, move, end = () => {} }) {
  let held = null;
  const hold = (e) => held !== null && e.preventDefault();
  view.canvas.addEventListener("touchstart", hold, { passive: false });
  view.canvas.addEventListener("pointerdown", (e) => {
    if (e.button !== 0 || held !== null) return;
    view.canvas.focus({ preventScroll: true }); // first of all a field that is being typed into has to finish
    if (!start(...view.at(e), e)) return;
    held = e.pointerId;
    e.preventDefault();
    view.canvas.setPointerCapture(e.pointerId);
    const follow = (e2) => e2.pointerId === held && move(...view.at(e2), e2);
    const stop = (e2) => {
      if (e2.pointerId !== held) return;
      held = null;
      view.canvas.removeEventListener("pointermove", follow);
      for (const kind of ["pointerup", "pointercancel"]) view.canvas.removeEventListener(kind, stop);
      end(...view.at(e2), e2);
    };
    view.canvas.addEventListener("pointermove", follow);
    for (const kind of ["pointerup", "pointercancel"]) view.canvas.addEventListener(kind, stop);
  });
}

// The page's ink and ground, for what is drawn beside the image; they follow the theme.
export function inkOf(root) {
  const style = getComputedStyle(root);
  return { ink: style.color, ground: style.backgroundColor };
}

// Redraw when the theme or the zoom changes; returns a function that stops it.
export function redrawOnChange(draw) {
  const later = () => requestAnimationFrame(draw);
  const theme = new MutationObserver(later);
  for (const node of [document.documentElement, document.body]) {
    theme.observe(node, { attributes: true, attributeFilter: ["class", "data-jp-theme-name", "data-vscode-theme-kind"] });
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", later);
  addEventListener("resize", later);
  return () => {
    theme.disconnect();
    dark.removeEventListener("change", later);
    removeEventListener("resize", later);
  };
}

// Follow traits of the kernel; returns a function that lets go of them.
export function follow(model, names, callback) {
  for (const name of names) model.on(`change:${name}`, callback);
  return () => names.forEach((name) => model.off(`change:${name}`, callback));
}

export function send(model, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}

export function loadImage(source, onLoad) {
  const picture = new Image();
  picture.onload = onLoad;
  picture.src = source;
  return picture;
}

// Black or white, whichever is easier to read on a colour "#RRGGBB" or "white": the luminance of WCAG 2.
export function inkOn(color) {
  const hex = color === "white" ? "#FFFFFF" : color;
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = [1, 3, 5].map((i) => linear(parseInt(hex.slice(i, i + 2), 16) / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "black" : "white";
}

// Text on a plate of its colour, kept inside width x height.
export function plate(ctx, text, x, y, color, [width, height]) {
  ctx.font = "bold 13px system-ui, sans-serif";
  const wide = ctx.measureText(text).width + 6;
  const left = Math.max(0, Math.min(x, width - wide)), top = Math.max(0, Math.min(y, height - 17));
  ctx.fillStyle = color;
  ctx.fillRect(left, top, wide, 17);
  ctx.fillStyle = inkOn(color);
  ctx.fillText(text, left + 3, top + 13);
}

// The outline of box xyxy, given in fractions of scale = [width, height], on a halo that shows on any ground.
export function outline(ctx, box, scale, color, dash = [], { text = "", width = 2.5, halo = "white", around = 1.25 } = {}) {
  const [x1, y1, x2, y2] = box.map((v, i) => v * scale[i % 2]);
  for (const [ink, w, d] of [[halo, width + 2 * around, []], [color, width, dash]]) {
    if (!ink) continue;
    ctx.setLineDash(d);
    ctx.strokeStyle = ink;
    ctx.lineWidth = w;
    ctx.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  ctx.setLineDash([]);
  if (text) plate(ctx, text, x1, y1 - 17, color, scale);
}

// An id that no other element of the page has.
export function freshId(stem) {
  return `ssdedu-${stem}-${Math.random().toString(36).slice(2)}`;
}
