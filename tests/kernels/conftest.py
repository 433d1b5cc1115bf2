"""In kernel tests fresh memory is poisoned: an output cell that a kernel forgets to write shows as NaN or -12345."""

import numpy as np
import pytest

try:
    import torch
except ImportError:
    torch = None

_empty = np.empty


def poisoned_empty(*args, **kwargs):
    array = _empty(*args, **kwargs)
    if array.dtype.kind == "f":
        array.fill(np.nan)
    elif array.dtype.kind == "i" and array.dtype.itemsize > 1:
        array.fill(-12345)
    return array


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    monkeypatch.setattr(np, "empty", poisoned_empty)


@pytest.fixture
def poison_torch():
    """torch.empty is filled too: NaN, or the largest integer."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fill_uninitialized_memory is on by default
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def device():
    """Where Triton kernels run: the GPU, else the CPU through the interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
