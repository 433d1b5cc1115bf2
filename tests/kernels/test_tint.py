"""tint against its formula written out per pixel, every implementation that runs here, on cases.py."""

import numpy as np
import pytest

from zeroseg.kernels import tint as op
from zeroseg.kernels._dispatch import last_impl
from zeroseg.kernels.tint import tint
from zeroseg.kernels.tint.cases import CASES

RUNNABLE = [name for name, why_not in op.IMPLEMENTATIONS.items() if why_not() is None]


def scene(case):
    """A photo, patches of labels with some background, and colours."""
    height, width = case.size
    image = np.random.randint(0, 256, (height, width, 3), np.uint8)
    coarse = np.random.randint(-1, case.labels, (height // 6 + 1, width // 6 + 1)).astype(np.int16)
    label_map = coarse.repeat(6, 0).repeat(6, 1)[:height, :width].copy()
    return image, label_map, np.random.randint(0, 256, (case.labels, 3), np.uint8)


def by_formula(image, label_map, colors, alpha_255, outline_px):
    """Shifted copies for the outline, float64 and round-half-up for the blend."""
    height, width = label_map.shape
    edge = np.zeros((height, width), bool)
    for distance in (1, outline_px) if outline_px else ():
        for y, x in ((distance, 0), (-distance, 0), (0, distance), (0, -distance)):
            rows, columns = np.arange(height) + y, np.arange(width) + x
            inside = np.ix_((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
            other = label_map[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
            edge[inside] |= (label_map != other)[inside]
    alpha = np.where(label_map < 0, 0, np.where(edge, 255, alpha_255))[..., None]
    color = colors[np.maximum(label_map, 0)].astype(float)
    return np.floor((image * (255.0 - alpha) + color * alpha) / 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_the_formula(case, impl):
    image, label_map, colors = scene(case)
    out = tint(image, label_map, colors, 0.4, case.outline_px, impl=impl)
    assert last_impl("tint") == impl
    np.testing.assert_array_equal(out, by_formula(image, label_map, colors, 102, case.outline_px))


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("alpha", [0, 1 / 255, 0.5, 254 / 255, 1])
def test_every_alpha_is_rounded_right(alpha, impl):
    levels = np.arange(256, dtype=np.uint8)
    image = np.repeat(levels[:, None, None].repeat(256, 1), 3, 2)  # every pair of photo and colour
    label_map = np.repeat(np.arange(256, dtype=np.int16)[None], 256, 0)
    colors = np.repeat(levels[:, None], 3, 1)
    expected = by_formula(image, label_map, colors, round(alpha * 255), 0)
    np.testing.assert_array_equal(tint(image, label_map, colors, alpha, 0, impl=impl), expected)


@pytest.mark.parametrize("impl", RUNNABLE)
def test_views_and_no_labels(impl):
    image = np.random.randint(0, 256, (20, 30, 3), np.uint8)[::-1, ::2]
    background = np.full((40, 15), -1, np.int16)[::2]
    np.testing.assert_array_equal(tint(image, background, np.empty((0, 3), np.uint8), 0.5, impl=impl), image)
    label_map = np.where(np.arange(15) < 7, 0, -1).astype(np.int16)[None].repeat(20, 0)
    colors = np.array([[9, 8, 7]], np.uint8)
    expected = by_formula(image, label_map, colors, 128, 1)
    np.testing.assert_array_equal(tint(image, label_map, colors, 0.5, impl=impl), expected)


def test_reference_in_strips_equals_one_piece(monkeypatch):
    image, label_map, colors = scene(CASES["prime"])
    at_once = tint(image, label_map, colors, 0.4, 3, impl="reference")
    monkeypatch.setattr("zeroseg.kernels.tint.reference._STRIP_PIXELS", 1000)
    np.testing.assert_array_equal(tint(image, label_map, colors, 0.4, 3, impl="reference"), at_once)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_map": np.full((4, 5), 2, np.int16)}, r"label_map: expected values in \[-1, 1\], got 2 to 2"),
        ({"label_map": np.full((4, 5), -2, np.int16)}, "got -2 to -2"),
        ({"label_map": np.zeros((4, 4), np.int16)}, "label_map: expected"),
        ({"label_map": np.zeros((4, 5), np.int64)}, "label_map: expected"),
        ({"colors": np.zeros((2, 4), np.uint8)}, "colors: expected"),
        ({"alpha": 1.1}, "alpha: expected 0 to 1, got 1.1"),
        ({"outline_px": -1}, "outline_px: expected 0 or more, got -1"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {
        "image": np.zeros((4, 5, 3), np.uint8),
        "label_map": np.zeros((4, 5), np.int16),
        "colors": np.zeros((2, 3), np.uint8),
        "alpha": 0.5,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        tint(**given)
