"""The model.pt itself, in PyTorch: the truth that every exported file is compared with."""

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import missing_extra
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
    backend = "torch"

    def __init__(self, artifact: Artifact, threads: int):
        self._torch = _torch()
        from zeroseg.model import load_model

        self._torch.set_num_threads(threads)
        self._model, _ = load_model(artifact.path)
        self._dim = artifact.sidecar.embedding_dim

    def inputs(self) -> dict[str, TensorSpec]:
        return {"image": TensorSpec(("B", 3, "H", "W"), "float32"),
                "label_embeddings": TensorSpec(("N", self._dim), "float32")}

    def _run(self, feed) -> dict[str, np.ndarray]:
        with self._torch.inference_mode():
            output = self._model(self._torch.from_numpy(feed["image"]))
            segment_scores, image_scores = self._model.score(
                output, self._torch.from_numpy(feed["label_embeddings"]))
            maps_BKL = output.soft_map.transpose(1, 2)
            maps = maps_BKL.reshape(*maps_BKL.shape[:2], *output.grid).contiguous()
        return {"segment_maps": maps.numpy(), "segment_scores": segment_scores.numpy(),
                "image_scores": image_scores.numpy()}
