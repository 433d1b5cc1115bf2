"""mask_decode against torch's interpolate and argmax, every implementation that runs here, on cases.py."""

import numpy as np
import pytest

from zeroseg.errors import UnavailableError
from zeroseg.kernels import mask_decode as op
from zeroseg.kernels._dispatch import last_impl
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.kernels.mask_decode.cases import CASES

torch = pytest.importorskip("torch")

CONFIDENCE_ATOL = 3e-6  # float32, maps of O(1), two products of two weights each
RUNNABLE = [name for name, why_not in op.IMPLEMENTATIONS.items() if why_not() is None]


def soft_maps(segments, height, width):
    """Random maps that sum to 1 over the segments, with regions rather than noise."""
    logits = np.random.randn(segments, height, width).astype(np.float32) * 3
    exponent = np.exp(logits - logits.max(0))
    return (exponent / exponent.sum(0)).astype(np.float32)


def by_torch(maps, size):
    """Every map at full size, (K, H, W) float64."""
    batch = torch.from_numpy(maps.astype(np.float64))[None]
    return torch.nn.functional.interpolate(batch, size=size, mode="bilinear", align_corners=False)[0].numpy()


def check(maps, table, size, impl):
    label_map, confidence = mask_decode(maps, table, size, impl=impl)
    assert last_impl("mask_decode") == impl
    assert label_map.shape == confidence.shape == size
    assert (label_map.dtype, confidence.dtype) == (np.int16, np.float32)
    full = by_torch(maps, size)
    np.testing.assert_allclose(confidence, full.max(0), atol=CONFIDENCE_ATOL, rtol=0)
    if len(maps) > 1:  # where two segments tie within rounding either is right
        runner_up, best = np.partition(full, -2, axis=0)[-2:]
        clear = best - runner_up > 2 * CONFIDENCE_ATOL
    else:
        clear = np.ones(size, bool)
    np.testing.assert_array_equal(label_map[clear], table[full.argmax(0)][clear])
    assert np.isin(label_map, table).all()
    assert clear.mean() > 0.99


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_torch(case, impl):
    table = np.random.permutation(case.segments).astype(np.int64) - 1  # holds -1, the background
    check(soft_maps(case.segments, *case.maps_size), table, case.photo_size, impl)


@pytest.mark.parametrize("impl", RUNNABLE)
def test_accepts_non_contiguous_maps(impl):
    maps = soft_maps(5, 14, 22)[:, ::2, ::-1]
    check(maps, np.arange(10)[::2], (33, 47), impl)


@pytest.mark.parametrize("impl", RUNNABLE)
def test_accepts_negative_and_huge_values(impl):
    maps = np.random.randn(4, 6, 5).astype(np.float32)
    check(maps, np.arange(4), (25, 30), impl)
    label_map, confidence = mask_decode(maps * np.float32(1e37), np.arange(4), (25, 30), impl=impl)
    assert np.isfinite(confidence).all()


@pytest.mark.parametrize("impl", RUNNABLE)
def test_lowest_segment_wins_a_tie(impl):
    maps = np.full((3, 4, 4), 1 / 3, np.float32)
    label_map, _ = mask_decode(maps, np.array([7, 8, 9]), (9, 9), impl=impl)
    assert (label_map == 7).all()


@pytest.mark.parametrize("impl", RUNNABLE)
def test_input_is_left_alone(impl):
    maps = soft_maps(3, 5, 6)
    before = maps.copy()
    mask_decode(maps, np.arange(3), (20, 20), impl=impl)
    np.testing.assert_array_equal(maps, before)


MAPS, TABLE = np.zeros((2, 3, 4), np.float32), np.arange(2)


@pytest.mark.parametrize(("maps", "table", "size", "impl", "message"), [
    (MAPS[0], TABLE, (9, 9), "auto", r"maps: expected \(K, h, w\) float32, got \(3, 4\) float32"),
    (MAPS.astype(np.float64), TABLE, (9, 9), "auto", "got .* float64"),
    (MAPS[:, :0], TABLE, (9, 9), "auto", "no empty axis"),
    (MAPS * np.nan, TABLE, (9, 9), "auto", "finite"),
    (MAPS, np.arange(3), (9, 9), "auto", r"table: expected \(2,\), got \(3,\)"),
    (MAPS, np.array([0.0, 1.0]), (9, 9), "auto", "table: expected integers"),
    (MAPS, np.array([0, 40000]), (9, 9), "auto", "table: expected integers"),
    (MAPS, np.array([0, -2]), (9, 9), "auto", "table: expected integers"),
    (MAPS, TABLE, (0, 9), "auto", "size: expected"),
    (MAPS, TABLE, (9, 9), "fastest", "impl must be one of auto"),
])
def test_bad_input_is_named(maps, table, size, impl, message):
    with pytest.raises(ValueError, match=message):
        mask_decode(maps, table, size, impl=impl)


def test_explicit_impl_that_cannot_run_raises(monkeypatch):
    monkeypatch.setitem(op.IMPLEMENTATIONS, "reference", lambda: "it was taken out")
    with pytest.raises(UnavailableError, match="impl='reference' cannot run here: it was taken out"):
        mask_decode(MAPS, TABLE, (9, 9), impl="reference")
