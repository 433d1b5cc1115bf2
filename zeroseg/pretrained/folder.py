"""The files of a model folder, and reading its config.json.

    config.json         {"library_name": "zeroseg", "format": 1, "architecture", "sidecar"}
    model.onnx          the network for ONNX Runtime
    model.safetensors   the weights for PyTorch, of the same model
    README.md           the model card

The folder has at least one of the two networks. "sidecar" is zeroseg.sidecar's dict, with the sha256 of each network;
"architecture" is zeroseg.config.ModelConfig as a dict, null without weights. Nothing in the folder is ever unpickled.
"""

import json
from pathlib import Path

from zeroseg.errors import ZerosegError

CONFIG, NETWORK, WEIGHTS, CARD = "config.json", "model.onnx", "model.safetensors", "README.md"
FILE_OF = {".onnx": NETWORK, ".pt": WEIGHTS}  # suffix that a back end reads -> file in a model folder
LIBRARY, FORMAT = "zeroseg", 1


def read_config(folder: Path) -> dict:
    """The folder's config.json. Raises ZerosegError if it is missing, damaged or from another version."""
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ZerosegError(f"{folder}: is a folder, expected a model file, or a model folder with {CONFIG}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ZerosegError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(document, dict) or document.get("library_name") != LIBRARY:
        raise ZerosegError(f"{path}: does not describe a zeroseg model (library_name)")
    if document.get("format") != FORMAT:
        raise ZerosegError(f"{path}: format {document.get('format')!r}, this version of zeroseg reads {FORMAT}")
    return document


def networks_beside(path: Path) -> list[Path]:
    """All networks of the model folder, if this file is one of them; empty for any other file."""
    if path.name not in FILE_OF.values() or path.with_suffix(".json").is_file() or not (path.parent / CONFIG).is_file():
        return []
    return [path.parent / name for name in FILE_OF.values() if (path.parent / name).is_file()]


def network_file(folder: Path, suffixes: tuple[str, ...], backend: str) -> Path:
    """The folder's network for a back end that reads these suffixes. Raises ZerosegError if there is none."""
    names = [FILE_OF[suffix] for suffix in suffixes if suffix in FILE_OF]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ZerosegError(
            f"{folder}: has no {' or '.join(names) or ', '.join(suffixes)}, which back end {backend} reads"
        )
    return found
