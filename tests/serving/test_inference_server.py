"""The real Triton Inference Server on loopback, asked with tritonclient over HTTP and gRPC and through our REST.

It needs the extra triton, which does not fit beside the newest protobuf: a virtual environment of its own.
"""

import io
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pytriton", reason="the extra triton (nvidia-pytriton) is not installed")
http = pytest.importorskip("tritonclient.http", reason="the extra triton (tritonclient) is not installed")
grpc = pytest.importorskip("tritonclient.grpc", reason="the extra triton (tritonclient) is not installed")
pytest.importorskip("fastapi")

from zeroseg.commands.serve_triton import open_service  # noqa: E402
from zeroseg.errors import UnavailableError, ZerosegError  # noqa: E402
from zeroseg.live.server import Server  # noqa: E402
from zeroseg.segment.segmenter import Segmenter  # noqa: E402
from zeroseg.serving.repository import NETWORK, Batching  # noqa: E402

ASTRONAUT, CAT, COFFEE, ROCKET = sorted((Path(__file__).resolve().parents[2] / "export" / "photos").glob("*.jpg"))
PHOTOS = [CAT, ASTRONAUT, ROCKET]
SETS = [["cat", "rug"], ["person", "space suit", "flag", "rocket"], ["sky", "tower"]]  # several labels in PHOTOS
OUTPUTS = ("label_map", "scores")
ALL = -1.0  # a threshold that leaves no segment in the background, so that masks are full of labels
START_S = 30


@pytest.fixture(scope="module")
def service():
    with open_service(threads=2, batching=Batching(instances=2, max_batch=4, window_ms=100)) as running:
        yield running


@pytest.fixture(scope="module")
def own():
    return Segmenter.load(threads=1)


@pytest.fixture(scope="module")
def vectors(own):
    return [own.set_labels(words).pack.vectors for words in SETS]


@pytest.fixture(scope="module", params=["http", "grpc"])
def ask(request, service):
    """infer(model, {name: array}, outputs) -> {name: array} through NVIDIA's own client."""
    module, port = (http, service.server.http_port) if request.param == "http" else (grpc, service.server.grpc_port)

    def infer(model, arrays, outputs):
        types = {"float32": "FP32", "uint8": "UINT8"}
        tensors = [module.InferInput(name, array.shape, types[str(array.dtype)]) for name, array in arrays.items()]
        for tensor, array in zip(tensors, arrays.values()):
            tensor.set_data_from_numpy(array)
        with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
            answer = client.infer(model, tensors, outputs=[module.InferRequestedOutput(name) for name in outputs])
            return {name: answer.as_numpy(name) for name in outputs}

    return infer


def photo(path):
    return np.frombuffer(path.read_bytes(), np.uint8)


def same(result, answer):
    """A batched run may round the last bit of a score or map the other way."""
    np.testing.assert_allclose(answer["scores"], result.scores, atol=1e-5)
    assert answer["label_map"].dtype == np.int16
    assert answer["label_map"].shape == result.label_map.shape
    assert (answer["label_map"] == result.label_map).mean() > 0.9999


def test_same_masks_as_the_segmenter(ask, own, vectors):
    for words, labels, path in zip(SETS, vectors, PHOTOS, strict=True):
        arrays = {"photo": photo(path), "label_embeddings": labels}
        own.set_labels(words)
        same(own.segment(path), ask("zeroseg", arrays, OUTPUTS))
        full = own.segment(path, ALL)
        assert len(np.unique(full.label_map)) > 1, "one label alone does not tell masks apart"
        same(full, ask("zeroseg", arrays | {"threshold": np.float32([ALL])}, OUTPUTS))
        none = ask("zeroseg", {"photo": photo(path), "label_embeddings": labels, "threshold": np.float32([9])}, OUTPUTS)
        assert (none["label_map"] == -1).all()


def test_requests_in_one_batch_do_not_mix(ask, service, own, vectors):
    """Twelve requests at once, three label sets of other lengths over photos of other sizes."""
    cases = [(path, index) for index in range(len(SETS)) for path in [*PHOTOS, COFFEE]]
    before = executions(service)
    with ThreadPoolExecutor(len(cases)) as pool:
        answers = list(
            pool.map(
                lambda case: ask(
                    "zeroseg",
                    {"photo": photo(case[0]), "label_embeddings": vectors[case[1]], "threshold": np.float32([ALL])},
                    OUTPUTS,
                ),
                cases,
            )
        )
    runs, photos = (after - earlier for after, earlier in zip(executions(service), before))
    assert photos == len(cases) and runs < photos, "nothing was batched, so nothing was shown"
    for (path, index), answer in zip(cases, answers):
        same(own.set_labels(SETS[index]).segment(path, ALL), answer)
    assert any(len(np.unique(answer["label_map"])) > 1 for answer in answers)


def executions(service):
    """(runs, photos) of the network so far."""
    with http.InferenceServerClient(f"127.0.0.1:{service.server.http_port}") as client:
        [stats] = client.get_inference_statistics(NETWORK)["model_stats"]
    return stats["execution_count"], stats["inference_count"]


