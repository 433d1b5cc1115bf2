"""The training losses of the student: the paper's (arXiv 2306.00450) and our own dense losses.

All losses return a float32 scalar and are computed in float32 even under autocast.

B batch, V views (view 0 is the whole image, the paper's v_1), K segments, L patches, D embedding dim.
"""

from dataclasses import dataclass

import torch

from zeroseg.errors import check_array


@dataclass(frozen=True)
class Reductions:
    """How each axis is reduced, "mean" or "sum". The paper sums views and segments and does not say how it reduces
    dimensions.

    The default is the mean, so that loss weights hold for any D, view count and segment count. The batch is always
    averaged.
    """

    dims: str = "mean"
    views: str = "mean"
    segments: str = "mean"

    def __post_init__(self):
        for name in ("dims", "views", "segments"):
            if getattr(self, name) not in ("mean", "sum"):
                raise ValueError(f"{name}: expected mean or sum, got {getattr(self, name)!r}")


MEANS = Reductions()


def multi_scale_loss(z_BD: torch.Tensor, views_BVD: torch.Tensor, reductions: Reductions = MEANS) -> torch.Tensor:
    """L_ms = sum_j |z - v_j|_1 over all views. With views[:, :1] this is the paper's global ("Base") loss."""
    check_array("views", views_BVD, ("B", "V", "D"))
    check_array("z", z_BD, (views_BVD.shape[0], views_BVD.shape[2]))
    error_BVD = (z_BD.float()[:, None] - views_BVD.float()).abs()
    error_BV = _reduce(error_BVD, reductions.dims)
    return _reduce(error_BV, reductions.views).mean()


def segment_matching_loss(
    segments_BKD: torch.Tensor, views_BVD: torch.Tensor, reductions: Reductions = MEANS
) -> torch.Tensor:
    """L_match = sum_i min_j |g_i - v_j|_1 over the local views only: view 0, the whole image, is excluded (eq. 1)."""
    check_array("views", views_BVD, ("B", "V", "D"))
    check_array("segments", segments_BKD, (views_BVD.shape[0], "K", views_BVD.shape[2]))
    if views_BVD.shape[1] < 2:
        raise ValueError("views: expected the whole image and at least one local view, got 1 view")
    distance_BKV = torch.cdist(segments_BKD.float(), views_BVD[:, 1:].float(), p=1)
    nearest_BK = distance_BKV.min(dim=2).values
    if reductions.dims == "mean":
        nearest_BK = nearest_BK / views_BVD.shape[2]
    return _reduce(nearest_BK, reductions.segments).mean()


def group_variance_loss(
    soft_map_BLK: torch.Tensor, target_BLD: torch.Tensor, *, per_image: bool = True
) -> torch.Tensor:
    """Share of the targets' variance that stays inside the groups, in [0, 1]: 0 when every group is uniform.

    sum_l sum_k M_lk |T_l - c_k|^2 / sum_l |T_l - mean|^2 with c_k = sum_l M_lk T_l / sum_l M_lk; M's rows sum to 1.
    Because c_k is a weighted mean, the numerator is sum_l |T_l|^2 - sum_k |sum_l M_lk T_l|^2 / sum_l M_lk, which needs
    no L x K x D tensor. T is centred first, to reduce cancellation. per_image averages the images' shares; otherwise
    the sums run over the batch, and photos with little variance have little weight.
    """
    _check_dense(soft_map_BLK, target_BLD)
    with torch.autocast(target_BLD.device.type, enabled=False):
        map_BLK, target_BLD = soft_map_BLK.float(), target_BLD.float()
        centred_BLD = target_BLD - target_BLD.mean(dim=1, keepdim=True)
        mass_BK, sum_BKD = _group_sums(map_BLK, centred_BLD)
        total_B = centred_BLD.square().sum(dim=(1, 2))
        between_B = (sum_BKD.square().sum(dim=2) / mass_BK.clamp_min(1e-6)).sum(dim=1)
        if not per_image:
            total_B, between_B = total_B.sum(), between_B.sum()
        return ((total_B - between_B) / total_B.clamp_min(1e-12)).mean()


def segment_name_loss(
    embeddings_BKD: torch.Tensor, soft_map_BLK: torch.Tensor, target_BLD: torch.Tensor
) -> torch.Tensor:
    """Every segment's embedding should be the mean target of its patches; weighted by area.

    sum_k mass_k |e_k - stopgrad(c_k)|^2 / mean_l |T_l|^2, mass_k the share of patches. The map gets no gradient:
    group_variance_loss shapes the segments.
    """
    _check_dense(soft_map_BLK, target_BLD)
    check_array("embeddings", embeddings_BKD, (target_BLD.shape[0], soft_map_BLK.shape[2], target_BLD.shape[2]))
    with torch.autocast(target_BLD.device.type, enabled=False):
        map_BLK, target_BLD = soft_map_BLK.detach().float(), target_BLD.detach().float()
        mass_BK, sum_BKD = _group_sums(map_BLK, target_BLD)
        mean_BKD = sum_BKD / mass_BK.clamp_min(1e-6)[:, :, None]
        error_BK = (embeddings_BKD.float() - mean_BKD).square().sum(dim=2)
        share_BK = mass_BK / target_BLD.shape[1]
        return (share_BK * error_BK).sum(dim=1).mean() / _mean_square(target_BLD)


def place_loss(pred_BLD: torch.Tensor, target_BLD: torch.Tensor) -> torch.Tensor:
    """mean_l |P_l - T_l|^2 / mean_l |T_l|^2: 1 for a prediction of zeros."""
    check_array("pred", pred_BLD, tuple(target_BLD.shape))
    target_BLD = target_BLD.float()
    return (pred_BLD.float() - target_BLD).square().sum(dim=2).mean() / _mean_square(target_BLD)


def _check_dense(soft_map_BLK, target_BLD):
    check_array("target", target_BLD, ("B", "L", "D"))
    check_array("soft_map", soft_map_BLK, (*target_BLD.shape[:2], "K"))


def _group_sums(map_BLK, target_BLD):
    """Mass (B, K) and summed targets (B, K, D) of every group."""
    return map_BLK.sum(dim=1), map_BLK.transpose(1, 2) @ target_BLD


def _mean_square(target_BLD):
    return target_BLD.square().sum(dim=2).mean().clamp_min(1e-12)


def _reduce(x: torch.Tensor, how: str) -> torch.Tensor:
    """Over the last axis."""
    return x.mean(dim=-1) if how == "mean" else x.sum(dim=-1)
