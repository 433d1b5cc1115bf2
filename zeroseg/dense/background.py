"""The words that mean background for a dense network."""

import numpy as np

from zeroseg.sidecar import DenseInput
from zeroseg.words.pack import LabelPack


def with_background(dense: DenseInput, pack: LabelPack) -> np.ndarray:
    """(N + M, D) float32: the pack's vectors, then those of the background words that are not labels of the pack."""
    asked = {name.strip().lower() for name in pack.names}
    rows = [i for i, word in enumerate(dense.background) if word.lower() not in asked]
    return np.concatenate([pack.vectors, dense.background_vectors[rows]])
