"""Which channels of a layout carry speech: the network's input, and the channels that its change is applied to.

Mono: the channel. A layout with a centre: the centre alone, where films and broadcasts keep the dialogue. All others:
the sum of the first two channels, while their difference follows with a slow gain, so that the stereo image stays
stable. Every other channel, including the LFE, passes unchanged. Where one of the two has long been digital silence, as
with a single microphone, only the other is used; and digital silence always stays unchanged.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kernels.ring import Block, Ring
from runtime.audio.band_split import FULL_RATE, SpeechEffect
from runtime.closing import Closing
from runtime.engine.session import Backend
from runtime.errors import OptionError, UnsupportedMediaError
from runtime.manifest import Model
from runtime.media.resample import RateConverter

CENTRE_LAYOUTS = {
    "3.0": 2,
    "3.1": 2,
    "4.0": 2,
    "4.1": 2,
    "5.0": 2,
    "5.1": 2,
    "6.0": 2,
    "6.1": 2,
    "7.0": 2,
    "7.1": 2,
    "hexagonal": 2,
    "octagonal": 2,
}
"""Index of the front centre in FFmpeg's layouts; a suffix such as `(side)` does not move it."""


@dataclass(frozen=True, slots=True)
class SpeechChannels:
    """Where the speech is: `kind` defines how the target is derived from the channels `first` and `second`."""

    kind: Literal["single", "mid-side"]
    first: int
    second: int

    @property
    def targets(self) -> int:
        """Number of processed signals: the network's input, and the side."""
        return 1 if self.kind == "single" else 2

    def extract(self, block: Block, *, alone: int | None = None) -> Block:
        """Return the (targets, n) signals, the network's input first; `alone` is the only channel used, if any."""
        if self.kind == "single":
            return block[self.first : self.first + 1]
        if alone is not None:
            return np.stack([block[alone], np.zeros_like(block[alone])])
        first, second = block[self.first], block[self.second]
        return np.stack([0.5 * (first + second), 0.5 * (first - second)])

    def add(self, block: Block, change: Block, *, alone: int | None = None, silent: tuple[int, ...] = ()) -> None:
        """Add the change of the targets, (targets, n), onto the channels of `block` that are not silent, in place."""
        changes = {self.first: change[0]}
        if self.kind == "mid-side" and alone is None:
            changes = {self.first: change[0] + change[1], self.second: change[0] - change[1]}
        elif alone is not None:
            changes = {alone: change[0]}
        for channel, one in changes.items():
            if channel not in silent:
                block[channel] += one


def find_speech(layout: str, channels: int) -> SpeechChannels:
    """Return where the speech is in a layout, by FFmpeg's name.

    Raises:
        UnsupportedMediaError: There is no channel at all.
    """
    if channels < 1:
        raise UnsupportedMediaError(f"got {channels} audio channels, expected at least one")
    if channels == 1:
        return SpeechChannels("single", 0, 0)
    centre = CENTRE_LAYOUTS.get(layout.partition("(")[0])
    if centre is not None and centre < channels:
        return SpeechChannels("single", centre, centre)
    return SpeechChannels("mid-side", 0, 1)


HighBand = Literal["keep", "follow", "drop"]
HOP_S = 0.02
"""Length of the hops for which digital silence is detected."""
PIECE_HOPS = 5
ALONE_AFTER_HOPS = 50
"""After this long a silence of one channel, or silence since the beginning, only the other is used."""
WAIT_S = 2.0
"""Capacity for samples that wait for their change; the delay is about 0.2 s at 48 kHz."""


@dataclass(slots=True)
class _Hop:
    """A hop of the source that waits for its change, and its remaining samples.

    `alone` is the only channel used, if any; the `silent` ones are digital silence.
    """

    alone: int | None
    silent: tuple[int, ...]
    left: int


@dataclass(frozen=True, slots=True)
class SpeechSummary:
    """The processing of a track, for the report.

    `attenuation_db` compares the energy of the speech channel before and after; `guarded_share` is the mean share
    of the effect that the music detector suppressed.
    """

    samples: int
    sample_rate: int
    backend: str
    attenuation_db: float
    guarded_share: float
    non_finite_blocks: int
    non_finite_samples: int

    @property
    def seconds(self) -> float:
        """Length of the track."""
        return self.samples / self.sample_rate


