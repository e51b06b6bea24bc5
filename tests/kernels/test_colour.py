"""Colour conversion in both directions against the standards' formulas, in every layout."""

from itertools import product

import numpy as np
import pytest

from kernels.colour import YuvLayout, rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.errors import DtypeError, ShapeError
from kernels.workers import Workers

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
SITINGS = [(0.5, 0.0), (0.5, 0.5), (0.0, 0.0)]


def smooth_rgb(height, width):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [0.5 + 0.3 * np.sin(x / 30), 0.5 + 0.3 * np.sin(y / 25), 0.5 + 0.3 * np.cos((x + y) / 40)]
    return np.stack(waves).astype(np.float32)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_flat_colours_have_the_sample_values_of_the_standard(matrix, full_range, bits):
    kr, kb = WEIGHTS[matrix]
    layout = YuvLayout(kr, kb, full_range, bits, "444")
    colours = np.array(list(product([0.0, 0.3, 1.0], repeat=3)), np.float32)
    luma = kr * colours[:, 0] + (1 - kr - kb) * colours[:, 1] + kb * colours[:, 2]
    blue = (colours[:, 2] - luma) / (2 * (1 - kb))
    red = (colours[:, 0] - luma) / (2 * (1 - kr))
    unit, top = 2 ** (bits - 8), 2**bits - 1
    if full_range:
        expected = [luma * top, blue * top + 128 * unit, red * top + 128 * unit]
    else:
        expected = [(luma * 219 + 16) * unit, (blue * 224 + 128) * unit, (red * 224 + 128) * unit]

    planes = rgb_to_yuv(np.ascontiguousarray(colours.T[:, None]), layout)

    for plane, values in zip(planes, expected, strict=True):
        assert plane.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert np.abs(plane[0] - np.clip(values, 0, top)).max() <= 0.51


@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 47), (64, 80)])
@pytest.mark.parametrize("bits", [8, 10])
def test_there_and_back_changes_little_more_than_the_rounding(chroma, siting, height, width, bits):
    layout = YuvLayout(0.2126, 0.0722, False, bits, chroma, siting)
    rgb = smooth_rgb(height, width)

    back = yuv_to_rgb(rgb_to_yuv(rgb, layout), layout)

    error = np.abs(back - rgb)
    assert error.max() < 6 / 255  # at the border chroma is repeated, not extrapolated
    if height > 4:
        assert error[:, 2:-2, 2:-2].max() < (4 if bits == 8 else 1.5) / 255


@pytest.mark.parametrize("siting", SITINGS)
def test_chroma_does_not_wander_when_it_goes_there_and_back_again(siting):
    layout = YuvLayout(0.2126, 0.0722, False, 10, "420", siting)
    rgb = np.full((3, 64, 64), 0.5, np.float32)
    rgb[0, 24:40, 24:40] = 0.9
    planes = rgb_to_yuv(rgb, layout)

    for _ in range(8):
        planes = rgb_to_yuv(yuv_to_rgb(planes, layout), layout)

    weight = np.abs(yuv_to_rgb(planes, layout)[0] - 0.5)
    y, x = np.mgrid[:64, :64]
    assert (weight * y).sum() / weight.sum() == pytest.approx(31.5, abs=0.05)
    assert (weight * x).sum() / weight.sum() == pytest.approx(31.5, abs=0.05)


def test_footroom_and_headroom_survive():
    layout = YuvLayout(0.2126, 0.0722, False, 8, "444")
    grey = np.full((2, 3), 128, np.uint8)
    luma = np.array([[1, 5, 16], [235, 245, 254]], np.uint8)

    rgb = yuv_to_rgb((luma, grey, grey), layout)

    assert rgb.min() < 0
    assert rgb.max() > 1
    np.testing.assert_array_equal(rgb_to_yuv(rgb, layout)[0], luma)


def test_values_beyond_the_bit_depth_are_clamped_not_wrapped():
    layout = YuvLayout(0.2126, 0.0722, True, 8, "444")
    rgb = np.stack([np.full((2, 2), v, np.float32) for v in (3.0, 3.0, 3.0)])

    assert (rgb_to_yuv(rgb, layout)[0] == 255).all()
    assert (rgb_to_yuv(-rgb, layout)[0] == 0).all()


def test_a_larger_out_is_filled_at_its_top_left():
    layout = YuvLayout(0.299, 0.114, False, 8, "420")
    planes = rgb_to_yuv(smooth_rgb(10, 12), layout)
    out = np.full((3, 16, 16), 7, np.float32)

    rgb = yuv_to_rgb(planes, layout, out)

    assert rgb.shape == (3, 10, 12)
    np.testing.assert_array_equal(out[:, :10, :12], rgb)
    assert (out[:, 10:] == 7).all()


