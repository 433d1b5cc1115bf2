// From the K soft maps to a label per pixel that follows the photo's edges: the JavaScript of
// kernels/mask_decode/guided_reference.py (a guided filter on a coarse grid), whose comments have the formulas.

const GRID = 60, RADIUS = 0.15, PASSES = 3, EPSILON = 1e-4, DETAIL_FLOOR = 1e-6;  // as there
const SLACK = 1e-5;  // of the bounds below, for rounding

// What depends on no label, to be made once for a photo. maps: {count, height, width, data}, float32, count first; photo
// as in photo.js.
export function follow(maps, photo) {
  const grid = gridOf(photo), cells = cellMoments(photo, grid);
  return {photo, grid, cells, coefficients: coarseCoefficients(maps, cells, grid)};
}

// table: a label per map, -1 for background. Returns an Int16Array, height x width of the photo.
export function decode({photo, grid, cells, coefficients}, table) {
  const rows = places(photo.height, grid.rows, 1 / grid.cell), columns = places(photo.width, grid.columns, 1 / grid.cell);
  const labels = new Int16Array(photo.width * photo.height);
  for (const [top, bottom] of runs(rows.low)) {
    for (const [left, right] of runs(columns.low)) {
      const corners = [rows.low[top], rows.high[top]].flatMap((row) =>
        [columns.low[left], columns.high[left]].map((column) => row * grid.columns + column));
      const found = candidates(coefficients, cells, corners), label = table[found[0]];
      if (found.every((k) => table[k] === label)) {
        for (let y = top; y < bottom; y++) labels.fill(label, y * photo.width + left, y * photo.width + right);
      } else {
        choose(photo, labels, [top, bottom, left, right], rows.above, columns.above, coefficients, corners, found, table);
      }
    }
  }
  return labels;
}

function gridOf({height, width}) {
  const short = Math.min(height, width), cell = Math.max(1, Math.floor((2 * short + GRID) / (2 * GRID)));
  const exact = (RADIUS * short) / cell, low = Math.floor(exact);
  const radius = exact - low === 0.5 ? low + (low % 2) : Math.round(exact);
  return {cell, rows: Math.ceil(height / cell), columns: Math.ceil(width / cell), radius: Math.max(1, radius)};
}

// Of every cell the mean colour and its least and largest values in 0..1, by channel, and the variance within it.
function cellMoments({height, width, data}, grid) {
  const count = grid.rows * grid.columns;
  const planes = (fill) => Array.from({length: 3}, () => new Float64Array(count).fill(fill));
  const mean = planes(0), lowest = planes(255), highest = planes(0);
  const squares = new Float64Array(count), pixels = new Float64Array(count);
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.floor(y / grid.cell) * grid.columns;
    for (let x = 0; x < width; x++, at += 4) {
      const cell = row + Math.floor(x / grid.cell);
      pixels[cell]++;
      for (let c = 0; c < 3; c++) {
        const value = data[at + c];
        mean[c][cell] += value;
        squares[cell] += value * value;
        if (value < lowest[c][cell]) lowest[c][cell] = value;
        if (value > highest[c][cell]) highest[c][cell] = value;
      }
    }
  }
  const within = new Float64Array(count);
  for (let cell = 0; cell < count; cell++) {
    let variance = squares[cell] / pixels[cell];
    for (let c = 0; c < 3; c++) {
      variance -= (mean[c][cell] / pixels[cell]) ** 2;
      mean[c][cell] /= 255 * pixels[cell];
      lowest[c][cell] /= 255;
      highest[c][cell] /= 255;
    }
    within[cell] = Math.max(variance, 0) / 255 ** 2;
  }
  return {mean, within, lowest, highest, height, width};
}

