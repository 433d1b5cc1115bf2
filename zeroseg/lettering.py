"""The letters of legends. Pillow's own font has ASCII only; other scripts are set in a font of this machine's."""

import unicodedata
from functools import lru_cache

from PIL import ImageFont

# by file name, as Pillow looks them up where Linux, Windows and macOS keep fonts; the first that has every letter
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "arial.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)
_IN_NO_FONT = "\uffff"  # every font draws it as its sign for a letter that it lacks


def lettering(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """How to write text at this size in pixels: the text and a font that has all its letters.

    Where no font has them the text is without accents, and what is then still not ASCII is written as \\uXXXX.
    """
    if not text.isascii():
        for name in SYSTEM_FONTS:
            font = _font(name, size)
            if font is not None and _has_letters(font, text):
                return text, font
        bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = bare.encode("ascii", "backslashreplace").decode()
    return text, _font(None, size)


@lru_cache(maxsize=64)
def _font(name: str | None, size: int) -> ImageFont.FreeTypeFont | None:
    """The system's font of this file name, or None; for None Pillow's own."""
    try:
        return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)
    except OSError:
        return None


def _has_letters(font: ImageFont.FreeTypeFont, text: str) -> bool:
    missing = _drawn(font, _IN_NO_FONT)
    return all(letter.isspace() or _drawn(font, letter) != missing for letter in set(text))


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
