"""Configured as GroupViT, the segmentation head reproduces transformers' GroupViTModel on the same random weights."""

from dataclasses import replace

import pytest
import torch

from zeroseg.config import PRESETS
from zeroseg.model.attention import use_canonical_attention
from zeroseg.model.head import SegmentationHead, compose_maps
from zeroseg.model.readout import Projector

transformers = pytest.importorskip("transformers")

WIDTH, HEADS, DEPTHS, TOKENS, GROUPS = 48, 4, (2, 1, 1), (12, 6), (12, 6)


@pytest.fixture(scope="module")
def theirs():
    """A small GroupViTModel in evaluation mode whose groups differ: weights far enough from zero to separate them."""
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    vision = transformers.GroupViTVisionConfig(
        **sizes, depths=list(DEPTHS), num_hidden_layers=sum(DEPTHS), num_group_tokens=[*TOKENS, 0],
        num_output_groups=[*GROUPS, 0], image_size=64, patch_size=8,
    )  # fmt: skip
    text = transformers.GroupViTTextConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    config = transformers.GroupViTConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16, projection_intermediate_dim=40
    )
    model = transformers.GroupViTModel(config).eval()
    for name, value in model.named_parameters():
        if "group_token" in name:
            torch.nn.init.normal_(value)
        elif value.ndim == 2:
            torch.nn.init.normal_(value, std=value.shape[1] ** -0.5)
        else:
            value.data += 0.1 * torch.randn_like(value)
    for name, value in model.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def config():
    return replace(
        PRESETS["base"], width=WIDTH, head_width=WIDTH, heads=HEADS, head_heads=HEADS, head_depths=DEPTHS,
        group_tokens=TOKENS, output_groups=GROUPS, embedding_dim=16, projector_hidden=40, projector_norm="batch",
    )  # fmt: skip


def map_linear(ours, theirs):
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


def head_names():
    """Our names -> their names; a tuple of names is concatenated (our qkv and kv are one matrix)."""
    names = {}

    def block(ours, theirs):
        for part, other in (("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("mlp.fc1", "mlp.fc1"),
                            ("mlp.fc2", "mlp.fc2"), ("attn.proj", "self_attn.out_proj")):  # fmt: skip
            names.update(map_linear(f"{ours}.{part}", f"{theirs}.{other}"))
        for kind in ("weight", "bias"):
            names[f"{ours}.attn.qkv.{kind}"] = tuple(f"{theirs}.self_attn.{x}_proj.{kind}" for x in "qkv")

    grouping = {
        "norm_tokens": "norm_tokens", "norm_x": "norm_x", "norm_mixed": "norm_post_tokens", "norm_out": "norm_new_x",
        "mix.mlp.fc1": "mlp_inter.fc1", "mix.mlp.fc2": "mlp_inter.fc2",
        "mlp_out.fc1": "mlp_channels.fc1", "mlp_out.fc2": "mlp_channels.fc2",
        "cross.q": "pre_assign_attn.attn.q_proj", "cross.proj": "pre_assign_attn.attn.out_proj",
        "norm_cross": "pre_assign_attn.norm2", "norm_post": "pre_assign_attn.norm_post",
        "mlp_cross.fc1": "pre_assign_attn.mlp.fc1", "mlp_cross.fc2": "pre_assign_attn.mlp.fc2",
        "assign.q": "assign.q_proj", "assign.k": "assign.k_proj", "assign.v": "assign.v_proj",
        "assign.proj": "assign.proj",
    }  # fmt: skip
    for i, depth in enumerate(DEPTHS):
        stage = f"encoder.stages.{i}"
        blocks = f"stages.{i}.blocks" if i < len(TOKENS) else "last"
        for j in range(depth):
            block(f"{blocks}.{j}", f"{stage}.layers.{j}")
        if i == len(TOKENS):
            break
        names[f"stages.{i}.group_token"] = f"{stage}.group_token"
        for ours, other in grouping.items():
            names.update(map_linear(f"stages.{i}.grouping.{ours}", f"{stage}.downsample.{other}"))
        for kind in ("weight", "bias"):
            kv = tuple(f"{stage}.downsample.pre_assign_attn.attn.{x}_proj.{kind}" for x in "kv")
            names[f"stages.{i}.grouping.cross.kv.{kind}"] = kv
        if i:
            names.update(map_linear(f"stages.{i}.norm_before", f"{stage}.group_projector.0"))
            for fc in ("fc1", "fc2"):
                names.update(map_linear(f"stages.{i}.mix_before.mlp.{fc}", f"{stage}.group_projector.1.{fc}"))
    return names | map_linear("norm", "layernorm")


@pytest.fixture(scope="module")
def head(theirs, config):
    state = theirs.vision_model.state_dict()
    ours = SegmentationHead(config).eval()
    picked = {
        name: torch.cat([state[n] for n in source]) if isinstance(source, tuple) else state[source]
        for name, source in head_names().items()
    }
    ours.load_state_dict(picked)  # strict: every weight of ours has a counterpart
    return ours


@pytest.mark.parametrize("canonical", [False, True])
def test_head_reproduces_groupvit(theirs, head, canonical):
    use_canonical_attention(head, canonical)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.vision_model(image, output_attentions=True, return_dict=True)
        ours = head(theirs.vision_model.embeddings(image))
    torch.testing.assert_close(ours.tokens, expected.last_hidden_state, atol=1e-4, rtol=1e-4)
    assert len(ours.stage_maps) == len(expected.attentions) == 2
    for maps, attention_BSL in zip(ours.stage_maps, expected.attentions):
        torch.testing.assert_close(maps.soft.transpose(1, 2), attention_BSL, atol=1e-4, rtol=1e-4)
        assert maps.hard.sum(1).gt(0).sum(1).min() > 1  # the weights do spread tokens over several groups
    composed = compose_maps([a.transpose(1, 2) for a in expected.attentions])
    torch.testing.assert_close(ours.soft_map, composed, atol=1e-4, rtol=1e-4)


def test_projector_with_batch_norm_reproduces_groupvit(theirs, config):
    ours = Projector(config).eval()
    state = theirs.visual_projection.state_dict()
    layers = {"expand": "0", "norm": "1", "project": "3"}
    ours.load_state_dict(
        {name: state[f"{layers[name.split('.')[0]]}.{name.split('.')[1]}"] for name in ours.state_dict()}
    )
    pooled = torch.randn(5, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(ours(pooled[:, None])[:, 0], theirs.visual_projection(pooled), atol=1e-5, rtol=1e-4)
