"""Every frame of a file, in order, upright, with its own time; bad files end in one line."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import write_video
from zeroseg.errors import ZerosegError
from zeroseg.live.adjust import Adjusted, Adjustment, adjusted
from zeroseg.live.frame import Frame, Source
from zeroseg.live.kinds import kind_of, without_password
from zeroseg.live.pattern import TestPattern, frame_number
from zeroseg.live.sources import open_source

pytest.importorskip("av")
CODING_ERROR = 12  # grey levels that lossy coding may change a flat area by


def drain(source):
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def scene(count, size=(160, 96)):
    pattern = TestPattern(f"test://?size={size[0]}x{size[1]}&live=0")
    return [pattern.picture(i) for i in range(count)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("test://", "test"),
        ("csi://0", "csi"),
        ("/dev/video0", "camera"),
        ("0", "camera"),
        ("rtsp://cam/1", "stream"),
        ("http://cam/video.mjpg", "stream"),
        ("clip.MP4", "video"),
        ("HTTP://cam/video.mjpg", "stream"),
        ("photo.jpg", "pictures"),
        ("folder", "pictures"),
    ],
)
def test_kind_by_looks(text, kind):
    assert kind_of(text) == kind


def test_pattern_shows_its_number_and_moves():
    frames = drain(open_source("test://?size=320x180&frames=70&live=0"))
    assert [frame_number(frame.image) for frame in frames] == list(range(70))
    assert [frame.index for frame in frames] == list(range(70))
    assert frames[3].time_s == pytest.approx(0.1)
    for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        places = [np.argwhere((frame.image == color).all(-1)).mean(0) for frame in (frames[0], frames[40])]
        assert np.linalg.norm(places[1] - places[0]) > 10


def test_video_gives_every_frame_and_its_time(tmp_path):
    pictures = scene(30)
    pts = [int(1000 * t) for t in np.cumsum([0, *([0.02, 0.04, 0.1] * 10)])[:30]]  # a variable frame rate
    path = write_video(tmp_path / "clip.mp4", pictures, pts, time_base=Fraction(1, 1000))
    frames = drain(open_source(str(path)))
    assert [frame_number(frame.image) for frame in frames] == list(range(30))
    assert [frame.time_s for frame in frames] == pytest.approx([p / 1000 for p in pts], abs=1e-3)
    for frame, picture in zip(frames, pictures):
        flat = (picture == (0, 255, 0)).all(-1)
        assert np.abs(np.median(frame.image[flat], axis=0) - [0, 255, 0]).max() < CODING_ERROR


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "gray", "gray10le", "yuv422p10le", "bgr0"])
def test_pixel_formats_become_rgb(tmp_path, pix_fmt):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 48:] = (200, 40, 40)
    path = write_video(tmp_path / "clip.mkv", [picture] * 3, codec="ffv1", pix_fmt=pix_fmt)
    image = drain(open_source(str(path)))[2].image
    grey = 0.299 * 200 + 0.587 * 40 + 0.114 * 40
    expected = [grey] * 3 if pix_fmt.startswith("gray") else [200, 40, 40]
    assert np.abs(image[32, 80].astype(float) - expected).max() <= 6
    assert image[32, 10].max() <= 3


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("libx265", "yuv420p10le"), ("libsvtav1", "yuv420p")],
)
def test_codecs_of_phones_and_downloads(tmp_path, codec, pix_fmt):
    """With frames that are coded out of order."""
    import av

    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec} to make such a video")
    pictures = scene(12)
    frames = drain(open_source(str(write_video(tmp_path / "clip.mp4", pictures, codec=codec, pix_fmt=pix_fmt))))
    assert [frame_number(frame.image) for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(12)], abs=1e-3)
    for frame, picture in zip(frames, pictures):
        for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
            flat = frame.image[(picture == color).all(-1)]
            assert np.abs(np.median(flat, axis=0) - color).max() < CODING_ERROR


def rotate_in_container(path, matrix):
    """Set the display matrix in an mp4's track header, as a phone does: 9 numbers, 16.16 (and 2.30) fixed point."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    at += 4 + (20 if data[at] == 0 else 32) + 16
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "turns_clockwise"),
    [
        ((0, 1 << 16, 0, -(1 << 16), 0, 0, 96 << 16, 0, 1 << 30), 1),
        ((-(1 << 16), 0, 0, 0, -(1 << 16), 0, 160 << 16, 96 << 16, 1 << 30), 2),
        ((0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 160 << 16, 1 << 30), 3),
    ],
)
def test_phone_videos_are_upright(tmp_path, matrix, turns_clockwise):
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:40, :60] = 255  # a corner tells the turn
    path = write_video(tmp_path / "phone.mp4", [picture] * 3)
    rotate_in_container(path, matrix)
    image = drain(open_source(str(path)))[0].image
    expected = np.rot90(picture, -turns_clockwise)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4


