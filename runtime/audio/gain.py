"""A gain that follows what the network did to the low band, for what the network does not hear."""

import math

import numpy as np
from numpy.typing import NDArray

from runtime.audio.level import HOP_SAMPLES

Samples = NDArray[np.float32]

QUIET = 1e-12
"""Power, of full scale, under which a hop says nothing (-120 dB)."""


class GainFollower:
    """Follow the ratio of processed to original energy, hop by hop.

    Args:
        time_constant_s: Of the smoothing of both energies: short for the high band, which must close between words;
            long for a stereo side, whose image would wobble.
        sample_rate: Of both signals, Hz.
        emphasis: Weigh by first difference, towards the top of the low band.
        factor: Gains given per input sample: 3 from 16 to 48 kHz.
    """

    def __init__(self, time_constant_s: float, *, sample_rate: int, emphasis: bool, factor: int) -> None:
        self._keep = math.exp(-HOP_SAMPLES / sample_rate / time_constant_s)
        self._emphasis = emphasis
        self._before = np.zeros((2, 1), np.float32)
        self._powers = np.zeros(2)
        self._gain = 1.0
        self._ramp = np.arange(1, HOP_SAMPLES * factor + 1) / (HOP_SAMPLES * factor)

    def push(self, original: Samples, processed: Samples) -> Samples:
        """Give gains in [0, 1], `factor` for each sample of a block of whole hops."""
        pair = np.stack([original, processed])
        if self._emphasis:
            pair = np.diff(pair, axis=1, prepend=self._before)
            self._before = np.stack([original, processed])[:, -1:]
        powers = np.mean(pair.reshape(2, -1, HOP_SAMPLES).astype(np.float64) ** 2, axis=2)
        gains = np.empty(powers.shape[1] + 1)
        gains[0] = self._gain
        for hop in range(powers.shape[1]):
            self._powers += (1 - self._keep) * (powers[:, hop] - self._powers)
            if self._powers[0] > QUIET:
                self._gain = min(1.0, math.sqrt(self._powers[1] / self._powers[0]))
            gains[hop + 1] = self._gain
        steps = gains[:-1, None] + np.diff(gains)[:, None] * self._ramp
        return steps.astype(np.float32).reshape(-1)
