// The downloads: the label map as a palette PNG, and the JSON of zeroseg-infer with COCO's run-length masks.
import {crc32} from "./colors.js";

// Value 0 is background, i + 1 is label i; 255 labels at most. Returns a Blob.
export async function labelPng(labels, width, height, colors) {
  const rows = new Uint8Array((width + 1) * height);  // each begins with 0: no filter
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = labels[y * width + x] + 1;
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, 3);
  return new Blob([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("PLTE", Uint8Array.from([0, 0, 0, ...colors.flat()])),
    chunk("IDAT", new Uint8Array(await new Response(stream).arrayBuffer())), chunk("IEND", new Uint8Array())],
    {type: "image/png"});
}

function chunk(kind, data) {
  const made = new Uint8Array(12 + data.length), view = new DataView(made.buffer);
  view.setUint32(0, data.length);
  made.set(new TextEncoder().encode(kind), 4);
  made.set(data, 8);
  view.setUint32(8 + data.length, crc32(made.subarray(4, 8 + data.length)));
  return made;
}

// Of every label in the map its run lengths as COCO packs them, its area in pixels and its box (x, y, width, height).
export function regions(labels, width, height) {
  const found = new Map();
  let last = -1, start = 0;
  for (let x = 0, at = 0; x < width; x++) {
    for (let y = 0; y < height; y++, at++) {
      const label = labels[y * width + x];
      if (label !== last) { close(found, last, start, at); [last, start] = [label, at]; }
      if (label < 0) continue;
      if (!found.has(label)) found.set(label, {runs: [], area_px: 0, left: x, top: y, right: x, bottom: y});
      const one = found.get(label);
      one.area_px++;
      one.right = x;
      if (y < one.top) one.top = y;
      if (y > one.bottom) one.bottom = y;
    }
  }
  close(found, last, start, width * height);
  return [...found].map(([label, {runs, area_px, left, top, right, bottom}]) => {
    const bounds = [0, ...runs, ...(runs.at(-1) < width * height ? [width * height] : [])];
    const counts = bounds.slice(1).map((bound, i) => bound - bounds[i]);
    return {label, area_px, bbox: [left, top, right - left + 1, bottom - top + 1],
      segmentation: {size: [height, width], counts: packed(counts)}};
  }).sort((a, b) => b.area_px - a.area_px || a.label - b.label);
}

function close(found, label, start, end) {
  if (label >= 0) found.get(label).runs.push(start, end);
}

// Numbers as characters: groups of 5 bits, low bits first; from the third on, the difference to the one two before.
function packed(counts) {
  let text = "";
  counts.forEach((count, i) => {
    let value = i > 2 ? count - counts[i - 2] : count, more = true;
    while (more) {
      const low = value & 31;
      value >>= 5;
      more = low & 16 ? value !== -1 : value !== 0;
      text += String.fromCharCode((low | (more ? 32 : 0)) + 48);
    }
  });
  return text;
}
