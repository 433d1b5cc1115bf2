"""bench/kernels.py refuses figures of a wrong kernel, and its ratios are those of the times."""

import time

import numpy as np
import pytest

from zeroseg.bench import kernels as bench
from zeroseg.errors import ZerosegError
from zeroseg.kernels import _native
from zeroseg.kernels.mask_decode import native as native_decode
from zeroseg.kernels.preprocess import native as native_preprocess

pytestmark = pytest.mark.skipif(_native.why_not() is not None, reason=str(_native.why_not()))


def test_right_kernels_are_accepted():
    bench.require_correct()


@pytest.mark.parametrize(("module", "name", "spoil", "message"), [
    (native_decode, "mask_decode", lambda result: (result[0] + 1, result[1]), "mask_decode: native and reference"),
    (native_decode, "mask_decode", lambda result: (result[0], result[1] + 1e-3), "mask_decode: native and reference"),
    (native_preprocess, "preprocess", lambda result: result[::-1], "preprocess: native and reference"),
])
def test_wrong_kernel_is_refused(module, name, spoil, message, monkeypatch):
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **kwargs: spoil(right(*args, **kwargs)))
    with pytest.raises(ZerosegError, match=message):
        bench.require_correct()


def test_rows_hold_the_ratio_of_turns():
    contest = bench.Contest("op", "native", "case", 1000, 10, lambda: time.sleep(0.01),
                            {"slow": lambda: time.sleep(0.05)})
    [row] = bench.measure(contest, 1e6, 1, full=False)
    wanted = {"op", "impl", "case", "contender", "median_ms", "speedup", "percent_of_limit", "device", "commit"}
    assert wanted <= set(row)
    assert row["median_ms"] >= 50 and row["our_median_ms"] >= 10
    low, high = row["speedup_range"]
    assert low <= row["speedup"] <= high and row["speedup"] > 1.5
    np.testing.assert_allclose(row["percent_of_limit"], 100 * 1000 / (row["our_median_ms"] / 1000) / 1e6)
