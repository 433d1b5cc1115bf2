"""The page in a real Chromium, under its own content policy: what it shows, what takes effect, and on which screens."""

import io
import json
import shutil
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import color_pack
from zeroseg.bench.loopback import MjpegServer
from zeroseg.live.pattern import TestPattern
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sources import open_source
from zeroseg.segment.segmenter import Segmenter

pytest.importorskip("av")
pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 30_000
SIZE = (320, 192)
JPEG = 4  # mean difference of 255 between a picture and its JPEG, scaled on the screen and back
PURE = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)])  # the pattern's shapes, in the order of its labels


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as runtime:
        try:
            browser = runtime.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started (apt install chromium): {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def serve(color_segmenter, color_words):
    """serve(source, its address or None) -> (server, pipeline or None), running."""
    from zeroseg.live.server import Server

    running = []

    def serve(source=f"test://?size={SIZE[0]}x{SIZE[1]}&fps=15", **options):
        segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
        source = open_source(source) if isinstance(source, str) else source
        pipeline = source and Pipeline(source, segmenter)
        server = Server(segmenter, pipeline, "127.0.0.1", 0, **options).start()
        running.append((server, pipeline and pipeline.start()))
        return running[-1]

    yield serve
    for server, pipeline in running:
        server.stop()
        if pipeline:
            pipeline.stop()
            assert pipeline.join(10)
            pipeline.close()


@pytest.fixture
def visit(browser):
    """visit(server) -> a page there. Afterwards nothing may have gone wrong in it, or been asked of anyone else."""
    problems, foreign, contexts = [], [], []

    def visit(server, width=1000, height=600, legend_rows=3, query="", events=None, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: (
                foreign.append(request.url)
                if not request.url.startswith((f"http://127.0.0.1:{server.port}/", "data:", "blob:"))
                else None
            ),
        )
        if events is not None:  # instead of the server's
            page.route("**/events", lambda route: route.fulfill(body=events, content_type="text/event-stream"))
        page.goto(f"http://127.0.0.1:{server.port}/{query}")
        if legend_rows:
            page.locator("#legend tr").nth(legend_rows - 1).wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    # the browser notes refused words itself, and a server that is not there
    assert [line for line in problems if not any(known in line for known in ("422", "401", "415"))] == []
    assert foreign == []


def wait_until(page, condition):
    end = time.monotonic() + WAIT_MS / 1000
    while not condition():
        assert time.monotonic() < end, "it never came"
        page.wait_for_timeout(20)


def shown(page, selector, size=SIZE):
    """What stands on the screen in a picture's place, without the bars beside it, scaled to (width, height) px."""
    screen = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
    scale = min(screen.width / size[0], screen.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = (screen.width - width) / 2, (screen.height - height) / 2
    return np.asarray(screen.resize(size, box=(left, top, left + width, top + height))).astype(int)


def names(page):
    return [cell.splitlines()[0] for cell in page.locator("#legend tr td:nth-child(2)").all_inner_texts()]


def swatches(page):
    """The legend's colours, (N, 3), as they stand on the screen, by name."""
    marks = page.locator("#legend i.swatch")
    centres = [
        np.asarray(Image.open(io.BytesIO(marks.nth(i).screenshot())).convert("RGB"))[8, 8].astype(int)
        for i in range(marks.count())
    ]
    return dict(zip(names(page), centres))


def shapes(picture):
    """Median colour, on the screen, of where the pattern's three shapes are in a plain (H, W, 3) picture: a function of
    what is shown. Their edges, which are drawn in full colour, are left out.
    """
    masks = [(np.abs(picture.astype(int) - pure).max(-1) < 60) for pure in PURE]
    inner = []
    for mask in masks:
        inside = mask.copy()
        for axis in (0, 1):
            for step in (-4, 4):
                inside &= np.roll(mask, step, axis)
        assert inside.sum() > 50
        inner.append(inside)
    return lambda screen: [np.median(screen[inside], axis=0) for inside in inner]


def near(colors, others):
    return all(np.abs(np.asarray(a) - b).max() <= 16 for a, b in zip(colors, others, strict=True))  # JPEG


def put_labels(server, labels):
    """As another viewer does."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/labels",
        json.dumps({"labels": labels}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request).close()


@pytest.fixture
def photo(tmp_path):
    """(path, plain picture) of a photo with the three shapes."""
    picture = TestPattern("test://?size=160x96").picture(30)
    Image.fromarray(picture).save(tmp_path / "scene.png")
    return tmp_path / "scene.png", picture


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
    assert page.input_value("#labels") == "red, "  # what was typed is what is looked for: let it stand
    put_labels(server, "blue")
    wait_until(page, lambda: page.input_value("#labels") == "blue" and names(page) == ["blue"])


def test_what_changes_in_a_pause_is_seen_at_once(serve, visit, monkeypatch):
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
    assert np.abs(shown(page, "#live") - plain).mean() > 10  # the two are told apart
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


def test_a_state_from_before_a_change_is_passed_over(serve, visit):
    server, _ = serve()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/state") as answer:
        state = json.load(answer)
    states = [{**state, "revision": revision, "threshold": threshold} for revision, threshold in ((2, 0.6), (1, 0.3))]
    page = visit(server, events="".join(f"data: {json.dumps(state)}\n\n" for state in states))
    assert page.input_value("#threshold") == "0.6"


def drop(page, path):
    """Let go of a file over the page, as the desktop does."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data})


def test_a_dropped_photo_is_segmented_and_the_live_picture_left_alone(serve, visit, photo, monkeypatch):
    from zeroseg.live.rest import Photos

    asked, segment = [], Photos.segment

    def noted(photos, data, pack, threshold):
        asked.append(threshold)
        return segment(photos, data, pack, threshold)

    monkeypatch.setattr(Photos, "segment", noted)
    server, pipeline = serve()
    page = visit(server)
    before = pipeline.settings
    drop(page, photo[0])
    page.locator("#back").wait_for()
    page.locator("#snapshot").wait_for()
    assert not page.locator("#live").is_visible() and not page.locator("#pause").is_visible()
    assert "scene.png, 160 × 96" in page.locator("#figures").inner_text()
    wait_until(page, lambda: server.board.viewers == 0)  # nobody sees the live picture
    seen = shapes(photo[1])
    page.fill("#alpha", "1")
    wait_until(page, lambda: near(seen(shown(page, "#photo", (160, 96))), swatches(page).values()))
    with page.expect_download() as download:
        page.click("#snapshot")
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
    assert download.value.suggested_filename == "scene_zeroseg.jpg" and saved.shape == (96, 160, 3)
    assert near(seen(saved), swatches(page).values())
    page.fill("#alpha", "0")
    wait_until(page, lambda: near(seen(shown(page, "#photo", (160, 96))), PURE))
    page.fill("#threshold", "0.9")
    wait_until(page, lambda: asked[-1] == 0.9)
    assert asked[0] == pytest.approx(server.board.output.result.threshold) and pipeline.settings is before
    page.click("#back")
    wait_until(page, lambda: page.locator("#live").is_visible() and not page.locator("#photo").is_visible())
    assert page.input_value("#alpha") == "0.5"


def test_photos_only(serve, visit, photo, tmp_path):
    server, _ = serve(None)
    page = visit(server)
    assert "Choose a photo" in page.locator("#empty").inner_text() and not page.locator("#pause").is_visible()
    with page.expect_file_chooser() as chooser:
        page.locator("#empty button").press("Enter")
    chooser.value.set_files(photo[0])
    page.locator("#snapshot").wait_for()
    with page.expect_file_chooser():
        page.locator("#choose").press(" ")
    seen = shapes(photo[1])
    page.fill("#alpha", "1")
    wait_until(page, lambda: near(seen(shown(page, "#photo", (160, 96))), swatches(page).values()))
    page.fill("#labels", "green")
    wait_until(
        page,
        lambda: (
            names(page) == ["green"]
            and near(seen(shown(page, "#photo", (160, 96))), [PURE[0], swatches(page)["green"], PURE[2]])
        ),
    )
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#file", tmp_path / "notes.txt")
    wait_until(page, lambda: page.locator("#wrong").is_visible())
    assert page.locator("#wrong").inner_text().startswith("notes.txt: Not a picture that can be read")
    page.locator("#empty").wait_for()


def test_a_large_photo_is_scaled_before_it_is_sent(serve, visit, photo, tmp_path):
    """Turned, too, as its camera says: what is sent carries no such note."""
    server, _ = serve(None)
    page = visit(server)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    turned = Image.fromarray(np.rot90(photo[1])).resize((1500, 2500), Image.Resampling.NEAREST)
    turned.save(tmp_path / "large.jpg", exif=exif, quality=90)
    held = []
    page.route("**/segment", lambda route: held.append(route))
    page.set_input_files("#file", tmp_path / "large.jpg")
    wait_until(page, lambda: held)
    assert page.locator("#notice").inner_text() == "Segmenting large.jpg…" and page.locator("#photo").is_visible()
    body = held[0].request.post_data_buffer
    sent = Image.open(io.BytesIO(body[body.index(b"\xff\xd8") :]))
    assert sent.size == (2048, 1229)
    held[0].continue_()
    page.locator("#snapshot").wait_for()
    assert page.locator("#notice").is_hidden()
    assert "large.jpg, 2500 × 1500, seen at 2048 × 1229" in page.locator("#figures").inner_text()
    page.unroute("**/segment")
    page.fill("#alpha", "0")
    seen = shapes(photo[1])
    wait_until(page, lambda: near(seen(shown(page, "#photo", (160, 96))), PURE))


def test_late_answers_change_nothing(serve, visit, photo, tmp_path):
    server, _ = serve()
    page = visit(server)
    shutil.copy(photo[0], tmp_path / "second.png")
    held = []
    page.route("**/segment", lambda route: held.append(route))
    page.set_input_files("#file", photo[0])
    wait_until(page, lambda: len(held) == 1)
    page.set_input_files("#file", tmp_path / "second.png")
    wait_until(page, lambda: len(held) == 2)
    held[1].continue_()
    page.locator("#snapshot").wait_for()
    held[0].fulfill(status=415, json={"detail": "too late"})
    page.fill("#threshold", "0.9")
    wait_until(page, lambda: len(held) == 3)
    assert "second.png" in page.locator("#figures").inner_text() and page.locator("#wrong").is_hidden()
    page.click("#back")
    held[2].fulfill(status=415, json={"detail": "too late"})
    page.locator("#live").wait_for()
    page.wait_for_timeout(300)
    assert page.locator("#back").is_hidden() and page.locator("#wrong").is_hidden()


def test_a_lost_source_is_said(serve, visit):
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
    assert page.locator("#wrong").inner_text() == "It does not fit."
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
