"""The walk over similar places: against its series, and what it must keep."""

import numpy as np
import torch

from zeroseg.training.diffusion import diffuse_targets
from zeroseg.training.recipes import DiffusionConfig

CONFIG = DiffusionConfig(share=0.9, tau=0.2, reach=0.5, steps=6)


def features(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 5, 4, 6, generator=generator), torch.rand(2, 7, 2, 3, generator=generator)


def affinity_by_hand(fine: torch.Tensor, coarse: torch.Tensor, config: DiffusionConfig) -> np.ndarray:
    """(L, L) of one photo, place by place."""
    h, w = fine.shape[1:]
    up = torch.nn.functional.interpolate(coarse[None], size=(h, w), mode="bilinear", align_corners=False)[0]
    maps = [m.numpy().reshape(m.shape[0], -1).T.astype(np.float64) for m in (fine, up)]
    maps = [m - m.mean(0) for m in maps]
    result = np.zeros((h * w, h * w))
    for i in range(h * w):
        for j in range(h * w):
            cosine = np.mean([m[i] @ m[j] / np.linalg.norm(m[i]) / np.linalg.norm(m[j]) for m in maps])
            dy, dx = (i // w - j // w) / h, (i % w - j % w) / w
            result[i, j] = np.exp((cosine - 1) / config.tau - (dy**2 + dx**2) / config.reach**2)
    return result / result.sum(1, keepdims=True)


def test_walk_equals_its_series():
    fine, coarse = features()
    target = torch.randn(2, 24, 3, generator=torch.Generator().manual_seed(1))
    got = diffuse_targets(target, fine, coarse, CONFIG)
    for b in range(2):
        s, t = affinity_by_hand(fine[b], coarse[b], CONFIG), target[b].numpy().astype(np.float64)
        power, series = t.copy(), np.zeros_like(t)
        for _ in range(CONFIG.steps):
            series += (1 - CONFIG.share) * power
            power = CONFIG.share * s @ power
        np.testing.assert_allclose(got[b].numpy(), series + power, atol=1e-5)


def test_uniform_target_stays():
    target = torch.full((2, 24, 3), 0.7)
    torch.testing.assert_close(diffuse_targets(target, *features(), CONFIG), target)


def test_target_stays_inside_places_that_look_alike():
    fine = torch.zeros(1, 2, 4, 6)
    fine[:, 0, :, :3], fine[:, 1, :, 3:] = 1.0, 1.0  # left half and right half
    coarse = torch.zeros(1, 2, 2, 3)
    coarse[:, 0, :, 0], coarse[:, 1, :, 2] = 1.0, 1.0
    target = torch.zeros(1, 4, 6, 1)
    target[0, 1, 1] = 1.0  # one sure place on the left
    got = diffuse_targets(target.flatten(1, 2), fine, coarse, DiffusionConfig(share=0.95, tau=0.05, reach=2.0))
    got = got.view(4, 6)
    assert got[3, 0] > 100 * got[0, 5]
    assert got[3, 0] > 0.02


def test_no_gradient_through_targets():
    fine, coarse = features()
    target = torch.ones(2, 24, 3, requires_grad=True)
    assert not diffuse_targets(target, fine, coarse, CONFIG).requires_grad
