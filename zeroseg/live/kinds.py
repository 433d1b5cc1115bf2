"""Guess the kind of a source. Standard library only, so that a command can decide before it loads anything."""

from pathlib import Path

from zeroseg.photos.listing import SUFFIXES

STREAMS = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "rtmps://", "rtp://", "tcp://", "udp://", "srt://")
VIDEO_SUFFIXES = frozenset(
    ".264 .265 .3g2 .3gp .asf .avi .divx .dv .f4v .flv .h264 .h265 .hevc .ivf .m1v .m2ts .m2v .m4v .mjpeg .mjpg .mkv "
    ".mov .mp4 .mpe .mpeg .mpg .mpv .mts .mxf .nut .obu .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)
_HEAD_BYTES = 32
# how video files begin: (offset, bytes)
_BEGINNINGS = (
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI "),
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"\x00\x00\x01\xb3"),  # MPEG video
    (0, b"\x00\x00\x00\x01"),  # H.264 or HEVC, byte stream
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"YUV4MPEG2"),
    (0, b"DKIF"),  # IVF
    (0, b".RMF"),
    (4, b"moov"),  # QuickTime of before MP4
    (4, b"mdat"),
    (4, b"wide"),
)
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # of images, whose files begin like MP4


def kind_of(text: str) -> str:
    """ "test", "csi", "camera", "stream", "video" or "pictures", by what the source looks like."""
    path, suffix = Path(text), Path(text).suffix.lower()
    if text.startswith("test:"):
        return "test"
    if text.startswith("csi://"):
        return "csi"
    if text.lower().startswith(STREAMS):
        return "stream"
    in_memory = path.is_file() or path.is_dir() or path.is_fifo()  # /dev/shm is a disk, /dev/fd/63 a shell's pipe
    if text.startswith("/dev/") and not in_memory or text.isdecimal() and not path.exists():
        return "camera"
    return (
        "video"
        if suffix in VIDEO_SUFFIXES or suffix not in SUFFIXES and path.is_file() and _begins_as_video(text)
        else "pictures"
    )


def _begins_as_video(path: str) -> bool:
    """Whether a file's first bytes are those of a video; used if its name does not tell."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(188)  # bytes of a packet of an MPEG transport stream, which begins with "G"
            packet = file.read(1)
    except (OSError, ValueError):
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in _STILL_BRANDS
    return head[:1] == packet == b"G" or any(head[at:].startswith(text) for at, text in _BEGINNINGS)


def without_password(url: str) -> str:
    """The URL for printing, without its password: rtsp://user:***@host/path."""
    scheme, _, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at or "/" in credentials:
        return url
    return f"{scheme}://{credentials.partition(':')[0]}:***@{host}"
