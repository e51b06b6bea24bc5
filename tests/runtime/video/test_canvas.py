"""The canvas covers every size with one of the model's tile shapes."""

import pytest

from runtime.errors import ManifestError
from runtime.manifest import VideoSpec, find_model
from runtime.video.canvas import plan_canvas


def spec(**changes):
    values = {
        "scale": 2,
        "grid": 1,
        "look_behind": 1,
        "look_ahead": 0,
        "halo": 6,
        "tile_multiple": 1,
        "tile_shapes": ((32, 32), (64, 64), (180, 320)),
        "aligned_by": "flow",
        "gflop_per_320x180_frame": 1.0,
    }
    return VideoSpec(**(values | changes))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 65), (64, 64), (100, 1000), (181, 321), (1080, 1920)])
def test_a_source_that_a_tile_fits_on_is_never_padded(height, width):
    canvas = plan_canvas(height, width, spec())

    assert not canvas.padded
    assert (canvas.height, canvas.width) == (height, width)


def test_a_source_smaller_than_every_tile_is_padded_to_the_cheapest():
    canvas = plan_canvas(16, 20, spec())

    assert canvas.padded
    assert canvas.tile_shape == (32, 32)
    assert len(canvas.tiles) == 1


@pytest.mark.parametrize(("overlap", "tiles"), [(0, (0, 64, 66)), (10, (0, 54, 66)), (9, (0, 54, 66))])
def test_tiles_that_are_blended_share_the_overlap(overlap, tiles):
    canvas = plan_canvas(64, 130, spec(halo=0, overlap=overlap, tile_shapes=((64, 64),)))

    assert tuple(tile.left for tile in canvas.tiles) == tiles
    assert canvas.halo == -(-overlap // 2)


@pytest.mark.parametrize(("height", "width"), [(65, 130), (50, 64), (100, 99)])
def test_tiles_lie_on_multiples_of_what_the_network_halves(height, width):
    canvas = plan_canvas(height, width, spec(halo=8, tile_multiple=8, tile_shapes=((64, 64),)))

    assert (canvas.height % 8, canvas.width % 8) == (0, 0)
    assert canvas.height - 8 < max(height, 64) <= canvas.height
    assert all(tile.top % 8 == 0 and tile.left % 8 == 0 for tile in canvas.tiles)


def test_a_tile_smaller_than_its_halo_must_be_as_large_as_the_picture():
    small = spec(halo=40, tile_shapes=((64, 64),))

    assert len(plan_canvas(64, 60, small).tiles) == 1
    with pytest.raises(ManifestError, match="keep nothing inside a halo of 40 on a plane of 70x64; import the model"):
        plan_canvas(64, 70, small)


def test_an_odd_source_on_a_grid_of_two_rounds_up():
    canvas = plan_canvas(101, 203, spec(grid=2))

    assert (canvas.height, canvas.width) == (51, 102)
    assert canvas.padded


def test_the_shape_that_computes_fewest_pixels_is_taken():
    assert plan_canvas(180, 320, spec()).tile_shape == (180, 320)
    assert plan_canvas(64, 320, spec()).tile_shape == (64, 64)


@pytest.mark.parametrize("name", ["light-x2", "light-x4", "light-restore"])
@pytest.mark.parametrize(("height", "width"), [(180, 320), (360, 640), (480, 640), (720, 1280), (1080, 1920)])
def test_the_shipped_tile_shapes_waste_less_than_half(name, height, width):
    canvas = plan_canvas(height, width, find_model(name).manifest.video)

    computed = len(canvas.tiles) * canvas.tile_shape[0] * canvas.tile_shape[1]
    assert computed < 1.5 * canvas.height * canvas.width
