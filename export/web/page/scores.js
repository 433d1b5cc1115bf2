// Scores of K segments for N words: the JavaScript of zeroseg/segment/scores.py.
import {dot, unit} from "./table.js";

const FALL = 10, REST = 0.01;  // as in scores.py

// embeddings, vectors: arrays of rows; centre: a row or null -> K rows of N scores.
export function segmentScores(embeddings, vectors, {centre, share}) {
  const directions = vectors.map((vector) => (centre ? unit(vector.map((value, i) => value - centre[i])) : vector));
  const rows = embeddings.map((row) => (centre ? row : unit(row)));
  const scores = rows.map((row) => Float32Array.from(directions, (direction) => dot(row, direction)));
  if (!share) return scores;
  const best = directions.map((_, n) => Math.max(...scores.map((row) => row[n])));
  return scores.map((row) => row.map((score, n) => Math.max(
    Math.min(score, REST * Math.max(score, 0)), score - FALL * Math.max(share * best[n] - score, 0))));
}

// The best word of each segment, -1 where it scores below the threshold.
export function labelTable(scores, threshold) {
  return scores.map((row) => {
    const best = Math.max(...row);
    return best >= Math.fround(threshold) ? row.indexOf(best) : -1;
  });
}

// A number as float16 holds it, to the nearest, ties to even: what zeroseg keeps of maps and embeddings.
export function asHalf(value) {
  const size = Math.abs(value);
  if (!(size > 0) || size === Infinity) return value;
  const step = 2 ** (Math.max(Math.floor(Math.log2(size)), -14) - 10);
  const steps = size / step, low = Math.floor(steps), rest = steps - low;
  return Math.sign(value) * step * (rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low);
}
