"""Smooth overlap-add of tiles, for networks whose receptive field is larger than any halo (attention)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.errors import ShapeError
from kernels.tiles import Tile


def tile_window(tile: Tile, height: int, width: int, *, overlap: int, scale: int = 1) -> NDArray[np.float32]:
    """Give a tile's weight at each pixel: one inside, falling as a raised cosine over the overlap.

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
    if result.shape[1:] != window.shape:
        raise ShapeError(f"got a result {result.shape} and a window {window.shape}")
    rows = slice(tile.top * scale, (tile.top + tile.height) * scale)
    columns = slice(tile.left * scale, (tile.left + tile.width) * scale)
    total[:, rows, columns] += result * window
    weight[rows, columns] += window
