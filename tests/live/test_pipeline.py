"""The threads together: every frame of a file, the newest of a camera, and files finished in every case."""

import itertools
import json
import re
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from tests.live.conftest import Kept, color_pack, video_times, write_video
from zeroseg.drawing import label_colors
from zeroseg.errors import ZerosegError
from zeroseg.live.frame import Frame, Source
from zeroseg.live.handoff import AWAKE, Handoff
from zeroseg.live.pattern import TestPattern, frame_number
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sinks import JsonLines, PictureFiles, Sink, VideoFile
from zeroseg.live.sources import open_source

pytest.importorskip("av")


def pattern_pictures(count, size=(160, 96)):
    pattern = TestPattern(f"test://?size={size[0]}x{size[1]}&live=0")
    return [pattern.picture(i) for i in range(count)]


def test_video_to_video_keeps_frames_times_and_duration(tmp_path, color_segmenter):
    pts = [int(1000 * t) for t in np.cumsum([0, *([0.02, 0.04, 0.1] * 10)])[:30]]
    source = write_video(tmp_path / "in.mp4", pattern_pictures(30), pts, time_base=Fraction(1, 1000))
    times, duration_s = video_times(source)
    opened = open_source(str(source))
    lines = Pipeline(opened, color_segmenter, [VideoFile(tmp_path / "out.mp4", opened.rate)], alpha=0.3).run()
    out_times, out_duration_s = video_times(tmp_path / "out.mp4")
    assert len(out_times) == 30 and lines == [f"wrote {tmp_path / 'out.mp4'}: 30 frames"]
    assert out_times == pytest.approx(times, abs=1e-3)
    assert out_duration_s == pytest.approx(duration_s, abs=0.041)  # the last frame's own length is the container's


@pytest.mark.parametrize(
    ("rate", "suffix"), [(30, ".mp4"), (Fraction(30000, 1001), ".mp4"), (25, ".mkv"), (24, ".webm"), (25, ".avi")]
)
def test_constant_rates_survive(tmp_path, color_segmenter, rate, suffix):
    source = write_video(tmp_path / "in.mp4", pattern_pictures(12), rate=rate, time_base=1 / Fraction(rate))
    opened = open_source(str(source))
    Pipeline(opened, color_segmenter, [VideoFile(tmp_path / f"out{suffix}", opened.rate)]).run()
    (times, duration_s), (expected, expected_s) = video_times(tmp_path / f"out{suffix}"), video_times(source)
    assert len(times) == 12 and times == pytest.approx(expected, abs=1e-3)
    assert duration_s == pytest.approx(expected_s, abs=2e-3)


def test_frames_come_in_order_and_are_right(color_segmenter):
    kept = Kept()
    Pipeline(open_source("test://?size=160x96&frames=25&live=0"), color_segmenter, [kept]).run()
    assert [output.frame.index for output in kept.outputs] == list(range(25))
    for output in kept.outputs[::8]:
        alone = color_segmenter.segment(output.frame.image, edges=False)
        assert np.array_equal(output.result.label_map, alone.label_map)
        red = (output.frame.image == (255, 0, 0)).all(-1)
        named = output.result.label_map == 0
        assert (named & red).sum() > 0.4 * (named | red).sum()  # the network sees in 4 x 6 patches


def test_live_source_gives_its_newest_frame_and_counts_the_others(color_segmenter):
    kept = Kept(pause_s=0.1)
    pipeline = Pipeline(open_source("test://?size=160x96&fps=100&frames=100"), color_segmenter, [kept])
    pipeline.run()
    indices = [output.frame.index for output in kept.outputs]
    assert indices == sorted(set(indices)) and len(indices) < 40
    assert pipeline.dropped == 100 - len(indices)
    waits = [output.stages_ms["wait"] for output in kept.outputs]
    assert np.median(waits) < 250  # nothing piles up, though 100 frames were offered at ten times the pace


def test_files_drop_nothing_however_slow_the_sink(color_segmenter):
    kept = Kept(pause_s=0.02)
    pipeline = Pipeline(open_source("test://?size=160x96&frames=20&live=0"), color_segmenter, [kept])
    pipeline.run()
    assert len(kept.outputs) == 20 and pipeline.dropped == 0


def test_stages_overlap(color_segmenter):
    """Three stages of 30 ms each take about 30 ms a frame together, not 90."""

    class Slow(Source):
        name = "slow"

        def __init__(self):
            self.at = 0

        def read(self):
            time.sleep(0.03)
            self.at += 1
            return Frame(np.zeros((32, 32, 3), np.uint8), self.at, self.at) if self.at <= 20 else None

    class SlowRunner:
        backend = "slow"

        def run(self, image):
            time.sleep(0.03)
            return color_segmenter.runner.run(image)

    from zeroseg.segment.segmenter import Segmenter

    segmenter = Segmenter(SlowRunner(), color_segmenter.sidecar).set_labels(color_pack())
    start = time.perf_counter()
    Pipeline(Slow(), segmenter, [Kept(pause_s=0.03)]).run()
    assert time.perf_counter() - start < 0.8 * 20 * 0.09


