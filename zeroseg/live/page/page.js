"use strict";
// The page of zeroseg. The server tells the state as server-sent events; what is typed or dragged is sent back.
const $ = (id) => document.getElementById(id);
const percent = (share) => (share > 0 && share < 0.005 ? "<1" : Math.round(100 * share)) + " %";
let state = null;    // the newest state
let photo = null;    // {file, document} while a photo is shown instead of the live picture
let sending = {};    // settings not sent yet

async function send(method, path, body) {
  try {
    const answer = await fetch(path, {method, body: JSON.stringify(body), headers: {"Content-Type": "application/json"}});
    const document = await answer.json();
    complain(answer.ok ? "" : reason(document));
    return answer.ok ? document : null;
  } catch {
    complain("The server does not answer.");
    return null;
  }
}

const reason = (document) =>
  typeof document.detail === "string" ? document.detail : (document.detail || []).map((entry) => entry.msg).join("; ");

function complain(text) {
  $("wrong").textContent = text;
  $("wrong").hidden = !text;
}

function legend(rows) {
  $("legend").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    const swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.background = row.color;
    const cells = [swatch, row.mark + row.label, row.score === null ? "" : row.score.toFixed(2),
                   row.area > 0 ? percent(row.area) : "–"];
    line.append(...cells.map((content) => {
      const cell = document.createElement("td");
      cell.append(content);  // a string becomes text, never markup
      return cell;
    }));
    line.classList.toggle("absent", !(row.area > 0));
    return line;
  }));
}

function figures(rows) {
  $("figures").replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt"), definition = document.createElement("dd");
    term.textContent = name;
    definition.textContent = value;
    return [term, definition];
  }));
}

function show(next) {
  state = next;
  const editing = document.activeElement;
  if (editing !== $("labels") && !photo) $("labels").value = state.labels.join(", ");
  const guesses = state.labels.map((label, i) => state.marks[i] + label +
    (state.nearest[i].length ? ` is taken as near ${state.nearest[i].join(", ")}` : "")).filter((_, i) => state.marks[i]);
  $("approximate").textContent = guesses.join("; ");
  $("approximate").hidden = !guesses.length;
  for (const id of ["pause", "snapshot", "sliders"]) $(id).hidden = !state.live;
  $("empty").hidden = state.live || Boolean(photo);
  if (!state.live) {
    if (!photo) figures([["model", `${state.model} (${state.backend})`]]);
    return;
  }
  const threshold = state.threshold ?? state.threshold_default;
  for (const [id, value] of [["threshold", threshold], ["alpha", state.alpha]]) {
    if (editing !== $(id) || !(id in sending)) $(id).value = value;
    $(`${id}-value`).textContent = id === "alpha" ? percent(+$(id).value) : (+$(id).value).toFixed(3);
  }
  $("pause").textContent = state.paused ? "Go on" : "Pause";
  const notice = state.error || (state.ended ? "The source has ended." : state.paused ? "Paused" : "");
  $("notice").textContent = notice;
  $("notice").hidden = !notice || Boolean(photo);
  if (photo) return;
  legend(state.legend);
  const stages = Object.entries(state.stages_ms).map(([stage, ms]) => `${stage} ${ms}`).join(", ");
  figures([["FPS", state.fps.toFixed(1)], ["latency", `${state.latency_ms[0]} ms (95 %: ${state.latency_ms[1]} ms)`],
           ["per stage, ms", stages], ["dropped", state.dropped], ["reconnects", state.reconnects],
           ["viewers", state.viewers], ["source", state.source], ["model", `${state.model} (${state.backend})`]]);
}

function openLive() {
  if (!state || !state.live || photo) return;
  $("live").src = "/live.mjpg?" + Date.now();
  $("live").hidden = false;
}
$("live").addEventListener("error", () => setTimeout(openLive, 1000));

let opened = false;
function listen() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    show(JSON.parse(event.data));
    if (!opened) { opened = true; openLive(); }
  };
  events.onerror = () => {  // the browser tries again by itself; the picture then starts anew
    $("notice").textContent = "No connection; trying again";
    $("notice").hidden = false;
    opened = false;
    if (events.readyState === EventSource.CLOSED) { events.close(); setTimeout(listen, 1000); }
  };
}

let typed = 0;
async function sendLabels() {
  const words = $("labels").value;
  if (!words.replaceAll(",", " ").trim()) return;
  const turn = ++typed;
  const next = await send("PUT", "/labels", {labels: words});
  if (!next || turn !== typed) return;
  show(next);
  if (photo) segment(photo.file);
}
let typing = 0;
$("labels").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(sendLabels, 250); });
$("words").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  sendLabels();
});

let dragging = 0;
for (const id of ["threshold", "alpha"]) {
  $(id).addEventListener("input", () => {
    sending[id] = +$(id).value;
    $(`${id}-value`).textContent = id === "alpha" ? percent(sending[id]) : sending[id].toFixed(3);
    if (!dragging) dragging = setTimeout(async () => {
      const changes = sending;
      sending = {};
      dragging = 0;
      await send("PATCH", "/settings", changes);
      if (photo) segment(photo.file);
    }, 60);
  });
}
$("pause").addEventListener("click", async () => {
  const next = await send("PATCH", "/settings", {paused: !state.paused});
  if (next) show(next);
});

async function segment(file) {
  const form = new FormData();
  form.append("image", file);
  form.append("overlay", "true");
  if (state && state.live) form.append("alpha", state.alpha);
  try {
    const answer = await fetch("/segment", {method: "POST", body: form});
    const result = await answer.json();
    if (!answer.ok) { complain(reason(result)); return; }
    complain("");
    photo = {file};
    $("photo").src = result.overlay;
    legend(result.labels.map((entry) => ({label: entry.name, mark: entry.mark, color: entry.color, score: entry.score,
                                          area: result.areas[entry.name] || 0})));
    const stages = Object.entries(result.timings_ms).map(([stage, ms]) => `${stage} ${ms.toFixed(1)}`).join(", ");
    figures([["photo", `${file.name || "dropped"}, ${result.size[1]} × ${result.size[0]}`], ["per stage, ms", stages],
             ["model", result.model]]);
    $("photo").hidden = $("back").hidden = false;
    $("live").hidden = $("empty").hidden = $("notice").hidden = true;
    $("live").removeAttribute("src");  // the live picture is not sent while nobody sees it
    $("back").textContent = state && state.live ? "Back to live" : "Clear";
  } catch {
    complain("The photo could not be sent.");
  }
}
$("back").addEventListener("click", () => {
  photo = null;
  $("photo").hidden = $("back").hidden = true;
  legend([]);
  openLive();
  if (state) show(state);
});
$("file").addEventListener("change", () => {
  if ($("file").files.length) segment($("file").files[0]);
  $("file").value = "";
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.remove("over"); });
}
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) segment(event.dataTransfer.files[0]);
});
listen();
