"""An open_clip model as a runner with a sidecar, so that every command can use it like any other model."""

from pathlib import Path

import numpy as np
import torch

from zeroseg.dense.dense_tower import DenseTower
from zeroseg.dense.helper import load_helper
from zeroseg.dense.spec import RADIO, DenseSpec, parse_spec
from zeroseg.dense.text import label_vectors
from zeroseg.dense.towers import read_tower
from zeroseg.dense.weights import load_towers, normalisation, space_of
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.kernels._threads import available_threads, set_threads
from zeroseg.runtime.backends import BACKENDS
from zeroseg.runtime.base import DENSE_OUTPUTS, Runner
from zeroseg.sidecar import DenseInput, InputSpec, Scoring, Sidecar

MAX_LONG_SIDE = 2048  # px, mmsegmentation's


class DenseRunner(Runner):
    """A DenseTower: image (B, 3, H, W) -> place_embeddings, image_embedding (runtime/base.py)."""

    def __init__(self, tower: DenseTower, backend: str = "torch"):
        self.backend = backend
        self._device = "cuda" if backend == "torch-cuda" else "cpu"
        if self._device == "cuda" and not torch.cuda.is_available():
            raise UnavailableError(
                f"back end {backend} cannot run here: torch {torch.__version__} finds no CUDA GPU "
                "(torch.cuda.is_available() is False); use back end torch"
            )
        self.tower = tower.to(self._device)

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        sides = image.shape[2:]
        if any(side % self.tower.multiple for side in sides):
            raise ValueError(f"image: expected sides that are multiples of {self.tower.multiple}, got {sides}")
        # TF32, cuDNN's default, keeps 10 bits of every factor: enough to move masks
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            values = embeddings_of(self.tower, torch.from_numpy(image).to(self._device))
        return {name: value.cpu().numpy() for name, value in zip(DENSE_OUTPUTS, values, strict=True)}


def embeddings_of(tower: DenseTower, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """image (B, 3, H, W) -> place_embeddings (B, D, h, w), image_embedding (B, D); float32 unit vectors over D."""
    places, embedding = tower(image)
    return places.permute(0, 3, 1, 2).contiguous(), embedding


def open_dense(
    name: str, backend: str = "auto", threads: int | None = None, cache: Path | None = None
) -> tuple[DenseRunner, Sidecar]:
    """The runner and sidecar of a model named as in `spec`; ZerosegError, in one line, if it is not available.

    cache: folder of the text vectors, None for the usual one.
    """
    if backend not in ("auto", *(name for name, known in BACKENDS.items() if known.towers)):
        raise ZerosegError(
            f"backend {backend}: an open_clip model runs on torch or torch-cuda; export it for others: "
            "zeroseg-export open_clip:ARCH/WEIGHTS --onnx"
        )
    if threads is not None and threads < 1:
        raise ZerosegError(f"threads: expected at least 1, got {threads}")
    tower, sidecar = load_dense(name, cache)
    set_threads(threads)
    torch.set_num_threads(threads or available_threads())
    return DenseRunner(tower, "torch" if backend == "auto" else backend), sidecar


def load_dense(name: str, cache: Path | None = None, how: str = "--model") -> tuple[DenseTower, Sidecar]:
    """The tower of a model named as in `spec`, and its sidecar; ZerosegError as open_dense.

    how: the option before the name, for messages.
    """
    spec = parse_spec(name)
    visual, _ = load_towers(spec.arch, spec.weights, how)
    mean, std = normalisation(visual)
    try:
        helper = None if spec.helper is None else load_helper(spec.helper, mean, std)
        tower = read_tower(visual, spec.reading, spec.window, helper)
    except UnavailableError:
        raise
    except ZerosegError as error:
        raise ZerosegError(f"model {name}: {error}") from None
    return tower, describe(spec, tower, mean, std, cache)


def describe(spec: DenseSpec, tower: DenseTower, mean, std, cache: Path | None = None) -> Sidecar:
    """The sidecar of a loaded tower."""
    patch, window = tower.place, tower.window
    stride = max(1, (spec.stride or window // 2) // patch) * patch
    short_side = max(spec.short_side or window * 3 // 2, window)
    if stride > window:
        raise ZerosegError(f"stride: expected at most the window of {window} pixels, got {spec.stride}")
    probe = label_vectors(spec, spec.background or ("thing",), cache)  # also says how many numbers a label has
    background = probe if spec.background else probe[:0]
    made = f"RADIO {Path(spec.weights).name}" if spec.arch == RADIO else f"open_clip {spec.arch}"
    helped = f" with {Path(spec.helper).name}" if spec.helper else ""
    return Sidecar(
        name=f"{spec.arch} {tower.reading}",
        embedding_space=space_of(spec.arch, spec.weights),
        embedding_dim=probe.shape[1],
        segments=1,
        stride=patch,
        input=InputSpec(short_side, patch, max(MAX_LONG_SIDE, window), tuple(mean), tuple(std)),
        threshold=-1.0,
        scoring=Scoring(),
        files={},
        card={"model": f"{made}, read by {tower.reading}{helped}, no training"},
        dense=DenseInput(
            window,
            stride,
            tower.reading,
            spec.towers(),
            spec.templates,
            tuple(spec.background),
            background,
            tower.multiple,
            spec.denoise,
        ),
    )


def text_vectors(sidecar: Sidecar, labels: list[str], cache: Path | None = None) -> np.ndarray:
    """(n, D) float32 unit rows by the text tower that a dense model names."""
    from dataclasses import replace

    dense = sidecar.dense
    return label_vectors(replace(parse_spec(dense.text), templates=dense.templates), labels, cache)
