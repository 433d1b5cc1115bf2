"""A sheet of some evaluated photos: photo | mask | prediction, one per row, with the class names in their colours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zeroseg.evaluation.folders import MaskFolder
from zeroseg.evaluation.metrics import IGNORE

CELL_PX = 256
MARGIN_PX = 6
LEGEND_PX = 18
OPACITY = 0.7
NO_CLASS = (255, 0, 255)  # a name that is no class of the dataset


def class_palette(count: int) -> np.ndarray:
    """(count, 3) uint8 colours, VOC's: bit b of red, green, blue is bit 3i, 3i+1, 3i+2 of the id, from the top down."""
    ids, palette = np.arange(count), np.zeros((count, 3), np.uint8)
    for i in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * i + channel)) & 1) << (7 - i)).astype(np.uint8)
    return palette


def spread(count: int, wanted: int) -> set[int]:
    """`wanted` indices spread evenly over 0..count-1, chosen before any prediction is seen."""
    return set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist())


class Sheet:
    """Collects rows; pass `add` to evaluate(on_photo=...). picked: the photo indices that are drawn."""

    def __init__(self, dataset: MaskFolder, picked: set[int]):
        self.dataset, self.picked, self.rows = dataset, picked, []

    def add(self, index: int, photo: np.ndarray, truth: np.ndarray, answer: np.ndarray) -> None:
        """photo (H, W, 3) uint8; truth, answer (H, W) class ids, where answer C is a label that is not a class."""
        if index in self.picked:
            scale = CELL_PX / max(photo.shape[:2])
            size = tuple(max(1, round(side * scale)) for side in photo.shape[1::-1])
            shown = [
                Image.fromarray(ids.astype(np.uint8)).resize(size, Image.Resampling.NEAREST) for ids in (truth, answer)
            ]
            photo = Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)
            self.rows.append((self.dataset.photos[index].name, photo, *(np.asarray(ids) for ids in shown)))

    def draw(self) -> Image.Image:
        """The sheet, RGB; ValueError if no row was added."""
        if not self.rows:
            raise ValueError("sheet: expected at least one photo, got none")
        step = CELL_PX + MARGIN_PX
        heights = [row[1].height + LEGEND_PX + MARGIN_PX for row in self.rows]
        sheet = Image.new("RGB", (3 * step + MARGIN_PX, LEGEND_PX + sum(heights) + MARGIN_PX), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
        for c, title in enumerate(("photo", "mask", "answer")):
            draw.text((MARGIN_PX + c * step, 2), title, "black", font)
        top = LEGEND_PX
        for (name, photo, truth, answer), height in zip(self.rows, heights, strict=True):
            cells = (photo, self._blend(photo, truth), self._blend(photo, answer))
            for c, cell in enumerate(cells):
                sheet.paste(cell, (MARGIN_PX + c * step, top))
            draw.text((MARGIN_PX, top + photo.height + 2), name, "black", font)
            for c, ids in ((1, truth), (2, answer)):
                self._legend(draw, font, ids, MARGIN_PX + c * step, top + photo.height + 2)
            top += height
        return sheet

    def _colours(self) -> np.ndarray:
        colours = np.full((256, 3), 255, np.uint8)  # white: not counted
        count = len(self.dataset.classes)
        shift = 1 if self.dataset.background is None else 0  # the palette's first colour is black
        colours[:count] = class_palette(count + shift)[shift:]
        colours[count] = NO_CLASS
        return colours

    def _blend(self, photo: Image.Image, ids: np.ndarray) -> Image.Image:
        return Image.blend(photo, Image.fromarray(self._colours()[ids]), OPACITY)

    def _legend(self, draw, font, ids: np.ndarray, x: int, y: int) -> None:
        names = (*self.dataset.classes, "no class")
        end = x + CELL_PX
        for c in np.argsort(-np.bincount(ids[ids != IGNORE], minlength=1), kind="stable"):
            if not (ids == c).any() or c == self.dataset.background:
                continue
            width = 12 + draw.textlength(names[c], font) + 8
            if x + width > end:
                break
            draw.rectangle((x, y + 2, x + 9, y + 11), tuple(self._colours()[c].tolist()), "black")
            draw.text((x + 12, y), names[c], "black", font)
            x += width
