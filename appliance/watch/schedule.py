"""The part of the day in which a folder's jobs may run."""

import re
from dataclasses import dataclass
from datetime import datetime, time
from typing import Self

from appliance.watch.errors import FolderError

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """From one time of the day, local, to another, which is left out; over midnight where `end` is the earlier."""

    begin: time
    end: time

    @classmethod
    def parse(cls, begin: str, end: str) -> Self:
        """Read two times such as 22:00 and 06:00.

        Raises:
            FolderError: One is no such time, or both are the same.
        """
        schedule = cls(_parse_clock(begin), _parse_clock(end))
        if schedule.begin == schedule.end:
            raise FolderError(f"the schedule goes from {begin} to {end}, expected two different times; leave it out")
        return schedule

    def is_open(self, now: datetime) -> bool:
        """Tell whether jobs may run at a local time."""
        moment = now.time()
        if self.begin < self.end:
            return self.begin <= moment < self.end
        return moment >= self.begin or moment < self.end

    def to_text(self) -> tuple[str, str]:
        """Give both times as they are parsed."""
        return f"{self.begin:%H:%M}", f"{self.end:%H:%M}"


def parse_schedule(text: str) -> Schedule | None:
    """Read a schedule from one word: `22:00-06:00`, `nights` for just that, or `always` for none.

    Raises:
        FolderError: The text is none of these.
    """
    if text == "always":
        return None
    if text == "nights":
        text = "22:00-06:00"
    begin, dash, end = text.partition("-")
    if not dash:
        raise FolderError(f"schedule is {text!r}, expected a span such as 22:00-06:00, or nights, or always")
    return Schedule.parse(begin.strip(), end.strip())


def _parse_clock(text: str) -> time:
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise FolderError(f"time of day {text!r} is not readable, expected hh:mm such as 22:00")
    return time(int(match[1]), int(match[2]))
