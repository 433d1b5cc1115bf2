"""The result of encoding an image once, before any label is known. Any labels can be compared with it afterwards.

segments = segmenter.encode("photo.jpg")
segments.masks(["cat", "sofa"]).overlay().save("overlay.png")
segments.save("photo.npz")
"""

import json
import math
import time
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import ClassVar

import numpy as np

from zeroseg.dense.background import with_background
from zeroseg.errors import ZerosegError, check_array
from zeroseg.files import whole_file
from zeroseg.kernels.mask_decode import dense_decode, mask_decode
from zeroseg.photos.decode import load_image
from zeroseg.segment.labels import label_pack
from zeroseg.segment.scores import embedding_scores, label_table, segment_scores, without_weak
from zeroseg.segment.segmentation import DenseSegmentation, Segmentation
from zeroseg.sidecar import Sidecar, parse_sidecar
from zeroseg.words import LabelPack

_BYTES_MAX = 1 << 28  # of a file, unpacked
_PIXELS_MAX = 1 << 28  # of the image; with a damaged size, the label map would take all memory
_NO_SEGMENTS = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Encoded(ABC):
    """The embeddings of one image. Segments and Places are the two kinds.

    image_embedding  (D,) float32, of the whole image.
    size             (H, W) of the image, in px.
    sidecar          of the model that made it: its name, checksum, embedding space, scoring and threshold.
    image            (H, W, 3) uint8 RGB; None if this was loaded from a file without the image.
    timings_ms       milliseconds of load, preprocess and network.
    """

    image_embedding: np.ndarray
    size: tuple[int, int]
    sidecar: Sidecar
    image: np.ndarray | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    ARRAYS: ClassVar[tuple[str, ...]]  # the fields with the embeddings, all float32

    @abstractmethod
    def scores(self, labels, text: str = "auto") -> np.ndarray:
        """(K, N) float32: the scores of segments or patches for N labels; labels as for masks()."""

    @abstractmethod
    def _masks(self, pack: LabelPack, threshold: float, edges: bool) -> Segmentation: ...

    def masks(self, labels, threshold: float | None = None, text: str = "auto", *, edges: bool = True) -> Segmentation:
        """The masks of labels: a list of words, a LabelPack or the path of a labels.npz. No network runs.

        threshold: segments whose best label scores below it become background; None: the model's own.
        edges: whether masks follow the image's edges. Otherwise, without the image, and for dense models, the maps are
        upsampled bilinearly.
        Raises ZerosegError for a threshold that is not a finite number, or labels of another embedding space.
        """
        threshold = self.sidecar.threshold if threshold is None else threshold
        if not isinstance(threshold, Real) or not math.isfinite(threshold):
            raise ZerosegError(f"threshold: expected a finite number, got {threshold!r}")
        pack = label_pack(labels, self.sidecar, text)
        start = time.perf_counter()
        result = self._masks(pack, float(threshold), edges)
        result.timings_ms = {**self.timings_ms, "decode": 1000 * (time.perf_counter() - start)}
        return result

    def _result_fields(self, pack: LabelPack, threshold: float) -> dict:
        return {
            "image": self.image,
            "labels": list(pack.names),
            "threshold": threshold,
            "model": self.sidecar.name,
            "marks": pack.marks,
            "nearest": pack.nearest,
        }

    def save(self, path: str | Path) -> Path:
        """Write the embeddings, without the image, as .npz (float16, which is exact here); returns the path.

        Raises ZerosegError if it cannot be written.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        described = replace(self.sidecar, card={}).to_dict()
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(
                file,
                kind=np.array(type(self).__name__),
                size=np.array(self.size, np.int32),
                sidecar=np.array(json.dumps(described)),
                **{name: getattr(self, name).astype(np.float16) for name in self.ARRAYS},
            )
        return path


@dataclass(frozen=True)
class Segments(Encoded):
    """K soft segment maps and K embeddings.

    maps        (K, h, w) float32 in [0, 1], soft assignment of patches to segments, sums to 1 over K.
    embeddings  (K, D) float32.
    """

    maps: np.ndarray = None
    embeddings: np.ndarray = None

    ARRAYS: ClassVar[tuple[str, ...]] = ("maps", "embeddings", "image_embedding")

    def scores(self, labels, text: str = "auto") -> np.ndarray:
        """(K, N) float32: every segment's score for every label, comparable with the threshold."""
        return segment_scores(self.embeddings, label_pack(labels, self.sidecar, text).vectors, self.sidecar.scoring)

    def _masks(self, pack: LabelPack, threshold: float, edges: bool) -> Segmentation:
        scores_KN = self.scores(pack)
        table_K = label_table(scores_KN, threshold)
        label_map, confidence = mask_decode(self.maps, table_K, self.size, guide=self.image if edges else None)
        return Segmentation(
            label_map=label_map,
            confidence=confidence,
            segment_labels=table_K,
            segment_scores=scores_KN,
            **self._result_fields(pack, threshold),
        )


