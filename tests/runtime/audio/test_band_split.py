import numpy as np
import pytest

from runtime.audio.band_split import Decimator, Interpolator, low_pass


def both_ways(signal: np.ndarray, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    down, up = Decimator(), Interpolator(1)
    blocks = [signal[start : start + size] for start in range(0, len(signal), size)]
    low = np.concatenate([*(down.push(block) for block in blocks), down.flush()])
    cuts = [low[None, start : start + size] for start in range(0, len(low), size)]
    full = np.concatenate([*(up.push(cut) for cut in cuts), up.flush()], axis=1)
    return low, full[0]


@pytest.mark.parametrize("length", [1, 2, 3, 200, 5000])
def test_counts_are_exact(length: int) -> None:
    low, full = both_ways(np.ones(length, np.float32), size=7)
    assert len(low) == -(-length // 3)
    assert len(full) == 3 * len(low)


@pytest.mark.parametrize("size", [1, 64, 997])
def test_blocks_of_any_size_give_the_same(size: int) -> None:
    signal = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    whole = both_ways(signal, size=len(signal))
    for heard, expected in zip(both_ways(signal, size=size), whole, strict=True):
        np.testing.assert_allclose(heard, expected, atol=2e-6)


def test_the_way_down_is_a_plain_convolution() -> None:
    signal = np.random.default_rng(0).standard_normal(900).astype(np.float32)
    low, _ = both_ways(signal, size=100)
    expected = np.convolve(signal, low_pass(), mode="full")[96 : 96 + len(signal) : 3]
    np.testing.assert_allclose(low, expected, atol=1e-5)


@pytest.mark.parametrize(("frequency", "gain"), [(440, 1), (7_100, 1), (9_000, 0), (15_900, 0)])
def test_the_low_band_ends_where_the_network_does(frequency: float, gain: float) -> None:
    tone = np.sin(2 * np.pi * frequency / 48_000 * np.arange(9000)).astype(np.float32)
    _, full = both_ways(tone, size=1000)
    inside = slice(600, 8400)
    np.testing.assert_allclose(full[inside], gain * tone[inside], atol=4e-3)


def test_low_band_and_rest_rebuild_the_signal() -> None:
    signal = np.random.default_rng(0).standard_normal(4800).astype(np.float32)
    _, full = both_ways(signal, size=480)
    high = signal - full
    np.testing.assert_allclose(full + high, signal, atol=1e-6)
    assert np.std(high) == pytest.approx(np.std(signal) * np.sqrt(1 - 7_550 / 24_000), rel=0.03)