def test_labels_change_with_the_next_frame(color_segmenter):
    kept = Kept()
    source = open_source("test://?size=160x96&frames=60&live=0")
    pipeline = Pipeline(source, color_segmenter, [kept])
    changed_at = []

    class Change(Sink):
        def write(self, output):
            if output.frame.index == 20:
                pipeline.change(pack=color_pack(["sea"], ["blue"]))
                changed_at.append(pipeline.settings)

    pipeline.sinks.append(Change())
    pipeline.run()
    names = [output.result.labels for output in kept.outputs]
    first_new = names.index(["sea"])
    assert 20 < first_new <= 25 and names[first_new:] == [["sea"]] * (60 - first_new)  # 4: what was under way
    assert all(output.picture.shape == (96, 160, 3) for output in kept.outputs)


def test_a_word_keeps_its_colour_in_the_picture_when_others_come_before_it(color_segmenter):
    alone = label_colors(["green"])[0]
    thief = next(name for name in map(str, range(100)) if (label_colors([name, "green"])[1] != alone).any())
    source, kept = open_source("test://?size=160x96&live=0"), Kept()
    pipeline = Pipeline(source, color_segmenter, [kept], alpha=1.0)
    changes = {10: color_pack([thief, "green"], ["red", "green"]), 20: color_pack(["sea", "green"], ["blue", "green"])}

    class Change(Sink):
        def write(self, output):
            if output.frame.index in changes:
                pipeline.change(pack=changes[output.frame.index])
                pipeline.change(legend=False)
            if output.frame.index == 30:
                pipeline.stop()

    pipeline.sinks.append(Change())
    pipeline.run()
    assert [thief, "green"] in [output.result.labels for output in kept.outputs]
    assert kept.outputs[-1].result.labels == ["sea", "green"]
    for output in kept.outputs:
        index = output.result.labels.index("green")
        assert (output.result.colors[index] == alone).all()
        assert (output.picture[output.result.label_map == index] == alone).all()
        assert len(np.unique(output.result.colors, axis=0)) == len(output.result.labels)


def test_ctrl_c_finishes_the_file(tmp_path, color_segmenter):
    pipeline = Pipeline(
        open_source("test://?size=160x96&fps=50"), color_segmenter, [VideoFile(tmp_path / "out.mp4", 50)]
    )
    pressed = []

    def poll():
        if pipeline.figures.frames > 5 and len(pressed) < 2:
            pressed.append(True)
            raise KeyboardInterrupt

    lines = pipeline.run(poll, interval_s=0.02)
    times, _ = video_times(tmp_path / "out.mp4")
    assert pressed and f"{len(times)} frames" in lines[0] and len(times) > 5
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_error_in_the_window_finishes_the_file(tmp_path, color_segmenter):
    pipeline = Pipeline(
        open_source("test://?size=160x96&fps=50"), color_segmenter, [VideoFile(tmp_path / "out.mp4", 50)]
    )

    def poll():
        if pipeline.figures.frames > 5:
            raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        pipeline.run(poll, interval_s=0.02)
    assert len(video_times(tmp_path / "out.mp4")[0]) > 5


def test_failing_sink_ends_in_its_own_error_and_other_files_are_finished(tmp_path, color_segmenter):
    class Full(Sink):
        def write(self, output):
            if output.frame.index == 5:
                raise ZerosegError("disk full")

    video = VideoFile(tmp_path / "out.mp4", 25)
    with pytest.raises(ZerosegError, match="disk full"):
        Pipeline(open_source("test://?size=160x96&live=0"), color_segmenter, [video, Full()]).run()
    assert len(video_times(tmp_path / "out.mp4")[0]) == 6


def test_failing_sink_waits_for_the_network_to_be_left(color_segmenter):
    """A process that ended meanwhile would be aborted."""
    from zeroseg.segment.segmenter import Segmenter

    class SlowRunner:
        backend, inside = "slow", False

        def run(self, image):
            self.inside = True
            time.sleep(0.3)
            output = color_segmenter.runner.run(image)
            self.inside = False
            return output

    class Fails(Sink):
        def write(self, output):
            raise OSError("full")

        def close(self):
            raise OSError("still full")

    runner, kept = SlowRunner(), Kept()
    segmenter = Segmenter(runner, color_segmenter.sidecar).set_labels(color_pack())
    closed = []
    kept.close = lambda: closed.append(True) or []
    with pytest.raises(OSError, match="^full"):
        Pipeline(open_source("test://?size=160x96&live=0"), segmenter, [Fails(), kept]).run()
    assert not runner.inside and closed == [True]


