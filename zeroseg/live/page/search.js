"use strict";
// The search page: a search box and a grid of pictures. The address holds the query, so that Back works.
const $ = (id) => document.getElementById(id);
const STEP = 40, MOST = 500;  // pictures per request, and in all
const AT_ONCE = 100;          // pictures that are drawn for one request
let asked = 0;                // the number of the newest request; older answers are not shown
let drawing = new AbortController();  // ends the drawing of an older answer's pictures
let shown = null;             // the picture in the dialog, with the selected segment

function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);  // a string becomes text, never markup
  return made;
}

function reason({detail}) {
  return typeof detail === "string" ? detail : (detail || []).map((entry) => entry.msg).join("; ");
}

async function get(path) {
  let answer, document;
  try {
    answer = await fetch(path);
    document = await answer.json();
  } catch {
    throw new Error("The server does not answer.");
  }
  if (!answer.ok) throw new Error(reason(document));
  return document;
}

function complain(text = "") {
  $("wrong").textContent = text;
  $("wrong").hidden = !text;
}

function remarks(words) {
  return words.filter(({mark}) => mark).map(({word, mark, nearest}) =>
    `${mark}${word} is ${mark === "?" ? "not a noun, its meaning is guessed" : "approximate"}` +
    (nearest.length ? `, near ${nearest.join(", ")}` : ""));
}

async function ask(count = STEP) {
  const query = new URLSearchParams(location.search);
  const like = query.has("image"), number = ++asked, began = performance.now();
  drawing.abort();
  drawing = new AbortController();
  $("words").value = query.get("words") || "";
  complain();
  if (!like && !query.get("words")) {
    const {images, model} = await get("/search/about");
    $("told").textContent = `${images.toLocaleString("en")} pictures, model ${model}`;
    $("grid").replaceChildren();
    $("more").hidden = true;
    return;
  }
  query.set("count", count);
  try {
    const {words, hits} = await get((like ? "/search/like?" : "/search/find?") + query);
    if (number !== asked) return;
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    $("told").textContent = [
      (like ? `${hits.length} pictures with a segment like the selected one` : `${hits.length} pictures`) + `, ${seconds} s`,
      ...remarks(words)].join("; ");
    const cells = hits.map(cell);
    $("grid").replaceChildren(...cells);
    fill(cells, hits, number, like ? null : query.get("words"));
    $("more").hidden = hits.length < count || count >= MOST;
    $("more").onclick = () => ask(Math.min(MOST, count + STEP));
  } catch (error) {
    if (number !== asked) return;
    $("told").textContent = "";
    $("grid").replaceChildren();
    $("more").hidden = true;
    complain(error.message);
  }
}

function cell(hit) {
  const image = element("img"), button = element("button");
  image.alt = `${hit.path} ${hit.time}`.trim();
  button.type = "button";
  button.append(image, element("span", element("bdi", hit.time || hit.path), element("b", hit.score.toFixed(2))));
  button.title = hit.path;
  button.addEventListener("click", () => open(hit));
  return button;
}

// Pictures in view come in one answer and are shown row by row as they are drawn, because the browser paints much longer
// when they come singly; after them those further down.
async function fill(cells, hits, number, words) {
  if (!cells.length) return;
  const side = Math.min(1024, Math.ceil(cells[0].clientWidth * Math.min(2, devicePixelRatio)));
  const images = cells.map((one) => one.querySelector("img"));
  const tops = images.map((one) => one.getBoundingClientRect().top);
  const below = tops.findIndex((top) => top >= innerHeight), row = tops.filter((top) => top === tops[0]).length;
  const missing = new Map(hits.map(({image}, index) => [image, index]));
  if (words !== null) {
    const first = hits.slice(0, Math.min(AT_ONCE, below < 0 ? hits.length : below)).map(({image}) => image);
    const drawn = [];
    const show = () => {
      for (const {image, jpeg} of drawn.splice(0)) {
        images[missing.get(image)].src = "data:image/jpeg;base64," + jpeg;
        missing.delete(image);
      }
    };
    try {
      await lines("/search/pictures?" + new URLSearchParams({images: first, words, side}), drawing.signal, (one) => {
        if (one.jpeg && drawn.push(one) === row) show();
      });
    } catch {}  // the server stopped half-way: each picture is requested by itself
    show();
  }
  if (number !== asked) return;
  for (const index of missing.values()) {
    images[index].loading = index < 12 ? "eager" : "lazy";
    images[index].src = `${hits[index].picture}&side=${side}`;
  }
}

// Calls take() with each line of JSON of an answer as it comes.
async function lines(path, signal, take) {
  const reader = (await fetch(path, {signal})).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const whole = (text + value).split("\n");
    text = whole.pop();
    whole.forEach((line) => take(JSON.parse(line)));
  }
}

function open(hit) {
  shown = {image: hit.image, segment: hit.segment};
  $("large").src = hit.picture + "&large=1";
  $("large").alt = hit.path;
  const scores = Object.entries(hit.scores).map(([word, score]) => `${word} ${score.toFixed(3)}`).join(", ");
  $("caption").textContent = [hit.path, hit.time, scores || hit.score.toFixed(3),
    "share" in hit ? `${(100 * hit.share).toFixed(1)} % of the picture` : ""].filter(Boolean).join("  ·  ");
  $("video").hidden = hit.position_s === null;
  if (hit.position_s !== null) $("video").src = `/search/video?image=${hit.image}#t=${hit.position_s}`;
  $("one").showModal();
}

$("large").addEventListener("click", async (event) => {
  const box = $("large").getBoundingClientRect(), {image} = shown;
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  const {segment} = await get(`/search/at?image=${image}&x=${Math.min(1, Math.max(0, x))}&y=${Math.min(1, Math.max(0, y))}`);
  if (shown.image !== image) return;
  shown.segment = segment;
  $("large").src = `/search/picture?image=${image}&segment=${segment}&large=1`;
});
$("like").addEventListener("click", () => {
  history.pushState(null, "", `/search?image=${shown.image}&segment=${shown.segment}`);
  $("one").close();
  ask();
});
$("close").addEventListener("click", () => $("one").close());
$("one").addEventListener("close", () => {
  $("video").removeAttribute("src");
  $("video").load();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  history.pushState(null, "", "/search?" + new URLSearchParams({words: $("words").value.trim()}));
  ask();
});
addEventListener("popstate", () => { $("one").close(); ask(); });
ask();
