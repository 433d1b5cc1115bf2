"""The colour and pixel metadata of a written video, read by other programs."""

import json
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from tests.live.conftest import write_video
from zeroseg.live.adjust import Adjustment
from zeroseg.live.frame import Frame
from zeroseg.live.sources import open_source

av = pytest.importorskip("av")
from zeroseg.live.sinks import Output, VideoFile  # noqa: E402

CODING_ERROR = 4  # grey levels: 8-bit YUV rounds to about 1, the encoder changes a flat area by some more
COLOR = (190, 50, 40)  # BT.601 read as BT.709 or the other way changes it by 20
KR_KB = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}  # of the matrices, by FFmpeg's number: ITU-R BT.709, BT.601


def write(path, frames) -> None:
    sink = VideoFile(path)
    for frame in frames:
        sink.write(Output(frame, None, frame.image, {}))
    sink.close()


def picture(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), COLOR, np.uint8)


def mean_yuv(path) -> np.ndarray:
    """The first frame's mean Y, U, V as they are stored."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        return np.array([np.asarray(plane).mean() for plane in frame.planes])


def rgb_of(yuv: np.ndarray, matrix: int) -> np.ndarray:
    """ITU-R BT.709 and BT.601, limited range: from stored values to RGB 0..255."""
    kr, kb = KR_KB[matrix]
    y, u, v = (yuv[0] - 16) / 219, (yuv[1] - 128) / 224, (yuv[2] - 128) / 224
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return 255 * np.array([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue])


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".avi"])
@pytest.mark.parametrize(("size", "matrix"), [((720, 1280), 1), ((480, 640), 6)])
def test_colours_are_those_that_the_matrix_of_the_size_gives(tmp_path, suffix, size, matrix):
    path = tmp_path / f"clip{suffix}"
    write(path, [Frame(picture(*size), i, i, Fraction(1, 25), 1) for i in range(3)])
    assert np.abs(rgb_of(mean_yuv(path), matrix) - COLOR).max() <= CODING_ERROR
    back = open_source(str(path)).read().image
    assert np.abs(back.mean((0, 1)) - COLOR).max() <= CODING_ERROR


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffprobe")
@pytest.mark.parametrize(("size", "matrix"), [((720, 1280), "bt709"), ((480, 640), "smpte170m")])
def test_tags_are_written_and_ffmpeg_shows_the_colours(tmp_path, size, matrix):
    path = tmp_path / "clip.mp4"
    frames = [Frame(picture(*size), i, i, Fraction(1, 25), 1, pixel_aspect=Fraction(64, 45)) for i in range(3)]
    write(path, frames)
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", path], capture_output=True, check=True
    )
    stream = json.loads(told.stdout)["streams"][0]
    assert (stream["color_space"], stream["color_range"], stream["sample_aspect_ratio"]) == (matrix, "tv", "64:45")
    assert (stream["color_primaries"], stream["color_transfer"]) == ("bt709", "bt709")
    shown = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert np.abs(np.frombuffer(shown.stdout, np.uint8).reshape(-1, 3).mean(0) - COLOR).max() <= CODING_ERROR


def tagged_video(path, matrix: int, full_range: bool, aspect=Fraction(1), size=(720, 1280), trc=1, primaries=1):
    """A video of COLOR whose YUV values are computed here; matrix None leaves it untagged."""
    kr, kb = KR_KB[matrix or 1]
    red, green, blue = np.array(COLOR) / 255
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    stored = (255 * y, 255 * u + 128, 255 * v + 128) if full_range else (219 * y + 16, 224 * u + 128, 224 * v + 128)
    frame = av.VideoFrame(size[1], size[0], "yuv420p")
    for plane, value in zip(frame.planes, stored):
        plane.update(bytes([round(value)]) * plane.buffer_size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        if matrix:
            codec = stream.codec_context
            codec.colorspace, codec.color_range = matrix, 2 if full_range else 1
            codec.color_primaries, codec.color_trc = primaries, trc
            codec.sample_aspect_ratio = aspect
            frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
        for i in range(3):
            frame.pts = i
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("matrix", "full_range", "size"),
    [(1, False, (720, 1280)), (1, True, (720, 1280)), (6, False, (720, 1280)), (6, True, (480, 640)),
     (1, False, (480, 640)), (None, False, (720, 1280))],
)  # fmt: skip
def test_colours_pass_through_whatever_matrix_and_range_came(tmp_path, matrix, full_range, size):
    source = open_source(str(tagged_video(tmp_path / "in.mp4", matrix, full_range, size=size)))
    frame = source.read()
    assert np.abs(frame.image.mean((0, 1)) - COLOR).max() <= CODING_ERROR
    write(tmp_path / "out.mp4", [frame])
    assert np.abs(rgb_of(mean_yuv(tmp_path / "out.mp4"), 1 if size[0] >= 720 else 6) - COLOR).max() <= CODING_ERROR


@pytest.mark.parametrize("rotate", [0, 90])
def test_aspect_and_transfer_of_the_source_are_kept(tmp_path, rotate):
    path = tagged_video(tmp_path / "in.mp4", 6, False, Fraction(64, 45), (576, 720), trc=16, primaries=9)
    frame = open_source(str(path), Adjustment(rotate=rotate)).read()
    write(tmp_path / "out.mp4", [frame])
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == (Fraction(45, 64) if rotate else Fraction(64, 45))
        assert (int(stream.codec_context.color_primaries), int(stream.codec_context.color_trc)) == (9, 16)


def test_a_grey_and_an_rgb_hd_video_need_no_matrix(tmp_path):
    for pix_fmt in ("gray", "bgr0"):
        path = write_video(tmp_path / f"{pix_fmt}.mkv", [picture(720, 1280)], codec="ffv1", pix_fmt=pix_fmt)
        wanted = [0.299 * 190 + 0.587 * 50 + 0.114 * 40] * 3 if pix_fmt == "gray" else COLOR
        assert np.abs(open_source(str(path)).read().image.mean((0, 1)) - wanted).max() <= CODING_ERROR
