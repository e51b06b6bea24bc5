"""The change that enhancement makes to speech at 48 kHz: what is to be added, sample under sample.

With x at 48 kHz and low = down(x), the enhanced signal is y = up(denoised) + gain * (x - up(low)). Given here is
y - x = up(denoised - low) + (gain - 1) * (x - up(low)): zero, to the bit, where the network changes nothing.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.ring import Block, Ring
from runtime.audio.denoise import StepDenoiser
from runtime.audio.gain import GainFollower
from runtime.audio.guard import MusicGuard
from runtime.audio.level import HOP_SAMPLES
from runtime.audio.split import FACTOR, FULL_RATE, LOW_RATE, REACH, Decimator, Interpolator
from runtime.engine.session import OpenSession
from runtime.errors import ManifestError
from runtime.manifest import Model

Samples = NDArray[np.float32]

HIGH_TIME_CONSTANT_S = 0.04
SIDE_TIME_CONSTANT_S = 0.3
SILENCE = 1e-5
"""A hop whose peak is under this (-100 dBFS) is digital silence and stays as it is."""


class SpeechEffect:
    """Work out the change of (targets, n) at 48 kHz: target 0 is denoised, target 1 (the side) follows it.

    Raises:
        ManifestError: The model is not for speech at 16 kHz, or its file was altered.
        SessionError: The engine cannot be opened.
    """

    def __init__(
        self,
        model: Model,
        open_session: OpenSession,
        *,
        targets: int,
        strength: float,
        high_band: Literal["keep", "follow", "drop"],
    ) -> None:
        self.denoiser = StepDenoiser(model, open_session)
        spec = self.denoiser.spec
        if spec.sample_rate != LOW_RATE:
            raise ManifestError(f"model {model.manifest.name} runs at {spec.sample_rate} Hz, expected {LOW_RATE}")
        self._strength, self._high_band = strength, high_band
        self._down = Decimator()
        self._up = Interpolator(2)
        self._guard = MusicGuard(LOW_RATE)
        self._high = GainFollower(HIGH_TIME_CONSTANT_S, sample_rate=LOW_RATE, emphasis=True, factor=FACTOR)
        self._side = GainFollower(SIDE_TIME_CONSTANT_S, sample_rate=LOW_RATE, emphasis=False, factor=FACTOR)
        # As long as a push may be, and what waits at most: the delay and two blocks.
        room = FULL_RATE + self.delay_samples
        self._full = Ring(targets, room)
        self._gains = Ring(2, room)
        self._low = Ring(1, room)
        self._wet = Ring(1, room)
        self._taken = self._given = 0
        self._energies = np.zeros(2)
        self._guarded, self._judged = 0.0, 0

    @property
    def delay_samples(self) -> int:
        """Samples at 48 kHz that are held back at most: filters, network and a block to fill."""
        spec = self.denoiser.spec
        network = spec.delay_samples + spec.block_samples + HOP_SAMPLES
        return 2 * REACH + FACTOR * network

    @property
    def attenuation_db(self) -> float:
        """Energy of target 0 before over after, in dB."""
        before, after = np.maximum(self._energies, 1e-20).tolist()
        return 10 * math.log10(before / after)

    @property
    def guarded_share(self) -> float:
        """Mean share of the change that the guard held back."""
        return self._guarded / max(self._judged, 1)

    def push(self, block: Block) -> Block:
        """Take (targets, n) with n up to a second, give the change of the next samples that are ready."""
        self._taken += block.shape[1]
        self._full.push(block)
        low = self._down.push(block[0])
        return self._advance(low, self.denoiser.push(low))

    def flush(self) -> Block:
        """Give the rest: as many samples in all as were pushed."""
        low = self._down.flush()
        wet = np.concatenate([self.denoiser.push(low), self.denoiser.flush()])
        padding = np.zeros(-(len(self._low) + len(low)) % HOP_SAMPLES, np.float32)
        parts = [
            self._advance(np.concatenate([low, padding]), np.concatenate([wet, padding])),
            self._combine(self._up.flush()),
        ]
        return np.concatenate(parts, axis=1)

    def _advance(self, low: Samples, wet: Samples) -> Block:
        self._low.push(low[None])
        self._wet.push(wet[None])
        count = min(len(self._low), len(self._wet)) // HOP_SAMPLES * HOP_SAMPLES
        if not count:
            return np.empty((self._full.channels, 0), np.float32)
        dry = self._low.pop(count)[0]
        change = self._low_change(dry, self._wet.pop(count)[0])
        side = self._side.push(dry, dry + change)
        self._gains.push(np.stack([self._high_gain(dry, dry + change), side]))
        return self._combine(self._up.push(np.stack([dry, change])))

    def _low_change(self, dry: Samples, wet: Samples) -> Samples:
        """Give what to add to the low band, after guard and strength."""
        weights = self._guard.push(dry - wet)
        self._guarded += float(np.sum(1 - weights))
        self._judged += len(weights)
        change = (wet - dry) * weights * np.float32(self._strength)
        hops = change.reshape(-1, HOP_SAMPLES)
        hops[np.abs(dry).reshape(-1, HOP_SAMPLES).max(axis=1) < SILENCE] = 0
        return change

    def _high_gain(self, dry: Samples, processed: Samples) -> Samples:
        if self._high_band == "follow":
            return self._high.push(dry, processed)
        gain = 1.0 if self._high_band == "keep" else 1.0 - self._strength
        return np.full(FACTOR * len(dry), gain, np.float32)

    def _combine(self, up: Block) -> Block:
        """Join both bands where low band, high band and gains are there."""
        count = min(up.shape[1], len(self._full))
        full, (high, side) = self._full.pop(count), self._gains.pop(count)
        low, change = up[:, :count]
        result = np.empty_like(full)
        result[0] = change + (high - 1) * (full[0] - low)
        if len(full) > 1:
            result[1] = (side - 1) * full[1]
        enhanced = full[0] + result[0]
        self._energies += float(full[0] @ full[0]), float(enhanced @ enhanced)
        return result
