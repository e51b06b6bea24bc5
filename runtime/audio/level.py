"""The level tracker: speech networks want unit level, so the host follows the level and divides by it.

The published cumulative average takes seconds to follow a step. This one moves in decibels, fast up and slowly down,
so it settles near the level of the loud syllables. Training uses this very code.
"""

import math

import numpy as np
from numpy.typing import NDArray

HOP_SAMPLES = 256
"""Samples between two levels; blocks are multiples of it."""

Samples = NDArray[np.float32]


class LevelTracker:
    """Follow the level of one channel.

    Digital silence leaves the level alone at its floor, and the first hop above the floor sets it at once: what
    comes after silence has nothing before it that a jump could disturb.

    Args:
        sample_rate: Of the channel, Hz.
        rise_db_per_s: Fastest way up.
        fall_db_per_s: Fastest way down.
        floor_db: Lowest level, dB of full scale.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        rise_db_per_s: float = 60.0,
        fall_db_per_s: float = 10.0,
        floor_db: float = -70.0,
    ) -> None:
        hops_per_s = sample_rate / HOP_SAMPLES
        self._rise_db = rise_db_per_s / hops_per_s
        self._fall_db = fall_db_per_s / hops_per_s
        self._floor_db = floor_db
        self._level_db = floor_db

    @property
    def level_db(self) -> float:
        """The level after the last block, dB of full scale."""
        return self._level_db

    def push(self, block: Samples) -> Samples:
        """Give the level at each sample of a block of whole hops, as an amplitude: (n,) float32 to the same."""
        hops = np.asarray(block, np.float64).reshape(-1, HOP_SAMPLES)
        power = np.mean(hops * hops, axis=1)
        measured = 10 * np.log10(np.maximum(power, 10 ** (self._floor_db / 10)))
        starts, ends = np.empty(len(hops)), np.empty(len(hops))
        for hop, target in enumerate(measured.tolist()):
            starts[hop], self._level_db = self._step(target)
            ends[hop] = self._level_db
        ramp = np.arange(1, HOP_SAMPLES + 1) / HOP_SAMPLES
        levels_db = starts[:, None] + (ends - starts)[:, None] * ramp
        return np.exp(levels_db * (math.log(10) / 20)).astype(np.float32).reshape(-1)

    def _step(self, target_db: float) -> tuple[float, float]:
        before = self._level_db
        if before <= self._floor_db:
            return target_db, target_db
        change = min(max(target_db - before, -self._fall_db), self._rise_db)
        return before, before + change
