"""Colour on a GPU: planar or semi-planar YUV to float RGB and back, and luma.

Differences from `kernels.colour`: RGB may be float16 too; a plane may be any strided view, so that NV12 and P010 go in
and out in place; the edge may be repeated over the rest of a larger canvas in the same launch. Against the CPU, RGB
differs by at most 4e-7, luma by 2e-7, and a code by 1 where the value lies on the rounding boundary.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.cuda.module import Array, float32s, int32s, kind_of, launch, pitches, require, require_plane
from kernels.errors import DtypeError, LayoutError, ShapeError

if TYPE_CHECKING:
    from kernels.colour import YuvLayout

Planes = tuple[Array, Array, Array]
_FLOATS = (np.float32, np.float16)


def yuv_to_rgb(
    planes: Planes,
    layout: "YuvLayout",
    out: Array | None = None,
    *,
    in_high_bits: bool = False,
    repeat_edge: bool = False,
) -> Array:
    """Turn integer Y, U, V planes into RGB; see `kernels.colour.yuv_to_rgb`.

    Args:
        planes: Y (height, width), U and V of `layout.chroma_shape`, uint8 or uint16, with any strides: of NV12,
            (y, uv[:, 0::2], uv[:, 1::2]).
        layout: What the samples mean.
        out: (3, at least height, at least width) float32 or float16 to fill at its top left; new float32 without it.
        in_high_bits: Samples of uint16 lie in the high bits, as in P010.
        repeat_edge: Fill all of `out`, the frame's edge repeated beyond it.

    Returns:
        (3, height, width), a view of `out`.

    Raises:
        ShapeError: The planes do not fit together or into `out`.
        DtypeError: A plane is neither uint8 nor uint16, or `out` not float.
        LayoutError: The elements of a row of `out` are not adjacent.
        DeviceError: An array is not on the current GPU.
    """
    height, width = _check_planes(planes, layout, planes[0].shape)
    if out is None:
        import cupy

        out = cupy.empty((3, height, width), np.float32)
    require(out, "out", dtypes=_FLOATS, shape=(3, None, None))
    if out.shape[1] < height or out.shape[2] < width:
        raise ShapeError(f"got out {out.shape} for {height}x{width}")
    if height and width:
        filled = out.shape[1:] if repeat_edge else (height, width)
        luma_offset, luma_span, chroma_offset, chroma_span = float32s(*layout.coding())
        kr, kb, one, two = float32s(layout.kr, layout.kb, 1, 2)
        red_v, blue_u, kg = two * (one - kr), two * (one - kb), one - kr - kb
        factors = (luma_offset, one / luma_span, chroma_offset, one / chroma_span)
        matrix = (red_v, kb * blue_u / kg, kr * red_v / kg, blue_u)
        arguments = [*_plane_arguments(planes, layout, in_high_bits=in_high_bits), *float32s(*layout.siting)]
        arguments += [*factors, *matrix, out, kind_of(out), *pitches(out), *int32s(*filled)]
        launch("colour", "yuv_to_rgb", filled[0] * filled[1], arguments)
    return out[:, :height, :width]


def rgb_to_yuv(rgb: Array, layout: "YuvLayout", out: Planes | None = None, *, in_high_bits: bool = False) -> Planes:
    """Turn RGB into integer Y, U, V planes; see `kernels.colour.rgb_to_yuv`.

    Args:
        rgb: (3, height, width) float32 or float16, rows of adjacent elements.
        layout: What the samples shall mean.
        out: Planes to fill, with any strides; new ones without it.
        in_high_bits: Shift samples of uint16 to the high bits, as in P010.

    Returns:
        Y (height, width), U and V of `layout.chroma_shape`; uint8 at 8 bits, uint16 above.

    Raises:
        ShapeError: The arrays do not fit together.
        DtypeError: An array has another dtype.
        LayoutError: The elements of a row of `rgb` are not adjacent.
        DeviceError: An array is not on the current GPU.
    """
    require(rgb, "rgb", dtypes=_FLOATS, shape=(3, None, None))
    height, width = rgb.shape[1:]
    dtype = np.uint8 if layout.bit_depth == 8 else np.uint16
    if out is None:
        import cupy

        size = layout.chroma_shape(height, width)
        out = (cupy.empty((height, width), dtype), cupy.empty(size, dtype), cupy.empty(size, dtype))
    _check_planes(out, layout, (height, width))
    if out[0].dtype != dtype:
        raise DtypeError(f"got planes of {out[0].dtype} for {layout.bit_depth} bits, expected {np.dtype(dtype).name}")
    rows, columns = out[1].shape
    luma_offset, luma_span, chroma_offset, chroma_span = float32s(*layout.coding())
    kr, kb, one, two = float32s(layout.kr, layout.kb, 1, 2)
    scales = (chroma_span / (two * (one - kb)), chroma_span / (two * (one - kr)))
    y, y_row, y_step, u, v, chroma_row, chroma_step, wide, shift, *_ = _plane_arguments(
        out, layout, in_high_bits=in_high_bits
    )
    arguments = [rgb, kind_of(rgb), *pitches(rgb), *int32s(height, width, rows, columns, *layout.steps)]
    arguments += [*float32s(*layout.siting), kr, one - kr - kb, kb, luma_offset, luma_span, chroma_offset, *scales]
    arguments += [np.float32((1 << layout.bit_depth) - 1), wide, shift, y, y_row, y_step, u, v, chroma_row, chroma_step]
    launch("colour", "rgb_to_yuv", rows * columns, arguments)
    return out


def rgb_to_luma(rgb: Array, grid: int = 1, out: Array | None = None) -> Array:
    """Return BT.601 luma, averaged over squares of `grid` pixels; see `kernels.colour.rgb_to_luma`.

    Args:
        rgb: (3, height, width) float32 or float16, rows of adjacent elements; sizes in multiples of `grid`.
        grid: Side of a square, in pixels.
        out: (height / grid, width / grid) float32, C-contiguous, to fill; a new array without it.

    Raises:
        ShapeError: The sizes do not fit.
        DtypeError: An array has another dtype.
        LayoutError: The elements of a row of `rgb` are not adjacent.
        DeviceError: An array is not on the current GPU.
    """
    require(rgb, "rgb", dtypes=_FLOATS, shape=(3, None, None))
    if rgb.shape[1] % grid or rgb.shape[2] % grid:
        raise ShapeError(f"got {rgb.shape}, expected (3, height, width) in multiples of {grid}")
    shape = (rgb.shape[1] // grid, rgb.shape[2] // grid)
    if out is None:
        import cupy

        out = cupy.empty(shape, np.float32)
    require_plane(out, "out", shape)
    share = np.float32(1) / np.float32(grid * grid)
    weights = [weight * share for weight in float32s(0.299, 0.587, 0.114)]
    arguments = [rgb, kind_of(rgb), *pitches(rgb), np.int32(grid), *weights, out, *int32s(*shape)]
    launch("colour", "rgb_to_luma", shape[0] * shape[1], arguments)
    return out


def _check_planes(planes: Planes, layout: "YuvLayout", shape: tuple[int, ...]) -> tuple[int, int]:
    """Check Y, U and V planes against each other; return the size of Y."""
    dtypes = (np.uint8, np.uint16)
    require(planes[0], "luma", dtypes=dtypes, shape=(None, None) if len(shape) != 2 else shape)
    height, width = planes[0].shape
    for plane in planes[1:]:
        require(plane, "chroma", dtypes=(planes[0].dtype,), shape=layout.chroma_shape(height, width))
    if planes[1].strides != planes[2].strides:
        raise LayoutError(f"got chroma strides {planes[1].strides} and {planes[2].strides}, expected the same")
    return height, width


def _plane_arguments(planes: Planes, layout: "YuvLayout", *, in_high_bits: bool) -> list[Any]:
    """Return what a kernel takes of planes: addresses, distances in samples, sample size and shift, and sizes."""
    y, u, v = planes
    size = y.itemsize
    luma, chroma = (np.array(plane.strides, np.int64) // size for plane in (y, u))
    shift = 16 - layout.bit_depth if in_high_bits and size == 2 else 0
    distances = [y, luma[0], np.int32(luma[1]), u, v, chroma[0], np.int32(chroma[1])]
    return [*distances, *int32s(size - 1, shift, *y.shape, *u.shape, *layout.steps)]
