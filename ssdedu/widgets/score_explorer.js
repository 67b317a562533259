const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00"];
const DARK_INK = new Set(["#CC79A7", "#E69F00", "#56B4E9"]);
const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3]];
const WIDTH = 480;

export function counts(detections, objects, threshold) {
  const shown = detections.filter((d) => d.score > threshold);
  const correct = shown.filter((d) => d.correct).length;
  return { shown: shown.length, correct, wrong: shown.length - correct, missed: objects.length - correct };
}

export function sentence(n, threshold) {
  return `Above ${threshold.toFixed(2)}: ${n.shown} boxes, ${n.correct} correct, ${n.wrong} wrong; ${n.missed} objects missed.`;
}

function outline(ctx, box, scale, color, dash, text) {
  const [x1, y1, x2, y2] = box.map((v, i) => v * scale[i % 2]);
  for (const [ink, width] of [["white", 5], [color, 2.5]]) {
    ctx.setLineDash(ink === "white" ? [] : dash);
    ctx.strokeStyle = ink;
    ctx.lineWidth = width;
    ctx.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  if (!text) return;
  ctx.font = "bold 13px system-ui, sans-serif";
  const wide = ctx.measureText(text).width + 6;
  const x = Math.max(0, Math.min(x1, scale[0] - wide)), y = Math.max(0, y1 - 17);
  ctx.fillStyle = color;
  ctx.fillRect(x, y, wide, 17);
  ctx.fillStyle = DARK_INK.has(color) ? "black" : "white";
  ctx.fillText(text, x + 3, y + 13);
}

function control(kind, text, settings) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: kind }, settings);
  label.append(...(kind === "checkbox" ? [input, text] : [text, input]));
  return [label, input];
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "ssdedu-explorer";
  root.addEventListener("keydown", (e) => {
    if (!e.ctrlKey && !e.metaKey && !e.altKey && e.key !== "Escape") e.stopPropagation();
  });
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  const [sliderLabel, slider] = control("range", "Show detections with a score above", {
    min: 0, max: 1, step: 0.01, value: model.get("threshold"),
  });
  const [truthLabel, truth] = control("checkbox", "show the true objects (white)", { checked: false });
  const out = document.createElement("output");
  root.append(canvas, sliderLabel, truthLabel, out);
  el.append(root);

  const [width, height] = model.get("size_px");
  const scale = [WIDTH, (WIDTH * height) / width];
  const ratio = Math.max(1, globalThis.devicePixelRatio || 1);
  [canvas.width, canvas.height] = scale.map((v) => Math.round(v * ratio));
  const ctx = canvas.getContext("2d");
  const picture = new Image();

  function draw() {
    const threshold = model.get("threshold");
    const detections = model.get("detections"), objects = model.get("objects");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(picture, 0, 0, ...scale);
    if (truth.checked) for (const o of objects) outline(ctx, o.box, scale, "white", [], "");
    for (const d of detections.filter((d) => d.score > threshold).reverse()) {
      const [color, dash] = [COLORS[d.kind % COLORS.length], DASHES[Math.floor(d.kind / 2) % DASHES.length]];
      outline(ctx, d.box, scale, color, dash, `${d.name} ${d.score.toFixed(2)}`);
    }
    const text = sentence(counts(detections, objects, threshold), threshold);
    out.textContent = text;
    canvas.setAttribute("aria-label", `Picture with detections. ${text}`);
    slider.value = threshold;
  }
  slider.addEventListener("input", () => {
    model.set("threshold", Number(slider.value));
    model.save_changes();
  });
  truth.addEventListener("change", draw);
  model.on("change:threshold", draw);
  picture.onload = draw;
  picture.src = model.get("image");
  return () => model.off("change:threshold", draw);
}

export default { render };
