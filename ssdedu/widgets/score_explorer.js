import {
  COLORS, DASHES, canvasOf, checkbox, element, follow, loadImage, outline, redrawOnChange, rootOf, send, slider,
} from "./base.js";

const WIDTH = 480;

export function counts(detections, objects, threshold) {
  const shown = detections.filter((d) => d.score > threshold);
  const correct = shown.filter((d) => d.correct).length;
  return { shown: shown.length, correct, wrong: shown.length - correct, missed: objects.length - correct };
}

export function sentence(n, threshold) {
  return `Above ${threshold.toFixed(2)}: ${n.shown} boxes, ${n.correct} correct, ${n.wrong} wrong; ${n.missed} objects missed.`;
}

function render({ model, el }) {
  const root = rootOf(el, "Detections above a score");
  const [width, height] = model.get("size_px");
  const view = canvasOf(WIDTH, (WIDTH * height) / width, "", paint);
  const limit = slider(
    "Show detections with a score above",
    { min: 0, max: 1, step: 0.01, value: model.get("threshold"), show: (v) => v.toFixed(2) },
    (threshold) => send(model, { threshold }),
  );
  const truth = checkbox("show the true objects (white)", false, () => view.draw());
  const out = element("output");
  root.append(view.canvas, limit.label, truth.label, out);

  function paint(ctx) {
    const scale = [view.width, view.height];
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(picture, 0, 0, ...scale);
    if (truth.input.checked) for (const o of model.get("objects")) outline(ctx, o.box, scale, "white");
    const shown = model.get("detections").filter((d) => d.score > model.get("threshold"));
    for (const d of shown.reverse()) {
      const [color, dash] = [COLORS[d.kind % COLORS.length], DASHES[Math.floor(d.kind / 2) % 4]];
      outline(ctx, d.box, scale, color, dash, { text: `${d.name} ${d.score.toFixed(2)}` });
    }
  }
  function update() {
    const threshold = model.get("threshold");
    const text = sentence(counts(model.get("detections"), model.get("objects"), threshold), threshold);
    out.textContent = text;
    view.canvas.setAttribute("aria-label", `Picture with detections. ${text}`);
    limit.set(threshold);
    view.draw();
  }
  const picture = loadImage(model.get("image"), update);
  const stops = [follow(model, ["threshold"], update), redrawOnChange(view.draw)];
  return () => stops.forEach((stop) => stop());
}

export default { render };
