from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame

from runtime.errors import UnsupportedMediaError
from runtime.media.colour import Colour
from runtime.media.picture import Picture
from runtime.media.pixels import convert_frame, plan_pixels, read_planes, write_planes

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


@pytest.mark.parametrize("pixel_format", ["yuva420p", "rgba", "gbrap10le", "ya8"])
def test_alpha_is_refused(pixel_format: str) -> None:
    with pytest.raises(UnsupportedMediaError, match="alpha channel"):
        plan_pixels(pixel_format, LIMITED)


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

    assert plan.note == "12 bits were reduced to 10"
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
    picture = Picture(planes, 8, "420", 0, 1)  # type: ignore[arg-type]

    y, u, _ = read_planes(write_planes(picture, width=8, height=6))

    np.testing.assert_array_equal(y[:5, :7], planes[0])
    np.testing.assert_array_equal(y[5], y[4])
    np.testing.assert_array_equal(y[:, 7], y[:, 6])
    np.testing.assert_array_equal(u, planes[1])
