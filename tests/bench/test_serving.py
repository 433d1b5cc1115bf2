"""The serving benchmark on the server of one process: what it reports, and that a wrong answer fails it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("fastapi")

from zeroseg.bench import serving  # noqa: E402


def test_reports_throughput_and_latency(monkeypatch):
    monkeypatch.setattr(serving, "CONTENDERS", dict(list(serving.CONTENDERS.items())[:1]))
    done = CliRunner().invoke(serving.main, ["--clients", "1,3", "--seconds", "1", "--rounds", "1", "--threads", "1"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.output.splitlines()[-1])
    assert [row["clients"] for row in report["rows"]] == [1, 3]
    for row in report["rows"]:
        assert row["answers"] == round(row["photos_per_s"] * 1) > 0 and row["ratio"] == 1 and row["refused"] == 0
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]


class Stand:
    """A server on loopback that answers its photos from a list: (status, mask)."""

    name = "a stand-in"

    def __init__(self, answer):
        bodies = self.bodies = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                status, mask = answer()
                body = BytesIO()
                Image.fromarray(mask).save(body, "PNG")
                self.send_response(status)
                self.send_header("Retry-After", "0.05")
                self.send_header("Content-Length", str(len(body.getvalue())))
                self.end_headers()
                self.wfile.write(body.getvalue())

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


MASK = np.arange(100, dtype=np.uint8).reshape(10, 10)


def test_wrong_mask_fails_the_run():
    other = MASK.copy()
    other[0, 0] += 1
    with Stand(lambda: (200, other)) as server, pytest.raises(click.ClickException, match="agrees in 99.00%"):
        serving.load(server, [b"photo"], [MASK], 2, 0.5)


def test_every_request_has_bytes_of_its_own():
    """The server keeps the segments of photos by their bytes: a repeated photo would not run the network."""
    with Stand(lambda: (200, MASK)) as server:
        serving.load(server, [serving.multipart(b"photo", "cat")], [MASK], 2, 0.5)
    assert len(set(server.bodies)) == len(server.bodies) > 2
    assert all(body.endswith(b"\r\n--photo--\r\n") for body in server.bodies)


def test_refused_clients_come_back():
    """Every second request is refused: the waits are part of the latency, and counted."""
    states = iter([503, 200] * 1000)
    with Stand(lambda: (next(states), MASK)) as server:
        turn = serving.load(server, [b"photo"], [MASK], 1, 0.5)
    assert turn.refused >= 2 and min(turn.latencies_ms) >= 50


def test_server_that_fails_is_named():
    with Stand(lambda: (500, MASK)) as server, pytest.raises(click.ClickException, match="1 wrong answers.*500"):
        serving.load(server, [b"photo"], [MASK], 1, 0.5)


@pytest.mark.parametrize("clients", ["0", "many", "1,,8"])
def test_bad_numbers_of_clients(clients):
    done = CliRunner().invoke(serving.main, ["--clients", clients])
    assert done.exit_code == 2 and "expected whole numbers" in done.output
