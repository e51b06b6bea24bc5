"""Tiles over a frame: where they lie, what is read and kept of each, and the weighted overlap-add that blends them.

Canvases may be of CuPy too; `kernels.cuda.tiles` fills and empties an engine's buffers in one launch each.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda import tiles as cuda
from kernels.cuda.module import is_on_gpu
from kernels.errors import ShapeError


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: the window that is read, and the part of it that is kept, both in pixels of the canvas."""

    top: int
    left: int
    height: int
    width: int
    keep_top: int
    keep_left: int
    keep_bottom: int
    keep_right: int


def plan_tiles(height: int, width: int, *, tile_height: int, tile_width: int, halo: int) -> tuple[Tile, ...]:
    """Cover a canvas with tiles of one shape, row by row.

    Tiles lie wholly on the canvas; the kept parts cover it once. Where a tile ends on the canvas's border nothing is
    cut off: the network sees the same border as it would untiled.

    Raises:
        ShapeError: The tile is larger than the canvas, or so small that the halo leaves nothing.
    """
    rows = _plan_axis(height, tile_height, halo)
    columns = _plan_axis(width, tile_width, halo)
    return tuple(
        Tile(top, left, tile_height, tile_width, keep_top, keep_left, keep_bottom, keep_right)
        for top, keep_top, keep_bottom in rows
        for left, keep_left, keep_right in columns
    )


def _plan_axis(length: int, tile: int, halo: int) -> list[tuple[int, int, int]]:
    if tile > length:
        raise ShapeError(f"a tile of {tile} does not fit on a canvas of {length}; pad the canvas first")
    if tile == length:
        return [(0, 0, length)]
    interior = tile - 2 * halo
    if interior <= 0:
        raise ShapeError(f"a tile of {tile} with a halo of {halo} keeps nothing; use a larger tile")
    count = -(-(length - 2 * halo) // interior)
    starts = [min(index * interior, length - tile) for index in range(count)]
    bounds = [0, *(start + halo for start in starts[1:]), length]
    return list(zip(starts, bounds[:-1], bounds[1:], strict=True))


def count_axis(length: int, tile: int, halo: int) -> int:
    """Count the tiles that cover one axis; as `plan_tiles` does."""
    return len(_plan_axis(length, tile, halo))


def read_tile(canvas: Any, tile: Tile, *, scale: int = 1) -> Any:
    """Return the view of a canvas (..., scale height, scale width) that a tile reads."""
    return canvas[
        ...,
        tile.top * scale : (tile.top + tile.height) * scale,
        tile.left * scale : (tile.left + tile.width) * scale,
    ]


def write_tile(canvas: Any, tile: Tile, result: Any, *, scale: int = 1) -> None:
    """Write the kept part of a tile's result to the canvas, which is changed in place.

    Args:
        canvas: (channels, scale canvas height, scale canvas width).
        tile: Where the result belongs.
        result: (channels, scale tile height, scale tile width).
        scale: How much finer the canvas is than the plane on which the tiles were planned.

    Raises:
        ShapeError: The result is not of the tile's shape.
    """
    expected = (canvas.shape[0], tile.height * scale, tile.width * scale)
    if result.shape != expected:
        raise ShapeError(f"got a result {result.shape} for a tile of {expected}")
    canvas[
        :,
        tile.keep_top * scale : tile.keep_bottom * scale,
        tile.keep_left * scale : tile.keep_right * scale,
    ] = result[
        :,
        (tile.keep_top - tile.top) * scale : (tile.keep_bottom - tile.top) * scale,
        (tile.keep_left - tile.left) * scale : (tile.keep_right - tile.left) * scale,
    ]


def tile_window(tile: Tile, height: int, width: int, *, overlap: int, scale: int = 1) -> NDArray[np.float32]:
    """Return a tile's weight at each pixel: one inside, falling as a raised cosine over the overlap.

    A side that lies on the border of the canvas (height, width) does not fall, for nothing overlaps it there.

    Returns:
        (scale tile height, scale tile width) float32, above zero everywhere.
    """
    rows = _fade(tile.height, overlap, rising=tile.top > 0, falling=tile.top + tile.height < height, scale=scale)
    columns = _fade(tile.width, overlap, rising=tile.left > 0, falling=tile.left + tile.width < width, scale=scale)
    return np.outer(rows, columns)


def _fade(length: int, overlap: int, *, rising: bool, falling: bool, scale: int) -> NDArray[np.float32]:
    weights = np.ones(length * scale, np.float32)
    count = overlap * scale
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / max(1, count))).astype(np.float32)
    if rising and count:
        weights[:count] = np.minimum(weights[:count], ramp)
    if falling and count:
        weights[-count:] = np.minimum(weights[-count:], ramp[::-1])
    return weights


def add_tile(total: Any, weight: Any, tile: Tile, result: Any, window: Any, *, scale: int = 1) -> None:
    """Add a tile's weighted result to a sum, and its weight to the sum of weights; both are changed in place.

    Args:
        total: (channels, scale canvas height, scale canvas width) float32.
        weight: (scale canvas height, scale canvas width) float32.
        tile: Where the result belongs.
        result: (channels, scale tile height, scale tile width) float32.
        window: The tile's weights, from `tile_window`.
        scale: How much finer the canvas is than the plane on which the tiles were planned.

    Raises:
        ShapeError: The result and the window differ in size.
    """
    if is_on_gpu(total, weight, result, window):
        cuda.add_tile(total, weight, tile, result, window, scale=scale)
        return
    if result.shape[1:] != window.shape:
        raise ShapeError(f"got a result {result.shape} and a window {window.shape}")
    rows = slice(tile.top * scale, (tile.top + tile.height) * scale)
    columns = slice(tile.left * scale, (tile.left + tile.width) * scale)
    total[:, rows, columns] += result * window
    weight[rows, columns] += window
