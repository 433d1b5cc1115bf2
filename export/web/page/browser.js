// The page that segments photos in the browser. The network runs once for a photo; words and settings come afterwards.
import {labelColors, tinted} from "./colors.js";
import {decode, follow} from "./decode.js";
import {labelPng, regions} from "./files.js";
import {readWord} from "./lookup.js";
import {Network} from "./network.js";
import {readNpz} from "./npz.js";
import {labelTable, segmentScores} from "./scores.js";
import {setSymbols, splitWords} from "./spelling.js";
import {WordTable} from "./table.js";

const $ = (id) => document.getElementById(id);
const PIXELS_MAX = 16_000_000;  // of a photo; larger ones are scaled down, as canvases of phones end there
const LIVE_SIDE = 640;          // px, the long side of a camera's picture
const LABELS_MAX = 254;         // of one list: the masks' PNG has no more colours
const WAIT_MS = 250;            // after the last key
let network = null, table = null, described = null;
let shown = null;               // the photo, its segments, and what the words made of them
let words = [];                 // of readWord
let stream = null;              // of the camera
const readings = new Map();     // label -> reading: a word is looked up once

const element = (name, ...content) => {
  const made = document.createElement(name);
  made.append(...content);
  return made;
};
function tell(text, bad = false) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
  $("notice").classList.toggle("bad", bad);
}
function complain(text = "") {
  $("wrong").textContent = text;
  $("wrong").hidden = !text;
}
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

// -- loading

async function load() {
  const read = async (name) => {
    const answer = await fetch(name);
    if (!answer.ok) throw new Error(`${name} is missing on the server (${answer.status}).`);
    return answer;
  };
  const json = async (name) => (await read(name)).json();
  const bytes = async (name) => new Uint8Array(await (await read(name)).arrayBuffer());
  tell("Loading the model…");
  const [model, check, symbols, arrays] = await Promise.all(
    [bytes("model.onnx"), json("check.json"), json("symbols.json"), bytes("words.npz").then(readNpz),
      json("model.json").then((document) => { described = document; })]);
  setSymbols(symbols);
  table = new WordTable(arrays);
  described.scoring.centre &&= new Float32Array(Uint8Array.from(atob(described.scoring.centre), (c) =>
    c.charCodeAt(0)).buffer);
  tell("Starting the model…");
  network = await Network.open(model, described, check, new URLSearchParams(location.search).get("run"));
  $("threshold").value = described.threshold;
  for (const button of document.querySelectorAll(".choose, #live, #threshold")) button.disabled = false;
  tell("");
  takeWords();
}

// -- words

function takeWords() {
  if (!table) return;
  try {
    const labels = splitWords($("labels").value);
    if (!labels.length) throw new Error("Type a word, such as cat.");
    if (labels.length > LABELS_MAX) throw new Error(`Expected at most ${LABELS_MAX} words, got ${labels.length}.`);
    for (const label of labels) if (!readings.has(label)) readings.set(label, readWord(table, label));
    words = labels.map((label) => readings.get(label));
    complain();
  } catch (error) {
    complain(error.message);
    return;
  }
  if (shown) label();
  else legend();
}
let typing = 0;
$("labels").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(takeWords, WAIT_MS);
});
$("labels").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  event.preventDefault();
  takeWords();
});
$("words").addEventListener("submit", (event) => event.preventDefault());

// -- from segments to a picture; no network runs here

const threshold = () => (own === null ? described.threshold : own);
let own = null;  // the threshold, once it was moved

function label() {
  const began = performance.now(), {segments} = shown;
  const scores = segmentScores(segments.embeddings, words.map((word) => word.vector), described.scoring);
  const chosen = labelTable(scores, threshold());
  const labels = decode(shown.edges, chosen);
  const found = regions(labels, shown.photo.width, shown.photo.height);
  const colors = labelColors(words.map((word) => word.name));
  const best = words.map((_, n) => Math.max(...scores.map((row) => row[n])));
  for (const region of found) region.score = Math.max(...scores.filter((_, k) => chosen[k] === region.label)
    .map((row) => row[region.label]));
  shown.result = {labels, found, colors, best, words, threshold: threshold(),
    timings_ms: {...segments.timings_ms, decode: shown.edges_ms + performance.now() - began}};
  draw();
}

function draw() {
  const {photo, result} = shown, canvas = $("picture");
  if (canvas.width !== photo.width || canvas.height !== photo.height) {
    [canvas.width, canvas.height] = [photo.width, photo.height];
  }
  canvas.getContext("2d").putImageData(tinted(photo, result.labels, result.colors, +$("alpha").value), 0, 0);
  canvas.hidden = false;
  $("empty").hidden = true;
  $("saves").hidden = false;
  legend();
}

const percent = (share) => (share > 0 && share < 0.005 ? "<1" : Math.round(100 * share)) + " %";
const number = (score) => score.toFixed(2).replace(/^-(0\.00)$/, "$1");

