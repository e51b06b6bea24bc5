"""A ring buffer of audio: queue, delay line and overlap-add in one fixed allocation.

Plain NumPy: a push or a pop is at most two block copies. A delay of 1716 samples took 8 microseconds for a block of
2 x 1024 samples and 9 for 2 x 3072; loops in Numba took 3 and 14. Neither counts against a block's 64 milliseconds.
So it stays on the CPU where there is a GPU too: to launch a kernel and copy a block there and back would take longer.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.errors import DtypeError, ShapeError

Block = NDArray[np.float32]


class Ring:
    """A queue of (channels, n) float32 blocks that never grows.

    A ring that starts with `filled` zeros is a delay line: `delay` then gives back what was pushed `filled` samples
    ago.

    Raises:
        ShapeError: `channels` or `capacity` is not positive, or `filled` does not fit.
    """

    def __init__(self, channels: int, capacity: int, *, filled: int = 0) -> None:
        if channels < 1 or capacity < 1 or not 0 <= filled <= capacity:
            raise ShapeError(
                f"got {channels} channels, capacity {capacity}, filled {filled}; "
                "expected at least 1, at least 1, and 0 to the capacity"
            )
        self._samples = np.zeros((channels, capacity), np.float32)
        self._start = 0
        self._length = filled

    def __len__(self) -> int:
        return self._length

    @property
    def channels(self) -> int:
        """Channels of every block."""
        return self._samples.shape[0]

    @property
    def capacity(self) -> int:
        """Samples that fit."""
        return self._samples.shape[1]

    def push(self, block: Block) -> None:
        """Append (channels, n) float32.

        Raises:
            ShapeError: Another number of channels, or more samples than are free.
            DtypeError: Not float32.
        """
        count = self._checked(block)
        if count > self.capacity - self._length:
            raise ShapeError(
                f"got {count} samples, {self.capacity - self._length} of {self.capacity} are free; "
                "pop first or use a larger ring"
            )
        self._write(block, self._length)
        self._length += count

    def peek(self, count: int, *, offset: int = 0) -> Block:
        """Copy `count` samples that begin `offset` after the oldest, and keep them.

        Raises:
            ShapeError: Fewer are available.
        """
        if count < 0 or offset < 0 or offset + count > self._length:
            raise ShapeError(f"asked for {count} samples at {offset}, {self._length} are available")
        block = np.empty((self.channels, count), np.float32)
        position = (self._start + offset) % self.capacity
        first = min(count, self.capacity - position)
        block[:, :first] = self._samples[:, position : position + first]
        block[:, first:] = self._samples[:, : count - first]
        return block

    def pop(self, count: int) -> Block:
        """Remove the `count` oldest samples and return a copy.

        Raises:
            ShapeError: Fewer are available.
        """
        block = self.peek(count)
        self._start = (self._start + count) % self.capacity
        self._length -= count
        return block

    def delay(self, block: Block) -> Block:
        """Push a block and pop as much: the delay is what the ring held before.

        Raises:
            ShapeError: As `push`.
            DtypeError: As `push`.
        """
        self.push(block)
        return self.pop(block.shape[1])

    def add(self, block: Block, *, offset: int = 0) -> None:
        """Overlap-add: add onto held samples from `offset` on, and append what reaches past them.

        Raises:
            ShapeError: Another number of channels, an offset past the end, or too few samples are free.
            DtypeError: Not float32.
        """
        count = self._checked(block)
        if not 0 <= offset <= self._length or offset + count > self.capacity:
            raise ShapeError(f"got {count} samples at {offset}, the ring holds {self._length} of {self.capacity}")
        shared = min(count, self._length - offset)
        self._write(self.peek(shared, offset=offset) + block[:, :shared], offset)
        self.push(block[:, shared:])

    def _write(self, block: Block, offset: int) -> None:
        count = block.shape[1]
        position = (self._start + offset) % self.capacity
        first = min(count, self.capacity - position)
        self._samples[:, position : position + first] = block[:, :first]
        self._samples[:, : count - first] = block[:, first:]

    def _checked(self, block: Block) -> int:
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ShapeError(f"got a block of shape {block.shape}, expected ({self.channels}, n)")
        if block.dtype != np.float32:
            raise DtypeError(f"got a block of {block.dtype}, expected float32")
        return int(block.shape[1])
