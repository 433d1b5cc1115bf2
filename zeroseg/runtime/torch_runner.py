"""The model.pt itself, in PyTorch: the truth that every exported file is compared with. On the CPU, or a CUDA GPU."""

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, missing_extra
from zeroseg.runtime.base import Runner, TensorSpec


def _torch():
    try:
        import torch
    except ImportError as error:
        raise missing_extra("torch", "train", "back end torch") from error
    return torch


def read_sidecar(path) -> dict:
    """The sidecar inside a model.pt, as it was written."""
    _torch()
    from zeroseg.model import load_checkpoint

    return load_checkpoint(path).sidecar


class TorchRunner(Runner):
    """Subclasses replace _forward, which gives the model's output for an image; scoring labels stays eager."""

    def __init__(self, artifact: Artifact, threads: int):
        self._torch = _torch()
        from zeroseg.model import load_model

        self.backend = artifact.backend
        self._device = "cuda" if "cuda" in self.backend else "cpu"
        if self._device == "cuda" and not self._torch.cuda.is_available():
            raise UnavailableError(
                f"back end {self.backend} cannot run here: torch {self._torch.__version__} finds no CUDA GPU "
                "(torch.cuda.is_available() is False); use back end torch"
            )
        self._torch.set_num_threads(threads)
        model, _ = load_model(artifact.path)
        self._model = model.to(self._device)
        self._dim = artifact.sidecar.embedding_dim

    def inputs(self) -> dict[str, TensorSpec]:
        return {
            "image": TensorSpec(("B", 3, "H", "W"), "float32"),
            "label_embeddings": TensorSpec(("N", self._dim), "float32"),
        }

    def _forward(self, image):
        return self._model(image)

    def _run(self, feed) -> dict[str, np.ndarray]:
        torch = self._torch
        # TF32, cuDNN's default, keeps 10 bits of every factor: enough to move masks
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = self._forward(torch.from_numpy(feed["image"]).to(self._device))
            segment_scores, image_scores = self._model.score(
                output, torch.from_numpy(feed["label_embeddings"]).to(self._device)
            )
            maps_BKL = output.soft_map.transpose(1, 2)
            maps = maps_BKL.reshape(*maps_BKL.shape[:2], *output.grid).contiguous()
        values = {"segment_maps": maps, "segment_scores": segment_scores, "image_scores": image_scores}
        return {name: value.cpu().numpy() for name, value in values.items()}
