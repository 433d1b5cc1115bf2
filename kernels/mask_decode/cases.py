"""Shapes of mask_decode, read by its tests and its benchmark."""

from typing import NamedTuple


class Case(NamedTuple):
    segments: int  # K
    maps_size: tuple[int, int]  # (h, w)
    photo_size: tuple[int, int]  # (H, W)

    @property
    def bytes_moved(self) -> int:
        """Maps read once, label map and confidence written once."""
        return 4 * self.segments * self.maps_size[0] * self.maps_size[1] + 6 * self.photo_size[0] * self.photo_size[1]


CASES = {
    "one": Case(1, (1, 1), (1, 1)),
    "one_place": Case(8, (1, 1), (7, 5)),
    "one_pixel": Case(8, (4, 6), (1, 1)),
    "one_row": Case(3, (1, 9), (2, 31)),
    "prime": Case(7, (13, 11), (101, 97)),
    "downwards": Case(5, (40, 30), (17, 23)),
    "same_size": Case(8, (24, 32), (24, 32)),
    "many_segments": Case(67, (9, 14), (130, 71)),
    "vga": Case(8, (20, 27), (480, 640)),
    "full_hd": Case(8, (20, 36), (1080, 1920)),
}
# dense_decode: segments are labels
DENSE_CASES = {
    "one": Case(1, (1, 1), (1, 1)),
    "voc": Case(21, (14, 14), (97, 101)),
    "stuff": Case(171, (7, 11), (60, 83)),
}
MODEL_CASE = "vga"  # the shape that the bundled model meets most
