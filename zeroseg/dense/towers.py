"""The image towers of open_clip, each divided into everything before the last block, the last block, and the head.

    tower = read_tower(model.visual, "naclip", window=224)
    places, embedding = tower(image)

`embedding` equals encode_image: the ordinary last block and the tower's own pooling. `places` are the patch embeddings:
the last block with an attention variant, then the head on each patch alone, as a pooling of one token. For a class
token or mean pooling this is the norm and the projection. For attention pooling, the softmax over one key is 1, so only
the pool's value path remains (as in MaskCLIP for CLIP's ResNets).

B batch, L tokens, C width, D embedding size, h x w patches.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from zeroseg.dense import eva_vit
from zeroseg.dense.blocks import FastVitBlock, OpenClipBlock, TimmBlock
from zeroseg.dense.dense_tower import DenseTower, through, units
from zeroseg.dense.plain_vit import PlainTokens, patch_of
from zeroseg.dense.positions import Positions
from zeroseg.dense.radio import RadioTower
from zeroseg.dense.readings import ORDINARY
from zeroseg.errors import ZerosegError


class OpenClipVit(DenseTower):
    """open_clip's VisionTransformer: class token, mean or attention pooling (OpenAI, LAION, MetaCLIP, CoCa)."""

    prefix = 1

    def __init__(self, visual: nn.Module):
        super().__init__(visual, visual.patch_size[0])
        self._read_blocks(OpenClipBlock, visual.transformer.resblocks, class_token=True)
        # such as the towers of the published figures
        self.by_class_token = visual.attn_pool is None and visual.pool_type == "tok"
        way = "offset" if self.by_class_token else "antialiased"
        self.positions = Positions(visual.positional_embedding, 1, tuple(visual.grid_size), way)

    def stem(self, image, levels=None):
        visual = self.visual
        x = visual.conv1(image).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(x.shape[0], 1, -1), x], 1)
        x = visual.ln_pre(x + self.positions(self.layout_of(image).grid, self.export_friendly))
        return through(visual.transformer.resblocks[:-1], x, levels)

    def pooled(self, x, layout=None):
        return self._projected(self.visual._pool(x)[0])

    def place_head(self, x, layout=None):
        pool = self.visual.attn_pool
        if pool is not None:
            x = pool.ln_k(x)
            width = pool.attn.embed_dim
            bias = None if pool.attn.in_proj_bias is None else pool.attn.in_proj_bias[2 * width :]
            packed = pool.attn.in_proj_weight
            weight = pool.attn.v_proj_weight if packed is None else packed[2 * width :]
            x = pool.attn.out_proj(F.linear(x, weight, bias))
        return self._projected(self.visual.ln_post(x))

    def _projected(self, x):
        return x if self.visual.proj is None else x @ self.visual.proj


class TimmVit(DenseTower):
    """timm's VisionTransformer in open_clip's adapter: SigLIP (attention pooling), MobileCLIP-B and others."""

    def __init__(self, visual: nn.Module):
        trunk = visual.trunk
        super().__init__(visual, patch_of(trunk))
        self.prefix = trunk.num_prefix_tokens
        self.by_class_token = trunk.global_pool == "token"
        self._read_blocks(self.block_kind(), trunk.blocks, class_token=trunk.cls_token is not None)
        self.tokens = PlainTokens(trunk, "offset" if self.by_class_token else "antialiased")

    def block_kind(self):
        return TimmBlock

    def stem(self, image, levels=None):
        x = self.tokens(image, self.layout_of(image).grid, self.export_friendly)
        return through(self.visual.trunk.blocks[:-1], x, levels)

    def pooled(self, x, layout=None):
        trunk = self.visual.trunk
        return self.visual.head(trunk.forward_head(trunk.norm(x)))

    def place_head(self, x, layout=None):
        trunk = self.visual.trunk
        x, pool = trunk.norm(x), trunk.attn_pool
        if pool is not None:
            weight, bias = (None if part is None else part.chunk(2)[1] for part in (pool.kv.weight, pool.kv.bias))
            x = pool.proj(F.linear(x, weight, bias))
            x = x if pool.mlp is None else x + pool.mlp(pool.norm(x))
        return self.visual.head(trunk.head(trunk.fc_norm(x)))


class EvaVit(TimmVit):
    """timm's Eva with rotary positions in open_clip's adapter: Perception Encoder (PE-Core)."""

    def block_kind(self):
        self.rotary = eva_vit.Rotary(self.visual.trunk.rope)
        return partial(eva_vit.EvaBlock, rotary=self.rotary)

    def stem(self, image, levels=None):
        grid = self.layout_of(image).grid
        x, turn = self.tokens(image, grid, self.export_friendly), self.rotary(grid)
        return through([partial(block, rope=turn) for block in self.visual.trunk.blocks[:-1]], x, levels)


