"""Videos, animations and addresses with misleading names."""

import http.server
import io
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import video_times, write_video
from zeroseg.commands.photo_files import local_pictures
from zeroseg.errors import ZerosegError
from zeroseg.live.frame import Frame
from zeroseg.live.kinds import kind_of
from zeroseg.live.pattern import TestPattern, frame_number
from zeroseg.live.sources import open_source
from zeroseg.photos.decode import load_image

pytest.importorskip("av")
from zeroseg.live.sinks import Output, VideoFile  # noqa: E402


def scene(count):
    pattern = TestPattern("test://?size=160x96&live=0")
    return [pattern.picture(i) for i in range(count)]


def numbers(source) -> list[int]:
    found = []
    while (frame := source.read()) is not None:
        found.append(frame_number(frame.image))
    source.close()
    return found


def save(source, path: Path) -> list[float]:
    """Write the source as zeroseg-infer --save does; return the times of the frames that are in the file."""
    sink = VideoFile(path, source.rate)
    while (frame := source.read()) is not None:
        sink.write(Output(frame, None, frame.image, {}))
    sink.close()
    return video_times(path.absolute())[0]


@pytest.mark.parametrize(
    "name", ["12:30:05.mp4", "http:x.mkv", "a b%03d.mp4", "caf\u00e9:.mp4", os.fsdecode(b"caf\xe9.mp4")]
)
def test_names_with_a_colon_are_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / f"in{Path(name).suffix}", scene(4)).rename(tmp_path / name)
    assert numbers(open_source(name)) == [0, 1, 2, 3]
    assert len(save(open_source(name), Path("out:" + name))) == 4
    with pytest.raises(ZerosegError, match="^no:pe.mp4: no such file"):
        open_source("no:pe.mp4")


@pytest.mark.parametrize(
    ("suffix", "made_as", "codec"),
    [
        (".vob", ".vob", "mpeg2video"),
        (".asf", ".asf", "mpeg4"),
        (".m2v", ".m2v", "mpeg2video"),
        ("", ".mp4", "mpeg4"),
        ("", ".mkv", "mpeg4"),
        ("", ".avi", "mpeg4"),
        ("", ".ts", "mpeg2video"),
        ("", ".mpg", "mpeg2video"),
        ("", ".flv", "flv1"),
        (".part", ".webm", "libvpx-vp9"),
        (".download", ".mov", "mpeg4"),
    ],
)
def test_videos_of_any_suffix_or_none(tmp_path, suffix, made_as, codec):
    path = write_video(tmp_path / f"made{made_as}", scene(4), codec=codec).rename(tmp_path / f"clip{suffix}")
    assert kind_of(str(path)) == "video"
    assert numbers(open_source(str(path))) == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "avif"])
def test_pictures_without_a_suffix_are_pictures(tmp_path, suffix):
    Image.new("RGB", (40, 30), "red").save(tmp_path / f"x.{suffix}")
    path = (tmp_path / f"x.{suffix}").rename(tmp_path / "x")
    assert kind_of(str(path)) == "pictures" and open_source(str(path)).read().image.shape == (30, 40, 3)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_every_frame_of_an_animation_is_written_at_its_time(tmp_path, suffix):
    durations = [40, 120, 40, 200, 40, 40]
    first, *others = (Image.fromarray(picture) for picture in scene(6))
    path = tmp_path / f"clip.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=others, duration=durations, **options)
    source = open_source(str(path))
    assert source.frame_count == 6
    assert numbers(source) == list(range(6))
    times = save(open_source(str(path)), tmp_path / "out.mp4")
    assert times == pytest.approx(np.cumsum([0, *durations[:-1]]) / 1000, abs=2e-3)


def test_pages_and_single_pictures_are_no_animation(tmp_path):
    pages = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.gif")
    for name in ("pages.tif", "one.gif"):
        assert open_source(str(tmp_path / name)).frame_count == 1


