"""best_products: the highest inner product of each group of int8 vectors with int16 directions, exact in integers.

Search compares an image's segments, one group, with words by it (zeroseg/search/reduced.py).
"""

import numpy as np

from zeroseg.errors import check_array
from zeroseg.kernels import _native
from zeroseg.kernels._dispatch import always, choose_impl
from zeroseg.kernels.best_products import native, reference

# best first
IMPLEMENTATIONS = {"native": _native.why_not, "reference": always}
PRODUCT_MAX = (1 << 31) - 1


def best_products(
    vectors_nr: np.ndarray, first: np.ndarray, directions_Nr: np.ndarray, impl: str = "auto"
) -> np.ndarray:
    """The highest product of every group with every direction.

    vectors_nr     (n, r) int8; the vectors of a group are neighbours.
    first          (m + 1,) int64, increasing, in [0, n]: group i is the vectors first[i] to first[i + 1] - 1.
    directions_Nr  (N, r) int16; 128 times the sum of a direction's absolute values is at most 2^31 - 1.
    impl           "auto", "reference" or "native"; all return the same.

    Returns (N, m) int32. Raises ValueError for anything else than the above.
    """
    check_array("vectors_nr", vectors_nr, ("n", "r"), "int8")
    check_array("first", first, ("m + 1",), "int64")
    check_array("directions_Nr", directions_Nr, ("N", vectors_nr.shape[1]), "int16")
    if not len(first) or first[0] < 0 or first[-1] > len(vectors_nr) or not (first[1:] > first[:-1]).all():
        raise ValueError(f"first: expected increasing numbers from 0 to {len(vectors_nr)}")
    largest = 128 * np.abs(directions_Nr.astype(np.int64)).sum(1).max(initial=0)
    if largest > PRODUCT_MAX:
        raise ValueError(f"directions_Nr: products may reach {largest}, which is more than 2^31 - 1")
    run = native if choose_impl("best_products", impl, IMPLEMENTATIONS) == "native" else reference
    return run.best_products(vectors_nr, first, directions_Nr)
