"""The plain PyTorch reference of segment_attention: GroupViT's grouping (arXiv 2202.11094, section 3.1, and its code).

B batch, L tokens, S groups, C width of queries and keys, D width of values. Maps are (B, L, S): each row is
the assignment of one token.
"""

import torch
import torch.nn.functional as F

from zeroseg.kernels.segment_attention.gumbel_noise import gumbel_noise


def segment_attention(q, k, v, *, normalize_keys, soft_pooling, eps, tau, seed):
    """q (B, S, C), k (B, L, C), v (B, L, D) -> pooled (B, S, D), choice (B, L), hard and soft (B, L, S).

    Differentiable by autograd. Computes in float32, or in float64 if q is; under autocast too.
    """
    kind = torch.float64 if q.dtype == torch.float64 else torch.float32
    with torch.autocast(q.device.type, enabled=False):
        q_BSC, k_BLC, v_BLD = q.to(kind), k.to(kind), v.to(kind)
        if normalize_keys:
            k_BLC = F.normalize(k_BLC, dim=-1)
        logits_BLS = k_BLC @ q_BSC.transpose(1, 2)
        soft_BLS = logits_BLS.softmax(dim=-1)
        noisy_BLS, choosing_BLS = soft_BLS, logits_BLS
        if seed is not None:
            choosing_BLS = logits_BLS + gumbel_noise(seed, *logits_BLS.shape, device=q.device).to(kind)
            noisy_BLS = (choosing_BLS / tau).softmax(dim=-1)
        choice_BL = choosing_BLS.argmax(dim=-1)
        hard_BLS = F.one_hot(choice_BL, logits_BLS.shape[-1]).to(kind)
        hard_BLS = hard_BLS + (noisy_BLS - noisy_BLS.detach())  # straight-through: the bracket is exactly 0
        used_BLS = soft_BLS if soft_pooling else hard_BLS
        sums_BSD = used_BLS.transpose(1, 2) @ v_BLD
        pooled_BSD = sums_BSD / (used_BLS.sum(dim=1)[..., None] + eps)
    return pooled_BSD.to(v.dtype), choice_BL.to(torch.uint8), hard_BLS, soft_BLS
