"""Where a person is inside a person's box: MediaPipe's selfie network on each box cut out of the photo."""

import numpy as np
from PIL import Image

from zeroseg.files import sha256
from zeroseg.training.teachers.onnx_network import OnnxNetwork
from zeroseg.training.teachers.part import Part, as_bytes

FILE = "selfie.onnx"
SIDE = 256  # px
GRID = 48  # cells per side of the cached map, over the whole photo
MOST_CUTS = 8  # boxes looked at, the surest
WIDER = 0.15  # of the box's sides, added on each side
PERSON = 0  # class number of COCO


class Persons(Part):
    """Array person (GRID, GRID) uint8: 255 where the network is sure; 0 outside nanodet's boxes of persons."""

    name, needs = "persons", ("nanodet",)

    def __init__(self, folder, least_score: float):
        self.network = OnnxNetwork(f"{folder}/{FILE}")
        self.least_score = least_score
        self.arrays = {"person": ((GRID, GRID), "uint8")}
        self.fingerprint = {"file": sha256(self.network.path), "score": least_score, "cut": [WIDER, MOST_CUTS]}

    def compute(self, image: Image.Image, photo_name: str, found) -> dict[str, np.ndarray]:
        boxes = found["nanodet"]["boxes"]
        boxes = boxes[(boxes[:, 4] > self.least_score) & (boxes[:, 5] == PERSON)][:MOST_CUTS]
        whole = np.zeros((image.height, image.width), np.float32)
        for box in boxes:
            cut = cut_box(box, image.size)
            if cut is None:
                continue
            pixels = image.crop(cut).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            person = self.network(image=np.asarray(pixels, np.float32)[None] / 255)["person"][0, :, :, 0]
            width, height = cut[2] - cut[0], cut[3] - cut[1]
            part = whole[cut[1] : cut[3], cut[0] : cut[2]]
            resized = np.asarray(Image.fromarray(person).resize((width, height), Image.Resampling.BILINEAR))
            np.maximum(part, resized, out=part)
        small = Image.fromarray(whole).resize((GRID, GRID), Image.Resampling.BOX)
        return {"person": as_bytes(np.asarray(small))}


def cut_box(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """A box (fractions) made WIDER, in whole pixels of a photo of size (width, height); None where it is tiny."""
    width, height = size
    x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    dx, dy = WIDER * (x1 - x0), WIDER * (y1 - y0)
    cut = (
        max(0, int(x0 - dx)),
        max(0, int(y0 - dy)),
        min(width, int(x1 + dx) + 1),
        min(height, int(y1 + dy) + 1),
    )
    return cut if cut[2] - cut[0] >= 4 and cut[3] - cut[1] >= 4 else None
