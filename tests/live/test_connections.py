"""Connections that send nothing, or too slowly, are closed and block no others; active ones stay open."""

import contextlib
import json
import socket
import time
import urllib.request

import pytest

pytest.importorskip("fastapi")

from tests.live.conftest import color_pack  # noqa: E402
from zeroseg.live import connections  # noqa: E402
from zeroseg.live.server import Server  # noqa: E402
from zeroseg.segment.segmenter import Segmenter  # noqa: E402

TOKEN = "12345678"


@pytest.fixture
def server(color_segmenter, color_words):
    segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    server = Server(segmenter, None, "127.0.0.1", 0, token=TOKEN).start()
    yield server
    server.stop()


def health(server) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=10) as answer:
            assert json.load(answer)["status"] == "ok"
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def open_socket(server, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(sent)
    return connection


def closed_after_s(connection: socket.socket, drip: bytes = b"", every_s: float = 0.05, most_s: float = 5.0) -> float:
    """Seconds until the server has closed it, while drip is sent byte after byte."""
    began, connection_open = time.monotonic(), True
    connection.settimeout(every_s)
    drip = iter(drip)
    while connection_open:
        assert time.monotonic() - began < most_s, "the server left it open"
        try:
            connection.sendall(bytes([next(drip)]) if drip else b"")
        except StopIteration:
            drip = None
        except OSError:
            break
        try:
            connection_open = bool(connection.recv(4096))
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "], ids=["idle", "half a head"])
def test_idle_sockets_lock_nobody_out(server, sent):
    with contextlib.ExitStack() as stack:
        for _ in range(505):
            stack.enter_context(open_socket(server, sent))
        assert health(server) == 200
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/state", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert json.load(urllib.request.urlopen(request, timeout=10))["labels"] == ["red", "green", "blue"]


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize(
    "drip", [b"", b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 1000], ids=["nothing", "a byte at a time"]
)
def test_a_request_head_has_a_time_limit(server, monkeypatch, before, drip):
    monkeypatch.setattr(connections, "HEAD_S", 0.6)
    with open_socket(server, before) as connection:
        assert 0.5 < closed_after_s(connection, drip) < 3


def upload(head: bytes = b"", token: str = TOKEN) -> bytes:
    return (
        b"POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: multipart/form-data; boundary=xx\r\n\r\n--xx\r\n" % token.encode()
    )


@pytest.mark.parametrize(
    ("limits", "drip"),
    [({"STALLED_S": 0.6}, b""), ({"STALLED_S": 0.6, "BODY_S": 1.2}, b"x" * 1000)],
    ids=["stalled", "a byte at a time"],
)
def test_a_body_has_a_time_limit(server, monkeypatch, limits, drip):
    for name, value in limits.items():
        monkeypatch.setattr(connections, name, value)
    with open_socket(server, upload()) as connection:
        assert 0.5 < closed_after_s(connection, drip) < 4


def test_a_body_that_nobody_waits_for_has_the_time_limit_of_a_head(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.6)
    with open_socket(server, upload(token="wrong")) as connection:  # 401, and then drips on
        assert closed_after_s(connection, b"x" * 1000) < 4


def test_a_slow_upload_that_goes_on_is_answered(server, monkeypatch):
    monkeypatch.setattr(connections, "STALLED_S", 0.8)
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    body = b'--xx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nno photo\r\n--xx--\r\n'
    with open_socket(server, upload().split(b"--xx")[0].replace(b"5000", str(len(body)).encode())) as connection:
        for start in range(0, len(body), 20):
            connection.sendall(body[start : start + 20])
            time.sleep(0.3)
        connection.settimeout(10)
        assert connection.recv(4096).startswith(b"HTTP/1.1 4") and len(body) / 20 * 0.3 > 1.2


def test_a_live_answer_is_left_alone(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "STALLED_S", 0.3)
    ask = b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n\r\n" % TOKEN.encode()
    with open_socket(server, ask) as connection:
        time.sleep(1.2)
        connection.settimeout(5)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert connection.recv(1 << 16)  # the answer continues
