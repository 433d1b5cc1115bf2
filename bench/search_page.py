"""How long the search page takes, in a real Chromium: from Enter to the frame with the last picture in view."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.search.collection import Collection

SIZE = (1280, 800)  # px of the window
_WAIT_MS = 20_000
# It waits for events: a look at every frame would itself take a third of a core without a GPU. A picture is there when
# Chromium says that a frame with it is on the screen (Element Timing), not when it is loaded.
_ASK = """async ([word, wait]) => {
  const grid = document.getElementById("grid"), told = document.getElementById("told"), begun = performance.now();
  const late = new Promise((_, wrong) => setTimeout(() => wrong(new Error(`${word}: no whole answer in time`)), wait));
  const painted = new Map(), inView = new Set();
  performance.clearResourceTimings();
  document.getElementById("words").value = word;
  grid.replaceChildren();
  told.textContent = "";
  const answered = new Promise((tell) => new MutationObserver((_, observer) => {
    if (!told.textContent) return;
    observer.disconnect();
    for (const one of grid.querySelectorAll("img"))
      if (one.getBoundingClientRect().top < innerHeight) { inView.add(one); one.setAttribute("elementtiming", word); }
    tell();
  }).observe(document.body, {childList: true, characterData: true, subtree: true}));
  const all = new Promise((tell) => new PerformanceObserver((list, observer) => {
    for (const {name, element, renderTime} of list.getEntries())
      if (name === "image-paint") painted.set(element, renderTime);  // not the text in place of a picture
    if ([...inView].every((one) => painted.has(one))) { observer.disconnect(); tell(); }
  }).observe({type: "element"}));
  document.getElementById("ask").requestSubmit();
  await Promise.race([answered, late]);
  if (inView.size) await Promise.race([all, late]);
  const found = performance.getEntriesByType("resource").find(({name}) => name.includes("/search/find?"));
  return [found.responseEnd - begun, Math.max(begun, ...painted.values()) - begun, inView.size];
}"""
# Functions: the page's content security policy forbids the evaluation of a string at every look.
_IS_THERE = "() => document.getElementById('told').textContent"
_ALL_PLACES = "() => parseInt(told.textContent) === document.querySelectorAll('#grid img[src]').length"
# Before each word, for the pictures below those in view and for the start of Chromium. A person types for longer.
_PAUSE_MS = 500


def measure_page(folder: Path, words: list[str], picture: Path | None = None) -> dict:
    """Ask the page of a `zeroseg-serve --collection` for each word once; picture: where a screenshot after the last
    word goes.

    found_ms is the time until the server's answer is there, shown_ms until every picture in view is on the screen with
    its masks; words that find nothing are left out. Raises ZerosegError where none is left, or if the server ends.
    """
    from playwright.sync_api import sync_playwright

    with _serving(folder) as address, sync_playwright() as runtime:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = runtime.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=dict(zip(("width", "height"), SIZE)))
        page.goto(f"{address.rstrip('/')}/search")
        page.wait_for_function(_IS_THERE)
        page.wait_for_timeout(_PAUSE_MS)
        rows = []
        for word in words:
            rows.append(page.evaluate(_ASK, [word, _WAIT_MS]))
            page.wait_for_function(_ALL_PLACES)
            page.wait_for_timeout(_PAUSE_MS)
        rows = [row for row in rows if row[2]]
        if picture is not None:
            page.screenshot(path=picture, type="jpeg", quality=80)
        browser.close()
    if not rows:
        raise ZerosegError(f"{folder}: none of the words was found; name others with --words")
    found, shown, counts = np.array(rows).T
    return {
        "images": len(Collection.open(folder)),
        "words": len(rows),
        "pictures_in_view": float(np.median(counts)),
        "found_ms": float(np.median(found)),
        "shown_ms": float(np.median(shown)),
        "shown_p95_ms": float(np.percentile(shown, 95)),
    }


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """Run zeroseg-serve on a collection as a process of its own; gives its address."""
    program = [sys.executable, "-c", "from zeroseg.commands.serve import main; main()"]
    server = subprocess.Popen([*program, "--collection", folder, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:
            if address := re.search(r"http://\S+", line):
                yield address[0]
                return
        raise ZerosegError(f"zeroseg-serve --collection {folder}: ended without serving")
    finally:
        server.terminate()
        server.wait()
