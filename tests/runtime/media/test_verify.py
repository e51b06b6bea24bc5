from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from runtime.media.verify import AudioTimes, VideoTimes, verify


def noted(pts: list[int], time_base: Fraction = Fraction(1, 12800)) -> VideoTimes:
    times = VideoTimes(time_base)
    for value in pts:
        times.add(value)
    return times


def test_a_result_that_is_the_job_passes(clip: Callable[..., Path]) -> None:
    path = clip("a.mp4", audio="flac")
    audio = AudioTimes(1, 1, 48_000, 0, 48_000)

    found = verify(path, video=noted([512 * n for n in range(25)]), audios=[audio])

    assert found.passed
    assert found.video is not None
    assert (found.video.rounded_to, found.video.shift_s) == (None, 0)


@pytest.mark.parametrize(
    "pts",
    [
        [512 * n for n in range(24)],
        [512 * n for n in range(26)],
        [512 * n + (n == 7) for n in range(25)],
    ],
)
def test_a_lost_added_or_moved_frame_fails(clip: Callable[..., Path], pts: list[int]) -> None:
    found = verify(clip("a.mp4"), video=noted(pts))

    assert not found.passed


def test_a_container_that_rounds_is_reported(clip: Callable[..., Path]) -> None:
    pts = [3003 * n for n in range(25)]
    path = clip("a.mkv", pts=pts, time_base=Fraction(1, 90_000))

    found = verify(path, video=noted(pts, Fraction(1, 90_000)))

    assert found.passed
    assert found.video is not None
    assert found.video.rounded_to == Fraction(1, 1000)


@pytest.mark.parametrize(("first", "samples"), [(0, 47_999), (1, 48_000)])
def test_a_lost_sample_or_a_shifted_track_fails(clip: Callable[..., Path], first: int, samples: int) -> None:
    path = clip("a.mp4", audio="flac")
    audio = AudioTimes(1, 1, 48_000, first, samples)

    found = verify(path, video=noted([512 * n for n in range(25)]), audios=[audio])

    assert not found.passed


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("last", "late"), [(512, 0), (512 + 640, -640), (51_200, -50_688)])
def test_a_track_that_ends_elsewhere_than_its_last_frame_fails(
    clip: Callable[..., Path], name: str, last: int, late: int
) -> None:
    path = clip(name, last=512, options={"preset": "veryfast", "bf": "0"})
    times = noted([512 * n for n in range(25)])
    times.end_pts = 512 * 24 + last

    found = verify(path, video=times)

    assert found.passed == (late == 0)
    assert found.video is not None
    assert abs(found.video.track_late_s - Fraction(late, 12_800)) <= Fraction(1, 1000)
