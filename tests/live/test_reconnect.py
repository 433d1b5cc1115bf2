"""Cameras and streams that fail and return, with a real MJPEG server on loopback and a stand-in for csi://."""

import os
import stat
import sys
import threading
import time

import numpy as np
import pytest

from zeroseg.bench.loopback import MjpegServer
from zeroseg.bench.loopback_rtsp import RtspServer, fragments
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.live import cameras
from zeroseg.live.cameras import CsiCamera, csi_pipeline, open_camera
from zeroseg.live.frame import Frame, Source
from zeroseg.live.pattern import TestPattern, frame_number
from zeroseg.live.reconnect import Reconnecting
from zeroseg.live.sources import open_source

pytest.importorskip("av")


@pytest.mark.parametrize("kind", [MjpegServer, RtspServer])
def test_stream_is_killed_and_restored(kind):
    server = kind(TestPattern("test://?size=320x192").picture, rate=25)
    said = []
    source = open_source(server.url, say=said.append)
    assert source.live
    numbers = [frame_number(source.read().image) for _ in range(5)]
    assert numbers == sorted(numbers) and len(set(numbers)) == 5
    assert source.away is None
    server.kill()
    threading.Timer(1.0, server.restore).start()
    deadline = time.perf_counter() + 30
    while not source.reconnects:
        last = source.read()
        assert time.perf_counter() < deadline
    after = [source.read() for _ in range(3)]
    assert [frame.index for frame in after] == [last.index + i for i in (1, 2, 3)]
    assert after[0].time_s > 1.0 and source.reconnects == 1
    assert "lost (" in said[0] and "back (reconnect 1)" in said[-1]
    source.close()
    server.kill()


def test_rtsp_gives_the_filmed_frames():
    """Every frame of the pattern, found by its number, through H.264 in RTP; large ones are sent in fragments."""
    pattern = TestPattern("test://?size=640x384")
    server = RtspServer(pattern.picture, rate=25)
    source = open_source(server.url)
    for _ in range(8):
        frame = source.read()
        sent = pattern.picture(frame_number(frame.image))
        assert frame.image.shape == sent.shape and np.abs(frame.image.astype(int) - sent).mean() < 4
    source.close()
    server.kill()


def test_fragments_join_to_the_unit():
    """RFC 6184: the indicator keeps the unit's F and NRI bits; the header has its type and marks first and last."""
    unit = bytes([0x65]) + bytes(np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8))
    pieces = fragments(unit)
    assert [piece[0] for piece in pieces] == [0x7C] * 3 and [piece[1] for piece in pieces] == [0x85, 0x05, 0x45]
    assert bytes([pieces[0][0] & 0xE0 | pieces[0][1] & 31]) + b"".join(piece[2:] for piece in pieces) == unit
    assert fragments(unit[:1400]) == [unit[:1400]]


def test_stop_ends_the_waiting_for_a_dead_stream():
    server = MjpegServer(TestPattern("test://?size=64x64").picture)
    source = open_source(server.url)
    source.read()
    server.kill()
    threading.Timer(0.5, source.stop).start()
    start = time.perf_counter()
    while source.read() is not None:
        pass
    assert time.perf_counter() - start < 10
    source.close()


class Flaky(Source):
    """Gives two frames and dies."""

    name, live = "flaky", True

    def __init__(self, wrong=False):
        if wrong:
            raise ZerosegError("flaky: still away")
        self.left = 2

    def read(self):
        self.left -= 1
        if self.left < 0:
            raise ZerosegError("flaky: unplugged")
        return Frame(np.zeros((2, 2, 3), np.uint8), 0, 0)


def test_back_off_doubles_up_to_a_second(monkeypatch):
    waits, opened = [], []

    def opening():
        opened.append(len(opened))
        return Flaky(wrong=0 < len(opened) - 1 < 7)

    said = []
    source = Reconnecting(opening, said.append)
    monkeypatch.setattr(source._stopped, "wait", lambda seconds: waits.append(seconds))
    frames = [source.read() for _ in range(3)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
    assert [frame.index for frame in frames] == [0, 1, 2] and source.reconnects == 1
    assert said == ["flaky: lost (unplugged); reconnecting", "flaky: back (reconnect 1)"]


def test_wrong_address_at_the_start_is_an_error():
    with pytest.raises(ZerosegError, match="still away"):
        Reconnecting(lambda: Flaky(wrong=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/sys/class/video4linux is Linux's")
def test_missing_camera_lists_the_existing_ones(monkeypatch):
    monkeypatch.setattr(cameras, "list_cameras", lambda: [("/dev/video4", "A Camera"), ("/dev/video5", "")])
    with pytest.raises(ZerosegError) as caught:
        open_camera("77")
    assert str(caught.value) == (
        "camera 77: there is no such camera; cameras here: /dev/video4 (A Camera), /dev/video5"
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a device file")
def test_device_that_is_no_camera_is_one_line():
    with pytest.raises(ZerosegError, match="camera /dev/null: .*; cameras here: "):
        open_camera("/dev/null")


def test_csi_pipeline_is_what_jetsons_take():
    assert " ".join(csi_pipeline(1, (1920, 1080), 30)) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1 ! nvvidconv ! "
        "video/x-raw,format=BGRx,width=1920,height=1080 ! videoconvert ! "
        "video/x-raw,format=RGB,width=1920,height=1080 ! fdsink fd=1 sync=false"
    )


@pytest.fixture
def gstreamer(tmp_path, monkeypatch):
    """Makes a stand-in for gst-launch-1.0 of some lines of Python; picture is a row of 19 padded pixels, 16 times."""

    def make(lines):
        program = tmp_path / "gst-launch-1.0"
        program.write_text(
            f"#!{sys.executable}\nimport os, time\npicture = (bytes(range(1, 58)) + bytes(3)) * 16\n{lines}\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return make


@pytest.mark.skipif(sys.platform == "win32", reason="a script as a program")
def test_csi_reads_rows_that_are_padded(gstreamer):
    gstreamer("[os.write(1, picture) for _ in range(2)]\nos.write(2, b'ERROR: no camera available\\n')")
    camera = CsiCamera(0, size=(19, 16), rate=30)
    frame = camera.read()
    assert frame.image.shape == (16, 19, 3) and frame.image[5].ravel().tolist() == list(range(1, 58))
    assert camera.read().index == 1
    with pytest.raises(ZerosegError, match="csi://0: ERROR: no camera available"):
        camera.read()
    camera.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a script as a program")
def test_csi_that_stalls_is_opened_again_and_gstreamer_s_messages_block_nothing(gstreamer, monkeypatch):
    monkeypatch.setattr(cameras, "READ_TIMEOUT_S", 0.3)
    # more than a pipe holds, then a picture in two pieces, then nothing
    gstreamer(
        "os.write(2, b'WARNING: late\\n' * 20_000)\nos.write(1, picture[:100])\ntime.sleep(0.1)\n"
        "os.write(1, picture[100:])\ntime.sleep(60)"
    )
    said = []
    source = Reconnecting(lambda: CsiCamera(0, size=(19, 16), rate=30), said.append)
    frames = [source.read() for _ in range(2)]
    assert [frame.image[5].ravel().tolist() for frame in frames] == [list(range(1, 58))] * 2
    assert said == ["csi://0: lost (no picture for 0.3 s); reconnecting", "csi://0: back (reconnect 1)"]
    threading.Timer(0.05, source.stop).start()
    assert source.read() is None and len(said) == 2
    source.close()


def test_csi_without_gstreamer(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="gst-launch-1.0 is not on the PATH"):
        CsiCamera(0)
