"""The 48 kHz complementary split: 16 kHz for the network, and the rest of the band kept beside it.

A linear-phase low-pass of 193 taps (flat to 7.1 kHz) takes 48 kHz to 16 kHz and back. What the way down and up loses
is the high band: x - up(down(x)). Adding it to up(processed) rebuilds x exactly when the processing does nothing.
Both ways are aligned: sample m at 16 kHz is at the time of sample 3 m at 48 kHz, and the filters' delay only shows as
samples that come later.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kernels.ring import Block

FULL_RATE = 48_000
LOW_RATE = 16_000
FACTOR = 3
TAPS = 193
REACH = TAPS // 2
"""Samples at 48 kHz on each side of an output sample."""
LOW_REACH = REACH // FACTOR


def low_pass() -> NDArray[np.float32]:
    """Give the filter: a sinc at 7550 Hz under a Kaiser window, 60 dB, unit gain at 0 Hz."""
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
        """Give the samples that still waited for what comes after them."""
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
        """Give the samples that still waited for what comes after them."""
        return self.push(np.zeros((len(self._held), LOW_REACH), np.float32))
