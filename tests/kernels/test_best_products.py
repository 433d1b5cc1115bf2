"""best_products against plain integer sums, every implementation that runs here, on cases.py."""

import numpy as np
import pytest

from zeroseg.kernels import best_products as op
from zeroseg.kernels._dispatch import last_impl
from zeroseg.kernels.best_products import best_products
from zeroseg.kernels.best_products.cases import CASES

RUNNABLE = [name for name, why_not in op.IMPLEMENTATIONS.items() if why_not() is None]


@pytest.mark.parametrize("impl", RUNNABLE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_integer_sums(case, impl):
    vectors, first, directions = case.draw(np.random.default_rng(0))
    out = best_products(vectors, first, directions, impl=impl)
    assert last_impl("best_products") == impl and out.shape == (case.directions, case.groups) and out.dtype == np.int32
    sums = np.einsum("nr,dr->dn", vectors.astype(np.int64), directions.astype(np.int64))
    for i in range(case.groups):
        np.testing.assert_array_equal(out[:, i], sums[:, first[i] : first[i + 1]].max(1))


@pytest.mark.parametrize("impl", RUNNABLE)
def test_the_largest_products_do_not_overflow(impl):
    """512 dimensions of -128 times 32767 are 2^31 - 65536, of either sign."""
    vectors, first = np.full((4, 512), -128, np.int8), np.array([0, 4])
    directions = np.full((2, 512), 32767, np.int16) * np.array([[1], [-1]], np.int16)
    out = best_products(vectors, first, directions, impl=impl)
    np.testing.assert_array_equal(out, [[-(128 * 32767 * 512)], [128 * 32767 * 512]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors_nr": np.zeros((4, 5), np.uint8)}, "vectors_nr: expected"),
        ({"directions_Nr": np.zeros((1, 4), np.int16)}, "directions_Nr: expected"),
        ({"directions_Nr": np.full((1, 513), 32767, np.int16), "vectors_nr": np.zeros((4, 513), np.int8)}, "may reach"),
        ({"first": np.array([0, 2, 5])}, "first: expected increasing numbers from 0 to 4"),
        ({"first": np.array([0, 2, 2])}, "first: expected increasing"),
        ({"first": np.array([-1, 2])}, "first: expected increasing"),
        ({"first": np.zeros(0, np.int64)}, "first: expected increasing"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {
        "vectors_nr": np.zeros((4, 5), np.int8),
        "first": np.array([0, 1, 4]),
        "directions_Nr": np.zeros((2, 5), np.int16),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        best_products(**given)
