"""The warp is bilinear sampling, clamped to the canvas, wherever the tile lies."""

import numpy as np
import pytest

from kernels.errors import DtypeError, LayoutError, NotFiniteError, ShapeError
from kernels.warp import warp
from kernels.workers import Workers


def plain_warp(state, flow, top=0, left=0):
    channels, height, width = state.shape
    out = np.empty((channels, *flow.shape[1:]))
    for y in range(flow.shape[1]):
        for x in range(flow.shape[2]):
            sy = min(max(top + y + flow[1, y, x], 0), height - 1)
            sx = min(max(left + x + flow[0, y, x], 0), width - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            fy, fx = sy - y0, sx - x0
            upper = state[:, y0, x0] * (1 - fx) + state[:, y0, x1] * fx
            lower = state[:, y1, x0] * (1 - fx) + state[:, y1, x1] * fx
            out[:, y, x] = upper * (1 - fy) + lower * fy
    return out


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (16, 33)])
def test_the_warp_equals_the_plain_formula(height, width):
    rng = np.random.default_rng(3)
    state = rng.standard_normal((4, height, width)).astype(np.float32)
    flow = rng.normal(0, 4, (2, height, width)).astype(np.float32)

    np.testing.assert_allclose(warp(state, flow), plain_warp(state, flow), atol=1e-5)


def test_a_tile_reads_the_same_as_the_whole():
    rng = np.random.default_rng(4)
    state = rng.standard_normal((3, 40, 50)).astype(np.float32)
    flow = rng.normal(0, 9, (2, 40, 50)).astype(np.float32)

    tile = warp(state, flow[:, 8:24, 11:37], top=8, left=11)

    np.testing.assert_array_equal(tile, warp(state, flow)[:, 8:24, 11:37])


def test_no_motion_changes_nothing():
    state = np.random.default_rng(5).random((2, 9, 11), np.float32)

    np.testing.assert_array_equal(warp(state, np.zeros((2, 9, 11), np.float32)), state)


def test_the_result_goes_into_out():
    state, flow = np.ones((2, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32)
    out = np.zeros((2, 4, 4), np.float32)

    assert warp(state, flow, out=out) is out
    assert out.all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"expected \(channels, height, width\)"):
        warp(np.zeros((4, 4), np.float32), np.zeros((2, 4, 4), np.float32))
    with pytest.raises(ShapeError, match="got out"):
        warp(np.zeros((1, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32), out=np.zeros((1, 3, 4), np.float32))


def test_another_dtype_is_refused():
    with pytest.raises(DtypeError, match="expected float32"):
        warp(np.zeros((1, 4, 4)), np.zeros((2, 4, 4), np.float32))


def test_a_state_that_is_not_contiguous_is_refused():
    whole, flow, out = np.ones((3, 40, 90), np.float32), np.zeros((2, 40, 45), np.float32), np.zeros((3, 40, 45), "f4")

    for state in (whole[:, :, ::2], np.asfortranarray(whole[:, :, ::2]), whole[:, :, :45]):
        with pytest.raises(LayoutError, match="expected a C-contiguous array; copy it once"):
            warp(state, flow, out=out)
    assert not out.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_flow_that_is_not_finite_is_refused(value):
    flow, out = np.zeros((2, 5, 7), np.float32), np.zeros((2, 5, 7), np.float32)
    flow[:, 2, 3] = value

    with pytest.raises(NotFiniteError, match="got a flow with NaN or infinity"):
        warp(np.ones((2, 5, 7), np.float32), flow, out=out)
    assert not out.any()


def flows(height, width):
    """Motion of a fraction of a pixel, in long and short runs, across the borders, and random."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rng = np.random.default_rng(6)
    yield np.stack([0 * x + 0.4, 0 * y - 0.7])
    yield np.stack([0.13 * x - 3, 0.02 * y + 1])
    yield np.stack([np.round(x / 9) % 3, np.round(y / 5) % 2])
    yield np.stack([0 * x - 2 * width, 0 * y + 2 * height])
    yield rng.normal(0, 20, (2, height, width)).astype(np.float32)
    yield np.where(rng.random((2, height, width)) < 0.05, np.float32(1e30), np.float32(0.25)).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(1, 9), (9, 1), (17, 61), (64, 40)])
def test_runs_are_sampled_as_single_pixels_are(height, width):
    state = np.random.default_rng(7).standard_normal((3, height, width)).astype(np.float32)

    for flow in flows(height, width):
        np.testing.assert_allclose(warp(state, flow), plain_warp(state, flow), atol=2e-5)


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(threads):
    state = np.random.default_rng(8).standard_normal((5, 70, 90)).astype(np.float32)

    with Workers(threads) as workers:
        for flow in flows(70, 90):
            np.testing.assert_array_equal(warp(state, flow, workers=workers), warp(state, flow))


def test_an_empty_flow_returns_an_empty_result():
    assert warp(np.ones((2, 5, 7), np.float32), np.zeros((2, 0, 7), np.float32)).shape == (2, 0, 7)


def test_an_empty_state_is_refused():
    with pytest.raises(ShapeError, match="expected at least one pixel"):
        warp(np.ones((2, 0, 7), np.float32), np.zeros((2, 3, 7), np.float32))


def test_a_flow_that_is_a_strided_view_is_read_right():
    state = np.random.default_rng(9).standard_normal((2, 20, 30)).astype(np.float32)
    wide = np.random.default_rng(9).normal(0, 3, (2, 40, 60)).astype(np.float32)

    np.testing.assert_array_equal(warp(state, wide[:, ::2, ::2]), warp(state, wide[:, ::2, ::2].copy()))
