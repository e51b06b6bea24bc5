"""Errors of the jobs; messages are for the user.

RelumeError
└── JobError
    ├── JobNotFoundError  there is no such job (also a KeyError)
    ├── JobStateError     the operation is not possible in the job's state (also a ValueError)
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
)
from runtime.report import VerificationError


class JobError(RelumeError):
    """Base class."""


class JobNotFoundError(JobError, KeyError):
    """There is no such job."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0]) if self.args else ""


class JobStateError(JobError, ValueError):
    """The operation is not possible in the job's state."""


class JobLostError(JobError):
    """The worker no longer holds the job."""


# The first matching class decides. The codes are part of the API. A job that failed with `source_damaged` may be
# retried with `allow_damaged`.
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
    """Return the code of a failure: one of the above, `memory`, `disk_full`, `crashed` or `unexpected`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), "unexpected")
