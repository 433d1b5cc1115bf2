"""What a source looks like to be. Standard library only, so that a command can decide before it loads anything."""

from pathlib import Path

STREAMS = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "udp://", "srt://")
VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".3gp",
        ".wmv",
        ".flv",
        ".ogv",
        ".mjpeg",
        ".mjpg",
        ".h264",
        ".hevc",
        ".y4m",
        ".mxf",
    }
)


def kind_of(text: str) -> str:
    """ "test", "csi", "camera", "stream", "video" or "pictures", by what the source looks like."""
    if text.startswith("test:"):
        return "test"
    if text.startswith("csi://"):
        return "csi"
    if text.startswith(STREAMS):
        return "stream"
    if text.startswith("/dev/") or text.isdecimal() and not Path(text).exists():
        return "camera"
    return "video" if Path(text).suffix.lower() in VIDEO_SUFFIXES else "pictures"