@pytest.mark.parametrize(
    ("in_the_way", "message"),
    [
        (".2.partial", "000002_labels.png: cannot be written ("),
        ("000002_labels.png", "000002_labels.png: was not written by zeroseg and would be overwritten"),
    ],
)
def test_picture_that_cannot_be_written_is_named(tmp_path, color_segmenter, monkeypatch, in_the_way, message):
    numbers = itertools.count()
    monkeypatch.setattr("zeroseg.files.secrets.token_hex", lambda _: str(next(numbers)))
    (tmp_path / in_the_way).mkdir()
    with pytest.raises(ZerosegError, match=re.escape(message)):
        Pipeline(
            open_source("test://?size=160x96&frames=5&live=0"), color_segmenter, [PictureFiles(tmp_path, ("labels",))]
        ).run()
    assert {path.name for path in tmp_path.iterdir()} == {"000000_labels.png", "000001_labels.png", in_the_way}


def test_changing_size_is_scaled_to_the_first(tmp_path, color_segmenter):
    class Grows(Source):
        name, at = "grows", 0

        def read(self):
            self.at += 1
            size = 65 if self.at < 4 else 131  # odd, too
            return (
                Frame(np.full((size, size, 3), (0, 0, 255), np.uint8), self.at, self.at * 40_000)
                if self.at < 7
                else None
            )

    lines = Pipeline(Grows(), color_segmenter, [VideoFile(tmp_path / "out.mp4", 25)]).run()
    import av

    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(66, 66, 3)] * 6
    assert "3 frames had a different size than the first" in lines[1]


def test_json_lines_and_pictures(tmp_path, color_segmenter):
    from PIL import Image
    from pycocotools import mask as coco

    path = tmp_path / "out.jsonl"
    Pipeline(
        open_source("test://?size=160x96&frames=4&live=0&fps=10"),
        color_segmenter,
        [JsonLines(str(path), rle=True), PictureFiles(tmp_path / "frames", ("overlay", "labels"))],
    ).run()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["time_s"] for record in records] == [0, 0.1, 0.2, 0.3]
    for record in records:
        labels = np.asarray(Image.open(tmp_path / f"frames/{record['frame']:06d}_labels.png"))
        assert record["size"] == [96, 160] and set(record["scores"]) == {"red", "green", "blue"}
        for entry in record["found"]:
            mask = labels == 1 + ["red", "green", "blue"].index(entry["label"])
            assert entry["area_px"] == mask.sum() and entry["area"] == pytest.approx(mask.mean(), abs=1e-6)
            assert np.array_equal(coco.decode(entry["segmentation"]).astype(bool), mask)
    overlays = sorted(path.name for path in (tmp_path / "frames").glob("*overlay*"))
    assert overlays == [f"00000{i}_overlay.png" for i in range(4)]


def test_unwritable_video_ends_in_one_line(tmp_path, color_segmenter):
    with pytest.raises(ZerosegError, match="expected a video file to write"):
        VideoFile(tmp_path / "out.gif")
    folder = tmp_path / "out.mp4"
    folder.mkdir()
    (folder / "full").touch()
    with pytest.raises(ZerosegError, match="cannot be"):
        Pipeline(open_source("test://?size=160x96&frames=2&live=0"), color_segmenter, [VideoFile(folder, 25)]).run()


def test_handoff_keeps_order_and_waits_for_room():
    handoff, got = Handoff(capacity=2), []

    def feed():
        for i in range(50):
            handoff.put(i)
        handoff.close()

    threading.Thread(target=feed, daemon=True).start()
    while (item := handoff.get()) is not None:
        got.append(item)
    assert got == list(range(50)) and handoff.dropped == 0 and handoff.put(1) is False


def test_handoff_newest_drops_the_old():
    handoff = Handoff(newest=True)
    assert all(handoff.put(i) for i in range(5))
    handoff.close()
    assert (handoff.get(), handoff.get(), handoff.dropped) == (4, None, 4)


def test_pattern_through_a_lossless_video_is_readable(tmp_path):
    """The number bar survives coding. Later tests of timing rely on it."""
    path = write_video(tmp_path / "in.mp4", pattern_pictures(20))
    source, numbers = open_source(str(path)), []
    while (frame := source.read()) is not None:
        numbers.append(frame_number(frame.image))
    assert numbers == list(range(20))


@pytest.mark.parametrize("live", [True, False])
def test_network_sees_no_more_of_a_wide_live_picture_than_of_another(color_segmenter, monkeypatch, live):
    seen = []
    monkeypatch.setattr("zeroseg.live.pipeline.live_short_side", lambda size, short_side: 24)
    monkeypatch.setattr(
        "zeroseg.segment.prepare.network_size", lambda size, short_side, *rest: seen.append(short_side) or (32, 32)
    )
    usual = color_segmenter.sidecar.input.short_side
    Pipeline(open_source(f"test://?size=160x64&frames=2&live={live:d}"), color_segmenter, [Kept()]).run()
    assert set(seen) == {24 if live else usual} and color_segmenter.sidecar.input.short_side == usual


def test_handoff_wakes_a_waiting_get():
    handoff, asked = Handoff(), []
    threading.Timer(0.05, lambda: (asked.append(True), handoff.poke())).start()
    assert handoff.get(lambda: bool(asked)) is AWAKE
    handoff.put(1)
    assert handoff.get(lambda: True) is AWAKE and handoff.get() == 1
    handoff.close()
    assert handoff.get(lambda: True) is None
