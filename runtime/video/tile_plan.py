"""The canvas of a job: how large the network's plane is, and which of the model's tile shapes covers it."""

from dataclasses import dataclass
from itertools import count
from typing import Final

from kernels.tiles import Tile, count_axis, plan_tiles
from runtime.errors import ManifestError
from runtime.manifest import VideoSpec

_CALL_COST_PIXELS: Final = 4000
"""What starting one more tile is taken to cost, in pixels computed: an assumption, to keep tiles few."""
MOST_TILE_PIXELS: Final = 250_000
"""Of a tile that is cut to measure, unless more memory is known to be there: some 350 MB with its buffers."""
_LARGEST_TILE_PIXELS: Final = 600_000
"""A whole frame of 1080p on a grid of two. Larger planes are cut into tiles of `MOST_TILE_PIXELS`: halos cost little
there, and the states of large tiles that wait for their neighbours would cost hundreds of megabytes."""
_TILE_PIXEL_BYTES: Final = 1400
"""Measured for the shipped models: 530 to 880 of inner tensors, 500 to 650 of what goes in and out."""
_MEMORY_SHARE: Final = 10
"""A tile takes a tenth of the spare memory at most."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """The plane on which a network computes a frame, in pixels of its grid, and the tiles that cover it.

    height, width: the plane, at least the source's size divided by the grid; what is more repeats the source's edge.
    """

    source_height: int
    source_width: int
    height: int
    width: int
    grid: int
    scale: int
    halo: int
    tiles: tuple[Tile, ...]

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of every tile, its halo included."""
        return self.tiles[0].height, self.tiles[0].width

    @property
    def padded(self) -> bool:
        """Return whether the plane is larger than the source."""
        return (self.height * self.grid, self.width * self.grid) != (self.source_height, self.source_width)


def plan_canvas(
    height: int, width: int, spec: VideoSpec, *, any_shape: bool = False, most_pixels: int = MOST_TILE_PIXELS
) -> Canvas:
    """Choose the tile shape that computes the fewest pixels for a source of this size.

    With `any_shape` the tiles are cut to measure, of `most_pixels` at most, unless the plane is smaller than every
    shape of the manifest; engines that were built for a shape have those of the manifest.

    Shapes that fit on the plane are preferred, for then no pixel is made up; a plane smaller than every shape is
    padded to the one that costs least. The plane's sides are multiples of `spec.tile_multiple`, and so are the places
    of the tiles where the halo is one too: a network that halves its plane must see the same pairs of pixels.
    Tiles that are blended lie so that neighbours share `spec.overlap` pixels.

    Raises:
        ManifestError: Every tile shape is smaller than the plane, and not larger than its halo.
    """
    halo = max(spec.halo, -(-spec.overlap // 2))
    rows, columns = (_round_up(-(-side // spec.grid), spec.tile_multiple) for side in (height, width))
    if any_shape and all(
        side >= min(sides) for side, sides in zip((rows, columns), zip(*spec.tile_shapes, strict=True), strict=True)
    ):
        shape = fitting_shape(rows, columns, halo=halo, multiple=spec.tile_multiple, most_pixels=most_pixels)
        return _cover(height, width, (rows, columns), shape, spec, halo)
    usable = [shape for shape in spec.tile_shapes if all(map(_covers, shape, (rows, columns), (halo, halo)))]
    if not usable:
        raise ManifestError(
            f"tiles of {spec.tile_shapes} keep nothing inside a halo of {halo} on a plane of {columns}x{rows}; "
            f"import the model with tiles of more than {2 * halo * spec.grid} pixels, or as large as the frame"
        )
    fitting = [shape for shape in usable if shape[0] <= rows and shape[1] <= columns]

    chosen = min(fitting or usable, key=lambda shape: _cost((rows, columns), shape, halo))
    return _cover(height, width, (rows, columns), chosen, spec, halo)


def most_tile_pixels(spare_bytes: int) -> int:
    """Return the pixels of the largest tile to compute at once, where the rest of the job leaves this much memory."""
    fitting = spare_bytes // _MEMORY_SHARE // _TILE_PIXEL_BYTES
    return min(_LARGEST_TILE_PIXELS, max(MOST_TILE_PIXELS, fitting))


def fitting_shape(
    rows: int, columns: int, *, halo: int, multiple: int = 1, most_pixels: int = MOST_TILE_PIXELS
) -> tuple[int, int]:
    """Return the tile shape that covers a plane with the fewest computed pixels, of those that memory has room for.

    Args:
        rows: Of the plane; a multiple of `multiple`, and so are the columns and the tile's sides.
        columns: Of the plane.
        halo: Of a tile, on every side at which another one lies.
        multiple: See `VideoSpec.tile_multiple`.
        most_pixels: Of a tile.
    """
    shapes = [
        (tall, wide)
        for tall in _parts(rows, halo, multiple)
        for wide in _parts(columns, halo, multiple)
        if tall * wide <= (most_pixels if rows * columns <= most_pixels else min(most_pixels, MOST_TILE_PIXELS))
    ]
    if not shapes:  # the halo alone is larger than that
        return rows, columns
    return min(shapes, key=lambda shape: _cost((rows, columns), shape, halo))


def _parts(side: int, halo: int, multiple: int) -> list[int]:
    """Return the lengths of equal tiles that cover a side, from one tile on down to those that hardly keep anything."""
    lengths: list[int] = []
    for number in count(1):
        length = _round_up(-(-(side + 2 * halo * (number - 1)) // number), multiple)
        if length <= 4 * halo + multiple or (lengths and length >= lengths[-1]):
            return lengths or [side]
        lengths.append(length)
    raise AssertionError("lengths fall until they end")


def _cost(plane: tuple[int, int], shape: tuple[int, int], halo: int) -> int:
    number = 1
    for side, tile in zip(plane, shape, strict=True):
        number *= count_axis(max(side, tile), tile, halo)
    return number * (shape[0] * shape[1] + _CALL_COST_PIXELS)


def _cover(
    height: int, width: int, plane: tuple[int, int], shape: tuple[int, int], spec: VideoSpec, halo: int
) -> Canvas:
    rows, columns = (max(pair) for pair in zip(plane, shape, strict=True))
    tiles = plan_tiles(rows, columns, tile_height=shape[0], tile_width=shape[1], halo=halo)
    return Canvas(height, width, rows, columns, spec.grid, spec.scale, halo, tiles)


def _covers(tile: int, side: int, halo: int) -> bool:
    """Return whether tiles cover a side: one does, or each keeps something inside its halo."""
    return tile >= side or tile > 2 * halo


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
