"""A cache of arrays with one row per item, filled once, kept on disk, memory-mapped: a frozen teacher runs only once.

A cache is one folder, named after everything that its values depend on (the key). While it is being filled the folder's
name ends in .partial; a rename at the end makes it complete. Each row has a status and a CRC-32, so that a killed job
resumes where it stopped and a damaged file is detected.
"""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError

try:
    import fcntl
except ImportError:  # Windows: two builders of one cache are then not told from each other
    fcntl = None

FORMAT = 1
PENDING, DONE, UNREADABLE = 0, 1, 2


def digest(value) -> str:
    """Hex digest of a JSON-able value, the same in every process."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class RowCache:
    """One cache folder, open for filling (not complete) or for reading (complete).

    arrays   name -> memory map (rows, ...) of the declared shape and dtype.
    status   (rows,) uint8: PENDING, DONE or UNREADABLE (the item could not be read; its row is zeros).
    """

    def __init__(
        self,
        root: Path,
        kind: str,
        key: Mapping,
        arrays: Mapping[str, tuple[tuple[int, ...], str]],
        rows: int,
        as_it_is: bool = False,
    ):
        """Open or begin the cache of this kind and key under root.

        arrays    name -> (shape of one row, dtype name).
        as_it_is  only read what is there, also while another process is filling it: rows written later are not seen.
        Raises ZerosegError if the cache is damaged, if another process is filling it, or if the disk is too small.
        """
        self.key, self.rows = json.loads(json.dumps(key)), rows
        self.specs = {name: ((rows, *shape), np.dtype(dtype)) for name, (shape, dtype) in arrays.items()}
        self.specs |= {"status": ((rows,), np.dtype("uint8")), "crc": ((rows,), np.dtype("uint32"))}
        self.index = {
            "format": FORMAT,
            "kind": kind,
            "key": self.key,
            "rows": rows,
            "arrays": {name: [list(shape), str(dtype)] for name, (shape, dtype) in self.specs.items()},
        }
        self.folder = Path(root) / f"{kind}-{digest(self.index)[:16]}"
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        self._lock = None
        self.complete = self.folder.is_dir()
        if self.complete:
            self._map(self.folder, "r")
            self.verify()
            return
        if as_it_is:
            self._map_partial()
            return
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if self.folder.is_dir():  # another process finished it between the two looks
            self._drop_lock()
            self.complete = True
            self._map(self.folder, "r")
            return
        if not self._resume():
            self._begin()

    @property
    def nbytes(self) -> int:
        """Size of all arrays on disk, in bytes."""
        return sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in self.specs.values())

    def pending(self) -> np.ndarray:
        """The rows not filled yet, ascending int64."""
        return np.flatnonzero(self.status == PENDING)

    def readable(self) -> np.ndarray:
        """The rows that hold values, ascending int64."""
        return np.flatnonzero(self.status == DONE)

    def unreadable(self) -> np.ndarray:
        """The rows whose item could not be read, ascending int64."""
        return np.flatnonzero(self.status == UNREADABLE)

    def write(self, row: int, values: Mapping[str, np.ndarray]) -> None:
        """Fill one row: every declared array, of the declared row shape. The status is written last."""
        for name, value in values.items():
            self.arrays[name][row] = value
        self.crc[row] = self._row_crc(row)
        self.status[row] = DONE

    def skip(self, row: int) -> None:
        """Mark a row whose item cannot be read."""
        self.status[row] = UNREADABLE

    def finish(self) -> None:
        """Make a filled cache a complete one: flush, rename, reopen read-only."""
        left = len(self.pending())
        if left:
            raise ZerosegError(f"cache {self.partial.name}: {left} of {self.rows} rows are not filled yet")
        for array in (*self.arrays.values(), self.crc, self.status):
            array.flush()
        self.arrays, self.crc, self.status = {}, None, None  # a mapped file cannot be renamed on Windows
        del array
        os.replace(self.partial, self.folder)
        self._drop_lock()
        self.complete = True
        self._map(self.folder, "r")

    def verify(self, sample: int | None = 64) -> None:
        """Check index, file sizes and the CRC of `sample` evenly spaced rows (None: all).

        Raises ZerosegError with the fault and the folder to delete.
        """
        remedy = f"delete {self.folder}, and it is made again"
        if stored_index(self.folder) != self.index:
            raise ZerosegError(f"cache {self.folder.name}: index.json does not describe this cache; {remedy}")
        if (self.status == PENDING).any():
            raise ZerosegError(f"cache {self.folder.name}: rows are missing, although it is marked complete; {remedy}")
        rows = self.readable()
        if sample is not None and len(rows) > sample:
            rows = rows[np.linspace(0, len(rows) - 1, sample).astype(int)]
        for row in rows:
            if self._row_crc(row) != self.crc[row]:
                raise ZerosegError(f"cache {self.folder.name}: row {row} is damaged (checksum); {remedy}")

    def check(self, row: int) -> None:
        """ZerosegError, naming the folder to delete, if a row differs from what was written."""
        if self._row_crc(row) != self.crc[row]:
            raise ZerosegError(
                f"cache {self.folder}: row {row} is damaged (checksum); delete that folder, and it is made again"
            )

    def close(self) -> None:
        """Release the lock of an incomplete cache; filled rows stay."""
        self._drop_lock()

    def _row_crc(self, row: int) -> int:
        value = 0
        for array in self.arrays.values():
            value = zlib.crc32(np.ascontiguousarray(array[row]).tobytes(), value)
        return value

    def _map(self, folder: Path, mode: str) -> None:
        maps = {}
        for name, (shape, dtype) in self.specs.items():
            path = folder / f"{name}.bin"
            wanted, got = int(np.prod(shape)) * dtype.itemsize, path.stat().st_size if path.is_file() else None
            if got != wanted:
                raise ZerosegError(
                    f"cache {folder.name}: {path.name} has {got} bytes, expected {wanted}; delete {folder}, and "
                    "it is made again"
                )
            maps[name] = np.memmap(path, dtype, mode, shape=shape)
        self.status, self.crc = maps.pop("status"), maps.pop("crc")
        self.arrays = maps

    def _begin(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        free = shutil.disk_usage(self.partial.parent).free
        if self.nbytes > free:
            raise ZerosegError(
                f"cache: {self.nbytes / 1e9:.1f} GB are needed in {self.partial.parent}, "
                f"{free / 1e9:.1f} GB are free; choose another folder or a smaller grid"
            )
        self.partial.mkdir()
        for name, (shape, dtype) in self.specs.items():
            with open(self.partial / f"{name}.bin", "wb") as file:
                file.truncate(int(np.prod(shape)) * dtype.itemsize)
        # last, so that a folder without it is one whose beginning was interrupted
        (self.partial / "index.json").write_text(json.dumps(self.index, indent=1) + "\n", encoding="utf-8")
        self._map(self.partial, "r+")

    def _resume(self) -> bool:
        """Take up what an earlier job left, rows whose checksum does not hold set back to pending."""
        if stored_index(self.partial) != self.index:
            return False
        try:
            self._map(self.partial, "r+")
        except ZerosegError:
            return False
        for row in self.readable():
            if self._row_crc(row) != self.crc[row]:
                self.status[row] = PENDING
        return True

    def _map_partial(self) -> None:
        """Map what another job is filling, or left; rows whose checksum does not hold count as pending."""
        if stored_index(self.partial) != self.index:
            raise ZerosegError(f"cache: no {self.folder.name} in {self.folder.parent}, not even a partial one")
        self._map(self.partial, "r")
        self.status = np.array(self.status)
        for row in self.readable():
            if self._row_crc(row) != self.crc[row]:
                self.status[row] = PENDING

    def _take_lock(self) -> None:
        if fcntl is None:
            return
        self._lock = open(self.partial.with_name(self.partial.name + ".lock"), "w")  # noqa: SIM115 held while filling
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise ZerosegError(f"cache {self.folder.name}: another process is filling it; wait for it") from error

    def _drop_lock(self) -> None:
        if self._lock is not None:
            Path(self._lock.name).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None


def other_versions(cache: RowCache, changed: str) -> list[str]:
    """Names of complete caches beside this one that differ from it only in `changed`, a field of the key."""

    def rest(index: dict) -> dict:
        return {"kind": index["kind"], "key": {name: value for name, value in index["key"].items() if name != changed}}

    found = []
    for folder in sorted(cache.folder.parent.glob(f"{cache.index['kind']}-*")):
        index = stored_index(folder)
        if index and folder not in (cache.folder, cache.partial) and rest(index) == rest(cache.index):
            found.append(folder.name)
    return found


def stored_index(folder: Path) -> dict | None:
    """The index of a cache folder; None if it cannot be read."""
    try:
        return json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
