"""Exact search in memory: all segments' embeddings in few dimensions, with a bound on the error.

The embeddings E (n, D) of a model lie near a space of few dimensions. With an orthonormal basis B (D, r) of it, an
embedding is e = B p + rest, and its product with a label's direction d is bounded on both sides:

    |e . d - p . (B^T d)|  <=  |rest| |d - B B^T d|                    (Cauchy and Schwarz)

So one pass over P (n, r) finds the images that can be among the first k. For these, the rest is known more closely: in
the next s dimensions it is stored with one byte each, rest = B' (step c) + tail, and the bound has |tail| in place of
|rest|. The few images that remain are scored exactly. r and s are the smallest multiples of STEP with which the r and
r + s dimensions leave out at most LEFT_OUT and CLOSER_LEFT_OUT of the squared length.

What a hit shows is kept beside these arrays: area and box of each segment, and an Arrow table of each image's facts.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

STEP, LEFT_OUT, CLOSER_LEFT_OUT = 16, 1e-4, 1e-6
ROUNDING = np.float32(1e-5)  # error of a sum of some hundred float32 products; added to every bound
_BLOCK = 1 << 16  # images whose products are in memory at once
_BYTE = 127  # the largest code
_ARRAYS = "basis further points rests codes steps tails rows areas boxes first images".split()
_FACTS = "facts.arrow"
# the columns of an image's facts, and of its segments
FACTS = "path file offset size sha256 height width taken position_s rows columns".split()
SEGMENT = ("image", "segment", "vector", "area", "box")

Batches = Callable[[Sequence[str], str | None], Iterator]  # see reduce_rows


@dataclass(frozen=True)
class Reduced:
    """basis B (D, r) and further B' (D, s) float32. Per segment: points p (n, r) float32, rests |rest| (n,) float32,
    codes c (n, s) int8, steps (n,) float32, tails |tail| (n,) float32; rows (n,) int64, its row in the table; areas
    (n,) int64 in px, boxes (n, 4) int32 of (x, y, width, height) in px. Segments of an image are neighbours. Per image:
    first (m + 1,) int64, where its segments begin, images (m,) int64, its number, and facts, an Arrow table of FACTS.
    """

    basis: np.ndarray
    further: np.ndarray
    points: np.ndarray
    rests: np.ndarray
    codes: np.ndarray
    steps: np.ndarray
    tails: np.ndarray
    rows: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    first: np.ndarray
    images: np.ndarray
    facts: object

    def bounds(self, directions_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (N, m) float32 each, of the best segment's score in m images for N directions."""
        inside_Nr = directions_ND @ self.basis
        best_Nm = np.empty((len(directions_ND), len(self.images)), np.float32)
        for start in range(0, len(self.images), _BLOCK):
            stop = min(start + _BLOCK, len(self.images))
            a, b = self.first[start], self.first[stop]
            inner_Nn = inside_Nr @ self.points[a:b].T  # BLAS uses its own threads
            best_Nm[:, start:stop] = np.maximum.reduceat(inner_Nn, self.first[start:stop] - a, axis=1)
        slack_Nm = self._outside(directions_ND)[:, None] * self.largest_rests + ROUNDING
        return best_Nm - slack_Nm, best_Nm + slack_Nm

    def closer_bounds(self, directions_ND: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Like bounds(), but closer, for the images with the indices `at` (m,), m >= 1; slower for an image."""
        outside_N1, lowest, highest = self._outside(directions_ND)[:, None], [], []
        for start in range(0, len(at), _BLOCK):
            some, starts = self.segments(at[start : start + _BLOCK])
            closer_nD = self.codes[some] * self.steps[some, None]
            inner_Nn = (directions_ND @ self.basis) @ self.points[some].T + (directions_ND @ self.further) @ closer_nD.T
            slack_Nn = outside_N1 * self.tails[some] + ROUNDING
            lowest.append(np.maximum.reduceat(inner_Nn - slack_Nn, starts, axis=1))
            highest.append(np.maximum.reduceat(inner_Nn + slack_Nn, starts, axis=1))
        return np.concatenate(lowest, axis=1), np.concatenate(highest, axis=1)

    def segments(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the segments of images (m,), image by image, and where each image begins among them (m,)."""
        counts = self.first[at + 1] - self.first[at]
        starts = np.cumsum(counts) - counts
        return np.repeat(self.first[at] - starts, counts) + np.arange(counts.sum()), starts

    def _outside(self, directions_ND: np.ndarray) -> np.ndarray:
        """(N,) float32: upper bounds of |d - B B^T d|."""
        inside_Nr = directions_ND @ self.basis
        return np.sqrt(np.maximum((directions_ND**2).sum(1) - (inside_Nr**2).sum(1), 0)) + ROUNDING

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
        return Reduced(*(_mapped(place / f"{name}.npy") for name in _ARRAYS), _mapped_table(place / _FACTS))
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
        if load_reduced(folder, version) is None:  # else another process was faster
            shutil.rmtree(place, ignore_errors=True)  # of an earlier release
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
    """Reduce a table. batches(columns, condition) yields Arrow record batches of those columns and of _rowid, always in
    the same order; dim: D.

    folder  the arrays are written there and mapped; None: they stay in memory.
    """
    moments, numbers, parts = np.zeros((dim, dim), np.float64), [np.zeros(0, np.int64)], [np.zeros(0, np.int16)]
    for batch in batches(("image", "segment", "vector"), None):
        vectors = as_rows(batch["vector"])
        block = vectors[:: max(1, len(vectors) // 2048)].astype(np.float32)  # a sample of each batch
        moments += block.T @ block
        numbers.append(np.array(batch["image"]))
        parts.append(np.array(batch["segment"]))
    numbers, parts = np.concatenate(numbers), np.concatenate(parts)
    basis, further = _bases(moments)
    order = np.lexsort((parts, numbers))  # several commits may have been joined in another order
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    numbers = numbers[order]
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]][: len(numbers)])

    n, r, s = len(numbers), basis.shape[1], further.shape[1]
    basis, further = _filled(folder, "basis", basis), _filled(folder, "further", further)
    points, codes = _array(folder, "points", (n, r), np.float32), _array(folder, "codes", (n, s), np.int8)
    rests, steps, tails = (_array(folder, name, (n,), np.float32) for name in ("rests", "steps", "tails"))
    rows, areas = (_array(folder, name, (n,), np.int64) for name in ("rows", "areas"))
    boxes = _array(folder, "boxes", (n, 4), np.int32)
    done = 0
    for batch in batches(SEGMENT, None):
        exact = as_rows(batch["vector"]).astype(np.float32)
        to = place[done : done + len(exact)]
        inside, beyond = exact @ basis, exact @ further
        step = np.abs(beyond).max(1, initial=1e-30) / _BYTE
        code = np.rint(beyond / step[:, None]).astype(np.int8)
        rest = exact - inside @ basis.T
        points[to], rests[to], codes[to], steps[to] = inside, np.linalg.norm(rest, axis=1), code, step
        tails[to] = np.linalg.norm(rest - (code * step[:, None]) @ further.T, axis=1)
        rows[to], areas[to], boxes[to] = np.asarray(batch["_rowid"]), np.asarray(batch["area"]), as_rows(batch["box"])
        done += len(exact)
    first = _filled(folder, "first", np.r_[starts, n].astype(np.int64))
    images = _filled(folder, "images", numbers[starts])
    arrays = (basis, further, points, rests, codes, steps, tails, rows, areas, boxes, first, images)
    return Reduced(*arrays, _facts(batches, folder))


