"use strict";
// The page of zeroseg. The server tells the state as server-sent events; what is typed or dragged is sent back.
const $ = (id) => document.getElementById(id);
const percent = (share) => (share > 0 && share < 0.005 ? "<1" : Math.round(100 * share)) + " %";
const SIDE_MAX = 2048;    // px; a photo is sent no larger: the network sees less, and phones take ten times as much
const IDLE_MS = 2000;     // so long after the last key, words that others typed may replace those in the box
const STILL_MS = 5000;    // a live picture that is older is said to be
const FEW = 8;            // words that keep their places in the legend; of more, those that are found come first
let state = null;         // the newest state
let connected = false;
let photo = null;         // while a photo is shown: its file, words, and what the server made of it
let work = null;          // the photo's request on its way
let own = null;           // settings of photos; those of the live picture are everyone's
let known = null;         // the words that the box stands for, in the server's spelling
let typedAt = -Infinity;
let moving = {};          // settings that the server has not confirmed
let frames = {count: -1, at: 0};

function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);  // a string becomes text, never markup
  return made;
}

// What is wrong, by where it went wrong: what mends one thing does not hide another.
const complaints = {};
function complain(where, text = "") {
  complaints[where] = text;
  $("wrong").textContent = Object.values(complaints).filter(Boolean).join(" ");
  $("wrong").hidden = !$("wrong").textContent;
}
function reason({detail}) {
  const text = typeof detail === "string" ? detail : (detail || []).map((entry) => entry.msg).join("; ");
  const plain = text.replace(/^(labels|image): (label \d+: )?/, "");  // which are a program's names and counts
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}

async function send(method, path, body, where) {
  try {
    const headers = {"Content-Type": "application/json"};
    const answer = await fetch(path, {method, headers, body: JSON.stringify(body)});
    const document = await answer.json();
    complain(where, answer.ok ? "" : reason(document));
    if (answer.ok) take(document);
    return answer.ok ? document : null;
  } catch {
    complain(where, "The server does not answer.");
    return null;
  }
}

// -- the state, and what it shows

function take(next) {
  if (state && next.revision < state.revision) return;  // made before a change that is already known here
  own ??= {threshold: next.threshold, alpha: next.alpha};
  state = next;
  $("search").hidden = !state.search;
  if (state.frames !== frames.count || state.paused) frames = {count: state.frames, at: performance.now()};
  const words = state.labels.join(", ");
  if (words !== known && performance.now() - typedAt > IDLE_MS) {
    if (known !== null) complain("words");
    known = words;
    write(words);
  }
  if (photo && photo.words !== words) {
    photo.words = words;
    segment();
  }
  show();
}

function show() {
  const live = Boolean(state && state.live);
  stream();
  tell();
  $("live").hidden = Boolean(photo) || !live || !state.picture || !$("live").hasAttribute("src");
  $("photo").hidden = !photo || !$("photo").hasAttribute("src");
  $("empty").hidden = !state || live || Boolean(photo);
  $("back").hidden = !photo;
  $("back").textContent = live ? "Back to live" : "Clear";
  $("buttons").hidden = !$("empty").hidden;
  $("pause").hidden = !live || Boolean(photo) || state.ended;
  $("snapshot").hidden = photo ? !photo.result : !live || !state.picture;
  $("snapshot").textContent = photo ? "Save" : "Snapshot";
  $("snapshot").href = photo && photo.result ? photo.result.overlay : "/snapshot.png";
  $("snapshot").download = photo ? `${photo.name.replace(/\.\w+$/, "")}_zeroseg.jpg` : "zeroseg.png";
  if (!state) return;
  $("pause").textContent = state.paused ? "Resume" : "Pause";
  sliders();
  const made = `${state.model} (${state.backend})`;
  $("tiles").hidden = !live || Boolean(photo);
  if (photo && photo.result) {
    const {result, name, size} = photo;
    legend(result.labels.map((entry) => ({...entry, label: entry.name, area: result.areas[entry.name] || 0})));
    list("stages", stages(result.timings_ms));
    const [height, width] = result.size;
    const scaled = size && size[0] !== width ? `, seen at ${width} × ${height}` : "";
    list("figures", [["photo", `${name}, ${(size || [width, height]).join(" × ")}${scaled}`], ["model", made]]);
    return;
  }
  const moves = live && !photo;
  const near = Object.fromEntries(state.labels.map((label, i) => [label, state.nearest[i]]));
  const rows = moves && state.legend.length ? state.legend
    : state.labels.map((label, i) => ({label, mark: state.marks[i], color: "", score: null, area: null}));
  legend(rows.map((row) => ({...row, nearest: near[row.label] || []})));
  list("figures", [...(moves ? [["source", state.source]] : []), ["model", made]]);
  list("stages", !moves ? [] : [...stages(state.stages_ms), ["95 % within", time(state.latency_ms[1])],
                               ["viewers", state.viewers], ["reconnects", state.reconnects]]);
  if (moves) list("tiles", [["FPS", state.fps.toFixed(1)], ["ms latency", state.latency_ms[0].toFixed(0)],
                           ["dropped", state.dropped]], (...parts) => element("div", ...parts));
}

