"""Small generated videos, and a segmenter that knows the test pattern's colours."""

import io
import time
from fractions import Fraction

import pytest
from PIL import Image

from tests.color_model import SPACE, vectors
from zeroseg.live.pattern import TestPattern
from zeroseg.live.sinks import Sink
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack
from zeroseg.words.spelling import clean

COLORS = ["red", "green", "blue"]


def color_pack(names=COLORS, colors=None):
    """A pack whose labels are the color model's segments."""
    return LabelPack(list(names), vectors(*(colors or names)), SPACE)


@pytest.fixture(scope="session")
def color_segmenter(color_model):
    return Segmenter.load(color_model, threads=1).set_labels(color_pack())


@pytest.fixture
def packs(tmp_path):
    path = tmp_path / "labels.npz"
    color_pack().save(path)
    return path


class Kept(Sink):
    """Keeps what it gets; slow on request."""

    wants_picture = True

    def __init__(self, pause_s=0.0):
        self.outputs, self.pause_s = [], pause_s

    def write(self, output):
        time.sleep(self.pause_s)
        self.outputs.append(output)


def wait_until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def write_video(path, pictures, pts=None, rate=25, codec="mpeg4", pix_fmt="yuv420p", time_base=None):
    """Encode (H, W, 3) uint8 pictures; pts in units of time_base, else one per 1/rate s."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = pix_fmt, 2_000_000
        time_base = time_base or Fraction(1, rate)
        stream.codec_context.time_base = time_base
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (pts[i] if pts else i), time_base
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def video_times(path):
    """(times of all frames in seconds, duration in seconds) read back with PyAV alone."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [float(frame.pts * frame.time_base) for frame in container.decode(stream)]
        if stream.duration is None:  # some containers keep one for the whole only
            return times, container.duration / av.time_base
        return times, float(stream.duration * stream.time_base)


@pytest.fixture
def color_words(monkeypatch):
    """red, green, blue and zzz are words for the color model; zzz is one it does not know."""

    def embed(names, text="auto"):
        for i, name in enumerate(names):
            clean(name, i)  # refuse the same labels as the table
        if any(name == "bad" for name in names):
            raise ValueError("label 'bad': no letters in it")
        rows = vectors(*(name if name in ("red", "green", "blue") else "dark" for name in names))
        kind = ["guess" if name == "zzz" else "name" for name in names]
        return LabelPack(names, rows, SPACE, kind=kind, nearest=[["black"] if k == "guess" else [] for k in kind])

    monkeypatch.setattr("zeroseg.segment.labels.embed_labels", embed)


@pytest.fixture
def photo_app(color_segmenter, color_words):
    """A client of the server without a live picture."""
    from starlette.testclient import TestClient

    from zeroseg.live.board import Board
    from zeroseg.live.server import make_app

    segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    with TestClient(make_app(segmenter, None, Board()), base_url="http://127.0.0.1") as client:
        yield client


def png(picture, **options):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", **options)
    return data.getvalue()


@pytest.fixture
def scene():
    return TestPattern("test://?size=160x96").picture(7)
