"""Colour kernels emulated on a CPU against those of the CPU: every layout, odd sizes, float16, NV12 and P010."""

from itertools import product

import numpy as np
import pytest

from kernels import colour as on_cpu
from kernels.colour import YuvLayout
from kernels.cuda.colour import rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.errors import DeviceError, DtypeError, LayoutError, ShapeError

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
SITINGS = [(0.5, 0.0), (0.5, 0.5), (0.0, 0.0)]
SIZES = [(1, 1), (2, 3), (33, 47), (34, 48)]
LAYOUTS = [
    YuvLayout(*weights, full_range, bits, chroma, siting)
    for weights, full_range, bits in product(WEIGHTS.values(), [False, True], [8, 10])
    for chroma, siting in [*product(["420"], SITINGS), ("422", (0.5, 0.0)), ("422", (0.0, 0.0)), ("444", (0.5, 0.0))]
]


def random_planes(layout, height, width, seed=1):
    rng = np.random.default_rng(seed)
    kind = np.uint8 if layout.bit_depth == 8 else np.uint16
    sizes = [(height, width), *2 * [layout.chroma_shape(height, width)]]
    return tuple(rng.integers(0, 1 << layout.bit_depth, size).astype(kind) for size in sizes)


def upload(cupy, arrays):
    return tuple(cupy.asarray(array) for array in arrays)


def assert_codes_agree(planes, expected, layout):
    """Codes are equal unless the value lies on the boundary between two."""
    for plane, want in zip(planes, expected, strict=True):
        change = plane.get().astype(int) - want
        assert np.abs(change).max(initial=0) <= 1
        assert np.mean(change != 0) < 0.005, layout


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rgb_is_that_of_the_cpu_in_every_layout(fake_cupy, size):
    for layout in LAYOUTS:
        planes = random_planes(layout, *size)

        rgb = yuv_to_rgb(upload(fake_cupy, planes), layout)

        np.testing.assert_allclose(rgb.get(), on_cpu.yuv_to_rgb(planes, layout), rtol=0, atol=4e-7)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_codes_are_those_of_the_cpu_in_every_layout(fake_cupy, size):
    rgb = np.random.default_rng(2).uniform(-0.1, 1.1, (3, *size)).astype(np.float32)
    for layout in LAYOUTS:
        planes = rgb_to_yuv(fake_cupy.asarray(rgb), layout)

        assert_codes_agree(planes, on_cpu.rgb_to_yuv(rgb, layout), layout)


def test_float16_is_the_rounded_float32(fake_cupy):
    layout = LAYOUTS[0]
    planes = upload(fake_cupy, random_planes(layout, 33, 47))
    half = fake_cupy.empty((3, 33, 47), np.float16)

    yuv_to_rgb(planes, layout, half)

    np.testing.assert_array_equal(half.get(), yuv_to_rgb(planes, layout).get().astype(np.float16))
    for plane, want in zip(rgb_to_yuv(half, layout), rgb_to_yuv(half.astype(np.float32), layout), strict=True):
        np.testing.assert_array_equal(plane.get(), want.get())
    np.testing.assert_array_equal(rgb_to_luma(half).get(), rgb_to_luma(half.astype(np.float32)).get())


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("size", [(33, 47), (32, 48)], ids=str)
def test_nv12_and_p010_go_in_and_out_in_place(fake_cupy, bits, size):
    layout = YuvLayout(0.2126, 0.0722, False, bits, "420")
    y, u, v = random_planes(layout, *size)
    shift = 6 if bits == 10 else 0
    rows, columns = u.shape
    # A decoder surface: rows are longer than the frame is wide, and chroma lies below luma.
    surface = np.full((size[0] + rows, 128), 77, y.dtype)
    surface[: size[0], : size[1]] = y << shift
    surface[size[0] :, 0 : 2 * columns : 2] = u << shift
    surface[size[0] :, 1 : 2 * columns : 2] = v << shift
    device = fake_cupy.asarray(surface)
    semi_planar = lambda array: (  # noqa: E731
        array[: size[0], : size[1]], array[size[0] :, 0 : 2 * columns : 2], array[size[0] :, 1 : 2 * columns : 2],
    )  # fmt: skip

    rgb = yuv_to_rgb(semi_planar(device), layout, in_high_bits=True)

    np.testing.assert_array_equal(rgb.get(), yuv_to_rgb(upload(fake_cupy, (y, u, v)), layout).get())
    other = fake_cupy.full(surface.shape, 77, surface.dtype)
    rgb_to_yuv(rgb, layout, semi_planar(other), in_high_bits=True)
    for plane, want in zip(semi_planar(other.get()), rgb_to_yuv(rgb, layout), strict=True):
        np.testing.assert_array_equal(plane, want.get() << shift)
    assert (other.get()[:, 2 * columns :] == 77).all()


