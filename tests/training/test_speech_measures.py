import numpy as np
import pytest

from training.speech_data import SAMPLE_RATE, Recording, SpeechCorpus
from training.speech_measures import held_out_mixtures, si_sdr
from training.speech_mixing import active_rms


def corpus() -> SpeechCorpus:
    rng = np.random.default_rng(0)
    recordings = [
        Recording(name, (rng.standard_normal(3 * SAMPLE_RATE) * 2000).astype(np.int16))
        for name in ("one", "two", "tap", "train")
    ]
    return SpeechCorpus(tuple(recordings[:2]), tuple(recordings[2:]))


def test_the_set_is_the_same_each_time_and_has_every_noise() -> None:
    first, again = (held_out_mixtures(corpus(), seconds=1, snrs_db=(0, 10), per_noise=3) for _ in range(2))
    assert [one.noise for one in first] == ["tap"] * 3 + ["train"] * 3
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.noisy, same.noisy)


def test_mixtures_have_the_snr_that_they_state() -> None:
    for mixture in held_out_mixtures(corpus(), seconds=1, snrs_db=(0, 5, 15), per_noise=3):
        noise = mixture.noisy - mixture.clean
        snr_db = 20 * np.log10(active_rms(mixture.clean) / np.sqrt(np.mean(noise**2)))
        assert snr_db == pytest.approx(mixture.snr_db, abs=0.05)
        assert np.abs(mixture.noisy).max() == pytest.approx(0.5)


def test_si_sdr_is_the_snr_whatever_the_scale() -> None:
    rng = np.random.default_rng(0)
    clean, noise = rng.standard_normal((2, 100_000))
    assert si_sdr(clean, 3 * (clean + 0.1 * noise)) == pytest.approx(20, abs=0.1)
