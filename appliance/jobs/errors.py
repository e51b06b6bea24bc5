"""Errors of the jobs; each message is for the person who asked.

RelumeError
└── JobError
    ├── JobNotFoundError  no job has that id (also a KeyError)
    ├── JobStateError     the job is in a state in which that makes no sense (also a ValueError)
    └── JobLostError      the worker no longer holds the job
"""

from typing import Final

from runtime.errors import (
    DamagedError,
    DecodeError,
    EncodeError,
    EngineError,
    OptionError,
    OutputError,
    RelumeError,
    UnsupportedMediaError,
    VerificationError,
)


class JobError(RelumeError):
    """Something about a job."""


class JobNotFoundError(JobError, KeyError):
    """No job has that id."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0]) if self.args else ""


class JobStateError(JobError, ValueError):
    """The job is in a state in which that makes no sense."""


class JobLostError(JobError):
    """The worker no longer holds the job."""


# The first class that fits decides. The codes stay the same: programs and the page's own words go by them.
# What helps a job of `source_damaged` is to try it again with `allow_damaged`.
_CODES: Final[tuple[tuple[type[RelumeError], str], ...]] = (
    (DamagedError, "source_damaged"),
    (DecodeError, "source_unreadable"),
    (UnsupportedMediaError, "source_unsupported"),
    (EncodeError, "result_failed"),
    (OutputError, "result_place"),
    (EngineError, "model"),
    (OptionError, "option"),
    (VerificationError, "unverified"),
)


def code_of(error: Exception) -> str:
    """Name why a job failed: one of the codes above, `memory`, `disk_full`, `crashed` or `unexpected`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), "unexpected")