@pytest.mark.parametrize(
    "change, line",
    [
        (
            {"photo": np.zeros(50, np.uint8)},
            "image: not a readable picture; expected JPEG, PNG, WEBP, GIF, BMP",
        ),
        ({"label_embeddings": np.zeros((2, 5), np.float32)}, r"Expected \[-1,512\], got \[2,5\]"),
        ({"label_embeddings": np.full((2, 512), np.nan, np.float32)}, "label_embeddings: expected finite numbers"),
        ({"label_embeddings": np.zeros((2, 512), np.float32)}, "label_embeddings: expected directions, got only zeros"),
        ({"label_embeddings": np.zeros((0, 512), np.float32)}, "label_embeddings: expected at least one name"),
        ({"threshold": np.float32([np.nan])}, "threshold: expected a finite number"),
    ],
)
def test_bad_request_gets_one_clear_line(ask, vectors, change, line):
    good = {"photo": photo(PHOTOS[0]), "label_embeddings": vectors[0]}
    with pytest.raises((http.InferenceServerException, grpc.InferenceServerException), match=line):
        ask("zeroseg", good | change, OUTPUTS)
    assert ask("zeroseg", good, OUTPUTS)["label_map"].ndim == 2


def test_the_server_parses_the_configs_as_written(service):
    text_format = pytest.importorskip("google.protobuf.text_format")
    from tritonclient.grpc import model_config_pb2, service_pb2

    message = getattr(model_config_pb2, "ModelConfig", None) or service_pb2.ModelConfig
    configs = {
        path.parent.name: text_format.Parse(path.read_text(), message())
        for path in Path(service._folder.name).glob("*/config.pbtxt")
    }
    network = configs[NETWORK]
    assert network.max_batch_size == 4 and network.instance_group[0].count == 2
    assert network.dynamic_batching.max_queue_delay_microseconds == 100_000
    assert {tensor.name: list(tensor.dims) for tensor in network.input} == {"image": [3, -1, -1]}
    assert [step.model_name for step in configs["zeroseg"].ensemble_scheduling.step] == [
        "zeroseg_preprocess",
        NETWORK,
        "zeroseg_decode",
    ]
    with http.InferenceServerClient(f"127.0.0.1:{service.server.http_port}") as client:
        assert client.get_model_config(NETWORK)["dynamic_batching"]["max_queue_delay_microseconds"] == 100_000
        with pytest.raises(http.InferenceServerException, match="restricted"):
            client.unload_model(NETWORK)


