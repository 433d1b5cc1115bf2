"""The sidecar: what a runtime must know about a model's input, its scoring and the source of its label vectors.

The sidecar is a JSON object. It is a file beside an exported network (tiny.onnx, tiny.json), and part of an engine's
manifest. A model.pt contains most of it; the rest follows from its weights (zeroseg.model.checkpoint).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a help text reads the bundled sidecar, and NumPy takes half of a command's start
    import numpy as np

from zeroseg.errors import ZerosegError

FORMAT = 2
MAX_SIDE = 4096  # pixels at the network; a description that asks for more would ask for all memory


@dataclass(frozen=True)
class InputSpec:
    """How a photo becomes the network's input; sizes in pixels, mean and std per RGB channel in [0, 1]."""

    short_side: int
    multiple: int
    max_long_side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class DenseInput:
    """Further entries for a network without segments (zeroseg/dense): how to run it, and the source of label vectors.

    window, stride      px, side of the windows and distance between them; multiples of the sidecar's stride.
    reading             attention variant of the tower's last block, for information.
    text, templates     the model whose text tower embeds labels, and the number of prompt templates per label.
    background          M words that mean background; background_vectors (M, D) float32.
    multiple            px, the sides of the network's image are multiples of it; None: of the sidecar's stride.
    denoise             in [0, 1], the probability below which a label's best patch drops the label; 0: none is dropped.
    """

    window: int
    stride: int
    reading: str
    text: str
    templates: int
    background: tuple[str, ...]
    background_vectors: np.ndarray
    multiple: int | None = None
    denoise: float = 0.0


@dataclass(frozen=True)
class Scoring:
    """How embeddings are scored against label vectors (zeroseg.segment.scores).

    centre  (D,) float32, the origin of directions: the score of an embedding e and a label vector t is
            e . unit(t - centre). None: the cosine of e and t.
    share   in [0, 1): a segment's score falls off below this share of the score of the label's best segment; 0: never.
    """

    centre: np.ndarray | None = None
    share: float = 0.0


@dataclass(frozen=True)
class Sidecar:
    """The description of a model. threshold: a segment whose best score is below it is background.

    dense: None for a network with segments; otherwise segments is 1, and stride is the patch size in pixels.
    """

    name: str
    embedding_space: str
    embedding_dim: int
    segments: int
    stride: int
    input: InputSpec
    threshold: float
    scoring: Scoring
    files: dict[str, str]  # file name -> sha256
    card: dict
    dense: DenseInput | None = None

    @property
    def side_multiple(self) -> int:
        """px, what the sides of one image at the network are multiples of: of a window where `dense` is given."""
        if self.dense is None:
            return self.input.multiple
        return self.dense.multiple or self.stride

    def to_dict(self) -> dict:
        """The JSON object that parse_sidecar reads back as an equal Sidecar."""
        document = {"format": FORMAT, **{key: getattr(self, key) for key in _PLAIN}}
        spec = asdict(self.input)
        document["input"] = spec | {"mean": list(spec["mean"]), "std": list(spec["std"])}
        document["scoring"] = scoring_to_dict(self.scoring)
        document |= {"files": dict(self.files), "card": dict(self.card)}
        if self.dense is not None:
            dense = {key: getattr(self.dense, key) for key in _PLAIN_DENSE}
            vectors = _to_text(self.dense.background_vectors)
            document["dense"] = dense | {"background": list(self.dense.background), "background_vectors": vectors}
        return document


_PLAIN = ("name", "embedding_space", "embedding_dim", "segments", "stride", "threshold")
_PLAIN_DENSE = ("window", "stride", "reading", "text", "templates", "multiple", "denoise")


def scoring_to_dict(scoring: Scoring) -> dict:
    """The JSON object of a Scoring; centre is base64 of little-endian float32, or null."""
    return {"centre": None if scoring.centre is None else _to_text(scoring.centre), "share": scoring.share}


def parse_sidecar(document, source: str) -> Sidecar:
    """Validate a sidecar's dict; source names it in messages. Unknown keys are allowed, missing ones are not."""
    if not isinstance(document, dict):
        raise ZerosegError(f"{source}: expected a JSON object, got {type(document).__name__}")
    if document.get("format") == 1:  # its network takes the labels as an input
        raise ZerosegError(
            f"{source}: format 1, this version of zeroseg reads {FORMAT}; export it again: zeroseg-export "
            "model.pt --onnx"
        )
    if document.get("format") != FORMAT:
        raise ZerosegError(f"{source}: format {document.get('format')!r}, this version of zeroseg reads {FORMAT}")
    read = _Reader(document, source)
    spec = _Reader(read("input", dict), f"{source}: input")
    dim, stride = read.positive("embedding_dim"), read.positive("stride")
    return Sidecar(
        name=read("name", str),
        embedding_space=read("embedding_space", str),
        embedding_dim=dim,
        segments=read.positive("segments"),
        stride=stride,
        input=InputSpec(
            spec.positive("short_side", MAX_SIDE),
            spec.positive("multiple", MAX_SIDE),
            spec.positive("max_long_side", MAX_SIDE),
            spec.triple("mean"),
            spec.triple("std", above=0),
        ),
        threshold=read.finite("threshold"),
        scoring=parse_scoring(read("scoring", dict), f"{source}: scoring", dim),
        files=read("files", dict),
        card=read("card", dict),
        dense=_dense_input(read("dense", dict), f"{source}: dense", dim, stride) if "dense" in document else None,
    )