@dataclass(frozen=True)
class Places(Encoded):
    """An embedding for every patch, from a network without segments.

    embeddings  (D, h, w) float32, means of unit vectors over the windows that cover a patch.
    """

    embeddings: np.ndarray = None

    ARRAYS: ClassVar[tuple[str, ...]] = ("embeddings", "image_embedding")

    def scores(self, labels, text: str = "auto") -> np.ndarray:
        """(h x w, N) float32 cosines, patches row by row."""
        return self.maps_of(label_pack(labels, self.sidecar, text).vectors).reshape(-1, self.embeddings[0].size).T

    def maps_of(self, vectors_ND: np.ndarray) -> np.ndarray:
        """(N, h, w) float32: the cosine of every patch and label vector, -2 for labels that denoising drops."""
        maps = (vectors_ND @ self.embeddings.reshape(len(self.embeddings), -1)).reshape(-1, *self.embeddings.shape[1:])
        return without_weak(maps, self.sidecar.dense.denoise)

    def _masks(self, pack: LabelPack, threshold: float, edges: bool) -> DenseSegmentation:
        maps_Nhw = self.maps_of(with_background(self.sidecar.dense, pack))
        label_map, confidence = dense_decode(maps_Nhw, self.size, threshold=threshold)
        label_map[label_map >= len(pack)] = -1  # a background word
        asked = maps_Nhw[: len(pack)]
        return DenseSegmentation(
            label_map=label_map,
            confidence=confidence,
            segment_labels=np.arange(len(pack), dtype=np.int16),
            segment_scores=asked.max((1, 2))[None],
            place_scores=asked,
            **self._result_fields(pack, threshold),
        )


def image_scores(encoded: Encoded, pack: LabelPack) -> np.ndarray:
    """(N,) float32: the score of the whole image for every label."""
    return embedding_scores(encoded.image_embedding[None], pack.vectors, encoded.sidecar.scoring)[0]


def load_segments(path: str | Path, image=None) -> Encoded:
    """Read a file written by Encoded.save. image: the picture, for overlays; its size must equal the stored size.

    Raises ZerosegError, naming the file, if it is missing, damaged or another kind of file.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _BYTES_MAX:
                raise ValueError("its unpacked size is too large")
        with np.load(path, allow_pickle=False) as stored:
            kind = {"Segments": Segments, "Places": Places}[str(stored["kind"])]
            size = _stored_size(stored["size"])
            sidecar = parse_sidecar(json.loads(str(stored["sidecar"])), str(path))
            arrays = {name: stored[name].astype(np.float32) for name in kind.ARRAYS}
        _check_stored(kind, arrays, sidecar)
    except FileNotFoundError:
        raise ZerosegError(f"{path}: no such file") from None
    except _NO_SEGMENTS as error:
        raise ZerosegError(f"{path}: expected segments saved by zeroseg, but {' '.join(str(error).split())}") from error
    photo = None if image is None else load_image(image)
    if photo is not None and photo.shape[:2] != size:
        height, width = photo.shape[:2]
        raise ZerosegError(f"{path}: was made from an image of {size[1]} x {size[0]} pixels, got {width} x {height}")
    return kind(size=size, sidecar=sidecar, image=photo, **arrays)


def _stored_size(stored: np.ndarray) -> tuple[int, int]:
    sides = tuple(int(side) for side in stored.ravel())
    if len(sides) != 2 or min(sides) < 1 or sides[0] * sides[1] > _PIXELS_MAX:
        raise ValueError(f"size: expected two positive sides of at most {_PIXELS_MAX} pixels in all, got {sides}")
    return sides


def _check_stored(kind: type[Encoded], arrays: dict[str, np.ndarray], sidecar: Sidecar) -> None:
    """Raise ValueError unless the arrays match one another and the sidecar."""
    if (kind is Places) != (sidecar.dense is not None):
        raise ValueError(f"kind: {kind.__name__} of model {sidecar.name}, which gives the other kind")
    D, K = sidecar.embedding_dim, len(arrays["maps"]) if kind is Segments else None
    shapes = {"maps": (K, "h", "w"), "embeddings": (D, "h", "w") if kind is Places else (K, D), "image_embedding": (D,)}
    for name, array in arrays.items():
        check_array(name, array, shapes[name])
        if not array.size:
            raise ValueError(f"{name}: expected at least one segment and patch, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")


def as_stored(array: np.ndarray) -> np.ndarray:
    """float32 values rounded so that float16 represents them exactly: a saved file gives the same scores and masks."""
    return array.astype(np.float16).astype(np.float32)
