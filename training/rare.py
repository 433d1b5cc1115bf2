"""Repeat photos of rare names, so that a few hundred photos of dogs do not hide six of toothbrushes.

Repeat-factor sampling (Gupta, Dollar and Girshick 2019, LVIS, section 4.3): with f the share of the photos that have a
name, a photo is taken max over its names of max(1, sqrt(share / f)) times per epoch. Here a photo has a name where the
target of one of its cells lies along the name's direction by at least PRESENT.
"""

import numpy as np
import torch

PRESENT = 0.4  # product of a cell's target with a name's unit direction
MOST = 5.0  # times that a photo is taken per epoch, at most
_BLOCK = 128  # photos whose products are in memory at once


def names_present(dense: np.ndarray, rows: np.ndarray, names: torch.Tensor) -> np.ndarray:
    """(n, N) bool: which of N names each of n photos has.

    dense  (photos, g, g, D) float16 targets. rows  (n,) int64 photos. names  (N, D) float32 unit directions.
    """
    found = []
    for start in range(0, len(rows), _BLOCK):
        cells = torch.from_numpy(dense[rows[start : start + _BLOCK]]).float().flatten(1, 2)
        found.append((cells @ names.T).amax(1) >= PRESENT)
    return torch.cat(found).numpy()


def repeat_rare(rows: np.ndarray, present: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The rows (n,) int64, those of rare names several times; fractions of a repeat are drawn with the seed.

    present  (n, N) bool. share  names that fewer photos have are repeated, 0 to 1.
    """
    shares = present.mean(0)
    factors = np.sqrt(share / np.maximum(shares, 1 / len(rows))).clip(1, MOST)
    times = np.where(present, factors, 1.0).max(1)
    drawn = np.random.default_rng([seed, 9]).random(len(rows)) < times % 1
    return np.repeat(rows, times.astype(np.int64) + drawn)
