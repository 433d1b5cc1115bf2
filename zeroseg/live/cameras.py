"""Cameras: /dev/video* and similar devices through FFmpeg, Jetson's csi:// through GStreamer."""

import os
import select
import shutil
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.live.decoder import READ_TIMEOUT_S, Decoder, load_av
from zeroseg.live.frame import MICROSECOND, Frame, Source

CSI_SIZE, CSI_RATE = (1280, 720), 30  # defaults: (width, height) in px, frames per second
_FIRST_FRAME_S = 10.0
_LINES_KEPT = 20  # of GStreamer's messages


def list_cameras() -> list[tuple[str, str]]:
    """(address, name) of every camera that this machine reports."""
    if sys.platform.startswith("linux"):
        folders = sorted(Path("/sys/class/video4linux").glob("video*"), key=lambda p: int(p.name[5:] or 0))
        return [(f"/dev/{folder.name}", _first_line(folder / "name")) for folder in folders]
    av = load_av()
    kind = "avfoundation" if sys.platform == "darwin" else "dshow"
    try:
        return [(device.name, device.description) for device in av.enumerate_input_devices(kind)]
    except (av.FFmpegError, ValueError, AttributeError):
        return []


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def no_camera(address: str, reason: str) -> ZerosegError:
    """The error that lists the available cameras."""
    there = ", ".join(f"{where} ({name})" if name else where for where, name in list_cameras())
    return ZerosegError(f"camera {address}: {reason}; cameras here: {there or 'none'}")


def open_camera(address: str, size: tuple[int, int] | None = None, rate: float | None = None) -> Source:
    """A camera by number or device file; size (width, height) px and frames per second are requests."""
    options = {"video_size": f"{size[0]}x{size[1]}"} if size else {}
    if rate:
        options["framerate"] = f"{rate:g}"
    if sys.platform.startswith("linux"):
        url, kind = f"/dev/video{address}" if address.isdecimal() else address, "v4l2"
        if not os.path.exists(url):
            raise no_camera(address, "there is no such camera")
        options.setdefault("input_format", "mjpeg")  # raw pictures of 720p and up do not fit through USB 2
    elif sys.platform == "darwin":
        url, kind = address, "avfoundation"
        options.setdefault("framerate", "30")
    else:
        url, kind = address if address.startswith("video=") else f"video={_dshow_name(address)}", "dshow"
    attempts = [options]
    if "input_format" in options:  # the camera may give raw pictures only
        attempts.append({key: value for key, value in options.items() if key != "input_format"})
    for attempt in attempts:
        try:
            return Decoder(url, name=f"camera {address}", container_format=kind, options=attempt, live=True)
        except ZerosegError as error:
            reason = str(error).removeprefix(f"camera {address}: ")
    raise no_camera(address, reason)


def _dshow_name(address: str) -> str:
    cameras = list_cameras()
    return cameras[int(address)][0] if address.isdecimal() and int(address) < len(cameras) else address


def csi_pipeline(sensor: int, size: tuple[int, int] = CSI_SIZE, rate: float = CSI_RATE) -> list[str]:
    """The gst-launch-1.0 arguments that put a CSI sensor's RGB pictures on stdout; size (width, height) px."""
    width, height = size
    rate = Fraction(rate).limit_denominator(1001)
    return [
        "nvarguscamerasrc",
        f"sensor-id={sensor}",
        "!",
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate.numerator}/{rate.denominator}",
        "!",
        "nvvidconv",
        "!",
        f"video/x-raw,format=BGRx,width={width},height={height}",
        "!",
        "videoconvert",
        "!",
        f"video/x-raw,format=RGB,width={width},height={height}",
        "!",
        "fdsink",
        "fd=1",
        "sync=false",
    ]


class CsiCamera(Source):
    """csi://N: a Jetson's sensor, read through GStreamer's command, without a Python binding or a special OpenCV.

    gst-launch-1.0 writes raw RGB to a pipe, with rows padded to 4 bytes. Closing the pipe ends it. A sensor that stalls
    or ends is an error, so that it is opened again.
    """

    live = True

    def __init__(self, sensor: int, size: tuple[int, int] | None = None, rate: float | None = None):
        launcher = shutil.which("gst-launch-1.0")
        if launcher is None:
            raise UnavailableError(
                f"csi://{sensor} needs GStreamer, and gst-launch-1.0 is not on the PATH; "
                "on a Jetson it comes with JetPack"
            )
        self.name = f"csi://{sensor}"
        self._width, self._height = size or CSI_SIZE
        self.rate = Fraction(rate or CSI_RATE).limit_denominator(1001)
        arguments = csi_pipeline(sensor, (self._width, self._height), self.rate)
        # a separate session: only this process gets Ctrl-C, and then ends GStreamer
        self._process = subprocess.Popen(
            [launcher, "-q", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True, name="zeroseg-gstreamer")
        self._listener.start()
        self._stride = (3 * self._width + 3) // 4 * 4
        self._index, self._start_s = 0, 0.0

    def read(self) -> Frame | None:
        data = self._read_picture()
        now = time.perf_counter()
        rows = np.frombuffer(data, np.uint8).reshape(self._height, self._stride)
        image = np.ascontiguousarray(rows[:, : 3 * self._width]).reshape(self._height, self._width, 3)
        self._start_s = self._start_s or now
        frame = Frame(image, self._index, round((now - self._start_s) * 1e6), MICROSECOND, 0, now)
        self._index += 1
        return frame

    def _read_picture(self) -> bytearray:
        pipe, data = self._process.stdout, bytearray(self._stride * self._height)
        wait_s = max(READ_TIMEOUT_S, 2 / self.rate) if self._index else _FIRST_FRAME_S
        end_s, view, at = time.monotonic() + wait_s, memoryview(data), 0
        while at < len(data):
            if not select.select([pipe], [], [], max(0.0, end_s - time.monotonic()))[0]:
                raise ZerosegError(f"{self.name}: no picture for {float(wait_s):g} s")
            count = pipe.readinto(view[at:])
            if not count:
                self._listener.join(1.0)
                raise ZerosegError(f"{self.name}: {self._said[0] if self._said else 'GStreamer gave no picture'}")
            at += count
        return data

    def _listen(self) -> None:
        """Read GStreamer's stderr as long as it runs, because a full pipe would block it."""
        for line in self._process.stderr:
            if len(self._said) < _LINES_KEPT and line.strip():
                self._said.append(line.decode(errors="replace").strip())

    def stop(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join(1.0)
        self._process.stdout.close()
        self._process.stderr.close()
