import numpy as np
import pytest

from runtime.audio.denoiser import HOP_SAMPLES, LevelTracker

RATE = 16_000


def steady(level_db: float, seconds: float) -> np.ndarray:
    count = int(seconds * RATE) // HOP_SAMPLES * HOP_SAMPLES
    return np.resize([1.0, -1.0], count).astype(np.float32) * np.float32(10 ** (level_db / 20))


def decibels(gain: float) -> float:
    return 20 * np.log10(gain)


def test_a_steady_signal_is_at_its_level_from_the_first_sample() -> None:
    gains = LevelTracker(RATE).push(steady(-23, 0.2))
    np.testing.assert_allclose(decibels(gains), -23, atol=1e-4)


@pytest.mark.parametrize(("before", "after", "rate"), [(-50, -20, 60), (-20, -50, -10)])
def test_the_level_moves_at_its_stated_speed(before: float, after: float, rate: float) -> None:
    tracker = LevelTracker(RATE)
    tracker.push(steady(before, 0.5))
    gains = tracker.push(steady(after, 0.4))
    slope = decibels(gains[4800]) - decibels(gains[1600])
    assert slope == pytest.approx(rate * 0.2, abs=1e-3)


def test_it_follows_a_step_up_of_25_db_within_half_a_second() -> None:
    tracker = LevelTracker(RATE)
    tracker.push(steady(-45, 1))
    tracker.push(steady(-20, 0.5))
    assert tracker.level_db == pytest.approx(-20, abs=0.1)


def test_blocks_of_any_size_give_the_same_levels() -> None:
    signal = np.random.default_rng(0).standard_normal(40 * HOP_SAMPLES).astype(np.float32) * 0.1
    signal[: 15 * HOP_SAMPLES] *= 0.01
    whole = LevelTracker(RATE).push(signal)
    tracker = LevelTracker(RATE)
    parts = [tracker.push(hop) for hop in signal.reshape(40, HOP_SAMPLES)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_levels_have_no_jump_between_hops() -> None:
    signal = np.concatenate([steady(-60, 0.2), steady(-10, 0.5)])
    steps = np.diff(decibels(LevelTracker(RATE).push(signal)))
    assert np.abs(steps).max() < 60 / RATE * 1.01


def test_what_follows_silence_is_at_its_level_at_once() -> None:
    tracker = LevelTracker(RATE)
    silence = tracker.push(np.zeros(2 * HOP_SAMPLES, np.float32))
    np.testing.assert_allclose(decibels(silence), -70, atol=1e-4)
    np.testing.assert_allclose(decibels(tracker.push(steady(-20, 0.1))), -20, atol=1e-4)
