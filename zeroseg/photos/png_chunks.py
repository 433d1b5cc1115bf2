"""Make PNG files readable whose text, XMP or colour profile is too large for Pillow. The pixels do not change.

Pillow refuses compressed chunks of more than 1 MB, but editors write such profiles and histories. Only the orientation
in XMP is needed here. So XMP is kept, uncompressed, and the other chunks are removed.
"""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LEFT_OUT = (b"iCCP", b"zTXt", b"tEXt")
_XMP = b"XML:com.adobe.xmp\0"
_XMP_MAX = 32_000_000  # bytes of unpacked XMP; Pillow accepts 64 MB of text in all


def without_large_text(data: bytes) -> bytes:
    """The bytes of a PNG file without the chunks that Pillow refuses for their length; other bytes unchanged."""
    if not data.startswith(SIGNATURE):
        return data
    parts, place = [SIGNATURE], len(SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, end = data[place + 4 : place + 8], place + 12 + length
        if kind == b"iTXt":
            if xmp := _plain_xmp(data[place + 8 : end - 4]):
                parts.append(struct.pack(">I", len(xmp)) + kind + xmp + struct.pack(">I", zlib.crc32(kind + xmp)))
        elif kind not in _LEFT_OUT:
            parts.append(data[place:end])
        place = end
    return b"".join(parts)


def _plain_xmp(chunk: bytes) -> bytes | None:
    """An iTXt chunk's data uncompressed, if it is XMP that can be unpacked: keyword, 2 flags, language, translation."""
    if not chunk.startswith(_XMP):
        return None
    compressed, rest = chunk[len(_XMP)] if len(chunk) > len(_XMP) else 0, chunk[len(_XMP) + 2 :]
    text = rest.split(b"\0", 2)[-1]
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(text, _XMP_MAX) if compressed else text[:_XMP_MAX]
    except zlib.error:
        return None
    return _XMP + b"\0\0\0\0" + text
