"""The streams to a viewer of the page: the state, and the pictures.

A viewer gets the newest picture whenever it has received the last one, so a slow viewer gets fewer. All viewers
together get at most PICTURES_PER_S, so that many viewers do not take CPU time from the network.
"""

import asyncio
import json
import time

from zeroseg.live.board import Board

PICTURES_PER_S = 150  # to all viewers together; one viewer gets every frame up to this rate
STATES_PER_S = 8
_QUIET_S = 2.0  # without news, how often data is sent anyway, to notice a viewer that has gone
_NEXT_PART = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"


class StateText:
    """The state as JSON, made once for all viewers."""

    def __init__(self, state):
        self._state, self._made_s, self._text = state, 0.0, ""

    def __call__(self) -> str:
        now = time.monotonic()
        if now - self._made_s >= 0.9 / STATES_PER_S:
            self._made_s, self._text = now, json.dumps(self._state())
        return self._text


async def send_states(state_text: StateText):
    """Server-sent events: the state, a few times a second."""
    last, quiet_s = "", 0.0
    while True:
        text = state_text()
        if text != last or quiet_s > _QUIET_S:
            yield f"data: {text}\n\n".encode()
            last, quiet_s = text, 0.0
        await asyncio.sleep(1 / STATES_PER_S)
        quiet_s += 1 / STATES_PER_S


async def send_pictures(board: Board):
    """Multipart JPEG: every picture, or the newest of those that came while the viewer received the last one.

    Chromium shows a part after it has read the head of the next one. So this head follows each picture at once. It has
    no length, which is not known yet.
    """
    board.viewers += 1
    seen, start = 0, time.monotonic()
    try:
        yield _NEXT_PART[2:]
        while True:
            number = await board.news(seen, _QUIET_S)
            jpeg = board.jpeg
            if jpeg:  # sent again without news, to notice a browser that has gone
                yield jpeg + _NEXT_PART
                seen = number
                board.pictures_sent += 1
            start = max(start + board.viewers / PICTURES_PER_S, time.monotonic())
            await asyncio.sleep(max(0.0, start - time.monotonic()))
    finally:
        board.viewers -= 1
