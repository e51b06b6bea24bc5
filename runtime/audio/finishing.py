"""Finishing of a track: repair before the speech enhancement; levels, loudness and peaks after it.

A track is read twice: `runtime.audio.analysis` finds the faults, then its samples go through the repair
and the speech network into a scratch file. Only then is its loudness known, and with it the gain that the target
requires. Repair, limiter and meter are FFmpeg's filters.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from runtime.atomic_files import convert_os_errors
from runtime.audio.analysis import AudioAnalysis
from runtime.closing import Closing
from runtime.media.audio_filters import AudioFilter, Block, Loudness, LoudnessMeter
from runtime.options import LoudnessStandard
from runtime.stages import StopSignal

_DECLIP: Final = "window={}:overlap=50:arorder=8:threshold=10:method=save"
_DECLIP_SAMPLES: Final = 1_500
"""The running time of FFmpeg's filter grows with the cube of the number of clipped samples in its window."""
_DECLICK: Final = ("adeclick", "threshold=10")
_LEAD_IN_S: Final = 0.2
"""FFmpeg's `adeclick` loses its first window, so its first sample is repeated before the track."""
_NOTCH_HZ: Final = 2.0

_READ_SAMPLES: Final = 16_384
_MAX_GAIN_DB: Final = 30.0
_MAX_RESTORED_LU: Final = 10.0
"""The largest gain, in LU, that makes up for noise removed by the speech network."""
_REACHED_LU: Final = 0.5
_CLOSE_LU: Final = 0.1
_ATTEMPTS: Final = 5
_HEADROOM_DB: Final = 0.3
"""Margin for peaks between the samples at four times the rate, at which the limiter works, and for lossy codecs."""
_OVERSAMPLING: Final = 4
_REPAIRED_PEAK_DB: Final = -1.0

_SPEECH_GATE_LU: Final = 20.0
_SPEECH_GATE_LUFS: Final = -50.0
_LEVEL_WINDOW: Final = 30
_LEVEL_LEAST: Final = 10
_LEVEL_SHARE: Final = 0.7
_LEVEL_RANGE_DB: Final = 6.0
_LEVEL_SMOOTH: Final = 10


@dataclass(frozen=True, slots=True)
class LoudnessTarget:
    """The loudness of a finished track. lufs: integrated. true_peak: the ceiling, dBTP."""

    lufs: float
    true_peak: float


TARGETS: Final = {
    LoudnessStandard.EBU: LoudnessTarget(-23.0, -1.0),  # EBU R 128
    LoudnessStandard.ATSC: LoudnessTarget(-24.0, -2.0),  # ATSC A/85
    LoudnessStandard.PODCAST: LoudnessTarget(-16.0, -1.0),  # AES TD1008, stereo
}


@dataclass(frozen=True, slots=True)
class FinishPlan:
    """The processing of each track. repair: Hum, clicks and clipping. level: Even out speakers."""

    repair: bool
    level: bool
    target: LoudnessTarget | None


@dataclass(frozen=True, slots=True)
class FinishSummary:
    """The processing of a track, for the report.

    gain_db: The constant gain. levelled_db: The largest change of level between speakers. is_limited: Whether peaks
    were limited to the ceiling. before and after: Loudness of the source, and of the samples that were encoded.
    """

    before: Loudness
    after: Loudness
    target: LoudnessTarget | None
    gain_db: float
    levelled_db: float
    is_limited: bool
    hum_hz: tuple[float, ...]
    clipped_share: float
    repaired: bool

    @property
    def shortfall(self) -> float | None:
        """The LU by which the track is quieter than its target; None if it is not, or is silent."""
        if self.target is None or self.after.integrated is None:
            return None
        missing = self.target.lufs - self.after.integrated
        return missing if missing > _REACHED_LU else None


