"""Shapes of best_products, read by its tests and its benchmark."""

from typing import NamedTuple


class Case(NamedTuple):
    groups: int
    most: int  # vectors in a group; a group has 1 to that many
    dims: int
    directions: int


CASES = {
    "one": Case(1, 1, 1, 1),
    "no_groups": Case(0, 1, 16, 2),
    "no_dims": Case(3, 2, 0, 2),
    "no_directions": Case(3, 2, 16, 0),
    "odd": Case(37, 5, 29, 3),
    "model": Case(20_000, 8, 80, 2),
}
MODEL_CASE = "model"
