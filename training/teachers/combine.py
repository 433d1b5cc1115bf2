"""From what several teachers say of a photo to one target embedding per place.

1. walk: the classifiers' (or CLIP's) map spreads over places that the affinity holds together.
2. gate: its strength becomes sqrt(strength x saliency); the direction stays.
3. streets: in photos of streets each cell gets the name of its Cityscapes class, in other photos if parts.stuff has
   this name. Where the saliency is STANDS_OUT or more, names of parts.stuff do not count.
4. boxes: how much of each place a box covers is walked over the same affinity and divided by its largest value in the
   box, so that what looks like the outside falls away; times coverage and saliency, which counts parts.box_floor at
   least. For persons half of it comes from the person masks. Times the score to the power of parts.box_power this is
   e_c, the largest over the boxes of class c; with a = max_c e_c,
   target = (1 - a) target + a sum_c e_c^2 t_c / sum_c e_c^2.

The constants were settled, coarsely, on the masks of VOC-animals dev (see docs/experiments.md).

B boxes, D embedding dim, h w the affinity's places, F FINE cells per side, g cells per side of the target.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from zeroseg.training.recipes import DiffusionConfig, PartsConfig
from zeroseg.training.teachers.dino import SALIENCY_GRID, spread_out, walk
from zeroseg.training.teachers.persons import PERSON
from zeroseg.training.teachers.streets import NOTHING, stuff_ids

FINE = SALIENCY_GRID  # cells per side on which strengths are set
STANDS_OUT = 0.5  # saliency of a thing, in front of sky, tree or grass
LEAST_PEAK = 0.2  # a walked box is divided by its largest value inside the box, this at least
PERSON_SHARE = 0.5  # of a person's strength that comes from the person masks


@dataclass(frozen=True)
class NameVectors:
    """Unit directions of names in the targets' space: things (80, D), COCO's order; streets (19, D), Cityscapes'."""

    things: torch.Tensor
    streets: torch.Tensor


def combine(
    places_hwD: torch.Tensor, found: dict, names: NameVectors, parts: PartsConfig, config: DiffusionConfig
) -> torch.Tensor:
    """The target of a photo, (FINE, FINE, D) float32, rows from the top.

    places  (h0, w0, D) float32: the dense map of the first teacher, over the whole photo.
    found   part name -> its cached arrays of this photo (zeroseg.training.teachers.*).
    """
    places = places_hwD.permute(2, 0, 1).float()
    affinity_LL, grid = None, tuple(places.shape[1:])
    if parts.walk or parts.detectors:
        grid = tuple(int(side) for side in found["dino"]["grid"])
        affinity_LL = spread_out(found["dino"]["index"], found["dino"]["weight"], grid[0] * grid[1])
    if parts.walk:
        places = _resized(places, grid)
        places = walk(affinity_LL, places.flatten(1).T, config).T.unflatten(1, grid)
    saliency = torch.ones(FINE, FINE)
    if parts.saliency:
        saliency = torch.from_numpy(found["dino"]["saliency"].astype(np.float32)) / 255
    target = gate(places, saliency) if parts.saliency else _resized(places, (FINE, FINE))
    if parts.streets:
        label = torch.from_numpy(found["streets"]["label"].astype(np.int64))
        if parts.saliency:
            label[torch.isin(label, torch.tensor(stuff_ids(parts.stuff))) & (saliency >= STANDS_OUT)] = NOTHING
        target = lay_streets(target, label, names.streets, parts.street_strength)
    if parts.detectors:
        boxes = np.concatenate([found[name]["boxes"] for name in parts.detectors])
        boxes = torch.from_numpy(boxes[boxes[:, 4] > 0])
        person = torch.from_numpy(found["persons"]["person"].astype(np.float32)) / 255 if parts.persons else None
        if len(boxes):
            boxes[:, 4] = boxes[:, 4] ** parts.box_power
            counted = parts.box_floor + (1 - parts.box_floor) * saliency
            shapes = box_shapes(boxes, affinity_LL, grid, counted, person, config)
            target = lay_boxes(target, boxes, shapes, names.things)
    return target.permute(1, 2, 0)


