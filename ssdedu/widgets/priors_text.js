// ssdedu.priors_text in JavaScript: a description as Python source that builds an equal one.

const FLOATS = new Set(["min_px", "max_px", "aspect_ratios", "step_px", "variances"]);
const DEFAULTS = {
  aspect_ratios: [2], step_px: null, extra: null, kernel: 3, stride: 2, padding: 1,
  variances: [0.1, 0.1, 0.2, 0.2], whole_px: true, clip: false,
};

export function asPython(config) {
  const maps = config.maps.map((m) => `        ${made("FeatureMap", m)},`);
  const lines = given(config).map(([name, value]) => {
    return name === "maps" ? ["    maps=(", ...maps, "    ),"].join("\n") : `    ${name}=${source(name, value)},`;
  });
  return ["from ssdedu import priors", "", "config = priors.Config(", ...lines, ")", ""].join("\n");
}

function given(fields) {
  return Object.entries(fields).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(DEFAULTS[name]));
}

function made(kind, fields) {
  return `priors.${kind}(${given(fields).map(([name, value]) => `${name}=${source(name, value)}`).join(", ")})`;
}

function source(name, value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `(${value.map((v) => source(name, v)).join(", ")}${value.length === 1 ? "," : ""})`;
  if (typeof value === "object") return made("Extra", value);
  return FLOATS.has(name) && Number.isInteger(value) ? `${value}.0` : String(value);
}