def _bases(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """B and B' for the second moments (D, D) of embeddings."""
    values, basis = np.linalg.eigh(moments)
    values, basis = np.maximum(values[::-1], 0), np.ascontiguousarray(basis[:, ::-1], np.float32)
    left = 1 - np.cumsum(values) / max(values.sum(), 1e-30)
    dim = len(values)
    r, both = (
        next((size for size in range(STEP, dim, STEP) if left[size - 1] <= most), dim)
        for most in (LEFT_OUT, CLOSER_LEFT_OUT)
    )
    return np.ascontiguousarray(basis[:, :r]), np.ascontiguousarray(basis[:, r:both])


def _facts(batches: Batches, folder: Path | None):
    """The Arrow table of FACTS of all images, by their numbers."""
    import pyarrow as pa

    found = list(batches(("image", *FACTS), "segment = 0"))
    if not found:
        return pa.table({name: [] for name in FACTS})
    table = pa.Table.from_batches(found).sort_by("image").select(FACTS)
    if folder is None:
        return table
    with pa.OSFile(str(folder / _FACTS), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return table


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        return np.load(path, allow_pickle=False)


def _mapped_table(path: Path):
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def as_rows(column) -> np.ndarray:
    """(n, D) of an Arrow array of fixed-size lists."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _array(folder: Path | None, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
    if folder is None or 0 in shape:
        array = np.zeros(shape, dtype)
        if folder is not None:
            np.save(folder / f"{name}.npy", array)
        return array
    return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)


def _filled(folder: Path | None, name: str, values: np.ndarray) -> np.ndarray:
    array = _array(folder, name, values.shape, values.dtype)
    array[...] = values
    return array
