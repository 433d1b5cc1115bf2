"""The CLIP teacher: the image tower of an open_clip or RADIO model, and dense maps by an attention variant of its last
block, or by a helper's similarity of patches in its place (ProxyCLIP).

A dense map is read from the whole photo, resized to the tower's square input, or with `windows` as published figures
are made: windows of the tower's size at half that stride over the photo, each patch the mean of the windows over it.
"""

import torch
from torch import nn

from zeroseg.dense.helper import helper_identity, load_helper
from zeroseg.dense.radio import load_radio
from zeroseg.dense.readings import reading_named
from zeroseg.dense.spec import RADIO, DenseSpec
from zeroseg.dense.towers import read_tower
from zeroseg.dense.weights import load_open_clip, needs_quick_gelu, normalisation, space_of, weights_file
from zeroseg.dense.windows import window_boxes, windowed_size
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.files import sha256
from zeroseg.training.recipes import TeacherConfig
from zeroseg.training.teacher import Teacher

LONGEST = 2.0  # with windows: the long side is read at most this many times as long as the short one


class ClipTower(Teacher):
    """See the module; fields as in Teacher. Embeddings are unit vectors."""

    def __init__(self, config: TeacherConfig, device: str = "cpu"):
        self.spec, self.device = config.spec, device
        if config.reading:
            reading_named(config.reading)  # a wrong name is told before weights are loaded
            if config.helper:
                raise ZerosegError(f"teacher {config.spec}: a helper replaces the reading; leave --reading out")
        kind, _, name = config.spec.partition(":")
        radio = kind == RADIO
        arch, tag = (RADIO, name) if radio else name.split("/", 1) if "/" in name else (name, "")
        if radio:
            visual, self.model = load_radio(tag, "--teacher").to(device), None
        else:
            self.model = load_open_clip(arch, tag, device, "teacher", "--teacher")
            visual = self.model.visual
            size = visual.image_size
            self.view_size = int(size[0] if isinstance(size, (tuple, list)) else size)
        path = weights_file(tag)
        mean, std = normalisation(visual)
        try:
            helper = None if config.helper is None else load_helper(config.helper, mean, std)
            self.tower = read_tower(visual, config.reading, None, helper).to(device)
        except UnavailableError:
            raise
        except ZerosegError as error:
            if config.reading or config.helper or radio:  # asked for, or there is nothing else
                raise ZerosegError(f"teacher {config.spec}: {error}") from None
            self.tower = None
        self.has_dense = self.tower is not None
        if radio:
            self.view_size = self.tower.window
        if self.has_dense:
            self.window, self.place = self.tower.window, self.tower.place
            self.short_side = max(config.dense_short_side, self.window)
        self.windows, self.space = config.windows, space_of(arch, tag)
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)
        with torch.no_grad():
            self.dim = self.embed(torch.zeros(1, 3, self.view_size, self.view_size)).shape[1]
        self.fingerprint = {
            "spec": DenseSpec(arch, tag if path is None else sha256(path)).towers(),
            "view_size": self.view_size,
            "dense": self.tower.reading if self.has_dense else None,
        }
        if config.helper is not None:
            self.fingerprint["helper"] = helper_identity(config.helper)
        if config.windows and self.has_dense:
            self.fingerprint["windows"] = self.short_side
        if not radio and needs_quick_gelu(arch, tag):  # caches from before it was heeded are another teacher's
            self.fingerprint["activation"] = "quick_gelu"

    @torch.no_grad()
    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """crops (B, 3, view_size, view_size) float32 in [0, 1] -> (B, D) float32 unit rows."""
        crops = (crops.to(self.device) - self.mean) / self.std
        features = self.tower(crops)[1] if self.model is None else self.model.encode_image(crops)
        return nn.functional.normalize(features.float(), dim=-1).cpu()

    def dense_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The tower's square, or with windows the photo at dense_short_side px, its sides multiples of a place."""
        if not self.has_dense:
            return super().dense_size(size)
        if not self.windows:
            return self.window, self.window
        longest = int(LONGEST * self.short_side)
        return windowed_size(size[::-1], self.short_side, longest, self.place, self.window)

    @torch.no_grad()
    def dense(self, images: torch.Tensor) -> torch.Tensor:
        """images (B, 3, H, W) float32 in [0, 1], of dense_size -> (B, h, w, D) float32; unit rows, with windows means
        of unit rows."""
        if not self.has_dense:
            return super().dense(images)
        images = (images.to(self.device) - self.mean) / self.std
        side, place = self.window, self.place
        if images.shape[2:] == (side, side):
            return self.tower(images)[0].float().cpu()
        boxes = window_boxes(tuple(images.shape[2:]), side, max(1, side // 2 // place) * place)
        windows = torch.cat([images[:, :, y : y + side, x : x + side] for y, x, _, _ in boxes])
        places = self.tower(windows)[0].float().cpu().unflatten(0, (len(boxes), len(images)))
        total = torch.zeros(len(images), *(length // place for length in images.shape[2:]), self.dim)
        cover = torch.zeros(*total.shape[1:3], 1)
        for part, (y, x, _, _) in zip(places, boxes, strict=True):
            rows, columns = (slice(start // place, (start + side) // place) for start in (y, x))
            total[:, rows, columns] += part
            cover[rows, columns] += 1
        return total / cover
