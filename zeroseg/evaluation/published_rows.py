"""Published mIoU on the eight sets, in the order and rounding in which papers print them. No row was reproduced here.

All rows are OV-Stitcher's table (arXiv 2604.08110, assets/quantitative.png of atw617/OV-Stitcher): methods without
training on OpenAI's CLIP ViT-B/16. SFP's printed mean is 44.0; its eight figures have the mean 43.8.
"""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = ("VOC21", "PC60", "Object", "VOC20", "City", "PC59", "ADE", "Stuff")
SOURCE = "OV-Stitcher, arXiv 2604.08110"


@dataclass(frozen=True)
class PublishedRow:
    """method; uses: what works beside CLIP ViT-B/16, "" for nothing; miou: in percent, as COLUMNS; mean: as printed."""

    method: str
    uses: str
    miou: tuple[float, ...]
    mean: float


def _row(method: str, uses: str, *figures: float) -> PublishedRow:
    return PublishedRow(method, uses, figures[:-1], figures[-1])


ROWS = (
    _row("CLIP", "", 18.6, 7.8, 6.5, 49.1, 6.7, 11.2, 3.2, 5.7, 13.6),
    _row("MaskCLIP", "", 43.4, 23.2, 20.6, 74.9, 24.9, 26.4, 11.9, 16.7, 30.3),
    _row("NACLIP", "", 58.9, 32.2, 33.2, 79.7, 35.5, 35.2, 17.4, 23.3, 39.4),
    _row("ResCLIP", "", 61.1, 33.5, 35.0, 86.0, 35.9, 36.8, 18.0, 24.7, 41.4),
    _row("ProxyCLIP", "DINO ViT-B/8", 61.3, 35.3, 37.5, 80.3, 38.1, 39.1, 20.2, 26.5, 42.3),
    _row("SC-CLIP", "", 64.6, 36.8, 37.7, 84.3, 41.0, 40.1, 20.1, 26.6, 43.9),
    _row("SFP", "", 62.9, 37.2, 37.9, 84.5, 41.1, 39.9, 20.8, 26.4, 44.0),
    _row("CASS", "DINO", 65.8, 36.7, 37.8, 87.8, 39.4, 40.2, 20.4, 26.7, 44.4),
    _row("Trident", "DINO, SAM", 67.1, 38.6, 41.1, 84.5, 42.9, 42.2, 21.9, 28.3, 45.8),
    _row("CorrCLIP", "DINO, SAM 2 masks", 72.2, 41.6, 40.7, 88.7, 44.6, 47.1, 23.7, 30.7, 48.7),
    _row("OV-Stitcher", "mask post-processing", 75.7, 43.9, 42.6, 89.8, 48.1, 48.8, 24.7, 31.8, 50.7),
)
