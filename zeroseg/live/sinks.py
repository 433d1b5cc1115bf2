"""Sinks for results: a video file, pictures, JSON Lines, a window."""

import os
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.files import json_text, make_folder, partial_path, save_png
from zeroseg.live.decoder import HD_LINES, load_av, local
from zeroseg.live.frame import UNKNOWN_COLOR, Frame
from zeroseg.segment.segmentation import Segmentation

H264_SIDE_MAX = 16_384  # px
SCREEN_SHARE = 0.9  # of a screen's sides, for a window; titles and the system's bars need the rest
ENCODERS = {
    ".webm": ("libvpx-vp9",),
    ".avi": ("mpeg4",),
    ".mkv": ("libx264", "mpeg4"),
    ".mp4": ("libx264", "mpeg4"),
    ".mov": ("libx264", "mpeg4"),
    ".m4v": ("libx264", "mpeg4"),
}
_OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "21", "bf": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0"},
    "mpeg4": {"qscale": "4", "flags": "+qscale"},
}
_BT709, _SMPTE170M, _LIMITED_RANGE = 1, 6, 1  # FFmpeg's numbers


@dataclass
class Output:
    """A segmented frame. picture: (H, W, 3) uint8 RGB with the overlay, None if no sink needs it."""

    frame: Frame
    result: Segmentation
    picture: np.ndarray | None
    stages_ms: dict[str, float]


class Sink(ABC):
    """Takes every frame, in one thread. takes_repeats: also takes a paused frame again when settings change."""

    wants_picture = False
    takes_repeats = False

    @abstractmethod
    def write(self, output: Output) -> None:
        """Take one frame."""

    def close(self) -> list[str]:
        """Finish, and return lines that name the written files."""
        return []


class VideoFile(Sink):
    """A video whose frames keep the time stamps of the input.

    It is written to a temporary file and renamed when it is complete, also after Ctrl-C. All frames have the size of
    the first; later frames of another size are scaled to it. Sides are made even, as H.264 requires.

    The colour matrix is BT.709's for HD, else BT.601's, in the limited range, and the file says so. Primaries, transfer
    and the pixel aspect ratio are the source's.
    """

    wants_picture = True

    def __init__(self, path: Path, rate: Fraction | None = None):
        self._av = load_av()
        self._path = path
        self._partial = partial_path(path)
        self._codec = _encoder(self._av, path)
        self._rate = Fraction(rate).limit_denominator(1001) if rate else Fraction(25)
        self._container = self._stream = None
        self._size = (0, 0)
        self._last_pts = -1
        self._frames = self._scaled = 0
        self._durations: dict[int, int] = {}
        make_folder(path.parent, "--save")

    def write(self, output: Output) -> None:
        av, frame = self._av, output.frame
        picture = even(output.picture)
        try:
            if self._container is None:
                self._start(picture.shape[:2], frame)
            if picture.shape[:2] != self._size:
                self._scaled += 1
                picture = np.asarray(Image.fromarray(picture).resize(self._size[::-1], Image.Resampling.BILINEAR))
            video = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            video = video.reformat(format="yuv420p", dst_colorspace=self._matrix, dst_color_range="MPEG")
            pts = round(frame.pts * frame.time_base / self._time_base)
            self._last_pts = pts = max(pts, self._last_pts + 1)
            video.pts, video.time_base = pts, self._time_base
            if frame.duration:
                self._durations[pts] = max(1, round(frame.duration * frame.time_base / self._time_base))
            self._mux(video)
        except (av.FFmpegError, OSError) as error:
            if self._codec != "libvpx-vp9" and max(self._size) > H264_SIDE_MAX:
                raise ZerosegError(
                    f"{self._path}: {self._size[1]} x {self._size[0]} px is more than {self._codec} takes "
                    f"({H264_SIDE_MAX} a side); scale it down with --size"
                ) from error
            raise _unwritable(self._path, error) from error
        self._frames += 1

    def _start(self, size: tuple[int, int], frame: Frame) -> None:
        self._container = self._av.open(local(self._partial), "w")
        self._stream = self._container.add_stream(self._codec, rate=self._rate, options=_OPTIONS[self._codec])
        self._stream.height, self._stream.width = self._size = size
        self._stream.pix_fmt = "yuv420p"
        self._matrix = _set_colors(self._stream.codec_context, size[0], frame.color)
        self._stream.codec_context.sample_aspect_ratio = frame.pixel_aspect
        time_base = frame.time_base
        # mpeg4 keeps a time base in 16 bits
        self._time_base = time_base if self._codec != "mpeg4" else max(time_base, Fraction(1, 60_000))
        self._stream.codec_context.time_base = self._time_base
        self._stream.time_base = self._time_base

    def _mux(self, video) -> None:
        for packet in self._stream.encode(video):
            duration = self._durations.pop(packet.pts, 0)
            if duration and packet.time_base:
                packet.duration = round(duration * self._time_base / packet.time_base)
            self._container.mux(packet)

    def close(self) -> list[str]:
        if self._container is None:
            return []
        try:
            self._mux(None)
            self._container.close()
            os.replace(self._partial, self._path)
        except (self._av.FFmpegError, OSError) as error:
            self._container = None
            self._partial.unlink(missing_ok=True)
            raise _unwritable(self._path, error) from error
        self._container = None
        lines = [f"wrote {self._path}: {self._frames} frames"]
        if self._scaled:
            lines.append(f"{self._scaled} frames had a different size than the first and were scaled to it")
        return lines


