"""The benchmarks of search: average precision by hand, and a tiny synthetic collection that is really searched."""

import numpy as np
import pytest

pytest.importorskip("lancedb", reason="lancedb is not installed (extra search)")

from zeroseg.bench.search_quality import average_precision  # noqa: E402
from zeroseg.bench.search_speed import collection_of, measure_speed  # noqa: E402
from zeroseg.search.collection import Collection  # noqa: E402


def test_average_precision_by_hand():
    assert average_precision(np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([False, False, True])) == pytest.approx(1 / 3)
    assert np.isnan(average_precision(np.array([False])))


def test_a_synthetic_collection_is_searched(tmp_path):
    from zeroseg.artifact import read_artifact

    rng = np.random.default_rng(0)
    real = (rng.normal(size=(6, 8, 10)) @ rng.normal(size=(10, 512)) / 40).astype(np.float32)
    store = collection_of(tmp_path / "c", read_artifact(None).sidecar, real, 70)
    vectors = np.concatenate([hit.embeddings for hit in map(Collection.open(tmp_path / "c").hit, range(70))])
    assert np.linalg.matrix_rank(vectors, tol=1e-1) <= 10  # drawn like the real ones: in their dimensions
    row = measure_speed(tmp_path / "c", ["cat", "dog"])
    assert row["images"] == 70 == store.count() and row["rank"] == 16
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["max_ms"] and row["memory_mib"] > 10
