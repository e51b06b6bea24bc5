from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame

from runtime.errors import UnsupportedMediaError
from runtime.media.colour import Colour
from runtime.media.pixel_formats import (
    YuvFrame,
    convert_frame,
    fit_frame,
    is_opaque,
    pad_frame,
    plan_pixels,
    read_planes,
    write_planes,
)

LIMITED = Colour("bt709", False)


def planes_of(pixel_format: str, array: Any, colour: Colour = LIMITED) -> tuple[Any, ...]:
    plan = plan_pixels(pixel_format, colour)
    return read_planes(convert_frame(VideoFrame.from_ndarray(array, format=pixel_format), plan))


@pytest.mark.parametrize(
    ("pixel_format", "depth", "chroma"),
    [
        ("yuv420p", 8, "420"),
        ("yuvj422p", 8, "422"),
        ("yuv444p10le", 10, "444"),
        ("yuv420p12le", 10, "420"),
        ("p010le", 10, "420"),
        ("nv12", 8, "420"),
        ("uyvy422", 8, "422"),
        ("yuv411p", 8, "422"),
        ("gray", 8, "420"),
        ("gray12le", 10, "420"),
        ("rgb24", 8, "444"),
        ("gbrp10le", 10, "444"),
        ("pal8", 8, "444"),
    ],
)
def test_every_format_becomes_planes_that_keep_its_depth_and_chroma(pixel_format: str, depth: int, chroma: str) -> None:
    plan = plan_pixels(pixel_format, LIMITED)

    assert (plan.bit_depth, plan.chroma) == (depth, chroma)


def test_gray_with_alpha_is_refused() -> None:
    with pytest.raises(UnsupportedMediaError, match="pixels are ya8"):
        plan_pixels("ya8", LIMITED)


def fill_alpha(pixel_format: str, alpha: int) -> VideoFrame:
    """Return a frame of random pixels with one value of 16-bit alpha."""
    pixels = np.random.default_rng(0).integers(0, 65536, (12, 10, 4), dtype=np.uint16)
    pixels[..., 3] = alpha
    frame = VideoFrame.from_ndarray(pixels, format="rgba64le")
    return frame if pixel_format == "rgba64le" else frame.reformat(format=pixel_format)


@pytest.mark.parametrize(
    "pixel_format", ["yuva420p", "yuva444p10le", "yuva422p12le", "rgba", "argb", "bgra", "gbrap10le", "rgba64le"]
)
def test_opaque_alpha_is_distinguished_from_transparent(pixel_format: str) -> None:
    assert plan_pixels(pixel_format, LIMITED).alpha
    assert is_opaque(fill_alpha(pixel_format, 65535))
    assert not is_opaque(fill_alpha(pixel_format, 60000))


@pytest.mark.parametrize(
    ("pixel_format", "without"), [("yuva420p", "yuv420p"), ("yuva444p10le", "yuv444p10le"), ("rgba", "rgb24")]
)
def test_planes_are_the_same_without_an_opaque_alpha(pixel_format: str, without: str) -> None:
    frame = fill_alpha(pixel_format, 65535)
    plain = frame.reformat(format=without)

    planes = read_planes(convert_frame(frame, plan_pixels(pixel_format, LIMITED)))

    for plane, expected in zip(planes, read_planes(convert_frame(plain, plan_pixels(without, LIMITED))), strict=True):
        np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize(
    ("size", "box"), [((64, 48), (0, 0, 128, 96)), ((48, 96), (40, 0, 48, 96)), ((128, 32), (0, 32, 128, 32))]
)
def test_a_frame_of_another_size_keeps_its_shape(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    bright = np.full((size[1], size[0], 3), 255, np.uint8)
    frame = VideoFrame.from_ndarray(bright, format="rgb24").reformat(format="yuv420p")

    fitted = pad_frame(fit_frame(frame, 128, 96, stretches=False), 128, 96, full_range=False)

    left, top, width, height = box
    luma = read_planes(fitted)[0]
    assert luma.shape == (96, 128)
    assert (luma[top : top + height, left : left + width] > 200).all()
    luma[top : top + height, left : left + width] = 16
    assert (luma == 16).all()


def test_gray_keeps_its_levels_and_gets_neutral_chroma() -> None:
    luma = np.arange(48, dtype=np.uint8).reshape(6, 8)

    y, u, v = planes_of("gray", luma)

    np.testing.assert_array_equal(y, luma)
    assert (u == 128).all()
    assert (v == 128).all()


def test_ten_bits_are_not_squeezed_through_eight() -> None:
    frame = VideoFrame(8, 6, "yuv444p10le")
    value = 515  # not a multiple of four
    for plane in frame.planes:
        np.frombuffer(plane, np.uint16)[:] = value

    planes = read_planes(convert_frame(frame, plan_pixels("yuv444p10le", LIMITED)))

    assert all((plane == value).all() and plane.dtype == np.uint16 for plane in planes)


@pytest.mark.parametrize("full_range", [False, True])
def test_twelve_bits_become_ten_by_value(full_range: bool) -> None:
    frame = VideoFrame(16, 6, "yuv444p12le")
    for plane in frame.planes:
        np.frombuffer(plane, np.uint16)[:] = 2060

    plan = plan_pixels("yuv444p12le", Colour("bt709", full_range))
    planes = read_planes(convert_frame(frame, plan))

    assert plan.note == "12 bit samples were reduced to 10 bits"
    assert all(np.abs(plane.astype(int) - 515).max() <= 1 for plane in planes)


def test_rgb_is_converted_with_the_bt709_matrix() -> None:
    rng = np.random.default_rng(0)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (4, 4, 3)), 8, 0), 8, 1).astype(np.uint8)
    red, green, blue = (rgb[..., index] / 255 for index in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue

    y, u, v = planes_of("rgb24", rgb)

    np.testing.assert_allclose(y, 16 + 219 * luma, atol=1.5)
    np.testing.assert_allclose(u, 128 + 224 * (blue - luma) / 1.8556, atol=2)
    np.testing.assert_allclose(v, 128 + 224 * (red - luma) / 1.5748, atol=2)


def test_a_larger_frame_repeats_the_last_row_and_column() -> None:
    planes = tuple(np.arange(n * m, dtype=np.uint8).reshape(n, m) for n, m in ((5, 7), (3, 4), (3, 4)))
    frame = YuvFrame(planes, 8, "420", 0, 1)  # type: ignore[arg-type]

    y, u, _ = read_planes(write_planes(frame, width=8, height=6))

    np.testing.assert_array_equal(y[:5, :7], planes[0])
    np.testing.assert_array_equal(y[5], y[4])
    np.testing.assert_array_equal(y[:, 7], y[:, 6])
    np.testing.assert_array_equal(u, planes[1])
