"""Photos that are dropped on the page, in a real Chromium."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.live.page.conftest import (
    PURE,
    names,
    near,
    shapes,
    shown,
    swatches,
    wait_until,
)

pytest.importorskip("av")
pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")


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
    wait_until(page, lambda: server.board.viewers == 0)  # no viewer of the live picture is left
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
    assert page.locator("#wrong").inner_text().startswith("notes.txt: Not a readable picture")
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