class FastVit(DenseTower):
    """timm's FastVit in open_clip's adapter (MobileCLIP S0 to S4): convolutions, attention in the last stage, then one
    more convolution, a mean over places and a linear layer.
    """

    readings = ("maskclip", "sclip")
    why = "convolutions trained on the whole block come after it"

    def __init__(self, visual: nn.Module):
        trunk = visual.trunk
        super().__init__(visual, trunk.feature_info[-1]["reduction"])
        self.last = FastVitBlock(trunk.stages[-1].blocks[-1])

    def stem(self, image):
        trunk = self.visual.trunk
        x = trunk.stem(image)
        for stage in trunk.stages[:-1]:
            x = stage(x)
        stage = trunk.stages[-1]
        x = stage.pos_emb(stage.downsample(x))
        for block in stage.blocks[:-1]:
            x = block(x)
        return x.flatten(2).transpose(1, 2)

    def pooled(self, x, layout=None):
        return self.visual.head(self.visual.trunk.forward_head(self._final(x, layout)))

    def place_head(self, x, layout=None):
        trunk = self.visual.trunk
        return self.visual.head(trunk.head.fc(self._final(x, layout).flatten(2).transpose(1, 2)))

    def _final(self, x, layout):
        return self.visual.trunk.final_conv(x.transpose(1, 2).unflatten(2, (layout or self.layout).grid))


class AttentionPoolResNet(DenseTower):
    """CLIP's ModifiedResNet, whose attention pool is its only attention: the pool's value path, without positions
    (MaskCLIP).
    """

    readings = ("maskclip",)
    why = "its only attention is the pool"

    def __init__(self, visual: nn.Module):
        super().__init__(visual, 32)
        side = int(round((len(visual.attnpool.positional_embedding) - 1) ** 0.5))
        self.positions = Positions(visual.attnpool.positional_embedding, 1, (side, side))

    def forward(self, image):
        visual, pool, layout = self.visual, self.visual.attnpool, self.layout_of(image)
        x = visual.stem(image)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        x = x.flatten(2).transpose(1, 2)
        places = pool.c_proj(pool.v_proj(x))
        tokens = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positions(layout.grid, self.export_friendly)
        q, k, v = (
            layer(t).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
            for layer, t in ((pool.q_proj, tokens[:, :1]), (pool.k_proj, tokens), (pool.v_proj, tokens))
        )
        mixed = ORDINARY.mix(q, k, v, q.shape[-1] ** -0.5, layout)
        embedding = pool.c_proj(mixed.transpose(1, 2).flatten(2))[:, 0]
        return units(places, embedding, layout.grid)


def read_tower(
    visual: nn.Module, reading: str | None = None, window: int | None = None, helper: nn.Module | None = None
) -> DenseTower:
    """The dense form of an open_clip image tower (model.visual), which is changed in place.

    reading  a name of READINGS; None: the best one that this tower supports.
    window   side in px of its input images; None: the tower's own, rounded down to a multiple of its patch.
    helper   a Helper (helper.py), whose likeness of patches replaces the reading.
    Raises ZerosegError, in one line, for a tower without patch embeddings.
    """
    return _tower(visual).prepare(reading, window, helper)


def _tower(visual: nn.Module) -> DenseTower:
    kind = type(visual).__name__
    if hasattr(visual, "input_conditioner"):
        return RadioTower(visual)
    if kind == "VisionTransformer" and isinstance(
        getattr(_last(visual.transformer, "resblocks"), "attn", None), nn.MultiheadAttention
    ):
        if getattr(visual, "attn_pool_contrastive", None) is not None:
            raise _refusal(kind, "it pools attention twice")
        return OpenClipVit(visual)
    if kind == "ModifiedResNet" and visual.attnpool is not None:
        return AttentionPoolResNet(visual)
    if kind == "TimmModel":
        trunk = visual.trunk
        kind = f"timm {type(trunk).__name__}"
        if type(trunk).__name__ == "VisionTransformer":
            block = trunk.blocks[-1]
            if type(block).__name__ == "Block" and type(block.attn).__name__ == "Attention" and block.attn.gate is None:
                return TimmVit(visual)
            kind += f" with {type(block).__name__}"
        if type(trunk).__name__ == "Eva":
            missing = eva_vit.plain(trunk)
            if missing:
                raise _refusal(kind, missing)
            return EvaVit(visual)
        if type(trunk).__name__ == "FastVit" and type(trunk.stages[-1].blocks[-1]).__name__ == "AttentionBlock":
            return FastVit(visual)
    raise _refusal(kind, "its last block is not plain self-attention")


def _last(module: nn.Module, name: str):
    blocks = getattr(module, name, None)
    return blocks[-1] if blocks is not None and len(blocks) else None


def _refusal(kind: str, why: str) -> ZerosegError:
    return ZerosegError(
        f"image tower {kind}: gives no patch embeddings, {why}; towers that do: open_clip's and "
        "timm's plain ViTs (OpenAI, MetaCLIP, SigLIP, PE-Core), CLIP's ResNets and MobileCLIP"
    )
