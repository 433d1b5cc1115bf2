"""Decode photos from untrusted clients; limits are checked before decoding."""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from zeroseg.errors import ZerosegError
from zeroseg.photos.decode import load_image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # the only formats that Pillow may decode for clients
PIXEL_LIMIT = 50_000_000  # phones make photos of 12, 24 and 48 million


class TooLarge(ZerosegError):
    """The picture has more pixels than the limit."""


def decode_photo(data: bytes, pixel_limit: int = PIXEL_LIMIT) -> np.ndarray:
    """The bytes of a picture file -> (H, W, 3) uint8 RGB, upright.

    Raises TooLarge for too many pixels, before decoding; ZerosegError if it is not a picture.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > pixel_limit:
                    raise TooLarge(
                        f"{picture.width} x {picture.height} pixels; the limit is {pixel_limit / 1e6:g} megapixels"
                    )
                return load_image(picture)
        except Image.DecompressionBombError as error:
            raise TooLarge(f"too many pixels; the limit is {pixel_limit / 1e6:g} megapixels") from error
        except TooLarge:
            raise
        except (UnidentifiedImageError, ZerosegError, OSError, SyntaxError, ValueError) as error:
            detail = str(error) if isinstance(error, ZerosegError) else "not a readable picture"
            raise ZerosegError(f"image: {detail.removeprefix('image: ')}; expected {', '.join(FORMATS)}") from error
