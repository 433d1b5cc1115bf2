"""A Runner that calls the inference server over gRPC, with NVIDIA's client."""

import numpy as np

from zeroseg.errors import UnavailableError, ZerosegError, missing_extra
from zeroseg.runtime.base import IMAGE, OUTPUTS, Runner
from zeroseg.serving.repository import NETWORK

AWAY = "the inference server does not answer and is being restarted; try again in some seconds"
FULL = "the inference server's queue is full; try again in some seconds"
TIMEOUT_S = 60.0
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 1000),  # by default, gRPC waits up to two minutes after a server has ended
]


class Client:
    """Infers over gRPC; safe to use from several threads."""

    def __init__(self, host: str, port: int):
        try:
            import tritonclient.grpc as triton
        except ImportError as error:
            raise missing_extra("tritonclient", "triton", "--engine triton") from error
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._triton = triton
        self._client = triton.InferenceServerClient(address, channel_args=_CHANNEL)

    def infer(self, model: str, image: np.ndarray) -> dict[str, np.ndarray]:
        """image (b, 3, h, w) float32 -> the network's outputs by name.

        Raises UnavailableError if the server is away or full, ZerosegError if it refuses.
        """
        tensor = self._triton.InferInput(IMAGE, image.shape, "FP32").set_data_from_numpy(image)
        wanted = [self._triton.InferRequestedOutput(name) for name in OUTPUTS]
        try:
            answer = self._client.infer(model, [tensor], outputs=wanted, client_timeout=TIMEOUT_S)
        except self._triton.InferenceServerException as error:
            line = " ".join(str(error.message()).split())
            if error.status() == "StatusCode.INVALID_ARGUMENT":
                raise ZerosegError(f"inference server: {line}") from error
            away = FULL if "maximum queue size" in line else AWAY
            raise UnavailableError(f"{away} ({line})") from error
        return {name: answer.as_numpy(name) for name in OUTPUTS}

    def ready(self) -> bool:
        """Whether all models of the server answer."""
        try:
            return self._client.is_server_ready(client_timeout=5)
        except self._triton.InferenceServerException:
            return False


class ServedRunner(Runner):
    """The network in an inference server, which batches the photos of several callers.

    max_batch  the server's largest batch; a larger one is sent in parts.
    """

    backend = "triton"

    def __init__(self, client: Client, max_batch: int):
        self._client, self._max_batch = client, max_batch

    def problem(self) -> str | None:
        """Why it cannot run now, in one line; None if nothing is wrong."""
        return None if self._client.ready() else AWAY

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        starts = range(0, len(image), self._max_batch)
        parts = [self._client.infer(NETWORK, image[start : start + self._max_batch]) for start in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}
