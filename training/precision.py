"""Decide whether bf16 autocast is faster on this machine.

GPUs since Ampere have bf16 in hardware. CPUs differ by more than two orders of magnitude: with AMX, bf16 is several
times faster than fp32; without it, matrix products use slow code. So on a CPU it is measured.
"""

import time

import torch

SIZE = 256  # side of the measured matrix product: milliseconds even where bf16 is emulated


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """(fp32 or bf16, why) for a wanted precision of fp32, bf16 or auto."""
    if wanted not in ("fp32", "bf16", "auto"):
        raise ValueError(f"precision: expected fp32, bf16 or auto, got {wanted!r}")
    if wanted != "auto":
        return wanted, "asked for"
    if device.type == "cuda":
        able = torch.cuda.get_device_capability(device) >= (8, 0)
        return ("bf16", "the GPU has it") if able else ("fp32", "this GPU has no bf16")
    fp32_ms, bf16_ms = _matmul_ms(torch.float32), _matmul_ms(torch.bfloat16)
    return (
        "bf16" if bf16_ms < 0.8 * fp32_ms else "fp32",
        f"a {SIZE} x {SIZE} product takes {bf16_ms:.2f} ms in bf16 and {fp32_ms:.2f} ms in fp32",
    )


def _matmul_ms(dtype: torch.dtype) -> float:
    """Best of a few, ms."""
    a = torch.ones(SIZE, SIZE, dtype=dtype)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)
