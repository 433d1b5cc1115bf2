"""Boxes of COCO's 80 things: two small detectors, each with its own conventions, suppressed per class."""

import numpy as np
import torch
from PIL import Image

from zeroseg.files import sha256
from zeroseg.training.teachers.onnx_network import OnnxNetwork
from zeroseg.training.teachers.part import Part

MOST_BOXES = 32  # kept per photo and detector, the surest
OVERLAP = 0.6  # boxes of one class that overlap more (IoU) are one
BGR_MEAN, BGR_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
STRIDES, BINS = (8, 16, 32), 11


class Detector(Part):
    """Array boxes (MOST_BOXES, 6) float32: x0, y0, x1, y1 in fractions of the photo, score, class 0 ... 79; the surest
    first, unused rows have score 0."""

    file: str
    side: int  # px, of the square input

    def __init__(self, folder, least_score: float):
        self.network = OnnxNetwork(f"{folder}/{self.file}")
        self.least_score = least_score
        self.arrays = {"boxes": ((MOST_BOXES, 6), "float32")}
        self.fingerprint = {"file": sha256(self.network.path), "score": least_score, "overlap": OVERLAP}

    def compute(self, image: Image.Image, photo_name: str, found) -> dict[str, np.ndarray]:
        pixels, width, height = fit(image, self.side)
        boxes = self.detect(pixels, width, height)
        scale = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes[:, :4] = (boxes[:, :4] / scale).clamp(0, 1)
        boxes = suppress(boxes)[:MOST_BOXES]
        out = np.zeros((MOST_BOXES, 6), np.float32)
        out[: len(boxes)] = boxes.numpy()
        return {"boxes": out}

    def detect(self, pixels: np.ndarray, width: int, height: int) -> torch.Tensor:
        """pixels (side, side, 3) float32 RGB 0 ... 255, the photo in the first height rows and width columns ->
        (M, 6) float32 boxes in pixels, before suppression."""
        raise NotImplementedError


class NanoDet(Detector):
    """NanoDet-g at 416 px: sides as distributions over 11 distances (generalised focal loss)."""

    name, file, side = "nanodet", "nanodet.onnx", 416

    def detect(self, pixels, width, height):
        values = np.zeros((self.side, self.side, 3), np.float32)
        values[:height, :width] = (pixels[:height, :width, ::-1] - BGR_MEAN) / BGR_STD
        out = self.network(image=values.transpose(2, 0, 1)[None])
        found = [
            decode_sides(out[f"scores_{stride}"][0], out[f"sides_{stride}"][0], stride, self.side, self.least_score)
            for stride in STRIDES
        ]
        return torch.cat(found)


class CenterNet(Detector):
    """CenterNet on MobileNetV3 at 512 px: a hundred boxes as they are."""

    name, file, side = "centernet", "centernet.onnx", 512

    def detect(self, pixels, width, height):
        boxes = torch.from_numpy(self.network(image=pixels[None])["detections"][0])
        return boxes[boxes[:, 4] > self.least_score].clone()


DETECTORS = {kind.name: kind for kind in (NanoDet, CenterNet)}


def fit(image: Image.Image, side: int) -> tuple[np.ndarray, int, int]:
    """The photo resized to fit a square, zeros at the right and bottom: (side, side, 3) float32 RGB 0 ... 255, and the
    width and height in px that it takes."""
    scale = side / max(image.size)
    width, height = (max(1, min(side, round(length * scale))) for length in image.size)
    out = np.zeros((side, side, 3), np.float32)
    out[:height, :width] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return out, width, height


def decode_sides(scores: np.ndarray, sides: np.ndarray, stride: int, side: int, least: float) -> torch.Tensor:
    """scores (g * g, 80) probabilities and sides (g * g, 4 * 11) logits of one stride -> (M, 6) boxes in px.

    The distance from a place's centre to the left, top, right and bottom is stride * sum_k k softmax(logits)_k.
    """
    grid = side // stride
    scores, sides = torch.from_numpy(scores), torch.from_numpy(sides)
    place, kind = torch.nonzero(scores > least, as_tuple=True)
    steps = torch.arange(BINS, dtype=torch.float32)
    reach = (sides[place].view(-1, 4, BINS).softmax(dim=-1) * steps).sum(dim=-1) * stride
    x, y = (place % grid + 0.5) * stride, (place // grid + 0.5) * stride
    corners = torch.stack([x - reach[:, 0], y - reach[:, 1], x + reach[:, 2], y + reach[:, 3]], dim=1)
    return torch.cat([corners, scores[place, kind][:, None], kind[:, None].float()], dim=1)


def suppress(boxes: torch.Tensor) -> torch.Tensor:
    """Of overlapping boxes (M, 6) of one class the surest; the surest first."""
    from torchvision.ops import batched_nms

    return boxes[batched_nms(boxes[:, :4], boxes[:, 4], boxes[:, 5].long(), OVERLAP)]
