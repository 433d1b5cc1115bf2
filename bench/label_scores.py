"""How long it takes to hold labels against the segments of an image that is encoded already, on one core."""

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np

from zeroseg.segment.encoded import Encoded, Segments
from zeroseg.segment.scores import label_table
from zeroseg.words import LabelPack

CALLS = 100
THREADS = "OPENBLAS_NUM_THREADS"  # as the commands set it


def time_scores(encoded: Encoded, counts: list[int], say) -> list[dict]:
    """One row per number of labels: median and p90 in ms of scores and label table, masks apart, in a process of one
    thread.
    """
    rows = []
    height, width = encoded.size
    say(f"\n{'labels':>7}{'ms':>9}{'p90':>9}   labels against segments, {width}x{height}, one thread")
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"  # for the process that is started
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            for count in counts:
                pack = label_pack(encoded.sidecar, count)
                ms = pool.submit(_time_calls, replace(encoded, image=None), pack).result()
                row = {"labels": count, "ms": statistics.median(ms), "p90_ms": sorted(ms)[int(0.9 * (len(ms) - 1))]}
                say(f"{count:>7}{row['ms']:>9.3f}{row['p90_ms']:>9.3f}")
                rows.append(row)
    finally:
        del os.environ[THREADS]
        if before is not None:
            os.environ[THREADS] = before
    return rows


def _time_calls(encoded: Encoded, pack: LabelPack) -> list[float]:
    """The milliseconds of each of CALLS calls."""
    ms = []
    for _ in range(CALLS + 1):
        start_s = time.perf_counter()
        scores = encoded.scores(pack)
        if isinstance(encoded, Segments):
            label_table(scores, encoded.sidecar.threshold)
        ms.append(1000 * (time.perf_counter() - start_s))
    return ms[1:]  # the first loads what the others find in the caches


def label_pack(sidecar, count: int):
    """So many labels with random directions."""
    vectors = np.random.default_rng(count).normal(size=(count, sidecar.embedding_dim)).astype(np.float32)
    return LabelPack(names=[f"label {i}" for i in range(count)], vectors=vectors, space=sidecar.embedding_space)
