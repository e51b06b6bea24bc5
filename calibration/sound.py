"""What a speech network reads while it runs as shipped: decoded, resampled, split, at its level, with its state.

And what it makes of speech whose truth is known.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from calibration.recording import RecordingBackend, Tensors
from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.engine.session import Backend
from runtime.errors import DecodeError
from runtime.manifest import Model
from runtime.media.audio_reader import AudioReader
from runtime.media.probe import probe
from training.speech_data import SAMPLE_RATE, Samples
from training.speech_measures import Mixture, si_sdr

BLOCK_SAMPLES = 1000
"""Of a block as a file's decoder gives it."""


def record_blocks(model: Model, recording: Path, *, blocks: int) -> Iterator[Tensors]:
    """Run a shipped speech model over a recording in float32 and give what the engine got, block after block.

    Args:
        model: A speech model of the zoo.
        recording: A file with sound.
        blocks: How many calls at most.

    Yields:
        Every input of one call by name; the arrays belong to the caller.

    Raises:
        DecodeError: The file has no sound.
    """
    tracks = probe(recording).audios
    if not tracks:
        raise DecodeError(f"{recording} has no sound to calibrate with; give recordings that have some")
    track = tracks[0]
    calls: list[Tensors] = []
    with (
        AudioReader(recording, track) as reader,
        SpeechEnhancer(
            model,
            RecordingBackend(calls, "step"),
            channels=track.channels,
            layout=track.layout,
            sample_rate=track.sample_rate,
        ) as enhancer,
    ):
        for block in reader:
            enhancer.push(block.samples)
            for call in calls[:blocks]:
                blocks -= 1
                yield call
            calls.clear()
            if not blocks:
                return


def enhance_speech(model: Model, noisy: Samples, backend: Backend, *, strength: float = 1.0) -> Samples:
    """Send 16 kHz mono through the shipped pipeline in blocks of a file's decoder."""
    with SpeechEnhancer(
        model, backend, channels=1, layout="mono", sample_rate=SAMPLE_RATE, strength=strength
    ) as enhancer:
        starts = range(0, len(noisy), BLOCK_SAMPLES)
        parts = [enhancer.push(noisy[None, start : start + BLOCK_SAMPLES]) for start in starts]
        parts.append(enhancer.flush())
    return np.concatenate(parts, axis=1)[0]


def measure_si_sdr(model: Model, mixtures: Sequence[Mixture], backend: Backend) -> float:
    """Return the mean SI-SDR in dB over the mixtures of what a session makes of them."""
    heard = [enhance_speech(model, mixture.noisy, backend) for mixture in mixtures]
    return float(np.mean([si_sdr(mixture.clean, one) for mixture, one in zip(mixtures, heard, strict=True)]))
