"""A watch folder as a value: where from, where to, when and how."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from appliance.watch.schedule import Schedule
from runtime.options import EnhanceOptions

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
