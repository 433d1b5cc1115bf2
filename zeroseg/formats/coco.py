"""COCO instances JSON: every label on a photo is one annotation.

COCO polygons cannot have holes, so each hole is joined to the outline. Masks are exact: compressed run lengths with
iscrowd 0, which pycocotools and its users read.
"""

import json
from pathlib import Path

from zeroseg.formats.dataset import DatasetOptions, JsonArray, Place, Writer
from zeroseg.formats.photo import LabelledPhoto


class CocoWriter(Writer):
    """Writes annotations/instances_train.json, with a split also instances_val.json, and images/.

    A category's id is the label's index + 1. file_name is the file in images/, or the original name without photos.
    """

    splits = True

    def __init__(self, folder: Path, names: list[str], options: DatasetOptions):
        super().__init__(folder, names, options)
        (folder / "annotations").mkdir()
        self._annotations = 0
        self._images: dict[str, list[dict]] = {}
        self._files: dict[str, tuple] = {}
        self._open("train")

    def _open(self, split: str) -> JsonArray:
        if split not in self._files:
            path = self.folder / "annotations" / f"instances_{split}.json"
            file = open(path, "w", encoding="utf-8", newline="\n")
            categories = [{"id": i + 1, "name": name, "supercategory": ""} for i, name in enumerate(self.names)]
            about = {"info": {"description": "labelled by zeroseg"}, "licenses": [], "categories": categories}
            file.write(json.dumps(about, ensure_ascii=False)[:-1] + ',\n"annotations": ')
            self._files[split] = file, JsonArray(file)
            self._images[split] = []
        return self._files[split][1]

    def photo_folder(self, split: str) -> Path:
        return Path("images")

    def add(self, photo: LabelledPhoto, place: Place) -> None:
        annotations = self._open(place.split)
        height, width = photo.size
        image_id = place.number + 1
        self._images[place.split].append({"id": image_id, "file_name": place.file, "height": height, "width": width})
        for found in photo.found:
            self._annotations += 1
            annotations.add(
                {
                    "id": self._annotations,
                    "image_id": image_id,
                    "category_id": found.index + 1,
                    "segmentation": found.rle if self.as_masks else self._polygons(found),
                    "area": found.area_px,
                    "bbox": list(found.box),
                    "iscrowd": 0,
                    "score": round(found.score, 6),
                }
            )

    def _polygons(self, found) -> list[list[float]]:
        return [part.one_ring().ravel().tolist() for part in self.parts(found.mask)]

    def close(self) -> None:
        for split, (file, annotations) in self._files.items():
            with file:
                annotations.end()
                file.write(f',\n"images": {json.dumps(self._images[split], ensure_ascii=False)}}}\n')
