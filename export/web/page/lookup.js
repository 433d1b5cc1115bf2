// What a label means: the JavaScript of zeroseg/words/lookup.py. A reading is {kind, used, direction, row}.
import {ARTICLES, clean, joinsAndSplits, singulars, spellings, withoutBrackets} from "./spelling.js";
import {dot, unit} from "./table.js";

const MODIFIER = 0.5, HEAD_LEAD = 0.05, ALIKE = 0.5, COMPOUND_MIN = 4;  // as in lookup.py
const AFTER = new Set(("with without on in at from by near behind under over for to and or that which who holding " +
  "wearing riding sitting standing lying walking running eating next beside inside between against above below")
  .split(" "));
const MEASURES = new Set(("piece slice bit bunch pair group set pile heap stack lot kind sort type herd flock pack " +
  "crowd row collection couple dozen number handful loaf sheet part patch picture photo image drawing pride swarm " +
  "school litter head breed species half quarter stick cluster bouquet team line").split(" "));
const MARKS = {name: "", noun: "~", phrase: "~", guess: "?"};

// label -> {name, mark, vector, nearest}: its text vector, (512,), exact where the mark is empty.
export function readWord(table, label) {
  const {kind, direction, row} = read(table, label);
  const vector = kind === "name" ? table.vectors[row] : table.toVector(direction);
  return {name: label, mark: MARKS[kind], vector, nearest: table.nearest(direction)};
}

function read(table, label) {
  const key = clean(label);
  if (table.nameRows.has(label)) return known(table, table.nameRows.get(label));
  const found = word(table, key);
  if (found) return found;
  const bare = withoutBrackets(key);
  if (bare !== key) {
    const inside = [...key.matchAll(/\(([^)]*)\)/g)].map((match) => match[1]).join(" ");
    return read(table, inside ? `${inside} ${bare}` : bare);
  }
  return phrase(table, key) || guess(table, key);
}

function known(table, row) {
  return {kind: "name", used: table.names[row], direction: table.directions[row], row};
}
function noun(table, form) {
  return {kind: "noun", used: form, direction: table.nounDirection(table.lemmaRows.get(form)), row: null};
}

// key as one entry, under any spelling; far: also other word breaks and spellings.
function word(table, key, far = true) {
  const forms = [key, ...(table.plurals.has(key) ? [table.plurals.get(key)] : []), ...singulars(key)];
  const entry = (some) => {
    for (const form of some) if (table.keys.has(form)) return known(table, table.keys.get(form));
    for (const form of some) if (table.lemmaRows.has(form)) return noun(table, form);
    return null;
  };
  const found = entry(forms);
  if (found || !far) return found;
  return entry([...forms.flatMap(spellings), key + "s", ...forms.flatMap(joinsAndSplits)]);
}

function phrase(table, key) {
  const words = key.replace(/[^\p{L}\p{N}_\s&']/gu, " ").split(/\s+/).filter(Boolean);
  const at = words.findIndex((one, i) => i > 0 && AFTER.has(one)), cut = at < 0 ? words.length : at;
  let main = words.slice(0, cut), rest = words.slice(cut);
  if (main.slice(1, -1).includes("of")) {
    const of = main.indexOf("of", 1), measured = [main[of - 1], ...singulars(main[of - 1])].some((m) => MEASURES.has(m));
    [main, rest] = measured ? [main.slice(of + 1), [...main.slice(0, of - 1), ...rest]]
      : [main.slice(0, of), [...main.slice(of + 1), ...rest]];
  }
  const [head, before] = longestEnd(table, main);
  if (!head) return null;
  if (!before.length && !rest.length) return head;
  const modifiers = [before, rest].flatMap((part) => allWords(table, part));
  const direction = modifiers.length ? moved(table, head.direction, modifiers.map((m) => m.direction)) : head.direction;
  return {kind: "phrase", used: [head, ...modifiers].map((one) => one.used).join(" + "), direction, row: null};
}

// The head's direction moved towards the modifiers', as far as it keeps its name.
function moved(table, head, modifiers) {
  const pull = head.map((_, i) => modifiers.reduce((sum, m) => sum + m[i], 0) / Math.sqrt(modifiers.length));
  const scores = table.directions.map((d) => dot(d, head)), gains = table.directions.map((d) => dot(d, pull));
  const first = scores.indexOf(Math.max(...scores));
  let step = MODIFIER;
  table.directions.forEach((direction, i) => {
    const gain = gains[i] - gains[first];
    if (gain > 0 && dot(direction, table.directions[first]) < ALIKE)
      step = Math.min(step, (scores[first] - scores[i] - HEAD_LEAD) / gain);
  });
  return unit(head.map((value, i) => value + Math.max(0, step) * pull[i]));
}

// The longest run of words at the end that is an entry, and the words before it.
function longestEnd(table, words) {
  for (let start = Math.max(0, words.length - 6); start < words.length; start++) {
    const found = word(table, words.slice(start).join(" "), start >= words.length - 2);
    if (found) return [found, words.slice(0, start)];
  }
  return [null, words];
}

function allWords(table, words) {
  const found = [];
  let left = words.filter((one) => !AFTER.has(one) && !ARTICLES.has(one));
  while (left.length) {
    const [one, before] = longestEnd(table, left);
    if (one) found.push(one);
    left = one ? before : left.slice(0, -1);
  }
  return found;
}

function guess(table, key) {
  const as = (found) => found && {kind: "guess", used: found.used, direction: found.direction, row: null};
  const slip = (text) => {
    const similar = table.similarWord(text);
    return similar && word(table, similar, false);
  };
  const words = key.split(" "), last = words.at(-1);
  let found = slip(key);
  for (let start = 1; !found && start <= last.length - COMPOUND_MIN; start++) found = word(table, last.slice(start), false);
  for (const one of words.length > 1 ? [...words].reverse() : [])
    found ||= (one.length > 2 && word(table, one, false)) || slip(one);
  for (let end = last.length - 1; !found && end >= COMPOUND_MIN; end--) found = word(table, last.slice(0, end), false);
  return as(found || null) || {kind: "guess", used: "", direction: nowhere(key, table.centre.length), row: null};
}

// A fixed direction, near none: not the one that zeroseg in Python draws, whose generator the page lacks.
function nowhere(key, D) {
  let state = 2166136261;
  for (const character of key) state = Math.imul(state ^ character.codePointAt(0), 16777619);
  const uniform = () => {  // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return unit(Float32Array.from({length: D}, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())));
}
