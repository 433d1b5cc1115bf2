"""Exact search in memory: all segments' embeddings in few dimensions, with a bound on what that leaves out.

The embeddings E (n, D) of a model lie near a space of few dimensions. With an orthonormal basis B (D, r) of it, an
embedding is e = B p + rest, and its product with a label's direction d is bounded on both sides:

    |e . d - p . (B^T d)|  <=  |rest| |d - B B^T d|                    (Cauchy and Schwarz)

So one pass over P (n, r) tells which few images can be among the first k; their scores are then computed exactly. r is
the smallest multiple of STEP that leaves out at most LEFT_OUT of the squared length, and D at most.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeroseg.kernels._threads import threads

STEP, LEFT_OUT = 16, 1e-4
ROUNDING = np.float32(1e-5)  # of sums of some hundred float32 products; added to every bound
_BLOCK = 1 << 14  # rows that a thread takes at once
_ARRAYS = ("basis", "points", "rests", "rows", "first", "images")


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
        """(N, m) float32 twice: below and above what each image's best segment scores for N directions."""
        inside_Nr = directions_ND @ self.basis
        outside_N = np.sqrt(np.maximum((directions_ND**2).sum(1) - (inside_Nr**2).sum(1), 0)) + ROUNDING
        shape = (len(directions_ND), len(self.images))
        low, high = np.empty(shape, np.float32), np.empty(shape, np.float32)

        def work(start: int) -> None:
            stop = min(start + _BLOCK, len(self.images))
            a, b = self.first[start], self.first[stop]
            middle_Nn = inside_Nr @ self.points[a:b].T
            slack_Nn = outside_N[:, None] * self.rests[a:b] + ROUNDING
            at = self.first[start:stop] - a
            low[:, start:stop] = np.maximum.reduceat(middle_Nn - slack_Nn, at, axis=1)
            high[:, start:stop] = np.maximum.reduceat(middle_Nn + slack_Nn, at, axis=1)

        starts = range(0, len(self.images), _BLOCK)
        if len(starts) <= 1 or threads() == 1:
            list(map(work, starts))
        else:
            with ThreadPoolExecutor(threads()) as pool:
                list(pool.map(work, starts))
        return low, high

    def save(self, folder: Path, version: int) -> None:
        """Keep it beside the tables, in place of those of earlier versions."""
        place, partial = folder / f"reduced-{version}", folder / f".reduced-{version}-{os.getpid()}.partial"
        partial.mkdir(exist_ok=True)
        for name in _ARRAYS:
            np.save(partial / f"{name}.npy", getattr(self, name))
        (partial / "about.json").write_text(json.dumps({"version": version, "images": len(self.images)}))
        if not place.exists():
            partial.rename(place)
        for other in (*folder.glob("reduced-*"), *folder.glob(".reduced-*.partial")):
            if other != place:
                shutil.rmtree(other, ignore_errors=True)


def load_reduced(folder: Path, version: int) -> Reduced | None:
    """What save() kept for this version of the table, mapped into memory; None where there is nothing whole."""
    place = folder / f"reduced-{version}"
    try:
        if json.loads((place / "about.json").read_text())["version"] != version:
            return None
        return Reduced(*(np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS))
    except (OSError, ValueError, KeyError):
        return None


def reduce_rows(batches: Callable[[], Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]], dim: int) -> Reduced:
    """Reduce a table. batches() gives (image numbers (n,), rows (n,), vectors (n, D) float16), twice the same."""
    moments = np.zeros((dim, dim), np.float64)
    for _, _, vectors in batches():
        block = vectors[:: max(1, len(vectors) // 2048)].astype(np.float32)  # a sample of each batch
        moments += block.T @ block
    values, basis = np.linalg.eigh(moments)
    values, basis = np.maximum(values[::-1], 0), basis[:, ::-1]
    left = 1 - np.cumsum(values) / max(values.sum(), 1e-30)
    r = next((size for size in range(STEP, dim, STEP) if left[size - 1] <= LEFT_OUT), dim)
    basis = np.ascontiguousarray(basis[:, :r], np.float32)
    points, rests, rows, numbers = [], [], [], []
    for images, ids, vectors in batches():
        exact = vectors.astype(np.float32)
        inside = exact @ basis
        points.append(inside)
        rests.append(np.linalg.norm(exact - inside @ basis.T, axis=1))
        rows.append(ids)
        numbers.append(images)
    if not rows:
        none = np.zeros(0, np.int64)
        return Reduced(basis, np.zeros((0, r), np.float32), np.zeros(0, np.float32), none, np.zeros(1, np.int64), none)
    points, rests, rows, numbers = (np.concatenate(parts) for parts in (points, rests, rows, numbers))
    if (np.diff(numbers) < 0).any():  # several commits may have been joined in another order
        order = np.argsort(numbers, kind="stable")
        points, rests, rows, numbers = points[order], rests[order], rows[order], numbers[order]
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    first = np.r_[starts, len(numbers)].astype(np.int64)
    return Reduced(basis, points, rests.astype(np.float32), rows, first, numbers[starts])
