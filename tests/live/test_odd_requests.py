"""Requests that no page sends: NaN, half characters, huge fields, HEAD, and pictures wider than JPEG allows."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import color_pack
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sources import open_source

pytest.importorskip("av")
pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="the framework's test client needs it")
testclient = pytest.importorskip("starlette.testclient")

from zeroseg.live.board import Board  # noqa: E402 (only where FastAPI is)
from zeroseg.live.picture import JPEG_SIDE_MAX  # noqa: E402
from zeroseg.live.server import make_app  # noqa: E402

WIDE = 70_000  # px; JPEG ends at 65,535, libjpeg at 65,500


def png(picture) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def live_app(color_segmenter, color_words, tmp_path):
    """A client of a page that shows a picture of 160 x 96."""
    Image.new("RGB", (160, 96), "red").save(tmp_path / "red.png")
    board = Board()
    segmenter = type(color_segmenter)(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    pipeline = Pipeline(open_source(str(tmp_path / "red.png")), segmenter, [board])
    with testclient.TestClient(make_app(segmenter, pipeline, board), base_url="http://127.0.0.1") as client:
        pipeline.run()
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/settings", '{"alpha": NaN}'),
        ("PATCH", "/settings", '{"threshold": Infinity}'),
        ("PATCH", "/settings", '{"alpha": "\\ud800"}'),
        ("PATCH", "/settings", '{"\\ud800": 1}'),
        ("PUT", "/labels", '{"labels": NaN}'),
        ("PUT", "/labels", '{"labels": [NaN]}'),
        ("PUT", "/labels", '{"labels": "\\ud800"}'),
        ("PUT", "/labels", '{"labels": ["red", "x\\udfff"]}'),
        ("PUT", "/labels", '{"labels": "red", "more": "\\ud800"}'),
    ],
)
def test_json_that_no_encoding_holds_is_refused(live_app, method, path, body):
    answer = live_app.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"] and len(answer.text) < 1000
    json.dumps(answer.json(), allow_nan=False).encode()


@pytest.mark.parametrize("field", ["image", "threshold", "format"])
def test_a_refusal_does_not_send_the_upload_back(live_app, field):
    huge = "x" * 500_000
    files = {} if field == "image" else {"image": png(np.zeros((8, 8, 3), np.uint8))}
    answer = live_app.post("/segment", data={field: huge}, files=files)
    assert answer.status_code == 422 and len(answer.content) < 1000
    assert answer.json()["detail"][0]["loc"] == ["body", field]


def test_labels_of_a_form_that_are_no_utf8_are_refused_or_read(live_app):
    body = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n\xff\xfe\r\n--b--\r\n'
    answer = live_app.post("/segment", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code in (400, 422) and answer.json()["detail"]


def test_a_picture_wider_than_jpeg_comes_scaled_down(live_app):
    wide = np.full((4, WIDE, 3), (200, 30, 30), np.uint8)
    answer = live_app.post("/segment", files={"image": png(wide)}, data={"overlay": "true", "labels": "red"})
    assert answer.status_code == 200, answer.text
    shown = Image.open(io.BytesIO(base64.b64decode(answer.json()["overlay"].partition(",")[2])))
    assert shown.size == (JPEG_SIDE_MAX, 3) and answer.json()["size"] == [4, WIDE]


def test_a_page_shows_a_picture_wider_than_jpeg(color_segmenter, color_words, tmp_path):
    Image.fromarray(np.full((4, WIDE, 3), (200, 30, 30), np.uint8)).save(tmp_path / "wide.png")
    board = Board()
    pipeline = Pipeline(open_source(str(tmp_path / "wide.png")), color_segmenter, [board])
    pipeline.run()
    assert pipeline.error is None and Image.open(io.BytesIO(board.jpeg)).size == (JPEG_SIDE_MAX, 3)
    assert Image.open(io.BytesIO(board.png())).size == (WIDE, 4)


@pytest.mark.parametrize(
    "path", ["/", "/page.css", "/page.js", "/healthz", "/metrics", "/state", "/snapshot.png", "/events", "/live.mjpg"]
)
def test_head_answers_as_get_without_a_body(live_app, path):
    head = live_app.head(path)
    assert head.status_code == 200 and head.content == b""
    if path not in ("/events", "/live.mjpg"):  # which have no end
        get = live_app.get(path)
        assert head.headers["content-type"] == get.headers["content-type"] and get.content
    assert live_app.head("/nothing").status_code == 404 and live_app.head("/segment").status_code == 405
