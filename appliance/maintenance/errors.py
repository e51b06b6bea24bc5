"""Errors of backup and restore.

BackupError     a backup cannot be written, or a directory cannot take one back (also an `OutputError`)
ArchiveError    a file is no backup, a damaged one, or one that must not be restored here (also a `DecodeError`)
"""

from runtime.errors import DecodeError, OutputError


class BackupError(OutputError):
    """A backup cannot be written, or a directory cannot take one back."""


class ArchiveError(DecodeError):
    """A file is no backup, a damaged one, or one that must not be restored here."""
