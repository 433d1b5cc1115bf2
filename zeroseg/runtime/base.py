"""The interface of every back end: run(image) -> dict of arrays.

The network's inputs and outputs are the same in every file format:

    image               (B, 3, H, W) float32, RGB, normalised; H and W multiples of the sidecar's input.multiple
    segment_maps        (B, K, h, w) float32, soft assignment of patches to segments, sums to 1 over K, h = H / stride
    segment_embeddings  (B, K, D) float32, in the space of the sidecar's embedding_space
    image_embedding     (B, D) float32, of the whole image

A network without segments (its sidecar has `dense`, zeroseg/dense) runs on windows of an image and takes any sides that
are multiples of the sidecar's stride. Instead of the two segment outputs it gives

    place_embeddings    (B, D, h, w) float32, unit vectors over D, one for each patch; h = H / stride

Labels are not an input: they are scored against the embeddings afterwards (zeroseg.segment.scores).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import ZerosegError, check_array
from zeroseg.sidecar import Sidecar

IMAGE = "image"
OUTPUTS = ("segment_maps", "segment_embeddings", "image_embedding")
DENSE_OUTPUTS = ("place_embeddings", "image_embedding")


class TensorSpec(NamedTuple):
    """The input: an int is a fixed size, a str a free one."""

    shape: tuple[int | str, ...]
    dtype: str


ANY_IMAGE = TensorSpec(("B", 3, "H", "W"), "float32")


class Runner(ABC):
    """A network ready to run; a context manager that releases its memory. Subclasses implement _run()."""

    backend: str  # the name users choose it by
    multiple: int = 1  # of an image's sides, px

    def input(self) -> TensorSpec:
        """What run() accepts."""
        return ANY_IMAGE

    @abstractmethod
    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """run() after the checks."""

    @property
    def largest_batch(self) -> int | None:
        """The largest batch that run() takes; None for any."""
        return None

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """image (B, 3, H, W) float32 -> the outputs by name. Raises ValueError when shape or dtype is not input()'s."""
        spec = self.input()
        check_array(IMAGE, image, spec.shape, spec.dtype)
        if not len(image):
            raise ValueError("image: expected at least one image, got a batch of none")
        if any(side % self.multiple or not side for side in image.shape[2:]):
            raise ValueError(f"image: expected sides that are multiples of {self.multiple}, got {image.shape}")
        outputs = self._run(image)
        check_outputs(outputs, len(image))
        return outputs

    def close(self) -> None:  # noqa: B027 (most back ends have nothing to give back but what Python frees)
        """Release the runner's memory; it cannot run afterwards."""

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *error) -> None:
        self.close()


def check_outputs(outputs: Mapping[str, np.ndarray], batch: int) -> None:
    """Check the outputs' shapes: a file can declare our outputs and compute others. ValueError names what came out."""
    check_array("image_embedding from the network", outputs["image_embedding"], (batch, "D"), "float32")
    dim = outputs["image_embedding"].shape[1]
    if "place_embeddings" in outputs:
        places = outputs["place_embeddings"]
        check_array("place_embeddings from the network", places, (batch, dim, "h", "w"), "float32")
        return
    check_array("segment_maps from the network", outputs["segment_maps"], (batch, "K", "h", "w"), "float32")
    segments = outputs["segment_maps"].shape[1]
    embeddings = outputs["segment_embeddings"]
    check_array("segment_embeddings from the network", embeddings, (batch, segments, dim), "float32")


def outputs_of(sidecar: Sidecar) -> tuple[str, ...]:
    """The names of the outputs of this sidecar's network."""
    return OUTPUTS if sidecar.dense is None else DENSE_OUTPUTS


def check_signature(artifact: Artifact, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, tuple]) -> None:
    """Raise ZerosegError unless a network has the inputs and outputs above, with the sidecar's embedding size.

    inputs, outputs: TensorSpec and shape by name; a size that is not fixed is a str.
    """
    wanted, sidecar = outputs_of(artifact.sidecar), artifact.sidecar
    if "label_embeddings" in inputs and "label_map" not in outputs:
        raise ZerosegError(
            f"{artifact.path}: an older network, which takes the labels as an input; export it again: "
            "zeroseg-export model.pt --onnx"
        )
    missing = [name for name in (IMAGE,) if name not in inputs] + [name for name in wanted if name not in outputs]
    if missing:
        raise ZerosegError(f"{artifact.path}: not a zeroseg network, it has no {', '.join(missing)}")
    size = outputs["image_embedding"][-1]
    if isinstance(size, int) and size != sidecar.embedding_dim:
        raise ZerosegError(
            f"{artifact.path}: gives embeddings of {size} numbers, but its sidecar says {sidecar.embedding_dim}"
        )
