import numpy as np
import pytest

from runtime.audio.band_split import GainFollower
from runtime.audio.denoiser import HOP_SAMPLES


def hiss(hops: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(hops * HOP_SAMPLES).astype(np.float32) * 0.1


@pytest.mark.parametrize("emphasis", [True, False])
def test_the_gain_settles_at_the_ratio_of_levels(emphasis: bool) -> None:
    follower = GainFollower(0.04, sample_rate=16_000, emphasis=emphasis, factor=3)
    signal = hiss(60)
    gains = follower.push(signal, 0.25 * signal)
    assert len(gains) == 3 * len(signal)
    assert gains[-1] == pytest.approx(0.25, abs=1e-3)


def test_the_gain_never_amplifies_and_holds_in_silence() -> None:
    follower = GainFollower(0.04, sample_rate=16_000, emphasis=False, factor=1)
    signal = hiss(30)
    assert follower.push(signal, 2 * signal).max() <= 1
    follower.push(signal, 0.5 * signal)
    silence = np.zeros(200 * HOP_SAMPLES, np.float32)
    assert follower.push(silence, silence)[-1] == pytest.approx(0.5, abs=0.02)


def test_a_longer_time_constant_moves_less() -> None:
    signal = hiss(10)
    last = [
        GainFollower(seconds, sample_rate=16_000, emphasis=False, factor=1).push(
            np.tile(signal, 2), np.concatenate([signal, 0 * signal])
        )[-1]
        for seconds in (0.04, 0.3)
    ]
    assert last[0] < 0.5 * last[1]


def test_gains_join_without_a_step() -> None:
    follower = GainFollower(0.04, sample_rate=16_000, emphasis=True, factor=3)
    signal = hiss(8)
    parts = [follower.push(signal, factor * signal) for factor in (1.0, 0.1, 0.9)]
    steps = np.abs(np.diff(np.concatenate(parts)))
    assert steps.max() < 2e-3
