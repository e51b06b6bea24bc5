"""Film grain on the luma plane of a finished frame: a pattern that depends on the frame's number alone."""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.colour import YuvLayout
from kernels.errors import DtypeError, ShapeError
from kernels.workers import SINGLE, Workers

_SIDE: Final = 256
_BLOCK: Final = 32
"""Side of the blocks that take their grain from different places of the pattern, as in AV1's film grain synthesis."""
_SEED: Final = 20_261_127


def add_grain(
    luma: NDArray[Any], sigma: float, layout: YuvLayout, *, frame: int, workers: Workers = SINGLE
) -> NDArray[Any]:
    """Add grain in place; strongest in the mid-tones, none in black and white.

    Args:
        luma: (height, width) uint8 or uint16, C-contiguous.
        sigma: Standard deviation in the mid-tones, of a luma range of 1.
        layout: What the samples mean.
        frame: The number of the frame; the same number gives the same grain.
        workers: Threads that share the rows.

    Returns:
        The plane.

    Raises:
        ShapeError: It is not a plane, or not contiguous.
        DtypeError: It has another dtype than the layout's bits need.
    """
    expected = np.uint8 if layout.bit_depth == 8 else np.uint16
    if luma.ndim != 2 or (luma.size and not luma.flags.c_contiguous):
        raise ShapeError(f"got luma {luma.shape} with strides {luma.strides}, expected a contiguous plane")
    if luma.dtype != expected:
        raise DtypeError(f"got luma of {luma.dtype} for {layout.bit_depth} bits, expected {np.dtype(expected).name}")
    if sigma <= 0 or not luma.size:
        return luma
    offset, span = layout.coding()[:2]
    blocks = -(-luma.shape[0] // _BLOCK)
    given = (luma, _pattern(), np.float32(sigma * span), np.float32(offset), np.float32(span), np.uint32(frame))
    workers.run(lambda begin, end: _add_grain(*given, begin, end), blocks, least=2)
    return luma


@cache
def _pattern() -> NDArray[np.float32]:
    """Return Gaussian noise of unit variance, softened to grains of about two pixels; it tiles without a seam."""
    noise = np.random.default_rng(_SEED).standard_normal((_SIDE, _SIDE))
    for axis in (0, 1):
        noise = 0.25 * np.roll(noise, 1, axis) + 0.5 * noise + 0.25 * np.roll(noise, -1, axis)
    pattern: NDArray[np.float32] = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return pattern


@njit(cache=True, nogil=True)
def _add_grain(luma: Any, pattern: Any, scale: Any, offset: Any, span: Any, frame: Any, begin: int, end: int) -> None:
    height, width = luma.shape
    top = np.float32(offset + span)
    for block_row in range(begin, end):
        for block_column in range((width + _BLOCK - 1) // _BLOCK):
            # An integer hash (Wellons, 2018) of the frame and the block chooses the place in the pattern.
            mixed = np.uint32(frame * np.uint32(0x9E3779B1) + np.uint32(block_row * 65_537 + block_column))
            mixed = np.uint32((mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x7FEB352D))
            mixed = np.uint32((mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x846CA68B))
            mixed = np.uint32(mixed ^ (mixed >> np.uint32(16)))
            from_row, from_column = int(mixed) % _SIDE, int(mixed >> np.uint32(8)) % _SIDE
            left = block_column * _BLOCK
            for y in range(block_row * _BLOCK, min(height, (block_row + 1) * _BLOCK)):
                grain = pattern[(from_row + y) % _SIDE]
                for x in range(left, min(width, left + _BLOCK)):
                    value = np.float32(luma[y, x])
                    level = min(max((value - offset) / span, np.float32(0)), np.float32(1))
                    weight = np.float32(2) * np.sqrt(level * (np.float32(1) - level))
                    value += scale * weight * grain[(from_column + x) % _SIDE]
                    luma[y, x] = luma.dtype.type(min(max(value, offset), top) + np.float32(0.5))
