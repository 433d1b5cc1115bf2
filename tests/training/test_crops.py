import numpy as np
import torch
from PIL import Image

from zeroseg.training.crops import Crop, cut_crop, draw_crop, sample_places
from zeroseg.training.photos import crop_array
from zeroseg.training.recipes import CropConfig


def test_crops_stay_inside_and_keep_shape_and_area():
    config = CropConfig(area=(0.3, 1.0), stretch=1.2, jitter=0.2)
    rng = np.random.default_rng(0)
    flips, aspects = [], []
    for _ in range(500):
        width, height = rng.integers(20, 200, 2)
        size = [(64, 64), (64, 96), (96, 64)][rng.integers(3)]
        crop = draw_crop(rng, (width, height), size, config)
        x0, y0, x1, y1 = crop.box
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
        box_width, box_height = (x1 - x0) * width, (y1 - y0) * height
        aspect = box_width / box_height
        largest = min(width, height * aspect)
        assert 0.3 - 1e-6 <= (box_width / largest) ** 2 <= 1 + 1e-6
        assert all(0.8 - 1e-9 <= c <= 1.2 + 1e-9 for c in crop.colour)
        flips.append(crop.flip)
        aspects.append(aspect / (size[1] / size[0]))
    assert 0.4 < np.mean(flips) < 0.6
    assert 1 / 1.2 - 1e-6 <= min(aspects) < 0.9 and 1.1 < max(aspects) <= 1.2 + 1e-6


def test_the_largest_crops_can_be_cut():
    """Whole sides of the photo: rounding once led beyond them, which Pillow refuses."""
    config, rng = CropConfig(area=(1.0, 1.0), stretch=1.0), np.random.default_rng(0)
    for _ in range(300):
        photo = Image.new("RGB", tuple(rng.integers(20, 300, 2).tolist()))
        crop = draw_crop(rng, photo.size, (40, 32), config)
        assert cut_crop(photo, crop, (40, 32)).shape == (40, 32, 3)
        assert max(crop.box[2] - crop.box[0], crop.box[3] - crop.box[1]) > 1 - 1e-9


def test_equal_generators_draw_equal_crops():
    draw = [draw_crop(np.random.default_rng([1, 2]), (50, 40), (32, 32), CropConfig()) for _ in range(2)]
    assert draw[0] == draw[1]


def test_colour_factors_do_what_they_are_called():
    pixels = np.random.default_rng(0).integers(60, 120, (8, 8, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    same = cut_crop(image, Crop((0, 0, 1, 1), False, (1, 1, 1)), (8, 8))
    np.testing.assert_array_equal(same, pixels)
    brighter = cut_crop(image, Crop((0, 0, 1, 1), False, (1.5, 1, 1)), (8, 8))
    np.testing.assert_allclose(brighter, pixels * 1.5, atol=0.5)
    flat = cut_crop(image, Crop((0, 0, 1, 1), False, (1, 0, 1)), (8, 8))
    np.testing.assert_allclose(flat, pixels.mean(), atol=0.5)
    grey = cut_crop(image, Crop((0, 0, 1, 1), False, (1, 1, 0)), (8, 8))
    np.testing.assert_allclose(grey, np.repeat((pixels @ [0.299, 0.587, 0.114])[..., None], 3, 2), atol=0.51)


def bilinear(dense, x, y):
    """One sample at (x, y) in fractions, straight from the definition."""
    g = dense.shape[0]
    x, y = np.clip([x * g - 0.5, y * g - 0.5], 0, g - 1)
    i, j = int(min(x, g - 2)), int(min(y, g - 2))
    u, v = x - i, y - j
    return (1 - v) * ((1 - u) * dense[j, i] + u * dense[j, i + 1]) + v * (
        (1 - u) * dense[j + 1, i] + u * dense[j + 1, i + 1]
    )


def test_sampled_places_equal_bilinear_samples_at_token_centres():
    torch.manual_seed(0)
    dense = torch.randn(2, 5, 5, 3).half()
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0]])
    got = sample_places(dense, boxes, torch.tensor([False, True]), (3, 4))
    assert got.shape == (2, 12, 3) and got.dtype == torch.float32
    for b in range(2):
        x0, y0, x1, y1 = boxes[b].tolist()
        for row in range(3):
            for column in range(4):
                seen = 3 - column if b == 1 else column  # the second crop is mirrored
                want = bilinear(dense[b].float(), x0 + (seen + 0.5) / 4 * (x1 - x0), y0 + (row + 0.5) / 3 * (y1 - y0))
                torch.testing.assert_close(got[b, row * 4 + column], want, atol=1e-4, rtol=1e-4)


def test_targets_follow_the_pixels_of_a_mirrored_crop():
    # a photo whose red channel is its own x coordinate: cropping pixels and sampling the map must agree
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.float32)[None, :, None], (64, 1, 3)).astype(np.uint8)
    dense = torch.tensor(ramp[::4, ::4, :1].astype(np.float32).copy())[None]
    crop = Crop((0.25, 0.1, 0.75, 0.6), True, (1, 1, 1))
    pixels = crop_array(Image.fromarray(ramp), crop.box, (8, 8), crop.flip)[..., 0]
    places = sample_places(dense, torch.tensor([crop.box]), torch.tensor([True]), (8, 8)).view(8, 8)
    np.testing.assert_allclose(places, pixels, atol=8)
    assert places[0, 0] > places[0, -1]
