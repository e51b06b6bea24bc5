"""Which part of a channel layout is speech: what the network hears, and where its change goes.

Mono: the channel. A layout with a centre: the centre alone, where film and broadcast keep the dialogue. All others: the
sum of the first two channels, while their difference follows with a slow gain, so that the image does not wobble.
Every other channel, the LFE too, passes untouched. Where one of the two has been digital silence for long, as beside a
single microphone, the other is heard alone; and a stretch of digital silence always stays as it is.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kernels.ring import Block
from runtime.errors import UnsupportedMediaError

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
    """Where speech is: `kind` says how the target is made from the channels that `first` and `second` name."""

    kind: Literal["single", "mid-side"]
    first: int
    second: int

    @property
    def targets(self) -> int:
        """Signals that the pipeline works on: the one the network hears, and the side."""
        return 1 if self.kind == "single" else 2

    def extract(self, block: Block, *, alone: int | None = None) -> Block:
        """Give (targets, n): what the network hears first; `alone` is the one channel that is heard, if only one is."""
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
    """Say where the speech is in a layout, by FFmpeg's name.

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