def parse_scoring(document: dict, source: str, dim: int) -> Scoring:
    """The Scoring of a JSON object; dim is the length of its centre. ZerosegError names the key that is wrong."""
    read = _Reader(document, source)
    share = read.finite("share")
    if not 0 <= share < 1:
        raise ZerosegError(f"{source}: share: expected a number in [0, 1), got {share}")
    if document.get("centre") is None:
        return Scoring(None, share)
    return Scoring(_from_text(read("centre", str), (dim,), f"{source}: centre"), share)


def _dense_input(document: dict, source: str, dim: int, patch: int) -> DenseInput:
    read = _Reader(document, source)
    words = document.get("background")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ZerosegError(f"{source}: background: expected a list of words, got {json.dumps(words)}")
    vectors = _from_text(read("background_vectors", str), (len(words), dim), f"{source}: background_vectors")
    window, stride = read.positive("window", MAX_SIDE), read.positive("stride", MAX_SIDE)
    if window % patch or stride % patch or stride > window:
        raise ZerosegError(
            f"{source}: expected window and stride as multiples of {patch}, stride at most window, got {window} and "
            f"{stride}"
        )
    multiple = None if document.get("multiple") is None else read.positive("multiple", MAX_SIDE)
    if multiple is not None and (multiple % patch or window % multiple):
        raise ZerosegError(
            f"{source}: multiple: expected a multiple of {patch} that divides the window of {window}, got {multiple}"
        )
    denoise = 0.0 if document.get("denoise") is None else read.finite("denoise")
    if not 0 <= denoise <= 1:
        raise ZerosegError(f"{source}: denoise: expected a number in [0, 1], got {denoise}")
    return DenseInput(
        window, stride, read("reading", str), read("text", str), read.positive("templates"), tuple(words), vectors,
        multiple, denoise,
    )  # fmt: skip


def _to_text(array: np.ndarray) -> str:
    import numpy as np

    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")


def _from_text(text: str, shape: tuple[int, ...], source: str) -> np.ndarray:
    """float32 array of `shape` from base64; ZerosegError where it is not one or not finite."""
    import numpy as np

    try:
        array = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32).reshape(shape)
    except (ValueError, binascii.Error):
        raise ZerosegError(f"{source}: expected {' x '.join(map(str, shape))} float32 as base64") from None
    if not np.isfinite(array).all():
        raise ZerosegError(f"{source}: expected finite numbers, got NaN or infinity")
    return array


class _Reader:
    """Typed access to a JSON object, naming the key that is wrong."""

    def __init__(self, document: dict, source: str):
        self.document, self.source = document, source

    def __call__(self, key: str, kind):
        value = self.document.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = {dict: "an object", str: "a text", int: "an integer"}.get(kind, "a number")
            raise ZerosegError(f"{self.source}: {key}: expected {wanted}, got {json.dumps(value)}")
        return value

    def positive(self, key: str, most: int | None = None) -> int:
        value = self(key, int)
        if value < 1:
            raise ZerosegError(f"{self.source}: {key}: expected a positive integer, got {value}")
        if most is not None and value > most:
            raise ZerosegError(f"{self.source}: {key}: expected at most {most}, got {value}")
        return value

    def finite(self, key: str) -> float:
        value = self(key, (int, float))
        if not abs(value) < 1e30:  # NaN is not either; JSON's readers take it
            raise ZerosegError(f"{self.source}: {key}: expected a finite number, got {value}")
        return float(value)

    def triple(self, key: str, above: float = -1e30) -> tuple[float, float, float]:
        value = self.document.get(key)
        values = value if isinstance(value, (list, tuple)) else []
        if len(values) != 3 or not all(isinstance(v, (int, float)) for v in values):
            raise ZerosegError(f"{self.source}: {key}: expected three numbers, got {json.dumps(value)}")
        if not all(above < v < 1e30 for v in values):
            wanted = f"finite numbers above {above:g}"
            raise ZerosegError(f"{self.source}: {key}: expected {wanted}, got {json.dumps(value)}")
        return tuple(float(v) for v in values)
