"""The code inside the inference server's Python processes: preprocess -> network -> decode.

A model.py of the repository names one of these classes as its TritonPythonModel. The server calls initialize() once
and execute() with a list of requests; each gets its answer or its own error line.
"""

import json

import numpy as np

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.kernels._threads import set_threads
from zeroseg.runtime.base import IMAGE, OUTPUTS
from zeroseg.runtime.opening import open_runner
from zeroseg.segment.encode import segments_of
from zeroseg.segment.prepare import network_input
from zeroseg.serving.photo_bytes import decode_photo
from zeroseg.sidecar import parse_sidecar
from zeroseg.words import LabelPack


class _Step:
    """One model of the repository; answer() is the work on one request. Its config.pbtxt has the sidecar."""

    def initialize(self, args: dict) -> None:
        import triton_python_backend_utils as server

        self.server = server
        parameters = json.loads(args["model_config"])["parameters"]
        self.parameters = {name: value["string_value"] for name, value in parameters.items()}
        self.sidecar = parse_sidecar(json.loads(self.parameters["sidecar"]), "config.pbtxt: sidecar")
        set_threads(int(self.parameters.get("threads", "1")))

    def execute(self, requests) -> list:
        return [self._respond(self._tried(self.answer, request)) for request in requests]

    def _tried(self, work, *inputs):
        """The work's answer, or one line with the reason why there is none."""
        try:
            return work(*inputs)
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
    """photo (bytes of a file,) uint8 -> image (1, 3, h, w) float32, pixels (H, W, 3) uint8 RGB."""

    def answer(self, request) -> dict:
        photo = decode_photo(self._input(request, "photo").tobytes())
        return {IMAGE: network_input(photo, self.sidecar)[None], "pixels": photo}


class Network(_Step):
    """image (b, 3, h, w) -> the network's outputs. The requests of one batch have one size, and run together.

    Further parameters: model_file, backend, threads.
    """

    def initialize(self, args: dict) -> None:
        super().initialize(args)
        artifact = read_artifact(self.parameters["model_file"], self.parameters["backend"])
        self.runner = open_runner(artifact, int(self.parameters["threads"]))

    def execute(self, requests) -> list:
        images = [self._input(request, IMAGE) for request in requests]
        output = self._tried(self.runner.run, np.concatenate(images))
        if isinstance(output, str):
            return [self._respond(output) for _ in requests]
        ends = np.cumsum([len(image) for image in images])[:-1]
        parts = zip(*(np.split(output[name], ends) for name in OUTPUTS), strict=True)
        return [self._respond(dict(zip(OUTPUTS, part, strict=True))) for part in parts]


class Decode(_Step):
    """The network's outputs for one image, its pixels, label_embeddings (N, D), threshold -> label_map (H, W) int16,
    confidence (H, W) float32, segment_labels (K,) int16, scores (N,) float32.
    """

    def answer(self, request) -> dict:
        vectors, threshold = self._input(request, "label_embeddings"), self._input(request, "threshold")
        try:
            pack = LabelPack([str(row + 1) for row in range(len(vectors))], vectors, self.sidecar.embedding_space)
        except ValueError as error:
            raise ZerosegError(f"label_embeddings: {str(error).partition(': ')[2]}") from error
        pixels = self._input(request, "pixels")
        output = {name: self._input(request, name) for name in OUTPUTS}
        segments = segments_of(output, self.sidecar, size=pixels.shape[:2], image=pixels)
        result = segments.masks(pack, None if threshold is None else float(threshold[0]))
        return {name: getattr(result, name) for name in ("label_map", "confidence", "segment_labels", "scores")}
