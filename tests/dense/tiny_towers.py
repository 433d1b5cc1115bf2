"""Tiny open_clip models with random weights, one per kind of pooling, made through open_clip's own classes."""

import json
from functools import partial

import torch

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16}
TIMM = {"timm_model_pretrained": False, "image_size": 64}
TOWERS = {  # name -> vision_cfg
    "class-token": VIT,
    "class-token-scales": VIT | {"ls_init_value": 0.5, "no_ln_pre": True},
    "mean": VIT | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "mean-after-norm": VIT | {"pool_type": "avg"},
    "attention": VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 3},
    "timm-class-token": TIMM | {"timm_model_name": "zs_tiny_vit", "timm_pool": "token", "timm_proj": "linear"},
    "timm-mean": TIMM | {"timm_model_name": "zs_tiny_vit_avg", "timm_pool": "avg", "timm_proj": None},
    "siglip": TIMM | {"timm_model_name": "zs_tiny_siglip", "timm_pool": "map", "timm_proj": "none"},
    "timm-registers": TIMM | {"timm_model_name": "zs_tiny_tips", "timm_pool": "token", "timm_proj": "linear"},
    "rotary": TIMM | {"timm_model_name": "zs_tiny_pe", "timm_pool": "map", "timm_proj": None},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "patch_size": None},
    "mobileclip": TIMM | {"timm_model_name": "zs_tiny_fastvit", "timm_pool": "avg", "timm_proj": None},
}
DIM = {"siglip": 24}  # it has no projection: the width of the tower


def _register_timm() -> None:
    import timm
    from timm.models import eva, fastvit, register_model
    from timm.models.vision_transformer import VisionTransformer

    if timm.is_model("zs_tiny_vit"):
        return
    small = {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2, "mlp_ratio": 2}

    def add(name, make):
        def entry(pretrained=False, **options):
            options = {
                k: v for k, v in options.items() if k not in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
            }
            trunk = make(**options)
            trunk.default_cfg = {}  # which timm's own factory would set, and open_clip's adapter asks for
            return trunk

        entry.__name__, entry.__module__ = name, "timm.models.vision_transformer"
        register_model(entry)

    add("zs_tiny_vit", lambda **o: VisionTransformer(**small, **o))
    add(
        "zs_tiny_vit_avg",
        lambda **o: VisionTransformer(**small, class_token=False, reg_tokens=2, init_values=0.5, qk_norm=True, **o),
    )
    add("zs_tiny_siglip", lambda **o: VisionTransformer(**small, class_token=False, **{"global_pool": "map", **o}))
    add("zs_tiny_tips", lambda **o: VisionTransformer(**small, reg_tokens=1, init_values=1.0, no_embed_class=True, **o))
    rotary = {"attn_type": "rope", "use_rot_pos_emb": True, "rope_grid_offset": 1.0, "rope_grid_indexing": "xy"}
    pool = {"attn_pool_num_heads": 2, "attn_pool_mlp_ratio": 2.0, "use_pre_transformer_norm": True}
    rotary |= pool | small | {"ref_feat_shape": (4, 4)}
    add("zs_tiny_pe", lambda **o: eva.Eva(**rotary, **{"global_pool": "map", **o}))
    add(
        "zs_tiny_fastvit",
        lambda **o: fastvit.FastVit(
            layers=(1, 1, 1, 2),
            embed_dims=(16, 16, 32, 64),
            mlp_ratios=(2, 2, 2, 2),
            lkc_use_act=True,
            token_mixers=("repmixer", "repmixer", "repmixer", "attention"),
            pos_embs=(None, None, None, partial(fastvit.RepConditionalPosEnc, spatial_shape=(7, 7))),
            **o,
        ),
    )


def draw(module: torch.nn.Module, gain: float) -> None:
    """Draw weights so that places differ: matrices by `gain`, positions of 1 a number, norms near 1, biases near 0."""
    for name, value in module.named_parameters():
        if name.endswith("pos_embed"):
            value.copy_(torch.randn(value.shape))
        elif value.ndim > 1:
            value.copy_(torch.randn(value.shape) * gain * value[0].numel() ** -0.5)
        else:
            value.copy_(torch.rand(value.shape) * 0.5 + 0.75 if "bias" not in name else torch.randn(value.shape) * 0.1)


def config(kind: str, **vision) -> dict:
    """open_clip's configuration of a tiny model."""
    return {"embed_dim": DIM.get(kind, 20), "vision_cfg": TOWERS[kind] | vision, "text_cfg": TEXT}


def make(kind: str, **vision):
    """A tiny model of this kind in evaluation mode, the same every time; its weights are drawn so that places differ.

    vision: changes of its vision_cfg.
    """
    from open_clip.model import CLIP

    _register_timm()
    torch.manual_seed(7)
    wanted = config(kind, **vision)
    model = CLIP(**wanted).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(11)
    for name, value in model.visual.named_parameters():
        if value.ndim > 1:
            gain = 2 if kind == "resnet" and value.ndim == 4 else 1
            if name == "attnpool.q_proj.weight":  # else its softmax is nearly hard, and amplifies rounding 300 times
                gain = 0.1
            value.copy_(torch.randn(value.shape, generator=generator) * gain * value[0].numel() ** -0.5)
        elif "gamma" in name or name.endswith("weight"):
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.75)
        else:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return model


def save(kind: str, folder, name: str = "zeroseg-tiny", **vision):
    """Register the tiny model with open_clip as `name` and write its weights; returns the checkpoint's path."""
    import open_clip

    (folder / f"{name}.json").write_text(json.dumps(config(kind, **vision)))
    open_clip.add_model_config(folder / f"{name}.json")
    path = folder / f"{name}.pt"
    torch.save(make(kind, **vision).state_dict(), path)
    return path
