"""Clean dense targets: each patch shares its target with similar patches (a random walk over the photo).

An ImageNet classifier responds strongly to the most informative part of an object and weakly to the rest. The features
of a frozen convolutional stem change little inside an object and much at its border, so a walk over their similarity
spreads the name over the object and stops at its border. With S the row-normalised affinity of patches, the walk with
restart is

    T' = (1 - a) (T + a S T + a^2 S^2 T + ...),    S_ij = softmax_j((cos(f_i, f_j) - 1) / tau - |p_i - p_j|^2 / reach^2)

(Zhou et al., 2004, "Learning with local and global consistency", with a bounded number of steps). No labels, no
training.

B batch, L patches, D embedding dim, C channels.
"""

import torch
import torch.nn.functional as F

from zeroseg.training.recipes import DiffusionConfig


@torch.no_grad()
def diffuse_targets(
    target_BLD: torch.Tensor, fine: torch.Tensor, coarse: torch.Tensor, config: DiffusionConfig
) -> torch.Tensor:
    """target (B, L, D) float32 of the patches of `fine`, row by row -> the same after the walk.

    fine    (B, Cf, h, w) float32 stem features at stride 16, h * w = L; coarse (B, Cc, h/2, w/2), at stride 32.
    """
    restart = 1 - config.share
    affinity_BLL = _affinity(fine, coarse, config)
    walked_BLD = target_BLD
    for _ in range(config.steps):
        walked_BLD = config.share * (affinity_BLL @ walked_BLD) + restart * target_BLD
    return walked_BLD


def _affinity(fine: torch.Tensor, coarse: torch.Tensor, config: DiffusionConfig) -> torch.Tensor:
    """Row-stochastic (B, L, L): mean cosine of both centred feature maps, less the squared distance in the photo."""
    grid = fine.shape[2:]
    coarse = F.interpolate(coarse, size=grid, mode="bilinear", align_corners=False)
    similarity = 0.0
    for features in (fine, coarse):
        f_BLC = features.flatten(2).transpose(1, 2)
        f_BLC = F.normalize(f_BLC - f_BLC.mean(dim=1, keepdim=True), dim=2)
        similarity = similarity + f_BLC @ f_BLC.transpose(1, 2) / 2
    rows = (torch.arange(grid[0], device=fine.device) + 0.5) / grid[0]
    columns = (torch.arange(grid[1], device=fine.device) + 0.5) / grid[1]
    place_L2 = torch.cartesian_prod(rows, columns)
    distance_LL = torch.cdist(place_L2, place_L2).square() / config.reach**2
    return ((similarity - 1) / config.tau - distance_LL).softmax(dim=-1)
