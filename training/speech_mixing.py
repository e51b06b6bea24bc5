"""Random noisy mixtures of clean speech and noise, for training speech networks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from runtime.audio.denoiser import HOP_SAMPLES, LevelTracker
from training.speech_data import SAMPLE_RATE, Samples, SpeechCorpus

Rng = np.random.Generator
PRE_ROLL_SAMPLES = 32 * HOP_SAMPLES
"""Lead-in for the level tracker before most examples, so that they cover all of its states."""


@dataclass(frozen=True, slots=True)
class Example:
    """A mixture and the speech in it, both divided by the tracked level of the mixture."""

    mixture: Samples
    target: Samples


def draw_example(corpus: SpeechCorpus, rng: Rng, length: int) -> Example:
    """Draw one training example of `length` samples."""
    total = -(-(length + PRE_ROLL_SAMPLES) // HOP_SAMPLES) * HOP_SAMPLES
    kind = rng.random()
    target = draw_speech(corpus, rng, total)
    if rng.random() < 0.06:
        target = _reverberate(target, rng)
    noise = draw_noise(corpus, rng, total)
    if kind < 0.02:
        target = np.zeros_like(target)
        mixture = noise * np.float32(0.05 / max(_rms(noise), 1e-6))
    elif kind < 0.06:
        mixture = target
    else:
        mixture = target + noise * _noise_gain(target, noise, snr_db=rng.uniform(-5, 20))
    if rng.random() < 0.05:
        edge_hz = rng.uniform(3000, 7000)
        mixture, target = (_low_pass(x, edge_hz) for x in (mixture, target))
    gain = np.float32(10 ** (rng.uniform(-30, 0) / 20) / max(np.abs(mixture).max(), 1e-4))
    mixture, target = mixture * gain, target * gain
    if rng.random() < 0.03:
        limit = np.abs(mixture).max() * rng.uniform(0.4, 0.9)
        mixture = np.clip(mixture, -limit, limit)
    return _levelled(mixture, target, rng, length)


def draw_speech(corpus: SpeechCorpus, rng: Rng, length: int) -> Samples:
    """Draw speech at a random speed (0.88 to 1.14, pitch moves with it), mostly of one speaker."""
    recording = corpus.speech[rng.integers(len(corpus.speech))]
    speech = _change_speed(recording.crop(rng, int(length * 1.15) + 2), length, rng, 0.13)
    return speech - speech.mean(dtype=np.float32)


def draw_noise(corpus: SpeechCorpus, rng: Rng, length: int) -> Samples:
    """Draw noise: recorded, babble, coloured or hum, with a random tone; sometimes two at once."""
    noise = _one_noise(corpus, rng, length)
    if rng.random() < 0.12:
        other = _one_noise(corpus, rng, length)
        noise = noise + other * _noise_gain(noise, other, snr_db=rng.uniform(-3, 12))
    return noise


def _one_noise(corpus: SpeechCorpus, rng: Rng, length: int) -> Samples:
    kind = rng.random()
    if kind < 0.68:
        recording = corpus.noise[rng.integers(len(corpus.noise))]
        noise = _change_speed(recording.crop(rng, int(length * 1.5) + 2), length, rng, 0.3)
        return _colour(noise, rng, tilt_db=3.0) if rng.random() < 0.6 else noise
    if kind < 0.82:
        return _babble(corpus, rng, length)
    if kind < 0.94:
        swell = _slow_swell(rng, length) if rng.random() < 0.5 else np.float32(1)
        return _colour(rng.standard_normal(length, np.float32), rng, tilt_db=8.0) * swell
    return _fan(rng, length)


def _babble(corpus: SpeechCorpus, rng: Rng, length: int) -> Samples:
    voices = np.zeros(length, np.float32)
    for _ in range(int(rng.integers(3, 9))):
        voice = draw_speech(corpus, rng, length)
        voices += voice * np.float32(rng.uniform(0.3, 1) / max(_rms(voice), 1e-3))
    return _colour(voices, rng, tilt_db=3.0)


def _fan(rng: Rng, length: int) -> Samples:
    """Return harmonics of a motor or of the mains over coloured noise."""
    base_hz = rng.choice([50.0, 60.0, rng.uniform(25, 240)])
    count = int(rng.integers(3, 30))
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    wobble = np.float32(rng.uniform(0, 0.4)) * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time)
    hum = np.zeros(length, np.float32)
    fade = rng.uniform(0.3, 1.2)
    for harmonic in range(1, count + 1):
        if harmonic * base_hz < 0.45 * SAMPLE_RATE:
            phase = 2 * np.pi * (harmonic * (base_hz * time + wobble) + rng.random())
            weight = rng.uniform(0.2, 1) * harmonic**-fade
            hum += np.float32(weight) * np.sin(phase, dtype=np.float32)
    air = _colour(rng.standard_normal(length, np.float32), rng, tilt_db=8.0)
    return hum + air * _noise_gain(hum, air, snr_db=rng.uniform(-10, 15))


def _colour(x: Samples, rng: Rng, *, tilt_db: float) -> Samples:
    """Filter by a random tilt (dB per octave, at most `tilt_db` either way) and two wide bumps."""
    octaves = np.log2(np.maximum(_frequencies(len(x)), 40) / 1000)
    gain_db = rng.uniform(-tilt_db, tilt_db * 0.5) * octaves
    for _ in range(2):
        centre, width = rng.uniform(-4, 3), rng.uniform(0.3, 1.5)
        gain_db += rng.uniform(-10, 10) * np.exp(-(((octaves - centre) / width) ** 2))
    return _filtered(x, 10 ** (np.clip(gain_db, -40, 40) / 20))


def _low_pass(x: Samples, edge_hz: float) -> Samples:
    frequencies = _frequencies(len(x))
    return _filtered(x, 1 / (1 + (frequencies / edge_hz) ** 16))


def _reverberate(speech: Samples, rng: Rng) -> Samples:
    """Convolve speech with a room; the reverberation stays in the target, since it is not noise."""
    decay_s, level = rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.4)
    length = int(decay_s * SAMPLE_RATE)
    tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail[: int(rng.uniform(0.002, 0.01) * SAMPLE_RATE)] = 0
    tail *= level / np.sqrt(np.sum(tail**2) + 1e-9)
    tail[0] = 1
    return _convolved(speech, tail)


def _levelled(mixture: Samples, target: Samples, rng: Rng, length: int) -> Example:
    level = LevelTracker(SAMPLE_RATE).push(mixture)
    start = 0 if rng.random() < 0.3 else int(rng.integers(PRE_ROLL_SAMPLES))
    part = slice(start, start + length)
    offset = np.float32(10 ** (rng.normal(0, 2) / 20))
    return Example(mixture[part] / level[part] * offset, target[part] / level[part] * offset)


def _noise_gain(speech: Samples, noise: Samples, *, snr_db: float) -> np.float32:
    return np.float32(active_rms(speech) / max(_rms(noise), 1e-6) * 10 ** (-snr_db / 20))


def active_rms(speech: Samples) -> float:
    """Return the level of the parts of speech that are within 30 dB of its loudest 32 ms."""
    frames = speech[: len(speech) // 512 * 512].reshape(-1, 512)
    power = np.mean(frames.astype(np.float64) ** 2, axis=1)
    return float(np.sqrt(power[power >= power.max() * 1e-3].mean() + 1e-12))


def _rms(x: Samples) -> float:
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))


def _slow_swell(rng: Rng, length: int) -> Samples:
    knots_db = rng.uniform(-12, 6, size=2 + length // 4000)
    swell_db = np.interp(np.linspace(0, len(knots_db) - 1, length), range(len(knots_db)), knots_db)
    return (10 ** (swell_db / 20)).astype(np.float32)


def _change_speed(x: Samples, length: int, rng: Rng, spread: float) -> Samples:
    """Resample `x` faster or slower by linear interpolation, or, every third time, leave it unchanged."""
    speed = 1.0 if rng.random() < 1 / 3 else rng.uniform(1 - spread, 1 + spread)
    position = np.arange(length) * min(speed, (len(x) - 1) / length)
    return np.interp(position, np.arange(len(x)), x).astype(np.float32)


def _frequencies(length: int) -> NDArray[np.float64]:
    return rfftfreq(next_fast_len(length, real=True), 1 / SAMPLE_RATE)


def _filtered(x: Samples, gain: NDArray[np.float64]) -> Samples:
    size = next_fast_len(len(x), real=True)
    return irfft(rfft(x, size) * gain.astype(np.float32), size)[: len(x)].astype(np.float32)


def _convolved(x: Samples, response: NDArray[np.float64]) -> Samples:
    size = next_fast_len(len(x) + len(response), real=True)
    spectrum = rfft(x, size) * rfft(response.astype(np.float32), size)
    return irfft(spectrum, size)[: len(x)].astype(np.float32)
