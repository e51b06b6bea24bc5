"""Warp, and a tile's way between the canvases and the engine's buffers, on a GPU.

Against the CPU a warped value differs by the order of one sum: at most 4 units in the last place of the largest
neighbour. Copies, casts to float16 and blending have the same bits.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.cuda.module import (
    NULL,
    Array,
    int32s,
    kind_of,
    launch,
    pitches,
    require,
    require_contiguous,
    require_plane,
)
from kernels.errors import DtypeError, NotFiniteError, ShapeError

if TYPE_CHECKING:
    from kernels.tiles import Tile

_CHANNELS = 8
"""Channels that a thread handles, as CHANNELS in tiles.cu."""
_BLOCK = 256
_FLOATS = (np.float32, np.float16)
LARGEST_RESULT = 8.0
"""A frame lies in [0, 1]; a result that leaves this far behind has blown up."""


class PlaneTable:
    """The channels of several arrays as one list of planes, so that one launch reads or writes all of them.

    The addresses are uploaded once, here; the arrays must stay where they are, and are kept alive.

    Args:
        arrays: (channels, height, width) or (1, channels, height, width), C-contiguous, of one dtype, float32 or
            float16, and one size; each with channels of its own.

    Raises:
        ShapeError: There are none, or they differ in size.
        DtypeError: They differ in dtype, or are not float.
        LayoutError: One is not C-contiguous.
        DeviceError: One is not on the current GPU.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        import cupy

        if not arrays:
            raise ShapeError("got no arrays, expected at least one state")
        size = arrays[0].shape[-2:]
        for array in arrays:
            shape = (1, None, *size) if len(array.shape) == 4 else (None, *size)
            require(array, "state", dtypes=_FLOATS, shape=shape)
            if array.dtype != arrays[0].dtype:
                raise DtypeError(f"got states of {arrays[0].dtype} and {array.dtype}, expected one dtype")
        require_contiguous(*arrays)
        self.arrays = tuple(arrays)
        self.height, self.width = size
        planes = [
            array.data.ptr + channel * self.height * self.width * array.itemsize
            for array in arrays
            for channel in range(array.shape[-3])
        ]
        self.channels = len(planes)
        self.kind = kind_of(arrays[0])
        self.addresses = cupy.asarray(np.array(planes, np.uint64))


