"""Inner products of labels and segments, and that they leave no threads behind that keep a processor busy."""

import os
import subprocess
import sys

import numpy as np
import pytest

from zeroseg.products import SMALL, products

# CPU seconds of the whole process while it sleeps, after a call
IDLE = """
import time
import numpy as np
from zeroseg.products import products
from zeroseg.segment.smoothing import carry
from zeroseg.words import embed_labels
ones = lambda *shape: np.ones(shape, np.float32)
used = []
for _ in range(5):
    {call}
    began = time.process_time()
    time.sleep(0.05)
    used.append(time.process_time() - began)
print(sorted(used)[2])
"""


@pytest.mark.parametrize(
    ("labels", "segments"), [(1200, 9), (1, 9), (0, 9), (57, 0), (3, SMALL // 16 + 1), (30, 700), (1, 700)]
)
def test_products_are_those_of_one_matrix_product(labels, segments):
    random, dim = np.random.default_rng(0), 16 if segments > SMALL // 512 * 2 else 512
    vectors, embeddings = (random.normal(size=(n, dim)).astype(np.float32) for n in (labels, segments))
    got = products(vectors, embeddings)
    assert got.dtype == np.float32 and got.shape == (labels, segments)
    np.testing.assert_allclose(got, vectors.astype(np.float64) @ embeddings.T, atol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        "products(ones(1200, 512), ones(9, 512))",
        "products(ones(21, 512), ones(512, 1024).T)",
        "carry(ones(64, 512), ones(64, 14, 24), ones(64, 512), ones(64, 14, 24), 0.5)",
        "embed_labels(['cat'])",
        "embed_labels(['red fire engine'])",
    ],
)
def test_no_thread_keeps_a_processor_busy_afterwards(call):
    many = os.environ | {name: "2" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", IDLE.format(call=call)], env=many, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 0.01, "a busy loop takes all of the 0.05 s"