const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };

const seen = new Map();  // when a label was last found: rows that flicker do not jump
let lines = new Map();   // the legend's rows, kept from state to state, so that they can be read, selected and pointed at
function legend(rows) {
  const now = performance.now();
  for (const row of rows) if (row.area > 0) seen.set(row.label, now);
  const recent = (row) => now - (seen.get(row.label) ?? -Infinity) < 2000;
  $("found").classList.toggle("few", rows.length <= FEW);
  if (rows.length > FEW) rows = [...rows.filter(recent), ...rows.filter((row) => !recent(row))];
  lines = new Map(rows.map((row) => {
    const key = JSON.stringify([row.label, row.mark, row.nearest]), line = lines.get(key) || legendLine(row);
    const [color, , score, area] = line.children;
    color.firstChild.style.background = row.color || "var(--line)";
    text(score, row.score === null ? "" : row.score.toFixed(2).replace(/^-(0\.00)$/, "$1"));
    text(area, row.area === null ? "" : row.area > 0 ? percent(row.area) : "–");
    line.classList.toggle("absent", !(row.area > 0));
    return [key, line];
  }));
  const wanted = [...lines.values()], there = $("legend").children;
  if (wanted.length !== there.length || wanted.some((line, i) => line !== there[i]))
    $("legend").replaceChildren(...wanted);
}

function legendLine({label, mark, nearest}) {
  const swatch = element("i"), name = element("td", mark + label), near = nearest.slice(0, 3).join(", ");
  swatch.className = "swatch";
  if (mark) name.append(element("small", [mark === "?" ? "a guess" : "", near ? `near ${near}` : ""]
    .filter(Boolean).join(", ") || "approximate"));
  return element("tr", element("td", swatch), name, element("td"), element("td"));
}

function list(id, rows, wrap = (...parts) => parts) {
  const names = $(id).getElementsByTagName("dt"), values = $(id).getElementsByTagName("dd");
  if (rows.length !== names.length || rows.some(([name], i) => names[i].textContent !== name))
    $(id).replaceChildren(...rows.flatMap(([name]) => wrap(element("dt", name), element("dd"))));
  rows.forEach(([, value], i) => text(values[i], `${value}`));
}
const time = (ms) => `${ms.toFixed(ms < 100 ? 1 : 0)} ms`;
const stages = (times_ms) => Object.entries(times_ms).map(([stage, ms]) => [stage, time(ms)]);

function tell() {
  const still = state && state.live && state.picture && !state.paused && performance.now() - frames.at > STILL_MS;
  let said = "", bad = false;
  if (!connected) [said, bad] = [state ? "No connection to the server; reconnecting…" : "", true];
  else if (photo) said = work ? `Segmenting ${photo.name}…` : "";
  else if (!state.live) said = "";
  else if (state.error) [said, bad] = [state.error, true];
  else if (state.ended) said = "The source has ended.";
  else if (state.away !== null) [said, bad] = [`The source is lost (${state.away}); reconnecting…`, true];
  else if (state.paused) said = "Paused";
  else if (!state.picture) said = "Waiting for the first picture…";
  else if (still) said = `No new picture for ${Math.round((performance.now() - frames.at) / 1000)} s`;
  text($("notice"), said);
  $("notice").hidden = !said;
  $("notice").classList.toggle("bad", bad);
  $("stage").classList.toggle("stale", bad && !photo);  // dimmed, lest it be taken for the present
  $("stage").classList.toggle("busy", Boolean(work));
}

// -- the live picture; it is not sent while nobody sees it

function stream() {
  const wanted = Boolean(state && state.live && connected && !photo && !document.hidden);
  if (wanted === $("live").hasAttribute("src")) return;
  if (wanted) $("live").src = "/live.mjpg?" + Date.now();
  else if (photo || document.hidden) $("live").removeAttribute("src");  // else the last picture stays
}
$("live").addEventListener("error", () => {
  $("live").removeAttribute("src");
  setTimeout(show, 1000);
});
document.addEventListener("visibilitychange", show);

function listen() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    if (!connected) {  // to a server that may have been started anew
      [connected, state] = [true, null];
      $("live").removeAttribute("src");
    }
    take(JSON.parse(event.data));
  };
  events.onerror = () => {  // the browser tries again by itself
    connected = false;
    tell();
    if (events.readyState === EventSource.CLOSED) { events.close(); setTimeout(listen, 1000); }
  };
}

// -- words

function write(words) {
  $("labels").value = words;
  fitBox();
}
function fitBox() {
  $("labels").style.height = "auto";
  $("labels").style.height = `${$("labels").scrollHeight + 2}px`;
}
addEventListener("resize", fitBox);
const isEmpty = (words) => !words.replace(/[\s,;，、；،؛]/g, "");