def _set_colors(codec, height: int, color: tuple[int, int]) -> str:
    """Set the encoder's colour metadata; return PyAV's name of the matrix for the conversion."""
    matrix, number = ("ITU709", _BT709) if height >= HD_LINES else ("ITU601", _SMPTE170M)
    codec.colorspace, codec.color_range = number, _LIMITED_RANGE
    codec.color_primaries, codec.color_trc = (_BT709 if told == UNKNOWN_COLOR else told for told in color)
    return matrix


def _unwritable(path: Path | str, error: Exception) -> ZerosegError:
    return ZerosegError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})")


def _encoder(av, path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in ENCODERS:
        raise ZerosegError(f"{path}: expected a video file to write: {', '.join(ENCODERS)}")
    for name in ENCODERS[suffix]:
        if name in av.codecs_available:
            return name
    raise UnavailableError(
        f"{path}: this PyAV has no encoder for {suffix} ({', '.join(ENCODERS[suffix])}); "
        "install PyAV's own wheel: pip install --force-reinstall av"
    )


def even(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) with the last row or column repeated if a side is odd."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return picture


class PictureFiles(Sink):
    """Overlays and label maps as numbered PNG files: 000012_overlay.png, 000012_labels.png."""

    def __init__(self, folder: Path, kinds: tuple[str, ...]):
        self._folder, self._kinds, self._frames = folder, kinds, 0
        self.wants_picture = "overlay" in kinds
        make_folder(folder)

    def write(self, output: Output) -> None:
        stem = f"{output.frame.index:06d}"
        if "overlay" in self._kinds:
            save_png(self._folder / f"{stem}_overlay.png", Image.fromarray(output.picture))
        if "labels" in self._kinds:
            save_png(self._folder / f"{stem}_labels.png", output.result.label_picture())
        self._frames += 1

    def close(self) -> list[str]:
        return [f"wrote {' and '.join(self._kinds)} of {self._frames} frames into {self._folder}"]


class JsonLines(Sink):
    """One JSON object per frame, flushed line by line so that others can follow; "-" is standard output.

    frame, time_s, size (H, W), found (label, score, area_px, area, approximate, mark and, with rle, segmentation),
    scores per label, timings_ms.
    """

    def __init__(self, path: str, rle: bool = False):
        self._path, self._rle, self._frames = path, rle, 0
        try:
            self._file = sys.stdout if path == "-" else open(path, "w", encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, output: Output) -> None:
        try:
            self._file.write(json_text(frame_record(output, self._rle), self._file.encoding) + "\n")
            self._file.flush()
        except OSError as error:
            if self._path != "-":
                raise _unwritable(self._path, error) from error
            if isinstance(error, BrokenPipeError):  # `| head` has read enough
                raise
            raise _unwritable("standard output", error) from error
        self._frames += 1

    def close(self) -> list[str]:
        if self._path == "-":
            return []
        try:
            self._file.close()
        except OSError as error:  # closing tries once more to write what failed before
            raise _unwritable(self._path, error) from error
        return [f"wrote {self._path}: {self._frames} lines"]


def frame_record(output: Output, rle: bool = False) -> dict:
    """The JSON object of a frame, as JsonLines writes it."""
    result = output.result
    found = []
    masks = {entry["category_id"] - 1: entry["segmentation"] for entry in result.to_coco()} if rle else {}
    for region in result.found:
        entry = {
            "label": region.label,
            "score": round(region.score, 6),
            "area_px": region.area_px,
            "area": round(region.area, 6),
            "approximate": bool(result.approximate[region.index]),
            "mark": result.marks[region.index],
        }
        if rle:
            entry["segmentation"] = masks[region.index]
        found.append(entry)
    return {
        "frame": output.frame.index,
        "time_s": round(output.frame.time_s, 6),
        "size": list(result.label_map.shape),
        "found": found,
        "scores": {name: round(float(score), 6) for name, score in zip(result.labels, result.scores)},
        "timings_ms": {stage: round(ms, 3) for stage, ms in output.stages_ms.items()},
    }


def has_display() -> bool:
    """Whether a window can be opened here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Window(Sink):
    """A window of the standard library's tkinter, which the main thread draws in poll().

    Escape or q closes it. Frames that come faster than it draws are skipped; those too large for the screen are scaled.
    """

    wants_picture = takes_repeats = True

    def __init__(self, title: str):
        try:
            import tkinter

            from PIL import ImageTk

            self._root = tkinter.Tk()
        except ImportError as error:
            raise UnavailableError(
                "a window needs tkinter, which this Python lacks (Debian: apt install python3-tk); or use --headless"
            ) from error
        except Exception as error:  # TclError: no display
            raise ZerosegError(f"no window can be opened ({error}); use --headless") from error
        self._image_tk = ImageTk
        self._root.title(title)
        self._room = tuple(
            int(SCREEN_SHARE * side) for side in (self._root.winfo_screenwidth(), self._root.winfo_screenheight())
        )
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._newest: np.ndarray | None = None
        self.closed = threading.Event()
        self.shown = 0
        for event in ("<Escape>", "q"):
            self._root.bind(event, lambda _: self.closed.set())
        self._root.protocol("WM_DELETE_WINDOW", self.closed.set)

    def write(self, output: Output) -> None:
        self._newest = output.picture

    def poll(self) -> None:
        """Draw the newest frame and handle events; call often, from the main thread."""
        picture, self._newest = self._newest, None
        if picture is not None:
            image = Image.fromarray(picture)
            image.thumbnail(self._room, Image.Resampling.BILINEAR)
            self._photo = self._image_tk.PhotoImage(image)
            self._label.configure(image=self._photo)
            self.shown += 1
        self._root.update()

    def destroy(self) -> None:
        self._root.destroy()
