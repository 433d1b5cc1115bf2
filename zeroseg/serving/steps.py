"""What runs inside the inference server's Python processes: preprocess -> network -> decode.

A model.py of the repository names one of these classes as its TritonPythonModel. The server calls initialize() once
and execute() with a list of requests; each gets its answer or its own error line.
"""

import json
from pathlib import Path

import numpy as np

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError, check_array
from zeroseg.kernels._threads import set_threads
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.kernels.preprocess import preprocess
from zeroseg.photos.network_size import network_size
from zeroseg.runtime.base import OUTPUTS, Runner, TensorSpec
from zeroseg.runtime.opening import open_runner
from zeroseg.serving.joining import Request, run_joined
from zeroseg.serving.photo_bytes import decode_photo
from zeroseg.sidecar import parse_sidecar

SIDECAR = "model.json"  # beside model.py


class _Step:
    """One model of the repository; answer() is the work on one request."""

    def initialize(self, args: dict) -> None:
        import triton_python_backend_utils as server

        self.server = server
        version = Path(args["model_repository"]) / args["model_version"]
        self.sidecar = parse_sidecar(json.loads((version / SIDECAR).read_text(encoding="utf-8")), SIDECAR)
        parameters = json.loads(args["model_config"])["parameters"]
        self.parameters = {name: value["string_value"] for name, value in parameters.items()}
        set_threads(int(self.parameters.get("threads", "1")))

    def execute(self, requests) -> list:
        return [self._respond(self._tried(request)) for request in requests]

    def _tried(self, request) -> dict | str:
        try:
            return self.answer(request)
        except (ZerosegError, ValueError) as error:
            return str(error)

    def _respond(self, answer: dict | str):
        if isinstance(answer, str):
            error = self.server.TritonError
            return self.server.InferenceResponse(error=error(answer, error.INVALID_ARG))
        tensors = [self.server.Tensor(name, np.ascontiguousarray(array)) for name, array in answer.items()]
        return self.server.InferenceResponse(output_tensors=tensors)

    def _input(self, request, name: str) -> np.ndarray | None:
        tensor = self.server.get_input_tensor_by_name(request, name)
        return None if tensor is None else tensor.as_numpy()


class Preprocess(_Step):
    """photo (bytes of a file,) uint8, label_embeddings (N, D) -> image (1, 3, h, w), labels (1, N, D), size (2,)."""

    def answer(self, request) -> dict:
        labels = self._input(request, "label_embeddings")
        check_array("label_embeddings", labels, ("N", self.sidecar.embedding_dim), "float32")
        photo = decode_photo(self._input(request, "photo").tobytes())
        spec = self.sidecar.input
        size = network_size(photo.shape[:2], spec.short_side, spec.max_long_side, spec.multiple)
        return {
            "image": preprocess(photo, size, spec.mean, spec.std)[None],
            "labels": labels[None],
            "size": np.array(photo.shape[:2], np.int32),
        }


class Decode(_Step):
    """The network's answer for one photo -> label_map (H, W) int16, confidence (H, W), segment_labels (K,), scores."""

    def answer(self, request) -> dict:
        maps, scores = self._input(request, "segment_maps"), self._input(request, "segment_scores")
        height, width = (int(side) for side in self._input(request, "size"))
        threshold = self._input(request, "threshold")
        limit = self.sidecar.threshold if threshold is None else float(threshold[0])
        if not np.isfinite(scores).all():
            raise ZerosegError(f"model {self.sidecar.name} gave scores that are not finite; the file may be damaged")
        if not np.isfinite(limit):
            raise ZerosegError("threshold: expected a finite number")
        table = np.where(scores[0].max(1) >= limit, scores[0].argmax(1), -1).astype(np.int16)
        label_map, confidence = mask_decode(maps[0], table, (height, width))
        return {"label_map": label_map, "confidence": confidence, "segment_labels": table, "scores": scores[0].max(0)}


class Network(_Step):
    """image (b, 3, h, w), label_embeddings (b, N, D) -> maps and scores. The requests of one batch are run together.

    Its parameters in config.pbtxt: model_file, backend, threads; or served_model, the name of a model of this server
    that is asked instead, and max_labels, the most it takes.
    """

    def initialize(self, args: dict) -> None:
        super().initialize(args)
        if "served_model" in self.parameters:
            self.run = ModelRunner(self.server, self.parameters["served_model"], self.sidecar.embedding_dim).run
            self.max_labels = int(self.parameters["max_labels"])
            return
        artifact = read_artifact(self.parameters["model_file"], self.parameters["backend"])
        self.run = open_runner(artifact, int(self.parameters["threads"])).run
        self.max_labels = None

    def execute(self, requests) -> list:
        asked = [Request(*(self._input(request, name) for name in Request._fields)) for request in requests]
        answers = run_joined(self.run, asked, self.sidecar.embedding_dim, self.max_labels)
        return [self._respond(answer) for answer in answers]


class ModelRunner(Runner):
    """Another model of the same server, with the inputs and outputs of an exported network, asked by business logic
    scripting; its answer comes to the host.
    """

    backend = "triton"

    def __init__(self, server, model: str, dim: int):
        self._server, self._model, self._dim = server, model, dim

    def inputs(self):
        return {
            "image": TensorSpec(("B", 3, "H", "W"), "float32"),
            "label_embeddings": TensorSpec(("N", self._dim), "float32"),
        }

    def _run(self, feed):
        server = self._server
        tensors = [server.Tensor(name, np.ascontiguousarray(array)) for name, array in feed.items()]
        try:
            answer = server.InferenceRequest(
                model_name=self._model,
                requested_output_names=list(OUTPUTS),
                inputs=tensors,
                preferred_memory=server.PreferredMemory(server.TRITONSERVER_MEMORY_CPU, 0),
            ).exec()
        except server.TritonModelException as error:
            raise ZerosegError(f"{self._model}: {error}") from error
        if answer.has_error():
            raise ZerosegError(f"{self._model}: {answer.error().message()}")
        return {name: server.get_output_tensor_by_name(answer, name).as_numpy() for name in OUTPUTS}
