"""Measures emulated on a CPU against those of the CPU: validity, scene cuts, and change of tiles."""

import numpy as np
import pytest

from kernels.cuda.measures import ChangeMeter, SceneDetector, check_values
from kernels.cuda.module import BAD_STATE
from kernels.errors import DtypeError, LayoutError, ShapeError
from kernels.measures import largest_block_change
from kernels.tiles import plan_tiles, read_tile
from runtime.video import motion

SIZES = [(1, 1), (3, 9), (33, 47), (90, 120)]


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize(("value", "is_bad"), [(np.nan, True), (np.inf, True), (-np.inf, True), (6e4, False)])
def test_one_value_that_is_not_finite_sets_the_bit(fake_cupy, kind, value, is_bad):
    values, flag = np.zeros((3, 5, 7), kind), fake_cupy.full(1, 8, np.uint32)
    values[2, 4, 6] = value

    check_values(fake_cupy.asarray(values), flag, bit=BAD_STATE)

    assert int(flag[0]) == 8 + (BAD_STATE if is_bad else 0)


def pairs(height, width):
    """Frames, previous frames and a flow: noise, a change of scene, of light, and of contrast alone."""
    rng = np.random.default_rng(5)
    plane, other = (
        np.kron(rng.random((-(-height // 8), -(-width // 8))), np.ones((8, 8)))[:height, :width] for _ in "ab"
    )
    noise = rng.normal(0, 0.02, (height, width))
    for frame, previous in ((plane + noise, plane), (plane, other), (plane, plane + 0.2), (plane * 0.1, other * 0.1)):
        yield frame.astype(np.float32), previous.astype(np.float32), rng.normal(0, 1, (2, height, width)).astype("f4")


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("is_moved", [False, True])
def test_scene_cuts_are_those_of_the_cpu(fake_cupy, size, is_moved):
    detector = SceneDetector(*size, least_change=motion.LEAST_CHANGE, least_unexplained=motion.LEAST_UNEXPLAINED)
    cut = fake_cupy.full(1, 9, np.uint32)
    found = []

    for frame, previous, flow in pairs(*size):
        arrays = [fake_cupy.asarray(one) for one in (frame, previous)]
        detector.measure(*arrays, cut, flow=fake_cupy.asarray(flow) if is_moved else None)

        expected = motion.is_scene_cut(frame, previous, flow if is_moved else np.zeros_like(flow))
        assert int(cut[0]) == expected
        found.append(expected)
    if min(size) > 20:
        assert set(found) == {False, True}


def test_the_measures_of_a_cut_are_means_over_blocks(fake_cupy):
    frame, previous, _ = next(pairs(90, 120))
    detector = SceneDetector(90, 120, least_change=0.04, least_unexplained=0.5)

    detector.measure(fake_cupy.asarray(frame), fake_cupy.asarray(previous), fake_cupy.zeros(1, np.uint32))

    blocks, change = (
        plane[:88].astype(float).reshape(22, 4, 30, 4).mean((1, 3)) for plane in (frame, frame - previous)
    )
    expected = [np.abs(change).mean(), np.abs(blocks - blocks.mean()).mean()]
    np.testing.assert_allclose(detector.measures.get(), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (70, 91)], ids=str)
def test_the_change_of_each_tile_is_that_of_the_cpu(fake_cupy, size, kind):
    height, width = size
    tiles = plan_tiles(height, width, tile_height=min(height, 25), tile_width=min(width, 33), halo=4)
    frame, before = np.random.default_rng(6).random((2, 3, height * 2, width * 2)).astype(kind)
    meter = ChangeMeter(tiles, grid=2, dtype=kind)
    meter.measure(fake_cupy.asarray(before))
    assert (meter.changes.get() > 1e30).all()  # nothing was kept so far
    for number in range(len(tiles)):
        meter.keep(number, fake_cupy.asarray(before))

    fake_cupy.log.clear()
    meter.measure(fake_cupy.asarray(frame))

    assert fake_cupy.count("launch") == 1
    for tile, change in zip(tiles, meter.changes.get(), strict=True):
        one, other = (read_tile(array.astype(np.float32), tile, scale=2) for array in (frame, before))
        assert change == pytest.approx(largest_block_change(one, other), rel=1e-5)


def test_a_tile_that_did_not_change_has_changed_by_nothing_and_nan_is_the_largest_change(fake_cupy):
    tiles = plan_tiles(40, 60, tile_height=20, tile_width=20, halo=2)
    frame = np.random.default_rng(7).random((3, 40, 60), np.float32)
    other = frame.copy()
    other[1, 2, 3] = np.nan
    meter = ChangeMeter(tiles)
    for number in range(len(tiles)):
        meter.keep(number, fake_cupy.asarray(frame))

    meter.measure(fake_cupy.asarray(frame))
    assert not meter.changes.get().any()
    meter.measure(fake_cupy.asarray(other))

    assert meter.changes.get()[0] > 1e30
    assert not meter.changes.get()[1:].any()


def test_arrays_that_do_not_fit_are_refused_before_a_launch(fake_cupy):
    values, flag, cut = fake_cupy.zeros((4, 6)), fake_cupy.zeros(2, np.uint32), fake_cupy.zeros(1, np.uint32)
    detector = SceneDetector(8, 8, least_change=0.04, least_unexplained=0.5)

    with pytest.raises(ShapeError, match=r"got a flag \(2,\), expected \(1\)"):
        check_values(values, flag, bit=1)
    with pytest.raises(LayoutError):
        check_values(values[:, ::2], cut, bit=1)
    with pytest.raises(DtypeError, match="expected float32 or float16"):
        check_values(values.astype(np.int32), cut, bit=1)
    with pytest.raises(ShapeError, match=r"got luma \(4, 6\), expected \(8, 8\)"):
        detector.measure(values, values, cut)
    with pytest.raises(ShapeError, match=r"got frame \(3, 8, 7\), expected at least 8x8 for the tiles"):
        ChangeMeter(plan_tiles(8, 8, tile_height=8, tile_width=8, halo=0)).measure(fake_cupy.zeros((3, 8, 7)))
    assert fake_cupy.count("launch") == 0
