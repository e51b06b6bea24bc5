"""Colour in one pass: planar integer YUV to float RGB and back, any siting of chroma, 8 to 16 bits.

Arrays of CuPy are converted on their GPU; `kernels.cuda.colour` also takes float16, NV12 and P010.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cuda import colour as cuda
from kernels.cuda.module import is_on_gpu
from kernels.errors import DtypeError, ShapeError
from kernels.workers import SINGLE, Workers

Chroma = Literal["420", "422", "444"]
Planes = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
_LEAST_ROWS = 64
"""Rows that are worth a thread of their own."""
_STEPS: dict[Chroma, tuple[int, int]] = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}


@dataclass(frozen=True, slots=True)
class YuvLayout:
    """How samples stand for colour.

    kr, kb: luma weights of red and blue (BT.601 0.299 and 0.114, BT.709 0.2126 and 0.0722, BT.2020 0.2627 and 0.0593).
    siting: offset of the first chroma sample from the first luma sample, rows then columns, in luma pixels: (0.5, 0) is
    "left", the default of H.264 and HEVC; (0.5, 0.5) "centre" (JPEG); (0, 0) "top left" (BT.2020 discs).
    """

    kr: float
    kb: float
    full_range: bool
    bit_depth: int
    chroma: Chroma
    siting: tuple[float, float] = (0.5, 0.0)

    @property
    def steps(self) -> tuple[int, int]:
        """Luma rows and columns to one chroma sample."""
        return _STEPS[self.chroma]

    def chroma_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a chroma plane; odd sizes round up."""
        rows, columns = self.steps
        return -(-height // rows), -(-width // columns)

    def coding(self) -> tuple[float, float, float, float]:
        """Return luma offset and span, chroma offset and span, in sample values."""
        unit = float(1 << (self.bit_depth - 8))
        if self.full_range:
            top = float((1 << self.bit_depth) - 1)
            return 0.0, top, 128.0 * unit, top
        return 16.0 * unit, 219.0 * unit, 128.0 * unit, 224.0 * unit


def yuv_to_rgb(
    planes: Planes, layout: YuvLayout, out: NDArray[np.float32] | None = None, *, workers: Workers = SINGLE
) -> NDArray[np.float32]:
    """Turn integer Y, U, V planes into RGB; chroma is upsampled bilinearly, honouring its siting.

    Args:
        planes: Y (height, width), U and V of `layout.chroma_shape`, uint8, or uint16 with the low bits used.
        layout: What the samples mean.
        out: (3, at least height, at least width) float32 to fill at its top left; a new array without it.
        workers: Threads that share the rows.

    Returns:
        (3, height, width) float32, 0 black to 1 white, not clamped: footroom and headroom survive. A view of `out`.

    Raises:
        ShapeError: The planes do not fit together or into `out`.
        DtypeError: A plane is neither uint8 nor uint16, or `out` is not float32.
    """
    if is_on_gpu(*planes, out):
        return cuda.yuv_to_rgb(planes, layout, out)
    y, u, v = planes
    if y.ndim != 2:
        raise ShapeError(f"got luma {y.shape}, expected (height, width)")
    height, width = y.shape
    expected = layout.chroma_shape(height, width)
    if u.shape != expected or v.shape != expected:
        raise ShapeError(f"got chroma {u.shape} and {v.shape} for luma {y.shape}, expected {expected}")
    if y.dtype not in (np.uint8, np.uint16) or not y.dtype == u.dtype == v.dtype:
        raise DtypeError(f"got {y.dtype}, {u.dtype}, {v.dtype}, expected three planes of uint8 or of uint16")
    if out is None:
        out = np.empty((3, height, width), np.float32)
    if out.dtype != np.float32:
        raise DtypeError(f"got out of {out.dtype}, expected float32")
    if out.ndim != 3 or out.shape[0] != 3 or out.shape[1] < height or out.shape[2] < width:
        raise ShapeError(f"got out {out.shape} for {height}x{width}")
    rgb = out[:, :height, :width]
    constants = np.array([*layout.coding(), layout.kr, layout.kb], np.float32)
    given = (y, u, v, *layout.steps, *layout.siting, constants, rgb)
    workers.run(lambda begin, end: _yuv_to_rgb(*given, begin, end), height, least=_LEAST_ROWS)
    return rgb


def rgb_to_yuv(
    rgb: NDArray[np.float32], layout: YuvLayout, out: Planes | None = None, *, workers: Workers = SINGLE
) -> Planes:
    """Turn RGB into integer Y, U, V planes, rounded and clamped to what the bit depth holds.

    Chroma is downsampled with a tent filter centred on each chroma sample by its siting, so that a frame converted both
    ways neither shifts nor fringes.

    Args:
        rgb: (3, height, width) float32, 0 black to 1 white.
        layout: What the samples shall mean.
        out: Planes to fill, as those returned; new ones without it.
        workers: Threads that share the rows.

    Returns:
        Y (height, width), U and V of `layout.chroma_shape`; uint8 at 8 bits, uint16 above.

    Raises:
        ShapeError: The array is not (3, height, width), or `out` does not fit it.
        DtypeError: The array is not float32, or `out` not of the bit depth.
    """
    if is_on_gpu(rgb, *(out or ())):
        return cuda.rgb_to_yuv(rgb, layout, out)
    if rgb.ndim != 3 or rgb.shape[0] != 3:
        raise ShapeError(f"got {rgb.shape}, expected (3, height, width)")
    if rgb.dtype != np.float32:
        raise DtypeError(f"got {rgb.dtype}, expected float32")
    height, width = rgb.shape[1:]
    if out is None:
        kind = np.uint8 if layout.bit_depth == 8 else np.uint16
        size = layout.chroma_shape(height, width)
        out = (np.empty((height, width), kind), np.empty(size, kind), np.empty(size, kind))
    _check_planes(out, layout, height, width)
    constants = np.array([*layout.coding(), layout.kr, layout.kb], np.float32)
    top = np.float32((1 << layout.bit_depth) - 1)
    given = (rgb, *layout.steps, *layout.siting, constants, top, *out)
    workers.run(lambda begin, end: _rgb_to_yuv(*given, begin, end), len(out[1]), least=_LEAST_ROWS)
    return out


def _check_planes(planes: Planes, layout: YuvLayout, height: int, width: int) -> None:
    kind, size = np.uint8 if layout.bit_depth == 8 else np.uint16, layout.chroma_shape(height, width)
    for plane, shape in zip(planes, ((height, width), size, size), strict=True):
        if plane.shape != shape:
            raise ShapeError(f"got a plane {plane.shape} to fill, expected {shape}")
        if plane.dtype != kind:
            raise DtypeError(f"got a plane of {plane.dtype} to fill, expected {np.dtype(kind)}")


@njit(cache=True, nogil=True, fastmath=True)
def _yuv_to_rgb(
    y: Any,
    u: Any,
    v: Any,
    row_step: int,
    column_step: int,
    off_y: Any,
    off_x: Any,
    k: Any,
    rgb: Any,
    begin: int,
    end: int,
) -> None:
    """Convert some rows."""
    width = y.shape[1]
    rows, columns = u.shape
    luma_scale, chroma_scale = np.float32(1) / k[1], np.float32(1) / k[3]
    kg = np.float32(1) - k[4] - k[5]
    red_v = np.float32(2) * (np.float32(1) - k[4])
    blue_u = np.float32(2) * (np.float32(1) - k[5])
    green_u, green_v = k[5] * blue_u / kg, k[4] * red_v / kg
    line_u, line_v = np.empty(columns + 1, np.float32), np.empty(columns + 1, np.float32)
    wide_u, wide_v = np.empty(width, np.float32), np.empty(width, np.float32)
    for row in range(begin, end):
        upper, lower, share = _between(row, row_step, off_y, rows)
        near = 1 - share
        upper_u, lower_u, upper_v, lower_v = u[upper], u[lower], v[upper], v[lower]
        for x in range(columns):
            line_u[x] = (np.float32(upper_u[x]) * near + np.float32(lower_u[x]) * share - k[2]) * chroma_scale
            line_v[x] = (np.float32(upper_v[x]) * near + np.float32(lower_v[x]) * share - k[2]) * chroma_scale
        if column_step == 1:
            wide_u[:] = line_u[:width]
            wide_v[:] = line_v[:width]
        else:
            _widen(line_u[:columns], off_x, wide_u)
            _widen(line_v[:columns], off_x, wide_v)
        luma_row, red, green, blue = y[row], rgb[0, row], rgb[1, row], rgb[2, row]
        for x in range(width):
            luma = (np.float32(luma_row[x]) - k[0]) * luma_scale
            red[x] = luma + red_v * wide_v[x]
            green[x] = luma - green_u * wide_u[x] - green_v * wide_v[x]
            blue[x] = luma + blue_u * wide_u[x]


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _widen(line: Any, offset: Any, wide: Any) -> None:
    """Upsample a row of chroma by two: the shares are those of the first two pixels, again and again."""
    width, columns = wide.size, line.size
    for parity in range(2):
        _, _, share = _between(parity, 2, offset, columns)
        shift = int(np.floor((np.float32(parity) - np.float32(offset)) * np.float32(0.5)))
        near = 1 - share
        # Pairs both of whose samples lie within the row; the others repeat its border.
        first, last = max(0, -shift), min((width + 1 - parity) // 2, columns - 1 - shift)
        into = wide[parity::2]
        one, other = line[first + shift : last + shift], line[first + shift + 1 : last + shift + 1]
        inner = into[first:last]
        if share == 0:
            for x in range(last - first):
                inner[x] = one[x]
        elif share == np.float32(0.5):
            for x in range(last - first):
                inner[x] = one[x] * np.float32(0.5) + other[x] * np.float32(0.5)
        else:
            for x in range(last - first):
                inner[x] = one[x] * near + other[x] * share
        for x in range(min(first, into.size)):
            into[x] = line[0]
        for x in range(max(last, 0), into.size):
            into[x] = line[columns - 1]


@njit(cache=True, nogil=True, inline="always")
def _between(position: int, step: int, offset: Any, count: int) -> Any:
    """Return the two chroma samples around a luma position and the share of the second."""
    if step == 1:
        return position, position, np.float32(0)
    place = (np.float32(position) - np.float32(offset)) * np.float32(0.5)
    low = int(np.floor(place))
    share = place - np.float32(low)
    return min(max(low, 0), count - 1), min(max(low + 1, 0), count - 1), share


@njit(cache=True, nogil=True, fastmath=True)
def _rgb_to_yuv(
    rgb: Any,
    row_step: int,
    column_step: int,
    off_y: Any,
    off_x: Any,
    k: Any,
    top: Any,
    y: Any,
    u: Any,
    v: Any,
    begin: int,
    end: int,
) -> None:
    """Convert some rows of chroma, and the rows of luma that they stand for."""
    height, width = y.shape
    kg = np.float32(1) - k[4] - k[5]
    share_u = np.float32(1) / (np.float32(2) * (np.float32(1) - k[5]))
    share_v = np.float32(1) / (np.float32(2) * (np.float32(1) - k[4]))
    half = np.float32(0.5)
    sum_u, sum_v = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for row in range(begin, end):
        # The luma rows of this chroma row, and the rows its tent reaches (one more at each side when co-sited).
        first = row * row_step
        taps = 1 if row_step == 1 else (2 if off_y > 0.25 else 3)
        sum_u[:] = 0
        sum_v[:] = 0
        for tap in range(taps):
            wanted = first + tap if taps < 3 else first + tap - 1
            r = min(max(wanted, 0), height - 1)
            weight = np.float32(1) if taps == 1 else (half if taps == 2 or tap == 1 else np.float32(0.25))
            red, green, blue = rgb[0, r], rgb[1, r], rgb[2, r]
            if first <= wanted < min(first + row_step, height):
                luma = y[r]
                for x in range(width):
                    value = k[4] * red[x] + kg * green[x] + k[5] * blue[x]
                    luma[x] = min(max(value * k[1] + k[0] + half, np.float32(0)), top)
            for x in range(width):
                value = k[4] * red[x] + kg * green[x] + k[5] * blue[x]
                sum_u[x] += weight * (blue[x] - value)
                sum_v[x] += weight * (red[x] - value)
        _narrow(sum_u, column_step, off_x, k[3], share_u, k[2] + half, np.float32(0), top, u[row])
        _narrow(sum_v, column_step, off_x, k[3], share_v, half, k[2], top, v[row])


# Rounding at the border of two integers shows every order of additions, so this one is written out.
@njit(cache=True, nogil=True, fastmath={"contract"}, forceinline=True)
def _narrow(
    line: Any, step: int, offset: Any, span: Any, share: Any, bias: Any, second_bias: Any, top: Any, out: Any
) -> None:
    """Downsample a row of chroma and store it as integers."""
    width, columns = line.size, out.size
    half, quarter, zero = np.float32(0.5), np.float32(0.25), np.float32(0)
    # All but the first and the last samples have their neighbours in the row.
    last = min(columns, (width - 1) // 2)
    if step == 1:
        for x in range(columns):
            out[x] = min(max(line[x] * span * share + bias + second_bias, zero), top)
        return
    if offset > 0.25:
        for x in range(1, last):
            value = half * (line[2 * x] + line[2 * x + 1])
            out[x] = min(max(value * span * share + bias + second_bias, zero), top)
    else:
        for x in range(1, last):
            value = half * line[2 * x] + quarter * (line[2 * x - 1] + line[2 * x + 1])
            out[x] = min(max(value * span * share + bias + second_bias, zero), top)
    for x in range(columns):
        if 1 <= x < last:
            continue
        at = 2 * x
        left, right = line[max(at - 1, 0)], line[min(at + 1, width - 1)]
        value = half * (line[at] + right) if offset > 0.25 else half * line[at] + quarter * (left + right)
        out[x] = min(max(value * span * share + bias + second_bias, zero), top)


def rgb_to_luma(rgb: NDArray[np.float32], grid: int = 1, *, workers: Workers = SINGLE) -> NDArray[np.float32]:
    """Return BT.601 luma, averaged over squares of `grid` pixels: what motion is estimated on.

    Args:
        rgb: (3, height, width) float32; height and width multiples of `grid`.
        grid: Side of a square, in pixels.
        workers: Threads that share the rows.

    Returns:
        (height / grid, width / grid) float32.

    Raises:
        ShapeError: The array is not (3, height, width), or its size is no multiple of the grid.
        DtypeError: The array is not float32.
    """
    if is_on_gpu(rgb):
        return cuda.rgb_to_luma(rgb, grid)
    if rgb.ndim != 3 or rgb.shape[0] != 3 or rgb.shape[1] % grid or rgb.shape[2] % grid:
        raise ShapeError(f"got {rgb.shape}, expected (3, height, width) in multiples of {grid}")
    if rgb.dtype != np.float32:
        raise DtypeError(f"got {rgb.dtype}, expected float32")
    luma = np.empty((rgb.shape[1] // grid, rgb.shape[2] // grid), np.float32)
    workers.run(lambda begin, end: _rgb_to_luma(rgb, grid, luma, begin, end), len(luma), least=_LEAST_ROWS)
    return luma


@njit(cache=True, nogil=True, fastmath=True)
def _rgb_to_luma(rgb: Any, grid: int, luma: Any, begin: int, end: int) -> None:
    share = np.float32(1) / np.float32(grid * grid)
    red, green, blue = np.float32(0.299) * share, np.float32(0.587) * share, np.float32(0.114) * share
    luma[begin:end] = 0
    for row in range(begin, end):
        for dy in range(grid):
            y = row * grid + dy
            if grid == 1:
                for x in range(luma.shape[1]):
                    luma[row, x] = red * rgb[0, y, x] + green * rgb[1, y, x] + blue * rgb[2, y, x]
            else:
                for x in range(luma.shape[1]):
                    for dx in range(grid):
                        at = x * grid + dx
                        luma[row, x] += red * rgb[0, y, at] + green * rgb[1, y, at] + blue * rgb[2, y, at]