def warp(
    state: Array, flow: Array, *, top: int = 0, left: int = 0, out: Array | None = None, flag: Array | None = None
) -> Array:
    """Backward-warp all channels of a state canvas along the flow; see `kernels.warp.warp`.

    Args:
        state: (channels, height, width) float32 or float16, C-contiguous.
        flow: (2, rows, columns) float32, rows of adjacent elements; displacement in pixels, x then y.
        top: First row of the canvas that the flow covers.
        left: First column of the canvas that the flow covers.
        out: (channels, rows, columns) float32 or float16, rows of adjacent elements; a new array without it.
        flag: (1,) uint32 that takes `BAD_FLOW` where the flow is not finite; the border is read there. Without it the
            flag is read back, which waits for the GPU.

    Raises:
        ShapeError: The arrays do not fit together.
        DtypeError: An array has another dtype.
        LayoutError: An array is not contiguous.
        DeviceError: An array is not on the current GPU.
        NotFiniteError: The flow holds NaN or infinity, and no `flag` was given.
    """
    import cupy

    require(state, "state", dtypes=_FLOATS, shape=(None, None, None))
    require(flow, "flow", dtypes=(np.float32,), shape=(2, None, None))
    require_contiguous(state)
    channels, height, width = state.shape
    rows, columns = flow.shape[1:]
    if rows and columns and not (height and width):
        raise ShapeError(f"got state {state.shape} for flow {flow.shape}, expected at least one pixel")
    if out is None:
        out = cupy.empty((channels, rows, columns), state.dtype)
    require(out, "out", dtypes=_FLOATS, shape=(channels, rows, columns))
    found = cupy.zeros(1, np.uint32) if flag is None else flag
    _require_flag(found)
    arguments = [state, kind_of(state), *int32s(channels, height, width), flow, *pitches(flow)]
    arguments += [*int32s(top, left, rows, columns), out, kind_of(out), *pitches(out), found]
    launch("tiles", "warp", -(-channels // _CHANNELS) * rows * columns, arguments)
    if flag is None and int(found[0]):
        raise NotFiniteError("got a flow with NaN or infinity, expected finite displacements; use zeros in its place")
    return out


def gather_tile(
    tile: "Tile",
    frame: Array,
    out: Array,
    *,
    grid: int = 1,
    states: PlaneTable | None = None,
    flow: Array | None = None,
    warped: PlaneTable | None = None,
    reset: Array | None = None,
    flag: Array | None = None,
) -> None:
    """Copy a tile of a frame, and warp the states to it, into an engine's inputs: one launch.

    Positions outside the canvases read their border.

    Args:
        tile: The window, in pixels of the states' plane.
        frame: (3, grid height, grid width) float32 or float16, rows of adjacent elements.
        out: (3, grid tile height, grid tile width), or one axis of 1 before, float32 or float16, C-contiguous.
        grid: How much finer the frame is than the states' plane.
        states: The canvases of the states; none for a network without.
        flow: (2, height, width) float32, over the whole plane.
        warped: The engine's inputs for the states, of the tile's size.
        reset: (1,) uint32; where it is not 0 the states are zeros. Read by the kernel, not by the caller.
        flag: (1,) uint32 that takes `BAD_FLOW` where the flow is not finite; the border is read there.

    Raises:
        ShapeError: The arrays do not fit together.
        DtypeError: An array has another dtype.
        LayoutError: An array is not contiguous.
        DeviceError: An array is not on the current GPU.
    """
    rows, columns = tile.height * grid, tile.width * grid
    require(frame, "frame", dtypes=_FLOATS, shape=(3, None, None))
    require(out, "out", dtypes=_FLOATS, shape=(1, 3, rows, columns) if len(out.shape) == 4 else (3, rows, columns))
    require_contiguous(out)
    if not frame.size:
        raise ShapeError(f"got frame {frame.shape}, expected at least one pixel")
    for one in (reset, flag):
        if one is not None:
            _require_flag(one)
    frame_blocks = -(-3 * rows * columns // _BLOCK)
    arguments: list[Any] = [frame, kind_of(frame), *pitches(frame), *int32s(*frame.shape[1:])]
    arguments += [*int32s(tile.top * grid, tile.left * grid, rows, columns), out, kind_of(out), np.int32(frame_blocks)]
    threads = frame_blocks * _BLOCK
    if states is None or flow is None or warped is None:
        if not (states is None and flow is None and warped is None):
            raise ShapeError("got only some of states, flow and warped, expected all of them or none")
        arguments += [NULL, *int32s(0, 0, 0, 0), NULL, *np.zeros(2, np.int64), *int32s(0, 0, 1, 1), NULL, np.int32(0)]
    else:
        if states.channels != warped.channels or (warped.height, warped.width) != (tile.height, tile.width):
            raise ShapeError(
                f"got {warped.channels} planes of {warped.height}x{warped.width} for {states.channels} states and a "
                f"tile of {tile.height}x{tile.width}"
            )
        require(flow, "flow", dtypes=(np.float32,), shape=(2, states.height, states.width))
        arguments += [states.addresses, states.kind, *int32s(states.channels, states.height, states.width)]
        arguments += [flow, *pitches(flow), *int32s(tile.top, tile.left, tile.height, tile.width)]
        arguments += [warped.addresses, warped.kind]
        threads += -(-states.channels // _CHANNELS) * tile.height * tile.width
    arguments += [NULL if one is None else one for one in (reset, flag)]
    launch("tiles", "gather_tile", threads, arguments)


def scatter_tile(
    tile: "Tile",
    result: Array,
    canvas: Array,
    flag: Array,
    *,
    factor: int = 1,
    states: PlaneTable | None = None,
    canvases: PlaneTable | None = None,
) -> None:
    """Write the kept part of a tile's result and next states to their canvases, and check all of them: one launch.

    The flag takes `BAD_RESULT` where the result is not within (-8, 8), which NaN is not, and `BAD_STATE` where a
    state is not finite, in the halo too.

    Args:
        tile: Where the result belongs, in pixels of the states' plane.
        result: (3, factor tile height, factor tile width), or one axis of 1 before, float32 or float16, C-contiguous.
        canvas: (3, factor height, factor width) float32 or float16, rows of adjacent elements; changed in place.
        flag: (1,) uint32; bits are only ever set.
        factor: How much finer the canvas is than the states' plane.
        states: The engine's outputs for the states, of the tile's size; none for a network without.
        canvases: Where the next frame reads them, which is not where this one does; changed in place.

    Raises:
        ShapeError: The arrays do not fit together, or the tile leaves a canvas.
        DtypeError: An array has another dtype.
        LayoutError: An array is not contiguous.
        DeviceError: An array is not on the current GPU.
    """
    rows, columns = tile.height * factor, tile.width * factor
    shape = (1, 3, rows, columns) if len(result.shape) == 4 else (3, rows, columns)
    require(result, "a result", dtypes=_FLOATS, shape=shape)
    require_contiguous(result)
    require(canvas, "canvas", dtypes=_FLOATS, shape=(3, None, None))
    _require_flag(flag)
    _require_inside(tile, canvas.shape[1] // factor, canvas.shape[2] // factor)
    result_blocks = -(-3 * rows * columns // _BLOCK)
    arguments: list[Any] = [result, kind_of(result), canvas, kind_of(canvas), *pitches(canvas)]
    arguments += int32s(factor, result_blocks)
    threads, width = result_blocks * _BLOCK, 0
    if states is None or canvases is None:
        if states is not canvases:
            raise ShapeError("got states without canvases or canvases without states, expected both or none")
        arguments += [NULL, np.int32(0), NULL, *int32s(0, 0)]
    else:
        if states.channels != canvases.channels or (states.height, states.width) != (tile.height, tile.width):
            raise ShapeError(
                f"got {states.channels} planes of {states.height}x{states.width} for {canvases.channels} states and a "
                f"tile of {tile.height}x{tile.width}"
            )
        _require_inside(tile, canvases.height, canvases.width)
        arguments += [states.addresses, states.kind, canvases.addresses, canvases.kind, np.int32(states.channels)]
        threads += -(-states.channels // _CHANNELS) * tile.height * tile.width
        width = canvases.width
    kept = int32s(tile.keep_top, tile.keep_left, tile.keep_bottom, tile.keep_right)
    arguments += [*int32s(width, tile.top, tile.left, tile.height, tile.width), *kept, np.float32(LARGEST_RESULT), flag]
    launch("tiles", "scatter_tile", threads, arguments)


def add_tile(total: Array, weight: Array, tile: "Tile", result: Array, window: Array, *, scale: int = 1) -> None:
    """Add a tile's weighted result to a sum, and its weight to the sum of weights; see `kernels.tiles.add_tile`.

    Args:
        total: (channels, scale height, scale width) float32, rows of adjacent elements.
        weight: (scale height, scale width) float32, rows of adjacent elements.
        tile: Where the result belongs.
        result: (channels, scale tile height, scale tile width), float32 or float16, C-contiguous.
        window: (scale tile height, scale tile width) float32, C-contiguous.
        scale: How much finer the canvas is than the plane on which the tiles were planned.

    Raises:
        ShapeError: The arrays do not fit together, or the tile leaves the canvas.
        DtypeError: An array has another dtype.
        LayoutError: An array is not contiguous.
        DeviceError: An array is not on the current GPU.
    """
    rows, columns = tile.height * scale, tile.width * scale
    require(total, "total", dtypes=(np.float32,), shape=(None, None, None))
    require(weight, "weight", dtypes=(np.float32,), shape=total.shape[1:])
    require(result, "a result", dtypes=_FLOATS, shape=(total.shape[0], rows, columns))
    require_plane(window, "a window", (rows, columns))
    require_contiguous(result)
    _require_inside(tile, total.shape[1] // scale, total.shape[2] // scale)
    arguments = [result, kind_of(result), window, *int32s(total.shape[0], rows, columns)]
    arguments += [*int32s(tile.top * scale, tile.left * scale), total, *pitches(total), weight, *pitches(weight)]
    launch("tiles", "add_tile", rows * columns, arguments)


def divide_by_weight(total: Array, weight: Array) -> None:
    """Divide a blended sum by the sum of weights, in place.

    Args:
        total: (channels, height, width) float32, C-contiguous.
        weight: (height, width) float32, C-contiguous.

    Raises:
        ShapeError: The arrays do not fit together.
        DtypeError: An array is not float32.
        LayoutError: An array is not C-contiguous.
        DeviceError: An array is not on the current GPU.
    """
    require_plane(total, "total", (None, None, None))
    require_plane(weight, "weight", total.shape[1:])
    launch("tiles", "divide_by_weight", weight.size, [total, weight, *int32s(total.shape[0], weight.size)])


def _require_flag(flag: Array) -> None:
    require(flag, "a flag", dtypes=(np.uint32,), shape=(1,))


def _require_inside(tile: "Tile", height: int, width: int) -> None:
    """Refuse a tile whose kept part is not within both itself and a canvas."""
    bottom, right = tile.top + tile.height, tile.left + tile.width
    is_inside = min(tile.top, tile.left) >= 0 and bottom <= height and right <= width
    rows_kept = tile.top <= tile.keep_top <= tile.keep_bottom <= bottom
    columns_kept = tile.left <= tile.keep_left <= tile.keep_right <= right
    if not (is_inside and rows_kept and columns_kept):
        raise ShapeError(f"got {tile} on a canvas of {height}x{width}, expected a tile planned for this canvas")
