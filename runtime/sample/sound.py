"""The sound of the sample clip: syllables made of vowels and hisses, with pauses, in noise."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE: Final = 48000

_SYLLABLE_S: Final = 0.24
_PAUSE_EVERY: Final = 7
_SIGNAL_TO_NOISE_DB: Final = 6.0

# Frequency in Hz of the first three formants of five vowels, for a man's voice
# (Peterson and Barney, "Control Methods Used in a Study of the Vowels", 1952, table II).
_FORMANTS: Final = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
)
_FORMANT_GAINS: Final = (1.0, 0.5, 0.25)
_FORMANT_WIDTHS: Final = (60.0, 90.0, 140.0)


def make_sound(samples: int, *, seed: int = 1) -> NDArray[np.float32]:
    """Make speech-like sound in noise.

    Returns:
        (samples,) float32, in [-1, 1].
    """
    random = np.random.default_rng(seed)
    voice = _speak(samples, random)
    noise = _rumble(samples, random)
    level = np.sqrt(np.mean(voice**2)) * 10.0 ** (-_SIGNAL_TO_NOISE_DB / 20.0)
    mixed = voice + noise * level
    loudest = float(np.abs(mixed).max())
    sound: NDArray[np.float32] = (0.5 * mixed / loudest).astype(np.float32)
    return sound


def _speak(samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    voice = np.zeros(samples)
    length = int(_SYLLABLE_S * SAMPLE_RATE)
    for number, start in enumerate(range(0, samples, length)):
        if number % _PAUSE_EVERY >= _PAUSE_EVERY - 2:
            continue
        stop = min(start + length, samples)
        voice[start:stop] += _syllable(length, random)[: stop - start]
    return voice


def _syllable(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    time_s = np.arange(length) / SAMPLE_RATE
    pitch_hz = random.uniform(95.0, 150.0) * (1.0 - 0.15 * time_s / _SYLLABLE_S)
    phase = 2.0 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    first, last = random.choice(len(_FORMANTS), 2, replace=False)
    glide = time_s / _SYLLABLE_S
    formants = np.outer(_FORMANTS[first], 1.0 - glide) + np.outer(_FORMANTS[last], glide)
    vowel = np.zeros(length)
    for harmonic in range(1, 40):
        frequency = harmonic * pitch_hz
        vowel += _formant_gain(frequency, formants) / harmonic * np.sin(harmonic * phase)
    hiss = np.diff(random.normal(0.0, 1.0, length + 1))
    hiss *= np.exp(-(((time_s - 0.02) / 0.02) ** 2)) * 0.05
    envelope = np.sin(np.pi * np.clip(glide, 0.0, 1.0)) ** 0.7
    return vowel * envelope + hiss


def _formant_gain(frequency: NDArray[np.float64], formants: NDArray[np.float64]) -> NDArray[np.float64]:
    gain = np.zeros_like(frequency)
    for centre, strength, width in zip(formants, _FORMANT_GAINS, _FORMANT_WIDTHS, strict=True):
        gain += strength / (1.0 + ((frequency - centre) / width) ** 2)
    return gain


def _rumble(samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Make noise that falls by 3 dB an octave, as a room's does, at an RMS of 1."""
    spectrum = np.fft.rfft(random.normal(0.0, 1.0, samples))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.size), 1.0))
    noise = np.fft.irfft(spectrum, samples)
    return noise / float(np.sqrt(np.mean(noise**2)))
