"""Blended tiles rebuild the canvas and cross-fade."""

import numpy as np
import pytest

from kernels.errors import ShapeError
from kernels.tiles import add_tile, plan_tiles, tile_window


@pytest.mark.parametrize("scale", [1, 2])
def test_tiles_of_one_image_blend_back_into_it(scale):
    height, width, overlap = 70, 91, 12
    canvas = np.random.default_rng(2).random((3, height * scale, width * scale), np.float32)
    total, weight = np.zeros_like(canvas), np.zeros(canvas.shape[1:], np.float32)

    for tile in plan_tiles(height, width, tile_height=32, tile_width=40, halo=overlap // 2):
        rows = slice(tile.top * scale, (tile.top + tile.height) * scale)
        columns = slice(tile.left * scale, (tile.left + tile.width) * scale)
        window = tile_window(tile, height, width, overlap=overlap, scale=scale)
        add_tile(total, weight, tile, canvas[:, rows, columns], window, scale=scale)

    np.testing.assert_allclose(total / weight, canvas, atol=1e-6)


def test_a_joint_between_two_levels_is_a_slope_not_a_step():
    tiles = plan_tiles(32, 56, tile_height=32, tile_width=32, halo=4)
    total, weight = np.zeros((1, 32, 56), np.float32), np.zeros((32, 56), np.float32)

    for level, tile in enumerate(tiles):
        window = tile_window(tile, 32, 56, overlap=8)
        add_tile(total, weight, tile, np.full((1, 32, 32), level, np.float32), window)

    assert np.abs(np.diff((total / weight)[0], axis=1)).max() < 0.25


def test_a_side_on_the_canvas_border_does_not_fade():
    tile = plan_tiles(32, 56, tile_height=32, tile_width=32, halo=4)[0]

    window = tile_window(tile, 32, 56, overlap=8)

    np.testing.assert_array_equal(window[:, :24], 1)
    assert (window[:, -1] < 0.05).all()
    assert (window > 0).all()


def test_a_window_of_another_size_is_refused():
    tile = plan_tiles(32, 56, tile_height=32, tile_width=32, halo=4)[0]

    with pytest.raises(ShapeError, match="and a window"):
        add_tile(np.zeros((1, 32, 56)), np.zeros((32, 56)), tile, np.zeros((1, 32, 32)), np.zeros((31, 32)))
