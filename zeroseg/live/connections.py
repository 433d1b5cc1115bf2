"""uvicorn's HTTP protocol with time limits, so that idle connections do not lock others out.

uvicorn counts every open connection and sets no time limit for one without a request. So a few hundred idle sockets
would lock everyone out, even without a token. Here a connection counts as waiting while none of its requests is being
answered: before the header of the first request is complete, and between two requests.

    a wait ends after HEAD_S, or if more than WAITING_MAX wait and this one has waited longest
    a body must not pause for more than STALLED_S and must be complete within BODY_S
"""

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
STALLED_S = 10.0
BODY_S = 300.0  # 20 MB at half a megabit a second
WAITING_MAX = 200


class TimedProtocol(H11Protocol):
    """One connection. waiting: the waiting connections of this server, longest first."""

    waiting: dict["TimedProtocol", None]

    def connection_made(self, transport):
        super().connection_made(transport)
        self._timer, self._timed_cycle = None, None
        self._look()

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self._leave()

    def data_received(self, data):
        super().data_received(data)
        self._look(came=True)

    def on_response_complete(self):
        super().on_response_complete()
        self._look()

    def _look(self, came: bool = False) -> None:
        """Set the time limit for the connection's state. came: it has just sent data."""
        if self.transport.is_closing():
            self._leave()
        elif self.cycle is None or self.cycle.response_complete:
            if self not in self.waiting:
                self._leave()
                self._begin_wait()
        elif not self.cycle.more_body:
            self._leave()
        else:
            if self._timed_cycle is not self.cycle:
                self._timed_cycle, self._body_ends_s = self.cycle, self.loop.time() + BODY_S
                came = True
            if came:
                self._leave()
                left_s = self._body_ends_s - self.loop.time()
                self._timer = self.loop.call_later(max(0.0, min(STALLED_S, left_s)), self._end_body)

    def _begin_wait(self) -> None:
        self.waiting[self] = None
        self._timer = self.loop.call_later(HEAD_S, self._close)
        if len(self.waiting) > WAITING_MAX:
            next(iter(self.waiting))._close()

    def _end_body(self) -> None:
        if self.flow.read_paused and self.loop.time() < self._body_ends_s:  # the client waits for us to read
            self._timer = self.loop.call_later(STALLED_S, self._end_body)
        else:
            self._close()

    def _leave(self) -> None:
        self.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._leave()
        self.transport.close()


def timed_protocol() -> type[TimedProtocol]:
    """TimedProtocol for one server."""
    return type("TimedProtocol", (TimedProtocol,), {"waiting": {}})
