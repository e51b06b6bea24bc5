from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from runtime.enhance import enhance
from runtime.media.probe import probe
from runtime.media.timecode import find_time_code, move_time_code
from runtime.options import EnhanceOptions
from runtime.report import Action

NTSC, NTSC_FIELDS = Fraction(30_000, 1001), Fraction(60_000, 1001)


@pytest.mark.parametrize(
    ("text", "frames", "rate", "expected"),
    [
        ("10:00:00:00", 50, Fraction(25), "10:00:02:00"),
        ("23:59:59:24", 1, Fraction(25), "00:00:00:00"),
        ("00:00:59:23", 1, Fraction(24_000, 1001), "00:01:00:00"),
        ("01:00:59;29", 1, NTSC, "01:01:00;02"),
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),
        ("00:00:00;00", 17_982, NTSC, "00:10:00;00"),
        ("00:00:00;00", 107_892, NTSC, "01:00:00;00"),
        ("01:02:03;04", 0, NTSC, "01:02:03;04"),
        ("23:59:59;29", 1, NTSC, "00:00:00;00"),
        ("00:00:59;59", 1, NTSC_FIELDS, "00:01:00;04"),
        ("00:00:59:59", 1, NTSC_FIELDS, "00:01:00:00"),
    ],
)
def test_a_time_code_moves_by_frames(text: str, frames: int, rate: Fraction, expected: str) -> None:
    assert move_time_code(text, frames, rate) == expected


def test_every_drop_frame_number_of_an_hour_follows_the_one_before() -> None:
    found = [move_time_code("00:00:00;00", frames, NTSC) for frames in range(0, 107_892, 7)]

    for number, text in zip(range(0, 107_892, 7), found, strict=True):
        hours, minutes, seconds, frame = int(text[:2]), int(text[3:5]), int(text[6:8]), int(text[9:])
        assert not (frame < 2 and seconds == 0 and minutes % 10)
        past = hours * 60 + minutes
        assert (past * 60 + seconds) * 30 + frame - 2 * (past - past // 10) == number


def write(clip: Callable[..., Path], name: str, code: str, rate: Fraction, times: list[int]) -> Path:
    return clip(
        name,
        pts=[time * rate.denominator for time in times],
        time_base=Fraction(1, rate.numerator),
        rate=rate,
        tags={"timecode": code},
        last=rate.denominator,
    )


@pytest.mark.parametrize("copy_video", [False, True], ids=["enhanced", "copied"])
@pytest.mark.parametrize("name", ["b.mov", "b.mp4", "b.mkv"])
@pytest.mark.parametrize(
    ("code", "rate", "start", "expected"),
    [
        ("10:00:00:00", Fraction(25), None, "10:00:00:00"),
        ("10:00:00:00", Fraction(25), Fraction(2), "10:00:02:00"),
        ("10:00:59;20", NTSC, Fraction(15 * 1001, 30_000), "10:01:00;07"),
    ],
)
def test_a_cut_begins_with_the_time_code_of_its_first_frame(
    clip: Callable[..., Path],
    job: Callable[..., Any],
    name: str,
    code: str,
    rate: Fraction,
    start: Fraction | None,
    expected: str,
    copy_video: bool,
) -> None:
    source = write(clip, "a.mov", code, rate, list(range(60)))
    assert find_time_code(probe(source)) == code

    job(source, name, start=start, copy_video=copy_video)

    assert find_time_code(probe(source.with_name(name))) == expected


@pytest.mark.parametrize("name", ["b.mov", "b.mkv"])
def test_drop_frame_time_code_is_written_at_a_variable_rate(
    clip: Callable[..., Path], job: Callable[..., Any], name: str
) -> None:
    source = write(clip, "a.mov", "01:00:00;00", NTSC, [n + n // 7 for n in range(60)])
    video = probe(source).video
    assert video is not None
    assert video.average_rate != NTSC

    job(source, name)

    assert find_time_code(probe(source.with_name(name))) == "01:00:00;00"


@pytest.mark.parametrize(
    ("name", "rate", "action"),
    [
        ("b.mov", 25, Action.COPIED),
        ("b.mp4", 17, Action.NOT_CARRIED),
        ("b.mkv", 17, Action.COPIED),
    ],
)
def test_the_report_states_what_became_of_the_time_code(
    clip: Callable[..., Path], name: str, rate: int, action: Action
) -> None:
    source = write(clip, "a.mkv", "10:00:00:00", Fraction(rate), [0, 1])

    report = enhance(source, source.with_name(name), EnhanceOptions(preset="restore"))

    found = {part.what: part for part in report.parts}["time code"]
    assert found.action is action
    assert (find_time_code(probe(source.with_name(name))) is None) == (action is Action.NOT_CARRIED)
    assert ("starts at 10:00:00:00" in found.reason) == (action is Action.COPIED)
