"""Backward warp: sample the recurrent state along the optical flow (bilinear, border clamp)."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.errors import DtypeError, LayoutError, NotFiniteError, ShapeError


def warp(
    state: NDArray[np.float32],
    flow: NDArray[np.float32],
    *,
    top: int = 0,
    left: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Backward-warp a state canvas along the flow: bilinear, positions clamped to the border.

    Only the rectangle that the flow covers is computed, so that a tile reads from the whole canvas.

    Args:
        state: (channels, height, width) float32, C-contiguous, the canvas.
        flow: (2, rows, columns) float32, finite, displacement in pixels, x then y.
        top: First row of the canvas that the flow covers.
        left: First column of the canvas that the flow covers.
        out: (channels, rows, columns) float32 to fill; a new array without it.

    Returns:
        (channels, rows, columns) float32: `state[c, top + y + v, left + x + u]`.

    Raises:
        ShapeError: The arrays do not fit together.
        DtypeError: An array is not float32.
        LayoutError: The state is not C-contiguous: each of its planes would be copied for each row of the result.
        NotFiniteError: The flow holds NaN or infinity.
    """
    if state.ndim != 3 or flow.ndim != 3 or flow.shape[0] != 2:
        raise ShapeError(
            f"got state {state.shape} and flow {flow.shape}, expected (channels, height, width) and (2, rows, columns)"
        )
    expected = (state.shape[0], flow.shape[1], flow.shape[2])
    if out is None:
        out = np.empty(expected, np.float32)
    if out.shape != expected:
        raise ShapeError(f"got out {out.shape}, expected {expected}")
    if not state.dtype == flow.dtype == out.dtype == np.float32:
        raise DtypeError(f"got {state.dtype}, {flow.dtype}, {out.dtype}, expected float32")
    if not state.flags.c_contiguous:
        raise LayoutError(f"got a state with strides {state.strides}, expected a C-contiguous array; copy it once")
    if not np.isfinite(flow).all():
        raise NotFiniteError("got a flow with NaN or infinity, expected finite displacements; use zeros in its place")
    _warp(state, flow, top, left, out)
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _warp(state: Any, flow: Any, top: int, left: int, out: Any) -> None:
    channels, height, width = state.shape
    rows, columns = flow.shape[1], flow.shape[2]
    first = np.empty(columns, np.int32)
    second = np.empty(columns, np.int32)
    third = np.empty(columns, np.int32)
    fourth = np.empty(columns, np.int32)
    w00 = np.empty(columns, np.float32)
    w01 = np.empty(columns, np.float32)
    w10 = np.empty(columns, np.float32)
    w11 = np.empty(columns, np.float32)
    for y in range(rows):
        for x in range(columns):
            sx = min(max(np.float32(left + x) + flow[0, y, x], np.float32(0)), np.float32(width - 1))
            sy = min(max(np.float32(top + y) + flow[1, y, x], np.float32(0)), np.float32(height - 1))
            ix, iy = min(max(int(sx), 0), width - 1), min(max(int(sy), 0), height - 1)
            fx, fy = sx - np.float32(ix), sy - np.float32(iy)
            right, low = min(ix + 1, width - 1), min(iy + 1, height - 1)
            first[x], second[x] = iy * width + ix, iy * width + right
            third[x], fourth[x] = low * width + ix, low * width + right
            w00[x], w01[x] = (1 - fy) * (1 - fx), (1 - fy) * fx
            w10[x], w11[x] = fy * (1 - fx), fy * fx
        for c in range(channels):
            plane = state[c].ravel()
            row = out[c, y]
            for x in range(columns):
                row[x] = (
                    w00[x] * plane[first[x]]
                    + w01[x] * plane[second[x]]
                    + w10[x] * plane[third[x]]
                    + w11[x] * plane[fourth[x]]
                )
