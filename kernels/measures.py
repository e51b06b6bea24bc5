"""Measures of values, in one pass each: whether they are finite and within bounds, and how much tiles changed."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cuda import measures as cuda
from kernels.cuda.module import is_on_gpu
from kernels.errors import DtypeError

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
