"""Which label each segment takes, on the GPU: argmax over its scores, background below the threshold.

It feeds mask_decode's table where scores and maps are on the device and must stay there.
"""

import triton
import triton.language as tl

BLOCK_N = 256


@triton.jit
def segment_labels_kernel(scores, chosen, threshold, N, BLOCK_N: tl.constexpr):
    """scores (rows, N) float32 -> chosen (rows,) int32, -1 where the best score is below the threshold. A row each."""
    row = tl.program_id(0).to(tl.int64)
    best = tl.full((), float("-inf"), tl.float32)
    label = tl.zeros((), tl.int32)
    for start in range(0, N, BLOCK_N):
        label_N = start + tl.arange(0, BLOCK_N)
        scores_N = tl.load(scores + row * N + label_N, mask=label_N < N, other=float("-inf"))
        highest = tl.max(scores_N, axis=0)
        label = tl.where(highest > best, start + tl.argmax(scores_N, axis=0), label)  # the lowest label wins a tie
        best = tl.maximum(best, highest)
    tl.store(chosen + row, tl.where(best < threshold, -1, label))


def segment_labels_triton(scores, threshold: float):
    """scores (B, K, N) float32 on a device -> table (B, K) int32."""
    import torch

    scores = scores.contiguous()
    table = torch.empty(scores.shape[:2], dtype=torch.int32, device=scores.device)
    segment_labels_kernel[table.numel(),](scores, table, threshold, scores.shape[2], BLOCK_N=BLOCK_N)
    return table