def test_luma_of_a_grid_is_the_mean_of_its_squares():
    rgb = np.random.default_rng(9).random((3, 8, 12), np.float32)
    plain = np.tensordot([0.299, 0.587, 0.114], rgb, 1)

    np.testing.assert_allclose(rgb_to_luma(rgb), plain, atol=1e-6)
    np.testing.assert_allclose(rgb_to_luma(rgb, 2), plain.reshape(4, 2, 6, 2).mean((1, 3)), atol=1e-6)


def test_planes_that_do_not_fit_are_refused():
    layout = YuvLayout(0.299, 0.114, False, 8, "420")
    y, c = np.zeros((5, 5), np.uint8), np.zeros((2, 2), np.uint8)

    with pytest.raises(ShapeError, match=r"expected \(3, 3\)"):
        yuv_to_rgb((y, c, c), layout)
    with pytest.raises(DtypeError, match="uint8 or of uint16"):
        yuv_to_rgb((y.astype(np.float32), np.zeros((3, 3)), np.zeros((3, 3))), layout)
    with pytest.raises(ShapeError, match="multiples of 2"):
        rgb_to_luma(np.zeros((3, 5, 4), np.float32), 2)


@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("siting", [(0.5, 0.0), (0.5, 0.5), (0.0, 0.0), (0.3, 0.7)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (3, 3), (131, 67)])
def test_the_number_of_threads_changes_no_bit(chroma, siting, height, width):
    layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma=chroma, siting=siting)
    rng = np.random.default_rng(1)
    shapes = [(height, width), *[layout.chroma_shape(height, width)] * 2]
    planes = tuple(rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes)

    with Workers(2) as workers:
        rgb = yuv_to_rgb(planes, layout, workers=workers)
        back = rgb_to_yuv(rgb, layout, workers=workers)

    np.testing.assert_array_equal(rgb, yuv_to_rgb(planes, layout))
    for one, other in zip(back, rgb_to_yuv(rgb, layout), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("offset", [0.0, 0.5, 0.3, 0.9])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 9, 20])
def test_chroma_is_upsampled_as_the_plain_formula_does(offset, width):
    layout = YuvLayout(0.299, 0.114, full_range=True, bit_depth=8, chroma="422", siting=(0.0, offset))
    chroma = np.random.default_rng(2).integers(0, 256, (1, -(-width // 2))).astype(np.uint8)
    grey = np.full((1, width), 128, np.uint8), chroma, np.full_like(chroma, 128)

    blue = yuv_to_rgb(grey, layout)[2, 0]

    places = np.clip((np.arange(width) - offset) / 2, 0, chroma.size - 1)
    expected = 128 / 255 + 2 * (1 - 0.114) * (np.interp(places, np.arange(chroma.size), chroma[0]) - 128) / 255
    np.testing.assert_allclose(blue, expected, atol=1e-6)


def test_planes_that_are_strided_views_are_read_and_filled_right():
    layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma="420")
    rng = np.random.default_rng(3)
    wide = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((18, 44), (10, 22), (10, 22))]
    views = tuple(plane[::2, ::2] for plane in wide)
    filled = tuple(np.zeros_like(plane)[::2, ::2] for plane in wide)

    rgb = yuv_to_rgb(views, layout)
    rgb_to_yuv(rgb, layout, filled)

    np.testing.assert_array_equal(rgb, yuv_to_rgb(tuple(map(np.ascontiguousarray, views)), layout))
    for one, other in zip(filled, rgb_to_yuv(rgb, layout), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_nothing_becomes_nothing(shape):
    layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma="420")

    planes = rgb_to_yuv(np.zeros((3, *shape), np.float32), layout)

    assert planes[0].shape == shape
    assert yuv_to_rgb(planes, layout).shape == (3, *shape)


def test_planes_to_fill_that_do_not_fit_are_refused():
    layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma="420")
    rgb = np.zeros((3, 4, 6), np.float32)
    y, u, v = rgb_to_yuv(rgb, layout)

    with pytest.raises(ShapeError, match=r"got a plane \(4, 6\) to fill, expected \(2, 3\)"):
        rgb_to_yuv(rgb, layout, (y, u, y))
    with pytest.raises(DtypeError, match="got a plane of uint16 to fill, expected uint8"):
        rgb_to_yuv(rgb, layout, (y, u, v.astype(np.uint16)))
    with pytest.raises(DtypeError, match="got out of float64"):
        yuv_to_rgb((y, u, v), layout, np.zeros((3, 4, 6)))
    with pytest.raises(DtypeError, match="expected float32"):
        rgb_to_luma(np.zeros((3, 4, 6)))
