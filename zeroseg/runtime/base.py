"""What every back end offers: run(feed) -> dict of arrays, inputs() -> what it wants.

The network's face is the same in every file format:

    image             (B, 3, H, W) float32, RGB, normalised; H and W multiples of the sidecar's input.multiple
    label_embeddings  (N, D) float32, unit rows, any N >= 1
    segment_maps      (B, K, h, w) float32, soft assignment of places to segments, sums to 1 over K, h = H / stride
    segment_scores    (B, K, N) float32, comparable with the sidecar's threshold, higher is better
    image_scores      (B, N) float32

A network without segments (its sidecar has `dense`, zeroseg/dense) is run on windows of a photo, takes any sides that
are multiples of the sidecar's stride, and gives instead of the two segment outputs

    place_scores      (B, N, h, w) float32, the cosine of every place and label; h = H / stride
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import numpy as np

from zeroseg.artifact import Artifact, Sidecar
from zeroseg.errors import UnavailableError, ZerosegError, check_array
from zeroseg.kernels._threads import available_threads, set_threads

INPUTS = ("image", "label_embeddings")
OUTPUTS = ("segment_maps", "segment_scores", "image_scores")
DENSE_OUTPUTS = ("place_scores", "image_scores")
RUNNERS = {  # backend -> module and class; a class may serve several, its artifact says which
    "onnxruntime": "ort_runner:OrtRunner",
    "onnxruntime-cuda": "ort_runner:OrtRunner",
    "onnxruntime-tensorrt": "ort_runner:OrtRunner",
    "openvino": "openvino_runner:OpenVinoRunner",
    "torch": "torch_runner:TorchRunner",
    "torch-cuda": "torch_runner:TorchRunner",
    "torch-compile": "torch_fast_runners:CompiledRunner",
    "torch-cuda-graphs": "torch_fast_runners:CudaGraphRunner",
    "tensorrt": "trt_runner:TrtRunner",
}


class TensorSpec(NamedTuple):
    """One input: an int is a fixed size, a str a free one."""

    shape: tuple[int | str, ...]
    dtype: str


class Runner(ABC):
    """A network ready to run. Subclasses implement inputs() and _run()."""

    backend: str  # the name users choose it by
    multiple: int = 1  # of an image's sides, px

    @abstractmethod
    def inputs(self) -> dict[str, TensorSpec]:
        """Name -> what run() accepts."""

    @abstractmethod
    def _run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """run() after the checks."""

    @property
    def largest_batch(self) -> int | None:
        """Most images that run() takes at once; None for any number."""
        return None

    @property
    def can_decode(self) -> bool:
        """Whether decode() runs: whether masks can be decoded where the network runs, without its maps coming here."""
        return False

    def _decode(self, feed: Mapping[str, np.ndarray], size: tuple[int, int], threshold: float):
        """decode() after the checks."""
        raise UnavailableError(f"back end {self.backend} does not decode masks itself: use run() and mask_decode")

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Feed arrays by name, get arrays by name. Raises ValueError when a name, shape or dtype is not inputs()'s."""
        self._check_feed(feed)
        outputs = self._run(feed)
        _check_outputs(outputs, len(feed["image"]), len(feed["label_embeddings"]))
        return outputs

    def decode(self, feed: Mapping[str, np.ndarray], size: tuple[int, int], threshold: float) -> dict[str, np.ndarray]:
        """run() and mask_decode in one, for batches of photos of one size; only where can_decode.

        size       (H, W) of the label maps, each >= 1.
        threshold  segments whose best score is below it are background.

        Returns label_map (B, H, W) int16, confidence (B, H, W) float32 (the winning segment's map), segment_labels
        (B, K) int32, segment_scores (B, K, N) and image_scores (B, N) float32. Raises as run().
        """
        self._check_feed(feed)
        height, width = (int(side) for side in size)
        if height < 1 or width < 1 or len(feed["label_embeddings"]) > 32767:
            raise ValueError(
                f"size: expected (H, W) of at least 1 x 1 and at most 32767 labels, got {tuple(size)} and "
                f"{len(feed['label_embeddings'])}"
            )
        return self._decode(feed, (height, width), float(threshold))

    def _check_feed(self, feed: Mapping[str, np.ndarray]) -> None:
        specs = self.inputs()
        if feed.keys() != specs.keys():
            raise ValueError(f"feed: expected {sorted(specs)}, got {sorted(feed)}")
        for name, spec in specs.items():
            check_array(name, feed[name], spec.shape, spec.dtype)
        if not len(feed["label_embeddings"]):
            raise ValueError(f"label_embeddings: expected at least one row, got {feed['label_embeddings'].shape}")
        if any(side % self.multiple or not side for side in feed["image"].shape[2:]):
            raise ValueError(
                f"image: expected sides that are multiples of {self.multiple}, got {feed['image'].shape[2:]}"
            )


def _check_outputs(outputs: Mapping[str, np.ndarray], batch: int, labels: int) -> None:
    """A file can declare our face and compute something else; ValueError names what came out."""
    check_array("image_scores from the network", outputs["image_scores"], (batch, labels), "float32")
    if "place_scores" in outputs:
        check_array("place_scores from the network", outputs["place_scores"], (batch, labels, "h", "w"), "float32")
        return
    check_array("segment_maps from the network", outputs["segment_maps"], (batch, "K", "h", "w"), "float32")
    segments = outputs["segment_maps"].shape[1]
    check_array("segment_scores from the network", outputs["segment_scores"], (batch, segments, labels), "float32")


def outputs_of(sidecar: Sidecar) -> tuple[str, ...]:
    """What the network of this sidecar gives."""
    return OUTPUTS if sidecar.dense is None else DENSE_OUTPUTS


def check_face(artifact: Artifact, inputs: Mapping[str, TensorSpec], outputs: list[str]) -> None:
    """Raise ZerosegError unless the network has the face above, with the sidecar's embedding size."""
    wanted = outputs_of(artifact.sidecar)
    missing = [name for name in INPUTS if name not in inputs] + [name for name in wanted if name not in outputs]
    if missing:
        raise ZerosegError(f"{artifact.path}: not a zeroseg network, it has no {', '.join(missing)}")
    size = inputs["label_embeddings"].shape[-1]
    if size not in (artifact.sidecar.embedding_dim,) and isinstance(size, int):
        raise ZerosegError(
            f"{artifact.path}: takes label embeddings of {size} numbers, its description says "
            f"{artifact.sidecar.embedding_dim}"
        )


def open_runner(artifact: Artifact, threads: int | None = None) -> Runner:
    """The runner of the artifact's back end. UnavailableError, with the reason and what would run, if it cannot here.

    threads  CPU threads for the network and, process-wide, for the kernels around it; None for all there are.
    """
    if threads is not None and threads < 1:
        raise ZerosegError(f"threads: expected at least 1, got {threads}")
    set_threads(threads)
    threads = threads or available_threads()
    module, name = RUNNERS[artifact.backend].split(":")
    runner, sidecar = getattr(import_module(f"zeroseg.runtime.{module}"), name)(artifact, threads), artifact.sidecar
    runner.multiple = sidecar.input.multiple if sidecar.dense is None else sidecar.stride
    return runner
