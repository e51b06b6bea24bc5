"""DIS optical flow: dense inverse search (Kroeger et al., arXiv 1603.03590) with spatial propagation.

The flow that aligns the recurrent state with the next frame. It is computed on the whole frame, so that tiles never
see its borders. Deviations from the paper: no variational refinement; patches also try their neighbours' displacement
(as PatchMatch does), which is what keeps thin objects; templates are mean-normalised.

Frames of CuPy are compared on their GPU, in the parallel form of `kernels.cuda.flow`.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cuda import flow as cuda
from kernels.cuda.module import is_on_gpu
from kernels.errors import DtypeError, ShapeError

PATCH = 8
STRIDE = 4
_ITERATIONS = 6
_COARSEST_SIDE = 20
_MARGIN = 16

Plane = NDArray[np.float32]


def estimate_flow(frame: Plane, previous: Plane) -> NDArray[np.float32]:
    """Estimate where each pixel of a frame was in the previous frame.

    Args:
        frame: (height, width) float32, luma in [0, 1].
        previous: (height, width) float32, the luma of the frame before it.

    Returns:
        (2, height, width) float32, displacement in pixels, x then y: `previous[y + v, x + u]` shows what
        `frame[y, x]` shows.

    Raises:
        ShapeError: The frames are not two planes of one size.
        DtypeError: A frame is not float32.
    """
    if is_on_gpu(frame, previous):
        return cuda.estimate_flow(frame, previous)
    if frame.ndim != 2 or frame.shape != previous.shape:
        raise ShapeError(f"got frames {frame.shape} and {previous.shape}, expected two planes of one size")
    if frame.dtype != np.float32 or previous.dtype != np.float32:
        raise DtypeError(f"got {frame.dtype} and {previous.dtype}, expected float32 luma")
    height, width = frame.shape
    templates, targets = _pyramid(frame), _pyramid(previous)
    flow = np.zeros((2, *templates[-1].shape), np.float32)
    for template, target in zip(reversed(templates), reversed(targets), strict=True):
        if flow.shape[1:] != template.shape:
            flow = _double(flow, template.shape[0], template.shape[1])
        flow = _refine(template, np.pad(target, _MARGIN, mode="edge"), flow)
    assert flow.shape == (2, height, width)
    return flow


def _pyramid(plane: Plane) -> list[Plane]:
    """Return the plane smoothed, then halved until its short side is small."""
    levels = [_smooth(plane)]
    while min(levels[-1].shape) >= 2 * _COARSEST_SIDE:
        levels.append(_halve(levels[-1]))
    return levels


@njit(cache=True, nogil=True)
def _smooth(plane: Any) -> Any:
    """Binomial 3x3: coding noise and grain must not steer the search."""
    height, width = plane.shape
    rows = np.empty_like(plane)
    out = np.empty_like(plane)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            rows[y, x] = 0.25 * plane[up, x] + 0.5 * plane[y, x] + 0.25 * plane[down, x]
    for y in range(height):
        out[y, 0] = 0.75 * rows[y, 0] + 0.25 * rows[y, min(1, width - 1)]
        for x in range(1, width - 1):
            out[y, x] = 0.25 * rows[y, x - 1] + 0.5 * rows[y, x] + 0.25 * rows[y, x + 1]
        out[y, width - 1] = 0.75 * rows[y, width - 1] + 0.25 * rows[y, max(width - 2, 0)]
    return out


@njit(cache=True, nogil=True)
def _halve(plane: Any) -> Any:
    height, width = (plane.shape[0] + 1) // 2, (plane.shape[1] + 1) // 2
    out = np.empty((height, width), np.float32)
    for y in range(height):
        low = min(2 * y + 1, plane.shape[0] - 1)
        for x in range(width):
            right = min(2 * x + 1, plane.shape[1] - 1)
            out[y, x] = 0.25 * (plane[2 * y, 2 * x] + plane[2 * y, right] + plane[low, 2 * x] + plane[low, right])
    return out


@njit(cache=True, nogil=True)
def _double(flow: Any, height: int, width: int) -> Any:
    out = np.empty((2, height, width), np.float32)
    for c in range(2):
        for y in range(height):
            for x in range(width):
                out[c, y, x] = 2 * flow[c, min(y // 2, flow.shape[1] - 1), min(x // 2, flow.shape[2] - 1)]
    return out


# Inlined by force: a process that compiles would otherwise call the function as compiled by itself, one that loads the
# compiled code from the cache a copy that was optimised with its caller, and the two round differently.
@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _distance(template: Any, target: Any, y: int, x: int, u: Any, v: Any, diff: Any) -> Any:
    """Fill `diff` with the mean-free difference of a patch displaced by (u, v); return its sum of squares."""
    height, width = target.shape[0] - 2 * _MARGIN, target.shape[1] - 2 * _MARGIN
    top = min(max(y + v, -float(_MARGIN - 1)), height + _MARGIN - PATCH - 2.0) + _MARGIN
    left = min(max(x + u, -float(_MARGIN - 1)), width + _MARGIN - PATCH - 2.0) + _MARGIN
    row, column = int(top), int(left)
    fy, fx = np.float32(top - row), np.float32(left - column)
    w00, w01 = (np.float32(1) - fy) * (np.float32(1) - fx), (np.float32(1) - fy) * fx
    w10, w11 = fy * (np.float32(1) - fx), fy * fx
    total = np.float32(0)
    for i in range(PATCH):
        for j in range(PATCH):
            value = (
                w00 * target[row + i, column + j]
                + w01 * target[row + i, column + j + 1]
                + w10 * target[row + i + 1, column + j]
                + w11 * target[row + i + 1, column + j + 1]
            )
            diff[i, j] = value - template[i, j]
            total += diff[i, j]
    offset = total / np.float32(PATCH * PATCH)
    squares = np.float32(0)
    for i in range(PATCH):
        for j in range(PATCH):
            diff[i, j] -= offset
            squares += diff[i, j] * diff[i, j]
    return squares


@njit(cache=True, nogil=True, fastmath=True)
def _refine(template: Any, target: Any, start: Any) -> Any:
    """Search every patch of one level from the coarser level's flow (inverse search), then densify to pixels."""
    height, width = template.shape
    rows = max(1, (height - PATCH + STRIDE - 1) // STRIDE + 1)
    columns = max(1, (width - PATCH + STRIDE - 1) // STRIDE + 1)
    found = np.empty((rows, columns, 2), np.float32)
    cost = np.empty((rows, columns), np.float32)
    diff, other = np.empty((PATCH, PATCH), np.float32), np.empty((PATCH, PATCH), np.float32)
    patch = np.empty((PATCH, PATCH), np.float32)
    gx = np.empty((PATCH, PATCH), np.float32)
    gy = np.empty((PATCH, PATCH), np.float32)
    for sweep in range(2):
        for step in range(rows * columns):
            index = step if sweep == 0 else rows * columns - 1 - step
            row, column = index // columns, index % columns
            y, x = max(0, min(row * STRIDE, height - PATCH)), max(0, min(column * STRIDE, width - PATCH))
            for i in range(PATCH):
                yy = min(y + i, height - 1)
                for j in range(PATCH):
                    patch[i, j] = template[yy, min(x + j, width - 1)]
            if sweep == 0:
                cy, cx = min(y + PATCH // 2, height - 1), min(x + PATCH // 2, width - 1)
                u, v = start[0, cy, cx], start[1, cy, cx]
                best = _distance(patch, target, y, x, u, v, diff)
            else:
                u, v, best = found[row, column, 0], found[row, column, 1], cost[row, column]
            changed = sweep == 0  # `diff` is then that of (u, v)
            back = -1 if sweep == 0 else 1
            for neighbour in range(2):
                r = row + (back if neighbour == 0 else 0)
                c = column + (back if neighbour == 1 else 0)
                if 0 <= r < rows and 0 <= c < columns:
                    trial = _distance(patch, target, y, x, found[r, c, 0], found[r, c, 1], other)
                    if trial < best * np.float32(0.95):
                        best, u, v, changed = trial, found[r, c, 0], found[r, c, 1], True
                        diff, other = other, diff
            if changed:
                u, v, best = _gauss_newton(patch, gx, gy, target, y, x, u, v, best, diff)
            found[row, column, 0], found[row, column, 1], cost[row, column] = u, v, best
    return _densify(template, target, found)


@njit(cache=True, nogil=True, fastmath=True)
def _gauss_newton(
    patch: Any, gx: Any, gy: Any, target: Any, y: int, x: int, u: Any, v: Any, best: Any, diff: Any
) -> Any:
    """Gauss-Newton on the displacement, the template's gradients kept (inverse compositional).

    `diff` is the difference at (u, v), and is overwritten.
    """
    h00 = h01 = h11 = np.float32(0)
    for i in range(PATCH):
        for j in range(PATCH):
            left, right = max(j - 1, 0), min(j + 1, PATCH - 1)
            up, down = max(i - 1, 0), min(i + 1, PATCH - 1)
            dx = (patch[i, right] - patch[i, left]) / np.float32(right - left)
            dy = (patch[down, j] - patch[up, j]) / np.float32(down - up)
            gx[i, j], gy[i, j] = dx, dy
            h00 += dx * dx
            h01 += dx * dy
            h11 += dy * dy
    h00 += np.float32(1e-4)
    h11 += np.float32(1e-4)
    scale = np.float32(1) / (h00 * h11 - h01 * h01)
    tu, tv = u, v
    for _ in range(_ITERATIONS):
        b0 = b1 = np.float32(0)
        for i in range(PATCH):
            for j in range(PATCH):
                b0 += gx[i, j] * diff[i, j]
                b1 += gy[i, j] * diff[i, j]
        du, dv = (h11 * b0 - h01 * b1) * scale, (h00 * b1 - h01 * b0) * scale
        size = du * du + dv * dv
        if size > np.float32(4):
            shrink = np.float32(2) / np.sqrt(size)
            du, dv = du * shrink, dv * shrink
        tu, tv = tu - du, tv - dv
        now = _distance(patch, target, y, x, tu, tv, diff)
        if now >= best:
            break
        best, u, v = now, tu, tv
        if size < np.float32(4e-4):
            break
    return u, v, best


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _densify(template: Any, target: Any, found: Any) -> Any:
    """Densify: average the patches' displacements over each pixel, weighted by photometric error."""
    height, width = template.shape
    flow = np.zeros((2, height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    for row in range(found.shape[0]):
        y = max(0, min(row * STRIDE, height - PATCH))
        for column in range(found.shape[1]):
            x = max(0, min(column * STRIDE, width - PATCH))
            u, v = found[row, column, 0], found[row, column, 1]
            top = min(max(y + v, -float(_MARGIN - 1)), height + _MARGIN - PATCH - 2.0) + _MARGIN
            left = min(max(x + u, -float(_MARGIN - 1)), width + _MARGIN - PATCH - 2.0) + _MARGIN
            r, c = int(top), int(left)
            fy, fx = np.float32(top - r), np.float32(left - c)
            w00, w01 = (np.float32(1) - fy) * (np.float32(1) - fx), (np.float32(1) - fy) * fx
            w10, w11 = fy * (np.float32(1) - fx), fy * fx
            for i in range(min(PATCH, height - y)):
                for j in range(min(PATCH, width - x)):
                    value = (
                        w00 * target[r + i, c + j]
                        + w01 * target[r + i, c + j + 1]
                        + w10 * target[r + i + 1, c + j]
                        + w11 * target[r + i + 1, c + j + 1]
                    )
                    w = np.float32(1) / max(np.float32(0.004), abs(value - template[y + i, x + j]))
                    weight[y + i, x + j] += w
                    flow[0, y + i, x + j] += w * u
                    flow[1, y + i, x + j] += w * v
    for y in range(height):
        for x in range(width):
            flow[0, y, x] /= weight[y, x]
            flow[1, y, x] /= weight[y, x]
    return flow
