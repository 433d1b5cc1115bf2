"""Gumbel noise from a seed and a place alone, so that every implementation draws the same values without storing them.

The generator is Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011). One call serves
four neighbouring groups: for token l of image b and groups 4 j ... 4 j + 3

    counter = (j, l, b, 0),  key = (seed mod 2^32, seed div 2^32)  ->  four words, in order of the groups
    u = ((word >> 9) + 1/2) / 2^23           uniform, never 0 or 1, exact in float32
    gumbel = -log(-log(1 - u))

With w = u the inner logarithm is -log1p(-w): its upper tail, which decides who wins, keeps its relative precision.
"""

import torch

_MASK = 0xFFFFFFFF
_MULTIPLY_A, _MULTIPLY_B = 0xD2511F53, 0xCD9E8D57
_RAISE_A, _RAISE_B = 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[torch.Tensor, ...], seed: int) -> tuple[torch.Tensor, ...]:
    """Philox4x32-10. counter: four int64 tensors that broadcast, values in [0, 2^32); returns four words alike."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(10):
        a, b = c0 * _MULTIPLY_A, c2 * _MULTIPLY_B  # int64 wraps: all 64 bits of the unsigned product are there
        c0, c1, c2, c3 = (b >> 32 & _MASK) ^ c1 ^ k0, b & _MASK, (a >> 32 & _MASK) ^ c3 ^ k1, a & _MASK
        k0, k1 = (k0 + _RAISE_A) & _MASK, (k1 + _RAISE_B) & _MASK
    return c0, c1, c2, c3


def gumbel_noise(seed: int, batch: int, tokens: int, groups: int, device=None) -> torch.Tensor:
    """(B, L, S) float64 values of the standard Gumbel distribution; seed in [0, 2^63)."""

    def axis(count, dim):
        return torch.arange(count, device=device).reshape([-1 if d == dim else 1 for d in range(3)])

    quads = (groups + 3) // 4
    zero = torch.zeros((), dtype=torch.int64, device=device)
    words = philox((axis(quads, 2), axis(tokens, 1), axis(batch, 0), zero), seed)
    words_BLS = torch.stack(torch.broadcast_tensors(*words), dim=-1).flatten(2)[..., :groups]
    uniform_BLS = ((words_BLS >> 9).double() + 0.5) / 2**23
    return -torch.log(-torch.log1p(-uniform_BLS))
