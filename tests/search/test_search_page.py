"""zeroseg-serve --collection: its answers, the files it never serves, and the page in a real Chromium."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.color_model import vectors
from tests.live.page.conftest import visit, wait_until  # noqa: F401 (fixtures)
from tests.search.conftest import COLORS, command, picture
from zeroseg.drawing import blend, label_colors
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.search.collection import Collection
from zeroseg.search.store import Store
from zeroseg.search.units import Key
from zeroseg.segment.labels import label_pack
from zeroseg.words import LabelPack

pytest.importorskip("fastapi")
from zeroseg.live.search_drawing import LIKE  # noqa: E402

JPEG_MEAN = 4  # mean difference of a value in [0, 255] after two JPEG encodings


@pytest.fixture
def words(monkeypatch):
    """red, green, blue and dark are words for the colour model; others are guesses for dark."""

    def embed(names, text="auto"):
        rows = vectors(*(name if name in COLORS else "dark" for name in names))
        return LabelPack(names, rows, kind=["name" if name in COLORS else "guess" for name in names])

    monkeypatch.setattr("zeroseg.segment.labels.embed_labels", embed)


@pytest.fixture
def client(indexed, words):
    from starlette.testclient import TestClient

    from zeroseg.live.search_page import make_search_app

    def client(**options):
        return TestClient(make_search_app(Collection.open(indexed), **options), base_url="http://127.0.0.1")

    return client


def test_pictures_of_an_answer_are_not_read_again_until_the_table_changes(indexed, words, monkeypatch):
    from fastapi import HTTPException

    from zeroseg.live.search_page import _Searched

    searched = _Searched(Collection.open(indexed), "auto")
    hit, *_ = searched.find("blue", 7)
    read = []
    rows = Store.rows
    monkeypatch.setattr(Store, "rows", lambda *args: read.append(args) or rows(*args))
    assert searched.hit(hit.image).path == hit.path and not read
    Store(indexed).forget([Key(os.fsencode(hit.place.file), -1, 0)])
    monkeypatch.setattr("zeroseg.live.search_page._CHECKED_S", 0)
    with pytest.raises(HTTPException, match="the collection has no image of this number"):
        searched.hit(hit.image)


def test_found_pictures_have_the_masks_drawn(client, indexed):
    with client() as asked:
        found = asked.get("/search/find", params={"words": "red+dark, zzz", "count": 3}).json()
        assert [(one["word"], one["mark"]) for one in found["words"]] == [("red", ""), ("dark", ""), ("zzz", "?")]
        hits = Collection.open(indexed).search("red+dark, zzz", k=3)
        assert [one["image"] for one in found["hits"]] == [hit.image for hit in hits]
        for one, hit in zip(found["hits"], hits, strict=True):
            assert one["share"] == round(hit.share, 4) and one["path"] == hit.path and one["time"] == hit.time
        [red] = [one for one in asked.get("/search/find?words=red").json()["hits"] if "0_red" in one["path"]]
        plain = asked.get(f"/search/picture?image={red['image']}")
        assert plain.headers["content-type"] == "image/jpeg"
        plain, drawn = (
            np.asarray(Image.open(io.BytesIO(asked.get(url).content)), int)
            for url in (f"/search/picture?image={red['image']}", red["picture"])
        )
        assert plain.shape == drawn.shape == (64, 96, 3)
        changed = np.abs(plain - drawn).max(-1) > 30
        assert changed[:, 4:44].mean() > 0.95 and changed[:, 52:].mean() < 0.02  # the left half is red
        at = asked.get(f"/search/at?image={red['image']}&x=0.2&y=0.5").json()["segment"]
        assert at == red["segment"] == 0
        like = asked.get(f"/search/like?image={red['image']}&segment=0&count=2").json()["hits"]
        assert len(like) == 2 and all(one["segment"] == 0 for one in like)


@pytest.mark.parametrize("query", ["find?words=red,zzz", "like?image=1&segment=0"])
def test_a_row_has_each_picture_in_its_cell_with_its_masks(client, indexed, album, query):
    """Also where one's file is gone: its cell stays empty. The pictures are 96 x 64 and the cells 244 x 183 px."""
    with client() as asked:
        hits = asked.get(f"/search/{query}").json()["hits"]
        (album.parent / hits[1]["path"]).unlink()
        shown = [("image", hit["image"]) for hit in hits]
        shown += [("words", "red,zzz")] if "words" in query else [("segment", hit["segment"]) for hit in hits]
        row = np.asarray(Image.open(io.BytesIO(asked.get("/search/row", params=[*shown, ("side", 33)]).content)), int)
        assert row.shape == (183, 244 * len(hits), 3)
        gone = asked.get("/search/row", params=[one for one in shown if one[0] != "image"][:1] + [shown[1]])
    assert gone.status_code == 404 and "if its folder has moved, give --root NEW" in gone.text
    found, pack = Collection.open(indexed), label_pack(["red", "zzz"], Collection.open(indexed).sidecar)
    for place, one in enumerate(hits):
        cell = row[:, 244 * place : 244 * (place + 1)]
        if place == 1:
            assert cell[:, 8:-8].max() < 30
            continue
        segments = found.hit(one["image"]).small(96)
        if "words" in query:
            label_map, colors = segments.masks(pack, edges=False).label_map, label_colors(pack.names)
        else:
            only = np.where(np.arange(len(segments.maps)) == one["segment"], 0, -1).astype(np.int16)
            label_map, colors = mask_decode(segments.maps, only, segments.size)[0], label_colors([LIKE])
        drawn = Image.fromarray(blend(segments.image, label_map, colors, 0.5)).resize((240, 160), Image.BILINEAR)
        expected = np.full((183, 244, 3), (8, 9, 11))
        expected[11:171, 2:242] = drawn
        assert np.abs(cell - expected).mean() < JPEG_MEAN, one["path"]


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/search/find?words=", 422, "no words in it"),
        ("/search/find?words=dog%2B", 422, "expected words, as in"),
        (f"/search/find?words={'a' * 401}", 422, "at most 400"),
        ("/search/find?words=red&count=501", 422, "less than or equal to 500"),
        ("/search/picture?image=99", 404, "image 99: the collection has no image of this number"),
        ("/search/picture?image=../../etc/passwd", 422, "valid integer"),
        ("/search/row?image=0&words=red&side=9999", 422, "less than or equal to 1024"),
        ("/search/row?image=0&image=1&segment=0", 422, "expected words or 2 segments, got 1"),
        ("/search/row?image=99&words=red", 404, "image 99: the collection has no image of this number"),
        ("/search/row?words=red" + 101 * "&image=0", 422, "at most 100"),
        ("/search/row?image=0&words=dog%2B", 422, "expected words, as in"),
        ("/search/like?image=0&segment=9", 404, "has 4 segments, and no segment 9"),
        ("/search/video?image=0", 404, "is not from a video"),
        ("/search/../../etc/passwd", 404, "Not Found"),
    ],
)
def test_wrong_requests_are_one_line(client, path, status, detail):
    with client() as asked:
        answer = asked.get(path)
    assert answer.status_code == status and detail in str(answer.json()["detail"])


