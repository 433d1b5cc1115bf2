"""CVAT for images 1.1: one XML file for all photos, with polygons or masks.

Polygons cannot have holes, so these are joined to the outline. Parts of one label share a group. A mask is exact: run
lengths of its box, row by row, where the first run is background.
"""

from pathlib import Path

import numpy as np

from zeroseg.formats.dataset import DatasetOptions, Place, Writer
from zeroseg.formats.photo import Found, LabelledPhoto
from zeroseg.formats.xml_text import XmlFile


class CvatWriter(Writer):
    """Writes annotations.xml and images/."""

    def __init__(self, folder: Path, names: list[str], options: DatasetOptions):
        super().__init__(folder, names, options)
        self._file = open(folder / "annotations.xml", "w", encoding="utf-8", newline="\n")
        self._xml = XmlFile(self._file)
        self._xml.open("annotations")
        self._xml.leaf("version", "1.1")
        with self._xml.inside("meta"), self._xml.inside("task"), self._xml.inside("labels"):
            for name in names:
                with self._xml.inside("label"):
                    self._xml.leaf("name", name)
                    self._xml.leaf("attributes")

    def photo_folder(self, split: str) -> Path:
        return Path("images")

    def add(self, photo: LabelledPhoto, place: Place) -> None:
        height, width = photo.size
        with self._xml.inside("image", id=place.number, name=place.file, width=width, height=height):
            for group, found in enumerate(photo.found, 1):
                about = {"label": self.names[found.index], "source": "auto", "occluded": 0}
                if self.as_masks:
                    self._xml.leaf("mask", **about, **_mask(found), z_order=0)
                    continue
                parts = self.parts(found.mask)
                about |= {"group_id": group} if len(parts) > 1 else {}
                for part in parts:
                    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in part.one_ring())
                    self._xml.leaf("polygon", **about, points=points, z_order=0)

    def close(self) -> None:
        with self._file:
            self._xml.close()


def _mask(found: Found) -> dict:
    x, y, width, height = found.box
    across = found.mask[y : y + height, x : x + width].ravel()
    edges = np.flatnonzero(across[1:] != across[:-1]) + 1
    runs = np.diff([0, *([0] if across[0] else []), *edges, across.size])
    return {"rle": ", ".join(map(str, runs)), "left": x, "top": y, "width": width, "height": height}
