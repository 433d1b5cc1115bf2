"""segment_attention: every token chooses one of S groups, and every group averages the values of its tokens.

    A = scale k q^T                        (B, L, S)   k and q of unit length if cosine
    soft = softmax(A) over the groups
    y = softmax((A + Gumbel noise) / tau)              with a seed; else y = soft
    hard = one-hot of argmax y, with the gradient of y (straight-through)
    pooled_s = sum_l a_ls v_l / (sum_l a_ls + eps)     a = hard or soft

as in GroupViT (arXiv 2202.11094, section 3.1, and its code, whose eps is 1). B batch, L tokens, S groups, C width of
queries and keys, D width of values.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from zeroseg.errors import check_array
from zeroseg.kernels import _cuda, _triton
from zeroseg.kernels._dispatch import always, choose_impl
from zeroseg.kernels.segment_attention import reference

MAX_GROUPS = 64  # one tile of every kernel holds all groups of a token
KINDS = ("float32", "float16", "bfloat16")
# best first: what keeps an implementation from running on tensors of a device, None where nothing does
IMPLEMENTATIONS = {"triton": _triton.why_not, "cuda": _cuda.why_not, "reference": lambda device: None}


class SegmentAttention(NamedTuple):
    """What segment_attention returns.

    pooled  (B, S, D) in v's dtype: every group's average value.
    choice  (B, L) uint8: the group that each token chose.
    hard    (B, L, S) float32 one-hot rows with the straight-through gradient, or None.
    soft    (B, L, S) float32 softmax without noise, rows sum to 1, or None.
    """

    pooled: torch.Tensor
    choice: torch.Tensor
    hard: torch.Tensor | None
    soft: torch.Tensor | None


def segment_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float | torch.Tensor | None = None,
    cosine: bool = False,
    aggregation: str = "hard",
    eps: float = 1.0,
    tau: float = 1.0,
    seed: int | None = None,
    maps: tuple[str, ...] = ("hard", "soft"),
    impl: str = "auto",
) -> SegmentAttention:
    """Assign tokens to groups and pool their values.

    q            (B, S, C) group queries, S <= 64; float32, float16 or bfloat16 (the reference takes float64 too).
    k            (B, L, C) keys of the tokens, dtype of q.
    v            (B, L, D) values of the tokens, any of these dtypes.
    scale        of the logits, a number or a tensor of one element, which gets a gradient; None is C ** -0.5.
    cosine       whether q and k are first scaled to unit length.
    aggregation  "hard" pools by the one-hot map, "soft" by the soft one.
    eps          added to every group's total weight; a group without tokens is 0 then. Must be positive.
    tau          temperature of the noisy softmax; without a seed it has no effect. Must be positive.
    seed         None, or an int in [0, 2^63) from which the Gumbel noise follows; see gumbel_noise.py.
    maps         which of "hard" and "soft" to return; what is not named is not kept in memory.
    impl         "auto", "reference", "cuda" (forward only) or "triton"; "auto" takes the first that runs on q's
                 device.

    Differentiable once in q, k, v and scale. Raises ValueError for anything else than the above, and UnavailableError
    for an impl that cannot run here.
    """
    _check(q, k, v, aggregation, eps, tau, seed, maps)
    why_not = {name: (lambda reason=reason: reason(q.device)) for name, reason in IMPLEMENTATIONS.items()}
    if q.dtype == torch.float64:
        why_not = {name: (lambda: "it does not support float64") for name in IMPLEMENTATIONS} | {"reference": always}
    elif torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, scale) if isinstance(x, torch.Tensor)):
        why_not["cuda"] = lambda: "it has no gradient; use torch.no_grad() or another impl"
    chosen = choose_impl("segment_attention", impl, why_not)
    wide = q if q.dtype == torch.float64 else q.float()
    if cosine:
        wide = F.normalize(wide, dim=-1)
    scaled = (wide * (q.shape[-1] ** -0.5 if scale is None else scale)).to(q.dtype)
    options = {
        "normalize_keys": cosine,
        "soft_pooling": aggregation == "soft",
        "eps": float(eps),
        "tau": float(tau),
        "seed": seed,
    }
    if chosen == "reference":
        pooled, choice, hard, soft = reference.segment_attention(scaled, k, v, **options)
    else:
        if chosen == "cuda":
            from zeroseg.kernels.segment_attention.torch_op_cuda import segment_attention as run
        else:
            from zeroseg.kernels.segment_attention.torch_op import segment_attention as run
        pooled, choice, hard, soft = run(scaled, k, v, **options, with_hard="hard" in maps, with_soft="soft" in maps)
    return SegmentAttention(pooled, choice, hard if "hard" in maps else None, soft if "soft" in maps else None)


def _check(q, k, v, aggregation, eps, tau, seed, maps) -> None:
    check_array("q", q, ("B", "S", "C"), (*KINDS, "float64"))
    kind = str(q.dtype).removeprefix("torch.")
    check_array("k", k, (q.shape[0], "L", q.shape[2]), kind)
    check_array("v", v, (q.shape[0], k.shape[1], "D"), kind if kind == "float64" else KINDS)
    if 0 in (*q.shape, *k.shape, *v.shape):
        raise ValueError(f"q, k, v: expected no empty axis, got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    if q.shape[1] > MAX_GROUPS:
        raise ValueError(f"q: expected at most {MAX_GROUPS} groups, got {q.shape[1]}")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k, v: expected one device, got {q.device}, {k.device}, {v.device}")
    if aggregation not in ("hard", "soft"):
        raise ValueError(f"aggregation: expected hard or soft, got {aggregation!r}")
    if not (eps > 0 and tau > 0):
        raise ValueError(f"eps, tau: expected positive numbers, got {eps}, {tau}")
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise ValueError(f"seed: expected None or an int in [0, 2^63), got {seed!r}")
    if not set(maps) <= {"hard", "soft"}:
        raise ValueError(f"maps: expected some of hard, soft, got {maps!r}")
