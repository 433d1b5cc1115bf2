"""The inference server's HTTP protocol (KServe v2, tensors as binary), and a Runner that asks it.

Only the standard library, so that what asks needs none of the server's own Python packages. Every answer is checked
against what it claims before it becomes an array: an answer that is cut off or not ours is an error, never a mask.
"""

import http.client
import itertools
import json
import threading
from collections.abc import Mapping

import numpy as np

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.base import OUTPUTS, Runner, TensorSpec
from zeroseg.serving.repository import NETWORK
from zeroseg.sidecar import Sidecar

DTYPES = {"FP32": np.dtype("<f4"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"), "UINT8": np.dtype("u1")}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
AWAY = "the inference server does not answer; it is started again, try again in some seconds"


class Client:
    """Infers over HTTP; safe to use from several threads, each has its own connection."""

    def __init__(self, host: str, port: int, timeout_s: float = 60.0):
        self._address, self._timeout_s = (host, port), timeout_s
        self._local = threading.local()
        self._numbers = itertools.count()

    def infer(self, model: str, inputs: Mapping[str, np.ndarray], outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Arrays by name in and out. UnavailableError when the server is away or full, ZerosegError when it refuses."""
        number = f"{next(self._numbers)}"
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        header = json.dumps(
            {
                "id": number,
                "inputs": [
                    {
                        "name": name,
                        "shape": array.shape,
                        "datatype": _NAMES[array.dtype],
                        "parameters": {"binary_data_size": array.nbytes},
                    }
                    for name, array in arrays.items()
                ],
                "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
            }
        ).encode()
        body = b"".join([header, *(array.tobytes() for array in arrays.values())])
        status, length, answer = self._send(f"/v2/models/{model}/infer", body, len(header))
        if status != 200:
            away = status == 429 or status >= 500  # full, or one of its processes has died
            raise (UnavailableError if away else ZerosegError)(f"inference server: {_error(status, answer)}")
        return read_answer(answer, length, number, outputs)

    def ready(self) -> bool:
        """Whether all models of the server answer."""
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _send(self, path: str, body: bytes, header_length: int) -> tuple[int, str | None, bytes]:
        headers = {"Inference-Header-Content-Length": str(header_length), "Content-Type": "application/octet-stream"}
        for fresh in (False, True):  # a connection kept open may have been closed at the other end
            kept = None if fresh else getattr(self._local, "connection", None)
            connection = kept or http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if kept is not None and not isinstance(error, TimeoutError):
                    continue
                raise UnavailableError(f"{AWAY} ({_reason(error)})") from error
            self._local.connection = connection
            return response.status, response.getheader("Inference-Header-Content-Length"), answer
        raise AssertionError("a fresh connection answers or raises")


def read_answer(answer: bytes, header_length: str | None, number: str, outputs: tuple[str, ...]) -> dict:
    """The body of an answer -> arrays by name; ZerosegError unless it is whole and the one to request `number`."""
    try:
        end = int(header_length)
        header = json.loads(answer[:end])
        if header["id"] != number:
            raise ValueError(f"answer {header['id']!r} to request {number!r}")
        arrays = {}
        for tensor in header["outputs"]:
            size = tensor["parameters"]["binary_data_size"]
            values = np.frombuffer(answer[end : end + size], DTYPES[tensor["datatype"]])
            arrays[tensor["name"]] = values.reshape(tensor["shape"])
            end += size
        if end != len(answer):
            raise ValueError(f"{len(answer)} bytes, {end} were announced")
        return {name: arrays[name] for name in outputs}
    except (KeyError, TypeError, ValueError) as error:
        raise ZerosegError(f"inference server: an answer that is damaged or not ours ({error})") from error


def _error(status: int, answer: bytes) -> str:
    try:
        return " ".join(str(json.loads(answer)["error"]).split())
    except (ValueError, KeyError, TypeError):
        return f"status {status}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class ServedRunner(Runner):
    """The network behind an inference server. Photos of several callers meet in its batches.

    max_batch  the server's; a larger batch is sent in parts.
    """

    backend = "triton"

    def __init__(self, client: Client, sidecar: Sidecar, max_batch: int, model: str = NETWORK):
        self._client, self._sidecar, self._max_batch, self._model = client, sidecar, max_batch, model

    def problem(self) -> str | None:
        return None if self._client.ready() else AWAY

    def inputs(self) -> dict[str, TensorSpec]:
        return {
            "image": TensorSpec(("B", 3, "H", "W"), "float32"),
            "label_embeddings": TensorSpec(("N", self._sidecar.embedding_dim), "float32"),
        }

    def _run(self, feed) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(feed["image"]), self._max_batch):
            image, labels = feed["image"][start : start + self._max_batch], feed["label_embeddings"]
            parts.append(
                self._client.infer(
                    self._model,
                    {"image": image, "label_embeddings": np.broadcast_to(labels, (len(image), *labels.shape))},
                    OUTPUTS,
                )
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}