def test_the_edge_is_repeated_over_a_larger_canvas(fake_cupy):
    layout = YuvLayout(0.299, 0.114, False, 8, "420")
    planes = upload(fake_cupy, random_planes(layout, 9, 11))
    canvas, untouched = (fake_cupy.full((3, 16, 20), 7, np.float32) for _ in range(2))

    yuv_to_rgb(planes, layout, canvas, repeat_edge=True)
    rgb = yuv_to_rgb(planes, layout, untouched)

    assert rgb.shape == (3, 9, 11)
    np.testing.assert_array_equal(canvas.get(), np.pad(rgb.get(), ((0, 0), (0, 7), (0, 9)), mode="edge"))
    assert (untouched.get()[:, 9:] == 7).all()
    assert (untouched.get()[:, :, 11:] == 7).all()


@pytest.mark.parametrize(("size", "grid"), [((1, 1), 1), ((33, 47), 1), ((34, 48), 2), ((36, 48), 4)])
def test_luma_is_that_of_the_cpu(fake_cupy, size, grid):
    rgb = np.random.default_rng(3).random((3, *size), np.float32)

    luma = rgb_to_luma(fake_cupy.asarray(rgb), grid)

    np.testing.assert_allclose(luma.get(), on_cpu.rgb_to_luma(rgb, grid), rtol=0, atol=2e-7)


def test_a_view_of_a_canvas_is_read_where_it_lies(fake_cupy):
    layout = YuvLayout(0.2126, 0.0722, False, 8, "420")
    canvas = fake_cupy.asarray(np.random.default_rng(4).random((3, 20, 30), np.float32))
    view = canvas[:, 2:17, 5:28]

    for plane, want in zip(rgb_to_yuv(view, layout), rgb_to_yuv(view.copy(), layout), strict=True):
        np.testing.assert_array_equal(plane.get(), want.get())


def test_values_that_are_not_finite_become_codes_within_range(fake_cupy):
    layout = YuvLayout(0.2126, 0.0722, False, 10, "444")
    rgb = np.full((3, 2, 2), 0.5, np.float32)
    rgb[:, 0, 0], rgb[:, 1, 1] = np.nan, np.inf

    for plane in rgb_to_yuv(fake_cupy.asarray(rgb), layout):
        assert plane.get().max() <= 1023


def test_an_empty_frame_is_no_launch(fake_cupy):
    layout = YuvLayout(0.2126, 0.0722, False, 8, "420")
    y, c = fake_cupy.empty((0, 4), np.uint8), fake_cupy.empty((0, 2), np.uint8)

    assert yuv_to_rgb((y, c, c), layout).shape == (3, 0, 4)
    assert rgb_to_yuv(fake_cupy.empty((3, 0, 4)), layout)[1].shape == (0, 2)
    assert fake_cupy.count("launch") == 0


def test_arrays_that_do_not_fit_are_refused_before_a_launch(fake_cupy):
    layout = YuvLayout(0.299, 0.114, False, 8, "420")
    y, c = fake_cupy.zeros((5, 5), np.uint8), fake_cupy.zeros((2, 2), np.uint8)
    right = fake_cupy.zeros((3, 3), np.uint8)
    rgb = fake_cupy.zeros((3, 5, 4))

    with pytest.raises(ShapeError, match=r"got chroma \(2, 2\), expected \(3, 3\)"):
        yuv_to_rgb((y, c, c), layout)
    with pytest.raises(DtypeError, match="expected uint8 or uint16"):
        yuv_to_rgb((y.astype(np.float32), c, c), layout)
    with pytest.raises(DtypeError, match="got chroma of uint16, expected uint8"):
        yuv_to_rgb((y, right, right.astype(np.uint16)), layout)
    with pytest.raises(LayoutError, match="chroma strides"):
        yuv_to_rgb((y, right, fake_cupy.zeros((3, 6), np.uint8)[:, ::2]), layout)
    with pytest.raises(ShapeError, match="got out"):
        yuv_to_rgb((y, right, right), layout, fake_cupy.zeros((3, 4, 5)))
    with pytest.raises(LayoutError, match="adjacent elements; copy it once"):
        yuv_to_rgb((y, right, right), layout, fake_cupy.zeros((3, 5, 10))[:, :, ::2])
    with pytest.raises(DeviceError, match=r"got a numpy.ndarray beside arrays on a GPU, .*upload it first"):
        yuv_to_rgb((y, right, np.zeros((3, 3), np.uint8)), layout)
    with pytest.raises(DtypeError, match="expected float32 or float16"):
        rgb_to_yuv(rgb.astype(np.float64), layout)
    with pytest.raises(ShapeError, match=r"got rgb \(4, 5, 4\), expected \(3, any, any\)"):
        rgb_to_yuv(fake_cupy.zeros((4, 5, 4)), layout)
    with pytest.raises(DtypeError, match="got planes of uint16 for 8 bits, expected uint8"):
        rgb_to_yuv(rgb[:, :, :4], layout, tuple(fake_cupy.zeros(size, np.uint16) for size in [(5, 4), (3, 2), (3, 2)]))
    with pytest.raises(ShapeError, match="multiples of 2"):
        rgb_to_luma(rgb, 2)
    assert fake_cupy.count("launch") == 0
