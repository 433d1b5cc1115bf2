"""In kernel tests fresh memory is poisoned: an output cell that a kernel forgets to write shows as NaN or -12345."""

import numpy as np
import pytest

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
