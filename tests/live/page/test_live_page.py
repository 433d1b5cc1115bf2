"""The page in a real Chromium, under its own content policy: what it shows, what takes effect, and on which screens."""

import json
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tests.live.page.conftest import (
    JPEG,
    PURE,
    SIZE,
    names,
    near,
    put_labels,
    shapes,
    shown,
    swatches,
    wait_until,
)
from zeroseg.bench.loopback import MjpegServer
from zeroseg.live.pattern import TestPattern
from zeroseg.live.sources import open_source

pytest.importorskip("av")
pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")


def test_live_picture_moves_and_is_described(serve, visit):
    server, _ = serve()
    page = visit(server)
    assert names(page) == ["red", "green", "blue"]
    panel = page.locator("#panel").inner_text()
    assert all(word in panel for word in ("FPS", "latency", "network", "dropped", "colors (onnxruntime)"))
    first = shown(page, "#live")
    wait_until(page, lambda: (np.abs(shown(page, "#live") - first).max(-1) > 60).mean() > 0.02)
    with page.expect_download() as download:
        page.click("#snapshot")
    assert Image.open(download.value.path()).size == SIZE


def test_words_change_legend_and_masks(serve, visit, photo):
    server, pipeline = serve(open_source(str(photo[0]), pace=True, loop=True))
    pipeline.change(alpha=1.0)
    page = visit(server)
    seen = shapes(photo[1])
    wait_until(page, lambda: near(seen(shown(page, "#live", (160, 96))), swatches(page).values()))
    page.fill("#labels", "blue, <b>zzz</b>; zzz")
    wait_until(page, lambda: len(names(page)) == 3 and names(page)[0] == "blue")
    assert pipeline.settings.pack.names == ["blue", "<b>zzz</b>", "zzz"]
    assert names(page)[1].endswith("<b>zzz</b>") and names(page)[2] in ("~zzz", "?zzz")  # text, never markup
    assert page.locator("#legend b").count() == 0
    assert page.locator("#legend small").last.inner_text().endswith("near black")
    wait_until(page, lambda: near(seen(shown(page, "#live", (160, 96))), [PURE[0], PURE[1], swatches(page)["blue"]]))


def test_refused_words_are_explained_until_they_are_mended(serve, visit):
    server, pipeline = serve()
    page = visit(server)
    wrong = page.locator("#wrong")
    page.fill("#labels", "bad")
    wait_until(page, lambda: wrong.is_visible() and wrong.inner_text() == "Label 'bad': no letters in it")
    page.fill("#labels", " ,")
    wait_until(page, lambda: wrong.inner_text() == "Type a word, such as cat.")
    assert pipeline.settings.pack.names == ["red", "green", "blue"]
    page.keyboard.press("Tab")  # who leaves the box empty finds there what is looked for
    wait_until(page, lambda: wrong.is_hidden() and page.input_value("#labels") == "red, green, blue")
    page.fill("#labels", "green")
    wait_until(page, lambda: names(page) == ["green"])
    assert wrong.is_hidden()


def test_words_of_another_viewer_reach_a_box_that_is_idle(serve, visit):
    server, _ = serve()
    page = visit(server)
    page.fill("#labels", "red, ")
    wait_until(page, lambda: names(page) == ["red"])
    page.wait_for_timeout(2500)  # longer than it takes to be idle
    assert page.input_value("#labels") == "red, "  # the typed text already gives these words, so it stays
    put_labels(server, "blue")
    wait_until(page, lambda: page.input_value("#labels") == "blue" and names(page) == ["blue"])


def test_changes_in_a_pause_are_seen_at_once(serve, visit, monkeypatch):
    """No picture is sent twice here: each must be on the screen though no other follows it."""
    monkeypatch.setattr("zeroseg.live.streams._QUIET_S", 3600.0)
    server, pipeline = serve()
    page = visit(server)
    page.click("#pause")
    wait_until(page, lambda: pipeline.settings.paused)
    wait_until(page, lambda: page.locator("#notice").inner_text() == "Paused")

    def on_screen(page):
        return np.abs(shown(page, "#live") - server.board.output.picture).mean() < JPEG

    for alpha in (1.0, 0.0, 1.0):
        number = server.board.number
        pipeline.change(alpha=alpha)
        wait_until(page, lambda: server.board.number > number)  # noqa: B023 (called here)
        wait_until(page, lambda: on_screen(page))
    plain = server.board.output.frame.image
    assert np.abs(shown(page, "#live") - plain).mean() > 10  # the two differ
    late = visit(server)  # nothing moves when this viewer comes
    wait_until(late, lambda: late.locator("#live").is_visible() and on_screen(late))
    page.click("#pause")
    wait_until(page, lambda: not pipeline.settings.paused)


