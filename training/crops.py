"""Random crops of photos and their targets.

A crop is a box in fractions of the photo. So the teacher's dense map of the whole photo, made once, gives the targets
of every crop: bilinear samples at the centres of the crop's tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from zeroseg.training.photos import crop_array
from zeroseg.training.recipes import CropConfig


@dataclass(frozen=True)
class Crop:
    """box (x0, y0, x1, y1) in fractions of the photo; colour (brightness, contrast, saturation) factors."""

    box: tuple[float, float, float, float]
    flip: bool
    colour: tuple[float, float, float]


def draw_crop(rng: np.random.Generator, photo_size: tuple[int, int], size: tuple[int, int], config: CropConfig) -> Crop:
    """A random crop of a photo of size (width, height) px, to be resized to size (H, W) px."""
    width, height = photo_size
    area, stretch, x, y, flip = rng.random(5)
    aspect = size[1] / size[0] * config.stretch ** (2 * stretch - 1)
    crop_width = min(width, height * aspect) * np.sqrt(config.area[0] + area * (config.area[1] - config.area[0]))
    box_width, box_height = crop_width / width, crop_width / aspect / height
    x0, y0 = x * (1 - box_width), y * (1 - box_height)
    colour = tuple(float(1 + config.jitter * (2 * u - 1)) for u in rng.random(3))
    box = np.clip([x0, y0, x0 + box_width, y0 + box_height], 0.0, 1.0)  # rounding may lead a hair beyond
    return Crop(tuple(box.tolist()), bool(flip < config.flip), colour)


def cut_crop(image: Image.Image, crop: Crop, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a crop: (H, W, 3) uint8, mirrored and recoloured as configured."""
    pixels = crop_array(image, crop.box, size, crop.flip).astype(np.float32)
    brightness, contrast, saturation = crop.colour
    pixels *= brightness
    mean = pixels.mean()
    pixels = mean + contrast * (pixels - mean)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    pixels = grey[..., None] + saturation * (pixels - grey[..., None])
    return pixels.round().clip(0, 255).astype(np.uint8)


def sample_places(dense: torch.Tensor, boxes: torch.Tensor, flips: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Targets of crops: the dense map of each photo, bilinear at the centres of a grid over each box.

    dense  (B, g, g, D) float, over the whole photo, cell i covering [i/g, (i+1)/g].
    boxes  (B, 4) float32 (x0, y0, x1, y1) in fractions of the photo.
    flips  (B,) bool: the crop is mirrored left to right.
    grid   (h, w) tokens of the crop.
    Returns (B, h * w, D) float32, row by row; the edge value beyond the outermost cell centres.
    """
    weight_x = _interpolation(boxes[:, 0], boxes[:, 2], grid[1], dense.shape[2])
    weight_y = _interpolation(boxes[:, 1], boxes[:, 3], grid[0], dense.shape[1])
    weight_x = torch.where(flips[:, None, None], weight_x.flip(1), weight_x)
    places = weight_y @ dense.float().flatten(2)  # (B, h, g*D)
    places = places.view(*places.shape[:2], *dense.shape[2:])  # (B, h, g, D)
    return (weight_x[:, None] @ places).flatten(1, 2)


def _interpolation(low: torch.Tensor, high: torch.Tensor, count: int, cells: int) -> torch.Tensor:
    """Rows of linear weights over `cells` at `count` even centres from low to high: (B, count, cells) float32."""
    centres = (torch.arange(count) + 0.5) / count
    position = (low[:, None] + centres * (high - low)[:, None]) * cells - 0.5
    position = position.clamp(0, cells - 1)
    return (1 - (position[..., None] - torch.arange(cells)).abs()).clamp(min=0)
