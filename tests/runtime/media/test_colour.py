from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import UnsupportedMediaError
from runtime.media.colour import Colour, colour_of_result, read_colour
from runtime.media.probe import probe


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


@pytest.mark.parametrize(
    ("declared", "source", "result", "expected"),
    [
        ((2, 2, 2), (320, 180), (1280, 720), (6, 6, 6)),
        ((2, 2, 2), (720, 576), (1440, 1152), (5, 5, 6)),
        ((2, 2, 2), (640, 480), (1280, 960), (6, 6, 6)),
        ((6, 2, 2), (720, 480), (1440, 960), (6, 6, 6)),
        ((1, 2, 2), (720, 480), (1440, 960), (1, 1, 1)),
        ((2, 2, 2), (320, 180), (640, 360), (2, 2, 2)),
        ((2, 2, 2), (1280, 720), (2560, 1440), (2, 2, 2)),
        ((2, 9, 16), (720, 576), (1440, 1152), (2, 9, 16)),
        ((5, 6, 6), (720, 576), (1440, 1152), (5, 6, 6)),
    ],
)
def test_a_result_declares_what_players_would_guess_differently_at_its_size(
    declared: tuple[int, int, int], source: tuple[int, int], result: tuple[int, int], expected: tuple[int, int, int]
) -> None:
    matrix, primaries, transfer = declared
    colour = read_colour((matrix, 1, primaries, transfer), pixel_format="yuv420p", width=source[0], height=source[1])

    found = colour_of_result(colour, source=source, result=result)

    assert (found.matrix_code, found.primaries_code, found.transfer_code) == expected
    assert found.matrix == colour.matrix
    assert bool(found.added) == (expected != declared)


def test_prores_keeps_the_matrix_of_pal(clip: Callable[..., Path], job: Callable[..., Any], tmp_path: Path) -> None:
    source = clip("in.mp4", pts=[0, 512], context={"colorspace": 5, "color_primaries": 5, "color_trc": 6})

    job(source, "a.mov", codec="prores")

    colour = probe(tmp_path / "a.mov").videos[0].colour
    assert (colour.matrix, colour.primaries_code) == ("bt601", 5)


@pytest.mark.parametrize(("codec", "name"), [("h264", "a.mp4"), ("ffv1", "a.mkv"), ("prores", "a.mov")])
def test_unspecified_colour_is_written_to_an_upscaled_result(
    clip: Callable[..., Path], job: Callable[..., Any], tmp_path: Path, codec: str, name: str
) -> None:
    source = clip("in.mp4", pts=[0, 512], width=64, height=576)
    untold: Colour = probe(source).videos[0].colour
    assert (untold.matrix, untold.matrix_code) == ("bt601", 2)

    done = job(source, name, codec=codec, width=128, height=1152)

    colour = probe(tmp_path / name).videos[0].colour
    codes = (6, 5, 1) if codec == "prores" else (5, 5, 6)
    assert (colour.matrix, colour.matrix_code, colour.primaries_code, colour.transfer_code) == ("bt601", *codes)
    assert any("the result is labelled bt601" in warning for warning in done.warnings)
