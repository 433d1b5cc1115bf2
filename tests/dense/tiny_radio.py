"""A small network with the interface and the arithmetic of NVlabs/RADIO's RADIOModel; its weights are random."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from tests.dense.tiny_towers import draw

ROWS = 6  # of its positions
DIM, HEADS, WIDTH = 20, 2, 32


class PatchGenerator(nn.Module):
    """Patches, positions resized bilinearly from the square of the longer side, summary tokens and registers."""

    abs_pos, cpe_mode, num_rows, num_cols, num_skip, patch_size = True, True, ROWS, ROWS, 4, 16

    def __init__(self):
        super().__init__()
        self.embedder = nn.Linear(3 * 16 * 16, WIDTH, bias=False)
        self.pos_embed = nn.Parameter(torch.randn(1, ROWS * ROWS, WIDTH))
        self.cls_token = nn.Module()
        self.cls_token.token = nn.Parameter(torch.randn(4, WIDTH))
        self.patch_normalizer = nn.Identity()

    def forward(self, image):
        batch, _, height, width = image.shape
        rows, columns = height // 16, width // 16
        x = image.view(batch, 3, rows, 16, columns, 16).permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)
        places = self.pos_embed.view(1, ROWS, ROWS, WIDTH).permute(0, 3, 1, 2)
        if (rows, columns) != (ROWS, ROWS):
            places = F.interpolate(places, size=(max(rows, columns),) * 2, mode="bilinear", align_corners=False)
        x = self.embedder(x) + places[:, :, :rows, :columns].flatten(2).mT
        return torch.cat([self.cls_token.token.expand(batch, -1, -1), x], 1)


class Adaptor(nn.Module):
    """The heads and a text side that knows letters."""

    head_idx = 1

    def __init__(self):
        super().__init__()
        self.head_mlp = nn.Sequential(nn.Linear(WIDTH, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, DIM))
        self.letters = nn.Embedding(128, DIM)

    def tokenizer(self, prompts):
        return [torch.tensor([ord(letter) % 128 for letter in prompt]) for prompt in prompts]

    def encode_text(self, tokens):
        return torch.stack([self.letters(row).mean(0) for row in tokens])


class Radio(nn.Module):
    def __init__(self):
        from timm.models.vision_transformer import Block

        super().__init__()
        self.model = nn.Module()
        self.model.patch_generator = PatchGenerator()
        self.model.blocks = nn.Sequential(*(Block(WIDTH, HEADS, qkv_bias=True) for _ in range(2)))
        self.model.norm = nn.Identity()
        self.input_conditioner = SimpleNamespace(
            norm_mean=torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), norm_std=torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
        )
        self.feature_normalizer = nn.Identity()
        self.adaptors = nn.ModuleDict({"siglip2-g": Adaptor()})


def make() -> Radio:
    torch.manual_seed(0)
    model = Radio().eval().requires_grad_(False)
    draw(model, gain=2)
    return model
