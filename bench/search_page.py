"""How long the search page takes, in a real Chromium: from Enter to the last picture in view."""

import shutil
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.search.collection import Collection

SIZE = (1280, 800)  # px of the window
_WAIT_MS = 20_000
# It waits for events: a look at every frame would itself take a third of a core without a GPU.
_ASK = """async ([word, wait]) => {
  const grid = document.getElementById("grid"), told = document.getElementById("told"), begun = performance.now();
  const late = new Promise((_, wrong) => setTimeout(() => wrong(new Error(`${word}: no whole answer in time`)), wait));
  document.getElementById("words").value = word;
  grid.replaceChildren();
  told.textContent = "";
  const answered = new Promise((tell) => new MutationObserver((_, observer) => {
    if (told.textContent) { observer.disconnect(); tell(); }
  }).observe(document.body, {childList: true, characterData: true, subtree: true}));
  document.getElementById("ask").requestSubmit();
  await Promise.race([answered, late]);
  const inView = [...grid.querySelectorAll("img")].filter((one) => one.getBoundingClientRect().top < innerHeight);
  const found = performance.now() - begun;
  const loaded = (one) => one.complete && one.naturalWidth ? null : new Promise((tell) => { one.onload = tell; });
  await Promise.race([Promise.all(inView.map(loaded)), late]);
  await Promise.race([Promise.all(inView.map((one) => one.decode())), late]);
  await new Promise(requestAnimationFrame);
  return [found, performance.now() - begun, inView.length];
}"""
_IDLE = (
    "[...document.querySelectorAll('#grid img')].every((one) => one.src && (one.complete || one.loading === 'lazy'))"
)


def measure_page(folder: Path, words: list[str], picture: Path | None = None) -> dict:
    """Ask the page for each word once; picture: where a screenshot after the last word goes.

    found_ms is the time until the grid has its pictures' places, shown_ms until every picture in view is drawn with its
    masks; words that find nothing are left out. Raises ZerosegError where none is left.
    """
    from playwright.sync_api import sync_playwright

    from zeroseg.live.listening import Listening
    from zeroseg.live.search_page import make_search_app

    collection = Collection.open(folder)
    collection.state()
    server = Listening(make_search_app(collection), "127.0.0.1", 0, None).start()
    try:
        with sync_playwright() as runtime:
            program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
            browser = runtime.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport=dict(zip(("width", "height"), SIZE)))
            page.goto(f"{server.address.rstrip('/')}/search")
            page.wait_for_function("document.getElementById('told').textContent")
            rows = []
            for word in words:
                rows.append(page.evaluate(_ASK, [word, _WAIT_MS]))
                page.wait_for_function(_IDLE)  # the pictures below those in view, of which a person waits for none
            rows = [row for row in rows if row[2]]
            if picture is not None:
                page.screenshot(path=picture, type="jpeg", quality=80)
            browser.close()
    finally:
        server.stop()
    if not rows:
        raise ZerosegError(f"{folder}: none of the words was found; name others with --words")
    found, shown, counts = np.array(rows).T
    return {
        "images": len(collection),
        "words": len(rows),
        "pictures_in_view": float(np.median(counts)),
        "found_ms": float(np.median(found)),
        "shown_ms": float(np.median(shown)),
        "shown_p95_ms": float(np.percentile(shown, 95)),
    }
