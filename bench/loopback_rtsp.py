"""An RTSP camera on loopback that can be killed and restored, for tests and benchmarks: H.264 over RTP inside TCP.

Only what a viewer needs: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN (RFC 2326), RTP in the RTSP connection itself (its
section 10.12), H.264 in single units and FU-A fragments (RFC 6184).
"""

import re
import socket
import socketserver
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator

import numpy as np

CLOCK_HZ, PAYLOAD_TYPE, FRAGMENT = 90_000, 96, 1400
KEY_FRAME_EVERY = 15


class RtspServer:
    """Serves picture(index) at a steady rate; every viewer gets its own stream from the start.

    picture  index -> (H, W, 3) uint8 RGB, sides even.
    port     0 takes a free one; restore() then keeps it.
    """

    def __init__(self, picture: Callable[[int], np.ndarray], rate: int = 25, port: int = 0):
        self.picture, self.rate, self.port = picture, rate, port
        self.viewers: set[socket.socket] = set()
        self._server: socketserver.ThreadingTCPServer | None = None
        self.restore()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def restore(self) -> None:
        """Start to listen (again) on the same port."""
        camera = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                camera.viewers.add(self.request)
                try:
                    camera._talk(self)
                except OSError:
                    pass  # the viewer left, or the camera was killed
                finally:
                    camera.viewers.discard(self.request)

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Listener(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def kill(self) -> None:
        """Close every connection and stop listening, as a camera without power does."""
        self._server.shutdown()
        self._server.server_close()
        for viewer in list(self.viewers):
            try:
                viewer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # gone by itself

    def _talk(self, handler: socketserver.StreamRequestHandler) -> None:
        """Answer requests until PLAY, then send pictures until the connection breaks."""
        units = self._encode()
        first = next(units)
        while request := handler.rfile.readline().decode("latin-1").split():
            headers = {}
            while line := handler.rfile.readline().decode("latin-1").strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            method, body, more = request[0], "", []
            if method == "OPTIONS":
                more = ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"]
            elif method == "DESCRIBE":
                body, more = self._description(first), ["Content-Type: application/sdp"]
            elif method == "SETUP" and "RTP/AVP/TCP" in headers.get("transport", ""):
                more = ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
            elif method == "SETUP":
                self._answer(handler, headers, "461 Unsupported Transport")
                continue
            elif method == "PLAY":
                more = ["Session: 1"]
            self._answer(handler, headers, "200 OK", more, body)
            if method == "PLAY":
                return self._play(handler, first, units)
            if method == "TEARDOWN":
                return None
        return None

    @staticmethod
    def _answer(handler, headers, status: str, more=(), body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *more]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        handler.wfile.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _description(self, units: list[bytes]) -> str:
        sets = ",".join(b64encode(unit).decode() for unit in units if unit[0] & 31 in (7, 8))  # SPS, PPS
        return "\r\n".join(
            [
                "v=0",
                "o=- 1 1 IN IP4 127.0.0.1",
                "s=camera",
                "c=IN IP4 127.0.0.1",
                "t=0 0",
                f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
                f"a=rtpmap:{PAYLOAD_TYPE} H264/{CLOCK_HZ}",
                f"a=fmtp:{PAYLOAD_TYPE} packetization-mode=1;sprop-parameter-sets={sets}",
                "a=control:track1",
                "",
            ]
        )

    def _encode(self) -> Iterator[list[bytes]]:
        """The NAL units of one picture after another, without start codes."""
        import av

        height, width, _ = self.picture(0).shape
        coder = av.CodecContext.create("libx264", "w")
        coder.width, coder.height, coder.pix_fmt, coder.framerate = width, height, "yuv420p", self.rate
        coder.gop_size = KEY_FRAME_EVERY
        coder.options = {"preset": "ultrafast", "tune": "zerolatency"}
        index = 0
        while True:
            frame = av.VideoFrame.from_ndarray(self.picture(index), format="rgb24")
            frame.pts = index
            data = b"".join(bytes(packet) for packet in coder.encode(frame))
            yield [unit.rstrip(b"\0") for unit in re.split(b"\0\0\0?\1", data) if unit]
            index += 1

    def _play(self, handler, first: list[bytes], units: Iterator[list[bytes]]) -> None:
        start_s, index, sequence, picture = time.monotonic(), 0, 0, first
        while True:
            stamp = index * CLOCK_HZ // self.rate
            payloads = [payload for unit in picture for payload in fragments(unit)]
            for i, payload in enumerate(payloads):
                last = i == len(payloads) - 1
                head = struct.pack(">BBHII", 0x80, PAYLOAD_TYPE | (0x80 if last else 0), sequence & 0xFFFF, stamp, 1)
                handler.wfile.write(b"$\0" + struct.pack(">H", len(head) + len(payload)) + head + payload)
                sequence += 1
            index += 1
            time.sleep(max(0.0, start_s + index / self.rate - time.monotonic()))
            picture = next(units)


def fragments(unit: bytes) -> list[bytes]:
    """The RTP payloads of one NAL unit: itself where it is short, else FU-A pieces (RFC 6184, section 5.8)."""
    if len(unit) <= FRAGMENT:
        return [unit]
    indicator, kind = unit[0] & 0xE0 | 28, unit[0] & 31
    pieces = [unit[1:][i : i + FRAGMENT] for i in range(0, len(unit) - 1, FRAGMENT)]
    marks = [0x80 * (i == 0) | 0x40 * (i == len(pieces) - 1) for i in range(len(pieces))]
    return [bytes([indicator, mark | kind]) + piece for mark, piece in zip(marks, pieces, strict=True)]
