"""Video files and network streams through PyAV.

PyAV is used and not OpenCV, because it gives every frame's time stamp and time base (so variable frame rates are kept),
the display rotation of phone videos, the reason for an error, and an encoder that accepts those time stamps. Its wheels
include FFmpeg for Linux, macOS and Windows, so nothing else has to be installed.
"""

import itertools
import re
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.live.frame import MICROSECOND, UNKNOWN_COLOR, Frame, Source

OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 3.0
HD_LINES = 720  # from this height on, BT.709 is assumed for a video without a colour matrix
_LENGTH_IN_HEADER = ("matroska,webm", "flv")  # formats without a frame count; for others FFmpeg estimates the length
_DAMAGED_MAX = 500  # packets in a row that cannot be decoded, before a source counts as unreadable


def load_av():
    """Import and return av, without its log output. Raises UnavailableError, naming the extra, if it is missing."""
    try:
        import av
    except ImportError as error:
        raise missing_extra("PyAV (av)", "live", "reading and writing video") from error
    av.logging.set_level(av.logging.PANIC)  # errors are raised; FFmpeg's log lines would break the progress bar
    return av


class Decoder(Source):
    """The first video stream of a file, device or URL.

    url            the input for FFmpeg; container_format and options have FFmpeg's names.
    live           True: time stamps are the arrival times, because a camera's own may jump or be missing.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        container_format: str | None = None,
        options: dict[str, str] | None = None,
        live: bool = False,
    ):
        av = load_av()
        self.name, self.live, self._av = name or url, live, av
        timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S) if live or "://" in url else None
        try:
            self._container = av.open(url, format=container_format, options=options or {}, timeout=timeout)
        except (av.FFmpegError, ValueError) as error:
            raise ZerosegError(f"{self.name}: {_reason(error)}") from error
        streams = [s for s in self._container.streams.video if not _is_cover(s)]
        if not streams:
            self.close()
            raise ZerosegError(f"{self.name}: no video in this file")
        self._stream, self._format = streams[0], self._container.format.name
        if self._stream.codec_context is None:
            self.close()
            raise ZerosegError(f"{self.name}: this PyAV cannot decode its video codec; convert it to H.264")
        self._stream.thread_type = "SLICE" if live else "AUTO"  # frame threads would delay a live picture
        self.rate = self._stream.average_rate or self._stream.guessed_rate
        self.frame_count = None if live else self._count()
        self._length_s = self._said_length_s()  # read now, because a closed container cannot tell
        self._first_pts: int | None = None
        self._last_pts = -1
        self._index = self._damaged = 0
        self._end, self._end_s = "", 0.0
        self._frames = self._decode()

    @property
    def finite(self) -> bool:
        """Whether the source has an end, like a file or a file behind a URL."""
        return self._container.duration is not None

    @property
    def format(self) -> str:
        """FFmpeg's name of the container."""
        return self._format

    @property
    def is_damaged(self) -> bool:
        """Whether some or all of it could not be decoded."""
        return self._damaged > 0 or self._index == 0

    @property
    def size_known(self) -> bool:
        """Whether FFmpeg found a picture when it opened the source."""
        return bool(self._stream.codec_context.width)

    @property
    def duration_s(self) -> float | None:
        """The duration in the file's header; None if there is none."""
        if self._container.duration:
            return self._container.duration / self._av.time_base
        return float(self.frame_count / self.rate) if self.frame_count and self.rate else None

    @property
    def recorded(self) -> str | None:
        """The recording time in the file's header, as written there (ISO 8601, mostly UTC); None if there is none."""
        return self._container.metadata.get("creation_time")

    def seek(self, time_s: float) -> None:
        """Go to the last key frame at or before a time in seconds; to the beginning if FFmpeg cannot seek."""
        start = self._stream.start_time
        self._first_pts, self._last_pts = start if start is not None else self._first_pts, -1
        try:
            self._container.seek(int((self._start_s() + time_s) * self._av.time_base))
        except self._av.FFmpegError:
            self._container.seek(0)
        self._frames = self._decode()

    def read_from(self, time_s: float) -> Frame | None:
        """The next frame at or after a time in seconds. Frames before it are decoded, but not converted to RGB."""
        for picture in self._frames:
            base = picture.time_base or self._stream.time_base
            if picture.pts is None or float(picture.pts * base) - self._start_s() >= time_s - 1e-6:
                self._frames = itertools.chain([picture], self._frames)
                return self.read()
            if self._first_pts is None:
                self._first_pts = picture.pts
            self._index += 1
        return None

    def _start_s(self) -> float:
        start = self._stream.start_time if self._stream.start_time is not None else self._first_pts
        return float((start or 0) * self._stream.time_base)

    def _count(self) -> int | None:
        if self._stream.frames:
            return self._stream.frames
        duration = self._container.duration
        return round(duration * self.rate / self._av.time_base) if duration and self.rate else None

    def read(self) -> Frame | None:
        start_s = time.perf_counter()
        picture = next(self._frames, None)
        if picture is None:
            if self._index == 0 and not self.live:
                raise ZerosegError(f"{self.name}: no frame in it can be decoded{self._end or '; it is empty'}")
            return None
        image = _upright(picture)
        frame = self._timed(picture, image)
        frame.pixel_aspect = self._pixel_aspect(picture)
        frame.color = tuple(int(getattr(picture, name, UNKNOWN_COLOR)) for name in ("color_primaries", "color_trc"))
        frame.capture_ms = 1000 * (time.perf_counter() - (frame.captured_s if self.live else start_s))
        self._index += 1
        return frame

    def _pixel_aspect(self, picture) -> Fraction:
        """Width of a pixel over its height, once the picture is upright."""
        told = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or Fraction(1)
        aspect = Fraction(told) if told > 0 else Fraction(1)
        return 1 / aspect if _quarter_turns(picture) % 2 else aspect

    def _timed(self, picture, image: np.ndarray) -> Frame:
        now = time.perf_counter()
        if self.live:
            self._first_pts = round(now * 1e6) if self._first_pts is None else self._first_pts
            return Frame(image, self._index, round(now * 1e6) - self._first_pts, MICROSECOND, 0, now)
        time_base = picture.time_base or self._stream.time_base
        step = max(1, round(1 / (self.rate or Fraction(25)) / time_base))
        pts = picture.pts if picture.pts is not None else self._last_pts + step
        if self._first_pts is None:
            self._first_pts = pts
        self._end_s = max(self._end_s, float((pts + (picture.duration or step)) * time_base))
        pts = max(pts - self._first_pts, self._last_pts + 1)  # a video writer needs increasing times
        self._last_pts = pts
        return Frame(image, self._index, pts, time_base, picture.duration or step, now)

    def _decode(self):
        """Yield the pictures. Damaged pieces are counted and skipped; if decoding keeps failing, the pictures end."""
        av, in_a_row = self._av, 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                for picture in packet.decode():
                    in_a_row = 0
                    yield picture
            except (av.EOFError, av.ExitError):
                return
            except av.DecoderNotFoundError as error:
                raise ZerosegError(
                    f"{self.name}: this PyAV cannot decode its video codec ({error.strerror}); convert it to H.264"
                ) from error
            except av.InvalidDataError as error:
                self._damaged += 1
                in_a_row += 1
                if in_a_row >= _DAMAGED_MAX:
                    self._end = f" ({_reason(error)})"
                    return
            except av.FFmpegError as error:
                self._end = f" ({_reason(error)})"
                if self.live:
                    raise ZerosegError(f"{self.name}: {_reason(error)}") from error
                return

    def remarks(self) -> list[str]:
        if self.live:
            return []
        lines = []
        if self._damaged:
            lines.append(f"{self.name}: {self._damaged} damaged pieces were skipped")
        if self._stream.frames and self._index < self._stream.frames - self._damaged:
            lines.append(
                f"{self.name}: has {self._stream.frames} frames according to its header, but ends after "
                f"{self._index}{self._end}; it may be truncated"
            )
        length_s, slack_s = self._length_s
        if not self._stream.frames and self._end_s < length_s - slack_s:
            lines.append(
                f"{self.name}: lasts {length_s:.1f} s according to its header, but ends after "
                f"{self._end_s:.1f} s{self._end}; it may be truncated"
            )
        return lines

    def _said_length_s(self) -> tuple[float, float]:
        """(length in seconds from the file's header, or 0; how many seconds may be missing without a warning)."""
        if self._container.format.name not in _LENGTH_IN_HEADER:
            return 0.0, 0.0
        step_s = float(1 / (self.rate or Fraction(25)))
        tag = next((text for key, text in self._stream.metadata.items() if key.startswith("DURATION")), "")
        if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", tag):
            hours, minutes, seconds = match.groups()
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds), 2 * step_s
        length_s = (self._container.duration or 0) / self._av.time_base
        alone = len(self._container.streams) == 1
        return length_s, 2 * step_s if alone else max(1.0, 0.05 * length_s)  # sound may last a little longer

    def close(self) -> None:
        self._frames = iter(())  # the generator holds the container
        self._container.close()


