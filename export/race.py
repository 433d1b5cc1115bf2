"""Time contenders in turns, so that a machine whose speed drifts treats all alike."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Lap(NamedTuple):
    """median_ms, p90_ms of one contender; speedup: median over rounds of the first contender's time over its own."""

    median_ms: float
    p90_ms: float
    speedup: float


def race(
    contenders: dict[str, Callable[[], object]],
    rounds: int = 15,
    warm_up: int = 2,
    on_round: Callable[[], object] = lambda: None,
) -> dict[str, Lap]:
    """Call every contender once a round, in turn, after warm_up rounds that do not count; and on_round after each."""
    times = {name: [] for name in contenders}
    for turn in range(rounds + warm_up):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            if turn >= warm_up:
                times[name].append(1000 * (time.perf_counter() - start))
        on_round()
    first = next(iter(times.values()))
    return {
        name: Lap(
            statistics.median(own),
            sorted(own)[int(0.9 * (len(own) - 1))],
            statistics.median(a / b for a, b in zip(first, own)),
        )
        for name, own in times.items()
    }
