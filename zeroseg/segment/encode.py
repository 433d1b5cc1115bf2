"""Run the network on its input: one pass for a network with segments, windows for a dense one."""

from collections.abc import Mapping

import numpy as np

from zeroseg.dense.windows import embeddings_of_windows
from zeroseg.errors import ZerosegError
from zeroseg.runtime.base import Runner
from zeroseg.segment.encoded import Encoded, Places, Segments, as_stored
from zeroseg.sidecar import Sidecar


def encode_input(runner: Runner, sidecar: Sidecar, network_input: np.ndarray, **about) -> Encoded:
    """network_input (3, h, w) float32 -> Segments or Places; about: size, image and timings_ms of those.

    Raises ZerosegError if the network gives numbers that are not finite.
    """
    if sidecar.dense is None:
        return segments_of(runner.run(network_input[None]), sidecar, **about)
    dense = sidecar.dense
    embeddings, whole = embeddings_of_windows(runner, network_input, dense.window, dense.stride, sidecar.stride)
    return _checked(Places, sidecar, {"embeddings": embeddings, "image_embedding": whole}, about)


def segments_of(output: Mapping[str, np.ndarray], sidecar: Sidecar, **about) -> Segments:
    """The network's outputs for one image (B = 1) -> Segments; about and errors as for encode_input."""
    fields = {"maps": "segment_maps", "embeddings": "segment_embeddings", "image_embedding": "image_embedding"}
    return _checked(Segments, sidecar, {field: output[name][0] for field, name in fields.items()}, about)


def _checked(kind: type[Encoded], sidecar: Sidecar, fields: dict[str, np.ndarray], about: dict) -> Encoded:
    with np.errstate(over="ignore"):  # a value beyond float16 becomes infinite and is refused
        fields = {name: as_stored(array) for name, array in fields.items()}
    if not all(np.isfinite(array).all() for array in fields.values()):
        raise ZerosegError(
            f"model {sidecar.name} gave embeddings that are not finite or above 65504; the file may be damaged"
        )
    return kind(sidecar=sidecar, **about, **fields)
