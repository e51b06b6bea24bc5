"""Music detector: lowers the effect where the network would remove something other than noise.

A speech network mistakes music for noise, so the signal that it would remove is analysed first. Music shows there as
partials: narrow peaks of the spectrum that stay in place for a fifth of a second or longer, which neither broadband
noise nor speech (whose pitch glides) has. Hum, fans and whistles have them too, but theirs never change; so a partial
counts as music only while new ones keep appearing at pitches that were quiet in the last seconds. Both conditions must
hold. Percussion alone has no partials and is not protected; with chords around it, it is, since the detector works on
the whole signal and slowly. Steady birdsong counts as music too, which does no harm.
"""

import math

import numpy as np
from numpy.typing import NDArray

from runtime.audio.denoiser import HOP_SAMPLES

Samples = NDArray[np.float32]

FRAME_SAMPLES = 4 * HOP_SAMPLES
STEP_HOPS = 2
PEAK_RATIO = 10.0
"""Power of a peak over the median of its neighbourhood (10 dB)."""
NEIGHBOURHOOD = 14
"""Bins on each side, about 220 Hz at 16 kHz."""
MATURE_FRAMES = 6
"""Frames of 32 ms for which a peak must persist to be a partial."""
FULL_SHARE = 0.38
"""Share of the removed energy in partials at which the detector is fully on."""
NO_SHARE = 0.2
_RAMP = np.arange(1, HOP_SAMPLES + 1) / HOP_SAMPLES
REST_FRAMES = 8
"""Partials that start within this many frames are one event: one chord, or the start of one hum."""


class MusicDetector:
    """Analyse the signal that a network removes, in hops of 256 samples at 16 kHz.

    Args:
        sample_rate: Of the signals, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        frame_s = STEP_HOPS * HOP_SAMPLES / sample_rate
        bins = FRAME_SAMPLES // 2 + 1
        frequencies = np.arange(bins) * sample_rate / FRAME_SAMPLES
        self._judged = (frequencies > 90) & (frequencies < 0.44 * sample_rate)
        self._window = np.hanning(FRAME_SAMPLES).astype(np.float32)
        self._past = np.zeros(FRAME_SAMPLES, np.float32)
        self._bins = np.arange(bins)
        self._ages = np.zeros(bins, np.int64)
        self._origins = self._bins.copy()
        self._presence = np.zeros(bins)
        self._powers = np.zeros(2)
        self._events = 0.0
        self._rest = 0
        self._music = 0.0
        self._hop = 0
        self._keep_power = math.exp(-frame_s / 0.4)
        self._keep_presence = math.exp(-frame_s / 4.0)
        self._keep_events = math.exp(-frame_s / 6.0)
        self._attack = 1 - math.exp(-frame_s / 0.15)
        self._release = 1 - math.exp(-frame_s / 1.5)

    def push(self, removed: Samples) -> Samples:
        """Return a weight in [0, 1] for each sample that would be removed: 1 noise, 0 music."""
        music = [self._music]
        for hop in removed.reshape(-1, HOP_SAMPLES):
            self._past = np.concatenate([self._past[HOP_SAMPLES:], hop])
            self._hop += 1
            if self._hop % STEP_HOPS == 0:
                self._judge()
            music.append(self._music)
        levels = np.asarray(music)
        ramps = levels[:-1, None] + np.diff(levels)[:, None] * _RAMP
        return (1 - ramps).astype(np.float32).ravel()

    def _judge(self) -> None:
        spectrum = np.fft.rfft(self._past * self._window)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        powers = np.array([power[self._follow_peaks(power)].sum(), power[self._judged].sum()])
        self._powers += (1 - self._keep_power) * (powers - self._powers)
        share = self._powers[0] / max(self._powers[1], 1e-9)
        target = min(max((share - NO_SHARE) / (FULL_SHARE - NO_SHARE), 0.0), 1.0)
        # One event alone never passes 1; two within some seconds turn the detector fully on.
        target *= min(max((self._events - 1.0) / 0.7, 0.0), 1.0)
        speed = self._attack if target > self._music else self._release
        self._music += speed * (target - self._music)

    def _follow_peaks(self, power: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Age the peaks of one spectrum, count events, and return the bins that belong to partials."""
        around = np.pad(power, NEIGHBOURHOOD, mode="reflect")
        median = np.median(np.lib.stride_tricks.sliding_window_view(around, 2 * NEIGHBOURHOOD + 1), axis=1)
        highest = np.maximum(power, np.maximum(np.roll(power, 1), np.roll(power, -1)))
        peak = self._judged & (power == highest) & (power > PEAK_RATIO * median + 1e-7)
        self._grow(peak)
        self._events *= self._keep_events
        self._rest = max(0, self._rest - 1)
        if np.any((self._ages == MATURE_FRAMES) & (self._presence < 0.4)) and not self._rest:
            self._events += 1.0
            self._rest = REST_FRAMES
        partial = _widened(self._ages >= MATURE_FRAMES)
        self._presence += (1 - self._keep_presence) * (partial - self._presence)
        return partial & self._judged

    def _grow(self, peak: NDArray[np.bool_]) -> None:
        """Continue each peak from the oldest adjacent peak, if that started at most one bin away."""
        ages = np.stack([np.roll(self._ages, shift) for shift in (0, 1, -1)])
        origins = np.stack([np.roll(self._origins, shift) for shift in (0, 1, -1)])
        ages[np.abs(origins - self._bins) > 1] = 0
        oldest = ages.argmax(axis=0)
        age = ages[oldest, self._bins]
        self._origins = np.where(age > 0, origins[oldest, self._bins], self._bins)
        self._ages = np.where(peak, age + 1, 0)


def _widened(bins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the bins that are set, with their neighbours."""
    return bins | np.roll(bins, 1) | np.roll(bins, -1)