def test_a_damaged_animation_ends_with_a_remark(tmp_path):
    first, *others = (Image.fromarray(picture) for picture in scene(4))
    path = tmp_path / "clip.gif"
    first.save(path, save_all=True, append_images=others, duration=40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    source = open_source(str(path))
    frames = [frame for frame in iter(source.read, None)]
    assert 1 <= len(frames) < 4 and isinstance(frames[0], Frame)
    assert len(frames) == source.frame_count or f"frame {len(frames) + 1} is damaged" in source.remarks()[0]


JPEG = io.BytesIO()
Image.new("RGB", (64, 48), (200, 30, 30)).save(JPEG, format="JPEG")
PARTS = {  # what stands before the first part, before the others, and the lines of their heads
    "/good": ("--b\r\n", ["Content-Type: image/jpeg"]),
    "/image-jpg": ("--b\r\n", ["Content-Type: image/jpg"]),
    "/no-type": ("--b\r\n", ["X-Camera: 1"]),
    "/no-boundary": ("", ["Content-Type: image/jpeg"]),
    "/type-once": ("--b\r\n", ["Content-Type: image/jpeg", "X-Camera: 1"]),
}


class Camera(http.server.BaseHTTPRequestHandler):
    connections = 0

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        type(self).connections += 1
        try:
            if self.path.startswith("/still"):
                self.send_response(200)
                if "typed" in self.path:
                    self.send_header("Content-Type", "image/jpeg")
                self.end_headers()
                self.wfile.write(JPEG.getvalue())
                return
            if self.path not in PARTS:
                self.send_error(404)
                return
            start, heads = PARTS[self.path]
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            for i in range(200):
                head = f"{heads[min(i, len(heads) - 1)]}\r\nContent-Length: {len(JPEG.getvalue())}\r\n\r\n"
                self.wfile.write(((start if i == 0 else "\r\n--b\r\n") + head).encode() + JPEG.getvalue())
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            pass


@pytest.fixture(scope="module")
def camera():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("path", PARTS)
def test_mjpeg_of_careless_cameras_is_read(camera, path):
    Camera.connections, said = 0, []
    source = open_source(f"{camera}{path}", say=said.append)
    frames = [source.read() for _ in range(12)]
    source.close()
    assert all(np.abs(frame.image.mean((0, 1)) - (200, 30, 30)).max() < 4 for frame in frames)
    assert [frame.index for frame in frames] == list(range(12))
    assert Camera.connections <= 3 and len(said) <= 2, said


@pytest.mark.parametrize("path", ["/still/cat.jpg", "/still/typed/cat.jpg", "/still/typed?size=2"])
def test_the_address_of_a_picture_is_a_photo(camera, tmp_path, capsys, path):
    url = camera.replace("//", "//me:secret@") + path
    for _ in range(2):  # the same picture again is the same file
        [local] = local_pictures([url], tmp_path / "out")
    assert Path(local).parent == tmp_path / "out" and Path(local).read_bytes() == JPEG.getvalue()
    assert kind_of(local) == "pictures" and len(list((tmp_path / "out").iterdir())) == 1
    assert "secret" not in capsys.readouterr().err
    Path(local).write_bytes(b"a file of the user's")
    [other] = local_pictures([url], tmp_path / "out")
    assert Path(local).read_bytes() == b"a file of the user's" and Path(other).read_bytes() == JPEG.getvalue()


@pytest.mark.parametrize("path", ["/still/cat.jpg", "/still/typed"])
def test_a_picture_is_no_stream(camera, path):
    with pytest.raises(ZerosegError, match="is a single picture, not a stream; save it as a file") as caught:
        open_source(camera + path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/good", "/nothing.jpg", "/still/unknown"])
def test_other_addresses_stay_as_they_are(camera, tmp_path, path):
    assert local_pictures([camera + path, "a.jpg"], tmp_path / "out") == [camera + path, "a.jpg"]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs /dev/shm")
def test_a_disk_in_memory_holds_no_cameras():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Image.new("RGB", (40, 30), "red").save(f"{folder}/a.png")
        assert kind_of(folder) == kind_of(f"{folder}/a.png") == "pictures"
        assert open_source(folder).read().image.shape == (30, 40, 3)
        write_video(Path(folder, "a.mp4"), scene(2))
        assert kind_of(f"{folder}/a.mp4") == "video"


def test_a_pipe_of_the_shell_is_a_photo(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(JPEG.getvalue(),), daemon=True)
    assert kind_of(str(tmp_path / "pipe")) == "pictures"
    writer.start()
    assert load_image(tmp_path / "pipe").shape == (48, 64, 3)


def test_file_addresses_are_paths(tmp_path):
    path = tmp_path / "my cat #1.png"
    assert local_pictures([path.as_uri(), path.as_uri().replace("file:", "FILE:")], tmp_path) == [str(path)] * 2


def test_a_picture_too_wide_for_a_codec_says_what_to_do(tmp_path):
    frame = Frame(np.zeros((2, 20_000, 3), np.uint8), 0, 0)
    with pytest.raises(ZerosegError, match=r"out.mp4: 20000 x 2 px is more than .* takes \(16384 a side\)"):
        VideoFile(tmp_path / "out.mp4").write(Output(frame, None, frame.image, {}))
