// How a label is written: the JavaScript of zeroseg/words/spelling.py, function by function.

const SEPARATORS = /[,;\n，、；،؛]/;
export const LABEL_MAX_CHARS = 200;
export const ARTICLES = new Set("a an the some my your his her our their this that these those".split(" "));
const EMOJI_NOISE = [" face", " sign", " symbol", " head", " with tears of joy", "emoji modifier"];
const PLURALS = [["wives", "wife"], ["knives", "knife"], ["ieves", "ief"], ["sses", "ss"], ["shes", "sh"],
  ["ches", "ch"], ["zzes", "zz"], ["xes", "x"], ["oes", "o"], ["ies", "y"], ["ies", "ie"], ["ves", "f"],
  ["ves", "fe"], ["men", "man"], ["ses", "s"], ["ses", "sis"], ["zes", "z"], ["ices", "ix"], ["ices", "ex"],
  ["eaux", "eau"], ["ae", "a"], ["i", "us"], ["s", ""]];
const IRREGULAR = new Map(Object.entries({men: "man", feet: "foot", teeth: "tooth", geese: "goose", mice: "mouse",
  lice: "louse", oxen: "ox", children: "child", people: "person", dice: "die", kine: "cow", brethren: "brother",
  pence: "penny", calves: "calf", wolves: "wolf", leaves: "leaf", loaves: "loaf"}));
const SPELLINGS = [["our", "or"], ["tre", "ter"], ["ise", "ize"], ["yse", "yze"], ["ogue", "og"], ["lling", "ling"],
  ["ller", "ler"], ["aero", "air"], ["grey", "gray"], ["tyre", "tire"], ["mould", "mold"], ["ph", "f"],
  ["moustache", "mustache"], ["pyjama", "pajama"], ["plough", "plow"], ["yoghurt", "yogurt"], ["ae", "e"],
  ["oe", "e"], ["cheque", "check"], ["sceptic", "skeptic"], ["draught", "draft"], ["kerb", "curb"]];
const EDGES = " \t\"'’`“”.,;:!?*#";
let symbols = {};  // emoji -> its name in lower case; JavaScript has no names of characters

export function setSymbols(names) { symbols = names; }

const casefold = (text) => text.replaceAll("ß", "ss").replaceAll("ẞ", "ss").toLowerCase().replaceAll("ς", "σ");
const unique = (words) => [...new Set(words)];

// The words that a person typed, each once, whatever its case.
export function splitWords(text) {
  const first = new Map();
  for (const word of text.split(SEPARATORS).map((word) => word.trim()).filter(Boolean))
    if (!first.has(casefold(word))) first.set(casefold(word), word);
  return [...first.values()];
}

// The key of a label; throws an Error with a line for people.
export function clean(label) {
  let text = label;
  if ([...label].length <= LABEL_MAX_CHARS) text = casefold([...label.normalize("NFKD")].map(visible).join(""));
  const length = [...text].length;
  if (length > LABEL_MAX_CHARS)
    throw new Error(`Expected at most ${LABEL_MAX_CHARS} characters in a label, got ${length}.`);
  text = text.replace(/[\s_-]+/gu, " ").replace(/['’`]s(?![\p{L}\p{N}_])/gu, "s");
  let start = 0, end = text.length;
  while (start < end && EDGES.includes(text[start])) start++;
  while (end > start && EDGES.includes(text[end - 1])) end--;
  const words = text.slice(start, end).split(" ").filter(Boolean);
  while (words.length > 1 && ARTICLES.has(words[0])) words.shift();
  if (!words.length) throw new Error(`“${[...label].slice(0, 20).join("")}” has no letter in it.`);
  return words.join(" ");
}

function visible(character) {
  if (/\p{So}|\p{Sk}/u.test(character)) {
    let name = symbols[character] || "";
    for (const noise of EMOJI_NOISE)
      name = name === noise.trim() ? "" : name.endsWith(noise) ? name.slice(0, -noise.length) : name;
    return ` ${name} `;
  }
  if (/\p{Pd}|\p{Zs}|\p{Zl}|\p{Zp}|\p{Cc}/u.test(character)) return " ";
  return /\p{Cf}|\p{Mn}|\p{Cs}|\p{Co}|\p{Cn}/u.test(character) ? "" : character;
}

export function withoutBrackets(key) {
  return key.replace(/\([^)]*\)|[()[\]{}]/g, " ").split(/\s+/).filter(Boolean).join(" ") || key;
}

export function singulars(key) {
  const of = key.indexOf(" of ");
  if (of >= 0) return singulars(key.slice(0, of)).map((one) => one + key.slice(of));
  const cut = key.lastIndexOf(" ") + 1, before = key.slice(0, cut), word = key.slice(cut);
  const found = IRREGULAR.has(word) ? [IRREGULAR.get(word)] : [];
  for (const [ending, instead] of PLURALS)
    if (word.endsWith(ending) && word.length > ending.length + 1 && !(ending === "s" && word.endsWith("ss")))
      found.push(word.slice(0, -ending.length) + instead);
  return unique(found).map((one) => before + one);
}

export function spellings(key) {
  const found = [];
  for (const [one, other] of SPELLINGS) {
    if (key.includes(one)) found.push(key.replaceAll(one, other));
    if (key.includes(other)) found.push(key.replaceAll(other, one));
  }
  return unique(found);
}

export function joinsAndSplits(key) {
  if (key.includes(" ")) return [key.replaceAll(" ", "")];
  if (key.length > 24) return [];
  return Array.from({length: Math.max(0, key.length - 2)}, (_, i) => `${key.slice(0, i + 1)} ${key.slice(i + 1)}`);
}
