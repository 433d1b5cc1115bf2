"""Rows of an array in a file, read where they are needed: mapped, they would stay in the process's memory."""

from pathlib import Path

import numpy as np


class StoredRows:
    """A two-dimensional array in an open .npy file; not for several threads at once. Raises OSError or ValueError."""

    def __init__(self, path: Path):
        self._file = open(path, "rb", buffering=0)
        if np.lib.format.read_magic(self._file) != (1, 0):
            raise ValueError(f"{path}: expected a .npy file of version 1.0")
        self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        self._start, self._row = self._file.tell(), self.shape[1] * self.dtype.itemsize

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.ranges(np.array([0]), np.array([self.shape[0]])).astype(dtype or self.dtype)

    def ranges(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The rows begin[i] to end[i] - 1 of all i, one after the other."""
        found = []
        for first, stop in zip(begin.tolist(), end.tolist(), strict=True):
            self._file.seek(self._start + first * self._row)
            found.append(self._file.read((stop - first) * self._row))
        return np.frombuffer(b"".join(found), self.dtype).reshape(-1, self.shape[1])
