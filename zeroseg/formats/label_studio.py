"""Label Studio tasks with predictions, and the labelling interface that goes with them.

Polygon corners are in percent of the photo's size. Polygons cannot have holes, so these are joined to the outline.
Brush masks are exact: RGBA pixels with four equal channels, in the run lengths of thi.ng's rle-pack, which Label
Studio's page and SDK read. They are packed here because the SDK needs OpenCV, pandas, NLTK and an older NumPy.
"""

from pathlib import Path
from urllib.parse import quote

import numpy as np

from zeroseg import drawing
from zeroseg.formats.dataset import DatasetOptions, JsonArray, Place, Writer
from zeroseg.formats.photo import Found, LabelledPhoto
from zeroseg.formats.xml_text import XmlFile

_CHANNELS = 4
_WORD_BITS = 8
_RUN_BITS = (3, 4, 8, 16)  # possible widths of a run length


class LabelStudioWriter(Writer):
    """Writes tasks.json, interface.xml and images/.

    A photo's address is /data/local-files/?d=images/NAME. Label Studio serves it with LOCAL_FILES_SERVING_ENABLED=true
    and LOCAL_FILES_DOCUMENT_ROOT set to this folder. If photos are not copied, the address is the original name.
    """

    def __init__(self, folder: Path, names: list[str], options: DatasetOptions):
        super().__init__(folder, names, options)
        self._kind = "BrushLabels" if self.as_masks else "PolygonLabels"
        with open(folder / "interface.xml", "w", encoding="utf-8", newline="\n") as file:
            xml = XmlFile(file, declared=False)  # it is pasted as text, which must not declare an encoding
            with xml.inside("View"):
                xml.leaf("Image", name="image", value="$image", zoom="true")
                with xml.inside(self._kind, name="label", toName="image"):
                    for name, color in zip(names, drawing.label_colors(names).tolist(), strict=True):
                        xml.leaf("Label", value=name, background="#" + bytes(color).hex())
        self._file = open(folder / "tasks.json", "w", encoding="utf-8", newline="\n")
        self._tasks = JsonArray(self._file)

    def photo_folder(self, split: str) -> Path:
        return Path("images")

    def add(self, photo: LabelledPhoto, place: Place) -> None:
        address = f"/data/local-files/?d=images/{quote(place.file)}" if self.options.photos else photo.name
        regions = [region for found in photo.found for region in self._regions(found, photo)]
        for number, region in enumerate(regions):
            region["id"] = f"{place.number}-{number}"
        self._tasks.add({"data": {"image": address}, "predictions": [{"model_version": "zeroseg", "result": regions}]})

    def _regions(self, found: Found, photo: LabelledPhoto) -> list[dict]:
        height, width = photo.size
        about = {
            "from_name": "label",
            "to_name": "image",
            "type": self._kind.lower(),
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": round(found.score, 6),
        }
        label = {self._kind.lower(): [self.names[found.index]]}
        if self.as_masks:
            return [{**about, "value": {"format": "rle", "rle": packed(255 * found.mask), **label}}]
        rings = [part.one_ring() * (100 / width, 100 / height) for part in self.parts(found.mask)]
        return [{**about, "value": {"points": ring.round(6).tolist(), "closed": True, **label}} for ring in rings]

    def close(self) -> None:
        with self._file:
            self._tasks.end()


def packed(grey: np.ndarray) -> list[int]:
    """Encode (H, W) uint8 by rle-pack, as RGBA with four equal channels; return the bytes.

    Header: the number of values (32 bits), bits per value - 1 (5 bits), the four widths of run lengths - 1 (4 bits
    each). Each run: a 1 bit, the index of its width (2 bits), its length - 1, and its value.
    """
    across = np.ascontiguousarray(grey).ravel()
    bounds = np.concatenate(([0], np.flatnonzero(across[1:] != across[:-1]) + 1, [across.size]))
    bits = [f"{across.size * _CHANNELS:032b}{_WORD_BITS - 1:05b}", *(f"{width - 1:04b}" for width in _RUN_BITS)]
    for start, length in zip(bounds[:-1], np.diff(bounds) * _CHANNELS, strict=True):
        value, left = f"{across[start]:0{_WORD_BITS}b}", int(length)
        while left:
            run = min(left, 1 << _RUN_BITS[-1])
            which = next(i for i, width in enumerate(_RUN_BITS) if run <= 1 << width)
            bits.append(f"1{which:02b}{run - 1:0{_RUN_BITS[which]}b}{value}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