class Finisher(Closing):
    """Finishes one track; a context manager.

    The samples of the source go through `repair`, those of the result into `store`, and `finish` yields them again,
    finished, as many as were stored.

    Args:
        plan: What is to be done.
        analysis: Of the source.
        layout: FFmpeg's name.
        sample_rate: Hz.
        scratch: A file for the samples, 4 bytes each; it is removed at the end.
        stop: Ends the work when set.
    """

    def __init__(
        self,
        plan: FinishPlan,
        analysis: AudioAnalysis,
        *,
        layout: str,
        sample_rate: int,
        scratch: Path,
        stop: StopSignal,
    ) -> None:
        self._plan, self._analysis, self._stop = plan, analysis, stop
        self._layout, self._rate, self._scratch = layout, sample_rate, scratch
        self._repair: AudioFilter | None = None
        self._lead_in: int | None = None
        if plan.repair:
            self._repair = AudioFilter(_repairs(analysis, sample_rate), layout=layout, sample_rate=sample_rate)
        self._meter = LoudnessMeter(layout=layout, sample_rate=sample_rate)
        self._file: BinaryIO | None = None
        self._channels = 0
        self._summary: FinishSummary | None = None

    def repair(self, block: Block) -> Block:
        """Return the repaired samples that are ready; block: (channels, n) float32."""
        if self._repair is None or not block.shape[1]:
            return block
        if self._lead_in is None:
            self._lead_in = round(_LEAD_IN_S * self._rate)
            block = np.pad(block, ((0, 0), (self._lead_in, 0)), mode="edge")
        return self._without_lead_in(self._repair.push(block))

    def flush(self) -> Block | None:
        """Return the repaired samples that are left; None if there are none."""
        return None if self._lead_in is None or self._repair is None else self._without_lead_in(self._repair.flush())

    def store(self, block: Block) -> None:
        """Store processed samples.

        Raises:
            OutputError: The scratch file cannot be written.
        """
        self._channels = block.shape[0]
        with convert_os_errors(self._scratch.parent):
            if self._file is None:
                self._file = self._scratch.open("w+b")
            self._file.write(np.ascontiguousarray(block.T).tobytes())
        self._meter.push(block)

    def finish(self) -> Iterator[Block]:
        """Yield all stored samples with their gain, peaks limited."""
        self._meter.flush()
        before = self._meter.result()
        curve = _no_curve()
        if self._plan.level and before.integrated is not None:
            curve = _level_curve(np.array(self._meter.momentary), before.integrated)
        levelled = self._measure(0.0, curve, None) if curve.any() else before
        gain, ceiling, after = self._choose_gain(levelled, curve)
        self._summary = FinishSummary(
            before=self._analysis.loudness,
            after=after,
            target=self._plan.target,
            gain_db=round(gain, 2),
            levelled_db=round(float(np.ptp(curve)), 1),
            is_limited=ceiling is not None,
            hum_hz=self._analysis.hum_hz if self._plan.repair else (),
            clipped_share=self._analysis.clipped_share if self._plan.repair else 0.0,
            repaired=self._plan.repair,
        )
        if self._file is not None:
            yield from self._apply(gain, curve, ceiling)

    def summary(self) -> FinishSummary:
        """Return what was done, once `finish` has ended."""
        assert self._summary is not None
        return self._summary

    def close(self) -> None:
        """Remove the scratch file."""
        if self._file is not None:
            self._file.close()
            self._scratch.unlink(missing_ok=True)

    def _without_lead_in(self, block: Block) -> Block:
        assert self._lead_in is not None
        left_out = min(self._lead_in, block.shape[1])
        self._lead_in -= left_out
        return block[:, left_out:]

    def _choose_gain(self, loudness: Loudness, curve: NDArray[np.float64]) -> tuple[float, float | None, Loudness]:
        """Return the gain, the limiter's ceiling (None: nothing to limit) and the resulting loudness."""
        target = self._plan.target
        if loudness.integrated is None or loudness.true_peak is None:
            return 0.0, None, loudness
        if target is None:
            # Restored peaks may exceed full scale: the gain makes room for them, and nothing is limited.
            room = _REPAIRED_PEAK_DB - loudness.true_peak
            gain = min(0.0, room) if self._plan.level or self._analysis.is_clipped else 0.0
            return gain, None, _shift(loudness, gain)
        source = (
            loudness.integrated if self._analysis.loudness.integrated is None else self._analysis.loudness.integrated
        )
        most = min(_MAX_GAIN_DB, max(0.0, target.lufs - source) + _MAX_RESTORED_LU)
        gain = min(target.lufs - loudness.integrated, most)
        if loudness.true_peak + gain <= target.true_peak:
            return gain, None, _shift(loudness, gain)
        after = loudness
        for _ in range(_ATTEMPTS):
            after = self._measure(gain, curve, target.true_peak)
            missing = target.lufs - (after.integrated or target.lufs)
            if abs(missing) <= _CLOSE_LU or gain + missing > most:
                break
            gain += missing
        return gain, target.true_peak, after

    def _measure(self, gain: float, curve: NDArray[np.float64], ceiling: float | None) -> Loudness:
        meter = LoudnessMeter(layout=self._layout, sample_rate=self._rate)
        for block in self._apply(gain, curve, ceiling):
            meter.push(block)
        meter.flush()
        return meter.result()

    def _apply(self, gain: float, curve: NDArray[np.float64], ceiling: float | None) -> Iterator[Block]:
        limiter = None if ceiling is None else self._limiter(ceiling)
        place = done = 0
        for block in self._read():
            times = (place + np.arange(block.shape[1])) / self._rate
            steps = (np.arange(len(curve)) - 1) * LoudnessMeter.STEP_S  # the middle of each step's 0.4 s
            factor = 10 ** ((gain + np.interp(times, steps, curve)) / 20)
            place += block.shape[1]
            result: Block = (block * factor).astype(np.float32)
            if limiter is not None:
                result = limiter.push(result)
            done += result.shape[1]
            yield result
        if limiter is not None:
            rest = limiter.flush()[:, : place - done]
            yield np.pad(rest, ((0, 0), (0, place - done - rest.shape[1])))

    def _limiter(self, ceiling: float) -> AudioFilter:
        level = 10 ** ((ceiling - _HEADROOM_DB) / 20)
        limit = f"limit={level:.6f}:attack=5:release=80:level=false:latency=true"
        oversampled = [("aresample", str(_OVERSAMPLING * self._rate)), ("alimiter", limit)]
        filters = [*oversampled, ("aresample", str(self._rate))]
        return AudioFilter(filters, layout=self._layout, sample_rate=self._rate)

    def _read(self) -> Iterator[Block]:
        if self._file is None:
            return
        self._file.flush()
        self._file.seek(0, os.SEEK_SET)
        while data := self._file.read(4 * self._channels * _READ_SAMPLES):
            self._stop.check()
            yield np.frombuffer(data, np.float32).reshape(-1, self._channels).T


