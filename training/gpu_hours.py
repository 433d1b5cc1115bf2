"""The hours that a run takes on one GPU, teachers included, before a weight is downloaded: by counting, not by running.

The floating-point operations of one photo, of the CLIP tower and a DINO of timm (their architectures on torch's meta
device: shapes without numbers) and of the student's step, are divided by a rate that is assumed. What the CPU does is
measured here on one core and divided among the workers: decoding some of the given photos, and the walk that spreads a
map. A GPU waits for it where it takes longer.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from zeroseg.dense.helper import HELPERS
from zeroseg.dense.windows import window_boxes, windowed_size
from zeroseg.hub import quiet
from zeroseg.training.clip_tower import LONGEST
from zeroseg.training.recipes import PartsConfig, TrainConfig
from zeroseg.training.teachers.combine import NameVectors, combine, shrink
from zeroseg.training.teachers.dino import KEPT, PATCH, load_vit, patch_grid
from zeroseg.training.views import grid_boxes

GPU_TFLOPS = 10.0  # sustained; about half of an A100's 19.5 in float32, which the teachers run in
TYPICAL = (640, 480)  # px, width and height of a photo, where the counts depend on it
DECODED = 8  # photos


@dataclass(frozen=True)
class GpuHours:
    """flops: name -> per photo, of the teachers that are counted. uncounted: names of the others. embedding_dim: of the
    first teacher, None if not known. decode_s: seconds that decoding a photo took on one core, None without photos.
    walk_s: seconds that the walk over a photo took on one core, 0 without one.
    """

    flops: dict[str, int]
    uncounted: list[str]
    embedding_dim: int | None
    decode_s: float | None
    walk_s: float = 0.0

    def hours(self, photos: int, seen: int, student_flops: int, workers: int) -> tuple[float, float]:
        """(hours of the teachers over `photos`, hours of training over `seen` photos)."""
        rate, decode = GPU_TFLOPS * 1e12, (self.decode_s or 0.0) / max(1, workers)
        teachers = photos * max(sum(self.flops.values()) / rate, decode + self.walk_s / max(1, workers))
        return teachers / 3600, seen * max(student_flops / rate, decode) / 3600

    def lines(self, photos: int | None, seen: int | None, student_flops: int, workers: int) -> list[str]:
        """For the reader."""
        lines = []
        if self.flops:
            each = ", ".join(f"{name} {flops / 1e9:.1f}" for name, flops in self.flops.items())
            total = sum(self.flops.values()) / 1e9
            lines.append(
                f"teachers: {total:.1f} GFLOPs per photo of {TYPICAL[0]}x{TYPICAL[1]} ({each}; forward passes, counted)"
            )
        if self.uncounted:
            lines.append(f"teachers without a count: {', '.join(self.uncounted)}; their time comes on top")
        if photos is None or seen is None:
            return lines
        teachers, training = self.hours(photos, seen, student_flops, workers)
        decode = f"{1000 * (self.decode_s or 0):.0f} ms"
        walk = f" (walk {1000 * self.walk_s:.0f} ms)" if self.walk_s else ""
        return [
            *lines,
            f"one GPU: {teachers + training:.1f} h = {teachers:.1f} h teachers + {training:.1f} h training. "
            f"Not measured: FLOPs at an assumed {GPU_TFLOPS:g} TFLOP/s sustained (half of an A100's float32 peak), "
            f"or decoding at {decode}{walk} per photo on {max(1, workers)} worker(s) where that is slower",
        ]


def gpu_hours(config: TrainConfig, source) -> GpuHours:
    """Count what the recipe's teachers cost; source: the photos, or None."""
    flops, uncounted, dim = {}, [], None
    kind, _, name = config.teacher.spec.partition(":")
    if kind == "open_clip":
        counted = _clip_flops(config, name.partition("/")[0])
        if counted:
            flops[config.teacher.spec], dim, side, maps = counted
    if not flops:
        uncounted.append(config.teacher.spec)
    helper = config.teacher.helper
    if helper in HELPERS and flops:
        with torch.device("meta"):
            vit = load_vit(HELPERS[helper], weights=False)
        flops[helper] = maps * _count(vit.forward_features, (side, side))
    elif helper:
        uncounted.append("the helper")
    parts = config.parts
    if parts.dino:
        flops[parts.dino] = _vit_flops(parts.dino, parts.short_side)
    elif parts.walk or parts.saliency or parts.detectors:
        uncounted.append("walk and saliency")
    uncounted += [*parts.detectors, *["persons"] * parts.persons, *["streets"] * bool(parts.streets)]
    walk_s = _walk_s(config, dim or config.model_config().embedding_dim) if parts.walk else 0.0
    return GpuHours(flops, uncounted, dim, _decode_s(source), walk_s)


