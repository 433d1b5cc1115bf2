"""Where the time of a frame goes: one JPEG through every segmenter in turn, stage by stage."""

import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zeroseg.segment.segmenter import Segmenter

STAGES = ("decode", "preprocess", "network", "masks", "overlay")  # of a frame, in this order
_TIMED = {"load": "decode", "preprocess": "preprocess", "network": "network", "decode": "masks"}


def time_frames(
    segmenters: dict[str, Segmenter],
    photo: Path,
    rounds: int,
    warm_up: int = 2,
    impls: Mapping[str, str] | None = None,
    edges: bool = True,
) -> dict[str, dict]:
    """Name -> medians: STAGES in ms, total_ms, p90_ms, network_share, speedup (over the first, round by round).

    The segmenters take turns on the same file, so that a machine whose speed drifts treats all alike.
    impls: name -> the implementation of every kernel, such as "reference"; the best that runs for those left out.
    edges: as for Segmenter.segment.
    """
    rows = {name: [] for name in segmenters}
    for turn in range(rounds + warm_up):
        for name, segmenter in segmenters.items():
            with _kernels((impls or {}).get(name, "auto")):
                result = segmenter.segment(photo, edges=edges)
                start = time.perf_counter()
                result.overlay(legend=False)
            times = {_TIMED[stage]: ms for stage, ms in result.timings_ms.items()}
            times["overlay"] = 1000 * (time.perf_counter() - start)
            if turn >= warm_up:
                rows[name].append(times)
    first = next(iter(rows.values()))
    return {name: _medians(own, first) for name, own in rows.items()}


@contextmanager
def _kernels(impl: str) -> Iterator[None]:
    """Every op of the kernels by this implementation."""
    before = os.environ.get("ZEROSEG_IMPL")
    os.environ["ZEROSEG_IMPL"] = impl
    try:
        yield
    finally:
        del os.environ["ZEROSEG_IMPL"]
        if before is not None:
            os.environ["ZEROSEG_IMPL"] = before


def _medians(rows: list[dict], first: list[dict]) -> dict:
    totals = [sum(row.values()) for row in rows]
    found = {stage: statistics.median(row[stage] for row in rows) for stage in STAGES}
    return found | {
        "total_ms": statistics.median(totals),
        "p90_ms": sorted(totals)[int(0.9 * (len(totals) - 1))],
        "network_share": statistics.median(row["network"] / total for row, total in zip(rows, totals)),
        "speedup": statistics.median(sum(a.values()) / b for a, b in zip(first, totals)),
    }


def peak_memory_mib(model: Path | None, backend: str, threads: int, pack, photos: list[Path]) -> float | None:
    """Open a model, segment every photo twice, draw the overlays; the most memory this process had until now.

    For a process of its own. None where the system does not tell.
    """
    segmenter = Segmenter.load(model, backend, threads).set_labels(pack)
    for photo in 2 * photos:
        segmenter.segment(photo).overlay(legend=False)
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