def _repairs(analysis: AudioAnalysis, sample_rate: int) -> list[tuple[str, str]]:
    """Return the filters that repair a track: clipping first, while its flat tops are still flat."""
    window_ms = min(100.0, max(10.0, 1000 * _DECLIP_SAMPLES / sample_rate))
    clipped = [("adeclip", _DECLIP.format(window_ms))] if analysis.is_clipped else []
    notches = [("bandreject", f"frequency={hz}:width_type=h:width={_NOTCH_HZ}") for hz in analysis.hum_hz]
    return [*clipped, _DECLICK, *notches]


def _shift(loudness: Loudness, gain: float) -> Loudness:
    assert loudness.integrated is not None
    assert loudness.true_peak is not None
    return Loudness(round(loudness.integrated + gain, 3), loudness.range, round(loudness.true_peak + gain, 3))


def _no_curve() -> NDArray[np.float64]:
    return np.zeros(1)


def _level_curve(momentary: NDArray[np.float32], integrated: float) -> NDArray[np.float64]:
    """Return the gain in dB at each step of a meter that brings quiet and loud speakers closer.

    It follows the loudness of speech in the 3 s around a step by seven tenths, at most 6 dB up or down; through pauses
    it goes from one speaker's gain to the next.
    """
    speech = momentary > max(_SPEECH_GATE_LUFS, integrated - _SPEECH_GATE_LU)
    window = np.ones(_LEVEL_WINDOW)
    count = np.convolve(speech, window, "same")
    power = np.convolve(np.where(speech, 10 ** (momentary.astype(np.float64) / 10), 0.0), window, "same")
    known = np.flatnonzero(count >= _LEVEL_LEAST)
    if not len(known):
        return _no_curve()
    level = 10 * np.log10(power[known] / count[known])
    gain = np.clip(_LEVEL_SHARE * (integrated - level), -_LEVEL_RANGE_DB, _LEVEL_RANGE_DB)
    curve = np.interp(np.arange(len(momentary)), known, gain)
    reach = np.arange(-3 * _LEVEL_SMOOTH, 3 * _LEVEL_SMOOTH + 1)
    bell = np.exp(-0.5 * (reach / _LEVEL_SMOOTH) ** 2)
    padded = np.pad(curve, 3 * _LEVEL_SMOOTH, mode="edge")
    smooth: NDArray[np.float64] = np.convolve(padded, bell / bell.sum(), "valid")
    return smooth
