"""Two pictures of a run: the masks of held-out photos, and the curves of its losses."""

import colorsys
import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from zeroseg.training.run_folder import read_curve


def segment_colours(count: int) -> np.ndarray:
    """(count, 3) uint8, hues evenly apart."""
    colours = [colorsys.hsv_to_rgb(i / count, 0.75, 1.0) for i in range(count)]
    return (255 * np.array(colours)).round().astype(np.uint8)


def draw_masks(image: torch.Tensor, soft_map: torch.Tensor, grid: tuple[int, int]) -> Image.Image:
    """Photos in the upper row, each with its segments in colour below.

    image     (B, 3, H, W) float32 in [0, 1].
    soft_map  (B, L, K) float32, rows sum to 1, L = h * w of grid, row by row.
    """
    maps = soft_map.transpose(1, 2).unflatten(2, grid)
    maps = F.interpolate(maps, image.shape[2:], mode="bilinear", align_corners=False)
    colours = torch.from_numpy(segment_colours(maps.shape[1]))
    masks = colours[maps.argmax(1)].permute(0, 3, 1, 2) / 255
    rows = torch.stack([image.clamp(0, 1), 0.45 * image.clamp(0, 1) + 0.55 * masks])  # (2, B, 3, H, W)
    sheet = rows.permute(0, 3, 1, 4, 2).reshape(2 * image.shape[2], -1, 3)
    return Image.fromarray((sheet * 255).round().byte().numpy())


def draw_curve(path: Path) -> Image.Image:
    """The losses of a curve.csv over steps: trained in thin lines, held out with dots."""
    rows = read_curve(path)
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = [name for name in rows[0] if name not in ("step", "epoch", "lr", "seconds") and not name.startswith("val_")]
    for i, name in enumerate(names):
        dots = {"lw": 0, "marker": "o", "ms": 5, "mec": "black", "zorder": 3}
        for column, style in ((name, {"lw": 0.8, "label": name}), (f"val_{name}", dots)):
            points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
            if points:
                axes.plot(*zip(*points, strict=True), color=f"C{i}", **style)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (dots: held-out photos)")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer)
