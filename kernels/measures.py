"""Measures of values, in one pass each: whether they are finite and within bounds, and how much tiles changed."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cuda import measures as cuda
from kernels.cuda.module import is_on_gpu
from kernels.errors import DtypeError, ShapeError

_BLOCK = 8
Array = NDArray[np.float32]

_MAGNITUDE = 0x7FFFFFFF
"""The bits of a float32 without its sign: as integers they are in the order of the magnitudes, NaN above infinity."""


def is_within(values: NDArray[np.float32], bound: float = float("inf")) -> bool:
    """Return whether every magnitude is below a bound; NaN never is.

    Args:
        values: Any shape, float32; read at the rate of memory where it is C-contiguous, else copied first.
        bound: Infinity asks for finite values.

    Raises:
        DtypeError: The array is not float32.
    """
    if is_on_gpu(values):
        return cuda.is_within(values, bound)
    if values.dtype != np.float32:
        raise DtypeError(f"got {values.dtype}, expected float32")
    bits = np.ascontiguousarray(values).reshape(-1).view(np.int32)
    return int(_largest_magnitude(bits)) < int(np.float32(bound).view(np.int32))


@njit(cache=True, nogil=True)
def _largest_magnitude(bits: Any) -> Any:
    largest = np.int32(0)
    for index in range(bits.size):
        largest = max(largest, np.int32(bits[index] & np.int32(_MAGNITUDE)))
    return largest


def largest_block_change(frame: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the largest mean absolute difference over a block of 8x8 pixels and all channels.

    Noise, spread over the frame, weighs little in it; something small that moves weighs much.

    Args:
        frame: (channels, height, width) float32.
        reference: Of the same shape.

    Raises:
        ShapeError: They are not of one shape of three axes.
        DtypeError: One is not float32.
    """
    if is_on_gpu(frame, reference):
        return cuda.largest_block_change(frame, reference)
    if frame.shape != reference.shape:
        raise ShapeError(f"got {frame.shape} and {reference.shape}, expected two arrays of one shape")
    if frame.dtype != np.float32 or reference.dtype != np.float32:
        raise DtypeError(f"got {frame.dtype} and {reference.dtype}, expected float32")
    if frame.ndim != 3:
        raise ShapeError(f"got {frame.shape}, expected (channels, height, width)")
    return float(_largest_block_change(frame, reference)) if frame.size else 0.0


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _largest_block_change(frame: Any, reference: Any) -> Any:
    channels, height, width = frame.shape
    blocks = -(-width // _BLOCK)
    sums = np.empty(blocks, np.float32)
    largest = np.float32(0)
    for top in range(0, height, _BLOCK):
        rows = min(_BLOCK, height - top)
        sums[:] = 0
        for c in range(channels):
            for y in range(top, top + rows):
                for block in range(width // _BLOCK):
                    total = np.float32(0)
                    for x in range(block * _BLOCK, block * _BLOCK + _BLOCK):
                        total += abs(frame[c, y, x] - reference[c, y, x])
                    sums[block] += total
                for x in range(width // _BLOCK * _BLOCK, width):
                    sums[blocks - 1] += abs(frame[c, y, x] - reference[c, y, x])
        for block in range(blocks):
            columns = min(_BLOCK, width - block * _BLOCK)
            mean = sums[block] / np.float32(channels * rows * columns)
            # NaN is a change, and the comparison is false for it.
            if not mean <= largest:
                largest = mean
    return largest


def block_means(plane: NDArray[np.float32], reference: NDArray[np.float32], side: int) -> tuple[Array, Array]:
    """Return the means of a plane over whole blocks, and those of its difference from a reference.

    Args:
        plane: (height, width) float32.
        reference: Of the same shape.
        side: Of a block, in pixels.

    Returns:
        Two arrays (height // side, width // side) float32.

    Raises:
        ShapeError: They are not two planes of one size.
        DtypeError: One is not float32.
    """
    if plane.ndim != 2 or plane.shape != reference.shape:
        raise ShapeError(f"got {plane.shape} and {reference.shape}, expected two planes of one size")
    if plane.dtype != np.float32 or reference.dtype != np.float32:
        raise DtypeError(f"got {plane.dtype} and {reference.dtype}, expected float32")
    size = plane.shape[0] // side, plane.shape[1] // side
    means, changes = np.empty(size, np.float32), np.empty(size, np.float32)
    _block_means(plane, reference, side, means, changes)
    return means, changes


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _block_means(plane: Any, reference: Any, side: int, means: Any, changes: Any) -> None:
    share = np.float32(1) / np.float32(side * side)
    for row in range(means.shape[0]):
        for column in range(means.shape[1]):
            total = change = np.float32(0)
            for y in range(row * side, row * side + side):
                for x in range(column * side, column * side + side):
                    total += plane[y, x]
                    change += plane[y, x] - reference[y, x]
            means[row, column] = total * share
            changes[row, column] = change * share
