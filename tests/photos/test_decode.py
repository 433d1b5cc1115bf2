"""load_image: every kind of picture becomes upright RGB; every broken one gives one clear line."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.photos.decode import load_image
from zeroseg.photos.network_size import live_short_side, network_size

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9], [128, 128, 128], [250, 250, 250]]], np.uint8)
GREY = np.array([[0, 100, 255], [50, 150, 200]], np.uint8)
ALPHA = np.dstack([RGB, np.array([[255, 0, 128], [255, 255, 255]], np.uint8)])


def saved(tmp_path, picture, name="photo.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return path


def grey_rgb(grey):
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("picture", "expected", "tolerance"),
    [
        (Image.fromarray(RGB), RGB, 0),
        (Image.fromarray(GREY), grey_rgb(GREY), 0),
        (Image.fromarray(GREY > 120), grey_rgb(255 * (GREY > 120)), 0),
        (Image.fromarray(RGB).quantize(8), RGB, 0),
        (Image.fromarray(GREY.astype(np.uint16) * 257), grey_rgb(GREY), 1),
        (Image.fromarray(np.dstack([GREY, np.full_like(GREY, 255)])), grey_rgb(GREY), 0),
    ],
    ids=["rgb", "grey", "bilevel", "palette", "grey16", "grey_alpha"],
)
def test_modes_of_png_become_rgb(tmp_path, picture, expected, tolerance):
    for source in (saved(tmp_path, picture), picture):
        got = load_image(source)
        assert got.dtype == np.uint8 and got.shape == (2, 3, 3) and got.flags.c_contiguous
        np.testing.assert_allclose(got.astype(int), expected.astype(int), atol=tolerance)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(ALPHA),
        Image.fromarray(ALPHA).convert("RGBa"),
    ],
    ids=["rgba", "premultiplied"],
)
def test_transparent_parts_lie_on_white(picture):
    got = load_image(picture)
    assert got[0, 1].tolist() == [255, 255, 255]
    np.testing.assert_allclose(got[0, 2], [127, 127, 255], atol=1)
    assert got[0, 0].tolist() == [255, 0, 0]


def test_transparent_palette_entry_lies_on_white(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    path = saved(tmp_path, picture, transparency=1)
    assert load_image(path).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    flat = np.full((16, 16, 3), (200, 60, 30), np.uint8)
    path = saved(tmp_path, Image.fromarray(flat).convert("CMYK"), "photo.jpg", quality=95)
    np.testing.assert_allclose(load_image(path)[8, 8].astype(int), [200, 60, 30], atol=6)


def test_float_tiff_in_0_1_becomes_rgb(tmp_path):
    path = saved(tmp_path, Image.fromarray((GREY / 255).astype(np.float32)), "photo.tiff")
    assert load_image(path).tolist() == grey_rgb(GREY).tolist()


@pytest.mark.parametrize(
    ("bits", "said"), [(8, "read as 8-bit"), (10, "read as 10-bit"), (12, "read as 12-bit"), (14, None), (16, None)]
)
def test_grey_of_few_bits_in_a_16_bit_file_is_no_black(tmp_path, caplog, bits, said):
    top = 2**bits - 1
    values = np.array([[0, top // 4, top // 2, top]], np.uint16)
    path = saved(tmp_path, Image.fromarray(values))
    expected = values / (top if said else 65535) * 255
    np.testing.assert_allclose(load_image(path)[..., 0], expected, atol=0.51)
    assert [record.getMessage() for record in caplog.records] == (
        [f"{path}: grey values up to {top} of 65535, {said}"] if said else []
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    image = np.zeros((8, 24, 3), np.uint8)
    image[:4, :8] = 255  # the corner that marks the turn
    undo = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, 1),
        7: np.rot90(image, 1)[:, ::-1],
        8: np.rot90(image, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation] if orientation != 7 else image[::-1, ::-1].transpose(1, 0, 2))
    path = saved(tmp_path, Image.fromarray(stored), exif=exif)
    np.testing.assert_array_equal(load_image(path), image)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(load_image(opened), image)


def test_unreadable_exif_is_ignored(tmp_path):
    path = saved(tmp_path, Image.fromarray(RGB), exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff broken")
    np.testing.assert_array_equal(load_image(path), RGB)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    path = saved(tmp_path, frames[0], "photo.gif", save_all=True, append_images=frames[1:])
    assert load_image(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (RGB[::-1, ::-1], RGB[::-1, ::-1]),
        (GREY, grey_rgb(GREY)),
        (GREY[..., None], grey_rgb(GREY)),
        (RGB.astype(np.uint16) * 257, RGB),
        (ALPHA[:, :1], RGB[:, :1]),
    ],
    ids=["rgb", "flipped", "grey", "grey1", "uint16", "rgba"],
)
def test_arrays(array, expected):
    got = load_image(array)
    np.testing.assert_array_equal(got, expected)
    assert got.flags.c_contiguous


def png_header(width, height):
    """A PNG that claims a size and holds nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg(array, cut=None):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG")
    return buffer.getvalue()[:cut]


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello, I am not a picture", "not a picture that Pillow can read"),
        (jpeg(NOISE, 700), "damaged or truncated"),
        (jpeg(NOISE, 20), "not a picture|damaged"),
        (png_header(64, 64), "damaged or truncated"),
        (b"P6 5? 40 255 ", "damaged or truncated"),
        (png_header(13_000, 12_000), "13000 x 12000 pixels is too large, the limit is 128 megapixels"),
        (png_header(60_000, 60_000), "too large, the limit is 128 megapixels"),
    ],
    ids=["empty", "text", "truncated", "header_only", "no_pixels", "bad_number", "huge", "bomb"],
)
def test_bad_files_give_one_line_with_the_name(tmp_path, content, message):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ZerosegError, match=message) as error:
        load_image(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such file"),
        (".", "is a folder, expected a picture"),
        (7, "image: expected a path, a PIL image or a uint8 RGB array, got int"),
        (RGB.astype(np.float32) / 255, r"image: expected \(H, W, 3\) uint8 RGB, got \(2, 3, 3\) float32"),
        (RGB.transpose(2, 0, 1)[:, :, :2], r"got \(3, 2, 2\) uint8"),
        (RGB[:0], "no empty axis"),
        (Image.fromarray(np.array([[np.nan, 1]], np.float32)), "grey values nan"),
        (Image.fromarray(np.array([[70000, 1]], np.int32)), "expected 0 to 65535"),
    ],
)
def test_bad_sources_give_one_line(source, message):
    with pytest.raises(ZerosegError, match=message):
        load_image(source)


