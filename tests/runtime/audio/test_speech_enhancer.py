import logging

import numpy as np
import pytest

from kernels.errors import ShapeError
from runtime.audio.music_detector import MusicDetector
from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.errors import ManifestError, OptionError, UnsupportedMediaError


def noise(channels: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, count)).astype(np.float32) * 0.1


def run(model, opener, signal, *, sizes=(1000,), layout="stereo", rate=48_000, **options):
    with SpeechEnhancer(model, opener, channels=len(signal), layout=layout, sample_rate=rate, **options) as enhancer:
        parts, start, turn = [], 0, 0
        while start < signal.shape[1]:
            size = sizes[turn % len(sizes)]
            parts.append(enhancer.push(signal[:, start : start + size]))
            start, turn = start + size, turn + 1
        parts.append(enhancer.flush())
        return np.concatenate(parts, axis=1), enhancer.summary()


def halve(y: np.ndarray) -> np.ndarray:
    return 0.5 * y


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(("channels", "layout"), [(1, "mono"), (2, "stereo"), (6, "5.1(side)"), (4, "quad")])
def test_a_network_that_changes_nothing_leaves_every_sample_alone(
    make_model, open_with, rate: int, channels: int, layout: str
) -> None:
    signal = noise(channels, rate // 2 + 13)
    heard, summary = run(make_model(), open_with(), signal, layout=layout, rate=rate)
    assert heard.shape == signal.shape
    np.testing.assert_allclose(heard, signal, atol=2e-6)
    assert abs(summary.attenuation_db) < 1e-4


@pytest.mark.parametrize("sizes", [(1,), (977, 3, 0, 4096), (100_000,)])
def test_blocks_of_any_size_equal_one_block(make_model, open_with, sizes) -> None:
    signal = noise(2, 9_000 if sizes == (1,) else 40_000)
    whole, _ = run(make_model(), open_with(halve), signal, sizes=(signal.shape[1],), rate=44_100)

    heard, _ = run(make_model(), open_with(halve), signal, sizes=sizes, rate=44_100)

    assert np.abs(whole - signal).max() > 0.01
    np.testing.assert_allclose(heard, whole, atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_what_the_network_changes_lands_on_its_own_sample(make_model, open_with, rate: int) -> None:
    click = np.zeros((1, rate), np.float32)
    at = rate // 3 + 5
    click[0, at] = 0.9
    # With the change alone left over: output minus input is -1 times the click's low band.
    heard, _ = run(
        make_model(),
        open_with(np.zeros_like),
        click + noise(1, rate) * 1e-3,
        layout="mono",
        rate=rate,
        high_band="keep",
    )
    change = heard[0] - click[0]
    assert int(np.argmax(np.abs(change))) == at
    # Symmetric around its sample: not even a fraction of a sample late.
    around = change[at - 3 : at + 4]
    np.testing.assert_allclose(around, around[::-1], atol=0.02)


def test_an_impulse_comes_out_at_its_own_sample(make_model, open_with) -> None:
    click = np.zeros((2, 30_000), np.float32)
    click[:, 12_345] = 1
    for opener, strength in ((open_with(), 1.0), (open_with(np.zeros_like), 0.0)):
        heard, _ = run(make_model(), opener, click, strength=strength)
        np.testing.assert_allclose(heard, click, atol=1e-4)


def test_silence_stays_silence(make_model, open_with) -> None:
    hiss = lambda y: y + 0.1  # noqa: E731  a network that is never quiet
    silence = np.zeros((2, 50_000), np.float32)
    heard, _ = run(make_model(), open_with(hiss), silence)
    assert heard.any() == False  # noqa: E712


def test_strength_mixes_between_the_input_and_the_change(make_model, open_with) -> None:
    signal = noise(2, 30_000)
    options = {"high_band": "drop"}
    whole, _ = run(make_model(), open_with(halve), signal, **options)
    none, _ = run(make_model(), open_with(halve), signal, strength=0.0, **options)
    half, _ = run(make_model(), open_with(halve), signal, strength=0.5, **options)
    np.testing.assert_allclose(none, signal, atol=1e-4)
    # The side follows energies, so only the mid is linear in the strength.
    mid = [x.sum(axis=0) for x in (whole, half, signal)]
    np.testing.assert_allclose(mid[1], 0.5 * (mid[0] + mid[2]), atol=1e-4)


@pytest.mark.parametrize(("high_band", "gain"), [("keep", 1.0), ("follow", 0.5), ("drop", 0.0)])
def test_the_high_band_is_kept_or_follows_or_is_dropped(make_model, open_with, high_band: str, gain: float) -> None:
    time = np.arange(96_000) / 48_000
    high = 0.1 * np.sin(2 * np.pi * 12_000 * time)[None].astype(np.float32)
    signal = high + noise(1, 96_000)
    heard, _ = run(make_model(), open_with(halve), signal, layout="mono", high_band=high_band)
    tone = np.exp(-2j * np.pi * 12_000 * time[48_000:90_000])
    measured = abs(heard[0, 48_000:90_000] @ tone) / abs(signal[0, 48_000:90_000] @ tone)
    assert measured == pytest.approx(gain, abs=0.02)


def test_only_the_centre_of_five_channels_and_lfe_is_worked_on(make_model, open_with) -> None:
    signal = noise(6, 30_000)
    heard, _ = run(make_model(), open_with(halve), signal, layout="5.1")
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(heard[others], signal[others])
    assert np.abs(heard[2] - signal[2]).max() > 0.01


def test_a_stereo_image_stays_in_place(make_model, open_with) -> None:
    source = noise(1, 96_000)
    signal = np.concatenate([0.9 * source, 0.3 * source])
    heard, _ = run(make_model(), open_with(halve), signal)
    late = slice(70_000, 90_000)
    balance = np.sqrt(np.mean(heard[0, late] ** 2) / np.mean(heard[1, late] ** 2))
    assert balance == pytest.approx(3, rel=0.05)
    assert np.std(heard[:, late]) == pytest.approx(0.5 * np.std(signal[:, late]), rel=0.05)


@pytest.mark.parametrize("count", [0, 1, 10])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_very_short_file_comes_out_as_long(make_model, open_with, count: int, rate: int) -> None:
    signal = noise(2, count)
    heard, summary = run(make_model(), open_with(), signal, rate=rate)
    np.testing.assert_allclose(heard, signal, atol=1e-6)
    assert summary.samples == count


def test_a_block_that_blows_up_is_run_again_from_rest(make_model, open_with, caplog) -> None:
    class Fragile:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, y: np.ndarray) -> np.ndarray:
            self.calls += 1
            return y * np.nan if self.calls == 10 else 0.5 * y

    signal = noise(1, 96_000)
    with caplog.at_level(logging.WARNING):
        heard, summary = run(make_model(), open_with(Fragile()), signal, layout="mono")
    assert np.isfinite(heard).all()
    assert summary.non_finite_blocks == 1
    assert "block 9 is not finite" in caplog.text


def test_a_network_that_only_returns_nan_passes_the_audio_through(make_model, open_with) -> None:
    signal = noise(2, 60_000)
    heard, summary = run(make_model(), open_with(lambda y: y * np.nan), signal)
    np.testing.assert_allclose(heard, signal, atol=1e-5)
    assert summary.non_finite_blocks > 5


def test_samples_that_are_not_finite_are_taken_as_zero_and_counted(make_model, open_with) -> None:
    signal = noise(2, 20_000)
    signal[1, 5_000] = np.inf
    signal[0, 7] = np.nan
    heard, summary = run(make_model(), open_with(), signal)
    assert np.isfinite(heard).all()
    assert heard[1, 5_000] == pytest.approx(0, abs=1e-4)
    assert summary.non_finite_samples == 2


def test_no_more_than_the_stated_delay_is_held_back(make_model, open_with) -> None:
    signal = noise(1, 48_000)
    with SpeechEnhancer(make_model(), open_with(), channels=1, layout="mono", sample_rate=48_000) as enhancer:
        given = 0
        for start in range(0, 48_000, 100):
            given += enhancer.push(signal[:, start : start + 100]).shape[1]
            assert start + 100 - given <= enhancer.delay_samples
        assert given > 48_000 - enhancer.delay_samples - 1


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_an_hour_drifts_by_no_sample(make_model, open_with, monkeypatch, rate: int) -> None:
    # The guard takes most of the time here and has no say in where a sample lands.
    monkeypatch.setattr(MusicDetector, "push", lambda _, removed: np.ones_like(removed))
    total = 3600 * rate + 17
    model = make_model(block_samples=16_384)
    minute = noise(1, 60 * rate)
    marks, given, changes = [int(0.5 * rate), total - rate], 0, {}
    with SpeechEnhancer(
        model, open_with(halve), channels=1, layout="mono", sample_rate=rate, high_band="keep"
    ) as enhancer:
        for start in range(0, total, minute.shape[1]):
            block = 0.01 * minute[:, : min(minute.shape[1], total - start)]
            for mark in marks:
                if start <= mark < start + block.shape[1]:
                    block[0, mark - start] = 0.9
            last = start + block.shape[1] == total
            heard = enhancer.push(block)
            if last:
                heard = np.concatenate([heard, enhancer.flush()], axis=1)
            for mark in marks:
                if given + 100 <= mark < given + heard.shape[1] - 100:
                    changes[mark] = heard[0, mark - given - 50 : mark - given + 51]
            given += heard.shape[1]
    assert given == total
    assert [int(np.argmax(np.abs(change))) for change in changes.values()] == [50, 50]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strength": 1.2}, OptionError, "got strength 1.2, expected 0 to 1"),
        ({"high_band": "loud"}, OptionError, "'loud', expected keep, follow or drop"),
        ({"channels": 0}, UnsupportedMediaError, "got 0 audio channels"),
    ],
)
def test_bad_options_are_refused(make_model, open_with, options, error, message) -> None:
    given = {"channels": 1, "layout": "mono", "sample_rate": 48_000} | options
    with pytest.raises(error, match=message):
        SpeechEnhancer(make_model(), open_with(), **given)


