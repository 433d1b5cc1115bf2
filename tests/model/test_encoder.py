"""Masking counts, positions and the reconstruction loss, against their formulas."""

import math

import pytest
import torch

from zeroseg.model.encoder import kept_count, mask_from_noise, take_places
from zeroseg.model.positions import sincos_positions
from zeroseg.model.reconstruction import patchify, reconstruction_loss


@pytest.mark.parametrize(
    "ratio, kept",
    [(0.0, 196), (0.2, 156), (0.3, 137), (0.4, 117), (0.5, 98), (0.6, 78), (0.7, 58), (0.75, 49), (0.8, 39)],
)
def test_kept_tokens_of_a_224_image(ratio, kept):
    assert kept_count(196, ratio) == kept


def test_masking_keeps_the_smallest_noise_and_restores_order():
    noise = torch.rand(3, 20)
    masking = mask_from_noise(noise, 0.6)
    assert masking.keep.shape == (3, 8)
    for b in range(3):
        smallest = set(noise[b].topk(8, largest=False).indices.tolist())
        assert set(masking.keep[b].tolist()) == smallest
        assert set((masking.mask[b] == 0).nonzero().flatten().tolist()) == smallest
    x = torch.randn(3, 20, 4)
    kept = take_places(x, masking.keep)
    padded = torch.cat([kept, torch.zeros(3, 12, 4)], dim=1)
    restored = padded.gather(1, masking.restore[:, :, None].expand(-1, -1, 4))
    assert torch.equal(restored, x * (1 - masking.mask)[:, :, None])


def test_masking_everything_is_refused():
    with pytest.raises(ValueError, match="leaves none of 2 patches"):
        mask_from_noise(torch.rand(1, 2), 0.9)


def test_positions_equal_the_formula():
    table = sincos_positions(3, 5, 16).reshape(3, 5, 16)
    for y in range(3):
        for x in range(5):
            expected = []
            for p in (x, y):
                angles = [p * 10000 ** (-i / 4) for i in range(4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(table[y, x], torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_stretched_positions_agree_with_the_reference_grid():
    torch.testing.assert_close(sincos_positions(14, 14, 32, reference=14), sincos_positions(14, 14, 32))
    # a grid three times as fine has every reference cell's centre as one of its own
    fine = sincos_positions(42, 42, 32, reference=14).reshape(42, 42, 32)[1::3, 1::3].reshape(196, 32)
    torch.testing.assert_close(fine, sincos_positions(14, 14, 32), atol=1e-5, rtol=0)


def test_patchify_orders_values_by_y_x_channel():
    image = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).float()
    patches = patchify(image, 2)
    assert patches.shape == (2, 6, 12)
    # second row of patches, third column: rows 2-3, columns 4-5
    torch.testing.assert_close(patches[1, 5], image[1, :, 2:4, 4:6].permute(1, 2, 0).flatten())


@pytest.mark.parametrize("normalize_pixels", [False, True])
def test_reconstruction_loss_counts_removed_patches_only(normalize_pixels):
    image, pred = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 12)
    mask = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    errors = []
    for b, l in mask.nonzero().tolist():
        target = patchify(image, 2)[b, l]
        if normalize_pixels:
            target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
        errors.append((pred[b, l] - target).square().mean())
    loss = reconstruction_loss(pred, image, mask, patch=2, normalize_pixels=normalize_pixels)
    torch.testing.assert_close(loss, torch.stack(errors).mean())
    assert loss == reconstruction_loss(
        pred + 9 * (1 - mask[..., None]), image, mask, patch=2, normalize_pixels=normalize_pixels
    )
