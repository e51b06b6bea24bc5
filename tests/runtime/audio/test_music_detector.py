import numpy as np
import pytest

from runtime.audio.denoiser import HOP_SAMPLES
from runtime.audio.music_detector import MusicDetector

RATE = 16_000
SECONDS = 8


def time() -> np.ndarray:
    return np.arange(SECONDS * RATE) / RATE


def chords(*, beat_s: float, seed: int = 0) -> np.ndarray:
    """Four triads in turn, six harmonics each, struck every fourth beat."""
    rng = np.random.default_rng(seed)
    music = np.zeros(SECONDS * RATE)
    length = int(4 * beat_s * RATE)
    for index, start in enumerate(range(0, len(music), length)):
        bar = time()[: min(length, len(music) - start)]
        strike = np.minimum(1, bar / 0.01) * np.exp(-bar / 1.5)
        for semitone in ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))[index % 4]:
            pitch = 220 * 2 ** (semitone / 12)
            for harmonic in range(1, 7):
                wave = np.sin(2 * np.pi * pitch * harmonic * bar + rng.uniform(0, 6))
                music[start : start + len(bar)] += 0.1 / harmonic * strike * wave
    return music


def drums(*, beat_s: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    music = np.zeros(SECONDS * RATE)
    for index, start in enumerate(range(0, len(music), int(beat_s * RATE / 2))):
        hit = time()[: min(2400, len(music) - start)]
        if index % 4 == 0:
            audio = 0.5 * np.sin(2 * np.pi * (60 + 80 * np.exp(-hit / 0.03)) * hit) * np.exp(-hit / 0.06)
        elif index % 4 == 2:
            audio = 0.25 * rng.standard_normal(len(hit)) * np.exp(-hit / 0.05)
        else:
            audio = 0.08 * rng.standard_normal(len(hit)) * np.exp(-hit / 0.02)
        music[start : start + len(hit)] += audio
    return music


def speech() -> np.ndarray:
    """Voiced syllables with a gliding pitch, and pauses."""
    pitch = 130 + 40 * np.sin(2 * np.pi * 0.7 * time()) + 15 * np.sin(2 * np.pi * 2.3 * time())
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    syllables = np.maximum(0, np.sin(2 * np.pi * 2.1 * time())) * (time() % 3 < 2.2)
    return 0.1 * syllables * sum(np.sin(k * phase) / k for k in range(1, 20))


def hiss() -> np.ndarray:
    return 0.05 * np.random.default_rng(2).standard_normal(SECONDS * RATE)


def hum() -> np.ndarray:
    swell = 1 + 0.1 * np.sin(2 * np.pi * 0.7 * time())
    return 0.05 * swell * sum(np.sin(2 * np.pi * 120 * k * time() + k) / k for k in range(1, 15))


def judge(removed: np.ndarray, *, hops: int = 4) -> np.ndarray:
    guard, size = MusicDetector(RATE), hops * HOP_SAMPLES
    count = len(removed) // size
    blocks = removed[: count * size].astype(np.float32).reshape(count, size)
    return np.concatenate([guard.push(block) for block in blocks])


@pytest.mark.parametrize("beat_s", [0.25, 0.4, 0.6])
@pytest.mark.parametrize("with_drums", [False, True])
def test_music_that_would_vanish_keeps_more_than_half_its_energy(beat_s: float, with_drums: bool) -> None:
    music = chords(beat_s=beat_s) + (drums(beat_s=beat_s) if with_drums else 0)
    weights = judge(music)
    kept = music[: len(weights)] * (1 - weights)
    assert 10 * np.log10(np.sum(kept**2) / np.sum(music**2)) > -3


@pytest.mark.parametrize("noise", [hiss, hum])
def test_noise_is_removed_in_full_even_with_a_little_speech(noise) -> None:
    assert judge(noise() + 0.1 * speech()).mean() > 0.97


def test_a_hum_that_sets_in_is_not_music() -> None:
    late = hum() * (time() > 2)
    assert judge(late + 0.02 * hiss()).mean() > 0.97


def test_speech_itself_is_not_treated_as_music() -> None:
    assert judge(speech()).mean() > 0.9


def test_weights_do_not_depend_on_the_blocks_and_never_jump() -> None:
    music = chords(beat_s=0.4)
    weights = judge(music, hops=1)
    np.testing.assert_array_equal(weights, judge(music, hops=5)[: len(weights)])
    assert np.abs(np.diff(weights)).max() < 0.002
    assert weights.min() < 0.1
