import numpy as np
import pytest

from kernels.errors import DtypeError, ShapeError
from kernels.ring import Ring


def counting(start: int, count: int, *, channels: int = 2) -> np.ndarray:
    row = np.arange(start, start + count, dtype=np.float32)
    return np.stack([row + 1000 * channel for channel in range(channels)])


def test_blocks_of_any_size_come_out_in_order() -> None:
    rng = np.random.default_rng(1)
    ring = Ring(2, 37)
    pushed = popped = 0
    for _ in range(500):
        count = int(rng.integers(0, 37 - len(ring) + 1))
        ring.push(counting(pushed, count))
        pushed += count
        count = int(rng.integers(0, len(ring) + 1))
        np.testing.assert_array_equal(ring.pop(count), counting(popped, count))
        popped += count
    assert popped > 1000
    assert len(ring) == pushed - popped


def test_a_filled_ring_is_a_delay_line() -> None:
    signal = counting(1, 100)
    ring = Ring(2, 40, filled=17)

    blocks = [ring.delay(signal[:, start : start + 23]) for start in range(0, 100, 23)]

    heard = np.concatenate(blocks, axis=1)
    np.testing.assert_array_equal(heard[:, :17], 0)
    np.testing.assert_array_equal(heard[:, 17:], signal[:, :-17])


def test_hann_windows_overlap_and_add_to_a_constant() -> None:
    window = np.hanning(65)[:-1].astype(np.float32)[None]
    ring = Ring(1, 70)
    sums = []
    for _ in range(20):
        ring.add(window)
        sums.append(ring.pop(32))
    heard = np.concatenate(sums, axis=1)[0]
    np.testing.assert_allclose(heard[32:], 1, atol=1e-6)


def test_add_reaches_across_the_end_of_the_allocation() -> None:
    ring = Ring(1, 8)
    ring.push(np.zeros((1, 6), np.float32))
    ring.pop(6)
    ring.push(np.ones((1, 4), np.float32))

    ring.add(np.full((1, 5), 2, np.float32), offset=1)

    np.testing.assert_array_equal(ring.pop(6)[0], [1, 3, 3, 3, 2, 2])


def test_peek_keeps_the_samples_and_gives_a_copy() -> None:
    ring = Ring(2, 8)
    ring.push(counting(0, 5))
    ring.peek(3, offset=2)[:] = -1
    np.testing.assert_array_equal(ring.pop(5), counting(0, 5))


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        (np.zeros((3, 1), np.float32), ShapeError, r"\(3, 1\), expected \(2, n\)"),
        (np.zeros((2, 1)), DtypeError, "float64, expected float32"),
        (np.zeros((2, 6), np.float32), ShapeError, "got 6 samples, 5 of 8 are free"),
    ],
)
def test_a_refused_push_changes_nothing(block, error, message) -> None:
    ring = Ring(2, 8)
    ring.push(counting(0, 3))
    with pytest.raises(error, match=message):
        ring.push(block)
    np.testing.assert_array_equal(ring.pop(3), counting(0, 3))


def test_taking_more_than_is_held_is_refused() -> None:
    ring = Ring(1, 8, filled=3)
    with pytest.raises(ShapeError, match="asked for 4 samples at 0, 3 are available"):
        ring.pop(4)
    with pytest.raises(ShapeError, match="got 7 samples at 2, the ring holds 3 of 8"):
        ring.add(np.zeros((1, 7), np.float32), offset=2)
    with pytest.raises(ShapeError, match="filled 9"):
        Ring(1, 8, filled=9)
    assert len(ring) == 3
