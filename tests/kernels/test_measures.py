"""One pass finds what is not finite or out of bounds, wherever it lies."""

import numpy as np
import pytest

from kernels.errors import DtypeError
from kernels.measures import is_within


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 500, 1000])
def test_one_value_that_is_not_finite_is_found(value, place):
    values = np.full(1001, np.finfo(np.float32).max, np.float32)
    assert is_within(values)

    values[place] = value

    assert not is_within(values)


@pytest.mark.parametrize("value", [8, -8, 8.1, -9e30, np.nan])
def test_a_bound_is_already_out_of_bounds(value):
    values = np.linspace(-7.999999, 7.999999, 60, dtype=np.float32).reshape(3, 4, 5)
    assert is_within(values, 8)

    values[2, 3, 4] = value

    assert not is_within(values, 8)


def test_a_view_is_checked_without_its_neighbours():
    values = np.zeros((4, 6), np.float32)
    values[:, 1::2] = np.nan

    assert is_within(values[:, ::2])
    assert not is_within(values)


def test_nothing_is_within_any_bound():
    assert is_within(np.zeros((0, 4), np.float32), 8)


def test_another_dtype_is_refused():
    with pytest.raises(DtypeError, match="expected float32"):
        is_within(np.zeros(4))
