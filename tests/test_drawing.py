"""Colours that stay and stay apart, blending by the formula, a legend that can be read."""

import numpy as np
import pytest
from PIL import Image

from zeroseg.drawing import PALETTE, blend, contact_sheet, label_colors, label_picture, with_legend

# Vienot, Brettel and Mollon 1999: linear RGB as a protan and a deutan eye sees it
VISIONS = {
    "normal": np.eye(3),
    "protan": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deutan": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


def lab(rgb, vision):
    """CIELAB (D65) of uint8 sRGB colours (N, 3) after a 3 x 3 matrix on linear RGB."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ vision.T
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = np.clip(linear, 0, 1) @ to_xyz.T / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("vision", VISIONS)
def test_palette_stays_apart_for_every_eye(vision):
    colors = lab(PALETTE, VISIONS[vision])
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1)[~np.eye(len(PALETTE), dtype=bool)]
    assert distance.min() > 17  # CIE76; 2.3 is just noticeable


def test_few_labels_are_told_apart_over_a_photo():
    """cat and dog were two blues: laid half over a photo's greys, one on light looked as the other on dark."""
    pairs = [("cat", "dog"), ("cow", "car"), *((f"thing {i}", f"thing {i + 1}") for i in range(300))]
    for pair in pairs:
        tints = lab(label_colors(pair) / 2 + 64, VISIONS["normal"])
        assert np.linalg.norm((tints[0] - tints[1])[1:]) > 15, pair  # without lightness; it was 4.2
    four = lab(label_colors(["cat", "dog", "person", "grass"]) / 2 + 64, VISIONS["normal"])[:, 1:]
    assert np.linalg.norm(four[:, None] - four[None], axis=-1)[~np.eye(4, dtype=bool)].min() > 15


def test_a_label_has_the_same_colour_alone_and_before_others():
    alone = label_colors(["cat"])[0]
    assert (label_colors(["cat", "dog", "sofa"])[0] == alone).all()
    assert (label_colors([" Cat "])[0] == alone).all()


def test_a_label_that_is_shown_keeps_its_colour_when_others_come_and_go():
    random = np.random.default_rng(0)
    words, shown, moved = [f"thing {i}" for i in range(200)], {}, 0
    for _ in range(300):
        names = [name for name in shown if random.random() < 0.7]
        others = [name for name in words if name not in shown]
        names += random.choice(others, random.integers(0, 37 - len(names)), replace=False).tolist()
        names = random.permutation(names).tolist()
        colors = label_colors(names, shown)
        assert len(np.unique(colors, axis=0)) == len(names) and len(colors) == len(names)
        now = {name: tuple(color) for name, color in zip(names, colors.tolist())}
        assert all(now[name] == shown[name] for name in names if name in shown)
        moved += any(now[name] != tuple(color) for name, color in zip(names, label_colors(names).tolist()))
        shown = now
    assert moved > 100  # a list alone would have given others


def test_among_few_labels_a_new_one_takes_a_pure_colour():
    shown = dict(zip(["cat", "dog"], label_colors(["cat", "dog"]).tolist()))
    colors = label_colors(["tree", "dog", "sofa"], shown).tolist()
    assert colors[1] == shown["dog"] and all(color in PALETTE.tolist() for color in colors)


def test_colours_are_distinct_up_to_36_labels():
    colors = label_colors([f"thing {i}" for i in range(36)])
    assert len(np.unique(colors, axis=0)) == 36
    assert label_colors([f"thing {i}" for i in range(1000)]).shape == (1000, 3)
    assert label_colors([]).shape == (0, 3)


@pytest.mark.parametrize("alpha", [0, 0.25, 0.5, 1])
def test_blend_follows_the_formula(alpha):
    image = np.random.randint(0, 256, (40, 600, 3), np.uint8)
    label_map = np.repeat(np.array([[-1, 0, 1]], np.int16), 200, 1).repeat(40, 0)
    colors = label_colors(["cat", "dog"])
    out = blend(image, label_map, colors, alpha)
    assert (out[:, :200] == image[:, :200]).all()
    inside = np.s_[2:-2, 250:350]
    np.testing.assert_allclose(out[inside], image[inside] * (1 - alpha) + colors[0] * alpha, atol=1.5)
    assert (out[:, 200] == colors[0]).all() and (out[:, 399] == colors[0]).all()  # outlines
    assert (out[:, 400] == colors[1]).all()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_bad_alpha_is_named(alpha):
    with pytest.raises(ValueError, match="alpha: expected 0 to 1"):
        blend(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int16), label_colors("a"), alpha)


@pytest.mark.parametrize("size", [(1, 1), (480, 640), (1500, 2000)])
def test_legend_hides_nothing_and_can_be_read(size):
    photo = np.full((*size, 3), 200, np.uint8)
    entries = [((255, 0, 0), "cat  0.83"), ((0, 0, 255), "a rather long label indeed  0.71")]
    sheet = np.asarray(with_legend(photo, entries))
    left = (sheet.shape[1] - size[1]) // 2
    assert (sheet[: size[0], left : left + size[1]] == 200).all()
    legend = sheet[size[0] :]
    assert legend.shape[0] >= 13 * (2 if size == (1, 1) else 1)
    assert legend.shape[0] <= max(100, size[0] / 5)
    for color in ((255, 0, 0), (0, 0, 255)):
        swatch = np.argwhere((legend == color).all(-1))
        assert (np.ptp(swatch, axis=0) >= 12).all()
    assert (legend > 200).all(-1).sum() > 50  # the letters


def test_many_entries_wrap_within_the_width():
    sheet = with_legend(np.zeros((480, 640, 3), np.uint8), [((9, 9, 9), f"label {i}") for i in range(40)])
    assert sheet.width == 640 and sheet.height > 600


def test_label_picture_holds_the_labels(tmp_path):
    label_map = np.array([[-1, 0], [1, 2]], np.int16)
    colors = label_colors("abc")
    label_picture(label_map, colors).save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), label_map + 1)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB"))[1], colors[1:])


def test_label_picture_of_many_labels_is_16_bit(tmp_path):
    label_map = np.array([[-1, 999]], np.int16)
    label_picture(label_map, label_colors([str(i) for i in range(1000)])).save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert np.asarray(picture).tolist() == [[0, 1000]]


def test_contact_sheet_is_near_square():
    pictures = [Image.new("RGB", (500, 300), "white") for _ in range(5)]
    sheet = np.asarray(contact_sheet(pictures, cell_px=50))
    assert sheet.shape == (100, 150, 3)
    assert [(sheet[r * 50 + 25, c * 50 + 25] == 255).all() for r in (0, 1) for c in (0, 1, 2)] == [True] * 5 + [False]
