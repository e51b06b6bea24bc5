"""Recordings for the speech networks: speakers and noise sources, some of them held out completely."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recording:
    """One file, 16 kHz mono, kept as 16-bit integers; `name` is its path without suffix below its corpus."""

    name: str
    samples: NDArray[np.int16]

    def crop(self, rng: np.random.Generator, length: int) -> Samples:
        """Draw `length` samples in [-1, 1); a shorter recording is repeated."""
        start = int(rng.integers(max(1, len(self.samples) - length)))
        return self.cut(start, length)

    def cut(self, start: int, length: int) -> Samples:
        """Return `length` samples from `start` on, wrapping around at the end."""
        part = self.samples[start : start + length]
        if len(part) < length:
            part = np.take(self.samples, np.arange(start, start + length), mode="wrap")
        return part.astype(np.float32) / 32768


@dataclass(frozen=True, slots=True)
class SpeechCorpus:
    """The recordings for training, or for validation."""

    speech: tuple[Recording, ...]
    noise: tuple[Recording, ...]


def load_corpora(
    media: Path, *, held_out_noise: Iterable[str], held_out_speakers: int
) -> tuple[SpeechCorpus, SpeechCorpus]:
    """Read `media/speech` and `media/noise`: the training part and the held-out part.

    Speakers are held out evenly over the sorted file names, noises by name (`folder/file`).

    Raises:
        FileNotFoundError: There is nothing to train on, or a held-out noise does not exist.
    """
    speech, noise = _read(media / "speech"), _read(media / "noise")
    wanted = set(held_out_noise)
    missing = wanted - {recording.name for recording in noise}
    if missing or len(speech) <= held_out_speakers or len(noise) <= len(wanted):
        raise FileNotFoundError(
            f"{media} has {len(speech)} speech and {len(noise)} noise files, missing held-out noises: {sorted(missing)}"
        )
    step = len(speech) / max(held_out_speakers, 1)
    apart = {int((index + 0.5) * step) for index in range(held_out_speakers)}
    kept = SpeechCorpus(
        tuple(recording for index, recording in enumerate(speech) if index not in apart),
        tuple(recording for recording in noise if recording.name not in wanted),
    )
    held_out = SpeechCorpus(
        tuple(speech[index] for index in sorted(apart)),
        tuple(recording for recording in noise if recording.name in wanted),
    )
    return kept, held_out


def _read(folder: Path) -> list[Recording]:
    recordings = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in {".flac", ".wav"}:
            continue
        samples, rate = soundfile.read(path, dtype="int16")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise ValueError(f"{path} is {rate} Hz, {samples.ndim}-D; expected 16000 Hz mono")
        name = path.relative_to(folder).with_suffix("").as_posix()
        recordings.append(Recording(name, samples))
    return recordings
