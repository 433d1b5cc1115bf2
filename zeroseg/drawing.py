"""Drawing for people: colours, overlay, legend, label map, contact sheet.

Colours are hashed from the label text, so a label keeps its colour when the list changes. If two labels of a list get
the same colour, or the same hue while others are free, the later one takes its next choice. When a list changes while
it is shown, the labels already shown choose first.
"""

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from zeroseg.kernels.tint import tint
from zeroseg.lettering import lettering

# Okabe and Ito's seven, then the colours farthest from all before them for normal, protan and deutan eyes at once
# (Vienot 1999, CIELAB). tests/test_drawing.py holds the smallest distance.
PALETTE = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (0, 60, 255),
        (165, 255, 180),
        (60, 120, 255),
        (120, 255, 255),
        (180, 15, 45),
    ],
    np.uint8,
)
# over a photo two blues look alike, whatever their distance on paper: orange, blue, green, red, pink
_HUES = ("o", "b", "g", "o", "b", "r", "p", "b", "g", "b", "g", "r")
_STEPS = (1, 5, 7, 11)  # coprime to 12: each walks through the whole palette
CELL_PX = 320  # of a contact sheet
_PAPER, _INK = (24, 24, 24), (240, 240, 240)


def label_colors(labels: Sequence[str], kept: Mapping[str, Sequence[int]] | None = None) -> np.ndarray:
    """The (N, 3) uint8 RGB colours of N labels, all different for up to 36 of them.

    kept: the colours of labels that are already shown. They keep these, and the others choose among the rest.
    """
    if kept:
        return _choose(tuple(labels), kept)
    return _colors(tuple(labels)).copy()


@lru_cache(maxsize=8)
def _colors(labels: tuple[str, ...]) -> np.ndarray:
    """Remembered, as every frame asks again: 1,200 labels take milliseconds."""
    return _choose(labels, {})


def _choose(labels: tuple[str, ...], kept: Mapping[str, Sequence[int]]) -> np.ndarray:
    shades = [
        [tuple(color) for color in shade.tolist()]
        for shade in (PALETTE, (PALETTE * 0.6).astype(np.uint8), (PALETTE * 0.5 + 127).astype(np.uint8))
    ]
    chosen = {label: tuple(int(value) for value in kept[label]) for label in labels if label in kept}
    taken = set(chosen.values())
    colors = np.empty((len(labels), 3), np.uint8)
    for i, label in enumerate(labels):
        if label not in chosen:
            code = zlib.crc32(label.strip().lower().encode("utf-8", "backslashreplace"))
            first, step = code % len(PALETTE), _STEPS[code // len(PALETTE) % len(_STEPS)]
            walk = [(first + step * k) % len(PALETTE) for k in range(len(PALETTE))]
            hues = {hue for hue, color in zip(_HUES, shades[0]) if color in taken}
            new_hue = [shades[0][c] for c in walk if _HUES[c] not in hues]
            free = (shade[c] for shade in shades if not taken.issuperset(shade) for c in walk if shade[c] not in taken)
            chosen[label] = new_hue[0] if new_hue else next(free, shades[-1][first])
            taken.add(chosen[label])
        colors[i] = chosen[label]
    return colors


def blend(image: np.ndarray, label_map: np.ndarray, colors: np.ndarray, alpha: float) -> np.ndarray:
    """Lay the labels' colours over a photo.

    image (H, W, 3) uint8 RGB, label_map (H, W) int16 with -1 for background, colors (N, 3) uint8, alpha in [0, 1].
    Returns (H, W, 3) uint8: background as it was, segments tinted, their outlines in full colour.
    """
    return tint(image, label_map, colors, alpha, max(1, round(min(label_map.shape) / 200)))


def with_legend(picture: np.ndarray, entries: Sequence[tuple[Sequence[int], str]]) -> Image.Image:
    """Add a legend below a picture, where it hides nothing.

    picture (H, W, 3) uint8; entries (colour, text) in order. The text grows with the photo and has at least 13
    pixels. A picture too narrow for its longest entry is put on a wider sheet.
    """
    height, width = picture.shape[:2]
    size = max(13, round(max(height, width) / 38))
    letters = [lettering(text, size) for _, text in entries]
    gap, line = size // 2, round(size * 1.6)
    widths = [size + gap + int(font.getlength(text)) + 2 * gap for text, font in letters]
    sheet_width = max([width, *(w + gap for w in widths)])
    places, x, y = [], gap, gap
    for entry_width in widths:
        if x > gap and x + entry_width > sheet_width:
            x, y = gap, y + line
        places.append((x, y))
        x += entry_width
    sheet = Image.new("RGB", (sheet_width, height + y + line), _PAPER)
    sheet.paste(Image.fromarray(picture), ((sheet_width - width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for (color, _), (text, font), (x, y) in zip(entries, letters, places, strict=True):
        draw.rectangle((x, height + y, x + size - 1, height + y + size - 1), fill=tuple(int(c) for c in color))
        draw.text((x + size + gap, height + y + size // 2), text, font=font, fill=_INK, anchor="lm")
    return sheet


def label_picture(label_map: np.ndarray, colors: np.ndarray) -> Image.Image:
    """The label map as a picture: pixel value 0 is background, i + 1 is label i.

    Up to 255 labels it is a palette picture in the labels' colours; beyond, 16-bit grey.
    """
    shifted = label_map + 1
    if len(colors) > 255:
        return Image.fromarray(shifted.astype(np.uint16))
    picture = Image.fromarray(shifted.astype(np.uint8))
    picture.putpalette([0, 0, 0, *colors.ravel().tolist()])
    return picture


def contact_sheet(pictures: Sequence[Image.Image], cell_px: int = CELL_PX) -> Image.Image:
    """Small copies of many pictures in a nearly square grid, as an overview of a folder."""
    columns = max(1, int(np.ceil(np.sqrt(len(pictures)))))
    rows = max(1, -(-len(pictures) // columns))
    sheet = Image.new("RGB", (columns * cell_px, rows * cell_px), _PAPER)
    for i, picture in enumerate(pictures):
        small = picture.copy()
        small.thumbnail((cell_px - 8, cell_px - 8))
        row, column = divmod(i, columns)
        sheet.paste(
            small, (column * cell_px + (cell_px - small.width) // 2, row * cell_px + (cell_px - small.height) // 2)
        )
    return sheet
