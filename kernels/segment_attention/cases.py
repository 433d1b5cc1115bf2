"""Shapes of segment_attention, read by its tests and its benchmark."""

from typing import NamedTuple


class Case(NamedTuple):
    batch: int  # B
    tokens: int  # L
    groups: int  # S
    width: int  # C, of queries, keys and values alike
    value_width: int = 0  # D where it differs

    @property
    def values(self) -> int:
        return self.value_width or self.width

    def bytes_moved(self, element_size: int, maps: int = 1) -> int:
        """Queries, keys and values read once; groups, choices and float32 maps written once."""
        per_image = self.tokens * (self.width + self.values) + self.groups * (self.width + self.values)
        return self.batch * (element_size * per_image + self.tokens + 4 * maps * self.tokens * self.groups)

    @property
    def flops(self) -> int:
        """Multiply-adds of the two products count as two."""
        return 2 * self.batch * self.tokens * self.groups * (self.width + self.values)


CASES = {
    "one": Case(1, 1, 1, 1),
    "one_token": Case(2, 1, 8, 16),
    "one_group": Case(2, 37, 1, 16),
    "prime": Case(3, 101, 7, 31, 13),
    "off_block": Case(2, 65, 33, 65, 129),
    "tiles": Case(2, 128, 32, 64),
    "most_groups": Case(1, 70, 64, 48),
    "bundled_first": Case(1, 540, 32, 192),  # 640 x 480 through the bundled model
    "bundled_second": Case(1, 32, 8, 192),
    "paper_224": Case(2, 196, 32, 768),
}
# the shapes that the goals are stated for; too long for an interpreter
LARGE_CASES = {
    "narrow_448": Case(32, 784, 32, 384),
    "paper_448": Case(32, 784, 32, 768),
    "full_hd": Case(1, 2880, 32, 384),
}
