"""Capture, inference and output, each in its own thread: the slowest stage limits the rate, not the sum of all.

    source -> [newest or every] -> segment -> [short queue] -> draw, encode, write

A live source hands over only its newest frame: a slow stage drops frames (which are counted) and does not fall behind.
All frames of a file pass, in order.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zeroseg import drawing
from zeroseg.live.figures import Figures
from zeroseg.live.frame import Frame, Source
from zeroseg.live.handoff import AWAKE, Handoff
from zeroseg.live.picture import draw_frame
from zeroseg.live.sinks import Output, Sink
from zeroseg.photos.network_size import live_short_side
from zeroseg.segment.encoded import Encoded
from zeroseg.segment.segmentation import Segmentation
from zeroseg.segment.segmenter import Segmenter
from zeroseg.segment.smoothing import smooth


@dataclass(frozen=True)
class Settings:
    """The settings that may change while it runs; each frame uses the newest.

    pack: the labels; colors: (N, 3) uint8 for them, None for their own; threshold: None for the model's own; alpha: in
    [0, 1].
    """

    pack: object
    threshold: float | None = None
    alpha: float = 0.5
    legend: bool = False
    figures: bool = False
    paused: bool = False
    colors: np.ndarray | None = None

    def __post_init__(self):
        if self.colors is None:
            object.__setattr__(self, "colors", drawing.label_colors(self.pack.names))


@dataclass
class _Segmented:
    frame: Frame
    result: Segmentation
    settings: Settings
    wait_ms: float
    again: bool


class Pipeline:
    """One source, one model, any sinks.

    segmenter    its labels are the first settings.
    smoothing_s  time constant of zeroseg.segment.smoothing in seconds, 0 for none.
    photo_size   use the network's input size for photos, not that of live_short_side.
    """

    def __init__(
        self,
        source: Source,
        segmenter: Segmenter,
        sinks: Sequence[Sink] = (),
        smoothing_s: float = 0.0,
        photo_size: bool = False,
        **settings,
    ):
        self.source, self.sinks = source, list(sinks)
        self.settings = Settings(segmenter.pack, **settings)
        self._segmenter, self._smoothing_s = segmenter, smoothing_s
        self._past: tuple[float, Encoded] | None = None  # the last frame's time and smoothed segments
        self._live_size = source.live and not photo_size
        self.figures = Figures()
        self.error: Exception | None = None
        self._captured = Handoff(newest=source.live)
        self._segmented = Handoff(capacity=1 if source.live else 2)
        self._change = threading.Condition()
        self._stopping = threading.Event()
        self.finished = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"zeroseg-{work.__name__.strip('_')}", daemon=True)
            for work in (self._capture, self._segment, self._output)
        ]

    @property
    def dropped(self) -> int:
        """The number of dropped frames of a live source."""
        return self._captured.dropped + self.source.lost

    def change(self, **changes) -> Settings:
        """Change settings from the next frame on. The masks of a paused frame are updated without a network run.

        Labels that stay keep their colours.
        """
        with self._change:
            if "pack" in changes:
                shown = dict(zip(self.settings.pack.names, self.settings.colors, strict=True))
                changes["colors"] = drawing.label_colors(changes["pack"].names, shown)
            self.settings = replace(self.settings, **changes)
            self._change.notify_all()
            self._captured.poke()
            return self.settings

    def start(self) -> "Pipeline":
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End early; segmented frames are still written."""
        self._stopping.set()
        self.source.stop()
        self._captured.close(discard=True)
        with self._change:
            self._change.notify_all()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False if the time ran out."""
        return self.finished.wait(timeout_s)

    def run(self, poll: Callable[[], None] = lambda: None, interval_s: float = 0.1) -> list[str]:
        """Start, wait for the end while calling poll() from this thread, and return the sinks' closing lines.

        KeyboardInterrupt or an error in poll() ends the source; the sinks are still finished. Raises the errors of the
        threads and of poll().
        """
        self.start()
        while True:
            try:
                if self.join(interval_s):
                    break
                poll()
            except KeyboardInterrupt:
                self.stop()
            except Exception as error:
                self.error = self.error or error
                self.stop()
        return self.close()

    def close(self) -> list[str]:
        """Finish the sinks and release the source; after the threads have ended."""
        lines = []
        for sink in self.sinks:
            try:
                lines += sink.close()
            except Exception as error:  # the other files are finished nevertheless
                self.error = self.error or error
        self.source.close()
        if self.error is not None:
            raise self.error
        return lines + self.source.remarks()

    def _guard(self, work: Callable[[], None]) -> None:
        """Run a thread's work. If it fails, all threads end, and the main thread raises its error."""
        try:
            work()
        except Exception as error:
            self.error = self.error or error
            self.stop()
        finally:
            {"_capture": self._captured.close, "_segment": self._segmented.close, "_output": self._end}[work.__name__]()

    def _end(self) -> None:
        self._stopping.set()
        self.source.stop()
        self._captured.close(discard=True)
        self._segmented.close(discard=True)
        self._threads[1].join(10.0)  # a process that exits while a thread is inside the network is aborted
        self._threads[0].join(5.0)  # a device that hangs must not hold up the files
        self.finished.set()

    def _capture(self) -> None:
        while not self._stopping.is_set():
            frame = self.source.read()
            if frame is None:
                return
            if not self._captured.put(frame, count=not self.settings.paused):  # no frame is late during a pause
                return

    def _segment(self) -> None:
        frame = shown = None  # the last frame, and the settings that it was last shown with
        while (item := self._captured.get(lambda: self._past is not None and self.settings.paused)) is not None:
            if item is AWAKE:
                shown = self._hold(frame, shown)
                continue
            frame, shown = item, self.settings
            if not self._segment_one(frame, shown):
                return

    def _hold(self, frame: Frame, shown: Settings) -> Settings:
        """While paused, show the last frame again when settings change; its segments are kept.

        shown: the settings that it was shown with, which may be older than the present ones. Returns the last ones.
        """
        while not self._moves_on():
            settings = self.settings
            if settings is not shown:
                self._mask(frame, self._past[1], settings, 0.0, again=True)
                shown = settings
            with self._change:
                self._change.wait_for(lambda before=shown: self._moves_on() or self.settings is not before)
        return shown

    def _moves_on(self) -> bool:
        return self._stopping.is_set() or not self.settings.paused

    def _segment_one(self, frame: Frame, settings: Settings) -> bool:
        wait_ms = 1000 * (time.perf_counter() - frame.captured_s) - frame.capture_ms
        size = frame.image.shape[:2]
        short_side = live_short_side(size, self._segmenter.sidecar.input.short_side) if self._live_size else None
        segments = self._segmenter.encode(frame.image, short_side)
        segments = smooth(segments, frame.time_s, self._past, self._smoothing_s)
        self._past = frame.time_s, segments
        return self._mask(frame, segments, settings, max(0.0, wait_ms))

    def _mask(self, frame: Frame, segments: Encoded, settings: Settings, wait_ms: float, again: bool = False) -> bool:
        """Compare the settings' labels with a frame's segments and pass on the masks; no network runs."""
        result = segments.masks(settings.pack, settings.threshold, edges=False)
        result.colors = settings.colors
        return self._segmented.put(_Segmented(frame, result, settings, wait_ms, again))

    def _output(self) -> None:
        wants_picture = any(sink.wants_picture for sink in self.sinks)
        while (item := self._segmented.get()) is not None:
            start_s = time.perf_counter()
            picture = self._draw(item) if wants_picture else None
            drawn_s = time.perf_counter()
            timings = item.result.timings_ms
            stages = {
                "capture": item.frame.capture_ms,
                "wait": item.wait_ms,
                "preprocess": timings["preprocess"],
                "network": timings["network"],
                "decode": timings["decode"],
                "draw": 1000 * (drawn_s - start_s),
            }
            output = Output(item.frame, item.result, picture, stages)
            for sink in self.sinks:
                if sink.takes_repeats or not item.again:
                    sink.write(output)
            if item.again:
                continue
            end_s = time.perf_counter()
            self.figures.add({**stages, "output": 1000 * (end_s - drawn_s)}, 1000 * (end_s - item.frame.captured_s))

    def _draw(self, item: _Segmented) -> np.ndarray:
        settings, lines = item.settings, []
        if settings.figures:
            latency_ms = self.figures.latency_quantiles_ms([0.5])[0]
            lines = [f"{self.figures.fps():.1f} FPS  {latency_ms:.0f} ms  dropped {self.dropped}"]
        return draw_frame(item.result, settings.colors, settings.alpha, settings.legend, lines)