let typed = 0, typing = 0;
async function sendLabels() {
  clearTimeout(typing);
  const words = $("labels").value, turn = ++typed;
  if (isEmpty(words)) return complain("words", "Type a word, such as cat.");
  const next = await send("PUT", "/labels", {labels: words}, "words");
  if (next && turn === typed) known = next.labels.join(", ");
}
$("labels").addEventListener("input", () => {
  typedAt = performance.now();
  fitBox();
  clearTimeout(typing);
  typing = setTimeout(sendLabels, 250);
});
$("labels").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  event.preventDefault();
  sendLabels();
});

$("labels").addEventListener("blur", () => {
  if (known === null || !isEmpty($("labels").value)) return;
  write(known);
  complain("words");
});

// -- threshold, opacity, pause

function sliders() {
  const now = photo || !state.live ? own : {...state, ...moving};
  for (const [id, value] of [["threshold", now.threshold ?? state.threshold_default], ["alpha", now.alpha]]) {
    if (+$(id).value !== value) $(id).value = value;
    $(`${id}-value`).textContent = id === "alpha" ? percent(value) : value.toFixed(3);
  }
  $("reset").hidden = now.threshold === null;
}

let sending = false;
async function set(changes) {
  const live = state.live && !photo;
  Object.assign(live ? moving : own, changes);
  sliders();
  if (photo) segment();
  if (!live || sending) return;
  sending = true;
  while (Object.keys(moving).length) {
    const sent = {...moving};
    await send("PATCH", "/settings", sent, "settings");
    for (const name in sent) if (moving[name] === sent[name]) delete moving[name];
    sliders();
  }
  sending = false;
}
for (const id of ["threshold", "alpha"]) $(id).addEventListener("input", () => set({[id]: +$(id).value}));
$("reset").addEventListener("click", () => set({threshold: null}));
$("pause").addEventListener("click", () => send("PATCH", "/settings", {paused: !state.paused}, "settings"));

// -- photos

async function fit(file) {
  let bitmap;
  try { bitmap = await createImageBitmap(file); } catch { return {body: file, size: null}; }  // the server says why
  const size = [bitmap.width, bitmap.height], scale = SIDE_MAX / Math.max(...size);
  if (scale >= 1) { bitmap.close(); return {body: file, size}; }
  const canvas = element("canvas"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = size.map((side) => Math.max(1, Math.round(side * scale)));
  context.fillStyle = "white";  // what shows through, here as on the server
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return {body: await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92)) || file, size};
}

// What is asked again while the answer is on its way is asked once more after it; an answer that is no longer wanted
// is given up.
async function segment() {
  if (work && work.photo === photo) { work.again = true; return; }
  if (work) work.stop.abort();
  const mine = work = {photo, stop: new AbortController(), again: true};
  show();
  try {
    while (mine.again && work === mine) {
      mine.again = false;
      await ask(mine.photo, mine.stop.signal);
    }
  } catch (error) {
    if (work !== mine) return;
    complain("photo", error.message);
    if (!photo.result) closePhoto();
  }
  if (work !== mine) return;
  work = null;
  show();
}

async function ask(photo, signal) {
  if (!photo.body) {
    Object.assign(photo, await fit(photo.file));
    if (signal.aborted) return;
    if (photo.size) {
      $("photo").src = URL.createObjectURL(photo.body);
      show();
    }
  }
  const form = new FormData();
  form.append("image", photo.body, photo.name);
  form.append("overlay", "true");
  form.append("threshold", own.threshold ?? state.threshold_default);
  form.append("alpha", own.alpha);
  const answer = await fetch("/segment", {method: "POST", body: form, signal}).catch(() => {
    throw new Error(`${photo.name} could not be sent.`);
  });
  const result = await answer.json();
  if (signal.aborted) return;
  if (!answer.ok) throw new Error(`${photo.name}: ${reason(result)}`);
  photo.result = result;
  complain("photo");
  URL.revokeObjectURL($("photo").src);
  $("photo").src = result.overlay;
}

function openPhoto(file) {
  if (!state) return;
  if (!photo && state.live) own = {threshold: state.threshold, alpha: state.alpha};
  $("photo").removeAttribute("src");
  photo = {file, name: file.name || "photo", words: state.labels.join(", "), body: null, size: null, result: null};
  segment();
}

function closePhoto() {
  if (work) work.stop.abort();
  [photo, work] = [null, null];
  $("photo").removeAttribute("src");
  show();
}

$("back").addEventListener("click", () => { complain("photo"); closePhoto(); });
for (const button of document.querySelectorAll(".choose")) button.addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) openPhoto($("file").files[0]);
  $("file").value = "";
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.remove("over"); });
}
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) openPhoto(event.dataTransfer.files[0]);
});

$("details").open = matchMedia("(min-width: 761px) and (min-height: 561px)").matches;
listen();
