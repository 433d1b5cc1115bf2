"""How fast a search is, by the number of images: synthetic collections whose segments are drawn like the model's.

A synthetic segment is a mean of two segments of real photos with a random weight, plus noise with a tenth of the
segments' own covariance: lengths and dimensions stay those of the model.
"""

import resource
import shutil
import time
from pathlib import Path

import numpy as np

from zeroseg.search.collection import Collection
from zeroseg.search.encoding import Batch, Encoder, pack_map
from zeroseg.search.query import Alternative, Query
from zeroseg.search.store import SEGMENTS, Store, columns
from zeroseg.search.units import list_units
from zeroseg.segment.labels import label_pack
from zeroseg.sidecar import Sidecar

AT_ONCE = 10_000  # images that are written at once
TOP = 50
_WHOLE = "made-from.txt"  # in the folder of a whole collection: what tells the model


def real_segments(photos: list[str], model: str | None) -> tuple[Sidecar, np.ndarray]:
    """The model's sidecar and (n, K, D) float32 embeddings of photos."""
    encoder = Encoder(model)
    units = encoder.part(Batch(0, tuple(list_units(photos, [], 1.0))))
    return encoder.segmenter.sidecar, np.stack([one.vectors for unit in units for one in unit.images]).astype(
        np.float32
    )


def collection_of(folder: Path, sidecar: Sidecar, real: np.ndarray, images: int, seed: int = 0) -> Store:
    """A collection of synthetic images in folder: the one that is there, or made anew."""
    made_from = "\n".join(sorted(sidecar.files.values()))
    if (folder / _WHOLE).is_file() and (folder / _WHOLE).read_text() == made_from:
        return Store(folder)
    shutil.rmtree(folder, ignore_errors=True)
    store = Store(folder)
    store.create(sidecar, {"sources": {"/photos": "photos"}, "model": {"name": sidecar.name}, "every_s": 1.0})
    rng, flat = np.random.default_rng(seed), real.reshape(-1, real.shape[-1])
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    spread = (vectors * np.sqrt(np.maximum(values, 0) * 0.1)).astype(np.float32)
    for start in range(0, images, AT_ONCE):
        count = min(AT_ONCE, images - start)
        store.table(SEGMENTS).add(_rows(_draw(rng, flat, spread, count * real.shape[1]), real.shape[1], start))
    store.tidy()
    (folder / _WHOLE).write_text(made_from)
    return store


def _draw(rng, flat: np.ndarray, spread: np.ndarray, count: int) -> np.ndarray:
    one, other = (flat[rng.integers(len(flat), size=count)] for _ in range(2))
    weight = rng.random((count, 1), np.float32)
    noise = rng.standard_normal((count, spread.shape[1]), np.float32) @ spread.T
    return (weight * one + (1 - weight) * other + noise).astype(np.float16)


def _rows(vectors: np.ndarray, K: int, first: int):
    import pyarrow as pa

    count = len(vectors) // K
    number = np.repeat(np.arange(first, first + count), K)
    paths = pa.array([f"photos/{n:08}.jpg" for n in number])
    values = {
        "image": number,
        "segment": np.tile(np.arange(K), count),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        "box": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4 * len(number), np.int32)), 4),
        "map": [pack_map(np.full((18, 24), 1 / K, np.float32))] * len(number),
        "path": paths,
        "file": paths.cast(pa.binary()),
        "offset": np.full(len(number), -1),
        "rows": np.full(len(number), 18),
        "columns": np.full(len(number), 24),
        "sha256": [b""] * len(number),
        "taken": [None] * len(number),
        "position_s": [None] * len(number),
    }
    named = columns(vectors.shape[1])
    return pa.table(
        [
            values[name] if name in ("vector", "box") else pa.array(values.get(name, np.ones(len(number), int)), kind)
            for name, kind in named
        ],
        schema=pa.schema(named),
    )


def measure_speed(folder: Path, words: list[str]) -> dict:
    """Figures of a collection: opened, then one search a word for the best TOP images, none left out by threshold.

    open_s, p50_ms, p95_ms, max_ms, rank (dimensions of the first pass) and memory_mib (largest resident size of the
    process, so measure in a fresh one).
    """
    begun = time.perf_counter()
    collection = Collection.open(folder)
    rank = collection.state().reduced.codes.shape[1]
    packs = {word: label_pack([word], collection.sidecar) for word in words}
    opened, ms = time.perf_counter() - begun, []
    for word, pack in packs.items():
        start = time.perf_counter()
        collection.ranked(Query((Alternative((word,)),)), pack, TOP, threshold=-2.0)
        ms.append(1000 * (time.perf_counter() - start))
    return {
        "images": len(collection),
        "open_s": opened,
        "p50_ms": float(np.percentile(ms, 50)),
        "p95_ms": float(np.percentile(ms, 95)),
        "max_ms": max(ms),
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rank": rank,
    }
