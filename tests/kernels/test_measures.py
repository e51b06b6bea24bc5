"""One pass finds values that are not finite or out of bounds, wherever they are."""

import numpy as np
import pytest

from kernels.errors import DtypeError, ShapeError
from kernels.measures import block_means, is_within, largest_block_change


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


def test_a_block_that_changes_is_found_wherever_it_lies():
    rng = np.random.default_rng(1)
    reference = rng.random((3, 37, 45), np.float32)
    assert largest_block_change(reference, reference) == 0

    for y, x in ((0, 0), (36, 44), (18, 22), (7, 40), (33, 8)):
        frame = reference.copy()
        frame[1, y, x] += np.float32(0.5)
        rows = 8 if y < 32 else 5
        columns = 8 if x < 40 else 5
        assert largest_block_change(frame, reference) == pytest.approx(0.5 / (3 * rows * columns), rel=1e-3)


def test_noise_weighs_little_compared_with_motion():
    rng = np.random.default_rng(2)
    reference = np.full((3, 64, 64), 0.5, np.float32)
    noisy = (reference + rng.normal(0, 1 / 255, reference.shape)).astype(np.float32)
    moved = reference.copy()
    moved[:, 20:24, 30:34] = 0.9

    assert largest_block_change(noisy, reference) < 1.5 / 255
    assert largest_block_change(moved, reference) > 5 / 255


def test_a_frame_that_is_not_finite_has_changed():
    reference = np.zeros((1, 8, 8), np.float32)
    for value in (np.nan, np.inf):
        frame = reference.copy()
        frame[0, 3, 3] = value
        assert not largest_block_change(frame, reference) < 1


@pytest.mark.parametrize("shape", [(0, 8, 8), (3, 0, 8), (3, 8, 0)])
def test_nothing_does_not_change(shape):
    assert largest_block_change(np.zeros(shape, np.float32), np.zeros(shape, np.float32)) == 0


def test_frames_that_do_not_go_together_are_refused():
    with pytest.raises(ShapeError, match="expected two arrays of one shape"):
        largest_block_change(np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 9), np.float32))
    with pytest.raises(ShapeError, match=r"expected \(channels, height, width\)"):
        largest_block_change(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32))
    with pytest.raises(DtypeError, match="expected float32"):
        largest_block_change(np.zeros((3, 8, 8)), np.zeros((3, 8, 8), np.float32))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (9, 14), (3, 8), (33, 50)])
def test_block_means_are_those_of_whole_blocks(height, width):
    rng = np.random.default_rng(3)
    plane, reference = rng.random((height, width), np.float32), rng.random((height, width), np.float32)

    means, changes = block_means(plane, reference, 4)

    def expected(values):
        rows, columns = height // 4, width // 4
        return values[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4).mean((1, 3))

    np.testing.assert_allclose(means, expected(plane), atol=1e-6)
    np.testing.assert_allclose(changes, expected(plane - reference), atol=1e-6)


def test_planes_of_two_sizes_have_no_block_means():
    with pytest.raises(ShapeError, match="expected two planes of one size"):
        block_means(np.zeros((8, 8), np.float32), np.zeros((8, 9), np.float32), 4)
    with pytest.raises(DtypeError, match="expected float32"):
        block_means(np.zeros((8, 8)), np.zeros((8, 8)), 4)
