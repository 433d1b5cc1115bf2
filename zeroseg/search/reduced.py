"""Exact search in memory: all segments' embeddings in few dimensions, with a bound on the error.

The embeddings E (n, D) of a model lie near a space of few dimensions. With an orthonormal basis B (D, r) of it, an
embedding is e = B p + rest, and its product with a label's direction d is bounded on both sides:

    |e . d - p . (B^T d)|  <=  |rest| |d - B B^T d|                    (Cauchy and Schwarz)

So one pass over P (n, r) finds the few images that can be among the first k. Their scores are then computed exactly. r
is the smallest multiple of STEP that leaves out at most LEFT_OUT of the squared length; it is at most D.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

STEP, LEFT_OUT = 16, 1e-4
ROUNDING = np.float32(1e-5)  # error of a sum of some hundred float32 products; added to every bound
_BLOCK = 1 << 16  # images whose products are in memory at once
_ARRAYS = ("basis", "points", "rests", "rows", "first", "images")

Batches = Callable[[], Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]]  # see reduce_rows


@dataclass(frozen=True)
class Reduced:
    """basis (D, r) float32; per segment: points (n, r) float32, rests (n,) float32, rows (n,) int64, its row in the
    table. Segments of an image are neighbours; per image: first (m + 1,) int64, where its segments begin, and images
    (m,) int64, its number.
    """

    basis: np.ndarray
    points: np.ndarray
    rests: np.ndarray
    rows: np.ndarray
    first: np.ndarray
    images: np.ndarray

    def bounds(self, directions_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (N, m) float32 each, of the best segment's score in m images for N directions."""
        inside_Nr = directions_ND @ self.basis
        outside_N = np.sqrt(np.maximum((directions_ND**2).sum(1) - (inside_Nr**2).sum(1), 0)) + ROUNDING
        best_Nm = np.empty((len(directions_ND), len(self.images)), np.float32)
        for start in range(0, len(self.images), _BLOCK):
            stop = min(start + _BLOCK, len(self.images))
            a, b = self.first[start], self.first[stop]
            inner_Nn = inside_Nr @ self.points[a:b].T  # BLAS uses its own threads
            best_Nm[:, start:stop] = np.maximum.reduceat(inner_Nn, self.first[start:stop] - a, axis=1)
        slack_Nm = outside_N[:, None] * self.largest_rests + ROUNDING
        return best_Nm - slack_Nm, best_Nm + slack_Nm

    @cached_property
    def largest_rests(self) -> np.ndarray:
        """(m,) float32: the largest of each image's rests."""
        return np.maximum.reduceat(self.rests, self.first[:-1]) if len(self.images) else np.zeros(0, np.float32)


def load_reduced(folder: Path, version: int) -> Reduced | None:
    """Map the arrays that keep_reduced() stored for this version of the table; None if they are not complete."""
    place = folder / f"reduced-{version}"
    try:
        if json.loads((place / "about.json").read_text())["version"] != version:
            return None
        return Reduced(*(np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS))
    except (OSError, ValueError, KeyError):
        return None


def keep_reduced(batches: Batches, dim: int, folder: Path, version: int) -> Reduced:
    """Store the result of reduce_rows() beside the tables, replacing older versions, and map it into memory.

    Raises OSError if the folder cannot be written to.
    """
    place, partial = folder / f"reduced-{version}", folder / f".reduced-{version}-{os.getpid()}.partial"
    partial.mkdir(exist_ok=True)
    try:
        images = len(
            reduce_rows(batches, dim, partial).images
        )  # closed again, because some systems cannot rename open files
        (partial / "about.json").write_text(json.dumps({"version": version, "images": images}))
        if not place.exists():
            partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for other in (*folder.glob("reduced-*"), *folder.glob(".reduced-*.partial")):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    reduced = load_reduced(folder, version)
    if reduced is None:
        raise OSError(f"{place}: cannot be read")
    return reduced


def reduce_rows(batches: Batches, dim: int, folder: Path | None = None) -> Reduced:
    """Reduce a table. batches() yields (image numbers (n,), rows (n,), vectors (n, D) float16); it is called twice.

    folder  the arrays are written there and mapped; None: they stay in memory.
    """
    moments, numbers = np.zeros((dim, dim), np.float64), [np.zeros(0, np.int64)]
    for images, _, vectors in batches():
        block = vectors[:: max(1, len(vectors) // 2048)].astype(np.float32)  # a sample of each batch
        moments += block.T @ block
        numbers.append(np.array(images))
    numbers = np.concatenate(numbers)
    values, basis = np.linalg.eigh(moments)
    values, basis = np.maximum(values[::-1], 0), basis[:, ::-1]
    left = 1 - np.cumsum(values) / max(values.sum(), 1e-30)
    r = next((size for size in range(STEP, dim, STEP) if left[size - 1] <= LEFT_OUT), dim)
    order = np.argsort(numbers, kind="stable")  # several commits may have been joined in another order
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    numbers = numbers[order]
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]][: len(numbers)])

    n = len(numbers)
    basis = _filled(folder, "basis", np.ascontiguousarray(basis[:, :r], np.float32))
    points, rests = _array(folder, "points", (n, r), np.float32), _array(folder, "rests", (n,), np.float32)
    rows = _array(folder, "rows", (n,), np.int64)
    done = 0
    for _, ids, vectors in batches():
        exact, to = vectors.astype(np.float32), place[done : done + len(vectors)]
        inside = exact @ basis
        points[to], rows[to], rests[to] = inside, ids, np.linalg.norm(exact - inside @ basis.T, axis=1)
        done += len(vectors)
    first = _filled(folder, "first", np.r_[starts, n].astype(np.int64))
    images = _filled(folder, "images", numbers[starts])
    return Reduced(basis, points, rests, rows, first, images)


def _array(folder: Path | None, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
    if folder is None or 0 in shape:
        return np.empty(shape, dtype)
    return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)


def _filled(folder: Path | None, name: str, values: np.ndarray) -> np.ndarray:
    array = _array(folder, name, values.shape, values.dtype)
    array[...] = values
    return array
