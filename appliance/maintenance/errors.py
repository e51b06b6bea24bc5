"""Errors of backup and restore.

BackupError     a backup cannot be written or restored (also an `OutputError`)
ArchiveError    a file is not a backup, is damaged, or is not safe or compatible (also a `DecodeError`)
"""

from runtime.errors import DecodeError, OutputError


class BackupError(OutputError):
    """A backup cannot be written or restored."""


class ArchiveError(DecodeError):
    """A file is not a backup, is damaged, or is not safe or compatible."""
