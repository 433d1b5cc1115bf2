"""Shapes of tint, read by its tests and its benchmark."""

from typing import NamedTuple


class Case(NamedTuple):
    size: tuple[int, int]  # (H, W)
    labels: int
    outline_px: int

    @property
    def bytes_moved(self) -> int:
        """Photo and 16-bit labels read once, picture written once."""
        return 8 * self.size[0] * self.size[1]


CASES = {
    "one": Case((1, 1), 1, 1),
    "row": Case((1, 37), 3, 2),
    "column": Case((37, 1), 3, 2),
    "prime": Case((101, 97), 5, 3),
    "reach_beyond": Case((7, 5), 2, 9),
    "no_outline": Case((33, 65), 4, 0),
    "many_labels": Case((64, 80), 1200, 1),
    "vga": Case((480, 640), 20, 2),
    "full_hd": Case((1080, 1920), 20, 5),
}
MODEL_CASE = "vga"
