"""The picture for viewers: the frame with its overlay, optionally with legend and statistics in its corners.

The legend is inside the picture, so that all frames of a video have the same size.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from zeroseg import drawing
from zeroseg.lettering import lettering
from zeroseg.segment.segmentation import Segmentation

JPEG_SIDE_MAX = 65_500  # px, libjpeg's limit
_PAPER, _INK = (16, 16, 16, 176), (240, 240, 240, 255)
_LINES_MAX = 16  # of a legend; the last one sums up the rest


def draw_frame(
    result: Segmentation, colors: np.ndarray, alpha: float, legend: bool = False, lines: Sequence[str] = ()
) -> np.ndarray:
    """Draw one result.

    colors (N, 3) uint8 of the labels, alpha in [0, 1]; lines of text go to the top right. Returns (H, W, 3) uint8.
    """
    picture = drawing.blend(result.image, result.label_map, colors, alpha) if alpha > 0 else result.image.copy()
    if legend and result.found:
        _lay(picture, legend_rows(result, colors), left=True)
    if lines:
        _lay(picture, [(None, line) for line in lines], left=False)
    return picture


def legend_rows(result: Segmentation, colors: np.ndarray) -> list[tuple[tuple[int, ...] | None, str]]:
    """A row per label that was found, largest first: its colour, and the marked name, score and area."""
    rows = [
        (tuple(int(c) for c in colors[r.index]), f"{result.marks[r.index]}{r.label}  {r.score_text}  {r.area:.0%}")
        for r in result.found
    ]
    if len(rows) > _LINES_MAX:
        rows[_LINES_MAX - 1 :] = [(None, f"and {len(rows) - _LINES_MAX + 1} more")]
    return rows


def _lay(picture: np.ndarray, rows, left: bool) -> None:
    """Blend a box of text onto a corner of (H, W, 3) uint8, in place."""
    height, width = picture.shape[:2]
    box = _box(tuple(rows), max(11, round(min(height, width) / 36)))
    box = box[:height, :width]
    rows_px, columns_px = box.shape[:2]
    place = picture[:rows_px, :columns_px] if left else picture[:rows_px, width - columns_px :]
    cover = box[..., 3:].astype(np.uint16)
    place[:] = (place * (255 - cover) + box[..., :3] * cover) // 255


@lru_cache(maxsize=8)
def _box(rows: tuple, size: int) -> np.ndarray:
    """The text box, (h, w, 4) uint8 RGBA; cached, because legends repeat from frame to frame."""
    letters = [lettering(text, size) for _, text in rows]
    gap, line = size // 2, round(size * 1.45)
    marked = any(color for color, _ in rows)
    indent = size + gap if marked else 0
    width = int(max(font.getlength(text) for text, font in letters)) + indent + 2 * gap
    box = Image.new("RGBA", (width, line * len(rows) + gap), _PAPER)
    draw = ImageDraw.Draw(box)
    for i, ((color, _), (text, font)) in enumerate(zip(rows, letters, strict=True)):
        y = gap // 2 + i * line
        if color:
            draw.rectangle((gap, y + line // 2 - size // 2, gap + size, y + line // 2 + size // 2), fill=(*color, 255))
        draw.text((gap + indent, y + line // 2), text, font=font, fill=_INK, anchor="lm")
    return np.asarray(box)


def to_jpeg(picture: np.ndarray, quality: int = 80) -> bytes:
    """Encode (H, W, 3) uint8 RGB; a picture with a side of more than JPEG_SIDE_MAX is scaled down to that."""
    import io

    data, image = io.BytesIO(), Image.fromarray(picture)
    if (largest := max(image.size)) > JPEG_SIDE_MAX:
        image = image.resize(
            [max(1, side * JPEG_SIDE_MAX // largest) for side in image.size], Image.Resampling.BILINEAR
        )
    image.save(data, "JPEG", quality=quality)
    return data.getvalue()
