"""Tiles rebuild the canvas, at any size."""

import numpy as np
import pytest

from kernels.errors import ShapeError
from kernels.tiles import count_axis, plan_tiles, read_tile, write_tile

SIZES = [(16, 16), (17, 31), (64, 64), (65, 97), (180, 320), (271, 481), (33, 500)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("scale", [1, 2])
def test_kept_parts_cover_the_canvas_exactly_once(height, width, scale):
    tiles = plan_tiles(height, width, tile_height=min(height, 40), tile_width=min(width, 48), halo=6)
    written = np.full((1, height * scale, width * scale), -1, np.int32)

    for number, tile in enumerate(tiles):
        write_tile(written, tile, np.full((1, tile.height * scale, tile.width * scale), number, np.int32), scale=scale)

    kept = [(t.keep_bottom - t.keep_top) * (t.keep_right - t.keep_left) * scale**2 for t in tiles]
    assert np.bincount(written.ravel() + 1, minlength=len(tiles) + 1).tolist() == [0, *kept]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_halo_lies_between_what_is_kept_and_every_inner_edge(height, width):
    halo = 6

    tiles = plan_tiles(height, width, tile_height=min(height, 40), tile_width=min(width, 48), halo=halo)

    for tile in tiles:
        assert tile.top == 0 or tile.keep_top - tile.top >= halo
        assert tile.left == 0 or tile.keep_left - tile.left >= halo
        bottom, right = tile.top + tile.height, tile.left + tile.width
        assert bottom == height or bottom - tile.keep_bottom >= halo
        assert right == width or right - tile.keep_right >= halo
        assert 0 <= tile.top <= bottom <= height
        assert 0 <= tile.left <= right <= width


def test_a_canvas_read_and_written_tile_by_tile_is_unchanged():
    canvas = np.random.default_rng(1).random((3, 100, 77), np.float32)
    rebuilt = np.zeros_like(canvas)

    for tile in plan_tiles(100, 77, tile_height=32, tile_width=32, halo=5):
        write_tile(rebuilt, tile, read_tile(canvas, tile))

    np.testing.assert_array_equal(rebuilt, canvas)


def test_the_count_of_an_axis_is_the_number_of_tiles_planned():
    tiles = plan_tiles(100, 77, tile_height=32, tile_width=32, halo=5)

    assert len(tiles) == count_axis(100, 32, 5) * count_axis(77, 32, 5)


def test_a_tile_larger_than_the_canvas_is_refused():
    with pytest.raises(ShapeError, match="does not fit on a canvas of 20; pad the canvas"):
        plan_tiles(20, 40, tile_height=32, tile_width=32, halo=4)


def test_a_halo_that_leaves_nothing_is_refused():
    with pytest.raises(ShapeError, match="keeps nothing; use a larger tile"):
        plan_tiles(64, 64, tile_height=16, tile_width=16, halo=8)


def test_a_result_of_another_shape_is_refused_and_changes_nothing():
    canvas = np.zeros((1, 64, 64), np.float32)
    tile = plan_tiles(64, 64, tile_height=32, tile_width=32, halo=4)[0]

    with pytest.raises(ShapeError, match="for a tile of"):
        write_tile(canvas, tile, np.ones((1, 31, 32), np.float32))

    assert not canvas.any()
