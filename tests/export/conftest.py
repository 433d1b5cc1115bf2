"""The bundled model and small ones whose random weights make groups differ, and the description of the small ones."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from zeroseg.artifact import DEFAULT_MODEL
from zeroseg.config import PRESETS
from zeroseg.model.zeroseg import ZeroSeg

SMALL = {"width": 24, "heads": 3, "depth": 1, "head_width": 24, "head_heads": 3, "head_depths": (1, 1, 1),
         "projector_hidden": 32, "prototype_hidden": 16, "embedding_dim": 16}  # fmt: skip
CONFIGS = {
    # timm's own test network: as many kinds of layers as the bundled model's, and far fewer layers to trace
    "hybrid": replace(PRESETS["tiny"], **SMALL, stem="test_efficientnet", positions="none", readout="projector"),
    "vit": replace(PRESETS["base"], **SMALL, image_size=64),
    "one-stage": replace(
        PRESETS["base"], **SMALL | {"head_depths": (1, 1)}, image_size=64, group_tokens=(8,), output_groups=(8,)
    ),
}


class Traced:
    """A traced network from a file; what the file does not hold is asked of trace(), which gives the whole program."""

    def __init__(self, path, trace):
        self._path, self._trace = path, trace

    @property
    def model_proto(self):
        import onnx

        return onnx.load(self._path)

    def __getattr__(self, name):
        return getattr(self._trace(), name)


@pytest.fixture(scope="session", autouse=True)
def traced_once(tmp_path_factory):
    """Tracing takes long, so networks of one configuration and the same weights are traced once for all tests,
    whichever worker runs them; the whole program is kept in the worker that traced it. So no export traces in a process
    of its own.
    """
    pytest.importorskip("onnxscript")
    from zeroseg.export import to_onnx, tracing_process
    from zeroseg.export.wrapper import ExportModel

    folder, trace = tmp_path_factory.getbasetemp(), to_onnx.trace
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    programs = {}  # path of the graph -> the exporter's program

    def program_of(model, path):
        if path not in programs:
            programs[path] = trace(model)
        return programs[path]

    def once(model):
        if not isinstance(model, ZeroSeg):
            return trace(model)
        digest = hashlib.sha256(repr(model.config).encode())
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        path = folder / f"traced-{digest.hexdigest()}.onnx"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(program_of(model, path).model_proto.SerializeToString())
            partial.rename(path)
        ExportModel(model).requires_grad_(False)  # as tracing leaves it
        return Traced(path, lambda: program_of(model, path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "trace", once)
        patch.setattr(tracing_process, "available_threads", lambda: 1)
        yield


@pytest.fixture(scope="session")
def sidecar():
    return {
        "format": 2, "name": "test", "embedding_space": "test/space", "embedding_dim": 16, "segments": 8, "stride": 16,
        "input": {"short_side": 64, "multiple": 32, "max_long_side": 128, "mean": [0.5] * 3, "std": [0.5] * 3},
        "threshold": 0.0, "scoring": {"centre": None, "share": 0.0}, "files": {},
        "card": {"data": "none"},
    }  # fmt: skip


@pytest.fixture(scope="session")
def make_model():
    """Name of a configuration -> a model in evaluation mode, the same every time."""

    def make(name):
        torch.manual_seed(0)
        model = ZeroSeg(CONFIGS[name]).eval()
        for module in (model.head, model.readout, model.encoder):
            for value in module.parameters():
                if value.ndim > 1:
                    torch.nn.init.normal_(value, std=value.shape[-1] ** -0.5)
        if name == "hybrid":  # batch norms that do something, and weights that float16 holds
            with torch.no_grad():
                for key, value in model.state_dict().items():
                    if value.is_floating_point():
                        value += torch.rand_like(value) if "running_" in key or ".bn" in key else 0
                        value.copy_(value.half())
        return model

    return make


@pytest.fixture(scope="session")
def bundled_pt():
    """The bundled model's checkpoint: convolutions and batch norms in front, prototypes behind, weights that float16
    holds."""
    path = Path(__file__).resolve().parents[2] / "models" / DEFAULT_MODEL / "model.pt"
    if not path.is_file():
        pytest.skip("this checkout has no bundled model")
    return path


@pytest.fixture(scope="session")
def dense_name(tmp_path_factory):
    """The name of a tiny class-token tower of open_clip's, as for zeroseg-export: window 64, patch 16, 20 numbers."""
    pytest.importorskip("open_clip")
    pytest.importorskip("timm")
    from tests.dense import tiny_towers

    path = tiny_towers.save("class-token", tmp_path_factory.mktemp("weights"), "zeroseg-tiny-export", layers=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("text-cache")))
        yield f"open_clip:zeroseg-tiny-export/{path}@templates=1"


@pytest.fixture(scope="session")
def dense_photo(tmp_path_factory):
    """A drawn scene's file."""
    from zeroseg.export.parity import draw_scene

    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(draw_scene(np.random.default_rng(3), (90, 140))).save(path)
    return path


@pytest.fixture(scope="session")
def dense_onnx(dense_name, dense_photo, tmp_path_factory):
    """(path of the exported file, what the command said)"""
    pytest.importorskip("onnxscript")
    from zeroseg.export.cli import main

    out = tmp_path_factory.mktemp("export") / "clip.onnx"
    done = CliRunner().invoke(main, [dense_name, "--onnx", "-o", str(out), "--photo", str(dense_photo)])
    assert done.exit_code == 0, done.output
    return out, done.output
