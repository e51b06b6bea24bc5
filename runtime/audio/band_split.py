"""The 48 kHz complementary split: 16 kHz for the network, and the rest of the band kept beside it.

A linear-phase low-pass of 193 taps (flat to 7.1 kHz) takes 48 kHz to 16 kHz and back. What resampling down and up loses
is the high band: x - up(down(x)). Adding it to up(processed) reconstructs x exactly if the processing changes nothing.
Both directions are aligned: sample m at 16 kHz is at the time of sample 3 m at 48 kHz; the filters' delay only means
that samples come out later.
"""

import math
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kernels.ring import Block, Ring
from runtime.audio.denoiser import HOP_SAMPLES, RecurrentDenoiser
from runtime.audio.music_detector import MusicDetector
from runtime.engine.session import Backend
from runtime.errors import ManifestError
from runtime.manifest import Model

FULL_RATE = 48_000
LOW_RATE = 16_000
FACTOR = 3
TAPS = 193
REACH = TAPS // 2
"""Samples at 48 kHz on each side of an output sample."""
LOW_REACH = REACH // FACTOR


def low_pass() -> NDArray[np.float32]:
    """Return the filter: a sinc at 7550 Hz under a Kaiser window, 60 dB, unit gain at 0 Hz."""
    time = np.arange(-REACH, REACH + 1)
    taps = np.sinc(2 * 7550 / FULL_RATE * time) * np.kaiser(TAPS, 5.65)
    unit: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return unit


class Decimator:
    """48 kHz to 16 kHz, one channel; n samples become ceil(n / 3) in all."""

    def __init__(self) -> None:
        self._taps = low_pass()
        self._held = np.zeros(REACH, np.float32)

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Filter and keep every third sample: (n,) to about (n / 3,)."""
        joined = np.concatenate([self._held, block])
        count = max(0, (len(joined) - TAPS) // FACTOR + 1)
        self._held = joined[FACTOR * count :]
        if not count:
            return np.empty(0, np.float32)
        windows = sliding_window_view(joined, TAPS)[: FACTOR * (count - 1) + 1 : FACTOR]
        return windows @ self._taps

    def flush(self) -> NDArray[np.float32]:
        """Return the samples that were still waiting for later input."""
        return self.push(np.zeros(REACH, np.float32))


class Interpolator:
    """16 kHz to 48 kHz, any number of channels; n samples become 3 n in all."""

    def __init__(self, channels: int) -> None:
        taps = low_pass() * FACTOR
        # Column p holds the taps of output 3 q + p over the 65 low samples around q.
        index = np.arange(FACTOR)[None, :] + 2 * REACH - FACTOR * np.arange(2 * LOW_REACH + 1)[:, None]
        self._phases = np.where(index < TAPS, taps[np.minimum(index, TAPS - 1)], np.float32(0))
        self._held = np.zeros((channels, LOW_REACH), np.float32)

    def push(self, block: Block) -> Block:
        """Interpolate: (channels, n) to about (channels, 3 n)."""
        joined = np.concatenate([self._held, block], axis=1)
        width = len(self._phases)
        count = max(0, joined.shape[1] - width + 1)
        self._held = joined[:, count:]
        if not count:
            return np.empty((len(joined), 0), np.float32)
        windows = sliding_window_view(joined, width, axis=1)
        return (windows @ self._phases).reshape(len(joined), -1)

    def flush(self) -> Block:
        """Return the samples that were still waiting for later input."""
        return self.push(np.zeros((len(self._held), LOW_REACH), np.float32))


Samples = NDArray[np.float32]

QUIET = 1e-12
"""Power relative to full scale below which a hop carries no information (-120 dB)."""


class GainFollower:
    """Follow the ratio of processed to original energy, hop by hop.

    Args:
        time_constant_s: Of the smoothing of both energies: short for the high band, which must close between words;
            long for a stereo side, whose image would wobble.
        sample_rate: Of both signals, Hz.
        emphasis: Weight by first difference, towards the top of the low band.
        factor: Gains returned per input sample: 3 from 16 to 48 kHz.
    """

    def __init__(self, time_constant_s: float, *, sample_rate: int, emphasis: bool, factor: int) -> None:
        self._keep = math.exp(-HOP_SAMPLES / sample_rate / time_constant_s)
        self._emphasis = emphasis
        self._before = np.zeros((2, 1), np.float32)
        self._powers = np.zeros(2)
        self._gain = 1.0
        self._ramp = np.arange(1, HOP_SAMPLES * factor + 1) / (HOP_SAMPLES * factor)

    def push(self, original: Samples, processed: Samples) -> Samples:
        """Return gains in [0, 1], `factor` for each sample of a block of whole hops."""
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


HIGH_TIME_CONSTANT_S = 0.04
SIDE_TIME_CONSTANT_S = 0.3
SILENCE = 1e-5
"""A hop whose peak is below this (-100 dBFS) is digital silence and stays unchanged."""


class SpeechEffect:
    """Compute the change of (targets, n) at 48 kHz: target 0 is denoised, target 1 (the side) follows it.

    Raises:
        ManifestError: The model is not for speech at 16 kHz, or its file was altered.
        SessionError: The engine cannot be opened.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        *,
        targets: int,
        strength: float,
        high_band: Literal["keep", "follow", "drop"],
    ) -> None:
        self.denoiser = RecurrentDenoiser(model, backend)
        spec = self.denoiser.spec
        if spec.sample_rate != LOW_RATE:
            raise ManifestError(f"model {model.manifest.name} runs at {spec.sample_rate} Hz, expected {LOW_RATE}")
        self._strength, self._high_band = strength, high_band
        self._down = Decimator()
        self._up = Interpolator(2)
        self._guard = MusicDetector(LOW_RATE)
        self._high = GainFollower(HIGH_TIME_CONSTANT_S, sample_rate=LOW_RATE, emphasis=True, factor=FACTOR)
        self._side = GainFollower(SIDE_TIME_CONSTANT_S, sample_rate=LOW_RATE, emphasis=False, factor=FACTOR)
        # The longest push, plus the most that can wait: the delay and two blocks.
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
        """Maximum delay in samples at 48 kHz: filters, network and a block to fill."""
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
        """Mean share of the change that the music detector suppressed."""
        return self._guarded / max(self._judged, 1)

    def push(self, block: Block) -> Block:
        """Process (targets, n) with n up to a second; return the change of the next samples that are ready."""
        self._taken += block.shape[1]
        self._full.push(block)
        low = self._down.push(block[0])
        return self._advance(low, self.denoiser.push(low))

    def flush(self) -> Block:
        """Return the rest, so that as many samples come out in all as were pushed."""
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
        """Return the change of the low band, after music detector and strength."""
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
        """Sum both bands as far as low band, high band and gains are available."""
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