def test_token_and_host_rules_hold(client):
    with client(token="long enough") as asked:
        for path in (
            "/search",
            "/search/find?words=red",
            "/search/picture?image=0",
            "/search/row?image=0&words=red",
            "/search.js",
        ):
            assert asked.get(path).status_code == 401
            assert asked.get(path, headers={"Authorization": "Bearer long enough"}).status_code == 200
    with client() as asked:
        assert asked.get("/search", headers={"Host": "evil.example"}).status_code == 403


def test_files_outside_the_collection_are_never_served(client, indexed, album, tmp_path):
    """A table that someone changed, and a link that leads out of the folder."""
    secret = tmp_path / "secret.png"
    picture("red", "green").save(secret)
    store = Store(indexed)
    (album / "0_red.png").unlink()
    (album / "0_red.png").symlink_to(secret)
    files = {"1_green": os.fsencode(secret), "2_blue": b"/etc/passwd", "3_dark": os.fsencode(f"{album}/../secret.png")}
    for name, file in files.items():
        store.table("segments").update(where=f"path LIKE '%{name}%'", values={"file": file, "position_s": 0.5})
    with client() as asked:
        hits = {one["path"]: one["image"] for one in asked.get("/search/find?words=red").json()["hits"]}
        for image in (number for path, number in hits.items() if path != "album/blue only.png"):
            for path in ("picture", "row", "video", "like", "at"):
                answer = asked.get(f"/search/{path}?image={image}&segment=0&x=0&y=0")
                assert answer.status_code == 404 and "is outside the collection's folders" in answer.text, path
        row = asked.get("/search/row", params={"image": list(hits.values()), "words": "red"}).content
        for path, cell in zip(hits, np.split(np.asarray(Image.open(io.BytesIO(row))), len(hits), axis=1), strict=True):
            assert (cell[:, 8:-8].max() > 100) == (path == "album/blue only.png")
        assert len(hits) == 5 and asked.get(f"/search/picture?image={hits['album/blue only.png']}").status_code == 200


