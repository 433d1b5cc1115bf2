"""Shapes of best_products, read by its tests and its benchmark."""

from typing import NamedTuple

import numpy as np

from zeroseg.kernels.best_products import PRODUCT_MAX


class Case(NamedTuple):
    groups: int
    most: int  # vectors in a group; a group has 1 to that many
    dims: int
    directions: int

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arguments of best_products: any vectors, two before the first group and one after the last, and the largest
        directions allowed."""
        first = np.r_[2, 2 + np.cumsum(random.integers(1, self.most + 1, self.groups))].astype(np.int64)
        vectors = random.integers(-128, 128, (first[-1] + 1, self.dims), np.int8)
        most = min(32767, PRODUCT_MAX // (128 * max(1, self.dims)))
        return vectors, first, random.integers(-most, most + 1, (self.directions, self.dims)).astype(np.int16)


CASES = {
    "one": Case(1, 1, 1, 1),
    "no_groups": Case(0, 1, 16, 2),
    "no_dims": Case(3, 2, 0, 2),
    "no_directions": Case(3, 2, 16, 0),
    "odd": Case(37, 5, 29, 3),
    "model": Case(20_000, 8, 80, 2),
}
MODEL_CASE = "model"
