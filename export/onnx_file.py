"""ONNX files with their sidecars: check, write and rename them. No torch is needed."""

import hashlib
import json
from pathlib import Path

import onnx
from onnx import ModelProto

from zeroseg.errors import ZerosegError
from zeroseg.sidecar import parse_sidecar


def check(model: ModelProto | bytes) -> None:
    """onnx's checker and strict shape inference over the whole graph, or over a file's content."""
    model = model if isinstance(model, bytes) else model.SerializeToString()
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def write_onnx(model: ModelProto | bytes, path: Path, sidecar: dict) -> None:
    """Write path (.onnx), of a graph or a file's content, and, beside it, the sidecar .json with its checksum."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    document = {**sidecar, "files": {path.name: hashlib.sha256(content).hexdigest()}}
    parse_sidecar(document, str(path.with_suffix(".json")))
    try:
        path.write_bytes(content)
        path.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZerosegError(f"{path}: cannot be written ({error.strerror or error})") from error


def rename_pair(source: Path, target: Path) -> None:
    """Move an ONNX file and its sidecar to another name, which the checksum's entry follows."""
    document = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
    document["files"] = {target.name: document["files"][source.name]}
    source.replace(target)
    target.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