def _clip_flops(config: TrainConfig, arch: str) -> tuple[int, int, int, int] | None:
    """(FLOPs per photo, embedding size, window's side in px, windows per photo): the image tower once per view and per
    window; a reading's second last block is left out. None for an architecture that open_clip does not have or that
    cannot be counted.
    """
    try:
        import open_clip

        with torch.device("meta"), quiet():  # open_clip warns of weights that it does not load
            model = open_clip.create_model(arch, device="meta").eval()
        side = model.visual.image_size
        side = int(side[0] if isinstance(side, (tuple, list)) else side)
        once = _count(model.encode_image, (side, side))
    except Exception:  # noqa: BLE001 every architecture has its own reasons
        return None
    views, maps = len(grid_boxes(config.views.grids)), 0
    if config.views.dense_grid:
        patch = getattr(model.visual, "patch_size", None)
        patch = int(patch[0]) if isinstance(patch, (tuple, list)) else 16
        maps = _windows(config, side, patch) if config.teacher.windows else 1
    return once * (views + maps), int(open_clip.get_model_config(arch)["embed_dim"]), side, maps


def _windows(config: TrainConfig, side: int, patch: int) -> int:
    """Windows of a typical photo."""
    short = max(config.teacher.dense_short_side, side)
    size = windowed_size(TYPICAL[::-1], short, int(LONGEST * short), patch, side)
    return len(window_boxes(size, side, max(1, side // 2 // patch) * patch))


def _patch(name: str) -> int:
    with torch.device("meta"):
        return int(load_vit(name, weights=False).patch_embed.patch_size[0])


def _vit_flops(name: str, short_side: int) -> int:
    with torch.device("meta"):
        network = load_vit(name, weights=False)
    patch = int(network.patch_embed.patch_size[0])
    height, width = patch_grid(TYPICAL, short_side, patch)
    return _count(network.forward_features, (height * patch, width * patch))


def _count(function, size: tuple[int, int]) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        function(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops()


def _walk_s(config: TrainConfig, dim: int) -> float:
    """Seconds that a typical photo's map takes to become a target on this core, the second of two times."""
    parts = PartsConfig(walk=True)
    grid = patch_grid(TYPICAL, config.parts.short_side, _patch(config.parts.dino) if config.parts.dino else PATCH)
    count = grid[0] * grid[1]
    rows = {"index": torch.randint(count, (count, KEPT)).numpy(), "weight": torch.rand(count, KEPT).numpy()}
    found = {"dino": rows | {"grid": np.array(grid, np.uint8)}}
    places, none = torch.randn(config.parts.dense_grid, config.parts.dense_grid, dim), torch.zeros(0, dim)
    for _ in range(2):
        start = time.perf_counter()
        with torch.no_grad():
            shrink(combine(places, found, NameVectors(none, none), parts, config.diffusion), config.views.dense_grid)
    return time.perf_counter() - start


def _decode_s(source) -> float | None:
    """Seconds a photo takes to decode on this core, of a few spread over the source; None without photos."""
    if source is None:
        return None
    from zeroseg.training.photos import UnreadablePhoto

    count = min(DECODED, len(source))
    start, read = time.perf_counter(), 0
    for i in range(count):
        try:
            source.read(i * len(source) // count)
            read += 1
        except UnreadablePhoto:
            continue
    return (time.perf_counter() - start) / read if read else None
