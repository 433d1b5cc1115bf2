"""The MAE path reproduces transformers' ViTMAEForPreTraining, loss included, on the same weights and noise."""

from dataclasses import replace

import pytest
import torch

from zeroseg.config import PRESETS
from zeroseg.model.zeroseg import ZeroSeg

transformers = pytest.importorskip("transformers")


def block_names(ours, theirs):
    names = {}
    for part, other in (("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("attn.proj", "attention.o_proj"),
                        ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):  # fmt: skip
        names[f"{ours}.{part}"] = f"{theirs}.{other}"
    names[f"{ours}.attn.qkv"] = tuple(f"{theirs}.attention.{x}_proj" for x in "qkv")
    return names


def copy_weights(ours, theirs, config):
    """Fill every encoder and decoder weight of ours from theirs; what is left out must be outside the MAE path."""
    state = theirs.state_dict()
    names = {"tokens.proj": "vit.embeddings.patch_embeddings.projection", "encoder.norm": "vit.layernorm",
             "reconstruction.embed": "decoder.decoder_embed", "reconstruction.norm": "decoder.decoder_norm",
             "reconstruction.pred": "decoder.decoder_pred"}  # fmt: skip
    for i in range(config.depth):
        names |= block_names(f"encoder.blocks.{i}", f"vit.layers.{i}")
    for i in range(config.decoder_depth):
        names |= block_names(f"reconstruction.blocks.{i}", f"decoder.decoder_layers.{i}")
    picked = {"encoder.class_token": state["vit.embeddings.cls_token"],
              "reconstruction.mask_token": state["decoder.mask_token"]}  # fmt: skip
    for name, source in names.items():
        for kind in ("weight", "bias"):
            sources = source if isinstance(source, tuple) else (source,)
            picked[f"{name}.{kind}"] = torch.cat([state[f"{s}.{kind}"] for s in sources])
    missing, unexpected = ours.load_state_dict(picked, strict=False)
    assert not unexpected and all(name.startswith(("head.", "readout.")) for name in missing)


def fill_positions(theirs):
    """transformers 5 leaves the sin-cos tables of a model made from a config at zero; have it compute them."""
    theirs.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    theirs.vit.embeddings.initialize_weights()
    theirs.decoder.initialize_weights(theirs.vit.embeddings.patch_embeddings.num_patches)
    for table in (theirs.vit.embeddings.position_embeddings, theirs.decoder.decoder_pos_embed):
        assert table[0, 1:].abs().sum() > 0


@pytest.mark.parametrize("normalize_pixels, ratio", [(False, 0.6), (True, 0.75)])
def test_mae_path_reproduces_transformers(normalize_pixels, ratio):
    config = replace(
        PRESETS["base"], image_size=96, width=48, depth=2, heads=4, mask_ratio=ratio, decoder_width=32, decoder_depth=2,
        decoder_heads=4, normalize_pixels=normalize_pixels, head_width=48, head_heads=4, projector_hidden=32,
    )  # fmt: skip
    theirs = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            image_size=96, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192,
            decoder_hidden_size=32, decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
            decoder_intermediate_size=128, mask_ratio=ratio, norm_pix_loss=normalize_pixels,
            layer_norm_eps=config.norm_eps,
        )
    ).eval()  # fmt: skip
    for value in theirs.parameters():
        if value.requires_grad:  # the tables do not
            value.data += 0.1 * torch.randn_like(value)
    fill_positions(theirs)
    ours = ZeroSeg(config).eval()
    copy_weights(ours, theirs, config)

    image, noise = torch.randn(2, 3, 96, 96), torch.rand(2, 36)
    with torch.no_grad():
        expected = theirs(image, noise=noise)
        encoded = theirs.vit(image, noise=noise).last_hidden_state
        output = ours(image, mask_noise=noise, reconstruct=True)
    torch.testing.assert_close(output.reconstruction_loss, expected.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.patch_tokens, encoded[:, 1:], atol=1e-4, rtol=1e-4)
    assert torch.equal(output.mask, expected.mask)
