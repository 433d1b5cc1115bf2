"""SC-CLIP's and SFP's readings: a tower's middle layers, in which like places are alike, calibrate its last block.

SC-CLIP: Bai et al. 2024, arXiv 2411.15869, with the settings of the authors' code (ViT-B/16, 12 blocks). X_l are the
places' tokens after block l of n, c_l the class token's; in a tower of another depth the layers lie at the same
fractions.

1. anomalies  the 5 % of the places of X_(n-1) with the largest local outlier factor (30 neighbours); each becomes the
              mean of those of its 8 neighbours that are none. The same places are replaced in X_9.
2. alikeness  S = cos(X_9, X_9) and T = cos(X_4, X_4); aggregate(X, S) takes rows of S, below 0.4 as 0, scaled to sum 1.
3. attention  A = (softmax(3 (S - mean S), below 0 as -inf) + softmax(s k k')) / 2, in place of the last block's.
4. places     block(x, c) = P(A v(x)) + 0.3 c, without residual and feed-forward;
              aggregate(block(aggregate(X_(n-1), S), c_(n-1)), T) + aggregate(block(sum of X_4..X_10, sum of c), T)

SFP: Jin et al., ICCV 2025, as the authors' code of ViT-B/16 has it. The same, but for

1. anomalies  at most 10 places to which the class token of block n - 1 pays more attention (mean of the heads, times
              1.5) than they pay to themselves, those with the most first
2. alikeness  S is 0 below 0.4 in the attention, too
3. attention  (softmax(s q q') + softmax(s k k') + softmax(3 (S - mean S), below 0 as -inf)) / 3 for X_(n-1), and the
              last of the three alone for the sum
"""

import torch
from torch.nn import functional as F

from zeroseg.dense.reading import NEVER, Layout, Reading, coordinates

NEIGHBOURS = 30
TIE = 1e-3  # of a factor: less is a tie, in float16 too
ANOMALIES = 20  # one place in so many
LEAST_ALIKE = 0.4
CONTRAST = 3.0
CLASS_SHARE = 0.3
CLASS_ATTENTION = 1.5
LOUD_MOST = 10
BLOCKS = 12  # of the tower whose layers follow
ALIKE, FINE, FIRST, LAST = 9, 4, 4, 10


def read_scclip(last, before, levels: list[torch.Tensor], layout, prefix: int) -> torch.Tensor:
    """SC-CLIP: (B, h w, C) tokens of the places for the tower's head.

    last    the last block, and before, the one before it (blocks.LastBlock).
    levels  (B, L, C) tokens after each block but the last; the first of the L is the class token.
    prefix  how many of the L are no places.
    """
    anomalous = anomalies(levels[-1][:, prefix:])
    return _read(last, levels, layout, prefix, anomalous, 0.0, ("k",), ("k",))


def read_sfp(last, before, levels: list[torch.Tensor], layout, prefix: int) -> torch.Tensor:
    """SFP: as read_scclip. before: the block before the last (blocks.LastBlock)."""
    anomalous = loud_places(before, levels[-2], layout)
    return _read(last, levels, layout, prefix, anomalous, LEAST_ALIKE, ("q", "k"), ())


def _read(last, levels, layout, prefix, anomalous, least, first_by, fused_by) -> torch.Tensor:
    """What both readings share. first_by and fused_by: what besides alikeness the two attentions go by."""
    depth = len(levels) + 1
    alike, fine, first, final = (max(0, round(n * depth / BLOCKS) - 1) for n in (ALIKE, FINE, FIRST, LAST))
    before, places = levels[-1], layout._replace(prefix=0)
    similar = cosines(mended(levels[alike][:, prefix:], anomalous, layout.grid))
    detailed = cosines(levels[fine][:, prefix:])
    attended = torch.where(similar < least, torch.zeros_like(similar), similar) if least else similar
    x = aggregate(mended(before[:, prefix:], anomalous, layout.grid), similar)
    x = last(x, _attention(attended, first_by), places) + CLASS_SHARE * before[:, :1]
    fused = torch.stack(levels[first : final + 1]).sum(0)
    more = last(fused[:, prefix:], _attention(attended, fused_by), places) + CLASS_SHARE * fused[:, :1]
    return aggregate(x, detailed) + aggregate(more, detailed)


