"""A model on disk: the network's file and its sidecar.

The sidecar is a JSON file with the same stem (tiny.onnx, tiny.json); a model.pt contains its own. Only the suffix of a
file's name has a meaning. Sizes, normalisation, embedding space and threshold come from the sidecar.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from zeroseg.errors import UnavailableError, ZerosegError, missing_extra
from zeroseg.files import sha256
from zeroseg.pretrained.download import fetch, is_hub_name, parted
from zeroseg.pretrained.folder import CONFIG, FILE_OF, NETWORK, WEIGHTS, network_file, networks_beside, read_config
from zeroseg.runtime.backends import BACKENDS, SUFFIXES
from zeroseg.sidecar import Sidecar, parse_sidecar

DEFAULT_MODEL = "tiny"
_FIRST = {NETWORK: "onnxruntime", WEIGHTS: "torch"}  # the back ends that "auto" takes
BUNDLED = Path(__file__).resolve().parent / "bundled"


@dataclass(frozen=True)
class Artifact:
    """A model file that exists, is complete, and has a sidecar."""

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
            raise ZerosegError(f"{path}: is a folder, expected a model file ({', '.join(SUFFIXES)})")
        return path
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise ZerosegError(f"{path}: no such model file")
    if bundled.is_file():
        return bundled
    names = sorted(file.stem for file in BUNDLED.glob("*.onnx"))
    if path_or_name is None:
        raise UnavailableError("this installation has no bundled model; give a model file with --model")
    raise ZerosegError(f"model {str(name)!r}: no such file, and the bundled models are: {', '.join(names) or 'none'}")


def read_artifact(path_or_name=None, backend: str = "auto") -> Artifact:
    """Find a model, check that `backend` reads it, and validate its sidecar and the file's checksum.

    path_or_name may also be a model folder, or hf:owner/name[@revision] on the Hub (docs/hub.md).
    Raises ZerosegError in one line for anything wrong.
    """
    if is_hub_name(path_or_name):
        return _from_hub(*parted(path_or_name), backend)
    if path_or_name is not None and Path(path_or_name).is_dir():
        return _of_folder(Path(path_or_name), backend)
    path = find_model(path_or_name)
    if networks_beside(path):
        return _of_folder(path.parent, _FIRST[path.name] if backend == "auto" else backend)
    fitting = next((name for name, known in BACKENDS.items() if path.suffix in known.suffixes), None)
    if fitting is None:
        raise ZerosegError(f"{path}: not a model file, expected {', '.join(SUFFIXES)}")
    if backend not in ("auto", *BACKENDS):
        raise ZerosegError(f"backend {backend!r}: expected auto, {', '.join(BACKENDS)}")
    if backend != "auto" and path.suffix not in BACKENDS[backend].suffixes:
        raise ZerosegError(
            f"backend {backend} reads {', '.join(BACKENDS[backend].suffixes)}, not {path.name}; "
            f"use backend {fitting} or another model file"
        )
    backend = fitting if backend == "auto" else backend
    if path.suffix == ".pt":  # the checkpoint holds its own sidecar, and its format its own checksums
        try:
            from zeroseg.model.checkpoint import read_sidecar
        except ImportError as error:
            raise missing_extra("torch", "train", f"back end {backend}") from error
        return Artifact(path, parse_sidecar(read_sidecar(path), str(path)), backend)
    if path.suffix in (".engine", ".rtx"):  # its manifest holds the sidecar, and what it was built from and for
        from zeroseg.runtime.trt_engine import read_engine

        return Artifact(path, read_engine(path).sidecar, backend)
    sidecar_path = path.with_suffix(".json")
    try:
        document = json.loads(sidecar_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ZerosegError(f"{path}: its sidecar {sidecar_path.name} is missing; keep both files together") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ZerosegError(f"{sidecar_path}: cannot be read as JSON ({error})") from error
    artifact = Artifact(path, parse_sidecar(document, str(sidecar_path)), backend)
    verify_file(artifact)
    return artifact


def _from_hub(name: str, revision: str | None, backend: str) -> Artifact:
    files = list(dict.fromkeys(FILE_OF[suffix] for suffix in _suffixes(backend) if suffix in FILE_OF))
    if not files:
        raise ZerosegError(f"{name}: back end {backend} reads no file that models on the Hub have")
    folder = fetch(name, revision, files)
    try:
        return _of_folder(folder, backend)
    except ZerosegError:  # the cache is damaged, or was written by hand
        return _of_folder(fetch(name, revision, files, again=True), backend)


def _of_folder(folder: Path, backend: str) -> Artifact:
    """The artifact of a model folder (zeroseg.pretrained.folder)."""
    document = read_config(folder)
    path = network_file(folder, _suffixes(backend), backend)
    if backend == "auto":
        backend = _FIRST[path.name]
    artifact = Artifact(path, parse_sidecar(document.get("sidecar"), f"{folder / CONFIG}: sidecar"), backend)
    verify_file(artifact)
    return artifact


def _suffixes(backend: str) -> tuple[str, ...]:
    if backend not in ("auto", *BACKENDS):
        raise ZerosegError(f"backend {backend!r}: expected auto, {', '.join(BACKENDS)}")
    return SUFFIXES if backend == "auto" else BACKENDS[backend].suffixes


def verify_file(artifact: Artifact) -> None:
    """Raise ZerosegError unless the model file has the sha256 its sidecar states."""
    files = artifact.sidecar.files
    alike = [digest for name, digest in files.items() if Path(name).suffix == artifact.path.suffix]
    expected = files.get(artifact.path.name) or (alike[0] if len(alike) == 1 else None)  # it may have been renamed
    if expected is None:
        raise ZerosegError(f"{artifact.path}: the sidecar has no checksum for it, only for {list(files)}")
    if sha256(artifact.path) != expected:
        raise ZerosegError(
            f"{artifact.path}: does not match its sidecar (sha256 differs); the copy is incomplete, or "
            "the two files come from different models"
        )
