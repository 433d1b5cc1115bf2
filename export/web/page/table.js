// The word table: the JavaScript of zeroseg/words/table.py and guess.py. D is 512.
import {withoutBrackets} from "./spelling.js";

const LONGEST = 24, KNOWN_BONUS = 0.5, COMMON_WEIGHT = 0.06, LETTER_WEIGHT = 0.2;  // as in guess.py

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

export function unit(row) {
  const length = Math.sqrt(dot(row, row));
  return row.map((value) => value / length);
}

export class WordTable {
  constructor(arrays) {
    const lines = (name) => new TextDecoder().decode(arrays[name].data).split("\n");
    const pairs = (name) => lines(name).map((line) => line.split("\t"));
    this.names = lines("names");
    this.nameRows = new Map(this.names.map((name, row) => [name, row]));
    this.keys = new Map(pairs("keys").map(([key, row]) => [key, Number(row)]));
    this.lemmas = lines("lemmas");
    this.lemmaRows = new Map(this.lemmas.map((lemma, row) => [lemma, row]));
    this.plurals = new Map(pairs("plurals"));
    this.plainNames = this.names.map((name) => withoutBrackets(name.toLowerCase()));
    this.codes = [arrays.codes_low.data, arrays.codes_high.data];
    this.levels = arrays.levels.data;
    this.common = arrays.common.data;
    const [count, D] = arrays.vectors.shape, scale = arrays.scale.data;
    this.vectors = Array.from({length: count}, (_, row) =>
      unit(Float32Array.from(arrays.vectors.data.subarray(row * D, (row + 1) * D), (value) => value * scale[row])));
    this.centre = new Float32Array(D);
    const sum = new Float64Array(D);
    for (const vector of this.vectors) for (let i = 0; i < D; i++) sum[i] += vector[i];
    for (let i = 0; i < D; i++) this.centre[i] = sum[i] / count;
    this.directions = this.vectors.map((vector) => unit(vector.map((value, i) => value - this.centre[i])));
  }

  nounDirection(row) {
    const m = this.lemmas.length, total = new Float32Array(this.centre.length);
    for (let anchor = 0; anchor < this.levels.length / m; anchor++) {
      const place = anchor * m + row, level = this.levels[place];
      const direction = this.directions[this.codes[0][place] + 256 * this.codes[1][place]];
      for (let i = 0; i < total.length; i++) total[i] += level * direction[i];
    }
    return unit(total);
  }

  // The nearest known names; those that differ only in their bracket count once.
  nearest(direction, count = 3) {
    const scores = this.directions.map((known) => dot(known, direction));
    const rows = scores.map((_, row) => row).sort((a, b) => scores[b] - scores[a]).slice(0, 8 * count);
    const chosen = new Map();
    for (const row of rows) {
      const plain = this.plainNames[row];
      if (!chosen.has(plain) && chosen.size === count) break;
      if (!chosen.has(plain) || this.names[row].length < this.names[chosen.get(plain)].length) chosen.set(plain, row);
    }
    return [...chosen.values()].map((row) => this.names[row]);
  }

  // The text vector of a direction: on its line from the centre, of length 1.
  toVector(direction) {
    const along = dot(direction, this.centre);
    const s = -along + Math.sqrt(along ** 2 + 1 - dot(this.centre, this.centre));
    return unit(direction.map((value, i) => this.centre[i] + s * value));
  }

  // The entry that is one typing error away, two from 7 letters on, the likeliest of several; null if there is none.
  similarWord(key) {
    if (key.length < 4 || key.length > LONGEST) return null;
    const allowed = key.length < 7 ? 1 : 2, mask = letterMask(key);
    this.entries ??= [...this.keys.keys(), ...this.lemmas].map((word) => [word, letterMask(word)]);
    let best = null, least = Infinity;
    this.entries.forEach(([word, letters], row) => {
      const known = row < this.keys.size;
      if (word.length <= 2 || word.length > LONGEST || Math.abs(word.length - key.length) > allowed) return;
      if (word[0] !== key[0] && !known) return;
      const others = bits(letters ^ mask);
      if (others > 2 * allowed) return;
      const distance = slips(word, key);
      const cost = distance + LETTER_WEIGHT * others + COMMON_WEIGHT * this.common[row] - KNOWN_BONUS * known;
      if (distance <= allowed && cost < least) [best, least] = [word, cost];
    });
    return best;
  }
}

function letterMask(word) {
  let mask = 0;
  for (let i = 0; i < word.length; i++) mask |= 1 << (word.charCodeAt(i) & 31);
  return mask;
}

function bits(number) {
  let count = 0;
  for (; number; number &= number - 1) count++;
  return count;
}

// Optimal string alignment distance: letters missing, extra, wrong or two swapped.
function slips(word, key) {
  let beforeLast = null, last = Array.from({length: key.length + 1}, (_, j) => j);
  for (let i = 0; i < word.length; i++) {
    const row = [i + 1];
    for (let j = 0; j < key.length; j++) {
      let best = Math.min(last[j + 1] + 1, row[j] + 1, last[j] + (word[i] === key[j] ? 0 : 1));
      if (i && j && word[i] === key[j - 1] && word[i - 1] === key[j]) best = Math.min(best, beforeLast[j - 1] + 1);
      row.push(best);
    }
    [beforeLast, last] = [last, row];
  }
  return last[key.length];
}
