"use strict";
// The search page: a search box and a grid of pictures. The address holds the query, so that Back works.
const $ = (id) => document.getElementById(id);
const STEP = 40, MOST = 500;  // pictures per request, and in all
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
  try {
    const {words, hits} = await get((like ? "/search/like?" : "/search/find?") + query);
    if (number !== asked) return;
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    $("told").textContent = [
      (like ? `${hits.length} pictures with a segment like the selected one` : `${hits.length} pictures`) + `, ${seconds} s`,
      ...remarks(words)].join("; ");
    $("grid").replaceChildren(...hits.map(cell));
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

function cell(hit, index) {
  const image = element("img"), button = element("button");
  image.src = hit.picture;
  image.loading = index < 12 ? "eager" : "lazy";
  image.alt = `${hit.path} ${hit.time}`.trim();
  button.type = "button";
  button.append(image, element("span", element("bdi", hit.time || hit.path), element("b", hit.score.toFixed(2))));
  button.title = hit.path;
  button.addEventListener("click", () => open(hit));
  return button;
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
