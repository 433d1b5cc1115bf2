"""Text vectors of labels from an open_clip model's own text tower, cached on disk.

A label's vector is the mean of the unit vectors of the label in 1, 7 or 80 prompt templates, scaled to length 1
(Radford et al. 2021, arXiv 2103.00020, section 3.1.4). The 7 and the 80 are OpenAI's, from open_clip.

The cache is a file per model and number of templates in $XDG_CACHE_HOME/zeroseg/text (or ~/.cache/zeroseg/text). It can
be deleted at any time.
"""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zeroseg.dense.spec import TEMPLATES, DenseSpec
from zeroseg.errors import ZerosegError
from zeroseg.files import whole_file
from zeroseg.words.embed import as_list, clean_prompt
from zeroseg.words.stored_arrays import check_arrays

CACHED_MAX = 20_000  # labels of one file


def label_vectors(spec: DenseSpec, labels: Sequence[str], cache: Path | None = None) -> np.ndarray:
    """(n, D) float32 unit rows for n labels, from the cache (a folder; None for the usual one) or the text tower.

    Raises ValueError for invalid labels, ZerosegError or UnavailableError if the tower is not available.
    """
    labels = [clean_prompt(label, i) for i, label in enumerate(as_list(labels))]
    path = _cache_file(spec, cache)
    known = _read(path)
    missing = list(dict.fromkeys(label for label in labels if label not in known))
    if missing:
        from zeroseg.dense.weights import text_side_of

        made = embed(text_side_of(spec.arch, spec.weights), missing, spec.templates)
        known = {**known, **dict(zip(missing, made, strict=True))}
        _write(path, known)
    return np.stack([known[label] for label in labels])


def embed(text_side, labels: Sequence[str], templates: int) -> np.ndarray:
    """(n, D) float32 unit rows: every label in 1, 7 or 80 prompt templates, the mean of their unit vectors."""
    sentences = sentences_of(templates)
    vectors = text_side.vectors([sentence(label) for label in labels for sentence in sentences])
    means = vectors.reshape(len(labels), len(sentences), -1).mean(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def sentences_of(templates: int) -> list:
    """The prompt templates as functions from a label to a sentence."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    if templates not in TEMPLATES:
        raise ZerosegError(f"templates: expected one of {', '.join(map(str, TEMPLATES))}, got {templates!r}")
    one = [lambda label: f"a photo of a {label}."]
    return {1: one, 7: list(SIMPLE_IMAGENET_TEMPLATES), 80: list(OPENAI_IMAGENET_TEMPLATES)}[templates]


def _cache_file(spec: DenseSpec, folder: Path | None) -> Path:
    from zeroseg.dense.weights import weights_file

    if folder is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = Path(base) / "zeroseg" / "text"
    path = weights_file(spec.weights)
    weights = spec.weights
    if path is not None:  # a file of the same name may hold other weights tomorrow
        status = path.stat()
        weights = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    # 2: until then tags whose weights want QuickGELU were run with GELU
    key = f"2 {spec.arch} {weights} {spec.templates}"
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        check_arrays(path)
        with np.load(path, allow_pickle=False) as stored:
            names, vectors = stored["names"].tolist(), stored["vectors"]
        good = vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == len(names)
        return dict(zip(names, vectors)) if good and np.isfinite(vectors).all() else {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none yet, or damaged: made again
        return {}


def _write(path: Path, vectors: dict[str, np.ndarray]) -> None:
    newest = list(vectors)[-CACHED_MAX:]
    with contextlib.suppress(OSError, ZerosegError):  # a read-only home: the next start computes them again
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, names=np.array(newest), vectors=np.stack([vectors[name] for name in newest]))