def test_a_missing_photo_is_reported(client, album):
    (album / "0_red.png").unlink()
    with client() as asked:
        hits = {one["path"]: one["picture"] for one in asked.get("/search/find?words=red").json()["hits"]}
        answer = asked.get(hits["album/0_red.png"])
        assert answer.status_code == 404 and "if its folder has moved, give --root NEW" in answer.text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing option '--labels'"),
        (("--collection", "nowhere"), "nowhere: no such collection"),
        (("--collection", "nowhere", "test://"), "goes with photos only"),
        (("--root", "x", "--labels", "red"), "--root: goes with --collection"),
        (("--collection", "nowhere", "--host", "0.0.0.0"), "give --token SECRET"),
    ],
)
def test_wrong_options_are_one_line(args, message):
    done = command("serve", *args)
    assert done.exit_code in (1, 2) and message in done.output and "Traceback" not in done.output


@pytest.fixture
def served(indexed, album, color_model, words):
    """The collection with a video in it, served."""
    pytest.importorskip("playwright.sync_api")
    from tests.live.conftest import write_video
    from zeroseg.live.listening import Listening
    from zeroseg.live.search_page import make_search_app

    red, blue = (np.asarray(picture(name, name)) for name in ("red", "blue"))
    write_video(album / "clip.mp4", [red] * 10 + [blue] * 10, rate=10)
    assert command("index", "-o", "collection", "--model", color_model, "--processes", 1).exit_code == 0
    server = Listening(make_search_app(Collection.open(indexed)), "127.0.0.1", 0).start()
    yield server
    server.stop()


def test_the_page_in_chromium(served, visit, tmp_path):  # noqa: F811
    """Words, the grid with masks, one picture, its segments, similar ones, a position in a video, a phone's screen."""
    page = visit(served, legend_rows=0, query="search")
    wait_until(page, lambda: "7 pictures" in page.locator("#told").inner_text())
    page.fill("#words", "blue")
    page.keyboard.press("Enter")
    cells = page.locator("#grid button")
    wait_until(page, lambda: cells.count() == 7)
    wait_until(page, lambda: page.evaluate("[...document.querySelectorAll('#grid img')].every(i => i.naturalWidth)"))
    assert "words=blue" in page.url
    only = page.locator("#grid button[title='album/blue only.png']")
    shot = np.asarray(Image.open(io.BytesIO(only.locator("img").screenshot())).convert("RGB"), int)
    assert np.abs(shot[len(shot) // 2, shot.shape[1] // 2] - COLORS["blue"]).max() > 40  # tinted
    red = np.asarray(
        Image.open(io.BytesIO(page.locator("[title='album/0_red.png'] img").screenshot())).convert("RGB"), int
    )
    assert np.abs(red[len(red) // 2, red.shape[1] // 4] - COLORS["red"]).max() < 40  # its own part of the row's picture
    only.click()
    page.locator("#large").wait_for()
    assert "album/blue only.png" in page.locator("#caption").inner_text()
    assert "100.0 % of the picture" in page.locator("#caption").inner_text() and not page.locator("#video").is_visible()
    page.click("#close")
    moment = page.locator("#grid button[title='album/clip.mp4']").filter(has_text="0:00:01.0")
    moment.click()
    page.locator("#video").wait_for()
    wait_until(page, lambda: page.evaluate("document.getElementById('video').networkState") != 0)
    assert page.get_attribute("#video", "src").endswith("#t=1") and "0:00:01.0" in page.locator("#caption").inner_text()
    wait_until(page, lambda: page.evaluate("document.getElementById('large').naturalWidth"))
    page.locator("#large").click(position={"x": 10, "y": 10})
    wait_until(page, lambda: "segment=2" in page.get_attribute("#large", "src"))
    page.click("#like")
    wait_until(page, lambda: "with a segment like the selected one" in page.locator("#told").inner_text())
    assert cells.count() == 6 and "segment=2" in page.url
    page.go_back()
    wait_until(page, lambda: page.input_value("#words") == "blue" and cells.count() == 7)
    page.fill("#words", "dog+")
    page.click("#ask button")
    page.locator("#wrong").wait_for()
    assert "expected words, as in" in page.locator("#wrong").inner_text() and cells.count() == 0
    phone = visit(served, 390, 844, legend_rows=0, query="search?words=red", has_touch=True, is_mobile=True)
    phone.locator("#grid button").nth(6).wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert Path(phone.screenshot(path=tmp_path / "phone.png") and tmp_path / "phone.png").stat().st_size > 1000