class SpeechEnhancer(Closing):
    """Remove the noise of one track; a context manager.

    Args:
        model: A speech model of the zoo.
        backend: Opens the model.
        channels: Of every block.
        layout: FFmpeg's name: `stereo`, `5.1(side)`, ...
        sample_rate: Of the track, Hz.
        strength: Share of the change that is applied, 0 to 1; at 0 the output is the input.
        high_band: Treatment above 7.5 kHz, which the network does not process: `follow` the low band's gain, `keep`
        unchanged, or `drop`.

    Raises:
        OptionError: `strength` or `high_band` is out of range.
        UnsupportedMediaError: There is no channel.
        ManifestError: The model is not for speech, or its file was altered.
        SessionError: The engine cannot be opened.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        *,
        channels: int,
        layout: str,
        sample_rate: int,
        strength: float = 1.0,
        high_band: HighBand = "follow",
    ) -> None:
        if not 0 <= strength <= 1:
            raise OptionError(f"got strength {strength}, expected 0 to 1")
        if high_band not in ("keep", "follow", "drop"):
            raise OptionError(f"got high band {high_band!r}, expected keep, follow or drop")
        self._rate = sample_rate
        self._speech = find_speech(layout, channels)
        targets = self._speech.targets
        self._hop = max(1, round(HOP_S * sample_rate))
        self._piece = PIECE_HOPS * self._hop
        self._waiting = Ring(channels, 2 * self._piece)
        self._source = Ring(channels, round(WAIT_S * sample_rate) + self._piece)
        self._hops: deque[_Hop] = deque()
        self._heard = [False, False]
        self._silent_hops = [0, 0]
        self._to_full = RateConverter(sample_rate, FULL_RATE, targets)
        self._from_full = RateConverter(FULL_RATE, sample_rate, targets)
        self._effect = SpeechEffect(model, backend, targets=targets, strength=strength, high_band=high_band)
        self._taken = 0
        self._non_finite_samples = 0

    @property
    def delay_samples(self) -> int:
        """Delay of the split and the network in samples of the track; resampling may add a few more."""
        return -(-self._effect.delay_samples * self._rate // FULL_RATE) + self._piece

    def push(self, block: Block) -> Block:
        """Enhance (channels, n) float32 in [-1, 1]; return (channels, m), the next samples that are ready.

        n may be anything, including 0. Output sample j belongs to input sample j. Samples that are not finite are
        replaced by 0.

        Raises:
            ShapeError: Another number of channels.
            DtypeError: Not float32.
        """
        parts = [self._source.peek(0)]
        for start in range(0, block.shape[1], self._piece):
            piece = self._finite(block[:, start : start + self._piece])
            self._waiting.push(piece)
            self._taken += piece.shape[1]
            if len(self._waiting) >= self._piece:
                parts.append(self._enhance(self._waiting.pop(self._piece)))
        return np.concatenate(parts, axis=1)

    def flush(self) -> Block:
        """End the track: return the rest, so that as many samples come out as went in."""
        total = -(-self._taken * FULL_RATE // self._rate)
        rest = self._enhance(self._waiting.pop(len(self._waiting)))
        change = self._effect.push(self._to_full.flush(total))
        parts = [
            rest,
            self._changed(self._from_full.push(change)),
            self._changed(self._from_full.push(self._effect.flush())),
            self._changed(self._from_full.flush(self._taken)),
        ]
        return np.concatenate(parts, axis=1)

    def summary(self) -> SpeechSummary:
        """Return the summary so far."""
        return SpeechSummary(
            samples=self._taken,
            sample_rate=self._rate,
            backend=self._effect.denoiser.backend,
            attenuation_db=self._effect.attenuation_db,
            guarded_share=self._effect.guarded_share,
            non_finite_blocks=self._effect.denoiser.non_finite_blocks,
            non_finite_samples=self._non_finite_samples,
        )

    def close(self) -> None:
        """Release the engine."""
        self._effect.denoiser.close()

    def _changed(self, change: Block) -> Block:
        # Rounding may take the resampler's last samples past the source's end.
        count = min(change.shape[1], len(self._source))
        block = self._source.pop(count)
        done = 0
        while done < count:
            hop = self._hops[0]
            part = slice(done, min(count, done + hop.left))
            self._speech.add(block[:, part], change[:, part], alone=hop.alone, silent=hop.silent)
            hop.left -= part.stop - part.start
            done = part.stop
            if not hop.left:
                self._hops.popleft()
        return block

    def _enhance(self, piece: Block) -> Block:
        """Process whole hops of the source, and the rest at its end; return what is ready."""
        targets = [self._speech.extract(piece[:, :0])]
        self._source.push(piece)
        for start in range(0, piece.shape[1], self._hop):
            hop = piece[:, start : start + self._hop]
            pair = (self._speech.first, self._speech.second)
            silent = tuple(channel for channel in pair if not hop[channel].any())
            alone = self._alone(silent)
            self._hops.append(_Hop(alone, silent, hop.shape[1]))
            targets.append(self._speech.extract(hop, alone=alone))
        full = self._to_full.push(np.concatenate(targets, axis=1))
        return self._changed(self._from_full.push(self._effect.push(full)))

    def _alone(self, silent_channels: tuple[int, ...]) -> int | None:
        """Return which of two channels is the only one with a signal, if one is."""
        if self._speech.kind == "single":
            return None
        pair = (self._speech.first, self._speech.second)
        for number, channel in enumerate(pair):
            audios = channel not in silent_channels
            self._heard[number] |= audios
            self._silent_hops[number] = 0 if audios else self._silent_hops[number] + 1
        for number, other in ((0, 1), (1, 0)):
            silent = self._silent_hops[other]
            if silent and not self._silent_hops[number] and (silent > ALONE_AFTER_HOPS or not self._heard[other]):
                return pair[number]
        return None

    def _finite(self, block: Block) -> Block:
        finite = np.isfinite(block)
        if finite.all():
            return block
        self._non_finite_samples += int(block.size - np.count_nonzero(finite))
        return np.where(finite, block, np.float32(0))
