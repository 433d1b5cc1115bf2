"""A datacenter bundle's model repository in the real Triton Inference Server.

The wheel of the server has no ONNX Runtime and no TensorRT back end, so zeroseg_network runs in the Python back end
here: a stand-in that runs a batch as those do, with the config.pbtxt of the bundle, less its platform. All else is the
bundle's.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pytriton", reason="the extra triton (nvidia-pytriton) is not installed")
http = pytest.importorskip("tritonclient.http", reason="the extra triton (tritonclient) is not installed")
onnx = pytest.importorskip("onnx")

import zeroseg  # noqa: E402
from zeroseg.artifact import read_artifact  # noqa: E402
from zeroseg.export.trt.builder import BuildOptions  # noqa: E402
from zeroseg.export.trt.code_copy import copy_code  # noqa: E402
from zeroseg.export.trt.serving import RUNS, write_serving  # noqa: E402
from zeroseg.segment.segmenter import Segmenter  # noqa: E402
from zeroseg.serving.repository import NETWORK  # noqa: E402
from zeroseg.serving.server_files import find_server  # noqa: E402
from zeroseg.sidecar import parse_sidecar  # noqa: E402

BUNDLED = Path(zeroseg.__file__).parent / "bundled" / "tiny.onnx"
PHOTOS = sorted((Path(__file__).resolve().parents[2] / "export" / "photos").glob("*.jpg"))
SETS = [["cat", "rug"], ["person", "space suit", "flag", "rocket"], ["sky", "tower"]]
ALL = -1.0
START_S = 60
STAND_IN = """
import numpy as np, onnxruntime, triton_python_backend_utils as server
class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(f"{args['model_repository']}/1/model.onnx", options)
        self.names = [output.name for output in self.session.get_outputs()]
    def execute(self, requests):
        images = [server.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        output = self.session.run(self.names, {"image": np.concatenate(images)})
        ends = np.cumsum([len(image) for image in images])[:-1]
        return [server.InferenceResponse([server.Tensor(*pair) for pair in zip(self.names, part)])
                for part in zip(*(np.split(value, ends) for value in output))]
"""


def write_bundle(bundle):
    """The parts of a datacenter bundle for serving; tests/export/trt has the rest."""
    bundle.mkdir()
    shutil.copyfile(BUNDLED, bundle / "net.onnx")
    copy_code(bundle / "python" / "zeroseg")
    write_serving(bundle, bundle / "net.onnx", read_artifact(BUNDLED).sidecar, BuildOptions(max_batch=5))
    return bundle


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """HTTP port of tritonserver, started by the bundle's serve.sh on the repository triton/onnx."""
    folder = tmp_path_factory.mktemp("datacenter")
    bundle = write_bundle(folder / "bundle")
    model = bundle / "triton/onnx" / NETWORK
    config = (model / "config.pbtxt").read_text()
    assert config.count('platform: "onnxruntime_onnx"') == 1
    (model / "config.pbtxt").write_text(config.replace('platform: "onnxruntime_onnx"', 'backend: "python"'))
    (model / "1/model.py").write_text(STAND_IN)
    files = find_server(folder / "backends")
    ports = [free_port() for _ in range(2)]
    packages = ":".join(path for path in files.environment["PYTHONPATH"].split(":") if "site-packages" in path)
    log = open(folder / "log.txt", "wb")
    process = subprocess.Popen(
        [
            "sh",
            bundle / "serve.sh",
            "onnx",
            "--backend-directory",
            files.backends,
            "--http-port",
            str(ports[0]),
            "--grpc-port",
            str(ports[1]),
            "--allow-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            f"--backend-config=python,shm-region-prefix-name=bundle_{os.getpid()}_",
        ],
        stdout=log,
        stderr=log,
        env={
            **os.environ,
            **files.environment,
            "PYTHONPATH": packages,
            "PATH": f"{files.environment['PATH']}:{files.program.parent}",
        },
    )
    try:
        with http.InferenceServerClient(f"127.0.0.1:{ports[0]}") as client:
            wait_for(client, process, folder / "log.txt")
        yield ports[0]
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(client, process, log):
    end_s = time.monotonic() + START_S
    while True:
        try:
            if client.is_server_ready():
                return
        except OSError:
            pass
        assert process.poll() is None and time.monotonic() < end_s, log.read_text()[-3000:]
        time.sleep(0.1)


def ask(port, photo, labels, outputs=("label_map", "scores")):
    arrays = {
        "photo": np.frombuffer(photo.read_bytes(), np.uint8),
        "label_embeddings": labels,
        "threshold": np.float32([ALL]),
    }
    tensors = [
        http.InferInput(name, array.shape, {"uint8": "UINT8", "float32": "FP32"}[str(array.dtype)])
        for name, array in arrays.items()
    ]
    for tensor, array in zip(tensors, arrays.values()):
        tensor.set_data_from_numpy(array)
    with http.InferenceServerClient(f"127.0.0.1:{port}", network_timeout=60) as client:
        answer = client.infer("zeroseg", tensors)
        return {name: answer.as_numpy(name) for name in outputs}


def executions(port, model):
    with http.InferenceServerClient(f"127.0.0.1:{port}") as client:
        [stats] = client.get_inference_statistics(model)["model_stats"]
    return stats["execution_count"], stats["inference_count"]


def test_many_clients_get_the_masks_of_the_segmenter(port):
    """Twelve requests with three label sets at once: runs are shared, masks are not."""
    segmenter = Segmenter.load(threads=1)
    cases = [(path, index) for index in range(len(SETS)) for path in PHOTOS[:4]]
    vectors = [segmenter.set_labels(words).pack.vectors for words in SETS]
    with ThreadPoolExecutor(len(cases)) as pool:
        answers = list(pool.map(lambda case: ask(port, case[0], vectors[case[1]]), cases))
    runs, photos = executions(port, NETWORK)
    assert photos == len(cases) and runs < photos, "nothing was batched, so nothing was shown"
    for (path, index), answer in zip(cases, answers):
        expected = segmenter.set_labels(SETS[index]).segment(path, ALL)
        np.testing.assert_allclose(answer["scores"], expected.scores, atol=1e-5)
        assert answer["label_map"].dtype == np.int16
        assert (answer["label_map"] == expected.label_map).mean() > 0.9999


def test_bundle_contains_the_code_that_the_server_runs(tmp_path):
    """The bundle's python folder has every zeroseg module that a model.py imports, so none comes from this machine."""
    bundle = write_bundle(tmp_path / "bundle")
    code = (
        "import runpy, sys, zeroseg; "
        "print(zeroseg.__file__, *(runpy.run_path(path)['TritonPythonModel'].__module__ for path in sys.argv[1:]))"
    )
    paths = sorted(bundle.glob("triton/onnx/*/1/model.py"))
    found = subprocess.run(
        [sys.executable, "-c", code, *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(bundle / "python")},
    )
    assert found.stdout.split() == [str(bundle / "python/zeroseg/__init__.py"), *["zeroseg.serving.steps"] * len(paths)]
    assert len(paths) == 2


def test_network_alone_answers_as_the_file(port):
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    tensor = http.InferInput("image", image.shape, "FP32").set_data_from_numpy(image)
    with http.InferenceServerClient(f"127.0.0.1:{port}") as client:
        answer = client.infer(NETWORK, [tensor])
        config = client.get_model_config(NETWORK)
    for name, value in Segmenter.load(threads=1).runner.run(image).items():
        np.testing.assert_allclose(answer.as_numpy(name), value, atol=1e-4)
    told = parse_sidecar(json.loads(config["parameters"]["sidecar"]["string_value"]), "told")
    assert told.to_dict() == read_artifact(BUNDLED).sidecar.to_dict()


@pytest.mark.parametrize("variant", RUNS)
def test_server_protobuf_reads_every_config(variant, tmp_path):
    text_format = pytest.importorskip("google.protobuf.text_format")
    from tritonclient.grpc import model_config_pb2, service_pb2

    message = getattr(model_config_pb2, "ModelConfig", None) or service_pb2.ModelConfig
    bundle = write_bundle(tmp_path / "bundle")
    configs = {
        path.parent.name: text_format.Parse(path.read_text(), message())
        for path in (bundle / "triton" / variant).glob("*/config.pbtxt")
    }
    assert all(config.name == name for name, config in configs.items()) and len(configs) == 4
    network = configs[NETWORK]
    assert network.platform == {"onnx": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}[variant]
    assert network.max_batch_size == 5 and network.dynamic_batching.default_queue_policy.max_queue_size == 64
    graph = onnx.load(bundle / "net.onnx").graph  # the batch axis is the server's to add
    for told, real in ((network.input, graph.input), (network.output, graph.output)):
        assert {entry.name: [-1, *entry.dims] for entry in told} == {
            value.name: [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim] for value in real
        }
        assert {value.type.tensor_type.elem_type for value in real} == {onnx.TensorProto.FLOAT}
    steps = configs["zeroseg"].ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["zeroseg_preprocess", NETWORK, "zeroseg_decode"]
    for step in steps:  # every tensor of a step is one of its model's
        assert set(step.input_map) == {tensor.name for tensor in configs[step.model_name].input}
        assert set(step.output_map) == {tensor.name for tensor in configs[step.model_name].output}
    assert re.search(r"KIND_(AUTO|GPU)", (bundle / "triton" / variant / NETWORK / "config.pbtxt").read_text())
