"""The states of a file in a watch folder, and the events that lead from one to the next.

    seen -> stable -> validated -> queued -> done
                   -> duplicate, output, done, failed
                                           -> failed, ignored -> queued

A file that changes is `seen` again, whatever its state was. One that is gone is removed from the table unless it is
`queued` or `done`: its job goes on, and it is not processed again when it comes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

NO_FILE: Final = -1
"""The size of entries that are no files, such as pipes and links."""


class FileState(StrEnum):
    """State of a file, stored in the table `watched_files`."""

    SEEN = "seen"
    """New or changed; waits until it is unchanged for the hold time."""
    STABLE = "stable"
    """Unchanged for the hold time, or declared complete; to be validated."""
    VALIDATED = "validated"
    """Complete, and its content is new; waits for a job, which the schedule may delay."""
    QUEUED = "queued"
    """Has a job that has not ended."""
    DONE = "done"
    """Its content was enhanced."""
    DUPLICATE = "duplicate"
    """Has the content of another file, `same_as`, and is not processed."""
    OUTPUT = "output"
    """Is a result of a watch folder."""
    FAILED = "failed"
    """Cannot be enhanced; `reason` says why."""
    IGNORED = "ignored"
    """Someone cancelled or removed its job, or dismissed its failure."""


class FileEvent(StrEnum):
    """What happens to a file."""

    CHANGED = "changed"
    """Its size or time is another one."""
    GONE = "gone"
    SETTLED = "settled"
    """It was unchanged for the hold time."""
    UNREADABLE = "unreadable"
    """The validation failed."""
    CONTENT_NEW = "content is new"
    CONTENT_DONE = "content is done"
    """It was only touched, or put back."""
    CONTENT_DUPLICATE = "content is a duplicate"
    CONTENT_OUTPUT = "content is an output"
    SUBMITTED = "submitted"
    """A job was added to the queue."""
    JOB_DONE = "job done"
    JOB_FAILED = "job failed"
    JOB_CANCELLED = "job cancelled"
    """Or removed."""
    JOB_RESTARTED = "job restarted"
    """Its failed or cancelled job is in the queue again."""
    ORIGINAL_RELEASED = "original released"
    """The file with the same content will not be processed."""
    DISMISSED = "dismissed"
    """Someone no longer wants to see its failure."""


_S, _E = FileState, FileEvent
_UNVALIDATED: Final = (_S.STABLE, _S.FAILED)
_REMOVABLE: Final = (_S.SEEN, _S.STABLE, _S.VALIDATED, _S.DUPLICATE, _S.OUTPUT, _S.FAILED, _S.IGNORED)

TRANSITIONS: Final[Mapping[tuple[FileState, FileEvent], FileState | None]] = MappingProxyType(
    {
        **{(state, _E.CHANGED): _S.SEEN for state in _S},
        **{(state, _E.GONE): None for state in _REMOVABLE},
        (_S.SEEN, _E.SETTLED): _S.STABLE,
        **{(state, _E.UNREADABLE): _S.FAILED for state in _UNVALIDATED},
        **{(state, _E.CONTENT_NEW): _S.VALIDATED for state in _UNVALIDATED},
        **{(state, _E.CONTENT_DONE): _S.DONE for state in _UNVALIDATED},
        **{(state, _E.CONTENT_DUPLICATE): _S.DUPLICATE for state in _UNVALIDATED},
        **{(state, _E.CONTENT_OUTPUT): _S.OUTPUT for state in _UNVALIDATED},
        (_S.VALIDATED, _E.SUBMITTED): _S.QUEUED,
        **{(state, _E.JOB_DONE): _S.DONE for state in (_S.QUEUED, _S.FAILED, _S.IGNORED)},
        (_S.QUEUED, _E.JOB_FAILED): _S.FAILED,
        (_S.QUEUED, _E.JOB_CANCELLED): _S.IGNORED,
        **{(state, _E.JOB_RESTARTED): _S.QUEUED for state in (_S.FAILED, _S.IGNORED)},
        (_S.DUPLICATE, _E.ORIGINAL_RELEASED): _S.SEEN,
        (_S.FAILED, _E.DISMISSED): _S.IGNORED,
    }
)
"""The state after an event in a state; None removes the file from the table."""

RELEASES: Final = frozenset(
    {
        *((state, _E.CHANGED) for state in (_S.VALIDATED, _S.QUEUED, _S.FAILED, _S.IGNORED)),
        *((state, _E.GONE) for state in (_S.VALIDATED, _S.FAILED, _S.IGNORED)),
        (_S.QUEUED, _E.JOB_CANCELLED),
    }
)
"""Transitions of a file that stood for its content and will not be processed: another file may stand for it."""


def next_state(state: FileState, event: FileEvent) -> FileState | None:
    """Return the state after an event, None where the file is removed from the table.

    Raises:
        ValueError: The event is not possible in that state.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a file that is {state} cannot get the event {event!r}") from None


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """A file of a watch folder, a row of the table; `name` is its path below the folder.

    `digest` is the SHA-256 of its content, `target` the result's path. `retry_at` is in seconds since 1970, None where
    nothing is retried until the file changes. Jobs that are `held` were paused because the schedule closed.
    """

    name: str
    size: int
    mtime_ns: int
    state: FileState = FileState.SEEN
    digest: str | None = None
    job: str | None = None
    target: Path | None = None
    same_as: str | None = None
    reason: str = ""
    tries: int = 0
    retry_at: float | None = None
    held: bool = False

    @property
    def is_file(self) -> bool:
        """Return False for entries that are no files, such as pipes and links."""
        return self.size != NO_FILE

    def is_unchanged(self, size: int, mtime_ns: int) -> bool:
        """Return True if the file has that size and time."""
        return (self.size, self.mtime_ns) == (size, mtime_ns)