function legend() {
  const result = shown && shown.result, total = shown ? shown.photo.width * shown.photo.height : 1;
  $("legend").replaceChildren(...words.map(({name, mark, nearest}, n) => {
    const region = result && result.found.find((one) => one.label === n);
    const swatch = element("i"), cell = element("td", mark + name);
    swatch.className = "swatch";
    swatch.style.background = result ? `rgb(${result.colors[n]})` : "var(--line)";
    if (mark) cell.append(element("small", `${mark === "?" ? "a guess, " : ""}near ${nearest.join(", ")}`));
    const row = element("tr", element("td", swatch), cell, element("td", result ? number(result.best[n]) : ""),
      element("td", region ? percent(region.area_px / total) : result ? "–" : ""));
    row.classList.toggle("absent", !region);
    return row;
  }));
  const own_threshold = threshold();
  $("threshold-value").textContent = own_threshold.toFixed(3);
  $("alpha-value").textContent = percent(+$("alpha").value);
  $("reset").hidden = own === null;
  const ms = (value) => `${value.toFixed(0)} ms`;
  const figures = [["model", described.name], ["runs on", network.backend], ...(result ? [
    ["photo", `${shown.name}, ${shown.photo.width} × ${shown.photo.height}`],
    ...Object.entries(result.timings_ms).map(([stage, value]) => [stage, ms(value)]),
    ["network runs", network.runs]] : [])];
  $("figures").replaceChildren(...figures.flatMap(([name, value]) => [element("dt", name), element("dd", `${value}`)]));
}

$("threshold").addEventListener("input", () => { own = +$("threshold").value; redo(); });
$("reset").addEventListener("click", () => { own = null; $("threshold").value = described.threshold; redo(); });
$("alpha").addEventListener("input", () => (shown ? draw() : network && legend()));
const redo = () => (shown ? label() : legend());

// -- photos

let turn = 0;
async function see(photo, name, mine) {
  const segments = await network.encode(photo), began = performance.now();
  const edges = follow(segments.maps, photo);
  if (mine !== turn) return false;  // another photo was chosen meanwhile
  shown = {photo, name, segments, edges, edges_ms: performance.now() - began, result: null};
  if (words.length) label();
  return true;
}

function pixels(source, width, height, limit) {
  const scale = Math.min(1, limit(width, height)), canvas = element("canvas");
  [canvas.width, canvas.height] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";  // behind what is transparent, as in zeroseg
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

async function openPhoto(file) {
  if (!network) return;
  stopCamera();
  const mine = ++turn;
  complain();
  tell(`Segmenting ${file.name}…`);
  try {
    const bitmap = await createImageBitmap(file, {colorSpaceConversion: "none"}).catch(() => {
      throw new Error(`${file.name} is no picture that this browser can read.`);
    });
    const photo = pixels(bitmap, bitmap.width, bitmap.height, (w, h) => Math.sqrt(PIXELS_MAX / (w * h)));
    bitmap.close();
    await painted();  // the notice, before the page is busy
    if (mine === turn) await see(photo, file.name || "photo", mine);
  } catch (error) {
    if (mine === turn) complain(error.message);
  }
  if (mine === turn) tell("");
}

for (const button of document.querySelectorAll(".choose")) button.addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) openPhoto($("file").files[0]);
  $("file").value = "";
});
for (const name of ["dragenter", "dragover"])
  document.addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.add("over"); });
for (const name of ["dragleave", "drop"])
  document.addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) openPhoto(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) openPhoto(event.clipboardData.files[0]);
});

// -- the camera

$("live").addEventListener("click", () => (stream ? stopCamera() : startCamera()));

async function startCamera() {
  const mine = ++turn, video = $("camera");
  complain();
  try {
    if (!navigator.mediaDevices) throw new Error("browsers allow it on localhost and over HTTPS only");
    const opened = await navigator.mediaDevices.getUserMedia({video: {width: {ideal: LIVE_SIDE}}});
    if (mine !== turn) return opened.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = opened;
    await video.play();
  } catch (error) {
    stopCamera();
    complain(`The camera cannot be opened: ${error.message}.`);
    return;
  }
  $("live").textContent = "Freeze";
  try {
    while (stream && mine === turn && !video.ended) {
      const limit = (w, h) => LIVE_SIDE / Math.max(w, h);
      await see(pixels(video, video.videoWidth, video.videoHeight, limit), "camera", mine);
      await painted();
    }
  } catch (error) {
    complain(error.message);
  }
}

function stopCamera() {  // the last picture stays
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = $("camera").srcObject = null;
  $("live").textContent = "Camera";
}

// -- downloads

function save(blob, ending) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${shown.name.replace(/\.\w+$/, "")}${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
const blob = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));
$("save-picture").addEventListener("click", async () => save(await blob($("picture")), "_overlay.png"));
$("save-labels").addEventListener("click", async () => {
  const {photo, result} = shown;
  save(await labelPng(result.labels, photo.width, photo.height, result.colors), "_labels.png");
});
$("save-json").addEventListener("click", () => {
  const {photo, result} = shown, rounded = (value) => Math.round(value * 1e6) / 1e6;
  const document = {
    model: described.name, threshold: result.threshold, size: [photo.height, photo.width],
    labels: result.words.map(({name, mark, nearest}, n) =>
      ({name, score: rounded(result.best[n]), approximate: Boolean(mark), mark, nearest})),
    found: result.found.map(({label, area_px, bbox, segmentation, score}) => ({
      image_id: 0, category_id: label + 1, category: result.words[label].name, segmentation, area: area_px, bbox,
      score: rounded(score), iscrowd: 0, mark: result.words[label].mark})),
    timings_ms: result.timings_ms,
  };
  save(new Blob([JSON.stringify(document, null, 1)], {type: "application/json"}), ".json");
});

load().catch((error) => tell(`The page cannot start: ${error.message}`, true));
