"""Errors of the jobs; each message is for the person who asked.

RelumeError
└── JobError
    ├── JobNotFoundError  no job has that id (also a KeyError)
    ├── JobStateError     the job is in a state in which that makes no sense (also a ValueError)
    └── JobLostError      the worker no longer holds the job
"""

from runtime.errors import RelumeError


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