def test_unreadable_file_gives_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ZerosegError, match=re.escape("photo.jpg: Permission denied")):
        load_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (320, 416)),  # 426.7 is nearer to 416 than to 448
        ((640, 480), (416, 320)),
        ((1, 1), (320, 320)),
        ((320, 320), (320, 320)),
        ((100, 10_000), (32, 1024)),  # the long side's cap decides
        ((3000, 4000), (320, 416)),
    ],
)
def test_network_size(size, expected):
    assert network_size(size, short_side=320, max_long_side=1024, multiple=32) == expected


@pytest.mark.parametrize("size", [(720, 1280), (1280, 720), (1080, 2520), (480, 640), (500, 500)])
def test_wide_live_pictures_cost_what_4_to_3_costs(size):
    """288 pixels for photos are 256 (8/9) for live pictures, and 256 x 341 is all that a wider one gets."""
    short_side = live_short_side(size, 288)
    pixels = short_side * short_side * max(size) / min(size)
    if max(size) / min(size) > 4 / 3:
        assert pixels == pytest.approx(256 * 341.3, rel=0.01)
    else:
        assert short_side == 256


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
LARGE = b" " * 1_500_000  # Pillow takes 1 MB


@pytest.mark.parametrize("place", [33, -12], ids=["first", "last"])  # after the header, before the end
@pytest.mark.parametrize(
    ("chunk", "turned"),
    [
        (png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(LARGE)), False),
        (png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LARGE)), False),
        (png_chunk(b"iTXt", b"Description\0\1\0\0\0" + zlib.compress(LARGE)), False),
        (png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + LARGE)), True),
        (png_chunk(b"tEXt", b"Comment\0" + LARGE) * 46, False),  # 69 MB, of all text Pillow takes 64
    ],
    ids=["profile", "zTXt", "iTXt", "xmp", "tEXt"],
)
def test_large_text_in_a_png_is_no_damage(tmp_path, chunk, turned, place):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, format="PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(file.getvalue()[:place] + chunk + file.getvalue()[place:])
    expected = np.rot90(RGB, -1) if turned else RGB
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(load_image(source), expected)
