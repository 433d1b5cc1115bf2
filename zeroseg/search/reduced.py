"""Exact search in memory: all segments' embeddings in few dimensions and few bytes, with a bound on the error.

The embeddings E (n, D) of a model lie near a space of few dimensions. With an orthonormal basis B (D, r) of it, an
embedding is e = B p + rest. Its coordinates p are stored with one byte each: p = centre + scales (code + rounding),
elementwise. So its product with a label's direction d is bounded on both sides (Cauchy and Schwarz), with i = B^T d:

    |e . d - (centre + scales code) . i|  <=  |rounding| |scales i| + |rest| |d - B i|

One pass over the codes (n, r) finds the images that can be among the first k. It is best_products, which compares
integers, so scales i is rounded to int16 as well, and the bound allows for that. For the images found, the difference
e - B (centre + scales code) is known more closely: in r + s dimensions it is stored with one byte each, step closer +
tail, and the bound is |tail| |d|. The few images that remain are scored exactly. r and s are the smallest multiples of
STEP with which the r and r + s dimensions leave out at most LEFT_OUT and CLOSER_LEFT_OUT of the squared length.

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

from zeroseg.kernels.best_products import PRODUCT_MAX, best_products
from zeroseg.products import products
from zeroseg.search.stored_rows import StoredRows

STEP, LEFT_OUT, CLOSER_LEFT_OUT = 16, 1e-4, 1e-6
ROUNDING = np.float32(1e-5)  # error of a sum of some hundred float32 products; added to every bound
_BYTE = 127  # the largest code
_SAMPLE = 1 << 13  # images, about, by whose segments the dimensions and the reach of the codes are chosen
_WIDTH = 1.1  # reach of the codes by that of the sample's coordinates; values beyond have a larger rounding
_BLOCK = 1 << 14  # images that are compared more closely at once
_MAPPED = 1 << 18  # segments that are written before the files are mapped anew, which frees the memory
_ARRAYS = (
    "basis further scales centre codes closer steps tails lengths rows areas boxes first images rests roundings".split()
)
_FACTS = "facts.arrow"
# the columns of an image's facts, and of its segments
FACTS = "path file offset size sha256 height width taken position_s rows columns".split()
SEGMENT = ("image", "segment", "vector", "area", "box")

Batches = Callable[[Sequence[str], str | None], Iterator]  # see reduce_rows


@dataclass(frozen=True)
class Reduced:
    """basis B (D, r), further (D, s), scales (r,) and centre (r,), all float32.

    Per segment: codes (n, r) int8, closer (n, r + s) int8 and steps (n,) float32, tails |tail| (n,) float32, lengths
    |e| (n,) float32; rows (n,) int64, its row in the table; areas (n,) int64 in px, boxes (n, 4) int32 of (x, y, width,
    height) in px. Segments of an image are neighbours. Per image: first (m + 1,) int64, where its segments begin,
    images (m,) int64, its number, rests and roundings (m,) float32, the largest |rest| and |rounding| of its segments,
    and facts, an Arrow table of FACTS.
    """

    basis: np.ndarray
    further: np.ndarray
    scales: np.ndarray
    centre: np.ndarray
    codes: np.ndarray
    closer: np.ndarray | StoredRows
    steps: np.ndarray
    tails: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    first: np.ndarray
    images: np.ndarray
    rests: np.ndarray
    roundings: np.ndarray
    facts: object

    def bounds(self, directions_ND: np.ndarray, cosine: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (N, m) float32 each, of the best segment's score in m images for N directions.

        cosine: of the score divided by the segment's length.
        """
        inside_Nr = products(directions_ND, self.basis.T)
        scaled_Nr = inside_Nr * self.scales
        whole_Nr, unit_N1 = _as_int16(scaled_Nr)
        constant_N1 = (inside_Nr @ self.centre)[:, None]
        slack_N1 = _BYTE * np.abs(scaled_Nr - whole_Nr * unit_N1).sum(1, keepdims=True) + ROUNDING
        slack_Nm = _norms(scaled_Nr) * self.roundings  # in place from here on: a million images are many bytes
        slack_Nm += self._outside(directions_ND) * self.rests
        slack_Nm += slack_N1
        if cosine:
            each = np.arange(len(self.codes) + 1)
            inner_Nn = (best_products(self.codes, each, whole_Nr) * unit_N1 + constant_N1) / self.lengths
            best_Nm, slack_Nm = np.maximum.reduceat(inner_Nn, self.first[:-1], axis=1), slack_Nm / self._shortest
        else:
            best_Nm = best_products(self.codes, self.first, whole_Nr).astype(np.float32)
            best_Nm *= unit_N1
            best_Nm += constant_N1
        highest_Nm = best_Nm + slack_Nm
        return np.subtract(best_Nm, slack_Nm, out=slack_Nm), highest_Nm

    def closer_bounds(
        self, directions_ND: np.ndarray, at: np.ndarray, cosine: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Like bounds(), but closer, for the images with the indices `at` (m,), m >= 1; slower for an image."""
        inside_Nr, further_Ns = products(directions_ND, self.basis.T), products(directions_ND, self.further.T)
        scaled_Nr, constant_N1 = inside_Nr * self.scales, (inside_Nr @ self.centre)[:, None]
        both_Nd, lengths_N1 = np.concatenate([inside_Nr, further_Ns], 1), _norms(directions_ND)
        lowest, highest = [], []
        for start in range(0, len(at), _BLOCK):
            part = at[start : start + _BLOCK]
            some, starts = self.segments(part)
            stored = isinstance(self.closer, StoredRows)
            closer = self.closer.ranges(self.first[part], self.first[part + 1]) if stored else self.closer[some]
            inner_Nn = products(scaled_Nr, self.codes[some].astype(np.float32)) + constant_N1
            inner_Nn += products(both_Nd, closer.astype(np.float32)) * self.steps[some]
            slack_Nn = lengths_N1 * self.tails[some] + ROUNDING
            if cosine:
                inner_Nn, slack_Nn = inner_Nn / self.lengths[some], slack_Nn / self.lengths[some]
            lowest.append(np.maximum.reduceat(inner_Nn - slack_Nn, starts, axis=1))
            highest.append(np.maximum.reduceat(inner_Nn + slack_Nn, starts, axis=1))
        return np.concatenate(lowest, axis=1), np.concatenate(highest, axis=1)

    def segments(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the segments of images (m,), image by image, and where each image begins among them (m,)."""
        counts = self.first[at + 1] - self.first[at]
        starts = np.cumsum(counts) - counts
        return np.repeat(self.first[at] - starts, counts) + np.arange(counts.sum()), starts

    def _outside(self, directions_ND: np.ndarray) -> np.ndarray:
        """(N, 1) float32: upper bounds of |d - B B^T d|."""
        inside_Nr = products(directions_ND, self.basis.T)
        left_N1 = (directions_ND**2).sum(1, keepdims=True) - (inside_Nr**2).sum(1, keepdims=True)
        return np.sqrt(np.maximum(left_N1, 0)) + ROUNDING

    @cached_property
    def _shortest(self) -> np.ndarray:
        """(m,) float32: the shortest of each image's segments."""
        return np.minimum.reduceat(self.lengths, self.first[:-1])


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1, keepdims=True)


