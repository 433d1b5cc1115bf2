"""The source of an export: a model.pt or a dense open_clip tower, the module to trace and its reference."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from zeroseg.artifact import read_artifact
from zeroseg.dense.spec import is_dense_name, parse_spec
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.runtime.base import Runner
from zeroseg.runtime.opening import open_runner
from zeroseg.sidecar import Sidecar


@dataclass(frozen=True)
class Source:
    """network() gives a module for to_onnx; reference is the model in PyTorch."""

    reference: Runner
    sidecar: Sidecar
    network: Callable[[], nn.Module]


def open_source(model: Path | str) -> Source:
    """Open a model.pt or an open_clip model's name (zeroseg/dense/spec.py). ZerosegError in one line."""
    return _open_dense(model) if is_dense_name(model) else _open_checkpoint(Path(model))


def _open_checkpoint(path: Path) -> Source:
    if path.suffix != ".pt":
        raise ZerosegError(
            f"{path}: expected a model.pt or an open_clip model's name; an exported file cannot be exported again"
        )
    artifact = read_artifact(path, "torch")
    runner = open_runner(artifact)
    return Source(runner, artifact.sidecar, lambda: copy.deepcopy(runner.model))


def _open_dense(name: str) -> Source:
    try:
        import open_clip  # noqa: F401 asked for first, so that the message names what is missing
        import timm  # noqa: F401

        from zeroseg.dense.model import DenseRunner, load_dense
        from zeroseg.export.wrapper import DenseExportModel
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "train", "exporting an open_clip model") from error
    tower, sidecar = load_dense(name, how="zeroseg-export")
    sidecar = replace(sidecar, dense=replace(sidecar.dense, text=text_name(name)))
    return Source(DenseRunner(tower), sidecar, lambda: DenseExportModel(tower))


def text_name(name: str) -> str:
    """The model whose text tower embeds labels; a checkpoint by its file's name, as files must not name folders of the
    machine that made them.
    """
    from zeroseg.dense.weights import weights_file

    spec = parse_spec(name)
    path = weights_file(spec.weights)
    return replace(spec, weights=path.name if path else spec.weights).towers()
