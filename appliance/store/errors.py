"""Errors of the store; each message says what was found, what was expected and what to do.

RelumeError
└── StoreError
    ├── DatabaseBusyError     another process holds the database
    ├── DatabaseDamagedError  the file is no database, or a broken one
    ├── DatabaseFullError     no space is left for it
    ├── DatabaseNewerError    a newer version of Relume wrote it
    └── DirectoryInUseError   another server works in the data directory
"""

from runtime.errors import RelumeError


class StoreError(RelumeError):
    """The data directory or its database cannot be used."""


class DatabaseBusyError(StoreError):
    """Another process holds the database for too long."""


class DatabaseDamagedError(StoreError):
    """The file is no database, or a broken one."""


class DatabaseFullError(StoreError):
    """No space is left for the database."""


class DatabaseNewerError(StoreError):
    """A newer version of Relume wrote the database."""


class DirectoryInUseError(StoreError):
    """Another server works in the data directory."""
