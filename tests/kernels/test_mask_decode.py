"""mask_decode against torch's interpolate and argmax, every implementation that runs here, on cases.py."""

import numpy as np
import pytest

from zeroseg.errors import UnavailableError
from zeroseg.kernels import mask_decode as op
from zeroseg.kernels._dispatch import last_impl
from zeroseg.kernels.mask_decode import Overlay, dense_decode, mask_decode
from zeroseg.kernels.mask_decode.cases import CASES, DENSE_CASES

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


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize(("dtype", "largest"), [("int16", 32767), ("uint8", 254), ("uint16", 65534)])
def test_label_dtypes_hold_their_largest_label_and_background(dtype, largest, impl):
    maps, table = soft_maps(3, 7, 9), np.array([-1, largest, 3])
    label_map, _ = mask_decode(maps, table, (50, 61), impl=impl, label_dtype=dtype)
    assert label_map.dtype == dtype
    signed, _ = mask_decode(maps, np.arange(3), (50, 61), impl=impl)
    background = -1 if dtype == "int16" else largest + 1
    np.testing.assert_array_equal(label_map, np.array([background, largest, 3]).astype(dtype)[signed])


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("case", DENSE_CASES.values(), ids=DENSE_CASES)
def test_dense_decode_matches_torch(case, impl):
    logits = np.random.randn(case.segments, *case.maps_size).astype(np.float32)
    label_map, confidence = dense_decode(logits, case.photo_size, impl=impl, threshold=0.9)
    assert last_impl("dense_decode") == impl
    full = by_torch(logits, case.photo_size)
    np.testing.assert_allclose(confidence, full.max(0), atol=CONFIDENCE_ATOL, rtol=0)
    runner_up, best = np.partition(full, -2, axis=0)[-2:] if case.segments > 1 else (full[0] - 1, full[0])
    clear = (best - runner_up > 2 * CONFIDENCE_ATOL) & (abs(best - 0.9) > 2 * CONFIDENCE_ATOL)
    np.testing.assert_array_equal(label_map[clear], np.where(best < 0.9, -1, full.argmax(0))[clear])
    assert clear.mean() > 0.99


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_overlay_is_the_rounded_blend(alpha, impl):
    image, colors = (np.random.randint(0, 256, shape, np.uint8) for shape in ((67, 131, 3), (2, 3)))
    maps, table = soft_maps(4, 5, 6), np.array([-1, 0, 1, 2])  # label 2 has no colour
    label_map, confidence, picture = mask_decode(
        maps, table, (67, 131), impl=impl, overlay=Overlay(image, colors, alpha)
    )
    plain = mask_decode(maps, table, (67, 131), impl=impl)
    np.testing.assert_array_equal(label_map, plain[0])
    np.testing.assert_array_equal(confidence, plain[1])
    share = round(alpha * 255) / 255
    tinted = ((label_map == 0) | (label_map == 1))[..., None]
    blend = np.where(tinted, image * (1 - share) + colors[np.clip(label_map, 0, 1)] * share, image)
    np.testing.assert_array_equal(picture, np.floor(blend + 0.5 + 1e-9))


MAPS, TABLE = np.zeros((2, 3, 4), np.float32), np.arange(2)


@pytest.mark.parametrize(
    ("maps", "table", "size", "impl", "message"),
    [
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
    ],
)
def test_bad_input_is_named(maps, table, size, impl, message):
    with pytest.raises(ValueError, match=message):
        mask_decode(maps, table, size, impl=impl)


IMAGE, COLORS = np.zeros((9, 9, 3), np.uint8), np.zeros((2, 3), np.uint8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_dtype": "int32"}, "label_dtype: expected one of int16, uint8, uint16, got 'int32'"),
        ({"overlay": Overlay(IMAGE[1:], COLORS, 0.5)}, r"overlay.image: expected \(9, 9, 3\) uint8, got \(8, 9, 3\)"),
        ({"overlay": Overlay(IMAGE, COLORS[:, :2], 0.5)}, r"overlay.colors: expected \(N, 3\)"),
        ({"overlay": Overlay(IMAGE, COLORS, 1.5)}, "overlay.alpha: expected 0 to 1, got 1.5"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        mask_decode(MAPS, TABLE, (9, 9), **options)


def test_dense_decode_names_what_does_not_fit():
    with pytest.raises(ValueError, match="expected at most 255 labels for uint8, got 256"):
        dense_decode(np.zeros((256, 1, 1), np.float32), (2, 2), label_dtype="uint8")
    with pytest.raises(ValueError, match=r"logits: expected \(N, h, w\) float32"):
        dense_decode(MAPS[0], (2, 2))
    with pytest.raises(ValueError, match="threshold: expected a number"):
        dense_decode(MAPS, (2, 2), threshold=float("nan"))


def test_explicit_impl_that_cannot_run_raises(monkeypatch):
    monkeypatch.setitem(op.IMPLEMENTATIONS, "reference", lambda: "it was taken out")
    with pytest.raises(UnavailableError, match="impl='reference' cannot run here: it was taken out"):
        mask_decode(MAPS, TABLE, (9, 9), impl="reference")