def loud_places(block, x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(B, N) bool: SFP's anomalies in the attention of a block (blocks.LastBlock) over tokens x (B, L, C)."""
    q, k, _ = block.qkv(x, layout)
    prefix = layout.prefix
    attention = torch.softmax(block.scale * q @ k.transpose(-2, -1), -1).mean(1)
    by_class = CLASS_ATTENTION * attention[:, 0, prefix:]
    places = attention[:, prefix:, prefix:]
    by_itself = (places * _same(places)).sum(2)
    loud = torch.where(by_class > by_itself, by_class, torch.zeros_like(by_class))
    return (loud > 0) & (_above(loud) < LOUD_MOST)


def anomalies(x: torch.Tensor) -> torch.Tensor:
    """(B, N) bool: the places of x (B, N, C) whose local outlier factor is above the quantile of 95 %.

    Breunig et al. 2000, with a place's own distance to its last neighbour in place of the neighbour's, as the authors
    have it; distances are squared. There are NEIGHBOURS neighbours whatever N is, which a runtime may have to know
    beforehand: missing ones are padding, and count for nothing. Where all others are neighbours, which the authors'
    code does not allow, the two places farthest from each other have the same factor: a tie that rounding must not
    decide, so both of them count or neither.
    """
    count = x.shape[1]
    x = x - x.mean(1, keepdim=True)  # for the sake of rounding
    length = x.square().sum(2)
    distance = (length[:, :, None] + length[:, None] - 2 * x @ x.transpose(1, 2)).clamp(min=0)
    distance = torch.where(_same(distance), torch.full_like(distance, -1.0), distance)
    near, index = F.pad(distance, (0, NEIGHBOURS + 1), value=3e38).topk(NEIGHBOURS + 1, largest=False)
    near, index = near[:, :, 1:], index[:, :, 1:]
    there = (torch.arange(NEIGHBOURS, device=x.device) < count - 1).to(x)
    share = there / there.sum().clamp(min=1)
    near = near.clamp(max=1e30) * there
    reach = (torch.maximum(near, near.amax(2, keepdim=True)) * share).sum(2)
    density = 1 / reach.clamp(min=1e-12)
    padded = F.pad(density, (0, NEIGHBOURS + 1))[:, None].expand(-1, count, -1)
    factor = (torch.gather(padded, 2, index) * share).sum(2) / density
    most = count - 1 - ((ANOMALIES - 1) * (count - 1)) // ANOMALIES  # places above the interpolated quantile
    tie = TIE * (torch.scalar_tensor(count, dtype=torch.float32) <= NEIGHBOURS + 1).to(x)
    return _above(factor, factor * (1 - tie)) <= most


def mended(x: torch.Tensor, anomalous: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """x (B, h w, C) with each anomalous place (B, h w) as the mean of its sound neighbours, where it has any."""
    sound = (~anomalous).to(x).unsqueeze(2)
    neighbours = _neighbours(grid).to(x)
    total, count = neighbours @ (x * sound), neighbours @ sound
    replace = anomalous.unsqueeze(2) & (count > 0)
    return torch.where(replace, total / count.clamp(min=1), x)


def aggregate(x: torch.Tensor, similar: torch.Tensor) -> torch.Tensor:
    """Each place of x (B, N, C) as the mean of all by their cosines (B, N, N), those below LEAST_ALIKE left out."""
    weights = torch.where(similar < LEAST_ALIKE, torch.zeros_like(similar), similar)
    return weights / (weights.sum(2, keepdim=True) + 1e-6) @ x


def cosines(x: torch.Tensor) -> torch.Tensor:
    """(B, N, N) cosines of the places of x (B, N, C)."""
    x = F.normalize(x, dim=2)
    return x @ x.transpose(1, 2)


def _attention(similar: torch.Tensor, also_by: tuple[str, ...]):
    """A reading of the last block: the mean of the attentions by alikeness and by each of also_by, q or k."""
    contrast = CONTRAST * (similar - similar.mean((1, 2), keepdim=True))
    by_likeness = torch.softmax(torch.where(contrast < 0, torch.full_like(contrast, NEVER), contrast), -1)[:, None]

    def mix(q, k, v, scale, layout):
        weights = by_likeness
        for tokens in ({"q": q, "k": k}[name] for name in also_by):
            weights = weights + torch.softmax(scale * tokens @ tokens.transpose(-2, -1), -1)
        return weights / (1 + len(also_by)) @ v

    return Reading(mix, False, False, values_only=not also_by)


def _neighbours(grid: tuple[int, int]) -> torch.Tensor:
    """(h w, h w) float32: 1 where two places of a grid are among each other's 8 neighbours, otherwise 0."""
    places = coordinates(grid)
    apart = (places[:, None] - places[None]).abs().amax(2)
    return (apart == 1).float()


def _same(square: torch.Tensor) -> torch.Tensor:
    """(N, N) bool for (B, N, N): the diagonal."""
    index = torch.arange(square.shape[2], device=square.device)
    return index[:, None] == index


def _above(x: torch.Tensor, least: torch.Tensor | None = None) -> torch.Tensor:
    """(B, N): how many of its row of x (B, N) are above each, or at least `least` (B, N). By comparison: sorting needs
    a known number.
    """
    others = x[:, None]
    return (others > x[:, :, None] if least is None else others >= least[:, :, None]).to(x.dtype).sum(2)
