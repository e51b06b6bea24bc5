"""The canvas of a job: how large the network's plane is, and which of the model's tile shapes covers it."""

from dataclasses import dataclass

from kernels.tiles import Tile, count_axis, plan_tiles
from runtime.errors import ManifestError
from runtime.manifest import VideoSpec

_CALL_COST_PIXELS = 4000
"""What starting one more tile is taken to cost, in pixels computed: an assumption, to keep tiles few."""


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
        """Tell whether the plane is larger than the source."""
        return (self.height * self.grid, self.width * self.grid) != (self.source_height, self.source_width)


def plan_canvas(height: int, width: int, spec: VideoSpec) -> Canvas:
    """Choose the tile shape that computes the fewest pixels for a source of this size.

    Shapes that fit on the plane are preferred, for then no pixel is made up; a plane smaller than every shape is
    padded to the one that costs least. The plane's sides are multiples of `spec.tile_multiple`, and so are the places
    of the tiles where the halo is one too: a network that halves its plane must see the same pairs of pixels.
    Tiles that are blended lie so that neighbours share `spec.overlap` pixels.

    Raises:
        ManifestError: Every tile shape is smaller than the plane, and not larger than its halo.
    """
    halo = max(spec.halo, -(-spec.overlap // 2))
    rows, columns = (_round_up(-(-side // spec.grid), spec.tile_multiple) for side in (height, width))
    usable = [shape for shape in spec.tile_shapes if all(map(_covers, shape, (rows, columns), (halo, halo)))]
    if not usable:
        raise ManifestError(
            f"tiles of {spec.tile_shapes} keep nothing inside a halo of {halo} on a plane of {columns}x{rows}; "
            f"import the model with tiles of more than {2 * halo * spec.grid} pixels, or as large as the picture"
        )
    fitting = [shape for shape in usable if shape[0] <= rows and shape[1] <= columns]

    def cost(shape: tuple[int, int]) -> int:
        count = count_axis(max(rows, shape[0]), shape[0], halo)
        count *= count_axis(max(columns, shape[1]), shape[1], halo)
        return count * (shape[0] * shape[1] + _CALL_COST_PIXELS)

    tile_height, tile_width = min(fitting or usable, key=cost)
    rows, columns = max(rows, tile_height), max(columns, tile_width)
    tiles = plan_tiles(rows, columns, tile_height=tile_height, tile_width=tile_width, halo=halo)
    return Canvas(height, width, rows, columns, spec.grid, spec.scale, halo, tiles)


def _covers(tile: int, side: int, halo: int) -> bool:
    """Tell whether tiles cover a side: one does, or each keeps something inside its halo."""
    return tile >= side or tile > 2 * halo


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
