import pytest
from av.video.frame import VideoFrame

from runtime.media.timestamps import TimestampFixer

STEP = 40


def frame(pts: int | None) -> VideoFrame:
    one = VideoFrame(16, 16, "yuv420p")
    one.pts = pts
    return one


@pytest.mark.parametrize(
    ("given", "expected", "repaired"),
    [
        ([0, 33, 80, 1000, 1040], [0, 33, 80, 1000, 1040], 0),
        ([None, None, None], [7, 47, 87], 3),
        ([0, 40, 40, 80], [0, 40, 79, 80], 1),
        ([0, 40, 40, 120], [0, 40, 80, 120], 1),
        ([0, 40, 30, 35, 120], [0, 40, 41, 81, 120], 2),
        ([0, 40, 9000, 120, 160], [0, 40, 80, 120, 160], 1),
        ([4000, 4040, 3, 4120, 4160], [4000, 4040, 4080, 4120, 4160], 1),
        ([4000, 4040, 0, 40, 80], [4000, 4040, 4080, 4120, 4160], 1),
        ([4000, 4040, 0, 40, None, 120], [4000, 4040, 4080, 4120, 4160, 4200], 2),
    ],
    ids=["rising", "missing", "twice", "twice-gap", "back-a-little", "stray-ahead", "stray-back", "set-back", "both"],
)
def test_times_rise_and_stay_as_given(given: list[int | None], expected: list[int], repaired: int) -> None:
    fixer = TimestampFixer(first_pts=7, step=STEP)

    found = [one.pts for one in fixer.mend([frame(pts) for pts in given])]

    assert found == expected
    assert fixer.repaired == repaired


@pytest.mark.parametrize(("end", "expected"), [(None, 500), (110, 30), (80, 500), (9000, 500)])
def test_the_last_frame_ends_with_the_track(end: int | None, expected: int) -> None:
    frames = [frame(pts) for pts in (0, 40, 80)]
    frames[-1].duration = 500
    fixer = TimestampFixer(first_pts=0, step=STEP, end_pts=end)

    assert [one.duration for one in fixer.mend(frames)][-1] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [([-19, 20, 60], [0, 20, 60]), ([-60, -20, 20], [-60, -20, 20]), ([-19], [0]), ([5, 45], [5, 45])],
)
def test_a_first_frame_that_begins_before_zero_is_shown_from_zero(given: list[int], expected: list[int]) -> None:
    fixer = TimestampFixer(first_pts=0, step=STEP, zero=0)

    assert [one.pts for one in fixer.mend([frame(pts) for pts in given])] == expected
