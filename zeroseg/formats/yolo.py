"""YOLO segmentation: data.yaml, and a line per part, "class x y x y ...", in fractions of the photo's width and height.

The format has neither holes nor objects of several parts. So each part is an object of its own, and holes are joined to
the outline. Readers truncate or round corners to whole pixels and fill with OpenCV, which includes the border. So each
corner is written as its pixel + 0.25: truncating and rounding then give the same pixel.
"""

import json
from pathlib import Path

import numpy as np

from zeroseg.formats.dataset import DatasetOptions, Place, Writer
from zeroseg.formats.photo import LabelledPhoto

_FRACTION = 0.25


class YoloWriter(Writer):
    """Writes images/train, images/val, labels/train, labels/val, data.yaml. Class ids are the labels' indices."""

    shapes = ("polygons",)
    splits = True
    val = 0.1

    def __init__(self, folder: Path, names: list[str], options: DatasetOptions):
        super().__init__(folder, names, options)
        self._splits = {"train": 0, "val": 0}
        for split in self._splits:
            (folder / "labels" / split).mkdir(parents=True)
            if options.photos:
                (folder / "images" / split).mkdir(parents=True)

    def photo_folder(self, split: str) -> Path:
        return Path("images", split)

    def add(self, photo: LabelledPhoto, place: Place) -> None:
        self._splits[place.split] += 1
        size = np.array(photo.size[::-1])
        lines = []
        for found in photo.found:
            for part in self.parts(found.mask):
                shares = pixel_corners(part.one_ring()) / size
                lines.append(" ".join([str(found.index), *(f"{share:.7f}" for share in shares.ravel())]) + "\n")
        path = self.folder / "labels" / place.split / f"{place.stem}.txt"
        path.write_text("".join(lines), encoding="utf-8", newline="\n")

    def close(self) -> None:
        train = "images/train" if self._splits["train"] else "images/val"
        val = "images/val" if self._splits["val"] else "images/train"  # trainers refuse an empty split
        names = "".join(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(self.names))
        text = f"train: {train}\nval: {val}\nnc: {len(self.names)}\nnames:\n{names}"
        (self.folder / "data.yaml").write_text(text, encoding="utf-8", newline="\n")


def pixel_corners(ring: np.ndarray) -> np.ndarray:
    """(n, 2) float64: the pixel of each corner, plus 0.25, without repeats of the corner before.

    If fewer than three would remain, all stay, because readers need three corners.
    """
    pixels = np.floor(ring)
    new = np.flatnonzero((pixels != np.roll(pixels, 1, 0)).any(1))
    pixels = pixels[new] if len(new) >= 3 else pixels
    return pixels + _FRACTION
