"""Backward warp: sample the recurrent state along the optical flow (bilinear, border clamp).

States of CuPy are warped on their GPU, by `kernels.cuda.tiles`.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cuda import tiles as cuda
from kernels.cuda.module import is_on_gpu
from kernels.errors import DtypeError, LayoutError, NotFiniteError, ShapeError
from kernels.measures import is_within
from kernels.workers import SINGLE, Workers

_BAND = 8
"""Rows that are computed channel by channel: a plane's rows are then read while the cache still has them."""
_SHORT_RUN = 8
"""Pixels; a row whose runs are shorter on average is sampled pixel by pixel."""


def warp(
    state: NDArray[np.float32],
    flow: NDArray[np.float32],
    *,
    top: int = 0,
    left: int = 0,
    out: NDArray[np.float32] | None = None,
    workers: Workers = SINGLE,
) -> NDArray[np.float32]:
    """Backward-warp a state canvas along the flow: bilinear, positions clamped to the border.

    Only the rectangle that the flow covers is computed, so that a tile reads from the whole canvas.

    Args:
        state: (channels, height, width) float32, C-contiguous, the canvas.
        flow: (2, rows, columns) float32, finite, displacement in pixels, x then y.
        top: First row of the canvas that the flow covers.
        left: First column of the canvas that the flow covers.
        out: (channels, rows, columns) float32 to fill; a new array without it.
        workers: Threads that share the rows.

    Returns:
        (channels, rows, columns) float32: `state[c, top + y + v, left + x + u]`.

    Raises:
        ShapeError: The arrays do not fit together.
        DtypeError: An array is not float32.
        LayoutError: The state is not C-contiguous: each of its planes would be copied for each row of the result.
        NotFiniteError: The flow holds NaN or infinity.
    """
    if is_on_gpu(state, flow, out):
        return cuda.warp(state, flow, top=top, left=left, out=out)
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
    if flow.size and not state.size:
        raise ShapeError(f"got state {state.shape} for flow {flow.shape}, expected at least one pixel")
    if not is_within(flow):
        raise NotFiniteError("got a flow with NaN or infinity, expected finite displacements; use zeros instead")
    workers.run(lambda begin, end: _warp(state, flow, top, left, out, begin, end), flow.shape[1], least=_BAND)
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _warp(state: Any, flow: Any, top: int, left: int, out: Any, begin: int, end: int) -> None:
    """Compute some rows.

    Where pixels side by side move alike, up to a fraction of a pixel, their samples lie side by side too: such runs
    are read as vectors, not pixel by pixel.
    """
    channels, height, width = state.shape
    columns = flow.shape[2]
    planes = state.reshape(channels, height * width)
    place = np.empty((4, _BAND, columns), np.int32)
    weight = np.empty((4, _BAND, columns), np.float32)
    starts = np.empty((_BAND, columns + 1), np.int32)
    counts = np.empty(_BAND, np.int64)
    for band in range(begin, end, _BAND):
        rows = min(_BAND, end - band)
        for y in range(rows):
            _locate(flow, band + y, top, left, height, width, place[:, y], weight[:, y])
            counts[y] = _find_runs(place[:, y], starts[y])
        for c in range(channels):
            plane = planes[c]
            for y in range(rows):
                row = out[c, band + y]
                first, second, third, fourth = place[0, y], place[1, y], place[2, y], place[3, y]
                w00, w01, w10, w11 = weight[0, y], weight[1, y], weight[2, y], weight[3, y]
                if counts[y] * _SHORT_RUN > columns + _SHORT_RUN:
                    for x in range(columns):
                        row[x] = (
                            w00[x] * plane[first[x]]
                            + w01[x] * plane[second[x]]
                            + w10[x] * plane[third[x]]
                            + w11[x] * plane[fourth[x]]
                        )
                    continue
                for run in range(counts[y]):
                    at, stop = starts[y, run], starts[y, run + 1]
                    n = stop - at
                    p00, p01 = plane[first[at] : first[at] + n], plane[second[at] : second[at] + n]
                    p10, p11 = plane[third[at] : third[at] + n], plane[fourth[at] : fourth[at] + n]
                    v00, v01, v10, v11 = w00[at:stop], w01[at:stop], w10[at:stop], w11[at:stop]
                    into = row[at:stop]
                    for i in range(n):
                        into[i] = v00[i] * p00[i] + v01[i] * p01[i] + v10[i] * p10[i] + v11[i] * p11[i]


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _locate(flow: Any, y: int, top: int, left: int, height: int, width: int, place: Any, weight: Any) -> None:
    """Find the four samples of each pixel of a row, and their weights."""
    for x in range(flow.shape[2]):
        sx = min(max(np.float32(left + x) + flow[0, y, x], np.float32(0)), np.float32(width - 1))
        sy = min(max(np.float32(top + y) + flow[1, y, x], np.float32(0)), np.float32(height - 1))
        ix, iy = min(max(int(sx), 0), width - 1), min(max(int(sy), 0), height - 1)
        fx, fy = sx - np.float32(ix), sy - np.float32(iy)
        right, low = min(ix + 1, width - 1), min(iy + 1, height - 1)
        place[0, x], place[1, x] = iy * width + ix, iy * width + right
        place[2, x], place[3, x] = low * width + ix, low * width + right
        weight[0, x], weight[1, x] = (1 - fy) * (1 - fx), (1 - fy) * fx
        weight[2, x], weight[3, x] = fy * (1 - fx), fy * fx


@njit(cache=True, nogil=True, forceinline=True)
def _find_runs(place: Any, starts: Any) -> int:
    """Find where runs of pixels begin whose samples follow one another; return how many there are."""
    count, columns = 0, place.shape[1]
    for x in range(columns):
        goes_on = x > 0
        for sample in range(4):
            goes_on = goes_on and place[sample, x] == place[sample, x - 1] + 1
        if not goes_on:
            starts[count] = x
            count += 1
    starts[count] = columns
    return count
