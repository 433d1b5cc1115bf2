"""Shapes of preprocess, read by its tests and its benchmark."""

from typing import NamedTuple

MEAN = (0.485, 0.456, 0.406)  # uneven on purpose: swapped channels must show
STD = (0.229, 0.224, 0.225)


class Case(NamedTuple):
    photo_size: tuple[int, int]  # (H, W)
    input_size: tuple[int, int]  # (h, w)

    @property
    def bytes_moved(self) -> int:
        """Photo read once, input written once."""
        return 3 * self.photo_size[0] * self.photo_size[1] + 12 * self.input_size[0] * self.input_size[1]


CASES = {
    "one": Case((1, 1), (1, 1)),
    "one_pixel": Case((1, 1), (16, 32)),
    "to_one": Case((7, 3), (1, 1)),
    "prime": Case((101, 97), (53, 61)),
    "enlarge": Case((31, 17), (64, 48)),
    "same_size": Case((64, 80), (64, 80)),
    "one_axis": Case((64, 80), (64, 33)),
    "thin": Case((3, 1000), (16, 512)),
    "vga": Case((480, 640), (320, 432)),
    "full_hd": Case((1080, 1920), (320, 576)),
}
MODEL_CASE = "vga"
