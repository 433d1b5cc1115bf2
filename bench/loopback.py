"""An MJPEG camera on loopback that can be killed and restored, for tests and benchmarks of reconnecting."""

import io
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

BOUNDARY = "frame"


class MjpegServer:
    """Serves picture(index) at a steady rate to any number of viewers.

    picture  index -> (H, W, 3) uint8 RGB.
    port     0 takes a free one; restore() then keeps it.
    """

    def __init__(self, picture: Callable[[int], np.ndarray], rate: float = 25.0, port: int = 0):
        self.picture, self.rate, self.port = picture, rate, port
        self._server: ThreadingHTTPServer | None = None
        self._alive = threading.Event()
        self.restore()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def restore(self) -> None:
        """Start to listen (again) on the same port."""
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                camera._send(self)

            def log_message(self, *_):
                pass

        self._alive = threading.Event()
        self._alive.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def kill(self) -> None:
        """Close every connection and stop listening, as a camera without power does."""
        self._alive.clear()
        self._server.shutdown()
        self._server.server_close()

    def _send(self, handler: BaseHTTPRequestHandler) -> None:
        alive = self._alive
        handler.send_response(200)
        handler.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        handler.end_headers()
        start, index = time.monotonic(), 0
        try:
            while alive.is_set():
                data = io.BytesIO()
                Image.fromarray(self.picture(index)).save(data, "JPEG", quality=80)
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
                handler.wfile.write(head.encode() + data.getvalue() + b"\r\n")
                index += 1
                time.sleep(max(0.0, start + index / self.rate - time.monotonic()))
        except OSError:
            pass  # the viewer left
