"""Rows of an array in a file, read where they are needed: mapped, they would stay in the process's memory."""

import os
from pathlib import Path
from threading import Lock

import numpy as np


class StoredRows:
    """A two-dimensional array in an open .npy file, for any number of threads. Raises OSError, or ValueError for a file
    that is cut off or no such array.
    """

    def __init__(self, path: Path):
        self._file, self._lock = open(path, "rb", buffering=0), Lock()
        if np.lib.format.read_magic(self._file) != (1, 0):
            raise ValueError(f"{path}: expected a .npy file of version 1.0")
        self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        self._start, self._row = self._file.tell(), self.shape[1] * self.dtype.itemsize
        expected, size = self._start + self.shape[0] * self._row, os.fstat(self._file.fileno()).st_size
        if size != expected:
            raise ValueError(f"{path}: expected {expected} bytes, got {size}")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.ranges(np.array([0]), np.array([self.shape[0]])).astype(dtype or self.dtype)

    def ranges(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The rows begin[i] to end[i] - 1 of all i, (rows, columns), one after the other."""
        places = self._start + begin * self._row
        parts = list(zip(places.tolist(), ((end - begin) * self._row).tolist(), strict=True))
        if hasattr(os, "posix_fadvise"):  # the disk reads all parts at once, where it is told of them
            for place, size in parts:
                os.posix_fadvise(self._file.fileno(), place, size, os.POSIX_FADV_WILLNEED)
        found = []
        for place, size in parts:
            with self._lock:  # another thread must not move the place between the two
                self._file.seek(place)
                found.append(self._file.read(size))
        return np.frombuffer(b"".join(found), self.dtype).reshape(-1, self.shape[1])
