// ssdedu.receptive_field in JavaScript, along one axis; layers and fields as objects with Python's names.

// VGG16-SSD300 from its two chains { atrous, full }; a dilation of fc6 brings the padding that keeps its size.
export function ssd300Layers(chains, atrous, dilation) {
  if (!atrous) return chains.full;
  return chains.atrous.map((layer) => (layer.name === "fc6" ? { ...layer, dilation, padding: dilation } : layer));
}

function spanOf(layer) {
  return layer.dilation * (layer.kernel - 1);
}

export function chain(layers, size) {
  let field = { name: "input", size, jump: 1, start: 0.5, receptive_field: 1 };
  return layers.map((layer) => (field = fieldAfter(field, layer)));
}

function fieldAfter(field, layer) {
  const span = spanOf(layer);
  return {
    name: layer.name,
    size: outputSize(layer, field.size),
    jump: field.jump * layer.stride,
    start: field.start + (span / 2 - layer.padding) * field.jump,
    receptive_field: field.receptive_field + span * field.jump,
  };
}

function outputSize(layer, size) {
  const free = size + 2 * layer.padding - spanOf(layer) - 1;
  const cells = Math.floor((free + (layer.ceil_mode ? layer.stride - 1 : 0)) / layer.stride) + 1;
  return layer.ceil_mode && (cells - 1) * layer.stride >= size + layer.padding ? cells - 1 : cells;
}

export function centreOf(field, index) {
  return field.start + index * field.jump;
}

// First and last pixel of a cell's field, padding included.
export function pixelsOf(field, index) {
  const first = Math.round(centreOf(field, index) - field.receptive_field / 2);
  return [first, first + field.receptive_field - 1];
}

// The cell whose centre is nearest to a pixel coordinate.
export function nearestCell(field, at) {
  return Math.max(0, Math.min(field.size - 1, Math.round((at - field.start) / field.jump)));
}

// How many ways lead from each of `size` pixels to cell `index` of the last layer.
export function paths(layers, size, index) {
  const sizes = [size, ...chain(layers, size).map((field) => field.size)];
  let ways = new Array(sizes.at(-1)).fill(0);
  ways[index] = 1;
  for (let i = layers.length - 1; i >= 0; i--) ways = waysBelow(layers[i], ways, sizes[i]);
  return ways;
}

function waysBelow(layer, ways, size) {
  const below = new Array(size).fill(0);
  ways.forEach((count, cell) => {
    for (let tap = 0; tap < layer.kernel; tap++) {
      const at = cell * layer.stride - layer.padding + tap * layer.dilation;
      if (at >= 0 && at < size) below[at] += count;
    }
  });
  return below;
}

// Pixels in the middle of the field that hold `share` of the weight, which is the root of the paths.
export function effectiveExtent(layers, share = 0.95) {
  const unpadded = layers.map((layer) => ({ ...layer, padding: 0 }));
  const size = chain(unpadded, 1).at(-1).receptive_field;
  const weights = paths(unpadded, size, 0).map(Math.sqrt);
  const total = weights.reduce((sum, w) => sum + w, 0);
  let cut = 0, middle = total;
  while (2 * cut < size) {
    middle -= weights[cut] + weights[size - 1 - cut];
    if (middle < share * total) break;
    cut += 1;
  }
  return size - 2 * cut;
}
