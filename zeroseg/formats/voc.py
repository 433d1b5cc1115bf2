"""Pascal VOC: palette PNGs of classes and of objects, one XML file of boxes per photo, and lists of photos.

The masks are exact. A pixel holds one class: 0 is background, i + 1 is the i-th label. 255 means void, so a list may
have up to 254 labels. Boxes count pixels from 1 and include the last one.
"""

from pathlib import Path

import numpy as np

from zeroseg import drawing
from zeroseg.formats.dataset import DatasetOptions, Place, Writer
from zeroseg.formats.photo import LabelledPhoto
from zeroseg.formats.xml_text import XmlFile


class VocWriter(Writer):
    """JPEGImages/, SegmentationClass/, SegmentationObject/, Annotations/, ImageSets/Segmentation/train.txt, val.txt;
    labelmap.txt with the labels' colours."""

    shapes = ("masks",)
    most_labels = 254
    splits = True
    jpeg_only = True

    def __init__(self, folder: Path, names: list[str], options: DatasetOptions):
        super().__init__(folder, names, options)
        self._colors = drawing.label_colors(names)
        for name in ("SegmentationClass", "SegmentationObject", "Annotations", "ImageSets/Segmentation"):
            (folder / name).mkdir(parents=True)
        self._lists = {
            split: open(folder / f"ImageSets/Segmentation/{split}.txt", "w", encoding="utf-8", newline="\n")
            for split in ("train", "val")
        }

    def photo_folder(self, split: str) -> Path:
        return Path("JPEGImages")

    def add(self, photo: LabelledPhoto, place: Place) -> None:
        self._lists[place.split].write(f"{place.stem}\n")
        classes, objects = np.full(photo.size, -1, np.int16), np.full(photo.size, -1, np.int16)
        for number, found in enumerate(photo.found):
            classes[found.mask > 0], objects[found.mask > 0] = found.index, number
        colors = self._colors[[found.index for found in photo.found]]
        for kind, label_map, palette in (("Class", classes, self._colors), ("Object", objects, colors)):
            picture = drawing.label_picture(label_map, palette)
            picture.save(self.folder / f"Segmentation{kind}" / f"{place.stem}.png")
        path = self.folder / "Annotations" / f"{place.stem}.xml"
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            self._boxes(XmlFile(file), photo, place)

    def _boxes(self, xml: XmlFile, photo: LabelledPhoto, place: Place) -> None:
        height, width = photo.size
        with xml.inside("annotation"):
            xml.leaf("folder", "JPEGImages")
            xml.leaf("filename", place.file)
            with xml.inside("source"):
                xml.leaf("annotation", "zeroseg")
            with xml.inside("size"):
                for tag, value in (("width", width), ("height", height), ("depth", 3)):
                    xml.leaf(tag, value)
            xml.leaf("segmented", 1)
            for found in photo.found:
                x, y, wide, high = found.box
                with xml.inside("object"):
                    for tag, value in (("name", self.names[found.index]), ("pose", "Unspecified")):
                        xml.leaf(tag, value)
                    for tag in ("truncated", "difficult"):
                        xml.leaf(tag, 0)
                    with xml.inside("bndbox"):
                        for tag, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + wide), ("ymax", y + high)):
                            xml.leaf(tag, value)

    def close(self) -> None:
        for file in self._lists.values():
            file.close()
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        lines += [
            f"{name}:{','.join(map(str, color))}::"
            for name, color in zip(self.names, self._colors.tolist(), strict=True)
        ]
        (self.folder / "labelmap.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
