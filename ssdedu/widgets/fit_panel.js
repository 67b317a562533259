// "Do these default boxes fit my data?": coverage of a data set's objects, live while the description changes.

import { element, canvasOf, inkOf, redrawOnChange, select } from "./base.js";
import { chartOf, line } from "./chart.js";
import { fitOf, positivesPerMap } from "./fit.js";

const IDLE_MS = 150; // then the positives are counted, which takes longer
const AREA = { left: 52, top: 28, width: 560, height: 170 };
const NAMES = { size: "size of an object, px (square root of its area, in the network's input)", ratio: "width / height in the network's input" };

// Nothing where the explorer was made without data.
export function fitPanel(model, root) {
  const images = model.get("data"), boxes = images.flat(), total = model.get("data_size");
  if (!boxes.length) return { panel: element("div"), asked: () => 0, update() {}, answered() {}, stop() {} };
  const own = { now: null, before: null, positives: null, key: "", asked: 0, timer: 0, names: [], from: "", threshold: 0.5 };
  const view = canvasOf(640, 250, "", paint);
  const over = select("Coverage over", [["size", "size"], ["ratio", "aspect ratio"]], "size", () => show());
  const out = element("output", { className: "fit" });
  const body = element("tbody");
  const heads = ["map", "objects whose best box it has", `positives, ${Math.min(images.length, model.get("matched_images"))} images`].map((h) => element("th", { scope: "col" }, h));
  const table = element("table", {}, element("caption", {}, "Who carries the objects"), element("thead", {}, element("tr", {}, ...heads)), body);
  const title = element("h4", {}, `Do these default boxes fit ${model.get("data_name")}?`);
  const panel = element("section", { className: "fit" }, title, out, over.label, view.canvas, table);

  function update(state, preset) {
    const key = JSON.stringify([state.description, state.threshold, state.rule]);
    if (key === own.key) return;
    const [now, before] = [state.description, preset.config].map((c) => fitOf(boxes, c, state.threshold));
    Object.assign(own, { key, asked: own.asked + 1, now, before, positives: null, from: preset.config.name });
    Object.assign(own, { names: state.description.maps.map((m) => m.name), threshold: state.threshold });
    clearTimeout(own.timer);
    own.timer = setTimeout(() => {
      own.positives = positivesPerMap(images.slice(0, model.get("matched_images")), state.description, state.threshold, state.rule);
      show();
    }, IDLE_MS);
    show();
  }

  // Python's numbers, of all objects, for the same description.
  function answered(answer) {
    if (answer.revision !== own.asked || !answer.now) return;
    clearTimeout(own.timer);
    Object.assign(own, { now: answer.now, before: answer.before, positives: answer.positives_per_map });
    show();
  }

  const share = (s) => `${((100 * s.covered) / s.num).toFixed(1)} %`;
  function show() {
    const { now, before } = own;
    const whole = now.num < total ? ` (a sample of ${total.toLocaleString("en")})` : "";
    out.textContent = `${share(now)} of ${now.num.toLocaleString("en")} objects${whole} have a default box with IoU of ${own.threshold.toFixed(2)} or more; `
      + `with ${own.from} as it is, ${share(before)}. Mean best IoU ${now.mean_iou.toFixed(3)}, was ${before.mean_iou.toFixed(3)}.`;
    const sum = own.positives?.reduce((a, b) => a + b, 0);
    const rows = own.names.map((name, k) => [
      name, `${((100 * now.objects_per_map[k]) / now.num).toFixed(1)} %`, own.positives ? `${own.positives[k]} (${((100 * own.positives[k]) / sum || 0).toFixed(0)} %)` : "…",
    ]);
    body.replaceChildren(...rows.map((cells) => element("tr", {}, ...cells.map((c) => element("td", {}, c)))));
    view.canvas.setAttribute("aria-label", `Share of objects covered over ${over.input.value}. ${out.textContent}`);
    view.draw();
  }

  function paint(ctx) {
    if (!own.now) return;
    const kind = over.input.value, [now, before] = [own.now, own.before].map((s) => s[`by_${kind}`]);
    const range = [Math.min(now[0][0], before[0][0]), Math.max(now.at(-1)[1], before.at(-1)[1])];
    const candidates = kind === "size" ? [2, 5, 10, 20, 50, 100, 200, 500] : [0.1, 0.2, 0.33, 0.5, 1, 2, 3, 5, 10];
    const x = { range, ticks: candidates.filter((t) => t >= range[0] && t <= range[1]), log: true, name: NAMES[kind] };
    const y = { range: [0, 1], ticks: [0, 0.5, 1], name: "share of objects covered; grey: how many objects" };
    const { ink } = inkOf(root);
    const most = Math.max(...now.map((b) => b[2]));
    const chart = chartOf(ctx, AREA, x, y, ink);
    ctx.fillStyle = "#88888866";
    for (const [low, high, n] of now) {
      const [left, right, top] = [chart.toX(low), chart.toX(high), chart.toY(n / most)];
      ctx.fillRect(left + 1, top, right - left - 2, chart.toY(0) - top);
    }
    const points = (rows) => rows.map(([low, high, n, hit]) => (n ? [Math.sqrt(low * high), hit / n] : null));
    line(ctx, chart, points(before), 1, 2.5);
    line(ctx, chart, points(now), 0, 3);
    legend(ctx, ink);
  }
  function legend(ctx, ink) {
    const shifted = { toX: (v) => v, toY: (v) => v };
    [["now", 0], [own.from, 1]].forEach(([text, kind], i) => {
      const at = 400 + 80 * i;
      line(ctx, shifted, [[at, 16], [at + 24, 16]], kind, 3);
      ctx.fillStyle = ink;
      ctx.textAlign = "left";
      ctx.fillText(text, at + 30, 20);
    });
  }
  const still = redrawOnChange(() => own.now && view.draw());
  const stop = () => {
    still();
    clearTimeout(own.timer);
  };
  return { panel, asked: () => own.asked, update, answered, stop };
}
