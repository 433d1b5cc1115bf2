"""The model.pt itself, in PyTorch: the reference for every exported file. On the CPU, or a CUDA GPU."""

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, missing_extra
from zeroseg.runtime.base import OUTPUTS, Runner


class TorchRunner(Runner):
    """Subclasses replace _forward, which gives the model's output for an image."""

    def __init__(self, artifact: Artifact, threads: int):
        try:
            import torch
        except ImportError as error:
            raise missing_extra("torch", "train", f"back end {artifact.backend}") from error
        from zeroseg.model import load_model

        self._torch = torch

        self.backend = artifact.backend
        self._device = "cuda" if "cuda" in self.backend else "cpu"
        if self._device == "cuda" and not self._torch.cuda.is_available():
            raise UnavailableError(
                f"back end {self.backend} cannot run here: torch {self._torch.__version__} finds no CUDA GPU "
                "(torch.cuda.is_available() is False); use back end torch"
            )
        self._torch.set_num_threads(threads)
        model, _ = load_model(artifact.path)
        self.model = model.to(self._device)

    def _forward(self, image):
        return self.model(image)

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        torch = self._torch
        # TF32, cuDNN's default, keeps 10 bits of every factor: enough to move masks
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = self._forward(torch.from_numpy(image).to(self._device))
            maps_BKL = output.soft_map.transpose(1, 2)
            maps_BKhw = maps_BKL.reshape(*maps_BKL.shape[:2], *output.grid).contiguous()
        values = (maps_BKhw, output.segment_embeddings, output.image_embedding)
        return {name: value.float().cpu().numpy() for name, value in zip(OUTPUTS, values, strict=True)}
