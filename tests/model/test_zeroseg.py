"""The whole model: sizes, shapes that follow the image, masking, cached stem features, how it is scored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zeroseg.config import PRESETS
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.segment.scores import segment_scores
from zeroseg.sidecar import Scoring

VIT = replace(
    PRESETS["base"], width=48, depth=2, heads=4, decoder_width=32, decoder_depth=1, decoder_heads=4, head_width=48,
    head_heads=4, head_depths=(1, 1, 1), projector_hidden=64, embedding_dim=16, image_size=64, drop_path=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return ZeroSeg(PRESETS["tiny"]).eval()


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return ZeroSeg(VIT).eval()


def test_tiny_fits_the_edge(tiny):
    assert sum(p.numel() for p in tiny.parameters()) <= 12e6


def test_segmentation_head_sizes():
    """Published sizes: encoder blocks 85.1 M; head 63.9 M at width 768; reconstruction head 26.0 M."""
    with torch.device("meta"):
        base = ZeroSeg(PRESETS["base"])
    count = {name: sum(p.numel() for p in getattr(base, name).parameters()) / 1e6 for name in
             ("encoder", "head", "reconstruction")}  # fmt: skip
    assert count["encoder"] == pytest.approx(85.1, abs=0.1)
    assert count["reconstruction"] == pytest.approx(26.0, abs=0.1)
    assert count["head"] == pytest.approx(63.9, abs=0.5)


SIZES = [("tiny", (64, 96)), ("tiny", (160, 32)), ("vit", (64, 64)), ("vit", (48, 112))]


@pytest.mark.parametrize("name, sides", SIZES)
def test_any_size_that_is_a_multiple_of_the_patch(name, sides, request):
    model = request.getfixturevalue(name)
    config = model.config
    with torch.no_grad():
        output = model(torch.randn(2, 3, *sides))
    h, w = sides[0] // 16, sides[1] // 16
    assert output.grid == (h, w) and output.mask is None and output.reconstruction_loss is None
    assert output.patch_tokens.shape == (2, h * w, config.width)
    assert output.segment_tokens.shape == (2, 8, config.head_width)
    assert output.segment_embeddings.shape == (2, 8, config.embedding_dim)
    assert output.image_embedding.shape == (2, config.embedding_dim)
    torch.testing.assert_close(output.soft_map.sum(-1), torch.ones(2, h * w))


def test_image_embedding_is_the_projected_mean_token(vit):
    with torch.no_grad():
        output = vit(torch.randn(2, 3, 64, 64))
        expected = vit.readout(output.segment_tokens.mean(1, keepdim=True))[:, 0]
        torch.testing.assert_close(output.image_embedding, expected)


def test_batch_entries_do_not_mix(tiny):
    image = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = tiny(image), tiny(image[1:2])
    torch.testing.assert_close(together.segment_embeddings[1:2], alone.segment_embeddings, atol=1e-4, rtol=1e-4)


def test_cached_stem_features_replace_the_stem(tiny):
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, output = tiny(image), tiny(None, stem_features=tiny.stem(image))
    assert torch.equal(output.segment_embeddings, expected.segment_embeddings)


def test_canonical_attention_gives_the_same(vit):
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fused = vit(image)
        vit.export_friendly = True
        canonical = vit(image)
    vit.export_friendly = False
    torch.testing.assert_close(canonical.segment_embeddings, fused.segment_embeddings, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(canonical.soft_map, fused.soft_map, atol=1e-6, rtol=1e-4)


def test_masking_keeps_the_given_places(vit):
    image, noise = torch.randn(2, 3, 64, 64), torch.rand(2, 16)
    with torch.no_grad():
        output = vit(image, mask_noise=noise, reconstruct=True)
        changed = image.clone()
        removed = output.mask.reshape(2, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3).bool()
        changed[removed.expand_as(image)] = 7.0
        same = vit(changed, mask_noise=noise)
    assert output.soft_map.shape == (2, 6, 8) and output.mask.sum(1).tolist() == [10, 10]
    assert torch.equal(output.segment_embeddings, same.segment_embeddings)  # removed pixels are never seen
    assert output.reconstruction_loss > 0


def test_training_masks_and_reaches_every_weight():
    model = ZeroSeg(VIT).train()
    output = model(torch.randn(2, 3, 64, 64), reconstruct=True)
    assert output.soft_map.shape == (2, 6, 8)
    loss = output.segment_embeddings.square().sum() + output.image_embedding.square().sum()
    (loss + output.reconstruction_loss).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_separate_projectors():
    model = ZeroSeg(replace(VIT, projector_shared=False)).eval()
    output = model(torch.randn(1, 3, 64, 64))
    expected = model.image_readout(output.segment_tokens.mean(1, keepdim=True))[:, 0]
    torch.testing.assert_close(output.image_embedding, expected)


def test_a_projector_is_scored_by_the_cosine(vit):
    labels = torch.nn.functional.normalize(torch.randn(5, 16), dim=1)
    with torch.no_grad():
        output = vit(torch.randn(2, 3, 64, 64))
    expected = torch.nn.functional.cosine_similarity(output.segment_embeddings[:, :, None], labels, dim=-1)
    for embeddings, scores in zip(output.segment_embeddings, expected):
        got = segment_scores(embeddings.numpy(), labels.numpy(), vit.scoring())
        np.testing.assert_allclose(got, scores, atol=1e-5, rtol=1e-4)


def test_scoring_takes_the_share_of_the_configuration(vit):
    assert vit.scoring() == Scoring(None, 0.0)
    assert ZeroSeg(replace(VIT, score_share=0.7)).scoring() == Scoring(None, 0.7)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda tiny, vit: tiny(torch.zeros(1, 3, 48, 64)), r"sides that are multiples of 32, got \(48, 64\)"),
        (lambda tiny, vit: vit(torch.zeros(1, 3, 40, 64)), r"sides that are multiples of 16, got \(40, 64\)"),
        (lambda tiny, vit: tiny(torch.zeros(1, 1, 64, 64)), r"image: expected \(B, 3, H, W\) float32"),
        (lambda tiny, vit: tiny(None), "image: expected an array"),
        (lambda tiny, vit: vit(None, stem_features=(1, 2)), "no convolutional stem"),
        (lambda tiny, vit: vit(torch.zeros(1, 3, 64, 64), mask_noise=torch.zeros(1, 4)), r"mask_noise: .*\(1, 16\)"),
        (lambda tiny, vit: vit(torch.zeros(1, 3, 64, 64), reconstruct=True), "reconstruct: .* got no mask"),
    ],
)
def test_bad_input_is_refused_in_one_line(tiny, vit, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny, vit)
