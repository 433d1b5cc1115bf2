"""LabelMe JSON, one file beside each photo, with a polygon per part or a mask per label.

Polygons cannot have holes, so these are joined to the outline. Parts of one label share a group_id. LabelMe truncates
corners to whole pixels and includes the border, as YOLO's readers do. A mask is exact: a PNG of the label's box.
"""

import base64
import io
from pathlib import Path

from PIL import Image

from zeroseg.formats.dataset import Place, Writer, write_json
from zeroseg.formats.photo import Found, LabelledPhoto
from zeroseg.formats.yolo import pixel_corners

VERSION = "5.5.0"  # of LabelMe, the first that reads and writes masks this way


class LabelMeWriter(Writer):
    """Writes NAME.json and the photo into one folder, and labels.txt for `labelme --labels`."""

    def photo_folder(self, split: str) -> Path:
        return Path(".")

    def add(self, photo: LabelledPhoto, place: Place) -> None:
        shapes = [shape for group, found in enumerate(photo.found) for shape in self._shapes(found, group)]
        document = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": place.file,
            "imageData": None,
            "imageHeight": photo.size[0],
            "imageWidth": photo.size[1],
        }
        write_json(self.folder / f"{place.stem}.json", document)

    def _shapes(self, found: Found, group: int) -> list[dict]:
        about = {
            "label": self.names[found.index],
            "description": f"score {found.score:.3f}",
            "group_id": None,
            "flags": {},
            "mask": None,
        }
        if self.as_masks:
            x, y, width, height = found.box
            buffer = io.BytesIO()
            Image.fromarray(found.mask[y : y + height, x : x + width].astype(bool)).save(buffer, "PNG")
            mask = base64.b64encode(buffer.getvalue()).decode("ascii")
            corners = [[x, y], [x + width - 1, y + height - 1]]
            return [{**about, "shape_type": "mask", "points": corners, "mask": mask}]
        parts = self.parts(found.mask)
        about["group_id"] = group if len(parts) > 1 else None
        return [{**about, "shape_type": "polygon", "points": pixel_corners(part.one_ring()).tolist()} for part in parts]

    def close(self) -> None:
        (self.folder / "labels.txt").write_text("".join(f"{name}\n" for name in self.names), encoding="utf-8")
