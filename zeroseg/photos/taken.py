"""The time at which a photo was taken, from its EXIF."""

import io
import warnings
from datetime import datetime

from PIL import Image

_EXIF_PART, _TAKEN, _CHANGED = 0x8769, 0x9003, 0x0132  # ExifIFD; DateTimeOriginal in it; DateTime beside it


def taken_at(data: bytes) -> datetime | None:
    """The time in a photo's EXIF: DateTimeOriginal, else DateTime. None if neither can be read.

    data: the bytes of the file. The time is the camera's own clock, without a zone.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                exif = picture.getexif()
                text = exif.get_ifd(_EXIF_PART).get(_TAKEN) or exif.get(_CHANGED)
        return datetime.strptime(str(text).strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S")
    except Exception:  # EXIF comes from many programs and may raise anything
        return None