// (cells, K, 4): of every cell and map the factors of red, green and blue in 0..1, and the constant.
function coarseCoefficients(maps, {mean, within, height, width}, grid) {
  const count = grid.rows * grid.columns, K = maps.count, channels = [0, 1, 2];
  const blur = (plane) => box(plane, grid, grid.radius);
  const guide = mean.map(blur);
  const covariance = (c, d) => {
    const out = blur(product(mean[c], mean[d]));
    for (let i = 0; i < count; i++) out[i] += (c === d ? EPSILON : 0) - guide[c][i] * guide[d][i];
    return out;
  };
  const inverse = inverted(covariance(0, 0), covariance(0, 1), covariance(0, 2), covariance(1, 1), covariance(1, 2),
    covariance(2, 2));
  const near = mean.map((channel) => box(channel, grid, 1));
  const detail = box(mean.map((channel) => product(channel, channel)).reduce(sum), grid, 1);
  for (let i = 0; i < count; i++) {
    const between = Math.max(detail[i] - near[0][i] ** 2 - near[1][i] ** 2 - near[2][i] ** 2, 0);
    detail[i] = (between / (between + within[i] + DETAIL_FLOOR)) ** 2;
  }
  const out = new Float64Array(4 * count * K), slope = channels.map(() => new Float64Array(count));
  for (let k = 0; k < K; k++) {
    let p = resampled(maps, k, [height, width], grid), a = null;
    for (let pass = 0; pass < PASSES; pass++) {
      const average = blur(p), [r, g, b] = mean.map((channel) => blur(product(channel, p)));
      const rest = new Float64Array(count);
      for (let i = 0; i < count; i++) {
        const red = r[i] - guide[0][i] * average[i], green = g[i] - guide[1][i] * average[i];
        const blue = b[i] - guide[2][i] * average[i];
        rest[i] = average[i];
        for (let c = 0; c < 3; c++) {
          slope[c][i] = inverse[c][0][i] * red + inverse[c][1][i] * green + inverse[c][2][i] * blue;
          rest[i] -= slope[c][i] * guide[c][i];
        }
      }
      a = slope.map(blur);
      p = channels.map((c) => product(a[c], mean[c])).reduce(sum, blur(rest));
    }
    for (let i = 0; i < count; i++) {
      const at = 4 * (i * K + k);
      out[at + 3] = p[i];
      for (let c = 0; c < 3; c++) {
        out[at + c] = a[c][i] * detail[i];
        out[at + 3] -= out[at + c] * mean[c][i];
      }
    }
  }
  return {K, values: out};
}

function product(a, b) {
  const out = new Float64Array(a.length);
  for (let i = 0; i < out.length; i++) out[i] = a[i] * b[i];
  return out;
}

// b is added to a, which is returned.
function sum(a, b) {
  for (let i = 0; i < a.length; i++) a[i] += b[i];
  return a;
}

// The inverses of symmetric 3 x 3 matrices, given and returned as planes.
function inverted(rr, rg, rb, gg, gb, bb) {
  const made = Array.from({length: 6}, () => new Float64Array(rr.length));
  for (let i = 0; i < rr.length; i++) {
    const a = gg[i] * bb[i] - gb[i] ** 2, b = rb[i] * gb[i] - rg[i] * bb[i], c = rg[i] * gb[i] - rb[i] * gg[i];
    const determinant = rr[i] * a + rg[i] * b + rb[i] * c;
    const adjugate = [a, b, c, rr[i] * bb[i] - rb[i] ** 2, rb[i] * rg[i] - rr[i] * gb[i], rr[i] * gg[i] - rg[i] ** 2];
    adjugate.forEach((value, j) => { made[j][i] = value / determinant; });
  }
  const [xx, xy, xz, yy, yz, zz] = made;
  return [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]];
}

// Map k at the centres of the cells, bilinearly.
function resampled(maps, k, [height, width], grid) {
  const rows = places(grid.rows, maps.height, (grid.cell * maps.height) / height);
  const columns = places(grid.columns, maps.width, (grid.cell * maps.width) / width);
  const out = new Float64Array(grid.rows * grid.columns), start = k * maps.height * maps.width;
  for (let y = 0, at = 0; y < grid.rows; y++) {
    const upper = start + rows.low[y] * maps.width, lower = start + rows.high[y] * maps.width, t = rows.above[y];
    for (let x = 0; x < grid.columns; x++, at++) {
      const l = columns.low[x], h = columns.high[x], s = columns.above[x];
      out[at] = (maps.data[upper + l] * (1 - t) + maps.data[lower + l] * t) * (1 - s) +
        (maps.data[upper + h] * (1 - t) + maps.data[lower + h] * t) * s;
    }
  }
  return out;
}

// Per target place the two source places around it and the weight of the upper one; half-pixel centres, clamped.
function places(target, source, step) {
  const low = new Int32Array(target), high = new Int32Array(target), above = new Float64Array(target);
  for (let i = 0; i < target; i++) {
    const position = Math.min(Math.max((i + 0.5) * step - 0.5, 0), source - 1);
    low[i] = Math.min(Math.floor(position), Math.max(source - 2, 0));
    high[i] = Math.min(low[i] + 1, source - 1);
    above[i] = position - low[i];
  }
  return {low, high, above};
}

