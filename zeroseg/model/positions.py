"""2-D sine-cosine positions, computed for any grid."""

import torch


def sincos_positions(height: int, width: int, dim: int, *, reference: int | None = None, device=None) -> torch.Tensor:
    """Fixed positions of a grid's cells, row by row.

    The first half of the channels encodes the column x, the second half the row y; each half is
    [sin(p w_i), cos(p w_i)] with w_i = 10000^(-i / (dim / 4)).

    With `reference`, coordinates are stretched so that a grid of any size spans a reference x reference one (cell
    centres map to cell centres): the closed form of interpolating the table. Otherwise p is the cell's index.

    Returns (height * width, dim) float32.
    """
    quarter = dim // 4
    frequency_Q = 10000.0 ** (-torch.arange(quarter, dtype=torch.float32, device=device) / quarter)

    def encode(n):
        p = torch.arange(n, dtype=torch.float32, device=device)
        if reference is not None:
            p = (p + 0.5) * (reference / n) - 0.5
        angle_NQ = p[:, None] * frequency_Q
        return torch.cat([angle_NQ.sin(), angle_NQ.cos()], dim=1)

    x_HWD = encode(width)[None].expand(height, width, 2 * quarter)
    y_HWD = encode(height)[:, None].expand(height, width, 2 * quarter)
    return torch.cat([x_HWD, y_HWD], dim=2).reshape(height * width, dim)
