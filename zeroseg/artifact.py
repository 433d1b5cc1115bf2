"""A model on disk: the network's file and the sidecar that says how to feed it.

The sidecar is a JSON file with the network's stem (tiny.onnx, tiny.json); a model.pt carries the same inside. The
file name means nothing beyond its suffix: sizes, normalisation, embedding space and threshold are read from there.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from zeroseg.errors import UnavailableError, ZerosegError

FORMAT = 1
MAX_SIDE = 4096  # pixels at the network; a description that asks for more would ask for all memory
DEFAULT_MODEL = "tiny"
BUNDLED = Path(__file__).resolve().parent / "bundled"
BACKENDS = {  # backend -> the files it reads; "auto" takes the first that reads the file
    "onnxruntime": (".onnx",), "onnxruntime-cuda": (".onnx",), "onnxruntime-tensorrt": (".onnx",),
    "openvino": (".onnx",), "torch": (".pt",), "torch-compile": (".pt",), "torch-cuda": (".pt",),
    "torch-cuda-graphs": (".pt",), "tensorrt": (".engine",),
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
class Sidecar:
    """What a model says about itself. threshold: a segment whose best score is below it is background."""

    name: str
    embedding_space: str
    embedding_dim: int
    segments: int
    stride: int
    input: InputSpec
    threshold: float
    files: dict[str, str]  # file name -> sha256
    card: dict


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
        raise ZerosegError(f"backend {backend} reads {', '.join(BACKENDS[backend])}, not {path.name}; "
                           f"use backend {fitting} or another model file")
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
    return Sidecar(
        name=read("name", str),
        embedding_space=read("embedding_space", str),
        embedding_dim=read.positive("embedding_dim"),
        segments=read.positive("segments"),
        stride=read.positive("stride"),
        input=InputSpec(spec.positive("short_side", MAX_SIDE), spec.positive("multiple", MAX_SIDE),
                        spec.positive("max_long_side", MAX_SIDE), spec.triple("mean"), spec.triple("std", above=0)),
        threshold=read.finite("threshold"),
        files=read("files", dict),
        card=read("card", dict),
    )


def verify_file(artifact: Artifact) -> None:
    """Raise ZerosegError unless the model file has the sha256 its sidecar states."""
    files = artifact.sidecar.files
    alike = [digest for name, digest in files.items() if Path(name).suffix == artifact.path.suffix]
    expected = files.get(artifact.path.name) or (alike[0] if len(alike) == 1 else None)  # it may have been renamed
    if expected is None:
        raise ZerosegError(f"{artifact.path}: its description has no checksum for it, only for {list(files)}")
    if hashlib.sha256(artifact.path.read_bytes()).hexdigest() != expected:
        raise ZerosegError(f"{artifact.path}: not the file its description was written for (sha256 differs); "
                           "a cut-off copy, or the two files come from different models")


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
