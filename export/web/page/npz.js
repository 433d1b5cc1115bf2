// Arrays of an .npz file, which is a ZIP file of .npy files.

const KINDS = {"|u1": Uint8Array, "|i1": Int8Array, "<i8": BigInt64Array, "<f4": Float32Array};

// bytes (Uint8Array) -> {name: {shape, data}}, data in C order, two axes at most; arrays of text are left out.
export async function readNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (view.getUint32(end, true) !== 0x06054b50) if (--end < 0) throw new Error("the word table is damaged");
  const found = {};
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const method = view.getUint16(at + 10, true), packed = view.getUint32(at + 20, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + view.getUint16(at + 28, true)));
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const data = bytes.slice(start, start + packed);
    const array = readNpy(method === 8 ? await inflate(data) : data);
    if (array) found[name.replace(/\.npy$/, "")] = array;
    at += 46 + view.getUint16(at + 28, true) + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return found;
}

async function inflate(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function readNpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset), wide = bytes[6] > 1;
  const start = wide ? 12 : 10, size = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(start, start + size));
  const kind = KINDS[/'descr': '([^']*)'/.exec(header)[1]];
  if (!kind) return null;
  const shape = (/'shape': \(([^)]*)\)/.exec(header)[1].match(/\d+/g) || []).map(Number);
  const data = new kind(bytes.slice(start + size).buffer);
  if (!header.includes("'fortran_order': True") || shape.length < 2) return {shape, data};
  const [rows, columns] = shape;  // stored column by column
  return {shape, data: data.map((_, i) => data[(i % columns) * rows + Math.floor(i / columns)])};
}
