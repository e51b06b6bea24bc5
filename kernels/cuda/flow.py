"""DIS optical flow on a GPU: the method of `kernels.flow` in a parallel form.

On the CPU a patch tries the displacements that its neighbours have just found, in raster order and back, so that a
displacement travels across the frame in one sweep (Gauss-Seidel). Here all patches of a level are searched at once, in
rounds (Jacobi): the first starts from the coarser level, each later one tries the four neighbours of the round before,
from far to near. Smoothing, pyramid, Gauss-Newton steps and densification are the same formulas.
"""

from typing import Any, Final

import numpy as np

from kernels.cuda.module import NULL, Array, int32s, launch, pitches, require, require_plane
from kernels.errors import ShapeError

PATCH: Final = 8
STRIDE: Final = 4
REACHES: Final = (4, 2, 1)
"""Distance of the neighbours, in patches, in each round after the first."""
_COARSEST_SIDE: Final = 20
_SEARCH_THREADS: Final = 128


class FlowEstimator:
    """Estimates flow between planes of one size, in buffers of its own, so that a CUDA graph can capture it.

    Args:
        height: Of a plane.
        width: Of a plane.
    """

    def __init__(self, height: int, width: int) -> None:
        import cupy

        shapes = [(height, width)]
        while min(shapes[-1]) >= 2 * _COARSEST_SIDE:
            shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
        self._pairs = [(cupy.empty(shape, np.float32), cupy.empty(shape, np.float32)) for shape in shapes]
        self._flows = [cupy.empty((2, *shape), np.float32) for shape in shapes[1:]]
        rows, columns = _count_patches(height, width)
        self._found = [cupy.empty((rows * columns, 3), np.float32) for _ in range(2)]

    def estimate(self, frame: Array, previous: Array, out: Array) -> None:
        """Estimate where each pixel of a frame was in the previous frame; see `kernels.flow.estimate_flow`.

        Args:
            frame: (height, width) float32, C-contiguous, luma in [0, 1].
            previous: The luma of the frame before it, in the same form.
            out: (2, height, width) float32, rows of adjacent elements; displacement in pixels, x then y.

        Raises:
            ShapeError: An array has another size.
            DtypeError: An array is not float32.
            LayoutError: An array is not contiguous.
            DeviceError: An array is not on the current GPU.
        """
        shape = self._pairs[0][0].shape
        require_plane(frame, "frame", shape)
        require_plane(previous, "previous", shape)
        require(out, "flow", dtypes=(np.float32,), shape=(2, *shape))
        pitches(out)
        self._build_pyramids(frame, previous)
        coarse: Array | None = None
        for level in reversed(range(len(self._pairs))):
            flow = out if level == 0 else self._flows[level - 1]
            self._search(level, coarse, flow)
            coarse = flow

    def _build_pyramids(self, frame: Array, previous: Array) -> None:
        height, width = frame.shape
        launch("flow", "smooth", height * width, [frame, previous, *int32s(height, width), *self._pairs[0]], rows=2)
        for pair, smaller in zip(self._pairs[:-1], self._pairs[1:], strict=True):
            arguments = [*pair, *int32s(*pair[0].shape), *smaller]
            launch("flow", "halve", smaller[0].size, arguments, rows=2)

    def _search(self, level: int, coarse: Array | None, flow: Array) -> None:
        """Search all patches of a level, and write the flow of its pixels."""
        pair = self._pairs[level]
        height, width = pair[0].shape
        rows, columns = _count_patches(height, width)
        sizes = [*pair, *int32s(height, width, rows, columns)]
        start = [NULL, *int32s(0, 0)] if coarse is None else [coarse, *int32s(*coarse.shape[1:])]
        before: Any = NULL
        after, spare = self._found
        for reach in (0, *REACHES):
            arguments = [*sizes, *start, before, np.int32(reach), after]
            launch("flow", "search", rows * columns * PATCH, arguments, block=_SEARCH_THREADS)
            before, after, spare = after, spare, after
        arguments = [*pair, *int32s(height, width), before, *int32s(rows, columns), flow, *pitches(flow)]
        launch("flow", "densify", height * width, arguments)


def estimate_flow(frame: Array, previous: Array) -> Array:
    """Estimate where each pixel of a frame was in the previous frame, in new buffers.

    Raises:
        ShapeError: The frames are not two planes of one size.
        DtypeError: A frame is not float32.
        LayoutError: A frame is not C-contiguous.
        DeviceError: A frame is not on the current GPU.
    """
    if frame.ndim != 2 or frame.shape != previous.shape or not frame.size:
        raise ShapeError(f"got frames {frame.shape} and {previous.shape}, expected two planes of one size")
    import cupy

    require_plane(frame, "frame", frame.shape)
    out: Array = cupy.empty((2, *frame.shape), np.float32)
    FlowEstimator(*frame.shape).estimate(frame, previous, out)
    return out


def _count_patches(height: int, width: int) -> tuple[int, int]:
    rows, columns = (max(1, (side - PATCH + STRIDE - 1) // STRIDE + 1) for side in (height, width))
    return rows, columns