def test_changing_size_is_read_as_it_is(tmp_path):
    """Two MPEG transport streams in a row are one, whose picture grows."""
    sizes = (160, 96), (320, 192)
    parts = [write_video(tmp_path / f"{size[0]}.ts", scene(8, size), codec="mpeg2video") for size in sizes]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    sizes = [frame.image.shape[:2] for frame in drain(open_source(str(path)))]
    assert len(sizes) >= 15 and set(sizes) == {(96, 160), (192, 320)}  # FFmpeg may keep back one at the change


def without_length_tag(path):
    """As files of other programs: Matroska's length of each track is a tag that not all write."""
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"SOMEWHAT"))


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "mpeg4"), (".webm", "libvpx-vp9"), (".flv", "flv1")])
@pytest.mark.parametrize("tagged", [True, False])
def test_cut_off_video_gives_what_it_has_and_says_so(tmp_path, suffix, codec, tagged):
    path = write_video(tmp_path / f"clip{suffix}", scene(40), codec=codec)
    if not tagged:
        without_length_tag(path)
    source = open_source(str(path))
    assert len(drain(source)) == 40 and source.remarks() == []
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    source = open_source(str(path))
    numbers = [frame_number(frame.image) for frame in drain(source)]
    assert 5 < len(numbers) < 40 and numbers[:-1] == list(range(len(numbers) - 1))  # the cut may go through the last
    assert source.remarks() == [
        f"{path}: lasts 1.6 s according to its header, but ends after {len(numbers) / 25:.1f} s; it may be truncated"
    ]


@pytest.mark.parametrize("tagged", [True, False])
def test_sound_that_goes_on_longer_is_no_cut(tmp_path, tagged):
    import av

    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=25), container.add_stream("aac", rate=48000)
        video.width, video.height = 160, 96
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 48000 * 12 // 5), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48000  # 2.4 s, the picture 1.6
        pictures = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in scene(40)]
        for packet in [p for picture in [*pictures, None] for p in video.encode(picture)]:
            container.mux(packet)
        for packet in [*audio.encode(sound), *audio.encode()]:
            container.mux(packet)
    if not tagged:
        without_length_tag(path)
    source = open_source(str(path))
    assert len(drain(source)) == 40 and source.remarks() == []


def test_cut_off_mp4_with_its_index_first(tmp_path):
    import av

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 160, 96
        for picture in scene(40):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    source = open_source(str(path))
    frames = drain(source)
    assert 5 < len(frames) < 40
    assert f"has 40 frames according to its header, but ends after {len(frames)}" in source.remarks()[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "missing.mp4: no such file"),
        ("empty.mp4", b"", "empty.mp4: an empty file"),
        ("noise.mp4", b"noise" * 1000, "not a video that FFmpeg can read"),
        ("folder.mp4", "folder", "is a folder"),
    ],
)
def test_bad_videos_end_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ZerosegError, match=message) as caught:
        drain(open_source(str(path)))
    assert "\n" not in str(caught.value)


def test_truncated_mp4_without_its_index(tmp_path):
    path = write_video(tmp_path / "clip.mp4", scene(20))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ZerosegError, match="truncated"):
        open_source(str(path))


def test_sound_without_picture(tmp_path):
    import av

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(ZerosegError, match="no video in this file"):
        open_source(str(path))


def test_unknown_codec_is_named_as_the_reason(tmp_path):
    path = write_video(tmp_path / "clip.avi", scene(5))
    data = path.read_bytes().replace(b"FMP4", b"ZZZZ")
    path.write_bytes(data)
    with pytest.raises(ZerosegError, match="cannot decode its video codec"):
        drain(open_source(str(path)))


