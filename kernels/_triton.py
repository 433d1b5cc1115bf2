"""Whether Triton kernels can run on tensors of a device.

With TRITON_INTERPRET=1, set before triton is first imported, the kernels run on CPU tensors step by step: that is for
tests, not for speed.
"""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Launch:
    """Rows and columns of the picture per program, and warps."""

    BLOCK_H: int
    BLOCK_W: int
    num_warps: int


@cache
def _missing() -> str | None:
    try:
        import triton  # noqa: F401
    except ImportError:
        return "triton is not installed: pip install 'zeroseg[gpu]'"
    return None


@cache
def interpreted() -> bool:
    """Whether the interpreter runs the kernels."""
    if _missing():
        return False
    from triton import knobs

    return bool(knobs.runtime.interpret)


def why_not(device) -> str | None:
    """None where Triton kernels run on tensors of `device` (a torch.device), else the reason."""
    if reason := _missing():
        return reason
    if interpreted() or device.type == "cuda":
        return None
    return f"Triton kernels need tensors on a CUDA device, got {device.type} (TRITON_INTERPRET=1 is for tests)"
