"""Analysis of a track before it is enhanced: loudness, clipping, mains hum and noise floor."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtime.media.audio_filters import Block, Loudness, LoudnessMeter

_MAINS_HZ: Final = (50.0, 60.0)
_HARMONICS: Final = 10
_MAINS_TOLERANCE: Final = 0.005
"""Tolerance for tapes that run too fast; the notes of tuned instruments are at least 2 % away."""
_AGREE_HZ: Final = 0.4
_SEGMENT_S: Final = 1.4
_MAX_SPECTRA: Final = 512
_STEADY_QUANTILE: Final = 0.2
"""Hum is present in quiet parts too; the quietest fifth of the spectra shows it best."""
_HUM_DB: Final = 12.0
_HUM_FLOOR_DB: Final = -80.0

_QUIETEST_DB: Final = -90
_LOUDEST_DB: Final = 12
_BINS_PER_DB: Final = 10
_TOP_DB: Final = 0.1
_SLOPE_DB: Final = 2.0
_CLIPPED_SHARE: Final = 1e-4
_PILE_UP: Final = 4.0

_FRAME_S: Final = 0.05
_FLOOR_QUANTILE: Final = 0.1


@dataclass(frozen=True, slots=True)
class AudioAnalysis:
    """The faults of a track.

    clipped_share: The share of samples in flat tops, of the channel that has the most; 0 if none is clipped.
    hum_hz: The mains frequency and its harmonics that stand out, Hz.
    noise_floor: The level of the quietest tenth of the track, dBFS; None for digital silence.
    """

    loudness: Loudness
    clipped_share: float
    hum_hz: tuple[float, ...]
    noise_floor: float | None

    @property
    def is_clipped(self) -> bool:
        """Whether the peaks of the waveform are cut off."""
        return self.clipped_share >= _CLIPPED_SHARE


def analyse(blocks: Iterable[Block], *, layout: str, sample_rate: int) -> AudioAnalysis:
    """Analyse a track, given as (channels, n) float32 blocks, in constant memory."""
    meter = LoudnessMeter(layout=layout, sample_rate=sample_rate)
    clipping, hum, floor = _Clipping(), _Hum(sample_rate), _Floor(sample_rate)
    for block in blocks:
        meter.push(block)
        clipping.push(block)
        mono = block.mean(axis=0)
        hum.push(mono)
        floor.push(mono)
    meter.flush()
    return AudioAnalysis(meter.result(), clipping.share(), hum.frequencies(), floor.level())


class _Windows:
    """Cuts a signal into windows of one length."""

    def __init__(self, length: int) -> None:
        self._length = max(1, length)
        self._rest = np.empty(0, np.float32)

    def push(self, signal: NDArray[np.float32]) -> None:
        signal = np.concatenate([self._rest, signal])
        whole = len(signal) // self._length
        if whole:
            self._take(signal[: whole * self._length].reshape(whole, self._length))
        self._rest = signal[whole * self._length :]

    def _take(self, windows: NDArray[np.float32]) -> None:
        """Analyse (count, length) windows."""
        raise NotImplementedError


class _Clipping:
    """Finds a level at which samples accumulate: the histogram of a natural waveform falls towards its peak."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] | None = None

    def push(self, block: Block) -> None:
        levels = 20 * np.log10(np.abs(np.nan_to_num(block)) + np.float32(1e-9))
        bins = np.round((np.clip(levels, _QUIETEST_DB, _LOUDEST_DB) - _QUIETEST_DB) * _BINS_PER_DB).astype(np.int64)
        length = (_LOUDEST_DB - _QUIETEST_DB) * _BINS_PER_DB + 1
        counts = np.stack([np.bincount(channel, minlength=length) for channel in bins])
        self._counts = counts if self._counts is None else self._counts + counts

    def share(self) -> float:
        return 0.0 if self._counts is None else max(_piled_up(counts) for counts in self._counts)


