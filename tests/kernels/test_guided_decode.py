"""mask_decode with a guide against a writing by SciPy and torch in float64, on cases.py, and what it is there for."""

import numpy as np
import pytest

from zeroseg.kernels import mask_decode as op
from zeroseg.kernels._dispatch import last_impl
from zeroseg.kernels._threads import set_threads
from zeroseg.kernels.mask_decode import Overlay, guided_reference, mask_decode
from zeroseg.kernels.mask_decode.cases import CASES

torch = pytest.importorskip("torch")
ndimage = pytest.importorskip("scipy.ndimage")

ATOL = 2e-5  # float32 coefficients of up to 50, of maps of O(1); on 1 x 9 cells 7e-6 was seen
RUNNABLE = [name for name, why_not in op.IMPLEMENTATIONS.items() if why_not() is None]


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(5)


def soft_maps(segments, height, width):
    """Maps that sum to 1 over the segments, with one strong segment at most places."""
    logits = np.random.randn(segments, height, width).astype(np.float32) * 3
    exponent = np.exp(logits - logits.max(0))
    return (exponent / exponent.sum(0)).astype(np.float32)


def photo_of(size):
    """Patches of colour with sharp borders, some grain."""
    blocks = np.random.randint(0, 256, (-(-size[0] // 23), -(-size[1] // 31), 3))
    photo = blocks.repeat(23, 0).repeat(31, 1)[: size[0], : size[1]]
    return np.clip(photo + np.random.randint(-9, 10, photo.shape), 0, 255).astype(np.uint8)


def window_means(x, radius):
    """Means over square windows of the first two axes, cut at the borders."""
    ones = np.ones(2 * radius + 1)
    count = np.ones(x.shape[:2])
    for axis in (0, 1):
        x = ndimage.correlate1d(x, ones, axis, mode="constant")
        count = ndimage.correlate1d(count, ones, axis, mode="constant")
    return x / count.reshape(*count.shape, *[1] * (x.ndim - 2))


def interpolated(line, places):
    return np.interp(places, np.arange(len(line)), line)


def by_scipy(maps, photo, passes=3, gated=True):
    """(K, H, W) float64: every map filtered, at full size."""
    height, width = photo.shape[:2]
    cell = max(1, int(np.floor(min(height, width) / 60 + 0.5)))
    radius = max(1, round(0.15 * min(height, width) / cell))
    rows, columns = -(-height // cell), -(-width // cell)
    colors = photo.astype(np.float64) / 255
    mean, variance = np.empty((rows, columns, 3)), np.empty((rows, columns))
    for y in range(rows):
        for x in range(columns):
            inside = colors[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell].reshape(-1, 3)
            mean[y, x], variance[y, x] = inside.mean(0), inside.var(0).sum()
    p = maps.astype(np.float64)
    for axis, cells, side in ((1, rows, height), (2, columns, width)):
        centers = (np.arange(cells) + 0.5) * cell / side * p.shape[axis] - 0.5  # np.interp clamps
        p = np.apply_along_axis(interpolated, axis, p, centers)
    p = p.transpose(1, 2, 0)
    around = window_means(mean, radius)
    outer = np.einsum("yxi,yxj->yxij", mean, mean)
    inverse = np.linalg.inv(window_means(outer, radius) - np.einsum("yxi,yxj->yxij", around, around) + 1e-4 * np.eye(3))
    for _ in range(passes):
        level = window_means(p, radius)
        together = window_means(np.einsum("yxi,yxk->yxik", mean, p), radius)
        a = np.einsum("yxij,yxjk->yxik", inverse, together - np.einsum("yxi,yxk->yxik", around, level))
        b = level - np.einsum("yxik,yxi->yxk", a, around)
        a, b = window_means(a, radius), window_means(b, radius)
        p = np.einsum("yxik,yxi->yxk", a, mean) + b
    if gated:
        near = window_means(mean, 1)
        between = (window_means(mean**2, 1) - near**2).sum(2).clip(0)
        a = a * ((between / (between + variance + 1e-6)) ** 2)[..., None, None]
        b = p - np.einsum("yxik,yxi->yxk", a, mean)
    both = torch.from_numpy(np.concatenate([a, b[:, :, None]], 2).reshape(rows, columns, -1)).permute(2, 0, 1)
    full = torch.nn.functional.interpolate(both[None], scale_factor=cell, mode="bilinear")[0].numpy()
    full = full[:, :height, :width].reshape(4, len(maps), height, width)
    return np.einsum("ckyx,yxc->kyx", full[:3], colors) + full[3]


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_scipy(case, impl):
    maps, photo = soft_maps(case.segments, *case.maps_size), photo_of(case.photo_size)
    table = np.random.permutation(case.segments).astype(np.int64) - 1  # holds -1, the background
    before = maps.copy(), photo.copy()
    label_map, confidence = mask_decode(maps, table, case.photo_size, impl=impl, guide=photo)
    assert last_impl("mask_decode") == impl
    assert (label_map.dtype, confidence.dtype) == (np.int16, np.float32)
    assert label_map.shape == confidence.shape == case.photo_size
    full = by_scipy(maps, photo)
    np.testing.assert_allclose(confidence, full.max(0).clip(0, 1), atol=ATOL, rtol=0)
    best = np.sort(np.concatenate([full, np.full((1, *case.photo_size), -9.0)]), axis=0)
    clear = best[-1] - best[-2] > 2 * ATOL
    np.testing.assert_array_equal(label_map[clear], table[full.argmax(0)][clear])
    assert np.isin(label_map, table).all() and clear.mean() > 0.99
    np.testing.assert_array_equal(maps, before[0])
    np.testing.assert_array_equal(photo, before[1])


@pytest.mark.parametrize("impl", RUNNABLE)
def test_accepts_views_and_maps_of_any_size(impl):
    """Maps outside 0..1 that do not sum to 1, and views."""
    maps, photo = np.random.randn(5, 28, 44).astype(np.float32)[:, ::2, ::-2], photo_of((97, 141))[::-1, :, ::-1]
    label_map, confidence = mask_decode(maps, np.arange(10)[::2], (97, 141), impl=impl, guide=photo)
    full = by_scipy(maps, photo)
    np.testing.assert_allclose(confidence, full.max(0).clip(0, 1), atol=ATOL, rtol=0)
    assert (label_map == 2 * full.argmax(0)).mean() > 0.999
    assert 0 <= confidence.min() and confidence.max() <= 1 < full.max()


@pytest.mark.parametrize("impl", RUNNABLE)
def test_masks_follow_the_border_in_the_photo(impl):
    """The maps part at column 110, the photo at 100."""
    left = np.zeros((24, 32), np.float32)
    left[:, :22] = 1
    maps, photo = np.stack([left, 1 - left]), np.full((120, 160, 3), (200, 120, 40), np.uint8)
    photo[:, 100:] = (40, 120, 200)
    plain, _ = mask_decode(maps, np.arange(2), (120, 160), impl=impl)
    guided, _ = mask_decode(maps, np.arange(2), (120, 160), impl=impl, guide=photo)
    assert set(np.abs((plain == 0).sum(1) - 110)) == {0}
    assert np.abs((guided == 0).sum(1) - 100).max() <= 1


@pytest.mark.parametrize("impl", RUNNABLE)
def test_texture_does_not_fray_masks(impl):
    """A fine net over one colour: without the factor `detail` the masks would take up the net."""
    photo = np.full((240, 320, 3), 140, np.uint8)
    photo[::5] = photo[:, ::5] = 20
    maps = soft_maps(4, 3, 4)

    def border(labels):
        return (labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum()

    plain, guided = (
        border(mask_decode(maps, np.arange(4), (240, 320), impl=impl, guide=guide)[0]) for guide in (None, photo)
    )
    frayed = border(by_scipy(maps, photo, gated=False).argmax(0))
    assert guided < 1.5 * plain and frayed > 2 * guided


def test_result_does_not_depend_on_threads():
    if "native" not in RUNNABLE:
        pytest.skip("the native library was not built")
    maps, photo = soft_maps(11, 9, 14), photo_of((211, 307))
    results = []
    for threads in (1, 2, 5):
        set_threads(threads)
        results.append(mask_decode(maps, np.arange(11), (211, 307), impl="native", guide=photo))
    set_threads(None)
    for other in results[1:]:
        for one, two in zip(results[0], other):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize(("dtype", "background"), [("int16", -1), ("uint8", 255), ("uint16", 65535)])
def test_label_dtypes_and_overlay(dtype, background, impl):
    maps, photo = soft_maps(4, 5, 6), photo_of((67, 131))
    table, colors = np.array([-1, 0, 1, 2]), np.random.randint(0, 256, (2, 3), np.uint8)  # label 2 has no colour
    options = {"impl": impl, "guide": photo, "label_dtype": dtype}
    label_map, confidence, picture = mask_decode(maps, table, (67, 131), overlay=Overlay(photo, colors, 0.4), **options)
    segments, plain = mask_decode(maps, np.arange(4), (67, 131), impl=impl, guide=photo)
    np.testing.assert_array_equal(label_map, np.array([background, 0, 1, 2]).astype(dtype)[segments])
    np.testing.assert_array_equal(confidence, plain)
    tinted = ((segments == 1) | (segments == 2))[..., None]
    blend = np.where(tinted, photo * 0.6 + colors[np.clip(segments - 1, 0, 1)] * 0.4, photo)
    np.testing.assert_array_equal(picture, np.floor(blend + 0.5 + 1e-9))


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (np.zeros((9, 8, 3), np.uint8), r"guide: expected \(9, 9, 3\) uint8, got \(9, 8, 3\) uint8"),
        (np.zeros((9, 9, 3), np.float32), "guide: expected .* got .* float32"),
        (np.zeros((9, 9), np.uint8), r"guide: expected .* got \(9, 9\)"),
        ("photo.jpg", "guide: expected an array"),
    ],
)
def test_bad_guide_is_named(guide, message):
    with pytest.raises(ValueError, match=message):
        mask_decode(np.zeros((2, 3, 4), np.float32), np.arange(2), (9, 9), guide=guide)


def test_settings_are_those_of_the_docs():
    """Window and grid scale with the photo's short side."""
    assert guided_reference.grid_of((480, 640)) == (8, 60, 80, 9)
    assert guided_reference.grid_of((1920, 1080)) == (18, 107, 60, 9)
    assert guided_reference.grid_of((1, 7)) == (1, 1, 7, 1)
