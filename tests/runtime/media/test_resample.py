import numpy as np
import pytest

from runtime.media.resample import RateConverter


def there_and_back(signal: np.ndarray, rate: int, *, size: int) -> np.ndarray:
    total = -(-signal.shape[1] * 48_000 // rate)
    to, back = RateConverter(rate, 48_000, len(signal)), RateConverter(48_000, rate, len(signal))
    starts = range(0, signal.shape[1], size)
    parts = [back.push(to.push(signal[:, start : start + size])) for start in starts]
    parts += [back.push(to.flush(total)), back.flush(signal.shape[1])]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("count", [0, 1, 10, 12_347])
def test_the_count_comes_back_exactly(rate: int, count: int) -> None:
    signal = np.zeros((2, count), np.float32)
    assert there_and_back(signal, rate, size=1000).shape == signal.shape


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("size", [333, 20_000])
def test_a_tone_comes_back_in_place(rate: int, size: int) -> None:
    time = np.arange(20_000) / rate
    tone = np.stack([np.sin(2 * np.pi * 1000 * time), np.cos(2 * np.pi * 300 * time)])
    signal = (0.5 * tone).astype(np.float32)
    heard = there_and_back(signal, rate, size=size)
    np.testing.assert_allclose(heard[:, 2000:-2000], signal[:, 2000:-2000], atol=1e-4)


def test_equal_rates_pass_untouched() -> None:
    block = np.ones((2, 5), np.float32)
    assert RateConverter(48_000, 48_000, 2).push(block) is block
