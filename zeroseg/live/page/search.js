"use strict";
// The search page: a search box and a grid of pictures. The address holds the query, so that Back works.
const $ = (id) => document.getElementById(id);
const STEP = 40, MOST = 500;  // pictures per request, and in all
const PATIENCE_MS = 250;      // how long the earlier pictures stay while the new ones get ready
const GAP = 8, CAPTION = 30;  // px between cells of the grid, and below a picture
let asked = 0;                // the number of the newest request; older answers are not shown
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
  let answer;
  try {
    answer = await get((like ? "/search/like?" : "/search/find?") + query);
  } catch (error) {
    if (number !== asked) return;
    $("told").textContent = "";
    $("grid").replaceChildren();
    $("more").hidden = true;
    complain(error.message);
    return;
  }
  if (number !== asked) return;
  const {hits, words} = answer, seconds = ((performance.now() - began) / 1000).toFixed(2);
  const {columns, rows, width} = grid(), side = Math.min(1024, Math.ceil(width * Math.min(2, devicePixelRatio)));
  const cells = hits.map(cell), images = cells.map((made) => made.querySelector("img")), inView = columns * rows;
  const load = (from, to) => {  // the pictures come in rows, and each place shows its part of one
    for (let at = from; at < Math.min(to, hits.length); at += columns) {
      const some = hits.slice(at, at + columns), row = new URLSearchParams({side});
      some.forEach(({image}) => row.append("image", image));
      if (like) some.forEach(({segment}) => row.append("segment", segment));
      else row.set("words", query.get("words"));
      images.slice(at, at + columns).forEach((image, i) => {
        image.src = "/search/row?" + row;
        image.style.objectPosition = `${100 * i / Math.max(1, some.length - 1)}% 0`;
      });
    }
  };
  load(0, inView);
  const drawn = Promise.all(images.slice(0, inView).map((one) => one.decode().catch(() => {})));
  await Promise.race([drawn, new Promise((go) => setTimeout(go, PATIENCE_MS))]);
  if (number !== asked) return;
  $("told").textContent = [
    (like ? `${hits.length} pictures with a segment like the selected one` : `${hits.length} pictures`) + `, ${seconds} s`,
    ...remarks(words)].join("; ");
  $("grid").replaceChildren(...cells.slice(0, inView));
  $("more").hidden = hits.length < count || count >= MOST;
  $("more").onclick = () => ask(Math.min(MOST, count + STEP));
  // The others follow when those are painted, so that they do not take the processor from them.
  await drawn;
  await new Promise(requestAnimationFrame);
  if (number !== asked) return;
  $("grid").append(...cells.slice(inView));
  images.slice(inView).forEach((one) => { one.loading = "lazy"; });
  load(inView, hits.length);
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

function open(hit) {
  shown = {image: hit.image, segment: hit.segment};
  $("large").src = hit.picture;
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
  $("large").src = `/search/picture?image=${image}&segment=${segment}`;
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
