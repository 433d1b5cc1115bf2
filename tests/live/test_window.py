"""The window on a virtual screen: it shows the picture, the picture moves, and q or Ctrl-C ends it."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import ImageGrab, features

from tests.color_model import vectors, write_color_model
from zeroseg.live.pattern import TestPattern, frame_number
from zeroseg.words import LabelPack

pytest.importorskip("av")
pytest.importorskip("tkinter", reason="this Python has no tkinter")
pytestmark = pytest.mark.skipif(
    not shutil.which("Xvfb") or not features.check("xcb"),
    reason="needs Xvfb for a screen, and Pillow with XCB to look at it",
)
HEIGHT, WIDTH = 192, 320


@pytest.fixture(scope="module")
def screen():
    """A virtual screen's name, such as ":7"; one for all, as a process that used tkinter ends with its screen."""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as told:
        yield f":{told.readline().strip()}"
    server.terminate()
    server.wait(10)


def corner(screen: str) -> np.ndarray:
    """The screen where the window appears; no window manager moves it."""
    return np.asarray(ImageGrab.grab(xdisplay=screen).convert("RGB"))[:HEIGHT, :WIDTH]


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return value


def test_the_command_shows_the_live_picture_until_ctrl_c(screen, tmp_path):
    model = write_color_model(tmp_path)
    labels = LabelPack(["rose"], vectors("red"), "openai/clip-vit-base-patch32").save(tmp_path / "labels.npz")
    command = [
        sys.executable,
        "-c",
        "from zeroseg.cli import main; main()",
        "infer",
        f"test://?size={WIDTH}x{HEIGHT}&fps=20",
        "--labels",
        labels,
        "--model",
        model,
        "--alpha",
        "0",
        "--no-legend",
        "--threads",
        "1",
    ]
    job = subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, "DISPLAY": screen},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        pattern = TestPattern(f"test://?size={WIDTH}x{HEIGHT}")

        def shown() -> int:
            """The number of the frame on the screen; with alpha 0 nothing is drawn over it."""
            assert job.poll() is None, job.communicate()[1]
            seen = corner(screen)
            return np.array_equal(seen, pattern.picture(frame_number(seen))) and frame_number(seen)

        first = wait_for(shown)
        wait_for(lambda: shown() > first + 5)
    finally:
        job.send_signal(signal.SIGINT)
        out, err = job.communicate(timeout=60)
    assert job.returncode == 0 and "frames" in out + err, err


def test_q_closes_it_and_late_frames_are_skipped(screen, monkeypatch):
    from types import SimpleNamespace

    from zeroseg.live.sinks import Window

    monkeypatch.setenv("DISPLAY", screen)
    window = Window("a title")
    for level in (50, 200):
        window.write(SimpleNamespace(picture=np.full((HEIGHT, WIDTH, 3), level, np.uint8)))
    window.poll()
    wait_for(lambda: window.poll() or (corner(screen) == 200).all())
    assert window.shown == 1 and not window.closed.is_set()
    window._root.focus_force()
    window._root.event_generate("q")
    window.poll()
    assert window.closed.is_set()
    window.destroy()


def test_picture_larger_than_the_screen_is_scaled_to_it(screen, monkeypatch):
    """1280 x 720 with a colour in each quarter, on 640 x 480: 576 x 324 are nine tenths of its width."""
    from types import SimpleNamespace

    from zeroseg.live.sinks import Window

    monkeypatch.setenv("DISPLAY", screen)
    window = Window("a title")
    picture = np.zeros((720, 1280, 3), np.uint8)
    quarters = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    for i, color in enumerate(quarters):
        picture[i // 2 * 360 :][:360, i % 2 * 640 :][:, :640] = color

    def seen():
        window.write(SimpleNamespace(picture=picture))
        window.poll()
        return np.asarray(ImageGrab.grab(xdisplay=screen).convert("RGB"))

    wait_for(lambda: (seen()[300, 560] == quarters[3]).all())
    shown = seen()
    for i, color in enumerate(quarters):
        inside = shown[2 + i // 2 * 162 :][:158, 2 + i % 2 * 288 :][:, :284]
        assert (inside == color).all()
    assert not (shown[:324, 577:] == picture[0, -1]).all(-1).any()
    window.destroy()
