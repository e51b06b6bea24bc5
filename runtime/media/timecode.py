"""The time code of a file (SMPTE ST 12-1): where it is stored, how it counts, and its value at a later frame."""

import re
from fractions import Fraction
from math import ceil
from typing import Final

from runtime.media.media_info import MediaInfo

_TEXT: Final = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d\d\d?)")
_DROPPING: Final = (Fraction(30_000, 1001), Fraction(60_000, 1001))
_COUNTED: Final = tuple(
    Fraction(rate) for fps in (24, 25, 30, 48, 50, 60, 100, 120) for rate in (fps, Fraction(fps * 1000, 1001))
)
_NEAR: Final = Fraction(1, 100)
_DAY_S: Final = 24 * 3600


def find_time_code(info: MediaInfo) -> str | None:
    """Return the time code of a file's first frame: of its own track, of the video stream, or of the file."""
    places = [*(other.tags for other in info.others), *([info.video.tags] if info.video is not None else []), info.tags]
    found = (text for tags in places for key, text in tags.items() if key.lower() == "timecode")
    return next(found, None)


def time_code_rate(text: str, info: MediaInfo) -> Fraction | None:
    """Return the rate at which a time code counts, None if the video's rate is not one of its rates.

    At a variable frame rate it is the nominal one, not the mean: drop-frame time code exists at only two rates.
    """
    if info.video is None or not _TEXT.fullmatch(text):
        return None
    rates = [rate for rate in (info.video.nominal_rate, info.video.average_rate) if rate]
    counted = _COUNTED if _TEXT.fullmatch(text)[4] == ":" else _DROPPING  # type: ignore[index]
    near = (one for rate in rates for one in counted if abs(one - rate) < _NEAR * one)
    return min(near, key=lambda one: abs(one - rates[0]), default=None)


def move_time_code(text: str, frames: int, rate: Fraction) -> str:
    """Return the time code a number of frames later."""
    match = _TEXT.fullmatch(text)
    assert match is not None
    hours, minutes, seconds, mark, number = match.groups()
    fps = round(rate)
    drop = 0 if mark == ":" else 2 * (fps // 30)
    # Frame numbers skipped in each minute except every tenth.
    minute, ten_minutes = 60 * fps - drop, 600 * fps - 9 * drop
    total = (int(hours) * 60 + int(minutes)) * 60 * fps + int(seconds) * fps + int(number)
    past = int(hours) * 60 + int(minutes)
    count = total - drop * (past - past // 10) + frames
    count %= 144 * ten_minutes if drop else _DAY_S * fps
    tens, rest = divmod(count, ten_minutes)
    if drop:
        left_out = 9 * drop * tens + (drop * ((rest - drop) // minute) if rest >= drop else 0)
        count += left_out
    seconds_in_all, frame = divmod(count, fps)
    return (
        f"{seconds_in_all // 3600:02}:{seconds_in_all // 60 % 60:02}:{seconds_in_all % 60:02}"
        f"{mark}{frame:0{len(number)}}"
    )


def result_time_code(info: MediaInfo, start: Fraction | None) -> str | None:
    """Return the time code of the first frame of a result that begins at `start` seconds."""
    text = find_time_code(info)
    rate = None if text is None else time_code_rate(text, info)
    if text is None or not start or rate is None or info.video is None:
        return text
    first = (info.video.start_pts or 0) * info.video.time_base - info.video.origin
    return move_time_code(text, max(0, ceil((start - first) * rate)), rate)
