// The labels' colours and the picture with its tinted segments: the JavaScript of zeroseg/drawing.py and kernels/tint.

const PALETTE = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0],
  [204, 121, 167], [0, 60, 255], [165, 255, 180], [60, 120, 255], [120, 255, 255], [180, 15, 45]];
const HUES = "obgobrpbgbgr", STEPS = [1, 5, 7, 11];
const SHADES = [PALETTE, PALETTE.map((color) => color.map((v) => Math.floor(v * 0.6))),
  PALETTE.map((color) => color.map((v) => Math.floor(v * 0.5 + 127)))];

export function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// N labels -> N colours, [r, g, b] each.
export function labelColors(labels) {
  const chosen = new Map(), taken = new Set(), free = (color) => !taken.has(String(color));
  for (const label of labels) {
    if (!chosen.has(label)) {
      const code = crc32(new TextEncoder().encode(label.trim().toLowerCase()));
      const first = code % 12, step = STEPS[Math.floor(code / 12) % 4];
      const walk = Array.from({length: 12}, (_, k) => (first + step * k) % 12);
      const hues = new Set([...HUES].filter((_, c) => !free(PALETTE[c])));
      const fresh = walk.find((c) => !hues.has(HUES[c]));
      const open = () => SHADES.flatMap((shade) => walk.map((c) => shade[c])).find(free);
      const color = fresh === undefined ? open() || SHADES[2][first] : PALETTE[fresh];
      chosen.set(label, color);
      taken.add(String(color));
    }
  }
  return labels.map((label) => chosen.get(label));
}

// The photo (as in photo.js) with its labels tinted and outlined -> ImageData.
export function tinted({width, height, data}, labels, colors, alpha) {
  const picture = new ImageData(new Uint8ClampedArray(data), width, height), out = picture.data;
  const opacity = Math.round(255 * alpha), reach = Math.max(1, Math.round(Math.min(width, height) / 200));
  const reaches = reach > 1 ? [1, reach] : [1];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const label = labels[at];
      if (label < 0) continue;
      const edge = reaches.some((r) => (x >= r && labels[at - r] !== label) || (x < width - r && labels[at + r] !== label) ||
        (y >= r && labels[at - r * width] !== label) || (y < height - r && labels[at + r * width] !== label));
      const color = colors[label], a = edge ? 255 : opacity;
      for (let c = 0; c < 3; c++) out[4 * at + c] = (out[4 * at + c] * (255 - a) + color[c] * a) / 255;
    }
  }
  return picture;
}
