"""An open_clip model as a runner with a sidecar, so that every command takes it for a model like any other."""

import base64
from typing import TYPE_CHECKING

import numpy as np
import torch

from zeroseg.artifact import FORMAT, Sidecar, parse_sidecar
from zeroseg.dense.spec import DenseSpec, parse_spec
from zeroseg.dense.text import label_vectors
from zeroseg.dense.towers import DenseTower, read_tower
from zeroseg.dense.weights import load_towers, normalisation, space_of
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.kernels._threads import available_threads, set_threads
from zeroseg.runtime.base import Runner, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

BACKENDS = ("auto", "torch", "torch-cuda")
MAX_LONG_SIDE = 2048  # px, mmsegmentation's


class DenseRunner(Runner):
    """A DenseTower: image (B, 3, H, W) and labels (N, D) -> place_scores, image_scores (runtime/base.py)."""

    def __init__(self, tower: DenseTower, dim: int, backend: str = "torch"):
        self.backend, self._dim = backend, dim
        self._device = "cuda" if backend == "torch-cuda" else "cpu"
        if self._device == "cuda" and not torch.cuda.is_available():
            raise UnavailableError(
                f"back end {backend} cannot run here: torch {torch.__version__} finds no CUDA GPU "
                "(torch.cuda.is_available() is False); use back end torch"
            )
        self.tower = tower.to(self._device)

    def inputs(self) -> dict[str, TensorSpec]:
        return {
            "image": TensorSpec(("B", 3, "H", "W"), "float32"),
            "label_embeddings": TensorSpec(("N", self._dim), "float32"),
        }

    def _run(self, feed) -> dict[str, np.ndarray]:
        sides = feed["image"].shape[2:]
        if any(side % self.tower.patch for side in sides):
            raise ValueError(f"image: expected sides that are multiples of {self.tower.patch}, got {sides}")
        # TF32, cuDNN's default, keeps 10 bits of every factor: enough to move masks
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            image, labels = (torch.from_numpy(feed[name]).to(self._device) for name in ("image", "label_embeddings"))
            places, image_scores = scores_of(self.tower, image, labels)
        return {"place_scores": places.cpu().numpy(), "image_scores": image_scores.cpu().numpy()}


def scores_of(tower: DenseTower, image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """image (B, 3, H, W), labels (N, D) -> place_scores (B, N, h, w), image_scores (B, N); all float32 cosines."""
    places, embedding = tower(image)
    return (places @ labels.T).permute(0, 3, 1, 2).contiguous(), embedding @ labels.T


def open_dense(
    name: str, backend: str = "auto", threads: int | None = None, cache: "Path | None" = None
) -> tuple[DenseRunner, Sidecar]:
    """The runner and sidecar of a model named as in `spec`; ZerosegError in one line where it cannot be had.

    cache: folder of the text vectors, None for the usual one.
    """
    if backend not in BACKENDS:
        raise ZerosegError(
            f"backend {backend}: an open_clip model runs on torch or torch-cuda; export it for others: "
            "zeroseg-export open_clip:ARCH/WEIGHTS --onnx"
        )
    if threads is not None and threads < 1:
        raise ZerosegError(f"threads: expected at least 1, got {threads}")
    tower, document = load_dense(name, cache)
    sidecar = parse_sidecar(document, name)
    set_threads(threads)
    torch.set_num_threads(threads or available_threads())
    return DenseRunner(tower, sidecar.embedding_dim, "torch" if backend == "auto" else backend), sidecar


def load_dense(name: str, cache: "Path | None" = None, how: str = "--model") -> tuple[DenseTower, dict]:
    """The tower of a model named as in `spec`, and its sidecar as a dict; ZerosegError as open_dense.

    how: what a user writes before a name, for messages.
    """
    spec = parse_spec(name)
    visual, _ = load_towers(spec.arch, spec.weights, how)
    mean, std = normalisation(visual)
    try:
        tower = read_tower(visual, spec.reading, spec.window)
    except ZerosegError as error:
        raise ZerosegError(f"model {name}: {error}") from None
    return tower, describe(spec, tower, mean, std, cache)


def describe(spec: DenseSpec, tower: DenseTower, mean, std, cache: "Path | None" = None) -> dict:
    """The sidecar of a tower that was read, as a dict."""
    patch, window = tower.patch, tower.window
    stride = max(1, (spec.stride or window // 2) // patch) * patch
    short_side = max(spec.short_side or window * 3 // 2, window)
    if stride > window:
        raise ZerosegError(f"stride: expected at most the window of {window} pixels, got {spec.stride}")
    probe = label_vectors(spec, spec.background or ("thing",), cache)  # also says how many numbers a label has
    background = probe if spec.background else probe[:0]
    vectors = np.ascontiguousarray(background, "<f4")
    return {
        "format": FORMAT, "name": f"{spec.arch} {tower.reading}", "embedding_space": space_of(spec.arch, spec.weights),
        "embedding_dim": probe.shape[1], "segments": 1, "stride": patch, "threshold": -1.0, "files": {},
        "input": {"short_side": short_side, "multiple": patch, "max_long_side": max(MAX_LONG_SIDE, window),
                  "mean": list(mean), "std": list(std)},
        "dense": {"window": window, "stride": stride, "reading": tower.reading, "text": spec.towers(),
                  "templates": spec.templates, "background": list(spec.background),
                  "background_vectors": base64.b64encode(vectors.tobytes()).decode("ascii")},
        "card": {"model": f"open_clip {spec.arch}, read by {tower.reading}, no training"},
    }  # fmt: skip


def text_vectors(sidecar: Sidecar, labels: list[str], cache: "Path | None" = None) -> np.ndarray:
    """(n, D) float32 unit rows by the text tower that a dense model names."""
    from dataclasses import replace

    dense = sidecar.dense
    return label_vectors(replace(parse_spec(dense.text), templates=dense.templates), labels, cache)