// Means over windows of (2 radius + 1)^2 cells, cut at the borders.
function box(plane, {rows, columns}, radius) {
  return along(along(plane, rows, columns, columns, 1, radius), columns, rows, 1, columns, radius);
}

// One axis of box: `length` cells `step` apart, on each of `lines` lines that start `apart` apart.
function along(plane, length, lines, step, apart, radius) {
  const out = new Float64Array(plane.length), total = new Float64Array(length + 1);
  for (let line = 0; line < lines; line++) {
    const start = line * apart;
    for (let i = 0; i < length; i++) total[i + 1] = total[i] + plane[start + i * step];
    for (let i = 0; i < length; i++) {
      const from = Math.max(i - radius, 0), to = Math.min(i + radius + 1, length);
      out[start + i * step] = (total[to] - total[from]) / (to - from);
    }
  }
  return out;
}

// [start, end) of the runs of equal values.
function runs(values) {
  const found = [];
  for (let start = 0, i = 1; i <= values.length; i++)
    if (i === values.length || values[i] !== values[start]) { found.push([start, i]); start = i; }
  return found;
}

// The maps that may be highest between four cells' centres. The value of a map there is bilinear in the place and linear
// in the colour, which stays within the extremes of the four cells; a map that another one exceeds at all four corners
// for every such colour is none.
function candidates({K, values}, {lowest, highest}, corners) {
  const middle = [0, 0, 0], half = [0, 0, 0], found = [], at = new Float64Array(4 * K);
  for (let c = 0; c < 3; c++) {
    let low = 1, high = 0;
    for (const cell of corners) {
      low = Math.min(low, lowest[c][cell]);
      high = Math.max(high, highest[c][cell]);
    }
    middle[c] = (low + high) / 2;
    half[c] = (high - low) / 2;
  }
  let best = 0, most = -Infinity;
  for (let k = 0; k < K; k++) {
    let total = 0;
    for (let corner = 0; corner < 4; corner++) {
      const i = 4 * (corners[corner] * K + k);
      at[4 * k + corner] = values[i] * middle[0] + values[i + 1] * middle[1] + values[i + 2] * middle[2] + values[i + 3];
      total += at[4 * k + corner];
    }
    if (total > most) { best = k; most = total; }
  }
  for (let k = 0; k < K; k++) {
    for (let corner = 0; corner < 4; corner++) {
      const i = 4 * (corners[corner] * K + k), j = 4 * (corners[corner] * K + best);
      let ahead = at[4 * k + corner] - at[4 * best + corner];
      for (let c = 0; c < 3; c++) ahead += Math.abs(values[i + c] - values[j + c]) * half[c];
      if (ahead >= -SLACK) { found.push(k); break; }
    }
  }
  return found;
}

// The label of the highest of the found maps for each pixel of a rectangle.
function choose({width, data}, labels, [top, bottom, left, right], above, beyond, {K, values}, corners, found, table) {
  const start = new Float64Array(4 * found.length), end = new Float64Array(4 * found.length);
  for (let y = top; y < bottom; y++) {
    const t = above[y];
    for (let j = 0; j < found.length; j++) {
      const [upperLeft, upperRight, lowerLeft, lowerRight] = corners.map((cell) => 4 * (cell * K + found[j]));
      for (let c = 0; c < 4; c++) {
        start[4 * j + c] = values[upperLeft + c] * (1 - t) + values[lowerLeft + c] * t;
        end[4 * j + c] = values[upperRight + c] * (1 - t) + values[lowerRight + c] * t;
      }
    }
    for (let x = left, at = y * width + left; x < right; x++, at++) {
      const s = beyond[x], red = data[4 * at] / 255, green = data[4 * at + 1] / 255, blue = data[4 * at + 2] / 255;
      let best = 0, most = -Infinity;
      for (let j = 0, i = 0; j < found.length; j++, i += 4) {
        const first = start[i] * red + start[i + 1] * green + start[i + 2] * blue + start[i + 3];
        const second = end[i] * red + end[i + 1] * green + end[i + 2] * blue + end[i + 3];
        const value = first * (1 - s) + second * s;
        if (value > most) { best = j; most = value; }
      }
      labels[at] = table[found[best]];
    }
  }
}
