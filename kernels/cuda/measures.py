"""Measures of a frame on a GPU, which the host reads once a frame or not at all: validity, scene cuts, change of tiles.

A scene cut is decided on the GPU, so that the states of the same frame can be reset without waiting for the host.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.cuda.module import (
    NULL,
    Array,
    float32s,
    int32s,
    kind_of,
    launch,
    pitches,
    require,
    require_contiguous,
    require_plane,
)
from kernels.errors import ShapeError

if TYPE_CHECKING:
    from kernels.tiles import Tile

_SCENE_BLOCK = 4
_CHANGE_BLOCK = 8
_REDUCE_THREADS = 512
_FLOATS = (np.float32, np.float16)


def check_values(values: Array, flag: Array, *, bit: int, bound: float = float("inf")) -> None:
    """Set a bit of a flag where a value is not within (-bound, bound), which NaN never is.

    Args:
        values: float32 or float16, C-contiguous.
        flag: (1,) uint32; bits are only ever set.
        bit: `BAD_RESULT`, `BAD_STATE` or `BAD_FLOW`.
        bound: Infinity asks for finite values alone.

    Raises:
        ShapeError: The flag is not of one element.
        DtypeError: An array has another dtype.
        LayoutError: The values are not C-contiguous.
        DeviceError: An array is not on the current GPU.
    """
    require(values, "values", dtypes=_FLOATS, shape=values.shape)
    require(flag, "a flag", dtypes=(np.uint32,), shape=(1,))
    require_contiguous(values)
    arguments = [values, kind_of(values), np.int32(values.size), np.float32(bound), np.uint32(bit), flag]
    launch("measures", "check_values", values.size, arguments)


def is_within(values: Array, bound: float = float("inf")) -> bool:
    """Return whether every magnitude is below a bound, which waits for the GPU; raises as `check_values`."""
    import cupy

    flag = cupy.zeros(1, np.uint32)
    check_values(values, flag, bit=1, bound=bound)
    return not int(flag[0])


def largest_block_change(frame: Array, reference: Array) -> float:
    """Return the largest mean absolute difference over a block of 8x8 pixels and all channels; waits for the GPU.

    See `kernels.measures.largest_block_change`.

    Args:
        frame: (channels, height, width) float32 or float16, rows of adjacent elements.
        reference: Of the same shape and dtype, C-contiguous.

    Raises:
        ShapeError: The arrays differ in shape.
        DtypeError: They are not float, or differ in dtype.
        LayoutError: An array is not contiguous.
        DeviceError: An array is not on the current GPU.
    """
    import cupy

    require(frame, "frame", dtypes=_FLOATS, shape=(None, None, None))
    require(reference, "reference", dtypes=(frame.dtype,), shape=frame.shape)
    require_contiguous(reference)
    change = cupy.zeros(1, np.float32)
    _measure_change(frame, reference[None], cupy.zeros((1, 2), np.int32), change)
    return float(change[0])


def _measure_change(frame: Array, seen: Array, origins: Array, changes: Array) -> None:
    """Raise `changes` to the largest change of a block of each tile that was seen, (tiles, channels, rows, columns)."""
    tiles, channels, rows, columns = seen.shape
    threads = tiles * -(-rows // _CHANGE_BLOCK) * -(-columns // _CHANGE_BLOCK)
    arguments = [frame, kind_of(frame), *pitches(frame), seen, origins]
    launch("measures", "tile_change", threads, [*arguments, *int32s(tiles, channels, rows, columns), changes])


class SceneDetector:
    """Decides on the GPU whether a frame begins a new scene; planes of one size, in buffers of its own.

    Args:
        height: Of a plane.
        width: Of a plane.
        least_change: Mean change of blocks that is visible, of 1.
        least_unexplained: Share of the frame's own contrast that the change must exceed.
    """

    def __init__(self, height: int, width: int, *, least_change: float, least_unexplained: float) -> None:
        import cupy

        self._shape = height, width
        self._limits = float32s(least_change, least_unexplained)
        self._blocks = cupy.zeros((2, max(1, (height // _SCENE_BLOCK) * (width // _SCENE_BLOCK))), np.float32)
        self.measures = cupy.zeros(2, np.float32)
        """Of the newest frame: the unexplained change, and the frame's own contrast."""

    def measure(self, luma: Array, previous: Array, cut: Array, *, flow: Array | None = None) -> None:
        """Set `cut` to 1 where a frame begins a scene, else to 0: the previous frame, moved, does not explain it.

        Args:
            luma: (height, width) float32, C-contiguous.
            previous: That of the frame before.
            cut: (1,) uint32.
            flow: (2, height, width) float32, C-contiguous, to the previous frame; None where nothing moves.

        Raises:
            ShapeError: An array has another size.
            DtypeError: An array has another dtype.
            LayoutError: An array is not C-contiguous.
            DeviceError: An array is not on the current GPU.
        """
        height, width = self._shape
        require_plane(luma, "luma", self._shape)
        require_plane(previous, "previous", self._shape)
        require(cut, "a flag", dtypes=(np.uint32,), shape=(1,))
        if flow is not None:
            require_plane(flow, "flow", (2, *self._shape))
        count = (height // _SCENE_BLOCK) * (width // _SCENE_BLOCK)
        means, changes = self._blocks[0], self._blocks[1]
        arguments = [luma, previous, NULL if flow is None else flow, *int32s(height, width), means, changes]
        launch("measures", "scene_blocks", count, arguments)
        arguments = [means, changes, np.int32(count), *self._limits, self.measures, cut]
        launch("measures", "scene_cut", _REDUCE_THREADS, arguments, block=_REDUCE_THREADS)


class ChangeMeter:
    """Measures on the GPU how much each tile of a frame changed since it was last kept.

    Args:
        tiles: All of one size, in pixels of the network's plane.
        grid: How much finer the frame is.
        dtype: Of the frames, float32 or float16.
    """

    def __init__(self, tiles: Sequence["Tile"], *, grid: int = 1, dtype: Any = np.float32) -> None:
        import cupy

        self._origins = np.array([(one.top, one.left) for one in tiles], np.int32).reshape(-1, 2) * np.int32(grid)
        self._on_gpu = cupy.asarray(self._origins)
        self._shape = (tiles[0].height * grid, tiles[0].width * grid) if tiles else (1, 1)
        # A tile that was never kept has changed.
        self._seen = cupy.full((len(tiles), 3, *self._shape), np.nan, dtype)
        self.changes = cupy.zeros(len(tiles), np.float32)
        """(tiles,) float32: the largest mean absolute difference over a block of 8x8 pixels, of the newest call."""

    def keep(self, number: int, frame: Array) -> None:
        """Keep a tile of a frame as that with which later ones are compared; raises as `measure`."""
        self._check(frame)
        top, left = (int(start) for start in self._origins[number])
        self._seen[number] = frame[:, top : top + self._shape[0], left : left + self._shape[1]]

    def measure(self, frame: Array) -> None:
        """Measure all tiles of a frame, (3, height, width) with rows of adjacent elements.

        Raises:
            ShapeError: The frame is smaller than the tiles reach.
            DtypeError: It has another dtype.
            LayoutError: The elements of a row are not adjacent.
            DeviceError: It is not on the current GPU.
        """
        self._check(frame)
        self.changes.fill(0)
        _measure_change(frame, self._seen, self._on_gpu, self.changes)

    def _check(self, frame: Array) -> None:
        require(frame, "frame", dtypes=(self._seen.dtype,), shape=(3, None, None))
        bottom, right = (self._origins.max(0, initial=0) + self._shape).tolist()
        if frame.shape[1] < bottom or frame.shape[2] < right:
            raise ShapeError(f"got frame {frame.shape}, expected at least {bottom}x{right} for the tiles")
