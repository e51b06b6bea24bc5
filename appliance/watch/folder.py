"""A watch folder as a value: its configuration, schedule, problems and activity."""

import re
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Final, Self

from appliance.watch.errors import FolderError
from runtime.options import EnhanceOptions

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Local times of the day from `begin` to `end` (exclusive); over midnight where `end` is the earlier one."""

    begin: time
    end: time

    @classmethod
    def parse(cls, begin: str, end: str) -> Self:
        """Parse two times such as 22:00 and 06:00.

        Raises:
            FolderError: One is not a time, or both are the same.
        """
        schedule = cls(_parse_clock(begin), _parse_clock(end))
        if schedule.begin == schedule.end:
            raise FolderError(f"the schedule goes from {begin} to {end}, expected two different times; leave it out")
        return schedule

    def is_open(self, now: datetime) -> bool:
        """Return True if jobs may run at a local time."""
        moment = now.time()
        if self.begin < self.end:
            return self.begin <= moment < self.end
        return moment >= self.begin or moment < self.end

    def to_text(self) -> tuple[str, str]:
        """Return both times as text."""
        return f"{self.begin:%H:%M}", f"{self.end:%H:%M}"


def parse_schedule(text: str) -> Schedule | None:
    """Parse a schedule: `22:00-06:00`, `nights` for the same, or `always` for none.

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


DEFAULT_HOLD_S: Final = 10.0
LONGEST_HOLD_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """Configuration of a watch folder.

    `options` apply to every file of it. A file is processed once it is unchanged for `hold_s`. Without `include` every
    media suffix matches; both lists have shell patterns (`*.mp4`, `camera?/*`), case-insensitive. A pattern that
    excludes a folder excludes its content. `polling` replaces inotify; network file systems are polled anyway. The
    original moves to `done_folder` after success, or stays where it is.
    """

    path: Path
    destination: Path
    options: EnhanceOptions = field(default_factory=EnhanceOptions)
    schedule: Schedule | None = None
    hold_s: float = DEFAULT_HOLD_S
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    polling: bool = False
    done_folder: Path | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class WatchFolder:
    """A watch folder in the database.

    The mounts name the shares or disks that it and its destination are on, if any. `asked` counts requests to retry or
    dismiss failures.
    """

    id: str
    created_at: float
    config: FolderConfig
    mount: str | None = None
    destination_mount: str | None = None
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be enhanced, or the folder itself where `file` is empty."""

    file: str
    reason: str
    tries: int


@dataclass(frozen=True, slots=True)
class Activity:
    """Counts of a folder's files; times are seconds since 1970, UTC.

    `waiting` files are not stable or not validated yet, or wait in the queue or for the schedule. `passed_over` counts
    files without a media suffix; `passed_over_names` are the first of them.
    """

    waiting: int
    working: int
    done_today: int
    failed: int
    last_file: str | None
    last_at: float | None
    passed_over: int
    passed_over_names: tuple[str, ...]
