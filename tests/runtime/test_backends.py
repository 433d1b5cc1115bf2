"""Every back end that this machine has gives the same result for the same photo; the others say why not."""

import importlib
import importlib.util
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from tests.color_model import DIM, SPACE, sidecar
from zeroseg.artifact import read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.kernels.preprocess import preprocess
from zeroseg.runtime.backends import BACKENDS
from zeroseg.runtime.base import OUTPUTS, Runner
from zeroseg.runtime.opening import open_runner
from zeroseg.runtime.rtx_library import provider_folder
from zeroseg.runtime.torch_fast_runners import CudaGraphRunner
from zeroseg.runtime.torch_runner import TorchRunner
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

AGREEMENT = 0.995  # of pixels, as the export's own gate
TOLERANCE = 2e-4  # float32, several implementations of some thirty layers


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{".pt": path, ".onnx": path} of one small model with random weights."""
    from zeroseg.config import ModelConfig
    from zeroseg.export.onnx_file import write_onnx
    from zeroseg.export.to_onnx import to_onnx
    from zeroseg.model import ZeroSeg, save_checkpoint

    torch.manual_seed(0)
    config = ModelConfig(
        width=32,
        depth=1,
        heads=2,
        head_width=32,
        head_heads=2,
        head_depths=(1, 1, 1),
        group_tokens=(6, 4),
        output_groups=(6, 4),
        embedding_dim=DIM,
        embedding_space=SPACE,
        projector_hidden=32,
        reconstruction=False,
        image_size=64,
    )
    model = ZeroSeg(config).eval()
    for module in (model.head, model.readout, model.encoder):
        for value in module.parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=2 * value.shape[-1] ** -0.5)  # large enough for groups to differ
    folder = tmp_path_factory.mktemp("model")
    document = sidecar(name="random", threshold=-1.0)
    save_checkpoint(folder / "model.pt", model, sidecar=document)
    write_onnx(to_onnx(model, document), folder / "model.onnx", document)
    return {suffix: folder / f"model{suffix}" for suffix in (".pt", ".onnx")}


def why_not(backend):
    """The reason why this machine has no such back end, by what is installed; None if it has it."""
    import onnxruntime

    if backend == "openvino":
        return None if importlib.util.find_spec("openvino") else "openvino is not installed"
    if backend in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        wanted = {"onnxruntime-cuda": "CUDAExecutionProvider", "onnxruntime-tensorrt": "TensorrtExecutionProvider"}
        return None if wanted[backend] in onnxruntime.get_available_providers() else "onnxruntime without GPU"
    if backend == "onnxruntime-rtx":
        return None if torch.cuda.is_available() and provider_folder() else "no GPU, or the extra rtx is not installed"
    if "cuda" in backend:
        return None if torch.cuda.is_available() else "torch.cuda.is_available() is False"
    return None


def label_pack(count):
    vectors = torch.nn.functional.normalize(torch.randn(count, DIM), dim=1).numpy()
    return LabelPack(names=[f"label {i}" for i in range(count)], vectors=vectors, space=SPACE)


def scene(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * (x > y), 4 * y % 256, (x * x + 3 * y) % 256], 2).astype(np.uint8)


SLOW = {"torch-compile"}  # its C++ takes a compiler half a minute


NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name, known in BACKENDS.items()
    if name != "torch" and set(known.suffixes) <= {".onnx", ".pt"}
]


@pytest.mark.parametrize("backend", NAMES)
def test_gives_the_masks_of_pytorch(files, backend):
    if reason := why_not(backend):
        pytest.skip(reason)
    truth = Segmenter.load(files[".pt"], threads=1)
    other = Segmenter.load(files[BACKENDS[backend].suffixes[0]], backend, threads=1)
    assert other.runner.backend == backend
    for count, photo in ((2, scene(90, 120)), (7, scene(90, 120)), (7, scene(120, 80))):
        pack = label_pack(count)
        one, two = (segmenter.set_labels(pack).segment(photo) for segmenter in (truth, other))
        assert (one.label_map == two.label_map).mean() >= AGREEMENT
        np.testing.assert_allclose(two.segment_scores, one.segment_scores, atol=TOLERANCE)
    image = preprocess(photo, (96, 64), (0.5,) * 3, (0.5,) * 3)[None]
    maps = truth.runner.run(image)["segment_maps"]
    assert len(np.unique(maps.argmax(1))) > 1  # else any map would do


@pytest.mark.parametrize("backend", NAMES)
def test_runner_keeps_earlier_results(files, backend):
    if reason := why_not(backend):
        pytest.skip(reason)
    runner = open_runner(read_artifact(files[BACKENDS[backend].suffixes[0]], backend), threads=1)
    one, two = np.random.rand(2, 1, 3, 64, 64).astype(np.float32)
    first = runner.run(one)
    copies = {name: first[name].copy() for name in OUTPUTS}
    runner.run(two)
    for name in OUTPUTS:
        assert np.array_equal(first[name], copies[name]), name


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (
            "onnxruntime-cuda",
            "was built without CUDAExecutionProvider .*pip install onnxruntime-gpu.*or use back end onnx",
        ),
        ("onnxruntime-tensorrt", "was built without TensorrtExecutionProvider"),
        ("torch-cuda", r"finds no CUDA GPU \(torch.cuda.is_available\(\) is False\); use back end torch"),
        ("torch-cuda-graphs", "finds no CUDA GPU"),
    ],
)
def test_what_cannot_run_says_why_and_what_would(files, backend, message):
    if why_not(backend) is None:
        pytest.skip("it can run here")
    with pytest.raises(UnavailableError, match=f"back end {backend} cannot run here: .*{message}") as error:
        Segmenter.load(files[BACKENDS[backend].suffixes[0]], backend, threads=1)
    assert "\n" not in str(error.value)


def test_provider_that_silently_falls_back_is_refused(files, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    session = type("Session", (), {"get_providers": lambda self: ["CPUExecutionProvider"]})
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **kwargs: session())
    with pytest.raises(UnavailableError, match="CUDAExecutionProvider did not start, onnxruntime fell back to CPU"):
        Segmenter.load(files[".onnx"], "onnxruntime-cuda")


def test_openvino_that_is_not_installed(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UnavailableError, match=r"back end openvino needs openvino.*pip install 'zeroseg\[openvino\]'"):
        Segmenter.load(files[".onnx"], "openvino")


def test_openvino_refuses_what_is_no_network(files, tmp_path):
    pytest.importorskip("openvino")
    import hashlib
    import json

    path = tmp_path / "model.onnx"
    path.write_bytes(b"not an onnx file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(sidecar(files={path.name: digest})))
    with pytest.raises(ZerosegError, match="model.onnx: openvino .* cannot load it") as error:
        Segmenter.load(path, "openvino")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_back_end_has_a_runner(backend):
    module, name = BACKENDS[backend].runner.split(":")
    assert issubclass(getattr(importlib.import_module(f"zeroseg.runtime.{module}"), name), Runner)


def test_a_cuda_graph_captures_the_network(files):
    """Without a GPU, torch.cuda is a stand-in that records nothing; what a real graph replays is not tested."""
    runner, image = TorchRunner(read_artifact(files[".pt"], "torch"), 1), torch.randn(1, 3, 64, 96)
    stream = SimpleNamespace(wait_stream=lambda other: None)
    runner._torch = SimpleNamespace(
        cuda=SimpleNamespace(
            Stream=lambda: stream,
            current_stream=lambda: stream,
            stream=lambda one: nullcontext(),
            CUDAGraph=object,
            graph=lambda one: nullcontext(),
        )
    )
    with torch.no_grad():
        _, held, output = CudaGraphRunner._capture(runner, image)
        expected = runner.model(image)
    assert torch.equal(held, image) and held is not image
    torch.testing.assert_close(output.segment_embeddings, expected.segment_embeddings)
