"""A model on disk: the network's file and the sidecar that says how to feed it.

The sidecar is a JSON file with the network's stem (tiny.onnx, tiny.json); a model.pt carries the same inside. The
file name means nothing beyond its suffix: sizes, normalisation, embedding space and threshold are read from there.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zeroseg.errors import UnavailableError, ZerosegError

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
MAX_SIDE = 4096  # pixels at the network; a description that asks for more would ask for all memory
DEFAULT_MODEL = "tiny"
BUNDLED = Path(__file__).resolve().parent / "bundled"
BACKENDS = {  # backend -> the files it reads; "auto" takes the first that reads the file
    "onnxruntime": (".onnx",),
    "onnxruntime-cuda": (".onnx",),
    "onnxruntime-tensorrt": (".onnx",),
    "openvino": (".onnx",),
    "torch": (".pt",),
    "torch-compile": (".pt",),
    "torch-cuda": (".pt",),
    "torch-cuda-graphs": (".pt",),
    "tensorrt": (".engine",),
}


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
    """What a network without segments (zeroseg/dense) says besides: how it is run, and where words come from.

    window, stride      px, side of the windows and from one to the next; multiples of the sidecar's stride.
    reading             of the tower's last block, for people.
    text, templates     the model whose text tower embeds labels, and how many sentences each is put into.
    background          M words that mean background; background_vectors (M, D) float32.
    """

    window: int
    stride: int
    reading: str
    text: str
    templates: int
    background: tuple[str, ...]
    background_vectors: "np.ndarray"


@dataclass(frozen=True)
class Sidecar:
    """What a model says about itself. threshold: a segment whose best score is below it is background.

    dense: None for a network with segments; else segments is 1, and stride is the pixels per place.
    """

    name: str
    embedding_space: str
    embedding_dim: int
    segments: int
    stride: int
    input: InputSpec
    threshold: float
    files: dict[str, str]  # file name -> sha256
    card: dict
    dense: DenseInput | None = None


@dataclass(frozen=True)
class Artifact:
    """A model file that is there, whole, and described."""

    path: Path
    sidecar: Sidecar
    backend: str  # the one that is to run it


def find_model(path_or_name=None) -> Path:
    """The model's file: a path as given, or the name of a bundled model; None is the bundled default."""
    name = DEFAULT_MODEL if path_or_name is None else path_or_name
    path = Path(name)
    bundled = BUNDLED / f"{name}.onnx"
    if path.exists():
        if path.is_dir():
            raise ZerosegError(f"{path}: is a folder, expected a model file ({_suffixes()})")
        return path
    if any(path.suffix in kinds for kinds in BACKENDS.values()) or len(path.parts) > 1:
        raise ZerosegError(f"{path}: no such model file")
    if bundled.is_file():
        return bundled
    names = sorted(file.stem for file in BUNDLED.glob("*.onnx"))
    if path_or_name is None:
        raise UnavailableError("this installation has no bundled model; give a model file with --model")
    raise ZerosegError(f"model {str(name)!r}: no such file, and the bundled models are: {', '.join(names) or 'none'}")


def read_artifact(path_or_name=None, backend: str = "auto") -> Artifact:
    """Find a model, check that `backend` reads it, validate its sidecar and that its file is the one described.

    Raises ZerosegError in one line for anything wrong.
    """
    path = find_model(path_or_name)
    fitting = next((name for name, kinds in BACKENDS.items() if path.suffix in kinds), None)
    if fitting is None:
        raise ZerosegError(f"{path}: not a model file, expected {_suffixes()}")
    if backend not in ("auto", *BACKENDS):
        raise ZerosegError(f"backend {backend!r}: expected auto, {', '.join(BACKENDS)}")
    if backend != "auto" and path.suffix not in BACKENDS[backend]:
        raise ZerosegError(
            f"backend {backend} reads {', '.join(BACKENDS[backend])}, not {path.name}; "
            f"use backend {fitting} or another model file"
        )
    backend = fitting if backend == "auto" else backend
    if path.suffix == ".pt":  # the checkpoint holds its own sidecar, and its format its own checksums
        from zeroseg.runtime.torch_runner import read_sidecar

        return Artifact(path, parse_sidecar(read_sidecar(path), str(path)), backend)
    if path.suffix == ".engine":  # its manifest holds the sidecar, and what it was built from and for
        from zeroseg.runtime.trt_engine import read_engine

        return Artifact(path, read_engine(path).sidecar, backend)
    sidecar_path = path.with_suffix(".json")
    try:
        document = json.loads(sidecar_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ZerosegError(f"{path}: {sidecar_path.name}, its description, is missing; keep both together") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ZerosegError(f"{sidecar_path}: cannot be read as JSON ({error})") from error
    artifact = Artifact(path, parse_sidecar(document, str(sidecar_path)), backend)
    verify_file(artifact)
    return artifact


def parse_sidecar(document, source: str) -> Sidecar:
    """Validate a sidecar's dict; source names it in messages. Unknown keys are allowed, missing ones are not."""
    if not isinstance(document, dict):
        raise ZerosegError(f"{source}: expected a JSON object, got {type(document).__name__}")
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
        files=read("files", dict),
        card=read("card", dict),
        dense=_dense_input(read("dense", dict), f"{source}: dense", dim, stride) if "dense" in document else None,
    )


def _dense_input(document: dict, source: str, dim: int, patch: int) -> DenseInput:
    import numpy as np

    read = _Reader(document, source)
    words = document.get("background")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ZerosegError(f"{source}: background: expected a list of words, got {json.dumps(words)}")
    try:
        vectors = np.frombuffer(base64.b64decode(read("background_vectors", str), validate=True), "<f4")
        vectors = vectors.astype(np.float32).reshape(len(words), dim)
    except (ValueError, binascii.Error):
        raise ZerosegError(f"{source}: background_vectors: expected {len(words)} x {dim} float32 as base64") from None
    window, stride = read.positive("window", MAX_SIDE), read.positive("stride", MAX_SIDE)
    if not np.isfinite(vectors).all() or window % patch or stride % patch or stride > window:
        raise ZerosegError(
            f"{source}: expected finite vectors and window and stride as multiples of {patch}, stride "
            f"at most window, got {window} and {stride}"
        )
    return DenseInput(
        window, stride, read("reading", str), read("text", str), read.positive("templates"), tuple(words), vectors
    )


def verify_file(artifact: Artifact) -> None:
    """Raise ZerosegError unless the model file has the sha256 its sidecar states."""
    files = artifact.sidecar.files
    alike = [digest for name, digest in files.items() if Path(name).suffix == artifact.path.suffix]
    expected = files.get(artifact.path.name) or (alike[0] if len(alike) == 1 else None)  # it may have been renamed
    if expected is None:
        raise ZerosegError(f"{artifact.path}: its description has no checksum for it, only for {list(files)}")
    if hashlib.sha256(artifact.path.read_bytes()).hexdigest() != expected:
        raise ZerosegError(
            f"{artifact.path}: not the file its description was written for (sha256 differs); "
            "a cut-off copy, or the two files come from different models"
        )


def _suffixes() -> str:
    return ", ".join(dict.fromkeys(suffix for kinds in BACKENDS.values() for suffix in kinds))


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
