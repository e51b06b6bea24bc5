"""Sample rate conversion block by block: output sample j is at the time of input sample j * source / target."""

import numpy as np
from numpy.typing import NDArray

from kernels.ring import Block

QUALITY = "HQ"
"""soxr's 20-bit setting; unchanged audio never passes a resampler, so more would not be audible."""


class RateConverter:
    """Resample (channels, n) float32 blocks; equal rates pass through untouched."""

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        import soxr

        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality=QUALITY)
        self._channels = channels
        self._given = 0

    def push(self, block: Block) -> Block:
        """Return what is ready, often less than the block is long; the filter's delay is compensated."""
        result = block if self._stream is None else self._chunk(block, last=False)
        self._given += result.shape[1]
        return result

    def flush(self, total: int) -> Block:
        """End the stream: return the rest of exactly `total` output samples, counted from the stream's first."""
        rest: Block = np.empty((self._channels, 0), np.float32)
        if self._stream is not None:
            rest = self._chunk(rest, last=True)
        missing = total - self._given
        if rest.shape[1] < missing:
            rest = np.pad(rest, ((0, 0), (0, missing - rest.shape[1])))
        self._given = total
        return rest[:, : max(missing, 0)]

    def _chunk(self, block: Block, *, last: bool) -> Block:
        assert self._stream is not None
        interleaved: NDArray[np.float32] = np.ascontiguousarray(block.T)
        # soxr keeps (n, 1) and (n,) apart; ours are always two-dimensional.
        chunk = self._stream.resample_chunk(interleaved, last=last)
        return np.ascontiguousarray(np.reshape(chunk, (-1, self._channels)).T)
