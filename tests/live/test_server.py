"""The page's server: its answers, its refusals, and harmful input."""

import base64
import io
import json
import re
import socket
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import color_pack, png, wait_until
from zeroseg.bench.loopback import MjpegServer
from zeroseg.drawing import label_colors
from zeroseg.errors import ZerosegError
from zeroseg.live.frame import Frame
from zeroseg.live.pattern import TestPattern, frame_number
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sinks import Output
from zeroseg.live.sources import open_source
from zeroseg.segment.segmenter import Segmenter

pytest.importorskip("av")
pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="the framework's test client needs it")
testclient = pytest.importorskip("starlette.testclient")

from zeroseg.live.board import Board  # noqa: E402 (only where FastAPI is)
from zeroseg.live.guard import UPLOAD_LIMIT_BYTES  # noqa: E402
from zeroseg.live.rest import Photos, hex_color  # noqa: E402
from zeroseg.live.server import Server, make_app  # noqa: E402


@pytest.fixture
def live_app(color_segmenter, color_words):
    """(client, pipeline) with a running test pattern."""
    board = Board()
    segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    pipeline = Pipeline(open_source("test://?size=160x96&fps=40"), segmenter, [board])
    with testclient.TestClient(make_app(segmenter, pipeline, board), base_url="http://127.0.0.1") as client:
        pipeline.start()
        wait_until(lambda: board.number > 2)
        yield client, pipeline
        pipeline.stop()
        assert pipeline.join(10)
        pipeline.close()


def test_segment_gives_what_the_segmenter_gives(photo_app, color_segmenter, scene):
    from pycocotools import mask as coco

    expected = color_segmenter.segment(scene)
    answer = photo_app.post("/segment", files={"image": png(scene)}, data={"labels": "red, green,blue"})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["size"] == [96, 160] and [entry["name"] for entry in document["labels"]] == ["red", "green", "blue"]
    assert {entry["category"] for entry in document["found"]} == {region.label for region in expected.found} != set()
    for entry in document["found"]:
        mask = coco.decode(entry["segmentation"]).astype(bool)
        assert np.array_equal(mask, expected.label_map == entry["category_id"] - 1)
    assert "overlay" not in document
    picture = photo_app.post("/segment", files={"image": png(scene)}, data={"format": "labels"})
    assert picture.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.content))), expected.label_map + 1)
    overlay = photo_app.post("/segment", files={"image": png(scene)}, data={"format": "overlay", "alpha": "0.25"})
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(overlay.content))), np.asarray(expected.overlay(0.25)))
    nothing = photo_app.post("/segment", files={"image": png(scene)}, data={"threshold": "1.9", "overlay": "true"})
    kind, _, text = nothing.json()["overlay"].partition(",")
    plain = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert nothing.json()["found"] == [] and kind == "data:image/jpeg;base64"
    assert np.abs(plain.astype(int) - scene).mean() < 3  # JPEG


def test_settings_to_begin_with(color_segmenter, color_words, scene):
    with testclient.TestClient(
        make_app(color_segmenter, None, Board(), threshold=1.9, alpha=0.25), base_url="http://127.0.0.1"
    ) as client:
        for _ in range(2):
            state = client.get("/state").json()
            assert (state["threshold"], state["alpha"]) == (1.9, 0.25)
            assert client.post("/segment", files={"image": png(scene)}).json()["found"] == []
            client.put("/labels", json={"labels": "red"})
        assert state["labels"] == ["red"]
        own = client.post("/segment", files={"image": png(scene)}, data={"threshold": "0"}).json()
        assert own["found"] and own["threshold"] == 0


def test_approximate_words_are_marked(photo_app, scene):
    answer = photo_app.post("/segment", files={"image": png(scene)}, data={"labels": "red,zzz"}).json()
    assert [entry["mark"] in ("~", "?") for entry in answer["labels"]] == [False, True]
    state = photo_app.put("/labels", json={"labels": ["red", "zzz"]}).json()
    assert state["marks"][0] == "" and state["marks"][1] in ("~", "?") and state["nearest"] == [[], ["black"]]