def test_a_model_at_another_rate_is_refused(make_model, open_with) -> None:
    with pytest.raises(ManifestError, match="runs at 24000 Hz, expected 16000"):
        SpeechEnhancer(make_model(sample_rate=24_000), open_with(), channels=1, layout="mono", sample_rate=48_000)


def test_a_block_of_other_channels_is_refused(make_model, open_with) -> None:
    with (
        SpeechEnhancer(make_model(), open_with(), channels=2, layout="stereo", sample_rate=48_000) as enhancer,
        pytest.raises(ShapeError, match=r"expected \(2, n\)"),
    ):
        enhancer.push(noise(3, 10))


def test_leaving_the_block_closes_the_engine(make_model, open_with) -> None:
    opener = open_with()
    run(make_model(), opener, noise(2, 100))
    assert opener.session.closed


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("side", [0, 1])
def test_a_channel_next_to_a_silent_one_is_cleaned_as_if_alone(make_model, open_with, side: int, rate: int) -> None:
    voice = noise(1, rate)
    signal = np.zeros((2, rate), np.float32)
    signal[side] = voice[0]

    heard, _ = run(make_model(), open_with(halve), signal, rate=rate, sizes=(777,))

    alone, _ = run(make_model(), open_with(halve), voice, layout="mono", rate=rate)
    assert not heard[1 - side].any()
    np.testing.assert_allclose(heard[side], alone[0], atol=1e-6)
    assert np.abs(alone - voice).max() > 0.01


@pytest.mark.parametrize("length_s", [0.1, 1.5])
def test_a_stretch_of_digital_silence_stays_as_it_is(make_model, open_with, length_s: float) -> None:
    signal = noise(2, 3 * 16_000)
    silent = slice(16_000, 16_000 + round(length_s * 16_000))
    signal[1, silent] = 0

    heard, _ = run(make_model(), open_with(halve), signal, rate=16_000, sizes=(1000, 37))

    assert not heard[1, silent].any()
    assert np.abs(heard[0, silent] - signal[0, silent]).max() > 0.01
    assert np.abs(heard[1] - signal[1])[silent.stop + 1000 :].max() > 0.01
