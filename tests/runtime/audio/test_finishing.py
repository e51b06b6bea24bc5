import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.audio.analysis import analyse
from runtime.audio.finishing import TARGETS, Finisher, FinishPlan, LoudnessTarget
from runtime.errors import CancelledError
from runtime.media.audio_filters import LoudnessMeter
from runtime.options import LoudnessStandard
from runtime.stages import StopSignal

RATE = 48_000
Signal = NDArray[np.float32]


def voice(seconds: float, *, level: float = 0.1, seed: int = 0, pitch: float = 130.0, rate: int = RATE) -> Signal:
    """Generate syllables of harmonics with pauses, as (n,) float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    glide = pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(glide) / rate
    tone = sum(np.sin(number * phase + rng.uniform(0, 6)) / number**1.5 for number in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.3, 0, None) * (np.sin(2 * np.pi * 0.21 * time) > -0.8)
    return (level * tone * syllables + 1e-4 * rng.standard_normal(len(time))).astype(np.float32)


def blocks(signal: Signal, length: int = 5_000) -> list[Signal]:
    signal = np.atleast_2d(signal)
    return [signal[:, start : start + length] for start in range(0, signal.shape[1], length)]


def measure(signal: Signal, layout: str = "mono", rate: int = RATE):
    meter = LoudnessMeter(layout=layout, sample_rate=rate)
    for block in blocks(signal):
        meter.push(block)
    meter.flush()
    return meter.result()


@pytest.fixture
def finish(tmp_path):
    """Finish a signal, (channels, n), as a plan says; return the result and its summary."""

    def run(signal, plan, *, layout="mono", rate=RATE):
        signal = np.atleast_2d(signal)
        analysis = analyse(blocks(signal), layout=layout, sample_rate=rate)
        scratch = tmp_path / "samples"
        with Finisher(plan, analysis, layout=layout, sample_rate=rate, scratch=scratch, stop=StopSignal()) as finisher:
            for block in blocks(signal):
                finisher.store(finisher.repair(block))
            rest = finisher.flush()
            if rest is not None:
                finisher.store(rest)
            result = np.concatenate([np.empty((len(signal), 0), np.float32), *finisher.finish()], axis=1)
            summary = finisher.summary()
        assert not scratch.exists()
        assert result.shape == signal.shape
        assert result.dtype == np.float32
        return result, summary

    return run


def lag(before: Signal, after: Signal, reach: int = 200) -> int:
    """Return the number of samples by which `after` is late."""
    middle = before[reach:-reach]
    return (
        int(np.argmax([np.dot(middle, after[reach + by : len(after) - reach + by]) for by in range(-reach, reach)]))
        - reach
    )


@pytest.mark.parametrize("standard", list(TARGETS))
@pytest.mark.parametrize(("layout", "rate"), [("mono", 16_000), ("stereo", 44_100), ("5.1(side)", 48_000)])
def test_every_target_is_met_and_nothing_moves(finish, standard, layout, rate):
    target = TARGETS[standard]
    channels = {"mono": 1, "stereo": 2}.get(layout, 6)
    signal = np.stack([voice(8, level=0.05, seed=number, rate=rate) for number in range(channels)])

    result, summary = finish(signal, FinishPlan(repair=False, level=False, target=target), layout=layout, rate=rate)

    after = measure(result, layout, rate)
    assert abs(after.integrated - target.lufs) < 0.5
    assert after.true_peak < target.true_peak
    assert lag(signal[0], result[0]) == 0
    assert abs(summary.after.integrated - after.integrated) < 0.05


def test_loud_peaks_are_limited_below_the_ceiling(finish):
    signal = voice(8)
    signal[RATE * 2 :: RATE] = 0.95  # one click per second, so that gain alone cannot reach the target
    target = LoudnessTarget(-14.0, -1.0)

    result, summary = finish(signal, FinishPlan(repair=False, level=False, target=target))

    after = measure(result)
    assert summary.is_limited
    assert abs(after.integrated - target.lufs) < 0.5
    assert after.true_peak < target.true_peak
    assert lag(signal, result[0]) == 0


def test_quiet_speakers_are_brought_closer_to_loud_ones(finish):
    loud, quiet = voice(8, level=0.2), voice(8, level=0.03, seed=1, pitch=210.0)
    signal = np.concatenate([loud, quiet, loud, quiet])

    result, summary = finish(signal, FinishPlan(repair=False, level=True, target=TARGETS[LoudnessStandard.PODCAST]))

    before = measure(signal[: len(loud)]).integrated - measure(signal[len(loud) : 2 * len(loud)]).integrated
    after = measure(result[0, : len(loud)]).integrated - measure(result[0, len(loud) : 2 * len(loud)]).integrated
    assert before > 12
    assert 2 < after < before - 5
    assert 6 < summary.levelled_db <= 12


def test_clipping_is_repaired_by_more_than_3_db(finish):
    signal = voice(3, level=0.2)
    limit = float(np.quantile(np.abs(signal), 0.9))
    clipped = np.clip(signal, -limit, limit)

    result, summary = finish(clipped, FinishPlan(repair=True, level=False, target=None))

    def sdr(other: Signal) -> float:
        return float(10 * np.log10(np.square(signal).sum() / np.square(signal - other).sum()))

    assert summary.clipped_share > 0.05
    assert sdr(result[0] * 10 ** (-summary.gain_db / 20)) > sdr(clipped) + 3


def test_hum_is_removed_and_speech_stays(finish):
    signal = voice(12)
    time = np.arange(len(signal)) / RATE
    hum = sum(0.006 / number * np.sin(2 * np.pi * 50.08 * number * time) for number in (1, 2))

    result, summary = finish((signal + hum).astype(np.float32), FinishPlan(repair=True, level=False, target=None))

    assert {1, 2} <= {round(hz / 50.08) for hz in summary.hum_hz} <= {1, 2}
    assert all(abs(hz / 50.08 - round(hz / 50.08)) < 0.004 for hz in summary.hum_hz)
    later = slice(RATE, -RATE)

    def tone(of, number):
        return abs(2 * np.mean((of * np.exp(-2j * np.pi * 50.08 * number * time))[later]))

    for number in (1, 2):
        assert tone(hum, number) == pytest.approx(0.006 / number, rel=0.01)
        assert tone(result[0] - signal, number) < 0.1 * tone(hum, number)
    assert np.square(result[0] - signal)[later].mean() < 0.01 * np.square(signal[later]).mean()


def test_audio_without_faults_stays_unchanged(finish):
    rng = np.random.default_rng(3)
    time = np.arange(6 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hz * time + rng.uniform(0, 6)) for hz in (196.0, 246.9, 293.7, 392.0, 987.8))
    music = (0.08 * chord * (1.2 + np.sin(2 * np.pi * 1.9 * time))).astype(np.float32)

    result, summary = finish(
        np.stack([music, 0.8 * music]), FinishPlan(repair=True, level=False, target=None), layout="stereo"
    )

    assert (summary.hum_hz, summary.clipped_share, summary.gain_db) == ((), 0.0, 0.0)
    assert np.abs(result[0] - music).max() < 1e-4


def test_clicks_are_removed(finish):
    signal, rng = voice(8), np.random.default_rng(5)
    clicked = signal.copy()
    for place in rng.integers(RATE, 7 * RATE, 30):
        clicked[place : place + 6] += (0.3 * rng.standard_normal(6)).astype(np.float32)

    result, _ = finish(clicked, FinishPlan(repair=True, level=False, target=None))

    assert np.square(result[0] - signal).sum() < 0.3 * np.square(clicked - signal).sum()


def test_silence_stays_silence(finish):
    result, summary = finish(
        np.zeros((2, RATE)), FinishPlan(True, True, TARGETS[LoudnessStandard.EBU]), layout="stereo"
    )

    assert not result.any()
    assert (summary.gain_db, summary.after.integrated) == (0.0, None)


@pytest.mark.parametrize("length", [0, 1, 100])
def test_a_track_of_a_few_samples_is_kept(finish, length):
    result, _ = finish(voice(1)[None, :length], FinishPlan(True, True, TARGETS[LoudnessStandard.EBU]))

    assert result.shape == (1, length)


def test_it_stops_between_blocks(tmp_path):
    stopped = threading.Event()
    signal = np.atleast_2d(voice(4))
    analysis = analyse(blocks(signal), layout="mono", sample_rate=RATE)
    plan = FinishPlan(repair=False, level=False, target=TARGETS[LoudnessStandard.EBU])
    with Finisher(
        plan, analysis, layout="mono", sample_rate=RATE, scratch=tmp_path / "samples", stop=StopSignal(stopped)
    ) as finisher:
        finisher.store(signal)
        stopped.set()
        with pytest.raises(CancelledError):
            list(finisher.finish())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("share", "found"), [(0.0, False), (0.01, True), (0.05, True)])
def test_clipping_is_found_at_any_level(share, found):
    signal = voice(6, level=0.05)
    limit = float(np.quantile(np.abs(signal), 1 - share)) if share else 1.0

    analysis = analyse(blocks(np.clip(signal, -limit, limit)), layout="mono", sample_rate=RATE)

    assert analysis.is_clipped is found
    assert analysis.clipped_share == pytest.approx(share, rel=0.3)


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_hum_of_either_mains_frequency_is_found_in_quiet_parts(mains):
    signal = voice(8)
    time = np.arange(len(signal)) / RATE
    hum = sum(0.004 * np.sin(2 * np.pi * (mains + 0.03) * number * time) for number in (1, 3, 5))

    clean = analyse(blocks(signal), layout="mono", sample_rate=RATE)
    humming = analyse(blocks((signal + hum).astype(np.float32)), layout="mono", sample_rate=RATE)

    assert clean.hum_hz == ()
    assert len(humming.hum_hz) > 1
    assert {round(hz / mains) for hz in humming.hum_hz} <= {1, 3, 5}
    assert humming.noise_floor > clean.noise_floor + 10


def test_the_analysis_does_not_depend_on_the_blocks():
    signal = np.stack([voice(5), voice(5, seed=1)])

    one, other = (analyse(blocks(signal, length), layout="stereo", sample_rate=RATE) for length in (977, 100_000))

    assert one == other
