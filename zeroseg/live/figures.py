"""Statistics of a run: frame rate, latency, time per stage. Thread-safe, constant size."""

import threading
import time
from collections import deque

STAGES = ("capture", "wait", "preprocess", "network", "decode", "draw", "output")
_WINDOW_S = 3.0
_KEPT = 2000  # latencies, for the quantiles of a status line
# upper bounds of the latency histogram, milliseconds
BUCKETS_MS = (10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000)


class Figures:
    """Counts the frames that were put out. Times are in milliseconds unless the name says otherwise."""

    def __init__(self):
        self._lock = threading.Lock()
        self._ends: deque[float] = deque(maxlen=600)
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self.frames = 0
        self.started_s = time.perf_counter()
        self.stage_sums_ms = dict.fromkeys(STAGES, 0.0)
        self._last: dict[str, float] = {}
        self.latency_sum_ms = 0.0
        self.latency_counts = [0] * (len(BUCKETS_MS) + 1)

    def add(self, stages_ms: dict[str, float], latency_ms: float) -> None:
        """Count one frame that has reached its last sink."""
        with self._lock:
            self.frames += 1
            self._ends.append(time.perf_counter())
            self._latencies.append(latency_ms)
            self.latency_sum_ms += latency_ms
            self.latency_counts[sum(latency_ms > bound for bound in BUCKETS_MS)] += 1
            for stage, ms in stages_ms.items():
                self.stage_sums_ms[stage] += ms
                old = self._last.get(stage, ms)
                self._last[stage] = old + 0.2 * (ms - old)

    def fps(self) -> float:
        """Frames per second over the last seconds."""
        now = time.perf_counter()
        with self._lock:
            ends = [end for end in self._ends if now - end <= _WINDOW_S]
        if len(ends) < 2:
            return 0.0
        return (len(ends) - 1) / max(ends[-1] - ends[0], now - ends[-1], 1e-9)

    def latency_quantiles_ms(self, quantiles=(0.5, 0.95, 0.99)) -> list[float]:
        """Latency quantiles of the last frames, from capture to display."""
        with self._lock:
            ordered = sorted(self._latencies)
        return [ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0 for q in quantiles]

    def stages_ms(self) -> dict[str, float]:
        """A moving mean per stage."""
        with self._lock:
            return dict(self._last)