def gate(places_Dhw: torch.Tensor, saliency_FF: torch.Tensor) -> torch.Tensor:
    """Geometric mean of strength and saliency on the fine cells, direction as it is: (D, F, F)."""
    strength_1hw = places_Dhw.norm(dim=0, keepdim=True).clamp_min(1e-6)
    direction = _resized(places_Dhw / strength_1hw, (FINE, FINE))
    return direction * (_resized(strength_1hw, (FINE, FINE)) * saliency_FF).sqrt()


def lay_streets(target_DFF, label_FF, streets_19D, strength: float) -> torch.Tensor:
    """Cells with a label get its name at this strength."""
    known = (label_FF != NOTHING).float()
    named_FFD = streets_19D[label_FF.clamp_max(len(streets_19D) - 1)]
    return target_DFF * (1 - known) + strength * known * named_FFD.permute(2, 0, 1)


def box_shapes(boxes_B6, affinity_LL, grid, saliency_FF, person_FF, config: DiffusionConfig) -> torch.Tensor:
    """What of each box is its thing: (B, F, F) in [0, 1], without the score."""
    coarse_BL = coverage(boxes_B6, grid).flatten(1)
    walked_BL = walk(affinity_LL, coarse_BL.T, config).T
    peak_B1 = (walked_BL * (coarse_BL > 0.5)).amax(dim=1, keepdim=True).clamp_min(LEAST_PEAK)
    covered_BFF = coverage(boxes_B6, (FINE, FINE))
    walked_BFF = _resized((walked_BL / peak_B1).unflatten(1, grid), (FINE, FINE)).clamp(0, 1)
    shapes_BFF = walked_BFF * covered_BFF * saliency_FF
    if person_FF is not None:
        persons = boxes_B6[:, 5] == PERSON
        masked = person_FF * covered_BFF[persons]
        shapes_BFF[persons] = (1 - PERSON_SHARE) * shapes_BFF[persons] + PERSON_SHARE * masked
    return shapes_BFF


def lay_boxes(target_DFF, boxes_B6, shapes_BFF, things_CD) -> torch.Tensor:
    """Mix the names of the boxes into the target, by the largest e_c of each class."""
    strength_CFF = torch.zeros(len(things_CD), FINE, FINE)
    kind_B = boxes_B6[:, 5].long()
    scored_BFF = shapes_BFF * boxes_B6[:, 4, None, None]
    strength_CFF = strength_CFF.scatter_reduce(0, kind_B[:, None, None].expand_as(scored_BFF), scored_BFF, "amax")
    any_FF = strength_CFF.amax(dim=0)
    weight_CFF = strength_CFF.square()
    weight_CFF = weight_CFF / weight_CFF.sum(dim=0).clamp_min(1e-6)
    named_DFF = (things_CD.T @ weight_CFF.flatten(1)).unflatten(1, (FINE, FINE))
    return (1 - any_FF) * target_DFF + any_FF * named_DFF


def coverage(boxes_B6: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The share of each cell of a grid (h, w) over the whole photo that each box (fractions) covers: (B, h, w)."""

    def along(low_B, high_B, count):
        edges = torch.arange(count + 1) / count
        overlap = torch.minimum(edges[1:], high_B[:, None]) - torch.maximum(edges[:-1], low_B[:, None])
        return overlap.clamp_min(0) * count

    rows_Bh = along(boxes_B6[:, 1], boxes_B6[:, 3], grid[0])
    columns_Bw = along(boxes_B6[:, 0], boxes_B6[:, 2], grid[1])
    return rows_Bh[:, :, None] * columns_Bw[:, None]


def shrink(target_FFD: torch.Tensor, grid: int) -> torch.Tensor:
    """Area mean of the fine cells: (g, g, D)."""
    return F.adaptive_avg_pool2d(target_FFD.permute(2, 0, 1), (grid, grid)).permute(1, 2, 0)


def _resized(maps_Nhw: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps_Nhw[None], size=grid, mode="bilinear", align_corners=False)[0]
