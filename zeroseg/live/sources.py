"""From what a user writes to a Source: photos, folders, globs, videos, cameras, streams, test patterns."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.live.adjust import Adjusted, Adjustment
from zeroseg.live.cameras import CsiCamera, open_camera
from zeroseg.live.decoder import Decoder
from zeroseg.live.frame import Source
from zeroseg.live.kinds import kind_of
from zeroseg.live.pattern import TestPattern
from zeroseg.live.pictures import PICTURES_PER_S, Paced, Pictures
from zeroseg.live.reconnect import Reconnecting
from zeroseg.photos.listing import expand, photos_in

# a stream is read as it comes: nothing is kept back to guess its format or to smooth its pace
_STREAM_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "500000"}


def open_source(
    sources: str | Sequence[str],
    adjustment: Adjustment | None = None,
    picture_rate: float = PICTURES_PER_S,
    pace: bool = False,
    loop: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Source:
    """Open one source, or several pictures as one sequence. Raises ZerosegError in one line where it cannot.

    pace  plays files at their own speed and, with loop, over and over; live sources do anyway.
    say   takes lines about lost and regained connections.
    """
    adjustment = adjustment or Adjustment()
    texts = [sources] if isinstance(sources, str) else list(sources)
    kinds = {kind_of(text) for text in texts}
    if kinds != {"pictures"} and len(texts) > 1:
        raise ZerosegError(f"{len(texts)} sources: expected one camera, video or stream, or several pictures")
    kind, text = kinds.pop(), texts[0]

    def played(open_file: Callable[[], Source]) -> Source:
        # adjusted outside of the loop, as frames are counted over all rounds
        return Adjusted(Paced(open_file, loop) if pace else open_file(), adjustment)

    if kind == "pictures":
        paths = picture_paths(texts)
        name = text if len(texts) == 1 else f"{len(paths)} pictures"
        return played(lambda: Pictures(paths, picture_rate, name))
    if kind == "video":
        _require_file(text)
        return played(lambda: Decoder(text))
    if kind == "test":
        return Adjusted(TestPattern(text), adjustment)
    size, rate = adjustment.size, adjustment.fps
    if kind == "camera":
        return Adjusted(Reconnecting(lambda: open_camera(text, size, rate), say), adjustment)
    if kind == "csi":
        sensor = text.removeprefix("csi://") or "0"
        if not sensor.isdecimal():
            raise ZerosegError(f"{text}: expected csi:// and the sensor's number, such as csi://0")
        return Adjusted(Reconnecting(lambda: CsiCamera(int(sensor), size, rate), say), adjustment)
    options = dict(_STREAM_OPTIONS)
    if text.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # UDP loses pieces of pictures, and routers lose UDP
    first = Decoder(text, name=_without_password(text), options=options, live=True)
    if first.finite:  # a file that lies behind a URL
        first.close()
        return played(lambda: Decoder(text, _without_password(text)))
    waiting = [first]  # the connection that told so is the first one used

    def connect() -> Source:
        return waiting.pop() if waiting else Decoder(text, _without_password(text), options=options, live=True)

    return Adjusted(Reconnecting(connect, say), adjustment)


def picture_paths(texts: Sequence[str]) -> list[Path]:
    """The pictures of files, folders and globs, in order."""
    paths: list[Path] = []
    for text in texts:
        path = Path(text)
        if path.is_dir():
            found = photos_in(path)
        elif not path.exists() and glob.has_magic(text):
            found = expand(text)
        else:
            _require_file(text)
            found = [path]
        if not found:
            raise ZerosegError(f"{text}: no pictures there")
        paths += found
    return paths


def _require_file(text: str) -> None:
    path = Path(text)
    if not path.is_file():
        raise ZerosegError(f"{text}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise ZerosegError(f"{text}: an empty file")


def _without_password(url: str) -> str:
    """The URL as it may be printed: rtsp://user:***@host/path."""
    scheme, _, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at or "/" in credentials:
        return url
    return f"{scheme}://{credentials.partition(':')[0]}:***@{host}"
