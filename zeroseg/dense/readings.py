"""Attention variants of a CLIP tower's last block that give every patch its own embedding.

A block is x = x + P(A v), x = x + F(x): attention A over the tokens' values v, output projection P, feed-forward F.
CLIP trained A = softmax(s q k') for one pooled vector, and its rows mix distant patches. A variant (a "reading")
replaces A in the last block only, and may drop the residual and the feed-forward.

B batch, H heads, L tokens, d numbers per head; s = d ** -0.5. The first `prefix` tokens (class, registers) are not
patches; the others are a grid (h, w) row by row.
"""

import torch
from torch.nn import functional as F

from zeroseg.dense.calibrated import read_scclip, read_sfp
from zeroseg.dense.reading import Layout, Reading, coordinates
from zeroseg.errors import ZerosegError

GAUSSIAN_STD = 5.0  # places; NACLIP's
DEFAULT = "sfp"  # see READINGS


def ordinary(q, k, v, scale, layout):
    """softmax(s q k') v: the block as CLIP was trained."""
    return _attention(q, k, scale) @ v


def own_value(q, k, v, scale, layout):
    """v: every token keeps its own value. MaskCLIP, Zhou et al. 2022, arXiv 2112.01071."""
    return v


def query_and_key(q, k, v, scale, layout):
    """(softmax(s q q') + softmax(s k k')) v. SCLIP, Wang et al. 2023, arXiv 2312.01597, equation 4."""
    return (_attention(q, q, scale) + _attention(k, k, scale)) @ v


def query_query(q, k, v, scale, layout):
    """softmax(s q q') v. ClearCLIP, Lan et al. 2024, arXiv 2407.12442."""
    return _attention(q, q, scale) @ v


def key_neighbours(q, k, v, scale, layout):
    """softmax(s k k' + w) v, w[i, j] = exp(-|place i - place j|^2 / (2 std^2)), 0 where i or j is no place.

    NACLIP, Hajimiri et al. 2024, arXiv 2404.08181; std is 5 places.
    """
    return _attention(k, k, scale, gaussian(layout).to(k)) @ v


# MaskCLIP and SCLIP keep the rest of the block, as their authors' code does; the others drop it.
# The default is the best of those that need nothing but the tower, on average over eight sets with ViT-B/16
# (arXiv 2604.08110): SFP 44.0, SC-CLIP 43.9, NACLIP 39.4, MaskCLIP 30.3. Towers that do not pool by the class token, or
# have fewer than three blocks, are read by the last of the others that they allow: NACLIP for a ViT.
READINGS = {
    "maskclip": Reading(own_value, True, True, values_only=True),
    "sclip": Reading(query_and_key, True, True),
    "clearclip": Reading(query_query, False, False),
    "naclip": Reading(key_neighbours, False, False),
    "scclip": Reading(None, False, False, read_scclip),
    "sfp": Reading(None, False, False, read_sfp),
}
ORDINARY = Reading(ordinary, True, True)


def reading_named(name: str) -> Reading:
    """The reading of a name; ZerosegError for another one."""
    if name not in READINGS:
        raise ZerosegError(f"reading: expected one of {', '.join(READINGS)}, got {name!r}")
    return READINGS[name]


def gaussian(layout: Layout) -> torch.Tensor:
    """(L, L) float32 in [0, 1], the w of key_neighbours."""
    places = coordinates(layout.grid)
    squared = (places[:, None] - places[None]).square().sum(2)
    return F.pad(torch.exp(-squared / (2 * GAUSSIAN_STD**2)), (layout.prefix, 0, layout.prefix, 0))


def _attention(a, b, scale, added=0.0):
    return torch.softmax(scale * a @ b.transpose(-2, -1) + added, -1)
