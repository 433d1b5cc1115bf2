"""Words that change while the picture is paused: new masks of the held frame at once, without a network run."""

import threading
import time

import numpy as np
import pytest

from tests.counting import counting
from tests.live.conftest import Kept, color_pack, wait_until
from zeroseg.live.frame import Frame, Source
from zeroseg.live.pattern import TestPattern
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sources import open_source

pytest.importorskip("av")


class Given(Source):
    """One frame for each release()."""

    name, live = "given", True

    def __init__(self):
        self._free, self._at, self._ended = threading.Semaphore(0), 0, False

    def release(self):
        self._free.release()

    def stop(self):
        self._ended = True
        self._free.release()

    def read(self):
        self._free.acquire()
        if self._ended:
            return None
        self._at += 1
        picture = TestPattern("test://?size=160x96").picture(self._at)
        return Frame(picture, self._at, 40_000 * self._at)


class Repeats(Kept):
    takes_repeats = True


@pytest.fixture
def held(color_segmenter):
    """(pipeline, source, sink, runner) before the first frame."""
    segmenter, source, sink = counting(color_segmenter), Given(), Repeats()
    pipeline = Pipeline(source, segmenter, [sink], smoothing_s=0.5).start()
    yield pipeline, source, sink, segmenter.runner
    pipeline.stop()
    assert pipeline.join(10)
    pipeline.close()


def masks_of(segmenter, frame, pack):
    """The bilinear masks of one frame, segmented as a live picture."""
    return segmenter.encode(frame.image).masks(pack, edges=False).label_map


def test_paused_pipeline_shows_changes_on_the_held_frame(color_segmenter):
    kept = Kept()
    kept.takes_repeats = True
    pipeline = Pipeline(open_source("test://?size=160x96&fps=50"), color_segmenter, [kept]).start()
    wait_until(lambda: len(kept.outputs) > 3)
    pipeline.change(paused=True)
    time.sleep(0.3)
    held = len(kept.outputs)
    pipeline.change(pack=color_pack(["sea"], ["blue"]))
    wait_until(lambda: len(kept.outputs) > held)
    time.sleep(0.1)
    assert kept.outputs[-1].result.labels == ["sea"] and kept.outputs[-1].frame.index == kept.outputs[-2].frame.index
    dropped = pipeline.dropped
    pipeline.change(paused=False)
    wait_until(lambda: len(kept.outputs) > held + 3)
    assert pipeline.dropped < dropped + 25  # a pause is no drop
    pipeline.stop()
    assert pipeline.join(5)
    pipeline.close()


def test_words_typed_while_paused_run_no_network(held, color_segmenter):
    pipeline, source, sink, runner = held
    source.release()
    wait_until(lambda: len(sink.outputs) == 1)
    pipeline.change(paused=True)
    wait_until(lambda: len(sink.outputs) == 2)
    packs = [
        color_pack(["sea"], ["blue"]),
        color_pack(["lawn", "rose"], ["green", "red"]),
        color_pack(["night"], ["dark"]),
    ]
    for count, pack in enumerate(packs, 3):
        pipeline.change(pack=pack)
        wait_until(lambda wanted=count: len(sink.outputs) == wanted)
        output = sink.outputs[-1]
        assert output.result.labels == pack.names and output.frame.index == 1
        expected = masks_of(color_segmenter, output.frame, pack)
        np.testing.assert_array_equal(output.result.label_map, expected)
        assert (expected >= 0).any()
    assert runner.images == 1


def test_a_threshold_changed_while_paused_runs_no_network(held):
    pipeline, source, sink, runner = held
    source.release()
    wait_until(lambda: len(sink.outputs) == 1)
    pipeline.change(paused=True, threshold=1.9)
    wait_until(lambda: len(sink.outputs) == 2)
    assert (sink.outputs[1].result.label_map == -1).all() and (sink.outputs[0].result.label_map >= 0).any()
    assert runner.images == 1


def test_paused_before_the_first_frame(held, color_segmenter):
    """Words typed before any frame was segmented; then other words, on the held frame."""
    pipeline, source, sink, runner = held
    sea, rose = color_pack(["sea"], ["blue"]), color_pack(["rose"], ["red"])
    pipeline.change(paused=True)
    pipeline.change(pack=sea)
    time.sleep(0.2)
    assert sink.outputs == [] and runner.images == 0
    source.release()
    wait_until(lambda: len(sink.outputs) == 1)
    pipeline.change(pack=rose)
    wait_until(lambda: len(sink.outputs) == 2)
    for output, pack in zip(sink.outputs, (sea, rose), strict=True):
        assert output.result.labels == pack.names
        np.testing.assert_array_equal(output.result.label_map, masks_of(color_segmenter, output.frame, pack))
    source.release()  # a frame that comes in a pause waits
    time.sleep(0.2)
    assert runner.images == 1 and len(sink.outputs) == 2
    pipeline.change(paused=False)
    wait_until(lambda: len(sink.outputs) == 3)
    assert runner.images == 2 and sink.outputs[2].frame.index == 2


def test_words_typed_while_the_paused_frame_is_under_way_are_shown(color_segmenter):
    """Pause and new words both come while the network runs: the held frame shows the new words."""
    segmenter, source, sink = counting(color_segmenter), Given(), Repeats()
    inside, go_on = threading.Event(), threading.Event()
    run = segmenter.runner.run

    def slow(image):
        inside.set()
        assert go_on.wait(10)
        return run(image)

    segmenter.runner.run = slow
    pipeline = Pipeline(source, segmenter, [sink]).start()
    source.release()
    assert inside.wait(10)
    pipeline.change(paused=True)
    pipeline.change(pack=color_pack(["sea"], ["blue"]))
    go_on.set()
    wait_until(lambda: sink.outputs and sink.outputs[-1].result.labels == ["sea"])
    assert segmenter.runner.images == 1
    pipeline.stop()
    assert pipeline.join(10)
    pipeline.close()


def test_stopping_in_a_pause_ends(held):
    pipeline, source, sink, _ = held
    source.release()
    wait_until(lambda: len(sink.outputs) == 1)
    pipeline.change(paused=True)
    pipeline.stop()
    assert pipeline.join(10)
