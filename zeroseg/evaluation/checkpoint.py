"""The counts of an evaluation on disk, so that a killed one goes on where it was and a finished one is not made again.

A set has one file, NAME.npz, with everything that a Report counts and a digest of all that the counts depend on. A file
with another digest is not taken.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np

from zeroseg.evaluation.folders import MaskFolder
from zeroseg.evaluation.report import Report
from zeroseg.files import whole_file

_COUNTS = ("confusion", "near_borders", "predict_ms", "decide_ms")


def digest_of(dataset: MaskFolder, limit: int | None, vectors: np.ndarray, about: dict) -> str:
    """Hex digest of the files of a set (names, sizes, times), the labels' vectors, and what JSON-able `about` says."""
    digest = hashlib.sha256(json.dumps([about, limit, dataset.classes], sort_keys=True).encode())
    digest.update(np.ascontiguousarray(vectors, np.float32).tobytes())
    digest.update(dataset.id_table.tobytes())
    for path in (*dataset.photos[:limit], *dataset.masks[:limit]):
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def save(path: Path, report: Report, digest: str) -> None:
    """Write the counts so far, completely or not at all."""
    arrays = {name: np.asarray(getattr(report, name)) for name in _COUNTS}
    arrays |= {f"oracle_{rule}": confusion for rule, confusion in report.oracle.items()}
    with whole_file(path, suffix=".npz") as partial:
        np.savez_compressed(partial, digest=np.array(digest), **arrays)


def load(path: Path, report: Report, digest: str) -> int:
    """Take the counts of a file into an empty report where its digest is this one; how many photos they are of."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["digest"]) != digest:
                return 0
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return 0
    if any(arrays[name].shape != getattr(report, name).shape for name in ("confusion", "near_borders")):
        return 0
    report.confusion, report.near_borders = arrays["confusion"], arrays["near_borders"]
    report.predict_ms, report.decide_ms = arrays["predict_ms"].tolist(), arrays["decide_ms"].tolist()
    report.oracle = {
        name.removeprefix("oracle_"): array for name, array in arrays.items() if name.startswith("oracle_")
    }
    return len(report.predict_ms)
