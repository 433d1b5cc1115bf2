import os

import numpy as np
import pytest
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.training.photos import UnreadablePhoto, centre_square, crop_array, find_photos, name_some, read_photo


def test_finds_photos_in_order_and_notices_every_change(tmp_path):
    for name in ("b/2.png", "a/1.jpg", ".hidden/x.png", "a/.y.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name, format="PNG")
    photos = find_photos(tmp_path)
    assert photos.names == ("a/1.jpg", "b/2.png")
    assert find_photos(tmp_path).fingerprint == photos.fingerprint
    os.utime(tmp_path / "a/1.jpg", (5, 5))
    touched = find_photos(tmp_path).fingerprint
    Image.new("RGB", (8, 6)).save(tmp_path / "a/3.png")
    assert len({photos.fingerprint, touched, find_photos(tmp_path).fingerprint}) == 3
    assert find_photos(tmp_path, limit=2).names == ("a/1.jpg", "a/3.png")


@pytest.mark.parametrize(("folder", "message"), [("absent", "is not a folder"), (".", "no image in")])
def test_nothing_to_learn_from_is_one_line(tmp_path, folder, message):
    with pytest.raises(ZerosegError, match=message) as error:
        find_photos(tmp_path / folder)
    assert "\n" not in str(error.value)


def test_compressed_shards_are_named_where_there_is_nothing_else(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "photos-000000.tar.gz").write_bytes(b"")
    with pytest.raises(
        ZerosegError,
        match="no image in .*/a/photos-000000.tar.gz is compressed: unpack it to a folder or an uncompressed tar$",
    ):
        find_photos(tmp_path)


def test_exif_orientation_is_applied_and_every_mode_becomes_rgb(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored top left is the upright top right
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = np.asarray(read_photo(tmp_path / "turned.png"))
    assert turned.shape == (6, 4, 3) and turned[0, 3, 0] == 255 and turned.sum() == 3 * 255
    for mode in ("L", "RGBA", "P", "CMYK"):
        path = tmp_path / f"{mode}.tif"
        Image.new(mode, (3, 2)).save(path)
        assert read_photo(path).mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut short"])
def test_unreadable_photo_names_itself(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadablePhoto, match="broken.jpg cannot be read"):
        read_photo(path)


def test_crop_of_whole_cells_returns_their_pixels():
    pixels = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(crop_array(image, (0.25, 0.5, 0.75, 1.0), (2, 4)), pixels[2:, 2:6])
    np.testing.assert_array_equal(crop_array(image, (0, 0, 1, 1), (4, 8), flip=True), pixels[:, ::-1])
    assert centre_square((8, 4)) == (0.25, 0, 0.75, 1) and centre_square((4, 8)) == (0, 0.25, 1, 0.75)


def test_long_lists_are_cut():
    assert name_some(["a", "b"]) == "a, b" and name_some(list("abcdefg")) == "a, b, c, d, e and 2 more"
