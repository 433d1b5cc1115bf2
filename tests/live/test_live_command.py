"""zeroseg-infer with cameras, videos and patterns: its files, messages and refusals."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.live.conftest import video_times, write_video
from zeroseg.commands.infer import infer
from zeroseg.live.pattern import TestPattern

pytest.importorskip("av")
ROOT = Path(__file__).resolve().parents[2]
SMALL = "test://?size=160x96&live=0&frames=8"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch, packs):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture
def run(color_model):
    def invoke(*arguments):
        return CliRunner().invoke(
            infer, [*map(str, arguments), "--labels", "labels.npz", "--model", str(color_model), "--threads", "1"]
        )

    return invoke


@pytest.fixture
def clip(tmp_path):
    pattern = TestPattern("test://?size=160x96&live=0")
    return write_video(tmp_path / "clip.mp4", [pattern.picture(i) for i in range(10)])


def test_video_in_video_out(run, clip):
    done = run("clip.mp4", "--save", "out.mp4", "--jsonl", "out.jsonl")
    assert done.exit_code == 0, done.output
    assert video_times("out.mp4") == (pytest.approx(video_times(clip)[0], abs=1e-3), pytest.approx(0.4, abs=1e-3))
    assert len(Path("out.jsonl").read_text().splitlines()) == 10
    assert "wrote out.mp4: 10 frames" in done.output and "10 frames in" in done.output
    assert not Path("zeroseg-out").exists()


def test_video_alone_gets_a_video(run, clip):
    done = run("clip.mp4")
    assert done.exit_code == 0, done.output
    assert len(video_times("zeroseg-out/clip_overlay.mp4")[0]) == 10


def test_folder_with_a_video_to_save_is_frames(run):
    Path("album").mkdir()
    for i in range(3):
        Image.new("RGB", (64, 48), (i * 120, 0, 0)).save(f"album/{i}.png")
    done = run("album", "--save", "out.mp4", "--fps", "5")
    assert done.exit_code == 0, done.output
    assert video_times("out.mp4")[0] == pytest.approx([0, 0.2, 0.4], abs=1e-3)


def test_options_reach_the_frames(run):
    done = run(SMALL, "--rotate", "90", "--every", "2", "--max-frames", "3", "--save", "overlay,labels", "--no-legend")
    assert done.exit_code == 0, done.output
    maps = sorted(path.name for path in Path("zeroseg-out").glob("*_labels.png"))
    assert maps == [f"00000{i}_labels.png" for i in (0, 2, 4)]
    assert Image.open("zeroseg-out/000004_overlay.png").size == (96, 160)


def test_json_lines_on_standard_output_are_alone_there(run):
    done = run(SMALL, "--jsonl", "-")
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["frame"] for record in records] == list(range(8))


def test_legend_and_figures_are_drawn(run):
    for name, options in (("plain", ["--no-legend"]), ("legend", []), ("figures", ["--no-legend", "--figures"])):
        assert run(SMALL, "--max-frames", "1", "--save", "overlay", "--out", name, *options).exit_code == 0
    plain, legend, figures = (
        Image.open(f"{name}/000000_overlay.png").convert("RGB") for name in ("plain", "legend", "figures")
    )
    left, right = (0, 0, 80, 48), (80, 0, 160, 48)
    assert legend.crop(left).tobytes() != plain.crop(left).tobytes()
    assert figures.crop(right).tobytes() != plain.crop(right).tobytes()
    bottom = (0, 70, 160, 96)
    assert legend.crop(bottom).tobytes() == plain.crop(bottom).tobytes() == figures.crop(bottom).tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'SOURCE...'"),
        (["--camera", "77"], "camera 77: there is no such camera; cameras here: "),
        (["--camera", "/dev/video77"], "camera /dev/video77: there is no such camera; cameras here: "),
        (["missing.mp4"], "missing.mp4: no such file"),
        (["test://?size=1x1"], "expected 16 to 7680"),
        (["test://"], "there is no display for a window: use --serve, --save out.mp4 or --jsonl FILE"),
        (["test://", "test://"], "2 sources: expected one camera, video or stream"),
        (["csi://0"], "csi://0 needs GStreamer"),
        (["http://127.0.0.1:9/x"], "http://127.0.0.1:9/x: no answer"),
        ([SMALL, "--save", "json"], "json is for photos"),
        ([SMALL, "--save", "a.mp4,b.mp4"], "or a video file"),
        ([SMALL, "--size", "big"], "expected WIDTHxHEIGHT"),
        ([SMALL, "--size", "64²x48"], "expected WIDTHxHEIGHT"),
        (["test://?size=64²x48"], "expected 16 to 7680"),
        (["csi://²"], "expected csi:// and the sensor's number"),
        ([SMALL, "--jsonl", "no/such/folder.jsonl"], "no/such/folder.jsonl: cannot be written"),
        (["photo.png", "--serve", "--host", "0.0.0.0"], "0.0.0.0 opens the server to the network: give --token"),
        (["photo.png", "--rotate", "90"], "--rotate: only for cameras, videos and streams"),
    ],
)
def test_bad_input_ends_in_one_line(run, monkeypatch, arguments, message):
    monkeypatch.setenv("PATH", "")  # a Jetson has GStreamer
    Image.new("RGB", (64, 48)).save("photo.png")
    done = run(*arguments)
    assert done.exit_code in (1, 2) and message in done.output
    assert isinstance(done.exception, SystemExit) and "Traceback" not in done.output
    assert done.output.strip().splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4", "--save", "clip.mp4"], "clip.mp4: is an input and would be overwritten; choose another --save"),
        (["clip.mp4", "--jsonl", "clip.mp4"], "clip.mp4: is an input and would be overwritten; choose another --jsonl"),
        (["clip.mp4", "--jsonl", "link.mp4"], "link.mp4: is an input and would be overwritten; choose another --jsonl"),
        (["clip.mp4", "--jsonl", "labels.npz"], "labels.npz: is an input and would be overwritten"),
        (["clip.mp4", "--save", "out.mp4", "--jsonl", "./out.mp4"], "cannot be both the video and the JSON lines"),
        (
            ["album", "--jsonl", "album/000000_labels.png"],
            "album/000000_labels.png: is an input and would be overwritten",
        ),
        (["album/*.png", "--save", "labels", "--out", "album", "--jsonl", "-"], "might be overwritten"),
    ],
)
def test_no_file_that_is_read_or_written_is_overwritten(run, clip, arguments, message):
    Path("link.mp4").symlink_to(clip)
    Path("album").mkdir()
    Image.new("RGB", (64, 48)).save("album/000000_labels.png")
    before = {path: path.read_bytes() for path in Path().rglob("*.*")}
    done = run(*arguments)
    assert done.exit_code == 1 and message in done.output
    assert {path: path.read_bytes() for path in Path().rglob("*.*")} == before


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of another process is a POSIX call")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_command_leaves_a_whole_video(tmp_path, color_model, number):
    command = [
        sys.executable,
        "-c",
        "from zeroseg.cli import infer; infer()",
        "test://?size=160x96&fps=50",
        "--labels",
        "labels.npz",
        "--model",
        str(color_model),
        "--threads",
        "1",
        "--save",
        "out.mp4",
        "--headless",
        "--jsonl",
        "out.jsonl",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # a shell's background jobs ignore Ctrl-C, and so would what they start
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    lines = tmp_path / "out.jsonl"
    end = time.monotonic() + 60
    while not (lines.exists() and lines.read_text().count("\n") > 5):
        assert process.poll() is None and time.monotonic() < end, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(number)
    output = process.communicate(timeout=30)[0].decode()
    assert process.returncode == 0, output
    times, _ = video_times(tmp_path / "out.mp4")
    assert len(times) == lines.read_text().count("\n") > 5 and "Traceback" not in output


def test_ctrl_c_pressed_again_does_not_break_into_the_finishing(run, monkeypatch):
    from zeroseg.live.sinks import JsonLines, VideoFile

    write, mux = JsonLines.write, VideoFile._mux

    def pressed_at_the_sixth_frame(sink, output):
        write(sink, output)
        if output.frame.index == 5:
            signal.raise_signal(signal.SIGINT)

    def pressed_while_closing(sink, video):
        if video is None:
            signal.raise_signal(signal.SIGINT)
        mux(sink, video)

    monkeypatch.setattr(JsonLines, "write", pressed_at_the_sixth_frame)
    monkeypatch.setattr(VideoFile, "_mux", pressed_while_closing)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = run("test://?size=160x96&live=0", "--save", "out.mp4", "--jsonl", "out.jsonl")
    assert done.exit_code == 0, done.output
    count = len(Path("out.jsonl").read_text().splitlines())
    assert len(video_times("out.mp4")[0]) == count >= 6
    assert done.output.count("finishing out.mp4") == 1 and f"wrote out.mp4: {count} frames" in done.output
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ctrl_c_with_an_output_that_hangs_says_how_to_end(run, monkeypatch):
    """Like a pager that waits for a key: writing continues when it reads again."""
    from zeroseg.commands import live_run
    from zeroseg.live.sinks import JsonLines

    write, reads_on = JsonLines.write, threading.Event()

    def hangs(sink, output):
        if output.frame.index == 3:
            signal.raise_signal(signal.SIGINT)
            assert reads_on.wait(20)
        write(sink, output)

    def told(line, file=None):
        print(line, file=sys.stderr)
        if "Ctrl-\\ quits now" in line:
            reads_on.set()

    monkeypatch.setattr(JsonLines, "write", hangs)
    monkeypatch.setattr(live_run, "STUCK_S", 0.2)
    monkeypatch.setattr(live_run.tqdm, "write", told)
    done = run("test://?size=160x96&live=0", "--headless", "--jsonl", "out.jsonl")
    assert done.exit_code == 0 and done.output.count("Ctrl-\\ quits now") == 1, done.output
    assert reads_on.is_set() and len(Path("out.jsonl").read_text().splitlines()) >= 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("target", "stdout", "named"), [("/dev/full", os.devnull, "/dev/full"), ("-", "/dev/full", "standard output")]
)
def test_full_disk_in_mid_run_ends_in_one_line(tmp_path, target, stdout, named):
    """In another process, with the real model: a process that exits while a thread is in the network is aborted."""
    command = [
        sys.executable,
        "-c",
        "from zeroseg.cli import infer; infer()",
        "test://?size=640x480&live=0",
        "--labels",
        "cat",
        "--threads",
        "1",
        "--jsonl",
        target,
        "--headless",
        "--save",
        "out.mp4",
    ]
    with open(stdout, "w") as file:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == f"Error: {named}: cannot be written (No space left on device)"
    assert len(video_times(tmp_path / "out.mp4")[0]) >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_video_that_does_not_fit_leaves_the_old_one(tmp_path, color_model):
    import resource

    (tmp_path / "out.mp4").write_text("old")
    command = [
        sys.executable,
        "-c",
        "from zeroseg.cli import infer; infer()",
        "test://?size=320x192&live=0&frames=200",
        "--labels",
        "labels.npz",
        "--model",
        str(color_model),
        "--threads",
        "1",
        "--save",
        "out.mp4",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)),
    )
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("Error: out.mp4: cannot be written (")
    assert (tmp_path / "out.mp4").read_text() == "old" and not list(tmp_path.glob(".*"))


def test_serve_takes_its_settings_for_photos_too(color_model, monkeypatch):
    pytest.importorskip("fastapi")
    from zeroseg.commands import live_run
    from zeroseg.commands.serve import serve
    from zeroseg.live.server import Server

    states, served, start = [], [], Server.start

    def ask(_):
        with urllib.request.urlopen(f"http://127.0.0.1:{served[0].port}/state") as answer:
            states.append(json.load(answer))

    monkeypatch.setattr(Server, "start", lambda server: served.append(server) or start(server))
    monkeypatch.setattr(live_run, "wait_for_end", ask)
    done = CliRunner().invoke(
        serve,
        [
            "--labels",
            "labels.npz",
            "--model",
            str(color_model),
            "--threads",
            "1",
            "--port",
            "0",
            "--threshold",
            "0.7",
            "--alpha",
            "0.25",
        ],
    )
    assert done.exit_code == 0, done.output
    assert (states[0]["live"], states[0]["threshold"], states[0]["alpha"]) == (False, 0.7, 0.25)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_that_is_ended_while_it_says_where_it_listens_ends_well(color_model, monkeypatch, number):
    """Like a caller that reads this line and then ends the server."""
    pytest.importorskip("fastapi")
    from zeroseg.commands import live_run
    from zeroseg.commands.serve import serve
    from zeroseg.live.server import Server

    said, stopped, echo, stop = [], [], live_run.click.echo, Server.stop

    def pressed_at_once(line, **where):
        echo(line, **where)
        said.append(line)
        if line.startswith("page:"):
            signal.raise_signal(number)

    monkeypatch.setattr(live_run.click, "echo", pressed_at_once)
    monkeypatch.setattr(Server, "stop", lambda server: stopped.append(server) or stop(server))
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    done = CliRunner().invoke(
        serve, ["--labels", "labels.npz", "--model", str(color_model), "--threads", "1", "--port", "0"]
    )
    assert done.exit_code == 0, done.output
    assert said[-1].startswith("page: http://127.0.0.1:") and len(stopped) == 1
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
