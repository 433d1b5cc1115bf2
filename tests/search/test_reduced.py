"""Bounds of the scores in a collection, and that they leave no threads behind that keep a processor busy."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

from zeroseg.search.reduced import FACTS, SEGMENT, Reduced, reduce_rows  # noqa: E402

IMAGES, SEGMENTS, DIM = 600, 4, 512


def embeddings() -> np.ndarray:
    """(IMAGES * SEGMENTS, DIM) float16, near a space of 40 dimensions."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(DIM, 40)))[0]
    inside = random.normal(size=(IMAGES * SEGMENTS, 40)) * np.linspace(1, 0.1, 40)
    return (0.2 * inside @ basis.T + 1e-4 * random.normal(size=(len(inside), DIM))).astype(np.float16)


def reduced(vectors_nD: np.ndarray) -> Reduced:
    n = len(vectors_nD)
    values = {
        "image": pa.array(np.repeat(np.arange(IMAGES), SEGMENTS)),
        "segment": pa.array(np.tile(np.arange(SEGMENTS), IMAGES)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_nD.ravel()), DIM),
        "area": pa.array(np.ones(n, np.int64)),
        "box": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4 * n, np.int32)), 4),
        "_rowid": pa.array(np.arange(n)),
    }
    values |= {name: values["area"] for name in FACTS}

    def batches(names, where):
        yield pa.record_batch({name: values[name] for name in dict.fromkeys((*names, *SEGMENT, "_rowid"))})

    return reduce_rows(batches, DIM, IMAGES)


def directions(count: int) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("cosine", [False, True])
def test_bounds_hold_the_exact_scores(cosine):
    vectors, wanted = embeddings(), directions(5)
    exact = vectors.astype(np.float64)
    products = exact @ wanted.astype(np.float64).T / (np.linalg.norm(exact, axis=1, keepdims=True) if cosine else 1)
    best = products.reshape(IMAGES, SEGMENTS, 5).max(1).T
    held, at = reduced(vectors), np.array([3, 599, 0, 17])
    width = []
    for (low, high), truth in (
        (held.bounds(wanted, cosine), best),
        (held.closer_bounds(wanted, at, cosine), best[:, at]),
    ):
        assert (low <= truth).all() and (truth <= high).all()
        width.append(np.median(high - low))
    assert width[1] < width[0] / 3, "the closer bounds are much closer"


def idle_seconds() -> float:
    """CPU seconds of the whole process while it sleeps for 0.05 s after its bounds, the median of five."""
    held, wanted, at, used = reduced(embeddings()), directions(1), np.arange(IMAGES), []
    for _ in range(5):
        held.closer_bounds(wanted, at)
        held.bounds(wanted)
        began = time.process_time()
        time.sleep(0.05)
        used.append(time.process_time() - began)
    return sorted(used)[2]


def test_no_thread_keeps_a_processor_busy_afterwards():
    many = os.environ | {name: "2" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    many["PYTHONPATH"] = str(Path(__file__).parent)
    code = "import time, test_reduced; time.sleep(0.3); print(test_reduced.idle_seconds())"
    done = subprocess.run([sys.executable, "-c", code], env=many, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.01, "a busy loop takes all of the 0.05 s"
