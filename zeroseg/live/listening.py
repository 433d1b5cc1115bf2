"""A web server for an application, in a thread."""

import socket
import threading
import time

import uvicorn

from zeroseg.errors import ZerosegError
from zeroseg.live.connections import timed_protocol

CONNECTIONS_MAX = 500  # further requests are answered 503
_STUCK_S = 30.0  # a connection that accepts no data for this long is closed: phones disappear without notice


class Listening:
    """uvicorn in a thread. Raises ZerosegError, in one line, if it cannot listen. app: an ASGI application."""

    def __init__(self, app, host: str, port: int, token: str | None = None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
            # connections inherit both; asyncio sets the first only if the listening socket names its protocol
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; elsewhere the system's own, a quarter of an hour or so
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * _STUCK_S))
        except (OSError, OverflowError) as error:
            raise ZerosegError(
                f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}); choose "
                "another --host or --port"
            ) from error
        self.port = self._socket.getsockname()[1]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self.port}/" + ("?token=..." if token else "")
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="critical",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                limit_concurrency=CONNECTIONS_MAX,
                http=timed_protocol(),
                ws="none",
            )
        )
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self._socket]}, daemon=True, name="zeroseg-server"
        )

    def start(self) -> "Listening":
        """Start the server; return when it answers."""
        self._thread.start()
        while not self._uvicorn.started:
            if not self._thread.is_alive():
                raise ZerosegError("the web server did not start")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Close all connections and end the thread."""
        self._uvicorn.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._socket.close()
