"""Training and inference decode and resample photos in the same way."""

import io

import numpy as np
import pytest
from PIL import Image

from zeroseg.collection.listing import Photo
from zeroseg.kernels.preprocess import preprocess
from zeroseg.photos.decode import load_image
from zeroseg.training.photos import WHOLE, crop_array, read_photo
from zeroseg.training.teacher import to_tensor

GREY = np.array([[0, 30000, 65535], [12000, 45000, 200]], np.uint16)
ALPHA = np.array([[[200, 0, 0, 0], [200, 0, 0, 255]]], np.uint8)
ODD_EXIF = [b"Exif\0\0II*\0", b"Exif\0\0garbage", b"\xff" * 40, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]


@pytest.mark.parametrize(
    ("picture", "suffix", "pixel", "rgb"),
    [
        (Image.fromarray(GREY), "png", (0, 1), [117] * 3),  # 30000 / 257
        (Image.fromarray(GREY), "tif", (1, 1), [175] * 3),
        (Image.fromarray(np.float32([[0, 0.57, 1]])), "tif", (0, 1), [145] * 3),
        (Image.fromarray(ALPHA), "png", (0, 0), [255] * 3),
        (Image.fromarray(ALPHA), "png", (0, 1), [200, 0, 0]),
        (Image.fromarray(ALPHA), "webp", (0, 0), [255] * 3),
    ],
    ids=["grey16", "grey16_tif", "float", "transparent", "opaque", "webp"],
)
def test_odd_modes_are_the_same_in_training(tmp_path, picture, suffix, pixel, rgb):
    path = tmp_path / f"photo.{suffix}"
    picture.save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.asarray(read_photo(path))[pixel].tolist() == rgb
    assert load_image(path)[pixel].tolist() == rgb
    shard = tmp_path / "shard.tar"
    shard.write_bytes(b"." * 512 + path.read_bytes())
    in_shard = Photo("shard.tar/photo", str(shard), 512, path.stat().st_size)
    np.testing.assert_array_equal(np.asarray(read_photo(in_shard)), load_image(path))


@pytest.mark.parametrize("exif", ODD_EXIF)
def test_odd_exif_is_no_error_in_training(tmp_path, exif):
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 6), (10, 100, 200)).save(path, exif=exif, quality=100)
    assert read_photo(path).size == (8, 6)
    np.testing.assert_array_equal(np.asarray(read_photo(path)), load_image(path))


@pytest.mark.parametrize(("shape", "size"), [((37, 53), (32, 64)), ((200, 120), (48, 32)), ((9, 9), (64, 64))])
def test_a_crop_is_resized_as_the_network_input_is(shape, size):
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mean, std = np.float32([0.48, 0.46, 0.41]), np.float32([0.27, 0.26, 0.28])
    crop = to_tensor([crop_array(Image.fromarray(photo), WHOLE, size)])[0].numpy()
    wanted = preprocess(photo, size, mean, std, impl="reference")
    np.testing.assert_allclose((crop - mean[:, None, None]) / std[:, None, None], wanted, atol=1e-5)


def test_stored_orientation_can_be_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, format="PNG", exif=exif)
    assert load_image(file.getvalue()).shape == (8, 6, 3)
    assert load_image(file.getvalue(), turn=False).shape == (6, 8, 3)
