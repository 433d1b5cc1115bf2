"""The result for one photo, and its conversion to other formats."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from zeroseg import drawing
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.masks import bounding_box, encode_label_map

_LEGEND_PHOTO_PX = 200  # least long side of a photo over a legend
_COUNTED_AT_ONCE = 1 << 16  # pixels


class Region(NamedTuple):
    """A found label. score: of its best segment. area_px: in pixels; area: as a share of the photo, in [0, 1]."""

    label: str
    index: int
    score: float
    area_px: int
    area: float

    @property
    def score_text(self) -> str:
        """The score with two decimals, and no minus before a zero."""
        return f"{round(self.score, 2) + 0.0:.2f}"


@dataclass
class Segmentation:
    """The result for one photo, in the photo's own frame (after EXIF orientation).

    image           (H, W, 3) uint8 RGB, the photo; None if the segments were loaded without it.
    label_map       (H, W) int16, index into labels, -1 for background.
    confidence      (H, W) float32 in [0, 1], how surely the pixel belongs to its segment (not how certain the label
    is). labels          the N labels. segment_labels  (K,) int16, the label of each segment, -1 for background.
    segment_scores  (K, N) float32 in [-1, 1], every segment's score for every label; higher is better. It is a cosine.
                    The bundled model multiplies it by its confidence that the segment is a thing with a name, and
                    lowers it if the label's best segment scores much more.
    threshold       the score below which a segment became background.
    marks           per label "" (in the vocabulary), "~" (approximate) or "?" (a guess); nearest: the nearest known
                    words of an approximate label or a guess.
    timings_ms      milliseconds per stage: load, preprocess, network, decode.
    """

    image: np.ndarray | None
    label_map: np.ndarray
    confidence: np.ndarray
    labels: list[str]
    segment_labels: np.ndarray
    segment_scores: np.ndarray
    threshold: float
    model: str
    marks: list[str]
    nearest: list[list[str]]
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def approximate(self) -> list[bool]:
        """Per label, whether it is outside the vocabulary."""
        return [bool(mark) for mark in self.marks]

    @property
    def scores(self) -> np.ndarray:
        """(N,) float32: for every label the best score of any segment, found or not."""
        return self.segment_scores.max(0)

    @cached_property
    def found(self) -> list[Region]:
        """The labels with at least one pixel, largest area first."""
        areas = np.zeros(len(self.labels) + 1, np.int64)
        step = max(1, _COUNTED_AT_ONCE // max(1, self.label_map.shape[1]))
        for top in range(0, len(self.label_map), step):  # in strips: bincount widens its input to 64 bits
            areas += np.bincount(self.label_map[top : top + step].ravel() + 1, minlength=len(areas))
        regions = []
        for index in np.flatnonzero(areas[1:]):
            area_px = int(areas[index + 1])
            regions.append(
                Region(
                    self.labels[index], int(index), self.score_of(int(index)), area_px, area_px / self.label_map.size
                )
            )
        return sorted(regions, key=lambda region: -region.area_px)

    def score_of(self, index: int) -> float:
        """The score of a found label: that of its best segment."""
        return float(self.segment_scores[self.segment_labels == index, index].max())

    @cached_property
    def colors(self) -> np.ndarray:
        """(N, 3) uint8 RGB, the labels' colours; can be set, to keep colours that were shown before."""
        return drawing.label_colors(self.labels)

    def overlay(self, alpha: float = 0.5, legend: bool = True) -> Image.Image:
        """The photo with its segments tinted; alpha 0 (outlines only) to 1 (flat colour).

        The legend is below the photo and shows the `marks`. Above it, a photo of less than 200 pixels is enlarged by a
        whole factor. Without the legend the picture has the photo's size.
        """
        if self.image is None:
            raise ZerosegError("overlay: the image is missing; give it to load_segments(path, image)")
        image, label_map = self.image, self.label_map
        times = -(-_LEGEND_PHOTO_PX // max(label_map.shape)) if legend else 1
        if times > 1:  # repeat copies
            image, label_map = (x.repeat(times, 0).repeat(times, 1) for x in (image, label_map))
        picture = drawing.blend(image, label_map, self.colors, alpha)
        if not legend:
            return Image.fromarray(picture)
        entries = [(self.colors[r.index], f"{self.marks[r.index]}{r.label}  {r.score_text}") for r in self.found]
        return drawing.with_legend(picture, entries or [((24, 24, 24), "nothing found above the threshold")])

    def label_picture(self) -> Image.Image:
        """The label map as a palette picture: value 0 background, i + 1 label i."""
        return drawing.label_picture(self.label_map, self.colors)

    @cached_property
    def _run_lengths(self) -> dict[int, dict]:
        return encode_label_map(self.label_map)

    def to_coco(self, image_id: int = 0) -> list[dict]:
        """The found labels as COCO result entries, largest first; category_id is the label's index + 1.

        segmentation is compressed RLE as pycocotools reads it; bbox is (x, y, width, height) in pixels; mark as in
        `marks`.
        """
        return [
            {
                "image_id": image_id,
                "category_id": region.index + 1,
                "category": region.label,
                "segmentation": self._run_lengths[region.index],
                "area": region.area_px,
                "bbox": list(bounding_box(self.label_map == region.index)),
                "score": round(region.score, 6),
                "iscrowd": 0,
                "mark": self.marks[region.index],
            }
            for region in self.found
        ]

    def to_supervision(self):
        """The found labels as supervision.Detections: boxes, masks (n, H, W) bool, class_id = label index."""
        try:
            import supervision
        except ImportError as error:
            raise missing_extra("supervision", "supervision", "to_supervision()") from error
        height, width = self.label_map.shape
        masks = np.zeros((len(self.found), height, width), bool)
        for mask, region in zip(masks, self.found, strict=True):
            np.equal(self.label_map, region.index, out=mask)
        boxes = np.array([bounding_box(mask) for mask in masks], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return supervision.Detections(
            xyxy=boxes,
            mask=masks,
            confidence=np.array([region.score for region in self.found], np.float32),
            class_id=np.array([region.index for region in self.found], int),
            data={"class_name": np.array([region.label for region in self.found])},
        )

    def to_dict(self) -> dict:
        """Everything but the pixels, ready for JSON: size (H, W), labels, found (as to_coco), threshold, timings_ms."""
        return {
            "model": self.model,
            "threshold": self.threshold,
            "size": list(self.label_map.shape),
            "labels": [
                {
                    "name": name,
                    "score": round(float(score), 6),
                    "approximate": bool(mark),
                    "mark": mark,
                    "nearest": nearest,
                }
                for name, score, mark, nearest in zip(self.labels, self.scores, self.marks, self.nearest, strict=True)
            ],
            "found": self.to_coco(),
            "timings_ms": {stage: round(ms, 3) for stage, ms in self.timings_ms.items()},
        }


@dataclass
class DenseSegmentation(Segmentation):
    """A Segmentation without segments: every patch was compared with every label.

    confidence      (H, W) float32, the cosine of the best label or background word.
    segment_labels  (N,) int16, 0 ... N - 1; segment_scores (1, N) float32, every label's best patch.
    threshold       the cosine below which a pixel is background.
    place_scores    (N, h, w) float32, cosine of every patch and label.
    """

    place_scores: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))

    def score_of(self, index: int) -> float:
        return float(self.segment_scores[0, index])
