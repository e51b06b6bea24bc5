import pytest

from runtime.errors import UnsupportedMediaError
from runtime.media.colour import read_colour


@pytest.mark.parametrize(
    ("codes", "size", "matrix", "full_range"),
    [
        ((1, 1, 1, 1), (640, 480), "bt709", False),
        ((6, 1, 6, 6), (1920, 1080), "bt601", False),
        ((5, 2, 5, 6), (3840, 2160), "bt601", True),
        ((9, 1, 9, 16), (3840, 2160), "bt2020", False),
        ((2, 0, 2, 2), (1280, 720), "bt709", False),
        ((2, 0, 2, 2), (720, 576), "bt601", False),
        ((2, 0, 9, 16), (720, 576), "bt2020", False),
    ],
)
def test_colour_is_read_and_guessed_by_size(
    codes: tuple[int, int, int, int], size: tuple[int, int], matrix: str, full_range: bool
) -> None:
    colour = read_colour(codes, pixel_format="yuv420p", width=size[0], height=size[1])

    assert (colour.matrix, colour.full_range) == (matrix, full_range)
    assert bool(colour.guessed) == (codes[0] == 2)
    assert colour.matrix_code == codes[0]


def test_the_old_full_range_formats_are_full_range() -> None:
    colour = read_colour((2, 0, 2, 2), pixel_format="yuvj420p", width=64, height=64)

    assert colour.full_range
    assert colour.range_code == 2


def test_a_matrix_that_no_kernel_knows_is_refused() -> None:
    with pytest.raises(UnsupportedMediaError, match="matrix has code 14"):
        read_colour((14, 1, 9, 16), pixel_format="yuv420p", width=64, height=64)
