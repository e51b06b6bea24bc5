import numpy as np
import pytest

from training.speech_data import SAMPLE_RATE, Recording, SpeechCorpus
from training.speech_mixing import active_rms, draw_example, draw_noise


def recording(name: str, seed: int) -> Recording:
    rng = np.random.default_rng(seed)
    syllables = np.repeat(rng.random(20) > 0.4, SAMPLE_RATE // 5)
    return Recording(name, (rng.standard_normal(len(syllables)) * 3000 * syllables).astype(np.int16))


@pytest.fixture
def corpus() -> SpeechCorpus:
    voices = tuple(recording(f"voice{index}", index) for index in range(4))
    noises = tuple(recording(f"noise{index}", 10 + index) for index in range(2))
    return SpeechCorpus(voices, noises)


def test_examples_are_finite_and_near_unit_level(corpus: SpeechCorpus) -> None:
    examples = [draw_example(corpus, np.random.default_rng(seed), 9_000) for seed in range(60)]
    for example in examples:
        assert example.mixture.dtype == example.target.dtype == np.float32
        assert example.mixture.shape == example.target.shape == (9_000,)
        assert np.isfinite(example.mixture).all()
    levels = [np.sqrt(np.mean(example.mixture**2)) for example in examples]
    assert 0.4 < np.median(levels) < 1.5


def test_kinds_of_examples_come_in_their_shares(corpus: SpeechCorpus) -> None:
    examples = [draw_example(corpus, np.random.default_rng(seed), 4_000) for seed in range(300)]
    silent = sum(not example.target.any() for example in examples)
    clean = sum(np.allclose(one.mixture, one.target, atol=1e-5) for one in examples)
    assert 0 < silent < 60
    assert 0 < clean < 60


def test_noise_is_never_silent_nor_too_long(corpus: SpeechCorpus) -> None:
    for seed in range(80):
        noise = draw_noise(corpus, np.random.default_rng(seed), 6_001)
        assert noise.shape == (6_001,)
        assert np.isfinite(noise).all()
        assert np.std(noise) > 1e-5


def test_the_active_level_leaves_pauses_out() -> None:
    talk = np.tile([0.5, -0.5], 8_192).astype(np.float32)
    with_pause = np.concatenate([talk, np.zeros(40_960, np.float32)])
    assert active_rms(with_pause) == pytest.approx(0.5, rel=1e-3)


def test_a_crop_of_a_short_recording_goes_round() -> None:
    short = Recording("short", np.arange(1, 5, dtype=np.int16))
    heard = short.cut(2, 7) * 32768
    np.testing.assert_array_equal(heard, [3, 4, 1, 2, 3, 4, 1])