def test_example_of_the_docs_gives_the_masks_of_the_segmenter(service, own):
    text = (CAT.parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    for theirs, ours in (("127.0.0.1:8001", f"127.0.0.1:{service.server.http_port}"), ("photo.jpg", str(CAT))):
        assert theirs in code
        code = code.replace(theirs, ours)
    names = {}
    exec(code, names)
    expected = own.set_labels(["cat", "dog"]).segment(CAT).label_map
    assert (names["label_map"] == expected).mean() > 0.9999


def test_network_alone_gives_the_outputs_of_the_file(service, own):
    """Six images, of which the server takes four at once; and an image that the network cannot take."""
    image = np.random.default_rng(0).normal(size=(6, 3, 64, 96)).astype(np.float32)
    runner = service.segmenter.runner
    for name, value in runner.run(image).items():
        np.testing.assert_allclose(value, own.runner.run(image)[name], atol=1e-5, err_msg=name)
    with pytest.raises(ZerosegError, match="image: expected sides that are multiples of 32") as caught:
        runner.run(image[..., :-1])
    assert not isinstance(caught.value, UnavailableError)


@pytest.fixture
def rest(service):
    server = Server(
        service.segmenter.set_labels(SETS[0]),
        None,
        "127.0.0.1",
        0,
        at_once=8,
        waiting=16,
        problem=service.segmenter.runner.problem,
    ).start()
    yield server
    server.stop()


def post(rest, data, **fields):
    """(status, body) of POST /segment."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    parts.append(b'--x\r\nContent-Disposition: form-data; name="image"; filename="p"\r\n\r\n' + data + b"\r\n--x--\r\n")
    request = urllib.request.Request(
        f"http://127.0.0.1:{rest.port}/segment", b"".join(parts), {"Content-Type": "multipart/form-data; boundary=x"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_rest_answers_as_before(rest, own):
    status, body = post(rest, CAT.read_bytes(), labels="cat, rug", format="labels", threshold=ALL)
    expected = own.set_labels(["cat", "rug"]).segment(CAT, ALL).label_map + 1
    assert status == 200 and (np.asarray(Image.open(io.BytesIO(body))) == expected).mean() > 0.9999
    assert post(rest, b"nothing")[0] == 415
    assert post(rest, CAT.read_bytes(), labels=" , ")[0] == 422
    assert post(rest, CAT.read_bytes(), labels="cat", threshold="nan")[0] == 422


def children(pid):
    return [int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()]


def left_of(pids, within_s=10):
    """The processes that are still running at the deadline."""
    end_s = time.monotonic() + within_s
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < end_s:
        time.sleep(0.05)
    return left


def runs(pid):
    try:  # an orphan that has ended is seen until process 1 asks for it, which may never be
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def network_process(pid):
    return next(child for child in children(pid) if NETWORK.encode() in Path(f"/proc/{child}/cmdline").read_bytes())


@pytest.mark.parametrize("victim", ["server", "network"])
def test_killed_server_comes_back_and_never_gives_a_wrong_mask(service, own, vectors, rest, ask, victim):
    """While the server is killed, each of many requests gets a correct answer or one clear error."""
    expected = [own.set_labels(words).segment(path, ALL) for words, path in zip(SETS, PHOTOS)]
    arrays = [
        {"photo": photo(path), "label_embeddings": labels, "threshold": np.float32([ALL])}
        for path, labels in zip(PHOTOS, vectors)
    ]
    restarts, pid = service.server.restarts, service.server.pid
    started = [pid, *children(pid)]
    done, failures, wrong, right = threading.Event(), [], [], []

    def client(index):
        while not done.is_set():
            try:
                answer = ask("zeroseg", arrays[index], OUTPUTS)
            except (
                Exception
            ) as error:  # each client raises its own errors for a refused connection, a closed one, an error answer
                failures.append(str(error))
                time.sleep(0.05)
                continue
            try:
                same(expected[index], answer)
                right.append(time.monotonic())
            except AssertionError as error:
                wrong.append(error)

    threads = [threading.Thread(target=client, args=(index,)) for index in range(len(SETS))]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    os.kill(pid if victim == "server" else network_process(pid), signal.SIGKILL)
    killed_s = time.monotonic()
    lines, number = set(), 0
    while service.server.restarts == restarts or not service.server.ready():
        number += 1  # bytes behind the picture: REST keeps the segments of the last photos by their bytes
        status, body = post(rest, PHOTOS[0].read_bytes() + bytes(number), labels="cat,rug")
        if status != 200:
            assert status == 503
            lines.add(json.loads(body)["detail"])
        assert time.monotonic() - killed_s < START_S
        time.sleep(0.1)
    ready_s = time.monotonic()
    while not (right and right[-1] > ready_s) and time.monotonic() - ready_s < START_S:
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join(START_S)
    assert not wrong and right[-1] > ready_s and failures and all(failures)
    assert any("the inference server does not answer and is being restarted" in line for line in lines)
    assert post(rest, PHOTOS[0].read_bytes() + bytes(number + 1), labels="cat,rug")[0] == 200
    assert len(started) > 3 and not left_of(started)


def test_stopped_server_leaves_nothing(own, vectors):
    with open_service(threads=1, batching=Batching(instances=1, max_batch=1, queue=1)) as service:
        segmenter = service.segmenter.set_labels(SETS[0])
        image = np.zeros((1, 3, 288, 288), np.float32)
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(segmenter.runner.run, image) for _ in range(12)]
        refused = [error for error in (one.exception() for one in asked) if error is not None]
        assert refused and all(isinstance(error, UnavailableError) for error in refused)
        assert all(str(error).startswith("the inference server's queue is full") for error in refused)
        np.testing.assert_array_equal(
            segmenter.segment(CAT, ALL).label_map,
            own.set_labels(SETS[0]).segment(CAT, ALL).label_map,
        )
        pids = [service.server.pid, *children(service.server.pid)]
        memory, folders = service.server._memory, [service.server._folder, Path(service._folder.name)]
    assert not left_of(pids)
    assert not list(Path("/dev/shm").glob(f"{memory}*")) and not any(folder.exists() for folder in folders)
    with pytest.raises(UnavailableError, match="does not answer"):
        segmenter.segment(PHOTOS[0])


def test_model_that_cannot_be_loaded_ends_the_start(color_model_copy):
    service = open_service(color_model_copy)
    color_model_copy.with_suffix(".json").unlink()
    with pytest.raises(ZerosegError, match="the inference server did not start: .*its sidecar .* is missing"):
        service.__enter__()


def test_start_that_is_interrupted_leaves_nothing(color_model_copy, monkeypatch):
    """Like Ctrl-C while the models load."""
    from zeroseg.serving.supervisor import InferenceServer

    service, pids = open_service(color_model_copy), []

    def pressed(server):
        if server.pid is None:
            return False
        pids.append(server.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(InferenceServer, "ready", pressed)
    with pytest.raises(KeyboardInterrupt):
        service.__enter__()
    assert len(pids) == 1 and not left_of(pids)
    assert not service.server._folder.exists() and not Path(service._folder.name).exists()


@pytest.fixture
def color_model_copy(tmp_path):
    pytest.importorskip("onnx")
    from tests.color_model import write_color_model

    return write_color_model(tmp_path)


def test_command_prints_where_it_listens(tmp_path):
    import sys

    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "zeroseg.commands.serve",
            "--labels",
            "cat,rug",
            "--engine",
            "triton",
            "--port",
            "0",
            "--triton-http",
            "0",
            "--triton-grpc",
            "0",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[0].startswith("triton: http://127.0.0.1:") and lines[1].startswith("page: http://127.0.0.1:")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
