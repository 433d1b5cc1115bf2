"""RADIO as a dense model: RADSeg's reading, and the text side of its SigLIP 2 adaptor.

RADIO (arXiv 2312.06709) comes from torch.hub, NVlabs/RADIO, by a version such as c-radio_v3-b or by a file of its
weights. RADSeg: Alama et al. 2025, arXiv 2511.19704, with the settings of the authors' code.

last block   o = P(softmax(s q k') v), divided into heads again; S = 10 cos(o, o);
             P(softmax of S's rows, without what is below 0, v) stands for the attention's output, the rest is kept
patches F    S = 10 (cos(F, F) - its mean); F' = softmax of S's rows, without what is below 0, times F
embedding    the adaptor's head for the summary token, on every F'

The authors aggregate the patches F of all windows at once. Here a window's are, so that a network can be exported; for
an image of one window it is the same.
"""

import contextlib
import sys

import torch
from torch import nn
from torch.nn import functional as F

from zeroseg.dense.blocks import TimmBlock
from zeroseg.dense.dense_tower import DenseTower, through, units
from zeroseg.dense.positions import Positions
from zeroseg.dense.reading import NEVER, Reading
from zeroseg.dense.readings import ordinary
from zeroseg.errors import ZerosegError
from zeroseg.hub import fetching

REPOSITORY = "NVlabs/RADIO"
ADAPTOR = "siglip2-g"
NAME = "radseg"
SCALING = 10.0
WINDOW = 336  # px, RADSeg's


def load_radio(version: str, option: str = "--model") -> nn.Module:
    """RADIO with its text adaptor, of a version that its repository knows or a file; UnavailableError otherwise."""
    with (
        fetching(f"RADIO {version}", f"a file where torch.hub's cache has {REPOSITORY}, as in {option} radio:FILE"),
        contextlib.redirect_stdout(sys.stderr),  # torch.hub asks whether the repository is trusted
    ):
        model = torch.hub.load(
            REPOSITORY, "radio_model", version=version, adaptor_names=[ADAPTOR], skip_validation=True, progress=False
        )
    return model.float().eval().requires_grad_(False)


class RadioTower(DenseTower):
    """RADIO's ViT (a RADIOModel of its repository), read by RADSeg's reading."""

    readings, why = (NAME,), "RADIO has this one alone"

    def __init__(self, model: nn.Module, adaptor: str = ADAPTOR):
        vit, generator = model.model, getattr(model.model, "patch_generator", None)
        plain = getattr(vit, "blocks", None) is not None and type(vit.blocks[-1].attn).__name__ == "Attention"
        if generator is None or not plain or not generator.abs_pos or not generator.cpe_mode:
            raise ZerosegError("RADIO: this version is no plain ViT and gives no patch embeddings; use c-radio_v3-b")
        if adaptor not in model.adaptors:
            raise ZerosegError(f"RADIO: has no adaptor {adaptor} with a text tower; it has {', '.join(model.adaptors)}")
        super().__init__(model, generator.patch_size)
        self.vit, self.head = vit, model.adaptors[adaptor].head_mlp
        self.summary = model.adaptors[adaptor].head_idx
        self.prefix = generator.num_skip
        self.last = TimmBlock(vit.blocks[-1])
        grid = (generator.num_rows, generator.num_cols)
        self.positions = Positions(generator.pos_embed[0], 0, grid, "square")

    def own_window(self) -> int:
        return WINDOW

    def stem(self, image, levels=None):
        generator = self.vit.patch_generator
        kernel = generator.embedder.weight.unflatten(1, (3, self.patch, self.patch))
        x = F.conv2d(image, kernel, generator.embedder.bias, stride=self.patch).flatten(2).transpose(1, 2)
        x = x + self.positions(self.layout_of(image).grid, self.export_friendly)
        token = generator.cls_token.token
        x = x if token is None else torch.cat([token.expand(x.shape[0], -1, -1), x], 1)
        return through(self.vit.blocks[:-1], generator.patch_normalizer(x), levels)

    def forward(self, image):
        layout, before = self.layout_of(image), self.stem(image)
        plain = self.vit.norm(self.last(before, Reading(ordinary, True, True), layout))
        read = self.vit.norm(self.last(before, self_correlated(self.last), layout))
        places = aggregated(self.visual.feature_normalizer(read[:, self.prefix :]))
        return units(self.head(places), self.head(plain[:, self.summary]), layout.grid)


def self_correlated(last) -> Reading:
    """RADSeg's reading of a last block (blocks.LastBlock)."""

    def mix(q, k, v, scale, layout):
        out = last.project(ordinary(q, k, v, scale, layout).transpose(1, 2).flatten(2))
        out = F.normalize(out.unflatten(2, (q.shape[1], -1)).transpose(1, 2), dim=3)
        return _kept(SCALING * out @ out.transpose(2, 3)) @ v

    return Reading(mix, True, True)


def aggregated(x: torch.Tensor) -> torch.Tensor:
    """The patches x (B, N, C), each as the mean of those that are more alike to it than patches are on average."""
    unit = F.normalize(x, dim=2)
    alike = unit @ unit.transpose(1, 2)
    return _kept(SCALING * (alike - alike.mean((1, 2), keepdim=True))) @ x


def _kept(scores: torch.Tensor) -> torch.Tensor:
    return torch.softmax(torch.where(scores < 0, torch.full_like(scores, NEVER), scores), -1)


class RadioText:
    """The text tower of the adaptor."""

    def __init__(self, adaptor: nn.Module):
        self.adaptor = adaptor

    def vectors(self, prompts: list[str]):
        """(n, D) float32 unit rows."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(prompts), 256):
                tokens = self.adaptor.tokenizer(prompts[start : start + 256])
                rows.append(F.normalize(self.adaptor.encode_text(tokens).float(), dim=1))
        return torch.cat(rows).numpy()