def bomb(width, height):
    """A PNG of a few hundred bytes that says it is huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "data", "status", "detail"),
    [
        (b"", {}, 415, "not a readable picture"),
        (b"no picture at all", {}, 415, "not a readable picture"),
        ("cut", {}, 415, '"image: damaged or truncated'),
        (bomb(60_000, 60_000), {}, 413, "megapixels"),
        (bomb(8_000, 8_000), {}, 413, "the limit is 50 megapixels"),
        ("ok", {"labels": ","}, 422, "expected 1 to 200 words"),
        ("ok", {"labels": "x" * 101}, 422, "at most 100 letters"),
        ("ok", {"labels": ",".join(f"w{i}" for i in range(201))}, 422, "expected 1 to 200 words"),
        ("ok", {"labels": "bad"}, 422, "no letters in it"),
        ("ok", {"threshold": "nan"}, 422, "finite"),
        ("ok", {"threshold": "high"}, 422, "valid number"),
        ("ok", {"format": "gif"}, 422, "'json', 'labels' or 'overlay'"),
        ("ok", {"alpha": "2"}, 422, "less than or equal to 1"),
        (None, {}, 422, "Field required"),
    ],
)
def test_bad_requests_are_refused_in_words(photo_app, scene, content, data, status, detail):
    whole = png(scene)
    if isinstance(content, str):
        content = {"ok": whole, "cut": whole[: len(whole) // 2]}[content]
    answer = photo_app.post("/segment", files={"image": content} if content is not None else {"other": b"1"}, data=data)
    assert answer.status_code == status and detail in json.dumps(answer.json(), ensure_ascii=False)


def test_huge_uploads_are_refused_before_they_are_read(photo_app):
    answer = photo_app.post("/segment", files={"image": bytes(UPLOAD_LIMIT_BYTES + 1)})
    assert answer.status_code == 413 and "more than 20 MB" in answer.json()["detail"]

    sent = []

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(100):
            sent.append(1)
            yield bytes(1_000_000)

    answer = photo_app.post("/segment", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413  # though it never said how long it would be


def test_page_is_served_with_nothing_from_elsewhere(photo_app):
    page = photo_app.get("/")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    files = re.findall(r'(?:src|href)="(/[^"]*)"', page.text)
    assert {"/page.css", "/page.js"} <= set(files)
    for file in ("/page.css", "/page.js"):
        body = photo_app.get(file)
        assert body.status_code == 200 and not re.search(r"https?://|innerHTML|eval\(", page.text + body.text)
    assert photo_app.get("/docs").status_code == 404  # FastAPI's would load scripts from a CDN


def test_openapi_describes_the_interface(photo_app):
    document = photo_app.get("/openapi.json").json()
    assert {"/segment", "/healthz", "/metrics", "/labels", "/settings", "/state"} <= set(document["paths"])
    assert "413" in document["paths"]["/segment"]["post"]["responses"]


def test_health_and_metrics(live_app):
    client, pipeline = live_app
    assert client.get("/healthz").json()["status"] == "ok"
    text = client.get("/metrics").text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert 0 < float(samples["zeroseg_frames_total"]) <= pipeline.figures.frames
    buckets = [int(value) for name, value in samples.items() if "_bucket" in name]
    assert buckets == sorted(buckets) and buckets[-1] == int(samples["zeroseg_latency_seconds_count"])
    assert float(samples['zeroseg_stage_seconds_total{stage="network"}']) > 0
    assert all(
        re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"\})? [0-9.e+-]+', line)
        for line in text.splitlines()
        if not line.startswith("#")
    )


def test_a_lost_source_is_reported_until_it_is_back(color_segmenter):
    camera = MjpegServer(TestPattern("test://?size=160x96").picture, rate=25)
    board = Board()
    pipeline = Pipeline(open_source(camera.url), color_segmenter, [board])
    with testclient.TestClient(make_app(color_segmenter, pipeline, board), base_url="http://127.0.0.1") as client:

        def told():
            return (
                client.get("/healthz").json()["status"],
                client.get("/state").json()["away"] is not None,
                re.search(r"^zeroseg_source_up (.*)$", client.get("/metrics").text, re.M)[1],
            )

        pipeline.start()
        wait_until(lambda: board.number > 2)
        assert told() == ("ok", False, "1")
        camera.kill()
        wait_until(lambda: told() == ("lost", True, "0"))
        assert client.get("/healthz").json()["detail"] == client.get("/state").json()["away"] != ""
        camera.restore()
        wait_until(lambda: told() == ("ok", False, "1"))
        pipeline.stop()
        assert pipeline.join(10)
        pipeline.close()
    camera.kill()


def test_words_and_settings_take_effect(live_app):
    client, pipeline = live_app
    assert client.put("/labels", json={"labels": "blue"}).json()["labels"] == ["blue"]
    before = pipeline.figures.frames
    wait_until(lambda: pipeline.figures.frames > before + 3)
    state = client.get("/state").json()
    [row] = state["legend"]
    assert row["label"] == "blue" and re.fullmatch("#[0-9a-f]{6}", row["color"])
    changed = client.patch("/settings", json={"threshold": 1.5, "alpha": 0.0}).json()
    assert (changed["threshold"], changed["alpha"]) == (1.5, 0.0)
    before = pipeline.figures.frames
    wait_until(lambda: pipeline.figures.frames > before + 3)
    assert client.get("/state").json()["legend"][0]["area"] == 0
    picture = np.asarray(Image.open(io.BytesIO(client.get("/snapshot.png").content)))
    assert picture.shape == (96, 160, 3)
    original = TestPattern("test://?size=160x96").picture(frame_number(picture))
    assert np.array_equal(picture, original)  # nothing found, nothing drawn, nothing lost
    assert client.get("/state").json()["revision"] == changed["revision"] == 2  # as many as there were changes
    client.patch("/settings", json={"threshold": None})
    assert pipeline.settings.threshold is None and pipeline.settings.alpha == 0.0


def test_a_photo_has_the_colours_of_the_live_picture(live_app, scene):
    """An added word gets a free colour, even if alone it would have the colour of an earlier word."""
    client, pipeline = live_app
    alone = {word: hex_color(label_colors([word])[0]) for word in ("blue", "red", "green")}
    rival = next(
        word for word in (f"word {i}" for i in range(1000)) if hex_color(label_colors([word])[0]) == alone["blue"]
    )
    client.put("/labels", json={"labels": [rival]})
    live = client.put("/labels", json={"labels": ["blue", rival]}).json()
    wanted = {label: hex_color(color) for label, color in zip(live["labels"], pipeline.settings.colors, strict=True)}
    assert wanted[rival] == alone["blue"] != wanted["blue"]  # it was there first
    answer = client.post("/segment", files={"image": png(scene)}, data={"labels": f"blue,{rival}"}).json()
    assert {entry["name"]: entry["color"] for entry in answer["labels"]} == wanted


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/settings", {"alpha": 2}),
        ("/settings", {"alpha": "NaN"}),
        ("/settings", {"color": 1}),
        ("/settings", [1]),
        ("/labels", {"labels": ""}),
        ("/labels", {"labels": "bad"}),
        ("/labels", {"labels": 5}),
        ("/labels", {}),
    ],
)
def test_bad_changes_change_nothing(live_app, path, body):
    client, pipeline = live_app
    before = pipeline.settings
    answer = client.request("PUT" if path == "/labels" else "PATCH", path, json=body)
    assert answer.status_code == 422 and pipeline.settings is before


def test_without_a_camera_the_live_parts_say_so(photo_app):
    for method, path in (("GET", "/snapshot.png"), ("GET", "/live.mjpg"), ("PATCH", "/settings")):
        answer = photo_app.request(method, path, json={} if method == "PATCH" else None)
        assert answer.status_code == 409 and "no live picture" in answer.json()["detail"]
    assert photo_app.get("/state").json()["live"] is False


def test_port_in_use_is_one_line(color_segmenter):
    server = Server(color_segmenter, None, "127.0.0.1", 0)
    with pytest.raises(ZerosegError, match=f"cannot listen on 127.0.0.1:{server.port}"):
        Server(color_segmenter, None, "127.0.0.1", server.port)
    server.stop()


def test_answers_are_sent_at_once(color_segmenter):
    """Nagle's algorithm would hold an answer's body for 40 ms, until the client has acknowledged its head."""
    server = Server(color_segmenter, None, "127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", server.port)), server._socket.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    server.stop()


def test_words_are_embedded_once(color_segmenter, color_words):
    photos = Photos(color_segmenter)
    assert photos.pack("rose, sea") is photos.pack(["rose", "sea"]) is not photos.pack("sea, rose")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("red, sea", ["red", "sea"]),
        ("red; sea\nsun", ["red", "sea", "sun"]),
        ("red，sea、sun，", ["red", "sea", "sun"]),
        ("Red, sea, red,RED", ["Red", "sea"]),
        ("mother's day, ice cream", ["mother's day", "ice cream"]),
        (["red", "Red;"], ["red", "Red;"]),  # of programs, nothing is taken apart
    ],
)
def test_typed_words_are_told_apart(color_segmenter, color_words, typed, words):
    assert Photos(color_segmenter).pack(typed).names == words


def test_viewers_get_moving_pictures_and_slow_ones_do_not_block(color_segmenter, monkeypatch):
    """Over real sockets: one viewer reads, one never reads, one vanishes. While nothing more goes to the stuck one, the
    others are served; then it is closed, as a phone would be that is gone without a word.
    """
    monkeypatch.setattr("zeroseg.live.listening._STUCK_S", 2.0)
    segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    pipeline = Pipeline(open_source("test://?size=640x384&fps=40"), segmenter, alpha=0.0)
    server = Server(segmenter, pipeline, "127.0.0.1", 0).start()
    pipeline.start()

    def ask(keeps_bytes=None):
        viewer = socket.socket()
        viewer.settimeout(10)
        if keeps_bytes:
            viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, keeps_bytes)
        viewer.connect(("127.0.0.1", server.port))
        viewer.sendall(b"GET /live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return viewer

    try:
        stuck, vanishing, reading = ask(keeps_bytes=4096), ask(), ask()
        wait_until(lambda: server.board.viewers == 3)
        vanishing.close()
        left = 1 if hasattr(socket, "TCP_USER_TIMEOUT") else 2
        data, numbers, end = b"", [], time.monotonic() + 30
        while len(set(numbers)) < 12 or server.board.viewers > left:
            assert time.monotonic() < end, "a viewer that is gone still counts"
            data += reading.recv(1 << 16)
            *parts, data = data.split(b"--frame\r\n")
            for part in parts:
                start = part.find(b"\xff\xd8")
                if start >= 0:
                    body = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", part[start:])  # chunked transfer marks
                    numbers.append(frame_number(np.asarray(Image.open(io.BytesIO(body)))))
        assert numbers == sorted(numbers)
        stuck.close()
        reading.close()
    finally:
        server.stop()
        pipeline.stop()
        assert pipeline.join(10)
        pipeline.close()


def test_board_encodes_once_for_all():
    board = Board()
    picture = np.zeros((32, 32, 3), np.uint8)
    board.write(Output(Frame(picture, 0, 0), None, picture, {}))
    first = board.jpeg
    assert board.jpeg is first and board.number == 1
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(board.png()))), picture)
