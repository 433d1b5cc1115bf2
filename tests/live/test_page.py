"""The page in a real Chromium: it loads, the picture moves, words take effect, photos can be dropped, nothing leaks."""

import base64
import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import color_pack
from tests.live.test_server import color_words  # noqa: F401 (a fixture)
from zeroseg.live.pattern import TestPattern
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sources import open_source
from zeroseg.segmenter import Segmenter

pytest.importorskip("av")
pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 30_000


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as runtime:
        try:
            browser = runtime.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def served(color_segmenter, color_words):  # noqa: F811
    from zeroseg.live.server import Server

    segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    pipeline = Pipeline(open_source("test://?size=320x192&fps=15"), segmenter)
    server = Server(segmenter, pipeline, "127.0.0.1", 0).start()
    pipeline.start()
    yield server, pipeline
    server.stop()
    pipeline.stop()
    assert pipeline.join(10)
    pipeline.close()


def pixels(page, selector):
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")).astype(int)


def shown(page, selector, size):
    """What stands on the screen in a picture's place, without the bars beside it, at (width, height) px."""
    screen = Image.fromarray(pixels(page, selector).astype(np.uint8))
    scale = min(screen.width / size[0], screen.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = (screen.width - width) / 2, (screen.height - height) / 2
    return np.asarray(screen.resize(size, box=(left, top, left + width, top + height))).astype(int)


def legend(page):
    return page.locator("#legend tr td:nth-child(2)").all_inner_texts()


def test_page(browser, served, tmp_path):
    server, pipeline = served
    strict = browser.new_page()  # as users have it; below, the tool's own scripts need an exception from the policy
    refused = []
    strict.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    strict.goto(server.address)
    strict.locator("#legend tr").nth(2).wait_for(timeout=WAIT_MS)
    strict.close()
    assert refused == []
    page = browser.new_page(viewport={"width": 1000, "height": 600}, bypass_csp=True)
    problems, foreign = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: foreign.append(request.url) if not request.url.startswith(
        (f"http://127.0.0.1:{server.port}/", "data:", "blob:")) else None)
    page.goto(server.address)
    page.wait_for_function("document.querySelectorAll('#legend tr').length === 3", timeout=WAIT_MS)
    page.wait_for_function("document.getElementById('live').naturalWidth === 320", timeout=WAIT_MS)
    assert legend(page) == ["red", "green", "blue"]
    figures = page.locator("#figures").inner_text()
    assert all(word in figures for word in ("FPS", "latency", "network", "dropped", "colors (onnxruntime)"))

    first = pixels(page, "#live")  # the picture moves
    end = time.monotonic() + 20
    while (np.abs(pixels(page, "#live") - first).max(-1) > 60).mean() < 0.02:
        assert time.monotonic() < end

    page.fill("#labels", "blue, <b>zzz</b>, zzz")  # words take effect, and are text, never markup
    page.wait_for_function("document.querySelectorAll('#legend tr').length === 3 && "
                           "document.querySelector('#legend td:nth-child(2)').textContent === 'blue'", timeout=WAIT_MS)
    assert pipeline.settings.pack.names == ["blue", "<b>zzz</b>", "zzz"]
    assert legend(page)[1] in ("<b>zzz</b>", "~<b>zzz</b>", "?<b>zzz</b>") and legend(page)[2] in ("~zzz", "?zzz")
    assert page.locator("#legend b").count() == 0 and "near black" in page.locator("#approximate").inner_text()

    page.fill("#labels", "bad")
    page.wait_for_function("!document.getElementById('wrong').hidden", timeout=WAIT_MS)
    assert "no letters in it" in page.locator("#wrong").inner_text()
    assert pipeline.settings.pack.names[0] == "blue"
    page.fill("#labels", "red")
    page.wait_for_function("document.querySelectorAll('#legend tr').length === 1", timeout=WAIT_MS)

    page.evaluate("const s = document.getElementById('threshold'); s.value = 0.9; s.dispatchEvent(new Event('input'))")
    page.evaluate("const s = document.getElementById('alpha'); s.value = 0; s.dispatchEvent(new Event('input'))")
    wait_until(page, lambda: (pipeline.settings.threshold, pipeline.settings.alpha) == (0.9, 0.0))

    page.click("#pause")
    wait_until(page, lambda: pipeline.settings.paused)
    page.wait_for_function("document.getElementById('pause').textContent === 'Go on'", timeout=WAIT_MS)
    page.click("#pause")
    wait_until(page, lambda: not pipeline.settings.paused)

    with page.expect_download() as download:
        page.click("#snapshot")
    assert Image.open(download.value.path()).size == (320, 192)

    photo = TestPattern("test://?size=160x96").picture(30)
    data = io.BytesIO()
    Image.fromarray(photo).save(data, "PNG")
    page.evaluate("""text => {
        const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "scene.png", {type: "image/png"}));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }""", base64.b64encode(data.getvalue()).decode())
    page.wait_for_function("document.getElementById('photo').naturalWidth === 160", timeout=WAIT_MS)
    assert "scene.png, 160 × 96" in page.locator("#figures").inner_text() and not page.locator("#live").is_visible()
    page.click("#back")
    page.wait_for_function("document.getElementById('live').naturalWidth === 320", timeout=WAIT_MS)

    page.set_viewport_size({"width": 360, "height": 740})  # a phone: one column, nothing cut off at the side
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [page.locator(selector).bounding_box() for selector in ("#stage", "#panel")]
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    expected = [line for line in problems if "422" in line]  # the browser notes the refused word itself
    assert problems == expected and len(expected) <= 1 and foreign == []
    page.close()


def wait_until(page, condition):
    end = time.monotonic() + WAIT_MS / 1000
    while not condition():
        assert time.monotonic() < end, "it never came"
        page.wait_for_timeout(20)


def test_what_changes_in_a_pause_is_seen_at_once(browser, served, monkeypatch):
    """No picture is sent twice here: each must be on the screen though no other follows it."""
    monkeypatch.setattr("zeroseg.live.server._QUIET_S", 3600.0)
    server, pipeline = served
    page = browser.new_page(viewport={"width": 1000, "height": 600})
    page.goto(server.address)
    page.locator("#legend tr").nth(2).wait_for(timeout=WAIT_MS)
    page.click("#pause")
    wait_until(page, lambda: pipeline.settings.paused)

    def on_screen(page):
        drawn = server.board.output.picture
        return np.abs(shown(page, "#live", drawn.shape[1::-1]) - drawn).mean() < 4  # JPEG, and scaling by the browser

    for alpha in (1.0, 0.0, 1.0):
        number = server.board.number
        pipeline.change(alpha=alpha)
        wait_until(page, lambda: server.board.number > number)  # noqa: B023 (called here)
        wait_until(page, lambda: on_screen(page))
    plain = server.board.output.frame.image
    assert np.abs(shown(page, "#live", plain.shape[1::-1]) - plain).mean() > 10  # the two are told apart
    late = browser.new_page(viewport={"width": 1000, "height": 600})  # nothing moves when this viewer comes
    late.goto(server.address)
    wait_until(late, lambda: late.locator("#live").is_visible() and on_screen(late))
    late.close()
    page.close()
