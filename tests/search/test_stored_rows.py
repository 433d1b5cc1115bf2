"""Rows of a file, for several threads at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from zeroseg.search.stored_rows import StoredRows


def test_threads_get_their_own_rows(tmp_path):
    values = np.random.default_rng(0).integers(-128, 128, (20_000, 32), np.int8)
    np.save(tmp_path / "rows.npy", values)
    rows = StoredRows(tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.asarray(rows), values)

    def matches(seed: int) -> bool:
        begin = np.random.default_rng(seed).integers(0, len(values) - 9, 400)
        wanted = np.concatenate([values[one : one + 1 + seed % 8] for one in begin])
        return np.array_equal(rows.ranges(begin, begin + 1 + seed % 8), wanted)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(matches, range(200)))


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((10, 4), np.int8))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="expected 168 bytes, got 165"):
        StoredRows(path)