def test_sliders_stay_where_they_are_put(serve, visit):
    """While the server has not confirmed a value, states with the old one go on coming."""
    server, pipeline = serve()
    page = visit(server)
    held = []
    page.route("**/settings", lambda route: held.append(route))
    page.fill("#threshold", "0.9")
    wait_until(page, lambda: held)
    page.fill("#threshold", "0.7")
    before = page.locator("#stages").inner_text()
    wait_until(page, lambda: page.locator("#stages").inner_text() != before)  # a newer state has been shown
    assert page.input_value("#threshold") == "0.7" and page.locator("#threshold-value").inner_text() == "0.700"
    held.pop().continue_()
    wait_until(page, lambda: held)
    assert pipeline.settings.threshold == 0.9 and page.input_value("#threshold") == "0.7"
    held.pop().continue_()
    wait_until(page, lambda: pipeline.settings.threshold == 0.7)
    page.unroute("**/settings")
    page.fill("#alpha", "0.25")
    wait_until(page, lambda: pipeline.settings.alpha == 0.25)
    page.click("#reset")
    wait_until(page, lambda: pipeline.settings.threshold is None and page.locator("#reset").is_hidden())
    assert pipeline.settings.alpha == 0.25


def test_a_state_older_than_a_change_is_ignored(serve, visit):
    server, _ = serve()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/state") as answer:
        state = json.load(answer)
    states = [{**state, "revision": revision, "threshold": threshold} for revision, threshold in ((2, 0.6), (1, 0.3))]
    page = visit(server, events="".join(f"data: {json.dumps(state)}\n\n" for state in states))
    assert page.input_value("#threshold") == "0.6"


def test_a_lost_source_is_shown(serve, visit):
    camera = MjpegServer(TestPattern(f"test://?size={SIZE[0]}x{SIZE[1]}").picture, rate=10)
    server, _ = serve(camera.url)
    page = visit(server)
    page.locator("#live").wait_for()
    notice = page.locator("#notice")
    assert notice.is_hidden()
    camera.kill()
    wait_until(page, lambda: notice.is_visible() and notice.inner_text().startswith("The source is lost ("))
    camera.restore()
    wait_until(page, notice.is_hidden)
    camera.kill()


def test_the_token_is_asked_for(serve, visit):
    server, _ = serve(token="correct horse")
    page = visit(server, legend_rows=0, query="?token=wrong")
    assert page.locator("#wrong").inner_text() == "Wrong token."
    page.fill("#token", "correct horse")
    page.keyboard.press("Enter")
    page.locator("#legend tr").nth(2).wait_for()
    assert page.url == f"http://127.0.0.1:{server.port}/"


def test_many_words_push_nothing_off_the_screen(serve, visit):
    server, _ = serve()
    put_labels(server, ", ".join(["red", *(f"thing {i}" for i in range(28)), "blue"]))

    def box(page, selector):
        found = page.locator(selector).bounding_box()
        return found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"]

    desk = visit(server, 1280, 800, legend_rows=30)
    for selector in ("#stage", "#labels", "#buttons", "#sliders", "#tiles"):
        left, top, right, bottom = box(desk, selector)
        assert 0 <= left < right <= 1280 and 0 <= top < bottom <= 800, selector
    # those that are found come first: the first thing is the dark ground
    wait_until(desk, lambda: set(names(desk)[:3]) == {"red", "thing 0", "blue"})
    side = visit(server, 844, 390, legend_rows=30, is_mobile=True, has_touch=True)
    assert box(side, "#stage")[3] <= 390 and box(side, "#stage")[2] <= box(side, "#panel")[0]
    phone = visit(server, 390, 844, legend_rows=30, is_mobile=True, has_touch=True)
    assert box(phone, "#panel")[1] >= box(phone, "#stage")[3] and box(phone, "#panel")[2] <= 390
    assert box(phone, "#sliders")[3] <= 844  # without scrolling
    phone.mouse.wheel(0, 400)
    wait_until(phone, lambda: box(phone, "#panel")[1] < 0)
    assert box(phone, "#stage")[1] == 0  # the picture stays
    for page in (desk, side, phone):
        page.set_viewport_size({"width": 320, "height": 640})
        wait_until(page, lambda: box(page, "#panel")[2] <= 320)  # noqa: B023 (called here)
