"""Errors of the watch folders.

FolderError               the configuration of a folder is refused (also an `OptionError`)
└── FolderNotFoundError   there is no such folder (also a LookupError)
UnreadableError           a file cannot be enhanced; the message is the reason in the list of problems
"""

from runtime.errors import OptionError, RelumeError


class FolderError(OptionError):
    """The configuration of a folder is refused; `field` is path, destination, done_folder, ..."""

    def __init__(self, message: str = "", *, code: str = "folder", field: str = "") -> None:
        super().__init__(message)
        self.code, self.field = code, field


class FolderNotFoundError(FolderError, LookupError):
    """There is no such folder."""


class UnreadableError(RelumeError):
    """A file cannot be enhanced."""