def _piled_up(counts: NDArray[np.int64]) -> float:
    """Return the share of samples at the top of a histogram of levels, if they are more than its slope allows."""
    peak = int(np.flatnonzero(counts)[-1])
    top, slope = round(_TOP_DB * _BINS_PER_DB), round(_SLOPE_DB * _BINS_PER_DB)
    if peak <= top + slope:
        return 0.0
    at_top = int(counts[peak - top : peak + 1].sum())
    usual = counts[peak - top - slope : peak - top].mean() * (top + 1)
    return at_top / int(counts.sum()) if at_top > _PILE_UP * max(usual, 1) else 0.0


class _Hum(_Windows):
    """Finds steady tones at the mains frequency and its harmonics in spectra of the quiet parts."""

    def __init__(self, sample_rate: int) -> None:
        length = 1 << round(math.log2(_SEGMENT_S * sample_rate))
        super().__init__(length)
        self._step_hz = sample_rate / length
        self._bins = min(length // 2, math.ceil((_HARMONICS + 1) * max(_MAINS_HZ) / self._step_hz))
        self._window = np.hanning(length).astype(np.float32)
        self._spectra: list[NDArray[np.float64]] = []
        self._every = self._skipped = 1

    def frequencies(self) -> tuple[float, ...]:
        if not self._spectra:
            return ()
        levels = np.quantile(np.stack(self._spectra), _STEADY_QUANTILE, axis=0)
        best: tuple[float, ...] = ()
        for mains in _MAINS_HZ:
            numbers = range(1, _HARMONICS + 1)
            peaks = {number: hz for number in numbers if (hz := self._peak(levels, mains * number)) is not None}
            # All are multiples of one frequency, which each of them estimates; one of them may be a voice.
            for base in [hz / number for number, hz in peaks.items()]:
                found = tuple(hz for number, hz in peaks.items() if abs(hz - base * number) < _AGREE_HZ)
                best = max(best, found, key=len)
        return best if len(best) > 1 else ()

    def _take(self, windows: NDArray[np.float32]) -> None:
        for window in windows:
            self._skipped += 1
            if self._skipped < self._every:
                continue
            self._skipped = 0
            spectrum = np.abs(np.fft.rfft(window * self._window)[: self._bins]) ** 2
            scale = (2 / self._window.sum()) ** 2 / 2
            self._spectra.append(10 * np.log10(spectrum * scale + 1e-20))
            if len(self._spectra) > _MAX_SPECTRA:
                self._spectra, self._every = self._spectra[::2], 2 * self._every

    def _peak(self, levels: NDArray[np.float64], hz: float) -> float | None:
        """Return the frequency of a tone close to one; None if none stands out."""
        reach = max(1, round(_MAINS_TOLERANCE * hz / self._step_hz))
        centre = round(hz / self._step_hz)
        near, far = math.ceil(4 / self._step_hz), math.ceil(16 / self._step_hz)
        if centre - reach < 1 or centre + reach + far >= len(levels):
            return None
        place = centre - reach + int(levels[centre - reach : centre + reach + 1].argmax())
        around = np.concatenate([levels[max(0, place - far) : place - near], levels[place + near : place + far]])
        before, here, after = levels[place - 1 : place + 2]
        if here < max(_HUM_FLOOR_DB, np.median(around) + _HUM_DB) or here < max(before, after):
            return None
        bend = before - 2 * here + after
        shift = (before - after) / (2 * bend) if bend else 0.0
        return round(float((place + shift) * self._step_hz), 2)


class _Floor(_Windows):
    """Measures the level of the quietest parts that are not digital silence."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__(round(_FRAME_S * sample_rate))
        self._counts = np.zeros(141, np.int64)

    def level(self) -> float | None:
        total = self._counts.sum()
        if not total:
            return None
        return float(np.searchsorted(np.cumsum(self._counts), _FLOOR_QUANTILE * total) - 140)

    def _take(self, windows: NDArray[np.float32]) -> None:
        power = np.square(windows, dtype=np.float64).mean(axis=1)
        levels = np.clip(np.round(10 * np.log10(power[power > 0])), -140, 0).astype(np.int64)
        self._counts += np.bincount(levels + 140, minlength=141)
