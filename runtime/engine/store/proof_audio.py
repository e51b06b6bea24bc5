"""The golden sound: stored seconds that sound like speech in noise, and what an engine makes of them."""

import wave
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtime.audio.denoise import StepDenoiser
from runtime.engine.session import OpenSession
from runtime.engine.store.entry import Proof
from runtime.errors import EngineStoreError
from runtime.manifest import Model, zoo_folder

Samples = NDArray[np.float32]

_BEST_DB: Final = 150.0


def compare_audio(model: Model, tested: OpenSession, exact: OpenSession) -> Proof:
    """Run the golden sound through an engine and through the reference, block by block with their states.

    Raises:
        UnsoundError: Something is not finite.
    """
    from runtime.engine.store.proof import UnsoundError

    assert model.manifest.audio is not None
    sound = read_sound(model.manifest.audio.sample_rate)
    ours, broken = _run(model, tested, sound)
    if broken:
        raise UnsoundError(f"{broken} of its blocks are not finite")
    theirs, _ = _run(model, exact, sound)
    return Proof(agreement_db=measure_agreement(ours, theirs), time_s=0.0)


def measure_agreement(ours: Samples, theirs: Samples) -> float:
    """Measure the signal of the reference over what an engine differs from it by, in dB, at most 150."""
    error = float(np.mean((ours.astype(np.float64) - theirs) ** 2))
    peak = float(np.max(np.abs(theirs)))
    return _BEST_DB if error == 0 else min(_BEST_DB, 10 * float(np.log10(peak**2 / error)))


def read_sound(sample_rate: int) -> Samples:
    """Read the stored sound: (n,) float32 in [-1, 1].

    Raises:
        EngineStoreError: It is missing, or of another rate.
    """
    path = zoo_folder() / "golden" / "speech.wav"
    try:
        with wave.open(str(path), "rb") as file:
            rate, content = file.getframerate(), file.readframes(file.getnframes())
    except (OSError, wave.Error) as error:
        raise EngineStoreError(f"the golden sound {path} cannot be read: {error}; reinstall Relume") from error
    if rate != sample_rate:
        raise EngineStoreError(f"the golden sound is at {rate} Hz, the model at {sample_rate} Hz")
    samples: Samples = np.frombuffer(content, "<i2").astype(np.float32)
    return samples / np.float32(32768)


def _run(model: Model, open_session: OpenSession, sound: Samples) -> tuple[Samples, int]:
    denoiser = StepDenoiser(model, open_session)
    try:
        made = np.concatenate([denoiser.push(sound), denoiser.flush()])
        return made, denoiser.non_finite_blocks
    finally:
        denoiser.close()
