"""Errors of the watch folders.

FolderError               a folder, or what it asks for, is refused (also an `OptionError`)
└── FolderNotFoundError   there is no folder of that id (also a LookupError)
UnreadableError           a file cannot be enhanced as it is now; the message is the reason that is listed
"""

from runtime.errors import OptionError, RelumeError


class FolderError(OptionError):
    """A folder, or what it asks for, is refused; `field` names what is meant: path, destination, done_folder, ..."""

    def __init__(self, message: str = "", *, code: str = "folder", field: str = "") -> None:
        super().__init__(message)
        self.code, self.field = code, field


class FolderNotFoundError(FolderError, LookupError):
    """There is no folder of that id."""


class UnreadableError(RelumeError):
    """A file cannot be enhanced as it is now."""
