"""The canvas covers every size with one of the model's tile shapes."""

import numpy as np
import pytest

from runtime.errors import ManifestError
from runtime.manifest import VideoSpec, find_model
from runtime.video.tile_plan import most_tile_pixels, plan_canvas


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


def test_a_tile_smaller_than_its_halo_must_be_as_large_as_the_frame():
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


SHIPPED = ["light-x2", "light-x4", "light-restore"]
USUAL = [
    (240, 320), (288, 352), (480, 720), (576, 720), (480, 854), (720, 1280), (1080, 1440), (1080, 1920), (2160, 3840),
]  # fmt: skip


def computed_share(canvas, grid):
    """Return the computed pixels for each pixel of the source's plane."""
    plane = -(-canvas.source_height // grid) * -(-canvas.source_width // grid)
    return len(canvas.tiles) * canvas.tile_shape[0] * canvas.tile_shape[1] / plane


@pytest.mark.parametrize("any_shape", [False, True])
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(("height", "width"), USUAL)
def test_the_shipped_models_compute_little_twice_for_usual_sources(name, height, width, any_shape):
    spec = find_model(name).manifest.video

    for source in ((height, width), (width, height)):
        canvas = plan_canvas(*source, spec, any_shape=any_shape)
        assert computed_share(canvas, spec.grid) <= 1.15
        assert canvas.tile_shape[0] * canvas.tile_shape[1] <= 250_000


@pytest.mark.parametrize(("height", "width"), [(333, 777), (1000, 700), (1440, 2560), (64, 4000), (129, 131)])
def test_tiles_that_are_cut_to_measure_fit_unusual_sources_too(height, width):
    for name in SHIPPED:
        found = find_model(name).manifest.video
        canvas = plan_canvas(height, width, found, any_shape=True)

        assert computed_share(canvas, found.grid) <= 1.15


@pytest.mark.parametrize(("halo", "multiple"), [(0, 1), (8, 8), (24, 8)])
def test_tiles_that_are_cut_to_measure_cover_a_plane_once(halo, multiple):
    for height, width in ((700, 900), (64, 3000), (40, 40), (1500, 1501)):
        wanted = spec(halo=halo, tile_multiple=multiple, tile_shapes=((32, 32),))
        canvas = plan_canvas(height, width, wanted, any_shape=True)

        kept = np.zeros((canvas.height, canvas.width), int)
        for tile in canvas.tiles:
            kept[tile.keep_top : tile.keep_bottom, tile.keep_left : tile.keep_right] += 1
            assert (tile.top % multiple, tile.left % multiple) == (0, 0)
        assert (kept == 1).all()
        assert all(side % multiple == 0 for side in (*canvas.tile_shape, canvas.height, canvas.width))


def test_a_source_smaller_than_every_shape_is_padded_as_before():
    assert plan_canvas(20, 500, spec(), any_shape=True).tile_shape == plan_canvas(20, 500, spec()).tile_shape


@pytest.mark.parametrize(("gigabytes", "pixels"), [(1, 250_000), (4, 285_714), (8, 571_428), (64, 600_000)])
def test_tiles_grow_with_the_spare_memory_up_to_a_whole_frame_of_full_hd(gigabytes, pixels):
    assert most_tile_pixels(gigabytes * 10**9) == pixels


def test_with_eight_gigabytes_to_spare_full_hd_is_computed_as_a_whole():
    most = most_tile_pixels(8 * 10**9)

    for name in ("light-restore", "light-x2"):
        canvas = plan_canvas(1080, 1920, find_model(name).manifest.video, any_shape=True, most_pixels=most)
        assert canvas.tile_shape == (540, 960)
