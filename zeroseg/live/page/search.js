"use strict";
// The search page: a search box and a grid of pictures. The address holds the query, so that Back works.
const $ = (id) => document.getElementById(id);
const STEP = 40, MOST = 500;  // pictures per request, and in all
const AT_ONCE = 100;          // pictures that come with one answer
const GAP = 8, CAPTION = 30;  // px between cells of the grid, and below a picture
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
  const {columns, rows, width} = grid(), side = Math.min(1024, Math.ceil(width * Math.min(2, devicePixelRatio)));
  query.set("count", count);
  query.set("draw", Math.min(AT_ONCE, count, columns * rows));
  query.set("side", side);
  let hits, images, later;  // later: the cells of the pictures further down
  const drawn = [], places = new Map();
  const show = () => {
    for (const {image, jpeg} of drawn.splice(0)) {
      images[places.get(image)].src = "data:image/jpeg;base64," + jpeg;
      places.delete(image);
    }
  };
  const take = (one) => {
    if (number !== asked) return;
    if (hits) {  // row by row, because the browser paints much longer when pictures come singly
      if (one.jpeg && drawn.push(one) === columns) show();
      return;
    }
    hits = one.hits;
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    $("told").textContent = [
      (like ? `${hits.length} pictures with a segment like the selected one` : `${hits.length} pictures`) + `, ${seconds} s`,
      ...remarks(one.words)].join("; ");
    const cells = hits.map(cell);
    images = cells.map((made) => made.querySelector("img"));
    hits.forEach(({image}, index) => places.set(image, index));
    later = cells.splice(query.get("draw"));
    $("grid").replaceChildren(...cells);
    $("more").hidden = hits.length < count || count >= MOST;
    $("more").onclick = () => ask(Math.min(MOST, count + STEP));
  };
  try {
    await lines((like ? "/search/like?" : "/search/find?") + query, drawing.signal, take);
    if (!hits) return;
    show();
  } catch (error) {
    if (number !== asked) return;
    if (!hits) {
      $("told").textContent = "";
      $("grid").replaceChildren();
      $("more").hidden = true;
      complain(error.message);
      return;
    }
    show();  // the server stopped half-way: each picture is requested by itself
  }
  // The others follow when those are painted, so that they do not take the processor from them.
  await Promise.all(images.slice(0, images.length - later.length).map((one) => one.src && one.decode().catch(() => {})));
  await new Promise(requestAnimationFrame);
  if (number !== asked) return;
  $("grid").append(...later);
  for (const index of places.values()) {
    images[index].loading = "lazy";
    images[index].src = `${hits[index].picture}&side=${side}`;
  }
}

// The grid before its cells are there: its columns and the rows in view, and the width of a picture in px.
function grid() {
  const style = getComputedStyle($("grid")), widths = style.gridTemplateColumns.split(" ").map(parseFloat);
  const width = widths[0] || 200, height = innerHeight - $("grid").getBoundingClientRect().top;
  return {columns: widths.length, rows: Math.max(1, Math.ceil(height / (0.75 * width + CAPTION + GAP))), width};
}

function cell(hit) {
  const image = element("img"), button = element("button");
  image.decoding = "sync";  // painted once, with the picture
  image.alt = `${hit.path} ${hit.time}`.trim();
  button.type = "button";
  button.append(image, element("span", element("bdi", hit.time || hit.path), element("b", hit.score.toFixed(2))));
  button.title = hit.path;
  button.addEventListener("click", () => open(hit));
  return button;
}

// Calls take() with each line of JSON of an answer as it comes.
async function lines(path, signal, take) {
  let answer;
  try {
    answer = await fetch(path, {signal});
  } catch (error) {
    throw signal.aborted ? error : new Error("The server does not answer.");
  }
  if (!answer.ok) throw new Error(reason(await answer.json()));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
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
