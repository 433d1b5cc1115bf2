"""How long the search page takes, in a real Chromium: from Enter to the last picture in view."""

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
# Functions: the page's content security policy forbids the evaluation of a string at every look.
_IS_THERE = "() => document.getElementById('told').textContent"
_ALL_PLACES = "() => parseInt(told.textContent) === document.querySelectorAll('#grid img[src]').length"
_PAUSE_MS = 500  # between two words, in which the pictures below those in view are drawn; a person types for longer


def measure_page(folder: Path, words: list[str], picture: Path | None = None) -> dict:
    """Ask the page of a `zeroseg-serve --collection` for each word once; picture: where a screenshot after the last
    word goes.

    found_ms is the time until the grid has its pictures' places, shown_ms until every picture in view is drawn with its
    masks; words that find nothing are left out. Raises ZerosegError where none is left, or if the server ends.
    """
    from playwright.sync_api import sync_playwright

    with _serving(folder) as address, sync_playwright() as runtime:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = runtime.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=dict(zip(("width", "height"), SIZE)))
        page.goto(f"{address.rstrip('/')}/search")
        page.wait_for_function(_IS_THERE)
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
