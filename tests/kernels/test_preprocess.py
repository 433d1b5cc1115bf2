"""preprocess against torch's antialiased interpolate, every implementation that runs here, on cases.py."""

import numpy as np
import pytest

from zeroseg.kernels import preprocess as op
from zeroseg.kernels._dispatch import last_impl
from zeroseg.kernels.preprocess import preprocess
from zeroseg.kernels.preprocess.cases import CASES, MEAN, STD

torch = pytest.importorskip("torch")

# Pillow rounds to uint8 after each of its two passes, torch here not at all: one grey level, and half of one on average
LEVEL = 1.01 / 255
RUNNABLE = [name for name, why_not in op.IMPLEMENTATIONS.items() if why_not() is None]


def photo(height, width):
    return np.random.randint(0, 256, (height, width, 3), np.uint8)


def by_torch(image, size):
    """The same resize without rounding, (3, h, w) in [0, 1]."""
    chw = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].double() / 255
    resized = torch.nn.functional.interpolate(chw, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].numpy()


def check(image, size, impl):
    out = preprocess(image, size, MEAN, STD, impl=impl)
    assert last_impl("preprocess") == impl
    assert out.dtype == np.float32 and out.shape == (3, *size) and out.flags.c_contiguous
    back = out * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
    np.testing.assert_allclose(back, by_torch(image, size), atol=LEVEL, rtol=0)


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_torch(case, impl):
    check(photo(*case.photo_size), case.input_size, impl)


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_reference(case, impl):
    image = photo(*case.photo_size)
    out = preprocess(image, case.input_size, MEAN, STD, impl=impl)
    reference = preprocess(image, case.input_size, MEAN, STD, impl="reference")
    np.testing.assert_allclose(out, reference, atol=1.01 / (255 * min(STD)), rtol=0)


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[::-1],
        lambda image: image[:, ::-2],
        lambda image: image[..., ::-1],
        lambda image: image[3:, 5:],
        lambda image: image.transpose(1, 0, 2),
        lambda image: np.concatenate([image, image[..., :1]], 2)[..., :3],
        lambda image: np.broadcast_to(image[:, :, :1], image.shape),
    ],
    ids=["flipped", "strided", "bgr", "cropped", "turned", "rgba", "grey"],
)
def test_accepts_views(view, impl):
    check(view(photo(50, 70)), (32, 48), impl)


@pytest.mark.parametrize("impl", RUNNABLE)
def test_bgr_becomes_rgb(impl):
    image = photo(31, 44)
    out = preprocess(np.ascontiguousarray(image[..., ::-1]), (16, 24), MEAN, STD, impl=impl, order="bgr")
    np.testing.assert_array_equal(out, preprocess(image, (16, 24), MEAN, STD, impl=impl))


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("gain", [1, 1e-6, 300], ids=["usual", "subnormal", "large"])
def test_float16_is_the_rounded_float32(gain, impl):
    """std scales the result into float16's subnormal numbers and to where steps are coarse."""
    image, std = photo(40, 30), np.array(STD) / gain
    out = preprocess(image, (17, 33), MEAN, std, impl=impl, dtype="float16")
    single = preprocess(image, (17, 33), MEAN, std, impl=impl)
    np.testing.assert_array_equal(out, single.astype(np.float16))
    assert out.dtype == np.float16


@pytest.mark.parametrize("impl", RUNNABLE)
def test_same_size_is_exact(impl):
    image = photo(16, 32)
    out = preprocess(image, (16, 32), (0, 0, 0), (1, 1, 1), impl=impl)
    np.testing.assert_allclose(out * 255, image.transpose(2, 0, 1), atol=1e-4)


IMAGE = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "size", "std", "message"),
    [
        (IMAGE[..., :1], (8, 8), STD, r"image: expected \(H, W, 3\) uint8, got \(4, 5, 1\) uint8"),
        (IMAGE.astype(np.float32), (8, 8), STD, "got .* float32"),
        (IMAGE[:0], (8, 8), STD, "no empty axis"),
        (IMAGE, (8, 0), STD, "size: expected"),
        (IMAGE, (8, 8), (1, 1, 0), "std: expected positive"),
        (IMAGE, (8, 8), (1, 1), r"std: expected \(3,\)"),
    ],
)
def test_bad_input_is_named(image, size, std, message):
    with pytest.raises(ValueError, match=message):
        preprocess(image, size, MEAN, std)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "gbr"}, "order: expected rgb or bgr, got 'gbr'"),
        ({"dtype": "float64"}, "dtype: expected float32 or float16, got 'float64'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        preprocess(IMAGE, (8, 8), MEAN, STD, **options)