def test_folder_is_frames_in_order(tmp_path):
    for i in (2, 0, 1):
        Image.new("RGB", (40, 30), (i * 100, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"broken")
    source = open_source(str(tmp_path), picture_rate=4)
    assert source.frame_count == 4
    frames = drain(source)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 100, 200]
    assert [frame.time_s for frame in frames] == [0, 0.25, 0.5]
    assert "3.png: not a picture" in source.remarks()[0]


def test_several_sources_must_be_pictures():
    with pytest.raises(ZerosegError, match="expected one camera, video or stream"):
        open_source(["a.mp4", "b.mp4"])


@pytest.mark.parametrize("url", ["test://?size=2x2", "test://?fps=0", "test://?color=red", "test://?size=big"])
def test_bad_patterns(url):
    with pytest.raises(ZerosegError, match="expected"):
        open_source(url)


@pytest.mark.parametrize(
    ("want", "expected"),
    [
        (Adjustment(rotate=90), [[4, 1], [5, 2], [6, 3]]),
        (Adjustment(rotate=180), [[6, 5, 4], [3, 2, 1]]),
        (Adjustment(rotate=270), [[3, 6], [2, 5], [1, 4]]),
        (Adjustment(flip="horizontal"), [[3, 2, 1], [6, 5, 4]]),
        (Adjustment(flip="vertical"), [[4, 5, 6], [1, 2, 3]]),
        (Adjustment(rotate=90, flip="both"), [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_rotation_and_flip(want, expected):
    picture = np.repeat(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[..., None], 3, axis=2)
    assert adjusted(picture, want)[..., 0].tolist() == expected


@pytest.mark.parametrize(
    ("size", "shape"), [((100, 100), (50, 100, 3)), ((1000, 20), (20, 40, 3)), ((2000, 2000), (100, 200, 3))]
)
def test_size_keeps_the_aspect_and_only_scales_down(size, shape):
    assert adjusted(np.zeros((100, 200, 3), np.uint8), Adjustment(size=size)).shape == shape


class Ticks(Source):
    """100 frames at 50 per second."""

    rate, frame_count = Fraction(50), 100

    def __init__(self):
        self.at = 0

    def read(self):
        if self.at == 100:
            return None
        self.at += 1
        return Frame(np.zeros((1, 1, 3), np.uint8), self.at - 1, self.at - 1, Fraction(1, 50), 1)


@pytest.mark.parametrize(
    ("want", "indices"),
    [
        (Adjustment(every=10), list(range(0, 100, 10))),
        (Adjustment(max_frames=3), [0, 1, 2]),
        (Adjustment(every=5, max_frames=2), [0, 5]),
        (Adjustment(fps=10), list(range(0, 100, 5))),
        (Adjustment(fps=100), list(range(100))),
    ],
)
def test_frames_left_out(want, indices):
    source = Adjusted(Ticks(), want)
    assert source.frame_count == len(indices)
    assert [frame.index for frame in drain(source)] == indices


def test_file_that_is_played_over_and_over_stops_after_max_frames(tmp_path):
    """7 frames at 50 a second; every second one of them, over the rounds."""
    path = write_video(tmp_path / "clip.mp4", scene(7), rate=50)
    source = open_source(str(path), Adjustment(every=2, max_frames=9, rotate=90), pace=True, loop=True)
    assert source.live and source.frame_count == 9
    frames = drain(source)
    assert [frame_number(np.rot90(frame.image)) for frame in frames] == [0, 2, 4, 6, 1, 3, 5, 0, 2]
    assert [frame.index for frame in frames] == list(range(0, 18, 2))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 50 for i in range(0, 18, 2)], abs=1e-3)


def test_fps_cap_keeps_its_mean_rate():
    assert len(drain(Adjusted(Ticks(), Adjustment(fps=30)))) == 60  # of 2 seconds, though 30 does not divide 50


@pytest.mark.parametrize("wrong", [{"rotate": 45}, {"flip": "sideways"}, {"fps": 0}, {"every": 0}, {"max_frames": 0}])
def test_bad_adjustments(wrong):
    with pytest.raises(ZerosegError, match="expected"):
        Adjustment(**wrong)


def test_passwords_are_not_printed():
    assert without_password("rtsp://me:secret@cam/1") == "rtsp://me:***@cam/1"
    assert without_password("http://cam/a@b") == "http://cam/a@b"
