"""Decode a photo file, PIL image or array to uint8 RGB, or fail with one clear line.

"The photo's frame" everywhere in zeroseg means after EXIF orientation: (H, W) as a viewer shows it.
"""

import io
import logging
import os
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zeroseg.errors import ZerosegError
from zeroseg.photos.png_chunks import without_large_text

MAX_PIXELS = 128_000_000  # zeroseg-infer needs up to 22 bytes per pixel: 2.8 GB for this number
_TEXT_TOO_LARGE = "MAX_TEXT_"  # in Pillow's message
_DEPTHS = (8, 10, 12)  # bits of grey values that come in 16-bit files
_log = logging.getLogger("zeroseg.photos")
# raised by Pillow's readers for damaged files (found by changing bytes at random)
_DAMAGE = (OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError, KeyError, OverflowError, TypeError)


def load_image(source, turn: bool = True, least_px: int | None = None) -> np.ndarray:
    """Read a picture into RGB.

    source  a path; a PIL image; the bytes of a file; or an array: (H, W, 3) uint8 RGB, (H, W, 4) uint8 RGBA, (H, W)
            or (H, W, 1) uint8 grey, or any of these in uint16, of which the high 8 bits are used.
    turn    apply the EXIF orientation; False leaves the pixels as they are stored.
    least_px  for a small copy: a JPEG file may be read at a half, a quarter or an eighth of its size, which is much
            faster, as long as no side becomes shorter than this. Other files are read at their full size.

    Returns (H, W, 3) uint8 RGB, contiguous, in the frame after EXIF orientation unless turn is False. Transparent parts
    become white. An animation gives its first frame. Raises ZerosegError with one line that names the file and the
    fault.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source, "image", turn)
    if isinstance(source, bytes):
        return _from_file(io.BytesIO(source), "image", turn, least_px)
    if not isinstance(source, (str, os.PathLike)):
        raise ZerosegError(f"image: expected a path, a PIL image or a uint8 RGB array, got {type(source).__name__}")
    path = Path(source)
    if path.is_dir():
        raise ZerosegError(f"{path}: is a folder, expected a picture")
    if path.is_fifo():  # a pipe of the shell, which cannot seek
        return _from_file(io.BytesIO(path.read_bytes()), str(path), turn, least_px)
    return _from_file(path, str(path), turn, least_px)


def _from_file(file: Path | io.BytesIO, name: str, turn: bool, least_px: int | None) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about size, where MAX_PIXELS decides, and about odd EXIF
            with Image.open(file) as picture:
                if least_px is not None:
                    picture.draft(None, (least_px, least_px))
                return _to_rgb(picture, name, turn)
    except FileNotFoundError:
        raise ZerosegError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise ZerosegError(f"{name}: too large, {_limit()}") from None
    except UnidentifiedImageError:
        size = file.stat().st_size if isinstance(file, Path) else len(file.getvalue())
        what = "an empty file" if size == 0 else "not a picture that Pillow can read"
        raise ZerosegError(f"{name}: {what}; expected JPEG, PNG, WebP, TIFF, BMP or the like") from None
    except (ZerosegError, *_DAMAGE) as error:
        if _TEXT_TOO_LARGE in str(error):
            data = file.read_bytes() if isinstance(file, Path) else file.getvalue()
            smaller = without_large_text(data)
            if smaller != data:
                return _from_file(io.BytesIO(smaller), name, turn, least_px)
        if isinstance(error, ZerosegError):
            raise
        raise ZerosegError(
            f"{name}: {getattr(error, 'strerror', None) or f'damaged or truncated ({error})'}"
        ) from error


def _limit() -> str:
    return f"the limit is {MAX_PIXELS // 1_000_000} megapixels; scale it down first"


def _to_rgb(picture: Image.Image, name: str, turn: bool) -> np.ndarray:
    if 0 in picture.size:
        raise ZerosegError(f"{name}: {picture.width} x {picture.height} pixels, expected at least 1 x 1")
    if picture.width * picture.height > MAX_PIXELS:
        raise ZerosegError(f"{name}: {picture.width} x {picture.height} pixels is too large, {_limit()}")
    try:
        picture.load()
    except _DAMAGE as error:
        raise ZerosegError(f"{name}: damaged or truncated ({error})") from error
    try:
        if turn:
            ImageOps.exif_transpose(picture, in_place=True)  # copies nothing if there is nothing to turn
    except Exception:  # EXIF comes from many programs; a damaged block counts as no orientation
        pass
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        grey = _deep_grey(np.asarray(picture), picture.mode, name)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = _on_white(picture)
    try:
        return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except ValueError as error:
        raise ZerosegError(f"{name}: colour mode {picture.mode} cannot be turned into RGB") from error


def _on_white(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture.getchannel("A"))
    return white


def _deep_grey(values: np.ndarray, mode: str, name: str) -> np.ndarray:
    """16-bit, 32-bit and float grey to uint8. A float picture has [0, 1] or [0, 255]; a 32-bit one 16-bit values.

    If no value needs more than 12 bits, the values are taken for 8, 10 or 12 bits in a larger file, as some cameras
    write them. Read as 16 bits, the picture would be black.
    """
    low, high = float(values.min()), float(values.max())
    bits = next((bits for bits in _DEPTHS if high < 1 << bits), 16)
    top = (1.0 if high <= 1 else 255.0) if mode == "F" else float((1 << bits) - 1)
    if not (0 <= low and high <= top):  # NaN fails too
        raise ZerosegError(f"{name}: grey values {low:g} to {high:g}, expected 0 to {top:g}; convert it to 8 bits")
    if mode != "F" and bits < 16:
        _log.warning("%s: grey values up to %d of 65535, read as %d-bit", name, high, bits)
    return np.rint(values * (255.0 / top)).astype(np.uint8)


def _from_array(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ZerosegError(f"image: expected (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}")
    if 0 in array.shape:
        raise ZerosegError(f"image: expected no empty axis, got {array.shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ZerosegError(f"image: {array.shape[1]} x {array.shape[0]} pixels is too large, {_limit()}")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if channels == 4:
        return np.array(_on_white(Image.fromarray(np.ascontiguousarray(array))))
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array)
