"""Quality measures of denoised speech: wide-band PESQ, STOI and SI-SDR on a fixed set of held-out mixtures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pesq import pesq
from pystoi import stoi

from training.speech_data import SAMPLE_RATE, Recording, Samples, SpeechCorpus
from training.speech_mixing import active_rms


@dataclass(frozen=True, slots=True)
class Mixture:
    """Clean speech, the noisy mixture, and how it was mixed."""

    speaker: str
    noise: str
    snr_db: float
    clean: Samples
    noisy: Samples


def held_out_mixtures(
    corpus: SpeechCorpus, *, seconds: float, snrs_db: Sequence[float], per_noise: int
) -> list[Mixture]:
    """Create the fixed set: every noise `per_noise` times, cycling through speakers and SNRs."""
    rng = np.random.default_rng(20061284)
    length = int(seconds * SAMPLE_RATE)
    mixtures: list[Mixture] = []
    for noise in corpus.noise:
        for _ in range(per_noise):
            index = len(mixtures)
            speaker = corpus.speech[index % len(corpus.speech)]
            snr_db = snrs_db[index % len(snrs_db)]
            clean = _loudest(speaker, length)
            added = noise.crop(rng, length)
            gain = active_rms(clean) / np.sqrt(np.mean(added**2) + 1e-12) * 10 ** (-snr_db / 20)
            noisy = clean + added * np.float32(gain)
            scale = np.float32(0.5 / np.abs(noisy).max())
            mixtures.append(Mixture(speaker.name, noise.name, snr_db, clean * scale, noisy * scale))
    return mixtures


def measure(mixtures: Sequence[Mixture], enhance: Callable[[Samples], Samples]) -> dict[str, float]:
    """Return the means of all three measures, on the mixtures after `enhance`."""
    rows = [measure_one(mixture.clean, enhance(mixture.noisy)) for mixture in mixtures]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def measure_one(clean: Samples, heard: Samples) -> dict[str, float]:
    """Return wide-band PESQ, STOI and SI-SDR (dB) of one signal."""
    return {
        "pesq": float(pesq(SAMPLE_RATE, clean, heard, "wb")),
        "stoi": float(stoi(clean, heard, SAMPLE_RATE)),
        "si_sdr": si_sdr(clean, heard),
    }


def si_sdr(clean: Samples, heard: Samples) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (arXiv 1811.02508)."""
    reference, estimate = (x.astype(np.float64) - x.mean() for x in (clean, heard))
    projection = reference * (estimate @ reference / (reference @ reference))
    error = estimate - projection
    return float(10 * np.log10((projection @ projection) / (error @ error + 1e-20) + 1e-20))


def _loudest(recording: Recording, length: int) -> Samples:
    """Cut the part with the most energy, so that no mixture is silent."""
    energy = np.concatenate(([0.0], np.cumsum(recording.samples.astype(np.float64) ** 2)))
    starts = np.arange(0, max(1, len(recording.samples) - length), 800)
    ends = np.minimum(starts + length, len(recording.samples))
    return recording.cut(int(starts[np.argmax(energy[ends] - energy[starts])]), length)
