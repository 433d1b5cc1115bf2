"""Small copies of photos, kept in one SQLite file in the collection's folder, so that a page need not read the photos.

The file is a cache: a fault in it counts as a missing thumbnail, and it may be deleted at any time. Several processes
may use it. A thumbnail is used only while its file is there with the size and modification time it had.
"""

import io
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE_PX, QUALITY = 240, 65
FILE = "thumbnails.sqlite"
_BUSY_S = 0.2  # longest wait for another process that writes


class Thumbnail(NamedTuple):
    """sha256: of the photo's or video's bytes; position_s: in a video, None for a photo. bytes: size of the photo or
    video; mtime_ns: of its file, or of its tar. jpeg: a JPEG file with a long side of at most SIDE_PX."""

    sha256: bytes
    position_s: float | None
    bytes: int
    mtime_ns: int
    jpeg: bytes


def make_thumbnail(photo: np.ndarray, size: tuple[int, int] | None = None) -> bytes:
    """A JPEG file of (H, W, 3) uint8 RGB. size: (h, w); None: with a long side of at most SIDE_PX."""
    size = size or small_size(photo.shape[:2], SIDE_PX)
    image, file = Image.fromarray(photo), io.BytesIO()
    image = image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def small_size(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    """(H, W) of a copy whose long side has at most side_px."""
    scale = min(1.0, side_px / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class Thumbnails:
    """The thumbnails of a collection in a local folder, for any number of threads."""

    def __init__(self, folder: str | os.PathLike):
        self._path, self._lock = Path(folder) / FILE, Lock()
        self._opened: sqlite3.Connection | None = None

    def get(self, sha256: bytes, position_s: float | None, file: str, in_tar: bool) -> bytes | None:
        """The thumbnail of a photo, or of a position in a video; None if there is none, or if the file is gone or has
        changed since."""
        found = self._run("SELECT bytes, mtime_ns, jpeg FROM thumbnails WHERE sha256 = ? AND position_s = ?",
                          [(sha256, _position(position_s))])  # fmt: skip
        if not found:
            return None
        [(size, mtime_ns, jpeg)] = found
        try:
            about = os.stat(file)
        except OSError:
            return None
        return jpeg if about.st_mtime_ns == mtime_ns and (in_tar or about.st_size == size) else None

    def put(self, made: Iterable[Thumbnail]) -> None:
        """Keep thumbnails, as far as the disk allows."""
        rows = (one._replace(position_s=_position(one.position_s)) for one in made)
        self._run("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?, ?, ?)", rows, many=True)

    def keep(self, wanted: Iterable[tuple[bytes, float | None]]) -> None:
        """Delete the thumbnails of other photos than these: (sha256, position_s)."""
        with self._lock:
            self._unlocked("CREATE TEMP TABLE wanted (sha256 BLOB, position_s REAL, PRIMARY KEY (sha256, position_s))")
            rows = ((one, _position(position_s)) for one, position_s in wanted)
            self._unlocked("INSERT OR IGNORE INTO wanted VALUES (?, ?)", rows, many=True)
            self._unlocked("DELETE FROM thumbnails WHERE (sha256, position_s) NOT IN (SELECT * FROM wanted)")
            self._unlocked("DROP TABLE wanted")

    def _run(self, command: str, rows: Iterable[tuple] = ((),), many: bool = False) -> list[tuple]:
        with self._lock:
            return self._unlocked(command, rows, many)

    def _unlocked(self, command: str, rows: Iterable[tuple] = ((),), many: bool = False) -> list[tuple]:
        try:
            if self._opened is None:
                self._opened = self._open()
            with self._opened:  # commits, or rolls back
                if many:
                    self._opened.executemany(command, rows)
                    return []
                return self._opened.execute(command, *rows).fetchall()
        except sqlite3.Error:  # a full disk, a folder that cannot be written, a damaged file
            return []

    def _open(self) -> sqlite3.Connection:
        opened = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False)
        opened.execute("PRAGMA synchronous = OFF")
        opened.execute(
            "CREATE TABLE IF NOT EXISTS thumbnails (sha256 BLOB, position_s REAL, bytes INTEGER, mtime_ns INTEGER, "
            "jpeg BLOB, PRIMARY KEY (sha256, position_s))"
        )
        return opened


def _position(position_s: float | None) -> float:
    return -1.0 if position_s is None else float(position_s)
