// From a photo to the network's input: the JavaScript of zeroseg/photos/network_size.py and kernels/preprocess.

// A photo is {width, height, data}, data RGBA as ImageData has it, opaque. Sizes are [height, width].
export function networkSize(photo, {short_side, max_long_side, multiple}) {
  const sides = [photo.height, photo.width];
  const scale = Math.min(short_side / Math.min(...sides), max_long_side / Math.max(...sides));
  return sides.map((side) => Math.max(1, Math.floor((side * scale) / multiple + 0.5)) * multiple);
}

// (3, h, w) float32: antialiased resize with a triangle filter, then (x - mean) / std.
export function networkInput(photo, [height, width], {mean, std}) {
  const rows = filter(photo.height, height), columns = filter(photo.width, width);
  const out = new Float32Array(3 * height * width), sum = new Float32Array(4 * photo.width);
  for (let y = 0; y < height; y++) {
    sum.fill(0);
    rows.weights[y].forEach((weight, t) => {
      const start = 4 * photo.width * (rows.first[y] + t);
      for (let i = 0; i < sum.length; i++) sum[i] += weight * photo.data[start + i];
    });
    for (let x = 0; x < width; x++) {
      const weights = columns.weights[x];
      for (let c = 0; c < 3; c++) {
        let value = 0, at = 4 * columns.first[x] + c;
        for (let t = 0; t < weights.length; t++, at += 4) value += weights[t] * sum[at];
        out[(c * height + y) * width + x] = (value / 255 - mean[c]) / std[c];
      }
    }
  }
  return out;
}

function filter(source, target) {
  const step = source / target, reach = Math.max(step, 1), first = [], weights = [];
  for (let i = 0; i < target; i++) {
    const centre = (i + 0.5) * step;
    const begin = Math.max(Math.floor(centre - reach + 0.5), 0), end = Math.min(Math.floor(centre + reach + 0.5), source);
    const raw = Array.from({length: end - begin}, (_, t) =>
      Math.max(0, 1 - Math.abs(begin + t + 0.5 - centre) / reach));
    const total = raw.reduce((a, b) => a + b);
    first.push(begin);
    weights.push(Float32Array.from(raw, (value) => value / total));
  }
  return {first, weights};
}
