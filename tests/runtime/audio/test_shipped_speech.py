"""The shipped speech models in the shipped pipeline, on synthetic audio."""

import numpy as np
import pytest

from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import Model, find_model, zoo_folder

RATE = 48_000
SECONDS = 6


@pytest.fixture(scope="module", params=["speech-demucs", "speech-mask"])
def model(request: pytest.FixtureRequest) -> Model:
    if not (zoo_folder() / request.param / "manifest.json").exists():
        pytest.skip(f"zoo/{request.param} is not there")
    return find_model(request.param)


def enhance(model: Model, signal: np.ndarray, *, size: int = 4_800, **options: object) -> np.ndarray:
    layout = {1: "mono", 2: "stereo"}[len(signal)]
    with SpeechEnhancer(
        model, ModelBackend(find_backend("cpu")), channels=len(signal), layout=layout, sample_rate=RATE, **options
    ) as enhancer:
        starts = range(0, signal.shape[1], size)
        parts = [enhancer.push(signal[:, start : start + size]) for start in starts]
        return np.concatenate([*parts, enhancer.flush()], axis=1)


def energy_db(heard: np.ndarray, reference: np.ndarray) -> float:
    return 10 * np.log10(np.sum(np.square(heard)) / np.sum(np.square(reference)))


def time() -> np.ndarray:
    return np.arange(SECONDS * RATE) / RATE


def hiss(channels: int = 1, level: float = 0.05) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((channels, SECONDS * RATE))
    return (level * noise).astype(np.float32)


def chords_and_drums() -> np.ndarray:
    music = np.zeros(SECONDS * RATE)
    rng = np.random.default_rng(0)
    for index, start in enumerate(range(0, len(music), RATE)):
        bar = time()[:RATE]
        for semitone in ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))[index % 4]:
            pitch = 220 * 2 ** (semitone / 12)
            for harmonic in range(1, 7):
                wave = np.sin(2 * np.pi * pitch * harmonic * bar)
                music[start : start + RATE] += 0.03 / harmonic * np.exp(-bar / 1.5) * wave
        for beat in range(4):
            hit = time()[: RATE // 8]
            kick = np.sin(2 * np.pi * (60 + 80 * np.exp(-hit / 0.03)) * hit) * np.exp(-hit / 0.06)
            snare = rng.standard_normal(len(hit)) * np.exp(-hit / 0.04)
            at = start + beat * RATE // 4
            music[at : at + len(hit)] += 0.12 * kick if beat % 2 == 0 else 0.06 * snare
    return music.astype(np.float32)[None]


def test_music_keeps_more_than_half_its_energy(model: Model) -> None:
    music = chords_and_drums()
    assert energy_db(enhance(model, music), music) > -3


def test_hiss_is_removed(model: Model) -> None:
    noise = hiss(2)
    late = np.s_[:, 2 * RATE :]
    assert energy_db(enhance(model, noise)[late], noise[late]) < -10


def test_a_stream_equals_the_whole(model: Model) -> None:
    noisy = hiss(2, 0.01) + chords_and_drums()
    whole = enhance(model, noisy, size=noisy.shape[1])
    np.testing.assert_allclose(enhance(model, noisy, size=1_111), whole, atol=1e-4)


def test_no_strength_is_the_input(model: Model) -> None:
    noisy = hiss(2)
    np.testing.assert_allclose(enhance(model, noisy, strength=0.0), noisy, atol=1e-4)


def test_silence_stays_silence(model: Model) -> None:
    assert not enhance(model, np.zeros((2, RATE), np.float32)).any()


def test_the_manifest_states_the_measurements(model: Model) -> None:
    measures = {figure.measure: figure for figure in model.manifest.quality}
    assert measures["wide-band PESQ"].after > measures["wide-band PESQ"].before
    assert all("benchmarks.speech" in figure.command for figure in measures.values())