def local(path: Path | str) -> str:
    """A file's path for FFmpeg, which would take a name with a colon for a protocol."""
    return f"file:{path}"


def _is_cover(stream) -> bool:
    """Whether a "video" is the cover picture of a song."""
    return bool(getattr(stream, "disposition", 0) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def _quarter_turns(picture) -> int:
    """The number of quarter turns, counter-clockwise as in np.rot90, that make a picture upright."""
    return round(getattr(picture, "rotation", 0) / 90) % 4


def _is_rgb(pixel_format) -> bool:
    return pixel_format.is_rgb or pixel_format.has_palette or len(pixel_format.components) < 3


def _upright(picture) -> np.ndarray:
    """A decoded picture of any pixel format as (H, W, 3) uint8 RGB, rotated by its display matrix.

    YUV without a stated colour matrix is read as BT.709 if it is HD, as players do, else as BT.601.
    """
    if picture.colorspace == UNKNOWN_COLOR and picture.height >= HD_LINES and not _is_rgb(picture.format):
        picture = picture.reformat(format="rgb24", src_colorspace="ITU709")
    image = picture.to_ndarray(format="rgb24")
    turns = _quarter_turns(picture)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    hints = {
        "No such file or directory": "no such file",
        "Invalid data found when processing input": "not a video that FFmpeg can read, or truncated",
        "Connection refused": "no answer (connection refused)",
        "Immediate exit requested": "no answer in time",
        "Device or resource busy": "in use by another program",
        "Permission denied": "permission denied (is this user in the group `video`?)",
    }
    return hints.get(text, text)
