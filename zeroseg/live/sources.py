"""Open a Source by the user's text: photos, folders, globs, videos, cameras, streams, test patterns."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.live.adjust import Adjusted, Adjustment
from zeroseg.live.cameras import CsiCamera, open_camera
from zeroseg.live.decoder import Decoder, local
from zeroseg.live.frame import Source
from zeroseg.live.kinds import kind_of, without_password
from zeroseg.live.pattern import TestPattern
from zeroseg.live.pictures import PICTURES_PER_S, Animation, Paced, Pictures, is_animation
from zeroseg.live.reconnect import Reconnecting
from zeroseg.photos.listing import expand, photos_in

# a stream is read without delay: no buffering to guess its format or to smooth its rate
_STREAM_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "500000"}


def open_source(
    sources: str | Sequence[str],
    adjustment: Adjustment | None = None,
    picture_rate: float = PICTURES_PER_S,
    pace: bool = False,
    loop: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Source:
    """Open one source, or several pictures as one sequence. Raises ZerosegError, in one line, if it cannot.

    pace  play files at their own speed and, with loop, repeatedly.
    say   gets lines about lost and regained connections.
    """
    adjustment = adjustment or Adjustment()
    texts = [sources] if isinstance(sources, str) else list(sources)
    kinds = {kind_of(text) for text in texts}
    if kinds != {"pictures"} and len(texts) > 1:
        raise ZerosegError(f"{len(texts)} sources: expected one camera, video or stream, or several pictures")
    kind, text = kinds.pop(), texts[0]

    def played(open_file: Callable[[], Source]) -> Source:
        # adjusted outside the loop, because max_frames counts the frames of all rounds
        return Adjusted(Paced(open_file, loop) if pace else open_file(), adjustment)

    if kind == "pictures":
        paths = picture_paths(texts)
        if len(paths) == 1 and is_animation(paths[0]):
            return played(lambda: Animation(paths[0]))
        name = text if len(texts) == 1 else f"{len(paths)} pictures"
        return played(lambda: Pictures(paths, picture_rate, name))
    if kind == "video":
        _require_file(text)
        return played(lambda: Decoder(local(text), text))
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
        options["rtsp_transport"] = "tcp"  # UDP loses parts of pictures, and some routers drop UDP
    stream = _Stream(text, without_password(text), options)
    first = stream.connect()
    if first.format.endswith("_pipe"):  # FFmpeg's names for single images
        first.close()
        raise ZerosegError(
            f"{without_password(text)}: is a single picture, not a stream; save it as a file and give the file"
        )
    if first.finite:  # a file behind a URL
        first.close()
        return played(lambda: Decoder(text, without_password(text)))
    waiting = [first]  # this connection is used first
    return Adjusted(Reconnecting(lambda: waiting.pop() if waiting else stream.connect(), say), adjustment)


class _Stream:
    """A stream's address, and the format that it is read in.

    FFmpeg's reader of MJPEG over HTTP requires that every part has the type image/jpeg and begins with the boundary.
    Not all cameras comply. If that reader fails, the JPEG markers separate the pictures.
    """

    def __init__(self, url: str, name: str, options: dict[str, str]):
        self._url, self._name, self._options = url, name, options
        self._format: str | None = None
        self._last: Decoder | None = None

    def connect(self) -> Decoder:
        """Open a new connection. Raises ZerosegError if that fails."""
        if self._last is not None and self._last.format == "mpjpeg" and self._last.is_damaged:
            self._format = "mjpeg"
        try:
            self._last = self._open(self._format)
        except ZerosegError:
            if self._format or not self._url.startswith("http"):
                raise
            try:
                pictures = self._open("mjpeg")
            except ZerosegError:
                pictures = None
            if pictures is None or not pictures.size_known:
                if pictures is not None:
                    pictures.close()
                raise
            self._format, self._last = "mjpeg", pictures
        return self._last

    def _open(self, container_format: str | None) -> Decoder:
        return Decoder(self._url, self._name, container_format, self._options, live=True)


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
            raise ZerosegError(f"{text}: no pictures found")
        paths += found
    return paths


def _require_file(text: str) -> None:
    path = Path(text)
    if not path.is_file():
        raise ZerosegError(f"{text}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise ZerosegError(f"{text}: an empty file")
