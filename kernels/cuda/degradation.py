"""How degraded a frame is, measured on a GPU: a network's input, from luma that is there already.

The measures are those of `runtime.video.degradation`; sums of float32 and the logarithm's last bit make them differ by
at most 2e-5.
"""

from typing import Final

import numpy as np

from kernels.cuda.module import Array, int32s, kind_of, launch, require, require_contiguous, require_plane
from kernels.errors import ShapeError

_BAND: Final = 16
_MOST_ROWS: Final = 360
_SMALLEST: Final = np.float32(2.0**-11)
_SMALL: Final = np.float32(1 / 512)
_THREADS: Final = 1024
DESCRIPTORS: Final = 8


class DegradationMeter:
    """Describes the noise, coding loss and blur of planes of one size, in buffers of its own.

    Args:
        height: Of a plane, at least 4.
        width: Of a plane, at least 4.

    Raises:
        ShapeError: The planes are too small.
    """

    def __init__(self, height: int, width: int) -> None:
        if min(height, width) < 4:
            raise ShapeError(f"got planes of {height}x{width}, expected at least 4x4")
        import cupy

        self._shape = height, width
        self._step = -(-height // _MOST_ROWS)
        self._rows = height if self._step == 1 else -(-(height // _BAND) // self._step) * _BAND
        shapes = [(self._rows // 2, width // 2), (self._rows // 2 // 2, width // 2 // 2)]
        self._levels = [tuple(cupy.empty(shape, np.float32) for _ in range(3)) for shape in shapes]

    def describe(self, luma: Array, out: Array) -> None:
        """Write the descriptor of a frame; see `runtime.video.degradation.describe_degradation`.

        Args:
            luma: (height, width) float32, C-contiguous, in [0, 1].
            out: (8,) or (1, 8) float32 or float16, C-contiguous.

        Raises:
            ShapeError: An array has another size.
            DtypeError: An array has another dtype.
            LayoutError: An array is not C-contiguous.
            DeviceError: An array is not on the current GPU.
        """
        require_plane(luma, "luma", self._shape)
        shape = (1, DESCRIPTORS) if len(out.shape) == 2 else (DESCRIPTORS,)
        require(out, "out", dtypes=(np.float32, np.float16), shape=shape)
        require_contiguous(out)
        (diagonal, axial, low), (coarse, coarse_axial, lowest) = self._levels
        arguments = [luma, *int32s(self._rows, self._shape[1], _BAND, self._step), diagonal, axial, low]
        launch("degradation", "haar", diagonal.size, arguments)
        arguments = [low, *int32s(*low.shape, _BAND, 1), coarse, coarse_axial, lowest]
        launch("degradation", "haar", coarse.size, arguments)
        arguments = [diagonal, axial, np.int32(diagonal.size), coarse, coarse_axial, np.int32(coarse.size)]
        arguments += [_SMALLEST, _SMALL, out, kind_of(out)]
        launch("degradation", "describe", _THREADS, arguments, block=_THREADS)