def _as_int16(values_Nr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(whole (N, r) int16, unit (N, 1) float32): values rounded to whole * unit, as precise as best_products allows."""
    most = min(np.iinfo(np.int16).max, PRODUCT_MAX // (128 * max(1, values_Nr.shape[1])))
    unit_N1 = np.abs(values_Nr).max(1, keepdims=True, initial=1e-30) / np.float32(most)
    return np.rint(values_Nr / unit_N1).clip(-most, most).astype(np.int16), unit_N1


def load_reduced(folder: Path, version: int) -> Reduced | None:
    """Map the arrays that keep_reduced() stored for this version of the table; None if they are not complete."""
    place = folder / f"reduced-{version}"
    try:
        if json.loads((place / "about.json").read_text())["version"] != version:
            return None
        mapped = {name: _mapped(place / f"{name}.npy") for name in _ARRAYS if name != "closer"}
        return Reduced(**mapped, closer=StoredRows(place / "closer.npy"), facts=_mapped_table(place / _FACTS))
    except (OSError, ValueError, KeyError):
        return None


def keep_reduced(batches: Batches, dim: int, images: int, folder: Path, version: int) -> Reduced:
    """Store the result of reduce_rows() beside the tables, replacing older versions, and map it into memory.

    Raises OSError if the folder cannot be written to.
    """
    place, partial = folder / f"reduced-{version}", folder / f".reduced-{version}-{os.getpid()}.partial"
    partial.mkdir(exist_ok=True)
    try:
        # its files are closed again, because some systems cannot rename open ones
        images = len(reduce_rows(batches, dim, images, partial).images)
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


def reduce_rows(batches: Batches, dim: int, images: int, folder: Path | None = None) -> Reduced:
    """Reduce a table. batches(columns, condition) yields Arrow record batches of those columns and of _rowid, always in
    the same order; dim: D; images: how many there are, about.

    folder  the arrays are written there and mapped; None: they stay in memory.
    """
    numbers, parts, sample = [np.zeros(0, np.int64)], [np.zeros(0, np.int16)], [np.zeros((0, dim), np.float16)]
    for batch in batches(("image", "segment", "vector"), None):
        sample.append(as_rows(batch["vector"])[:: max(1, images // _SAMPLE)].copy())
        numbers.append(np.array(batch["image"]))
        parts.append(np.array(batch["segment"]))
    numbers, parts = np.concatenate(numbers), np.concatenate(parts)
    fixed = _fixed(np.concatenate(sample).astype(np.float32))
    basis, further = fixed[:2]
    order = np.lexsort((parts, numbers))  # several commits may have been joined in another order
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    numbers = numbers[order]
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]][: len(numbers)])

    n, r, s = len(numbers), basis.shape[1], further.shape[1]
    kinds = {
        "codes": ((n, r), np.int8), "closer": ((n, r + s), np.int8), "steps": ((n,), np.float32),
        "tails": ((n,), np.float32), "lengths": ((n,), np.float32), "rows": ((n,), np.int64), "areas": ((n,), np.int64),
        "boxes": ((n, 4), np.int32),
    }  # fmt: skip
    each = {name: _array(folder, name, *kind) for name, kind in kinds.items()}
    rests, roundings = np.zeros(n, np.float32), np.zeros(n, np.float32)
    done = waiting = 0
    for batch in batches(SEGMENT, None):
        exact = as_rows(batch["vector"]).astype(np.float32)
        to = place[done : done + len(exact)]
        values, rests[to], roundings[to] = _coded(exact, *fixed)
        values |= {"rows": batch["_rowid"], "areas": batch["area"], "boxes": as_rows(batch["box"])}
        for name, value in values.items():
            each[name][to] = value
        done, waiting = done + len(exact), waiting + len(exact)
        if folder is not None and waiting >= _MAPPED:
            each, waiting = {name: _mapped(folder / f"{name}.npy", "r+") for name in kinds}, 0
    largest = (np.maximum.reduceat(one, starts) if n else one for one in (rests, roundings))
    known = dict(zip(_ARRAYS, fixed)) | dict(zip(_ARRAYS[-4:], (np.r_[starts, n], numbers[starts], *largest)))
    each |= {name: _filled(folder, name, values) for name, values in known.items()}
    return Reduced(**each, facts=_facts(batches, folder))


def _coded(
    exact_nD: np.ndarray, basis: np.ndarray, further: np.ndarray, scales: np.ndarray, centre: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """What Reduced has of segments: codes, closer, steps, tails and lengths by name; |rest| and |rounding|, (n,)."""
    both = np.concatenate([basis, further], 1)
    left = exact_nD @ both  # its first r columns are replaced
    inside = left[:, : basis.shape[1]].copy()
    places = (inside - centre) / scales
    codes = np.rint(places).clip(-_BYTE, _BYTE)
    left[:, : basis.shape[1]] = (places - codes) * scales
    steps = np.abs(left).max(1, initial=1e-30) / _BYTE
    closer = np.rint(left / steps[:, None]).clip(-_BYTE, _BYTE)
    near = closer * steps[:, None]
    near[:, : basis.shape[1]] += codes * scales + centre
    values = {
        "codes": codes.astype(np.int8),
        "closer": closer.astype(np.int8),
        "steps": steps,
        "tails": np.linalg.norm(exact_nD - near @ both.T, axis=1),
        "lengths": np.linalg.norm(exact_nD, axis=1).clip(1e-12),
    }
    return values, np.linalg.norm(exact_nD - inside @ basis.T, axis=1), np.linalg.norm(places - codes, axis=1)


def _fixed(sample_nD: np.ndarray) -> tuple[np.ndarray, ...]:
    """basis, further, scales and centre for segments of which these are a sample."""
    values, vectors = np.linalg.eigh(sample_nD.T @ sample_nD)
    values, vectors = np.maximum(values[::-1], 0), np.ascontiguousarray(vectors[:, ::-1], np.float32)
    left = 1 - np.cumsum(values, dtype=np.float64) / max(values.sum(), 1e-30)
    dim = len(values)
    r, both = (
        next((size for size in range(STEP, dim, STEP) if left[size - 1] <= most), dim)
        for most in (LEFT_OUT, CLOSER_LEFT_OUT)
    )
    basis, further = np.ascontiguousarray(vectors[:, :r]), np.ascontiguousarray(vectors[:, r:both])
    inside = sample_nD @ basis if len(sample_nD) else np.zeros((1, r), np.float32)
    low, high = inside.min(0), inside.max(0)
    return basis, further, np.maximum(_WIDTH * (high - low) / (2 * _BYTE), np.float32(1e-9)), (low + high) / 2


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


def _mapped(path: Path, mode: str = "r") -> np.ndarray:
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)
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
