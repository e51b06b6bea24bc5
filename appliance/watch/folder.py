"""The part of the day in which a folder's jobs may run."""

import re
from dataclasses import dataclass, field
from datetime import datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from appliance.watch.errors import FolderError
from runtime.options import EnhanceOptions

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
        """Return whether jobs may run at a local time."""
        moment = now.time()
        if self.begin < self.end:
            return self.begin <= moment < self.end
        return moment >= self.begin or moment < self.end

    def to_text(self) -> tuple[str, str]:
        """Return both times as they are parsed."""
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


DEFAULT_HOLD_S: Final = 10.0
LONGEST_HOLD_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class NewFolder:
    """What is wished of a folder.

    `options` go for every file of it. `hold_s` is for how long a file must not have changed before it is taken.
    Without `include` every media suffix counts; both pattern lists follow the shell (`*.mp4`, `camera?/*`), without
    regard to case. A pattern that excludes a folder excludes what is in it. `polling` looks for changes where the
    kernel does not tell of them; network file systems are polled anyway. The original moves to `done_folder` after
    success, or stays where it is.
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
    """A folder that is kept.

    The mounts name the shares or disks that it and its destination are on, if any. `asked` counts the requests to try
    again or to ignore what failed.
    """

    id: str
    created_at: float
    wish: NewFolder
    mount: str | None = None
    destination_mount: str | None = None
    asked: int = 0


class FileState(StrEnum):
    """What became of a file."""

    WAITING = "waiting"
    """Complete and known; waits for the folder's time of the day."""
    QUEUED = "queued"
    """A job of the queue."""
    DONE = "done"
    SAME = "same"
    """Has the content of another one, and is not done again."""
    BROKEN = "broken"
    """Cannot be enhanced; `reason` says why."""
    CANCELLED = "cancelled"
    """Somebody cancelled its job."""
    OURS = "ours"
    """A result of Relume."""


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """A file of a watch folder and what became of it; `name` is its path below the folder.

    `retry_at` is in seconds since 1970, None where nothing is tried again until the file changes. `held` jobs were
    paused because their time of the day ended.
    """

    name: str
    size: int
    mtime_ns: int
    state: FileState
    digest: str | None = None
    job: str | None = None
    target: Path | None = None
    same_as: str | None = None
    reason: str = ""
    tries: int = 0
    retry_at: float | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be enhanced, or the folder itself where `file` is empty."""

    file: str
    reason: str
    tries: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on in a folder; times are seconds since 1970, UTC.

    `waiting` files are not left alone yet, or wait for their turn or for their time of the day. `passed_over` are
    files whose names say that they are no media; `passed_over_names` are the first of them.
    """

    waiting: int
    working: int
    done_today: int
    failed: int
    last_file: str | None
    last_at: float | None
    passed_over: int
    passed_over_names: tuple[str, ...]
