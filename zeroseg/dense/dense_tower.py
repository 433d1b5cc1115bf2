"""The dense form of an image tower: what every kind in `towers` shares.

B batch, L tokens, C width, D embedding size, h x w patches.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from zeroseg.dense import proxy
from zeroseg.dense.reading import Layout
from zeroseg.dense.readings import DEFAULT, ORDINARY, READINGS, reading_named
from zeroseg.errors import ZerosegError

LEVELS = tuple(name for name, reading in READINGS.items() if reading.levels)  # want a class token and like blocks

LEAST_BLOCKS = 3


class DenseTower(nn.Module):
    """A tower with patch embeddings. Evaluation mode, no gradients.

    patch, place: px, sides of a patch of the tower and of a place of the output, which differ with a helper.
    multiple: px, the window is a multiple of it.
    Subclasses define: `patch` px; `readings`, the supported names; stem(image) -> (B, L, C) tokens before the last
    block; `last`, the block; pooled(x, layout), place_head(x, layout). stem(image, levels) of towers that have readings
    of LEVELS also appends the tokens after each of its blocks to the list `levels`.
    """

    prefix = 0
    by_class_token = False  # whether the tower's own embedding is its class token
    readings = tuple(name for name in READINGS if name not in LEVELS)
    why = "it has no class token, or too few blocks"
    export_friendly = False  # True: nothing may depend on the image's size, which is a symbol then

    def __init__(self, visual: nn.Module, patch: int):
        super().__init__()
        self.visual, self.patch, self.place, self.multiple = visual, patch, patch, patch
        self.reading, self.helper = None, None

    def prepare(self, reading: str | None, window: int | None, helper: nn.Module | None = None) -> "DenseTower":
        """Choose the reading (None: the best that this tower supports), or the helper that replaces it, and the
        window's side in px (None: the tower's own, rounded down to a multiple).
        """
        if helper is not None:
            self._take_helper(helper)
        elif reading is None:
            plain = [name for name in self.readings if name not in LEVELS]
            reading = DEFAULT if DEFAULT in self.readings and self.by_class_token else plain[-1]
        if helper is None:
            if reading not in self.readings:
                reading_named(reading)
                raise ZerosegError(
                    f"reading {reading!r}: is not possible for this tower ({self.why}); use "
                    f"{' or '.join(self.readings)}"
                )
            self.reading = reading
        if window is None:
            window = max(1, self.own_window() // self.multiple) * self.multiple
        if window % self.multiple or window < self.multiple:
            whose = "this tower's patch" if self.multiple == self.patch else "the patches of tower and helper,"
            raise ZerosegError(f"window: expected a multiple of {whose} of {self.multiple} pixels, got {window}")
        self.window = window
        self.layout = Layout(self.prefix, (window // self.patch, window // self.patch))
        return self.eval().requires_grad_(False)

    def own_window(self) -> int:
        """px, the side of the images that the tower was trained on."""
        size = self.visual.image_size
        return int(size[0] if isinstance(size, (tuple, list)) else size)

    def _take_helper(self, helper) -> None:
        if "clearclip" not in self.readings:  # nothing after the block mixes patches
            raise ZerosegError(f"helper: is not possible for this tower ({self.why}); leave it out")
        self.helper, self.reading, self.place = helper, proxy.NAME, helper.patch
        self.multiple = math.lcm(self.patch, helper.patch)

    def _read_blocks(self, kind, blocks, class_token: bool) -> None:
        """Take the last block of a plain ViT, and where LEVELS make sense the one before it."""
        self.last = kind(blocks[-1])
        if class_token and len(blocks) >= LEAST_BLOCKS:
            self.before, self.readings = kind(blocks[-2]), tuple(READINGS)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """image (B, 3, H, W), normalised -> places (B, h, w, D) and embedding (B, D); unit vectors.

        H and W are multiples of the patch; those of the window are what the tower is used at.
        """
        layout, levels = self.layout_of(image), []
        before = self.stem(image, levels) if self.reading in LEVELS else self.stem(image)
        embedding = self.pooled(self.last(before, ORDINARY, layout), layout)
        if self.helper is None:
            read, grid = self.read(before, levels, layout), layout.grid
        else:
            features, grid = self.helper(image, self.export_friendly)
            read = self.last(before, proxy.proxy(features, grid), layout)
        return units(self.place_head(read, layout), embedding, grid)

    def read(self, before: torch.Tensor, levels: list[torch.Tensor], layout: Layout) -> torch.Tensor:
        """Tokens (B, L, C) before the last block, and those after each earlier one for readings of LEVELS -> the
        patches' tokens (B, h w, C) for the head.
        """
        reading = READINGS[self.reading]
        if reading.levels:
            return reading.levels(self.last, self.before, levels, layout, self.prefix)
        return self.last(before, reading, layout)[:, self.prefix :]

    def layout_of(self, image: torch.Tensor) -> Layout:
        height, width = image.shape[2:]
        return Layout(self.prefix, (height // self.patch, width // self.patch))


def units(places: torch.Tensor, embedding: torch.Tensor, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """places (B, h w, D) -> unit vectors (B, h, w, D); embedding (B, D) -> unit vectors."""
    return F.normalize(places, dim=-1).unflatten(1, grid), F.normalize(embedding, dim=-1)


def through(blocks, x: torch.Tensor, levels: list | None) -> torch.Tensor:
    """x after all blocks; what each gives is appended to levels."""
    for block in blocks:
        x = block(x)
        if levels is not None:
            levels.append(x)
    return x
